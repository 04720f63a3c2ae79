"""Two sets of runs side by side: better, same, worse or undecided, line by line and over all tasks.

A line sets runs against runs under equal conditions: of two places (stores, commits) the same row of both, of two
optimizers the setting of each that is best on validation. A run that both sides hold is no evidence, and left out.
"""

from __future__ import annotations

import difflib
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import bdtr

from zobench.record import Problem, json_text, plain
from zobench.report import index, stats
from zobench.report.read import COLUMNS, IDENTITY
from zobench.report.stats import Interval, Sample
from zobench.report.tables import BLAMED, CONDITIONS, LEARNED, PERCENT, POOLED, SIGNED, inside, option_text, parsed
from zobench.spec import NothingMeasured, UsageError

VERDICTS = ("better", "same", "worse", "undecided", "same run")
SORTS = ("task", "verdict", "effect", "p")
# The smallest difference that matters, by kind of metric: accuracies and the like in points (hundredths), a log scale as a
# factor, every other metric as a share of the larger score.
MARGINS = {"points": 1.0, "factor": 1.1, "relative": 0.01}
FEWEST_TASKS = 6  # with fewer, not even a sign test where all agree comes below 0.05
CLOSE = 1e-9  # relative: an option that was written out and read back
COSTS = ("forwards", "backwards", "cost", "ms_per_step", "step_seconds", "peak_bytes", "state_bytes", "flops")
TIMES = ("ms_per_step", "step_seconds")  # compared on one class of hardware only
READ = tuple(dict.fromkeys((*COLUMNS, *IDENTITY)))

Record = dict[str, Any]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Side:
    """The runs of one side. kind: place (a store, a commit) or optimizer; says: what it is, in words."""

    text: str  # as it was asked for
    kind: str
    says: str
    records: list[Record] = field(repr=False)  # one per cell


@dataclass(frozen=True)
class Line:
    """A against B under one set of conditions. On a log scale, `difference` and `margin` are log10 of ratios."""

    task: str
    where: list[str]  # the conditions, as the parts of a title
    rows: tuple[str, str]  # optimizer and options of A and of B
    metric: str
    better: str  # higher | lower
    scale: str  # linear | log
    scores: tuple[Interval | None, Interval | None]  # means of what is compared: they differ by `difference`
    compared: tuple[int, int]  # how many values those are means of: runs, or pairs
    runs: tuple[int, int]  # that gave a number, shared ones included
    failed: tuple[int, int]  # that gave none, through their own fault
    failures: tuple[str, str]  # how many runs gave no number, and why the first did; empty where all gave one
    shared: int  # runs that both sides hold
    difference: Interval | None  # mean of A less mean of B
    effect: float | None  # positive where A is better
    superiority: Interval | None  # the chance that a run of A is better than one of B
    paired: bool | None
    p: float | None
    p_adjusted: float | None  # Holm, over all lines
    margin: float
    verdict: str  # of A: one of VERDICTS
    seeds_needed: int | None  # a side, in all, to decide an undecided line
    costs: dict[str, tuple[float | None, float | None, float | None]]  # name -> A, B, A / B; medians
    notes: list[str]


@dataclass(frozen=True)
class Alone:
    """Runs that have no counterpart on the other side."""

    task: str
    where: list[str]
    row: str
    cells: list[str]


@dataclass(frozen=True)
class Overall:
    """Over tasks, each of equal weight.

    superiority: the mean over tasks of the chance that a run of A is better; its interval joins those of the lines. p: of
    `test` over the tasks' mean differences; None where there are fewer than FEWEST_TASKS.
    """

    tasks: int
    wins: tuple[int, int, int]  # tasks where A's mean is better, equal, worse
    superiority: Interval | None
    test: str | None  # sign | Wilcoxon signed-rank
    p: float | None


@dataclass(frozen=True)
class Compared:
    """The whole answer; `shown` are the lines that were asked for, `totals` and `overall` are of all of them."""

    a: Side
    b: Side
    alpha: float
    lines: list[Line]
    shown: list[Line]
    overall: Overall | None
    alone: tuple[list[Alone], list[Alone]]
    notes: list[str]
    problems: list[Problem]

    @property
    def totals(self) -> dict[str, int]:
        counts = Counter(line.verdict for line in self.lines)
        return {verdict: counts[verdict] for verdict in VERDICTS}

    def to_json(self) -> dict[str, Any]:
        """Plain values that any JSON writer takes; nan and inf are strings."""
        sides = {
            name: {"text": side.text, "kind": side.kind, "says": side.says, "runs": len(side.records)}
            for name, side in (("a", self.a), ("b", self.b))
        }
        alone = {name: [asdict(one) for one in found] for name, found in zip("ab", self.alone, strict=True)}
        found = sides | {"alpha": self.alpha, "totals": self.totals, "compared": len(self.lines)}
        found |= {"lines": [_line_json(line) for line in self.shown], "overall": self.overall and asdict(self.overall)}
        problems = [{"path": str(p.path), "why": p.why} for p in self.problems]
        return plain(found | {"alone": alone, "notes": self.notes, "problems": problems})


