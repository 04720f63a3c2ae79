"""The board: sections of runs that may be compared, each with one row per optimizer and its options.

A section holds what was asked under equal conditions (task, model, budget, data ...); a row averages over seeds, data
seeds and instances. Nothing is dropped: a row whose runs all failed is there without a rank, with the reasons.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from zobench.record import Problem, json_text, plain
from zobench.report.read import load
from zobench.report.stats import Interval, mean_interval, rank_intervals

# What has to be equal within a section, besides the task's options (without the instance).
CONDITIONS = (
    *("suite", "task", "task_version", "model", "revision", "adapter", "dtype"),
    *("budget", "batch_size", "score", "data"),
)
# A run that failed early may not know these: it goes with the runs of its conditions that do.
LEARNED = ("partial_data", "metric", "better", "scale")
# "interrupted" says nothing about the optimizer: a person stopped it.
BLAMED = ("diverged", "oom", "timeout", "error", "not finite")

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
    value: float | None
    replay_class: str | None


@dataclass(frozen=True)
class Row:
    """One optimizer under one section's conditions; costs are medians over its n finished runs."""

    label: str  # with the learning rate and what tells it from other rows of the optimizer
    full_label: str  # with every option, as used
    optimizer: str
    options: dict[str, Any]  # as asked
    rank: tuple[int, int] | None  # None: no run gave a number
    score: Interval | None
    n: int
    forwards: float | None
    backwards: float | None
    ms_per_step: float | None
    step_seconds: float | None  # in total, without warm-up
    memory_ratio: float | None  # peak over the peak of inference
    peak_bytes: float | None
    state_bytes: float | None
    probe_mode: str | None
    hitting: dict[str, float | None]  # target -> median cost at which it was first met; None where half never met it
    reference: bool  # a line that knows the problem's structure: shown, never ranked
    failures: dict[str, int]
    marks: list[str]
    runs: list[Run]


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


@dataclass(frozen=True)
class Board:
    """Every section, and the files that could not be read."""

    sections: list[Section]
    problems: list[Problem]
    superseded: int = 0  # runs of older versions of their tasks, which are not shown

    def to_json(self) -> dict[str, Any]:
        """Plain values that any JSON writer takes; nan and inf are strings."""
        problems = [{"path": str(p.path), "why": p.why} for p in self.problems]
        sections = [plain(asdict(s)) for s in self.sections]
        return {"sections": sections, "superseded": self.superseded, "problems": problems}


def board(stores: list[Path], *, tasks: Iterable[str] | None = None, optimizers: Iterable[str] | None = None) -> Board:
    """The board of one or more stores; NothingMeasured where they hold no result that was asked for."""
    frame, problems = load(stores, tasks, optimizers)
    found = frame.to_dict("records")
    records = learn(newest(found))
    sections = [_section(group) for group in _groups(records)]
    return Board(sorted(sections, key=_section_order), problems, len(found) - len(records))


