"""The board: sections of runs that may be compared, each with one row per optimizer and its options.

A section holds what was asked under equal conditions (task, model, budget, data ...); a row averages over seeds, data
seeds and instances. Nothing is dropped: a row whose runs all failed is there without a rank, with the reasons.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from zobench.record import Problem, json_text, plain
from zobench.report import curves as learning
from zobench.report import stats, tuning
from zobench.report.read import COLUMNS, load
from zobench.report.read import rows as rows_of
from zobench.report.stats import Interval, Sample
from zobench.report.view import View
from zobench.spec import Budget, NothingMeasured, UsageError

# What has to be equal within a section, besides the task's options (without the instance).
CONDITIONS = (
    *("suite", "task", "task_version", "model", "revision", "adapter", "dtype"),
    *("budget", "batch_size", "score", "data"),
)
# A run that failed early may not know these: it goes with the runs of its conditions that do.
LEARNED = ("partial_data", "metric", "better", "scale")
# "interrupted" says nothing about the optimizer: a person stopped it.
BLAMED = ("diverged", "oom", "timeout", "error", "not finite")
FIDELITY = ("restore_drift", "probe_cosine", "probe_unmoved", "lost_updates", "update_gain")
IDENTITY = (
    "optimizer",
    "optimizer_options",
    "schedule",
    "seed",
    "data_seed",
    "task_options",
)  # of a run, within a section
POOLED = ("instance",)  # options of a task over which a row averages
PERCENT = ("accuracy", "f1", "em", "exact_match", "mcc", "matthews", "pearson", "spearman")  # fractions, shown x 100
SIGNED = ("mcc", "matthews", "pearson", "spearman")  # of them, those that may be negative
PENALTY = 10.0
ROUNDED_AWAY = 0.05  # lost updates from which a reader is told

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One standing run of a row; value is None where it gave no finite number."""

    cell: str
    seed: int
    data_seed: int
    instance: Any
    status: str  # "not finite" where the run ended ok with a value that is none
    reason: str | None
    value: float | None  # of the metric; under a budget, the best that was validated within it
    validation: float | None
    replay_class: str | None
    spent: float | None  # what the board is ranked by, where that is not the score; inf where the target was not met
    points: Any = field(default=None, repr=False, compare=False)  # curves.POINT_DTYPE, where they were asked for


@dataclass(frozen=True)
class Row:
    """One optimizer under one section's conditions; costs are medians over its n finished runs."""

    label: str  # with the learning rate and what tells it from other rows of the optimizer
    full_label: str  # with every option, as used
    optimizer: str
    order: str | None  # first | zeroth | forward | hybrid | reference
    options: dict[str, Any]  # as asked
    rank: tuple[int, int] | None  # None: no run gave a number
    score: Interval | None
    spent: float | None  # median of what the board is ranked by, where that is not the score; inf: half never met it
    validation: float | None  # interquartile mean
    n: int
    forwards: float | None
    backwards: float | None
    cost: float | None  # forward-equivalents
    ms_per_step: float | None
    step_seconds: float | None  # in total, without warm-up
    total_seconds: float | None  # with start, warm-up and evaluation
    memory_ratio: float | None  # peak over the peak of inference
    peak_bytes: float | None
    inference_bytes: float | None
    process_bytes: float | None
    state_bytes: float | None
    weight_bytes: float | None
    flops: float | None
    energy_joules: float | None
    probe_mode: str | None
    fidelity: dict[str, float]  # those of FIDELITY that were measured; the worst of the runs
    hitting: dict[str, float | None]  # target -> median cost at which it was first met; None where half never met it
    reference: bool  # a line that knows the problem's structure: shown, never ranked
    failures: dict[str, int]
    marks: list[str]
    runs: list[Run]
    trials: int = 0  # settings that were tried on validation before this one was chosen
    curve: learning.Curve | None = field(default=None, repr=False, compare=False)

    @property
    def blamed(self) -> int:
        """Runs that gave no number through the optimizer's own fault."""
        return sum(count for status, count in self.failures.items() if status in BLAMED)

    def sample(self, of: Callable[[Run], float | None]) -> Sample:
        """The finite numbers of its runs, by what makes a unit: seed, data seed, instance."""
        found = [(_unit(run), of(run)) for run in self.runs]
        values = {unit: x for unit, x in found if x is not None and math.isfinite(x)}
        missed = sum(x is not None and not math.isfinite(x) for _, x in found)
        return Sample(values, failed=self.blamed + missed, problems={unit: unit[1:] for unit in values})