def _line_json(line: Line) -> dict[str, Any]:
    """`a` and `b` hold what each side has; the rest is of the pair."""
    found = asdict(line)
    pairs = {
        "row": found.pop("rows"),
        "score": found.pop("scores"),
        "n": found.pop("runs"),
        "compared": found.pop("compared"),
        "failed": found.pop("failed"),
        "failures": found.pop("failures"),
    }
    costs = found.pop("costs")
    for i, name in enumerate("ab"):
        found[name] = {key: pair[i] for key, pair in pairs.items()}
        found[name] |= {"costs": {key: values[i] for key, values in costs.items()}}
    return found | {"ratios": {key: values[2] for key, values in costs.items()}}


# ---- runs ----


def files(store: Path) -> tuple[list[Record], list[Problem]]:
    """Every run of a store, with attempts that others supersede, and the files that were skipped."""
    frame, problems = index.scan(store, READ)
    return frame.to_dict("records"), problems


def commit_of(record: Mapping[str, Any]) -> str:
    """The commit of the code that made the run; nothing where it was made outside a checkout."""
    return str(parsed(record["environment"]).get("commit") or "")


def choose(records: Sequence[Record], name: str, options: Mapping[str, Any]) -> list[Record]:
    """The runs of an optimizer that have these options, as asked or as used; UsageError with advice where none has."""
    mine = [r for r in records if r["optimizer"] == name]
    for key, value in options.items():
        known = sorted({option for r in mine for option in _options(r)})
        if key not in known:
            near = _near(key, known)
            raise UsageError(f"no run of {name} has an option {key!r}{near}; they have {', '.join(known) or 'none'}")
        kept = [r for r in mine if any(_same(value, v) for v in _values(r, key))]
        if not kept:
            have = sorted({option_text(v) for r in mine for v in _values(r, key)})
            near = _near(option_text(value), have)
            raise UsageError(f"no run of {name} has {key}={option_text(value)}{near}; there are {_some(have)}")
        mine = kept
    return mine


def _options(record: Record) -> dict[str, Any]:
    return {**parsed(record["optimizer_options"]), **parsed(record["parameters"])}


def _values(record: Record, key: str) -> list[Any]:
    """Of an option, as asked and as used."""
    texts = (parsed(record["optimizer_options"]), parsed(record["parameters"]))
    return [found[key] for found in texts if key in found]


def _same(a: Any, b: Any) -> bool:
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (a, b))
    return math.isclose(a, b, rel_tol=CLOSE) if numbers else type(a) is type(b) and a == b


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# ---- the comparison ----


def compare(
    a: Side,
    b: Side,
    *,
    margins: Mapping[str, float] | float | None = None,
    alpha: float = 0.05,
    only_changed: bool = False,
    sort: str = "task",
    problems: Iterable[Problem] = (),
) -> Compared:
    """A against B, of one kind both. NothingMeasured where no run of A has a counterpart in B.

    margins: smallest differences that matter, by kind (see MARGINS) or by metric; one number where all lines are of a kind.
    """
    if a.kind != b.kind:
        names = {a.kind: a.text, b.kind: b.text}
        raise UsageError(
            f"{names['optimizer']} is an optimizer and {names['place']} is not: compare two stores, two commits or two optimizers"
        )
    pairs, alone, notes = _pairs(a, b)
    if not pairs:
        raise NothingMeasured(_nothing_in_common(a, b))
    lines = [_line(pair, 1 - alpha) for pair in pairs]
    lines = _decided(lines, pairs, _margins(margins, lines), alpha)
    lines = _sorted(lines, sort)
    shown = [line for line in lines if line.verdict in ("better", "worse")] if only_changed else lines
    return Compared(a, b, alpha, lines, shown, _overall(lines), alone, notes, list(problems))