def newest(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of the newest version of each task: numbers of an older one are no longer comparable."""
    versions: dict[str, int] = {}
    for r in records:
        versions[r["task"]] = max(r["task_version"], versions.get(r["task"], 0))
    return [r for r in records if r["task_version"] == versions[r["task"]]]


def learn(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fill `LEARNED` where a failed run has None, from the runs of its conditions; in place."""
    for group in _group(records, lambda r: json_text(_conditions(r))).values():
        for name in LEARNED:
            known = sorted({r[name] for r in group if r[name] is not None})
            for record in group:
                if record[name] is None and known:
                    record[name] = known[0]
    return records


def _groups(records: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The records of each section. A baseline of language tasks has neither budget nor batches, and is in every section of
    its other conditions; where there is none, in one of its own.
    """
    timed: list[dict[str, Any]] = []
    timeless: list[dict[str, Any]] = []
    for r in records:
        (timeless if r["order"] == "reference" and r["kind"] != "regression" else timed).append(r)
    place = lambda r: json_text([_conditions(r), [r[name] for name in LEARNED]])  # noqa: E731
    groups = _group(timed, place)
    sections = list(groups.values())
    for alone in _group(timeless, place).values():
        homes = [group for group in sections if _timeless(group[0]) == _timeless(alone[0])]
        for home in homes:
            home += alone
        if not homes:
            groups[place(alone[0])] = alone
    return list(groups.values())


def _timeless(record: Record) -> dict[str, Any]:
    shared = {k: v for k, v in _conditions(record).items() if k not in ("budget", "batch_size")}
    return shared | {name: record[name] for name in LEARNED}


def _group(records: Iterable[Any], key: Any) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return dict(sorted(groups.items()))


def _conditions(record: Record) -> dict[str, Any]:
    return {name: record[name] for name in CONDITIONS} | {"task_options": _task_options(record)}


def _task_options(record: Record) -> dict[str, Any]:
    return {k: v for k, v in json.loads(record["task_options"]).items() if k != "instance"}


def _section_order(section: Section) -> tuple[Any, ...]:
    names = ("suite", "task", "model", "adapter", "dtype", "budget", "batch_size", "score")
    shown = [str(section.conditions[name] or "") for name in names]
    return section.partial, *shown, json_text(asdict(section))


# ---- one section ----


def _section(records: list[Record]) -> Section:
    first = records[0]
    better, scale = first["better"] or "higher", first["scale"] or "linear"
    partial = bool(first["partial_data"])
    groups = _group(records, lambda r: json_text([r["optimizer"], r["optimizer_options"], r["schedule"]]))
    labels = _labels([group[0] for group in groups.values()])
    rows = [_row(group, label, scale, partial) for group, label in zip(groups.values(), labels, strict=True)]
    return Section(
        conditions={name: first[name] for name in CONDITIONS},
        task_options=_task_options(first),
        task_label=first["task_label"],
        partial=partial,
        metric=first["metric"] or "score",
        better=better,
        scale=scale,
        hardware=_distinct(_environment(r).get("hardware") for r in records),
        rows=_ranked(rows, better),
    )


def _ranked(rows: list[Row], better: str) -> list[Row]:
    """Best mean first; rows without a number last. Ranks and the marks that need the other rows are added here."""
    sign = -1 if better == "higher" else 1
    references = [row for row in rows if row.reference]
    rows = [row for row in rows if not row.reference]
    scored = [(row, row.score) for row in rows if row.score is not None]
    # a mean that overflowed is no better than a number
    scored.sort(key=lambda pair: (not math.isfinite(pair[1].mean), sign * pair[1].mean, pair[0].full_label))
    failed = [any(status in BLAMED for status in row.failures) for row, _ in scored]
    ranks = rank_intervals([score for _, score in scored], better, failed)
    most = max((row.n for row in rows), default=0)
    ranked = [_with(row, rank=rank, most=most) for (row, _), rank in zip(scored, ranks, strict=True)]
    unscored = sorted((row for row in rows if row.score is None), key=lambda row: row.full_label)
    return ranked + unscored + sorted(references, key=lambda row: row.full_label)


def _with(row: Row, rank: tuple[int, int], most: int) -> Row:
    fewer = [f"{row.n} of {most} runs"] if row.n < most else []
    return replace(row, rank=rank, marks=fewer + row.marks)


def _row(records: list[Record], label: str, scale: str, partial: bool) -> Row:
    runs = sorted((_run(r) for r in records), key=lambda run: (run.seed, run.data_seed, str(run.instance), run.cell))
    values = [run.value for run in runs if run.value is not None]
    cells = {run.cell for run in runs if run.value is not None}
    done = [r for r in records if r["cell"] in cells]
    return Row(
        label=label,
        full_label=_label(records[0], _used(records)),
        optimizer=records[0]["optimizer"],
        options=json.loads(records[0]["optimizer_options"]),
        rank=None,
        score=mean_interval(values, scale) if values else None,
        n=len(values),
        forwards=_median(r["forwards"] for r in done),
        backwards=_median(r["backwards"] for r in done),
        ms_per_step=_median(_ratio(r["step_seconds"], r["timed_steps"], 1e3) for r in done),
        step_seconds=_median(r["step_seconds"] for r in done),
        memory_ratio=_median(_ratio(r["peak_bytes"], r["inference_bytes"]) for r in done),
        peak_bytes=_median(r["peak_bytes"] for r in done),
        state_bytes=_median(r["state_bytes"] for r in done),
        probe_mode="/".join(_distinct(r["probe_mode"] for r in done)) or None,
        hitting=_hitting(done),
        reference=records[0]["order"] == "reference",
        failures=dict(sorted(Counter(run.status for run in runs if run.value is None).items())),
        marks=_marks(records, done, partial),
        runs=runs,
    )


def _run(record: Record) -> Run:
    value, status = record["value"], record["status"]
    finite = status == "ok" and value is not None and math.isfinite(value)
    silent = status == "ok" and not finite  # ended well, and yet gave no number
    return Run(
        cell=record["cell"],
        seed=record["seed"],
        data_seed=record["data_seed"],
        instance=json.loads(record["task_options"]).get("instance"),
        status="not finite" if silent else status,
        reason=f"the value is {value}" if silent else record["reason"],
        value=value if finite else None,
        replay_class=record["replay_class"],
    )


def _marks(records: list[Record], done: list[Record], partial: bool) -> list[str]:
    """What a reader should know before trusting the row."""
    marks = ["partial data"] if partial else []
    if len(_distinct(_environment(r).get("hardware") for r in done)) > 1:
        marks.append("mixed hardware")
    if len(_distinct(r["provenance"] for r in done)) > 1:
        marks.append("mixed code")
    shared = _distinct(r["lockstep"] for r in done)
    if shared:
        marks.append(f"time shared by {'/'.join(shared)} runs")
    retried = Counter(f["status"] for r in records if r["status"] == "ok" for f in r["failures"])
    return marks + [f"another attempt: {count} {status}" for status, count in sorted(retried.items())]


def _hitting(records: list[Record]) -> dict[str, float | None]:
    """Median cost to each target, runs that never met it counted as infinite."""
    found = [json.loads(r["hitting"]) for r in records if r["hitting"]]
    medians = {t: statistics.median(f.get(t, math.inf) for f in found) for f in found for t in f}
    return {target: cost if math.isfinite(cost) else None for target, cost in sorted(medians.items())}


def _environment(record: Record) -> dict[str, Any]:
    return json.loads(record["environment"] or "{}")


def _distinct(values: Iterable[Any]) -> list[str]:
    return sorted({str(value) for value in values if value is not None})


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _ratio(a: float | None, b: float | None, factor: float = 1.0) -> float | None:
    return None if a is None or not b else factor * a / b


# ---- labels ----


def _labels(records: list[Record]) -> list[str]:
    """`name[lr=..., what differs from other rows of that optimizer]`, one per row; the full labels tell the rest."""
    asked = [json.loads(record["optimizer_options"]) for record in records]
    labels = []
    for record, mine in zip(records, asked, strict=True):
        kin = [a for r, a in zip(records, asked, strict=True) if r["optimizer"] == record["optimizer"]]
        differing = {name for a in kin for name in a if any(a[name] != b.get(name) for b in kin)}
        labels.append(_label(record, {k: v for k, v in mine.items() if k in differing or k == "lr"}))
    return labels


def _used(records: list[Record]) -> dict[str, Any]:
    """Options as used where all runs of the row agree; a rate that the task sets per instance stays as asked."""
    used = [json.loads(r["parameters"]) for r in records if r["parameters"]]
    agreed = {k: v for k, v in (used[0] if used else {}).items() if all(u.get(k) == v for u in used)}
    return json.loads(records[0]["optimizer_options"]) | agreed


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