@dataclass(frozen=True)
class Section:
    """Runs under equal conditions; ranked rows best first, then the failed ones, then the reference lines."""

    conditions: dict[str, Any]
    task_options: dict[str, Any]
    task_label: str | None
    partial: bool
    metric: str
    better: str  # higher | lower
    scale: str  # linear | log
    hardware: list[str]
    rows: list[Row]
    resolution: float = 0.0  # the smallest difference that one run can show: 1 over the rows that were scored
    select: str = "best"  # which weights the runs ended with: best by validation, or last
    target: float | None = None  # whose cost is ranked
    notes: list[str] = field(default_factory=list)  # what a reader of the table must know

    @property
    def ranked(self) -> list[Row]:
        return [row for row in self.rows if row.rank is not None]


@dataclass(frozen=True)
class Board:
    """Every section, and the files that could not be read."""

    sections: list[Section]
    problems: list[Problem]
    superseded: int = 0  # runs of older versions of their tasks, which are not shown
    view: View = field(default_factory=View)

    def to_json(self) -> dict[str, Any]:
        """Plain values that any JSON writer takes; nan and inf are strings."""
        from zobench.report.summary import summaries

        problems = [{"path": str(p.path), "why": p.why} for p in self.problems]
        return {
            "ranked_by": self.view.rank_by,
            "budget": None if self.view.budget is None else str(self.view.budget),
            "summaries": [plain(asdict(s)) for s in summaries(self)],
            "sections": [_section_json(s) for s in self.sections],
            "superseded": self.superseded,
            "problems": problems,
        }


def _section_json(section: Section) -> dict[str, Any]:
    bare = replace(section, rows=[replace(row, curve=None, runs=[_bare(r) for r in row.runs]) for row in section.rows])
    found = plain(asdict(bare))
    for row, written in zip(section.rows, found["rows"], strict=True):
        written["curve"] = row.curve.to_json() if row.curve else None
        for run in written["runs"]:
            del run["points"]
    return found


def _bare(run: Run) -> Run:
    return replace(run, points=None)


def board(
    stores: list[Path],
    *,
    tasks: Iterable[str] | None = None,
    optimizers: Iterable[str] | None = None,
    view: View | None = None,
    curves: bool = False,
    points: bool = False,
) -> Board:
    """The board of one or more stores; NothingMeasured where they hold no result that was asked for.

    tasks, optimizers: patterns, in short for those of `view`. points: with the validated points of every run;
    curves: and the learning curve of every row.
    """
    view = view or View()
    points = points or curves or view.points
    columns = (*COLUMNS, "points") if points else COLUMNS
    frame, problems = load(stores, tasks or view.task or None, optimizers or view.optimizer or None, columns)
    found: list[dict[str, Any]] = [r for r in rows_of(frame) if view.admits(r)]
    if not found:
        raise NothingMeasured(f"no results for {view.asked()} in {', '.join(map(str, stores))}")
    for r in found:
        r["hardware"] = _hardware(r["environment"])
    records = learn(newest(found))
    if view.target is not None and view.target > 1 and any(r["metric"] in PERCENT for r in records):
        raise UsageError(f"target {view.target:g}: write {view.target / 100:g} for {view.target:g} %")
    if view.budget is not None:
        records = _within(records, view.budget)
    trials, more = tuning.trials(stores, records)
    drafts = [_draft(group, view, points) for group in _groups(records, view)]
    sections = _finished(drafts, view, trials, curves)
    return Board(sorted(sections, key=_section_order), [*problems, *more], len(found) - len(records), view)