@dataclass(frozen=True)
class _Pair:
    """The runs of a line."""

    a: list[Record]
    b: list[Record]
    labels: tuple[str, str]
    notes: list[str]
    same_row: bool

    @property
    def first(self) -> Record:
        """Whose conditions these are: not those of a baseline that has no budget."""
        return self.b[0] if _timeless(self.a[0]) else self.a[0]

    @cached_property
    def fresh(self) -> tuple[list[Record], list[Record]]:
        """Without the runs that both sides hold."""
        both = {_print(r) for r in self.a} & {_print(r) for r in self.b}
        left, right = ([r for r in side if _print(r) not in both] for side in (self.a, self.b))
        return left, right

    @cached_property
    def samples(self) -> tuple[Sample, Sample]:
        """Of the fresh runs. The same cells made twice are pairs: same seed, same batches, same directions."""
        a, b = _sample(self.fresh[0]), _sample(self.fresh[1])
        if self.same_row and len(a.values.keys() & b.values.keys()) > 1:
            a, b = (replace(side, problems={unit: unit for unit in side.values}) for side in (a, b))
        return a, b

    @property
    def shared(self) -> int:
        return len(self.a) - len(self.fresh[0])


def _pairs(a: Side, b: Side) -> tuple[list[_Pair], tuple[list[Alone], list[Alone]], list[str]]:
    """The lines, the runs without a counterpart, and what there is to say of all."""
    # copies, because what a failed run does not know is filled in from both sides
    left, right = [dict(r) for r in a.records], [dict(r) for r in b.records]
    _learn([*left, *right])
    if a.kind == "optimizer":
        return _of_optimizers(left, right)
    return _of_places(left, right)


def _of_places(
    left: list[Record], right: list[Record]
) -> tuple[list[_Pair], tuple[list[Alone], list[Alone]], list[str]]:
    """The same row of both."""
    rows_a, rows_b = _grouped(left, _row_key), _grouped(right, _row_key)
    labels = _labels([*left, *right])
    common = [key for key in rows_a if key in rows_b]
    pairs = [_Pair(rows_a[key], rows_b[key], (labels[key], labels[key]), [], True) for key in common]
    pairs, notes = _newest(pairs)
    alone = _alone(rows_a, right, labels), _alone(rows_b, left, labels)
    return pairs, alone, notes


def _of_optimizers(
    left: list[Record], right: list[Record]
) -> tuple[list[_Pair], tuple[list[Alone], list[Alone]], list[str]]:
    """One setting of each, under conditions that both were run under."""
    places_a, places_b = _meeting(left, right)
    labels = _labels([*left, *right])
    pairs, alike = [], 0
    for place in places_a:
        if place not in places_b:
            continue
        chosen_a, note_a = _best_setting(places_a[place], "A")
        chosen_b, note_b = _best_setting(places_b[place], "B")
        if _row_key(chosen_a[0]) == _row_key(chosen_b[0]):
            alike += 1
        else:
            names = labels[_row_key(chosen_a[0])], labels[_row_key(chosen_b[0])]
            pairs.append(_Pair(chosen_a, chosen_b, names, note_a + note_b, False))
    pairs, notes = _newest(pairs)
    trials = [pair for pair in pairs if pair.first["score"] == "validation"]
    if 0 < len(trials) < len(pairs):
        pairs = [pair for pair in pairs if pair.first["score"] != "validation"]
        notes = [*notes, f"{_count(len(trials), 'line')} of trials, scored on validation, left out"]
    notes += [f"under {alike} conditions the best setting of both is the same one: left out"] if alike else []
    unmet_a = {p: g for p, g in places_a.items() if p not in places_b}
    unmet_b = {p: g for p, g in places_b.items() if p not in places_a}
    alone = _unmet(unmet_a, labels), _unmet(unmet_b, labels)
    return pairs, alone, notes


def _meeting(left: list[Record], right: list[Record]) -> tuple[dict[Key, list[Record]], dict[Key, list[Record]]]:
    """Both by conditions. A baseline of language tasks has neither budget nor batches: it meets the other under any."""
    places_a, places_b = _grouped(left, _place), _grouped(right, _place)
    return _spread(places_a, places_b), _spread(places_b, places_a)


def _spread(mine: dict[Key, list[Record]], others: dict[Key, list[Record]]) -> dict[Key, list[Record]]:
    found = dict(mine)
    for place, records in mine.items():
        homes = [other for other, theirs in others.items() if _loose(theirs[0]) == _loose(records[0])]
        if _timeless(records[0]) and place not in others and homes:
            del found[place]
            found |= dict.fromkeys(homes, records)
    return found


def _timeless(record: Record) -> bool:
    return record["order"] == "reference" and record["kind"] != "regression"


def _best_setting(records: list[Record], side: str) -> tuple[list[Record], list[str]]:
    """The setting with the best mean on validation, those without failed runs first; and what to say of the choice."""
    settings = list(_grouped(records, _row_key).values())
    if len(settings) == 1:
        return settings[0], []

    def quality(group: list[Record]) -> tuple[Any, ...]:
        values = [r["validation"] for r in group if r["validation"] is not None and math.isfinite(r["validation"])]
        failed = any(_status(r) in BLAMED for r in group)
        mean = _mean(values, group[0]["scale"]) if values else math.inf
        signed = -mean if values and group[0]["better"] == "higher" else mean
        return failed, signed, -len(group), json_text([group[0]["optimizer_options"], group[0]["schedule"]])

    return min(settings, key=quality), [f"{side}: the best of {len(settings)} settings on validation"]


def _mean(values: Sequence[float], scale: str | None) -> float:
    x = [math.log10(max(v, stats.FLOOR)) for v in values] if scale == "log" else values
    return math.fsum(x) / len(x)


def _newest(pairs: list[_Pair]) -> tuple[list[_Pair], list[str]]:
    """Of each task the newest version that both sides have: numbers of older ones are no longer of interest."""
    newest: dict[str, int] = {}
    for pair in pairs:
        newest[pair.first["task"]] = max(pair.first["task_version"], newest.get(pair.first["task"], 0))
    kept = [pair for pair in pairs if pair.first["task_version"] == newest[pair.first["task"]]]
    older = len(pairs) - len(kept)
    return kept, [f"{_count(older, 'line')} of older versions of their tasks left out"] if older else []


def _learn(records: list[Record]) -> None:
    """Fill what a failed run does not know from the runs of its conditions, in place."""
    for group in _grouped(records, lambda r: _place(r)[: -len(LEARNED)]).values():
        for name in LEARNED:
            known = sorted({r[name] for r in group if r[name] is not None})
            for record in group:
                if record[name] is None and known:
                    record[name] = known[0]


# ---- keys and labels ----