def newest(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of the newest version of each task: numbers of an older one are no longer comparable."""
    versions: dict[str, int] = {}
    for r in records:
        versions[r["task"]] = max(r["task_version"], versions.get(r["task"], 0))
    return [r for r in records if r["task_version"] == versions[r["task"]]]


def learn(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fill `LEARNED` where a failed run has None, from the runs of its conditions; in place."""
    if any(r[name] is None for r in records for name in LEARNED):
        for group in _group(records, lambda r: _conditions(r, LEARNED)).values():
            for name in LEARNED:
                known = sorted({r[name] for r in group if r[name] is not None})
                for record in group:
                    if record[name] is None and known:
                        record[name] = known[0]
    return records


def _within(records: list[dict[str, Any]], budget: Budget) -> list[dict[str, Any]]:
    """One run of each that differ in budget and in the split they were scored on alone, with its points cut at the budget.

    That whose last validation within the budget is the latest; of several, the longest.
    """
    kept: dict[Any, tuple[Any, dict[str, Any]]] = {}
    for r in records:
        r = r | {"points": _cut_points(r, budget)}
        last = learning.costs(r["points"])[-1] if len(r["points"]) else -1.0
        reach = r["status"] == "ok", last, _cost(r) or 0, r["cell"]
        asked = _conditions(r, ("budget", "score")), *(r[name] for name in IDENTITY)
        if asked not in kept or reach > kept[asked][0]:
            kept[asked] = reach, r
    return [r for _, r in kept.values()]


def _cut_points(record: Record, budget: Budget) -> Any:
    points = record["points"]
    return points[learning.axes(points, record)[learning.AXES[budget.kind]] <= budget.amount]


# ---- groups ----


def _groups(records: list[dict[str, Any]], view: View) -> list[list[dict[str, Any]]]:
    """The records of each section. A baseline of language tasks has neither budget nor batches, and is in every section of
    its other conditions; where there is none, in one of its own.
    """
    timed: list[dict[str, Any]] = []
    timeless: list[dict[str, Any]] = []
    for r in records:
        (timeless if r["order"] == "reference" and r["kind"] != "regression" else timed).append(r)
    cut = ("budget", "score") if view.budget is not None else ()  # judged by validation within one budget
    groups = _group(timed, lambda r: _conditions(r, cut))
    alone = _group(timeless, _timeless)
    for group in groups.values():
        group += alone.get(_timeless(group[0]), [])
    homes = {_timeless(group[0]) for group in groups.values()}
    return [*groups.values(), *(group for place, group in alone.items() if place not in homes)]


def _group(records: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    """In the order of the keys' texts: of nothing else, so that the same runs give the same board."""
    groups: dict[Any, list[Any]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return dict(sorted(groups.items(), key=lambda item: repr(item[0])))


def _conditions(record: Record, without: tuple[str, ...] = ()) -> tuple[Any, ...]:
    names = [name for name in (*CONDITIONS, *LEARNED) if name not in without]
    return _unpooled(record["task_options"]), *(record[name] for name in names)


def _timeless(record: Record) -> tuple[Any, ...]:
    return _conditions(record, ("budget", "batch_size"))


@lru_cache(maxsize=4096)
def parsed(text: str | None) -> dict[str, Any]:
    """A JSON column; the texts repeat from run to run. Not to be changed."""
    return json.loads(text or "{}")


@lru_cache(maxsize=4096)
def _unpooled(text: str) -> str:
    return json_text({k: v for k, v in parsed(text).items() if k not in POOLED})


def _section_order(section: Section) -> tuple[Any, ...]:
    names = ("suite", "task", "model", "adapter", "dtype", "budget", "batch_size", "score")
    shown = [str(section.conditions[name] or "") for name in names]
    rest = json_text([section.task_options, section.conditions, section.metric, section.better, section.scale])
    return section.partial, *shown, rest


# ---- one section ----


@dataclass
class _Draft:
    """A section before anything is estimated, and the records of each of its rows."""

    section: Section
    records: list[list[Record]]


def _draft(records: list[Record], view: View, points: bool) -> _Draft:
    first = records[0]
    better, partial = first["better"] or "higher", bool(first["partial_data"])
    groups = list(_group(records, lambda r: (r["optimizer"], r["optimizer_options"], r["schedule"])).values())
    select = learning.selection(records) if points else "best"
    section = Section(
        conditions={name: first[name] for name in CONDITIONS},
        task_options=dict(parsed(_unpooled(first["task_options"]))),
        task_label=first["task_label"],
        partial=partial,
        metric=first["metric"] or "score",
        better=better,
        scale=first["scale"] or "linear",
        hardware=_distinct(r["hardware"] for r in records),
        rows=[],
        resolution=_resolution(records, view),
        select=select,
    )
    if view.budget is not None:
        cut = {"budget": f"at most {view.budget}", "score": "validation"}
        section = replace(section, conditions=section.conditions | cut)
    labels = _labels([group[0] for group in groups])
    drafted = [_row(g, label, partial, view, better, select, points) for g, label in zip(groups, labels, strict=True)]
    target = _target(drafted, view, better) if view.to_target else None
    if view.rank_by != "accuracy":
        by_cell = {r["cell"]: r for r in records}
        drafted = [_spending(row, view, target, better, by_cell) for row in drafted]
    return _Draft(replace(section, rows=drafted, target=target), groups)


def _finished(drafts: list[_Draft], view: View, trials: tuning.Trials, curves: bool) -> list[Section]:
    """Scores, ranks and marks; of all sections at once, because many intervals are quicker together."""
    scores: dict[tuple[int, int], Interval] = {}
    for scale in ("linear", "log"):
        places = [
            (i, j)
            for i, draft in enumerate(drafts)
            for j, row in enumerate(draft.section.rows)
            if draft.section.scale == scale and row.n
        ]
        samples = [_strata(drafts[i].section.rows[j]) for i, j in places]
        rounded = [drafts[i].section.resolution for i, _ in places]
        scores |= dict(zip(places, stats.score_intervals(samples, scale, resolution=rounded), strict=True))
    dtypes = _dtypes(drafts)
    found = []
    for i, draft in enumerate(drafts):
        section = draft.section
        rows = [replace(row, score=inside(scores.get((i, j)), section.metric)) for j, row in enumerate(section.rows)]
        rows = [_evidence(row, section, trials) for row in rows]
        if curves:
            made = learning.curves(draft.records, section.scale, section.better)
            rows = [replace(row, curve=curve) for row, curve in zip(rows, made, strict=True)]
        others = sorted(dtypes[_without_dtype(section)] - {section.conditions["dtype"]})
        notes = [f"also measured in {', '.join(others)}: another table"] if others else []
        found.append(replace(section, rows=_ranked(rows, section, view), notes=notes))
    return found


def inside(interval: Interval | None, metric: str) -> Interval | None:
    """The interval within what the metric can be: no accuracy above 1."""
    if interval is None or metric not in PERCENT or interval.low is None or interval.high is None:
        return interval
    least = -1.0 if metric in SIGNED else 0.0
    return replace(interval, low=max(interval.low, least), high=min(interval.high, 1.0))


def _dtypes(drafts: Iterable[_Draft]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for draft in drafts:
        found.setdefault(_without_dtype(draft.section), set()).add(draft.section.conditions["dtype"])
    return found


def _without_dtype(section: Section) -> str:
    return json_text([section.conditions | {"dtype": None}, section.task_options, section.partial])


def _strata(row: Row) -> tuple[list[float], list[Any] | None]:
    """Values and the problem (instance, data seed) of each, where problems were run several times."""
    runs = [run for run in row.runs if run.value is not None]
    problems = [_unit(run)[1:] for run in runs]
    repeated = min(Counter(problems).values()) > 1
    return [run.value for run in runs if run.value is not None], problems if repeated else None


def _unit(run: Run) -> tuple[Any, ...]:
    return run.seed, run.data_seed, str(run.instance)


def _resolution(records: list[Record], view: View) -> float:
    """An accuracy is a whole number of rows: two runs within one row cannot be told apart."""
    first = records[0]
    if (first["scale"] or "linear") == "log" or first["kind"] == "regression":
        return 0.0
    name = "num_dev" if first["score"] == "validation" or view.budget is not None else "num_test"
    rows = [r[name] for r in records if r[name]]
    return 1.0 / max(rows) if rows else 0.0


def _ranked(rows: list[Row], section: Section, view: View) -> list[Row]:
    """Best first; rows without a number last, then the reference lines. Ranks and marks that need other rows come here."""
    references = sorted((row for row in rows if row.reference), key=lambda row: row.full_label)
    rows = [row for row in rows if not row.reference]
    if view.rank_by == "accuracy":
        known = [row.score is not None for row in rows]
        scored, better, scale = [row for row in rows if row.score is not None], section.better, section.scale
        samples, resolution = [row.sample(lambda run: run.value) for row in scored], section.resolution
        order = [_place(row, better) for row in scored]
    else:
        known = [row.spent is not None for row in rows]
        # a run that never met the target counts as ten times the largest cost, as in PAR10 of algorithm selection
        scored, better, scale, resolution = [row for row in rows if row.spent is not None], "lower", "log", 0.0
        most = max((run.spent for row in scored for run in row.runs if run.spent is not None), default=1.0, key=_finite)
        penalty = PENALTY * max(_finite(most), max((row.cost or 0.0 for row in scored), default=0.0), 1e-9)
        samples = [row.sample(lambda run: penalty if run.spent == math.inf else run.spent) for row in scored]
        order = [(not math.isfinite(row.spent or 0), row.spent, row.full_label) for row in scored]
    ranks = stats.rank_intervals(samples, better, scale, resolution)
    most = max((len(row.runs) for row in rows), default=0)
    placed = sorted(zip(order, scored, ranks, strict=True), key=lambda item: item[0])
    ranked = [_with(row, rank, most) for _, row, rank in placed]
    rest = [row for row, is_known in zip(rows, known, strict=True) if not is_known]
    unranked = sorted(rest, key=lambda row: row.full_label)
    return ranked + [_with(row, None, most) for row in unranked] + references


def _finite(x: float | None) -> float:
    return x if x is not None and math.isfinite(x) else 0.0


def _place(row: Row, better: str) -> tuple[Any, ...]:
    """A score that overflowed is no better than a number."""
    center = row.score.center if row.score else math.inf
    return not math.isfinite(center), -center if better == "higher" else center, row.full_label


def _with(row: Row, rank: tuple[int, int] | None, most: int) -> Row:
    fewer = [f"{row.n} of {most} runs"] if row.n < most else []
    return replace(row, rank=rank, marks=fewer + row.marks)


# ---- one row ----


def _row(records: list[Record], label: str, partial: bool, view: View, better: str, select: str, points: bool) -> Row:
    runs = [_run(r, view, better, select, points) for r in records]
    runs.sort(key=lambda run: (run.seed, run.data_seed, str(run.instance), run.cell))
    cells = {run.cell for run in runs if run.value is not None}
    done = [_cut(r) if view.budget is not None else r for r in records if r["cell"] in cells]
    known = [run.validation for run in runs if run.validation is not None and math.isfinite(run.validation)]
    return Row(
        label=label,
        full_label=_label(records[0], _used(records)),
        optimizer=records[0]["optimizer"],
        order=records[0]["order"],
        options=parsed(records[0]["optimizer_options"]),
        rank=None,
        score=None,
        spent=None,
        validation=stats.iqm(known) if known else None,
        n=len(cells),
        forwards=_median(r["forwards"] for r in done),
        backwards=_median(r["backwards"] for r in done),
        cost=_median(_cost(r) for r in done),
        ms_per_step=_median(_ratio(r["step_seconds"], r["timed_steps"], 1e3) for r in done),
        step_seconds=_median(r["step_seconds"] for r in done),
        total_seconds=_median(r["total_seconds"] for r in done),
        memory_ratio=_median(_ratio(r["peak_bytes"], r["inference_bytes"]) for r in done),
        peak_bytes=_median(r["peak_bytes"] for r in done),
        inference_bytes=_median(r["inference_bytes"] for r in done),
        process_bytes=_median(r["process_bytes"] for r in done),
        state_bytes=_median(r["state_bytes"] for r in done),
        weight_bytes=_median(r["weight_bytes"] for r in done),
        flops=_median(r["flops"] for r in done),
        energy_joules=_median(r["energy_joules"] for r in done),
        probe_mode="/".join(_distinct(r["probe_mode"] for r in done)) or None,
        fidelity=_fidelity(done),
        hitting=_hitting(done),
        reference=records[0]["order"] == "reference",
        failures=dict(sorted(Counter(run.status for run in runs if run.value is None).items())),
        marks=_marks(records, done, partial),
        runs=runs,
    )


def _run(record: Record, view: View, better: str, select: str, points: bool) -> Run:
    value, status = record["value"], record["status"]
    if view.budget is not None and status == "ok":
        value = learning.value_at(record["points"], "forwards", math.inf, better, select=select)
        if value is None:
            status = "too short" if record["steps"] and record["validation"] is not None else "no curve"
    finite = status == "ok" and value is not None and math.isfinite(value)
    silent = status == "ok" and not finite  # ended well, and yet gave no number
    reason = {"too short": f"nothing was validated within {view.budget}", "no curve": "it has no validated points"}
    return Run(
        cell=record["cell"],
        seed=record["seed"],
        data_seed=record["data_seed"],
        instance=parsed(record["task_options"]).get("instance"),
        status="not finite" if silent else status,
        reason=f"the value is {value}" if silent else reason.get(status, record["reason"]),
        value=value if finite else None,
        validation=record["validation"],
        replay_class=record["replay_class"],
        spent=None,
        points=record["points"] if points else None,
    )


def _cut(record: Record) -> Record:
    """What the run had cost at its last validation within the budget."""
    point = record["points"][-1]
    share = float(learning.costs(record["points"])[-1]) / max(_cost(record) or 1, 1)
    shared = {name: None if record[name] is None else record[name] * share for name in ("flops", "energy_joules")}
    known = dict(forwards=int(point["forwards"]), backwards=int(point["backwards"]), timed_steps=int(point["step"]))
    return {
        **record,
        **shared,
        **known,
        "step_seconds": float(point["seconds"]),
        "total_seconds": None,
        "hitting": None,
    }


def _target(rows: Iterable[Row], view: View, better: str) -> float | None:
    """The validation score that at least half of the optimizers reach in half of their runs, unless one is asked for."""
    if view.target is not None:
        return view.target
    middle = statistics.median_low if better == "higher" else statistics.median_high
    worst = -math.inf if better == "higher" else math.inf
    best = []
    for row in rows:
        tops = [_top(run, better, worst) for run in row.runs]
        best += [] if row.reference or not tops else [middle(tops)]
    found = middle(best) if best else worst
    return found if math.isfinite(found) else None


def _top(run: Run, better: str, worst: float) -> float:
    values = run.points["value"] if run.points is not None and run.value is not None else np.empty(0)
    values = values[np.isfinite(values)]
    return float(values.max() if better == "higher" else values.min()) if len(values) else worst


def _spending(row: Row, view: View, target: float | None, better: str, records: Mapping[str, Record]) -> Row:
    """What each run spent, on the axis that the board is ranked by."""

    def spent(run: Run) -> float | None:
        record = records[run.cell]
        if run.value is None:
            return None
        if view.rank_by == "memory":
            return record["peak_bytes"]
        if target is None:
            return None
        cost = learning.cost_to_target(record["points"], target, better, record)[learning.AXES[view.rank_by]]
        return None if math.isnan(cost) else max(cost, 1e-9)  # met at the start: nothing was spent

    runs = [replace(run, spent=spent(run)) for run in row.runs]
    known = [math.inf] * row.blamed + [run.spent for run in runs if run.spent is not None]
    return replace(
        row, runs=runs, spent=statistics.median_high(known) if any(r.spent is not None for r in runs) else None
    )


def _evidence(row: Row, section: Section, trials: tuning.Trials) -> Row:
    """The row with what is known of its tuning."""
    tried = trials.of(section, row)
    if tried is None:
        return row
    return replace(row, trials=tried.count, marks=row.marks + tuning.edges(row, tried))


def _marks(records: list[Record], done: list[Record], partial: bool) -> list[str]:
    """What a reader should know before trusting the row."""
    marks = ["partial data"] if partial else []
    if len(_distinct(r["hardware"] for r in done)) > 1:
        marks.append("mixed hardware")
    if len(_distinct(r["provenance"] for r in done)) > 1:
        marks.append("mixed code")
    shared = _distinct(r["lockstep"] for r in done)
    if shared:
        marks.append(f"time shared by {'/'.join(shared)} runs")
    lost = max((r["lost_updates"] for r in done if r["lost_updates"] is not None), default=0.0)
    if lost >= ROUNDED_AWAY:
        marks.append(f"{100 * lost:.0f} % of updates rounded away")
    retried = Counter(f["status"] for r in records if r["status"] == "ok" for f in r["failures"])
    return marks + [f"another attempt: {count} {status}" for status, count in sorted(retried.items())]


def _fidelity(records: list[Record]) -> dict[str, float]:
    """The worst of the runs: smallest cosine, gain farthest from 1, largest of what should be 0."""
    found = {}
    for name in FIDELITY:
        values = [r[name] for r in records if r[name] is not None and math.isfinite(r[name])]
        if values:
            far = {"probe_cosine": lambda x: -x, "update_gain": lambda x: abs(x - 1)}.get(name, lambda x: x)
            found[name] = max(values, key=far)
    return found


def _hitting(records: list[Record]) -> dict[str, float | None]:
    """Median cost to each target, runs that never met it counted as infinite."""
    found = [parsed(r["hitting"]) for r in records if r["hitting"]]
    medians = {t: statistics.median(f.get(t, math.inf) for f in found) for f in found for t in f}
    return {target: cost if math.isfinite(cost) else None for target, cost in sorted(medians.items())}


def _hardware(environment: str | None) -> str | None:
    return json.loads(environment or "{}").get("hardware")


def _distinct(values: Iterable[Any]) -> list[str]:
    return sorted({str(value) for value in values if value is not None})


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _ratio(a: float | None, b: float | None, factor: float = 1.0) -> float | None:
    return None if a is None or not b else factor * a / b


def _cost(record: Record) -> float | None:
    return None if record["forwards"] is None else record["forwards"] + 2 * (record["backwards"] or 0)


# ---- labels ----


def _labels(records: list[Record]) -> list[str]:
    """`name[lr=..., what differs from other rows of that optimizer]`, one per row; the full labels tell the rest."""
    asked = [parsed(record["optimizer_options"]) for record in records]
    kin: dict[str, list[dict[str, Any]]] = {}
    for record, options in zip(records, asked, strict=True):
        kin.setdefault(record["optimizer"], []).append(options)
    differing = {
        name: {k for options in group for k in options if any(options[k] != other.get(k) for other in group)}
        for name, group in kin.items()
    }
    return [
        _label(record, {k: v for k, v in mine.items() if k in differing[record["optimizer"]] or k == "lr"})
        for record, mine in zip(records, asked, strict=True)
    ]


def _used(records: list[Record]) -> dict[str, Any]:
    """Options as used where all runs of the row agree; a rate that the task sets per instance stays as asked."""
    used = [parsed(r["parameters"]) for r in records if r["parameters"]]
    agreed = {k: v for k, v in (used[0] if used else {}).items() if all(u.get(k) == v for u in used)}
    return parsed(records[0]["optimizer_options"]) | agreed


def _label(record: Record, options: Mapping[str, Any]) -> str:
    texts = ",".join(f"{k}={option_text(v)}" for k, v in sorted(options.items()))
    schedule = "" if record["schedule"] == "constant" else f", {record['schedule']} schedule"
    return record["optimizer"] + (f"[{texts}]" if texts else "") + schedule


def option_text(value: Any) -> str:
    """A value as a user writes it: 1e-6, not 1e-06; true, not True."""
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        return f"{mantissa.removesuffix('.0')}{e}{int(exponent)}" if e else mantissa
    return value if isinstance(value, str) else json_text(value)