def _grouped(records: Iterable[Record], key: Callable[[Record], Key]) -> dict[Key, list[Record]]:
    groups: dict[Key, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def _place(record: Record) -> Key:
    options = {k: v for k, v in parsed(record["task_options"]).items() if k not in POOLED}
    return *(record[name] for name in CONDITIONS), json_text(options), *(record[name] for name in LEARNED)


def _loose(record: Record) -> Key:
    return tuple(
        x
        for name, x in zip((*CONDITIONS, "options", *LEARNED), _place(record), strict=True)
        if name not in ("budget", "batch_size")
    )


def _row_key(record: Record) -> Key:
    return *_place(record), record["optimizer"], record["optimizer_options"], record["schedule"]


def _title(record: Record) -> tuple[str, list[str]]:
    """The task, and the other conditions as the parts of a title."""
    options = {k: v for k, v in parsed(record["task_options"]).items() if k not in POOLED}
    text = ",".join(f"{k}={option_text(v)}" for k, v in sorted(options.items()))
    task = record["task_label"] or (f"{record['task']}[{text}]" if text else record["task"])
    parts = [record["suite"]] if record["suite"] else []
    parts += [f"version {record['task_version']}"] if record["task_version"] != 1 else []
    parts += (
        [record["model"] + (f"@{record['revision'][:12]}" if record["revision"] else "")] if record["model"] else []
    )
    parts += [record["adapter"]] if record["adapter"] != "none" else []
    parts += [record["dtype"], record["budget"], f"batch {record['batch_size']}", f"{record['score']} score"]
    return task, parts + (["PARTIAL DATA"] if record["partial_data"] else [])


def _labels(records: Iterable[Record]) -> dict[Key, str]:
    """`name[lr=..., what differs from other rows of that optimizer there]` by row."""
    kin: dict[Key, list[Record]] = {}
    for r in _grouped(records, _row_key).values():
        kin.setdefault((*_place(r[0]), r[0]["optimizer"]), []).append(r[0])
    found = {}
    for group in kin.values():
        asked = [parsed(r["optimizer_options"]) for r in group]
        differing = {k for options in asked for k in options if any(options[k] != other.get(k) for other in asked)}
        for r, options in zip(group, asked, strict=True):
            shown = {k: v for k, v in options.items() if k in differing or k == "lr"}
            texts = ",".join(f"{k}={option_text(v)}" for k, v in sorted(shown.items()))
            schedule = "" if r["schedule"] == "constant" else f", {r['schedule']} schedule"
            found[_row_key(r)] = r["optimizer"] + (f"[{texts}]" if texts else "") + schedule
    return found


def _alone(rows: dict[Key, list[Record]], others: Iterable[Record], labels: Mapping[Key, str]) -> list[Alone]:
    """The cells of these rows that the other side lacks."""
    have = {r["cell"] for r in others}
    found = []
    for key, records in rows.items():
        cells = sorted(r["cell"][:16] for r in records if r["cell"] not in have)
        if cells:
            found.append(Alone(*_title(records[0]), labels[key], cells))
    return sorted(found, key=lambda one: (one.task, one.where, one.row))


def _unmet(places: dict[Key, list[Record]], labels: Mapping[Key, str]) -> list[Alone]:
    rows = [group for records in places.values() for group in _grouped(records, _row_key).values()]
    found = [Alone(*_title(g[0]), labels[_row_key(g[0])], sorted(r["cell"][:16] for r in g)) for g in rows]
    return sorted(found, key=lambda one: (one.task, one.where, one.row))


# ---- one line ----


def _line(pair: _Pair, level: float) -> Line:
    """The line before its verdict, which comes to all lines together."""
    first, (a, b) = pair.first, pair.fresh
    better, scale = first["better"] or "higher", first["scale"] or "linear"
    found = None
    if pair.samples[0].values and pair.samples[1].values:
        found = stats.compare(*pair.samples, better, scale, _resolution(pair), level=level)
    values = _compared(pair, bool(found and found.paired), scale)
    untimed = _untimed(a or pair.a, b or pair.b)
    whole = _sample(pair.a), _sample(pair.b)
    task, where = _title(first)
    return Line(
        task=task,
        where=where,
        rows=pair.labels,
        metric=first["metric"] or "score",
        better=better,
        scale=scale,
        scores=(_mean_of(values[0], first, level), _mean_of(values[1], first, level)),
        compared=(len(values[0]), len(values[1])),
        runs=(len(whole[0].values), len(whole[1].values)),
        failed=(whole[0].failed, whole[1].failed),
        failures=(_failures(pair.a), _failures(pair.b)),
        shared=pair.shared,
        difference=_possible(found.difference, first) if found else None,
        effect=found.effect if found else None,
        superiority=found.superiority if found else None,
        paired=found.paired if found else None,
        p=found.p if found else None,
        p_adjusted=None,
        margin=0.0,
        verdict="undecided",
        seeds_needed=None,
        costs=_costs(a or pair.a, b or pair.b, timed=not untimed),
        notes=[*pair.notes, *_notes(pair), *untimed],
    )


def _compared(pair: _Pair, paired: bool, scale: str) -> tuple[list[float], list[float]]:
    """The values whose means are compared, as `stats.compare` takes them; all of a side where nothing is compared.

    In pairs: those of the units that both sides have, or the means on each problem that both have where these are more.
    """
    a, b = pair.samples
    if not (a.values and b.values):
        return list(_sample(pair.a).values.values()), list(_sample(pair.b).values.values())
    if not paired:
        return list(a.values.values()), list(b.values.values())
    mine, theirs = _by_problem(a), _by_problem(b)
    units, problems = a.values.keys() & b.values.keys(), mine.keys() & theirs.keys()
    if len(units) >= len(problems):
        return [a.values[u] for u in a.values if u in units], [b.values[u] for u in a.values if u in units]
    means = ([stats.mean_interval(side[p], scale).center for p in mine if p in problems] for side in (mine, theirs))
    return next(means), next(means)


def _by_problem(sample: Sample) -> dict[Any, list[float]]:
    found: dict[Any, list[float]] = {}
    for unit, value in sample.values.items():
        found.setdefault((sample.problems or {}).get(unit), []).append(value)
    return found


def _mean_of(values: Sequence[float], first: Record, level: float) -> Interval | None:
    if not values:
        return None
    return inside(stats.mean_interval(values, first["scale"] or "linear", level), first["metric"] or "score")


def _possible(difference: Interval | None, first: Record) -> Interval | None:
    """Within what the metric allows: two accuracies are no more than 1 apart."""
    metric = first["metric"]
    if difference is None or difference.low is None or difference.high is None or metric not in PERCENT:
        return difference
    most = 2.0 if metric in SIGNED else 1.0
    return replace(difference, low=max(difference.low, -most), high=min(difference.high, most))


def _failures(records: Sequence[Record]) -> str:
    """`3 of 5 runs, seed 2: diverged: loss is nan`, of the first of them."""
    failed = sorted((r for r in records if _status(r) != "ok"), key=lambda r: (r["seed"], r["data_seed"], r["cell"]))
    if not failed:
        return ""
    first = failed[0]
    reason = (first["reason"] or "no reason recorded")[:200]
    return f"{len(failed)} of {_count(len(records), 'run')}, seed {first['seed']}: {_status(first)}: {reason}"


def _print(record: Record) -> str:
    """Equal for copies of one run, under whatever name."""
    return repr([record[name] for name in IDENTITY])


def _status(record: Record) -> str:
    silent = record["status"] == "ok" and (record["value"] is None or not math.isfinite(record["value"]))
    return "not finite" if silent else record["status"]


def _sample(records: Iterable[Record]) -> Sample:
    """By seed, data seed and instance; a second run of one of those is a unit of its own."""
    values: dict[tuple[Any, ...], float] = {}
    failed = 0
    for r in sorted(records, key=lambda r: r["cell"]):
        failed += _status(r) in BLAMED
        if _status(r) == "ok":
            unit = (r["seed"], r["data_seed"], str(parsed(r["task_options"]).get("instance")))
            again = sum(other[:3] == unit for other in values)
            values[(*unit, again) if again else unit] = r["value"]
    return Sample(values, failed=failed, problems={unit: unit[1:3] for unit in values})


def _resolution(pair: _Pair) -> float:
    """An accuracy is a whole number of rows: two runs within one row cannot be told apart."""
    first = pair.first
    if (first["scale"] or "linear") == "log" or first["kind"] == "regression":
        return 0.0
    name = "num_dev" if first["score"] == "validation" else "num_test"
    rows = [r[name] for r in (*pair.a, *pair.b) if r[name]]
    return 1.0 / max(rows) if rows else 0.0


def _notes(pair: _Pair) -> list[str]:
    left_out = 0 < pair.shared < max(len(pair.a), len(pair.b))
    notes = [f"{_count(pair.shared, 'run')} on both sides left out"] if left_out else []
    for name, records in (("A", pair.a), ("B", pair.b)):
        failures = Counter(_status(r) for r in records if _status(r) != "ok")
        notes += [f"{name}: {count} {status}" for status, count in sorted(failures.items())]
    if any(parsed(r["environment"]).get("dirty") for r in (*pair.a, *pair.b)):
        notes.append("made with uncommitted changes")
    return notes


# ---- costs ----


def _costs(a: list[Record], b: list[Record], timed: bool) -> dict[str, tuple[float | None, float | None, float | None]]:
    found = {}
    for name in COSTS:
        x, y = _median(_cost(r, name) for r in a), _median(_cost(r, name) for r in b)
        found[name] = x, y, None if name in TIMES and not timed else _ratio(x, y)
    return found


def _cost(record: Record, name: str) -> float | None:
    if _status(record) != "ok":
        return None
    if name == "cost":  # forward-equivalents: a backward counts 2
        return None if record["forwards"] is None else record["forwards"] + 2 * (record["backwards"] or 0)
    if name == "ms_per_step":
        steps, seconds = record["timed_steps"], record["step_seconds"]
        return 1e3 * seconds / steps if steps and seconds is not None else None
    return record[name]


def _ratio(x: float | None, y: float | None) -> float | None:
    """inf where only B's is nothing, 1 where both are."""
    if x is None or y is None:
        return None
    return x / y if y else (math.inf if x else 1.0)


def _median(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None


def _untimed(a: Iterable[Record], b: Iterable[Record]) -> list[str]:
    """Why times are not compared; nothing where they are."""
    seen = [{_machine(r) for r in side if _status(r) == "ok"} for side in (a, b)]
    if not all(seen) or None in seen[0] | seen[1]:
        return ["time not compared: hardware not recorded"] if all(seen) else []
    if len(seen[0] | seen[1]) == 1:
        return []
    if len({name for side in seen for name, _ in filter(None, side)}) == 1:
        return ["time not compared: shared by different numbers of runs"]
    names = [" and ".join(sorted({name for name, _ in filter(None, side)})) for side in seen]
    return [
        f"time not compared: {names[0]} against {names[1]}"
        if names[0] != names[1]
        else "time not compared: mixed hardware"
    ]


def _machine(record: Record) -> tuple[str, int | None] | None:
    """Hardware class, and among how many runs the time was shared."""
    hardware = parsed(record["environment"]).get("hardware")
    return (str(hardware), record["lockstep"]) if hardware else None


# ---- verdicts ----


def kind_of(metric: str, scale: str) -> str:
    """Which of MARGINS holds for a metric."""
    return "factor" if scale == "log" else "points" if metric in PERCENT else "relative"


def _margins(given: Mapping[str, float] | float | None, lines: Sequence[Line]) -> Callable[[Line], float]:
    """Of a line, in units of its difference; UsageError where what is given fits no line."""
    kinds = sorted({kind_of(line.metric, line.scale) for line in lines})
    metrics = {line.metric for line in lines}
    if isinstance(given, (int, float)):
        if len(kinds) > 1:
            example = ",".join(f"{kind}={MARGINS[kind]:g}" for kind in kinds)
            raise UsageError(f"margin {given:g}: the lines are of several kinds; write --margin {example}")
        given = {kinds[0]: float(given)} if kinds[0] != "relative" else dict.fromkeys(metrics, float(given))
    given = given or {}
    for name in given:
        if name not in MARGINS and name not in metrics:
            known = [*MARGINS, *sorted(metrics)]
            raise UsageError(
                f"margin {name}={given[name]:g}: no such metric{_near(name, known)}; there are {', '.join(known)}"
            )

    def margin(line: Line) -> float:
        kind = kind_of(line.metric, line.scale)
        absolute = line.metric in given
        value = given.get(line.metric, given.get(kind, MARGINS[kind]))
        if kind == "factor":
            if value < 1:
                raise UsageError(
                    f"margin {value:g}: on a log scale it is a factor of at least 1, such as {MARGINS[kind]}"
                )
            return math.log10(value)
        if kind == "points":
            return value / 100
        return value if absolute else value * max((abs(s.center) for s in line.scores if s), default=0.0)

    return margin


def _decided(lines: list[Line], pairs: list[_Pair], margin: Callable[[Line], float], alpha: float) -> list[Line]:
    """Every line with its adjusted p and its verdict."""
    lines = [replace(line, margin=margin(line)) for line in lines]
    tested = [i for i, line in enumerate(lines) if line.p is not None]
    adjusted = stats.holm([lines[i].p for i in tested]) if tested else []
    for i, p in zip(tested, adjusted, strict=True):
        lines[i] = replace(lines[i], p_adjusted=float(p))
    return [_verdict(line, pair, alpha) for line, pair in zip(lines, pairs, strict=True)]


def _verdict(line: Line, pair: _Pair, alpha: float) -> Line:
    a, b = pair.fresh
    if not a and not b:
        return replace(line, verdict="same run")
    if not a or not b:
        side = "A" if not a else "B"
        return replace(line, notes=[*line.notes, f"{side} has no run of its own"])
    if line.difference is None:
        verdict = _by_failures(*pair.samples)
        certain = {"better": Interval(1.0), "worse": Interval(0.0)}.get(verdict)
        return replace(line, verdict=verdict, superiority=certain)
    if _identical(a, b):
        return replace(line, verdict="same", notes=[*line.notes, "the same numbers"])
    d, whole = line.difference, not any(sample.failed for sample in pair.samples)
    if whole and d.low is not None and d.high is not None and max(-d.low, d.high) <= line.margin:
        return replace(line, verdict="same")
    if line.p_adjusted is not None and line.p_adjusted < alpha:
        good = (d.center > 0) == (line.better == "higher")
        return replace(line, verdict="better" if good else "worse")
    if not whole:  # more seeds would not undo the failures
        return line
    needed = stats.seeds_needed(*pair.samples, line.better, line.scale, alpha=alpha, resolution=_resolution(pair))
    return replace(line, seeds_needed=needed)


def _by_failures(a: Sample, b: Sample) -> str:
    """Where a side gave no number: it is worse than one of which no run failed, if both had two runs."""
    if a.failed >= 2 and len(b.values) >= 2 and not b.failed:
        return "worse"
    if b.failed >= 2 and len(a.values) >= 2 and not a.failed:
        return "better"
    return "undecided"


def _identical(a: list[Record], b: list[Record]) -> bool:
    """Whether the same cells came to the same numbers, to the bit: equal, however few they are."""
    mine, theirs = ({r["cell"]: (_status(r), r["value"]) for r in side} for side in (a, b))
    return mine == theirs and all(status == "ok" for status, _ in mine.values())


def _sorted(lines: list[Line], sort: str) -> list[Line]:
    def key(line: Line) -> tuple[Any, ...]:
        place = (line.where[:1], line.task, [_natural(part) for part in line.where], line.rows)
        first = {
            "task": (),
            "verdict": (("worse", "better", "undecided", "same", "same run").index(line.verdict),),
            "effect": (line.effect is None, -abs(line.effect or 0.0)),
            "p": (line.p is None, line.p or 0.0),
        }
        return *first[sort], *place

    return sorted(lines, key=key)


def _natural(text: str) -> list[tuple[float, str]]:
    """Numbers in a text by their size: forwards=200 before forwards=1200."""
    parts = re.split(r"(\d+)", text)
    return [(float(part), "") if i % 2 else (-1.0, part) for i, part in enumerate(parts)]


# ---- over all tasks ----


def _overall(lines: Sequence[Line]) -> Overall | None:
    """None where no line has a difference that is evidence."""
    tasks: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        if line.superiority is not None and line.verdict != "same run":
            tasks.setdefault((line.where[0], line.task), []).append(line)
    if not tasks:
        return None
    gains = [[_gain(line) for line in group] for group in tasks.values()]
    means = [math.fsum(x) / len(x) for x in gains]
    counts = Counter(int(np.sign(x)) for x in means)
    alike = len({(line.metric, line.scale) for group in tasks.values() for line in group}) == 1
    test, p = _test(means, alike and all(map(math.isfinite, means)))
    return Overall(len(tasks), (counts[1], counts[0], counts[-1]), _joined(list(tasks.values())), test, p)


def _gain(line: Line) -> float:
    """How much better A is; without end where the other side gave no number."""
    if line.difference is None:
        return math.inf if line.verdict == "better" else -math.inf
    return line.difference.center * (1 if line.better == "higher" else -1)


def _test(means: Sequence[float], commensurate: bool) -> tuple[str | None, float | None]:
    """Where all are of one metric their sizes can be compared; elsewhere the signs are all there is."""
    if len(means) < FEWEST_TASKS:
        return None, None
    moved = [x for x in means if x != 0]
    if commensurate:
        if not moved:
            return "Wilcoxon signed-rank", 1.0
        from scipy.stats import wilcoxon  # half a second to import

        return "Wilcoxon signed-rank", float(np.asarray(wilcoxon(moved))[1])
    fewer = min(sum(x > 0 for x in moved), sum(x < 0 for x in moved))
    return "sign", min(1.0, 2 * float(bdtr(fewer, len(moved), 0.5))) if moved else 1.0


def _joined(tasks: Sequence[Sequence[Line]]) -> Interval | None:
    """The mean over tasks of the chance that a run of A is better, with an interval from those of the lines.

    Distances to the lines' limits add up in squares, as those of independent estimates do (the method of variance
    estimates recovery, Zou and Donner 2008, doi:10.1002/sim.3095).
    """
    weighted: list[tuple[float, Interval]] = []
    for group in tasks:
        known = [line.superiority for line in group if line.superiority is not None]
        weighted += [(1 / len(known), interval) for interval in known]
    total = sum(weight for weight, _ in weighted)
    if not total:
        return None
    center = math.fsum(w * i.center for w, i in weighted) / total
    bounded = [(w / total, i.center, i.low, i.high) for w, i in weighted if i.low is not None and i.high is not None]
    if len(bounded) < len(weighted):  # single runs: how far off they are is not known
        return Interval(center)
    below = math.sqrt(math.fsum((w * (c - low)) ** 2 for w, c, low, _ in bounded))
    above = math.sqrt(math.fsum((w * (high - c)) ** 2 for w, c, _, high in bounded))
    return Interval(center, max(0.0, center - below), min(1.0, center + above))


# ---- nothing to compare ----


def _nothing_in_common(a: Side, b: Side) -> str:
    """Why, and the nearest miss: the same task under conditions that differ in the fewest things."""
    tasks = [sorted({r["task"] for r in side.records}) for side in (a, b)]
    have = f"{a.says} has {_some(tasks[0]) or 'nothing'}; {b.says} has {_some(tasks[1]) or 'nothing'}"
    what = "no conditions" if a.kind == "optimizer" else "no row"
    miss = min(_misses(a, b), default=None)
    if miss is None:
        return f"nothing to compare, {a.text} and {b.text} have {what} in common: {have}"
    task, differ = miss[1], "; ".join(miss[2])
    if not differ:
        return (
            f"nothing to compare, the best settings of {a.text} and {b.text} are the same ones: add options that differ"
        )
    return (
        f"nothing to compare, {a.text} and {b.text} have {what} in common; nearest is {task}, which differs in {differ}"
    )


def _misses(a: Side, b: Side) -> Iterator[tuple[int, str, list[str]]]:
    names = (*CONDITIONS, "task options") + (() if a.kind == "optimizer" else ("optimizer", "options", "schedule"))
    keys = []
    for side in (a, b):
        full = {
            (*_place(r)[: -len(LEARNED)], r["optimizer"], r["optimizer_options"], r["schedule"]) for r in side.records
        }
        keys.append(sorted({key[: len(names)] for key in full}, key=repr))
    task = names.index("task")
    for x in keys[0]:
        for y in keys[1]:
            if x[task] == y[task]:
                differ = [
                    f"{n}: {_shown(v)} against {_shown(w)}" for n, v, w in zip(names, x, y, strict=True) if v != w
                ]
                yield len(differ), str(x[task]), differ


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"
