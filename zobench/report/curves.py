"""Learning curves, and what is read off them: the value within a budget, the cost to a target, the Pareto front.

A point is one validation of a run. Costs are forward-equivalents, `forwards + 2 backwards`. Between two validations
nothing is known, so a curve is a step function: its value at a cost is what had been validated by then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zobench.report import stats
from zobench.report.index import POINT_DTYPE

POINTS = 40  # of a curve: enough for the eye, and 5,000 of them fit a page
# The axes on which a budget may be given -> the name of their costs here.
AXES = {"forwards": "cost", "steps": "steps", "time": "seconds", "flops": "flops", "energy": "joules"}
MEDIANS = ("steps", "seconds", "flops", "joules")
TOTALS = {"flops": "flops", "joules": "energy_joules"}  # known for the whole run only: name here -> column

Record = Mapping[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """The runs of one row on a common grid of costs; every array has the shape (k,), k <= 40.

    steps, seconds, flops and joules are medians over the runs that count at a point, nan where not measured. A run that
    failed counts up to its end, so `n` may fall below `runs`; before its first validation a run does not count either.
    """

    cost: Floats  # forward-equivalents, increasing
    steps: Floats
    seconds: Floats  # inside the optimizer's step, warm-up included
    flops: Floats
    joules: Floats
    center: Floats  # interquartile mean of the last validated values, in units of the metric
    low: Floats  # of the 95 % interval; nan where there is none (one run)
    high: Floats
    kept: Floats  # interquartile mean of what the runs would have ended with, had the budget ended here
    n: NDArray[np.int64]  # runs that count at this point
    runs: int  # of the row, with those that failed

    def to_json(self) -> dict[str, Any]:
        """Lists of plain numbers; what is not finite is None."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: _plain(v) if isinstance(v, np.ndarray) else v for name, v in values.items()}


def _plain(array: NDArray[Any]) -> list[Any]:
    return [x if math.isfinite(x) else None for x in array.tolist()]


# ---- points ----


def points(record: Record) -> NDArray[Any]:
    """The validated points of a run, in order: column `points` of `read.load`, POINT_DTYPE; empty where it has none."""
    found = record.get("points")
    return np.empty(0, POINT_DTYPE) if found is None else found


def costs(points: NDArray[Any]) -> Floats:
    """Forward-equivalents of each point."""
    return (points["forwards"] + 2 * points["backwards"]).astype(float)


def axes(points: NDArray[Any], record: Record | None = None) -> dict[str, Floats]:
    """Every cost axis of the points: cost, steps, seconds, flops, joules.

    FLOPs and joules are known for the whole run: a point has its share by cost, nan where the record lacks the total.
    """
    cost = costs(points)
    found = {"cost": cost, "steps": points["step"].astype(float), "seconds": points["seconds"].astype(float)}
    record = record or {}
    spent = (record.get("forwards") or 0) + 2 * (record.get("backwards") or 0)
    spent = spent or (cost[-1] if len(cost) else 0)
    for name, column in TOTALS.items():
        total = record.get(column)
        share = cost / spent if spent else np.zeros(len(cost))
        found[name] = np.full(len(cost), math.nan) if total is None else share * float(total)
    return found


def selection(records: Iterable[Record]) -> str:
    """Which weights the runs ended with: "best" by validation, or "last" (INFO `select` of the task, zobench/keeper.py).

    The record does not hold it, so it is read off the step that was kept: one before the last says best; the last one,
    though an earlier was better, says last. Where no run tells, regressions keep the last and the others the best.
    """
    kinds = set()
    told_last = False
    for record in records:
        kinds.add(record.get("kind"))
        found, kept = points(record), record.get("kept_step")
        if kept is None or not len(found) or record.get("status") != "ok":
            continue
        if kept < found["step"][-1]:
            return "best"
        gain = found["value"] if record.get("better", "higher") != "lower" else -found["value"]
        told_last |= bool(np.any(gain[:-1] > gain[-1]))
    return "last" if told_last or kinds == {"regression"} else "best"


# ---- one run ----


def value_at(
    points: NDArray[Any],
    axis: str,
    limit: float,
    better: str,
    *,
    select: str = "best",
    record: Record | None = None,
) -> float | None:
    """The validation value that the run would have ended with under this budget; None where nothing was validated.

    axis: forwards (forward-equivalents) | steps | time (seconds inside step, warm-up included) | flops | energy (joules);
    limit: in its units. The best so far, because the runner keeps the weights that are best on validation
    (zobench/keeper.py); the last one where the task keeps the last weights (select = "last"). record: for flops and
    energy, which need totals.
    """
    spent = axes(points, record)[AXES[axis]]
    values = points["value"][spent <= limit]
    if not len(values):
        return None
    if select == "last":
        return float(values[-1]) if math.isfinite(values[-1]) else None
    values = values[np.isfinite(values)]
    return float(values.max() if better == "higher" else values.min()) if len(values) else None


def values_within(points: NDArray[Any], limits: Sequence[float], better: str, select: str) -> list[float | None]:
    """`value_at` for several limits in forward-equivalents."""
    if not len(points):
        return [None] * len(limits)
    values = _finite(points["value"]) if select == "last" else _best_so_far(_finite(points["value"]), better)
    at = np.searchsorted(costs(points), limits, side="right") - 1
    return [float(values[i]) if i >= 0 and math.isfinite(values[i]) else None for i in at]


def cost_to_target(points: NDArray[Any], target: float, better: str, record: Record | None = None) -> dict[str, float]:
    """What the first validation at least as good as `target` had cost, on every axis of `axes`.

    inf where the target was never met, or where the record says that the run failed; nan where nothing was validated, and
    on an axis that was not measured.
    """
    values = points["value"]
    met = np.flatnonzero(values >= target if better == "higher" else values <= target)
    failed = (record or {}).get("status", "ok") not in ("ok", "interrupted")
    if not len(values) and not failed:
        return dict.fromkeys(AXES.values(), math.nan)
    found = {}
    for name, spent in axes(points, record).items():
        measured = not len(spent) or math.isfinite(spent[-1])
        found[name] = math.inf if failed or not len(met) else float(spent[met[0]])
        found[name] = found[name] if measured or failed else math.nan
    return found


# ---- the runs of a row ----


def curve(records: Sequence[Record], scale: str, better: str, points: int = POINTS) -> Curve | None:
    """The runs of one row as one curve; None where nothing was validated. See `curves`."""
    return curves([records], scale, better, points)[0]


def curves(rows: Sequence[Sequence[Record]], scale: str, better: str, points: int = POINTS) -> list[Curve | None]:
    """One curve per row of runs, all of one task; at once, because intervals are quicker together.

    At each grid cost a run counts with its last validated value at or before it. The grid holds the costs of the rows'
    validations, thinned evenly by their rank (so what was validated at logarithmic steps stays logarithmic), the first
    and the last kept. A run that ended well keeps its last value; one that failed counts up to its end.
    """
    select = selection(record for records in rows for record in records)
    grids = [_Grid(records, scale, better, select, points) for records in rows]
    samples = [sample for grid in grids for sample in grid.samples()]
    intervals = iter(stats.score_intervals(samples))  # of the logarithms, on a log scale
    return [grid.curve(intervals, scale) for grid in grids]


class _Grid:
    """What the runs of one row had reached at each cost of its grid: arrays (runs, k), log10 of values on a log scale."""

    def __init__(self, records: Sequence[Record], scale: str, better: str, select: str, size: int) -> None:
        found = [(points(record), record) for record in records]
        found = [(p, record) for p, record in found if len(p)]
        self.runs = len(records)
        strata = [(r.get("data_seed"), r.get("task_options")) for _, r in found]  # what each run ran
        self.strata = np.array([strata.index(s) for s in strata]) if len(set(strata)) > 1 else None
        grid = _thin(np.unique(np.concatenate([costs(p) for p, _ in found])), size) if found else np.empty(0)
        shape = (len(found), len(grid))
        last, kept = np.full(shape, math.nan), np.full(shape, math.nan)
        spent = np.full((len(MEDIANS), *shape), math.nan)
        for i, (p, record) in enumerate(found):
            of_run = axes(p, record)
            at = np.searchsorted(of_run["cost"], grid, side="right") - 1
            counts = (at >= 0) & (grid <= _end(record, of_run["cost"][-1]))
            values = _finite(p["value"])
            last[i, counts] = values[at[counts]]
            kept[i, counts] = (values if select == "last" else _best_so_far(values, better))[at[counts]]
            spent[:, i, counts] = np.array([of_run[name] for name in MEDIANS])[:, at[counts]]
        filled = np.isfinite(last).any(axis=0)  # where at least one run counts
        self.cost, last, kept, spent = grid[filled], last[:, filled], kept[:, filled], spent[:, :, filled]
        self.counts = np.isfinite(last)
        if scale == "log":
            last, kept = (np.log10(np.maximum(x, stats.FLOOR)) for x in (last, kept))
        self.last, self.kept = last, _centers(np.where(self.counts, kept, math.nan))
        self.medians = _medians(np.where(self.counts, spent, math.nan))

    def samples(self) -> list[tuple[Floats, NDArray[np.int64] | None]]:
        """Values and strata at each grid point, for the intervals."""
        whole, strata = self.counts.all(axis=0).tolist(), self.strata
        if strata is None:
            columns = np.ascontiguousarray(self.last.T)
            return [(x if full else x[np.isfinite(x)], None) for x, full in zip(columns, whole, strict=True)]
        return [(x[some], strata[some]) for x, some in zip(self.last.T, self.counts.T, strict=True)]

    def curve(self, intervals: Iterator[stats.Interval], scale: str) -> Curve | None:
        if not len(self.cost):
            return None
        found = [(i.center, i.low, i.high) for i in islice(intervals, len(self.cost))]
        band = np.array(found, dtype=float)  # None becomes nan
        kept = self.kept
        if scale == "log":
            with np.errstate(over="ignore"):
                band, kept = 10.0**band, 10.0**kept
        center, low, high = band.T
        n = self.counts.sum(axis=0)
        medians = dict(zip(MEDIANS, self.medians, strict=True))
        return Curve(self.cost, **medians, center=center, low=low, high=high, kept=kept, n=n, runs=self.runs)


def _thin(grid: Floats, size: int) -> Floats:
    """At most `size` of the increasing values, the first and the last among them, evenly by rank."""
    return grid if len(grid) <= size else grid[np.round(np.linspace(0, len(grid) - 1, size)).astype(int)]


def _end(record: Record, last: float) -> float:
    """The cost up to which a run counts."""
    if record.get("status", "ok") == "ok":
        return math.inf
    return max(last, (record.get("forwards") or 0) + 2 * (record.get("backwards") or 0))


def _finite(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, math.nan)


def _best_so_far(values: Floats, better: str) -> Floats:
    return np.fmax.accumulate(values) if better == "higher" else np.fmin.accumulate(values)


def _medians(x: Floats) -> Floats:
    """Of finite values over the runs, the axis before the last; nan where there is none. (numpy's nanmedian is slow.)"""
    n = np.isfinite(x).sum(axis=-2, keepdims=True)
    x = np.sort(x, axis=-2)  # nan comes last
    low, high = (np.take_along_axis(x, np.maximum(place, 0), axis=-2) for place in ((n - 1) // 2, n // 2))
    return np.where(n > 0, (low + high) / 2, math.nan)[..., 0, :] if x.shape[-2] else np.empty((len(x), 0))


def _centers(x: Floats) -> Floats:
    """`stats.iqm` of the finite values of each column."""
    n = np.isfinite(x).sum(axis=0)
    place = np.arange(len(x))[:, None]
    inner = (place >= n // 4) & (place < n - n // 4)
    with np.errstate(over="ignore"):
        return np.where(inner, np.sort(x, axis=0), 0.0).sum(axis=0) / inner.sum(axis=0)


# ---- many rows ----


def pareto(costs: Sequence[float], scores: Sequence[float], better: str) -> list[int]:
    """Indices of the points that no other beats, cheapest first: none is as cheap and as good, and better in one.

    Equal points are all on the front; points that are not finite are not.
    """
    cost = np.asarray(costs, dtype=float)
    gain = np.asarray(scores, dtype=float) * (1 if better == "higher" else -1)
    candidates = np.flatnonzero(np.isfinite(cost) & np.isfinite(gain))
    order = candidates[np.lexsort((candidates, -gain[candidates], cost[candidates]))]
    front: list[int] = []
    for i in order:
        if not front or gain[i] > gain[front[-1]] or (gain[i] == gain[front[-1]] and cost[i] == cost[front[-1]]):
            front.append(int(i))
    return front


BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Iterable[float], scale: str = "linear", width: int = 12) -> str:
    """The values as blocks, lowest to highest, thinned to the width; a space where a value is not finite.

    >>> sparkline([1, 2, 3, 2])
    '▁▅█▅'
    """
    x = _thin(np.asarray(list(values), dtype=float), width)
    if scale == "log":
        x = np.log10(np.maximum(x, stats.FLOOR))
    known = x[np.isfinite(x)]
    if not len(known):
        return " " * len(x)
    low, span = known.min(), np.ptp(known)
    share = (x - low) / span if span else np.where(np.isfinite(x), 0.5, math.nan)
    return "".join(BLOCKS[min(int(s * 8), 7)] if math.isfinite(s) else " " for s in share)


# ---- problems, for profiles ----

Problem = tuple[int, int, int, str]  # place of the section, seed, data seed, instance


@dataclass(frozen=True, eq=False)
class Race:
    """What each optimizer spent to meet the target of each problem; a problem is a task with its seeds and instance."""

    optimizers: list[str]
    problems: list[Problem]
    targets: list[float]  # in units of the metric
    costs: Floats  # (optimizers, problems), in units of the axis; inf where the target was not met
    left_out: list[str]  # optimizers that lack a run on some problem


def race(sections: Sequence[Any], share: float = 0.1, axis: str = "forwards") -> Race:
    """Cost to target of every optimizer on every problem of the sections (tables.Section whose runs have points).

    axis: forwards | steps | time. The target is the convergence test of Moré and Wild (SIAM J. Optim. 20(1), 2009,
    eq. 2.2), f(x0) - f >= (1 - share) (f(x0) - f_L): f(x0) is the value at the start, f_L the best that any optimizer
    validated on the problem within its budget. On a log scale both differences are in decades. Reference lines neither
    race nor set f_L, for they know more than the optimizers do. Where nobody got beyond the start there is no problem.

    An optimizer goes by its name; where a section has several rows of it, the first runs (`summary.chosen_rows` chooses
    one on validation). Profiles over different problems say nothing, so every optimizer here has a run on every problem
    (a failed one at infinity): of the sections, those with the most optimizers are taken such that the table has the most
    entries, and the optimizers that lack a run in them are left out.
    """
    fields: dict[int, dict[str, dict[Problem, float]]] = {}
    targets: dict[Problem, float] = {}
    for place, section in enumerate(sections):
        found, goals = _field(place, section, share, axis)
        if goals:
            fields[place] = found
            targets |= goals
    chosen = _largest(fields, targets)
    problems = sorted(p for p in targets if p[0] in chosen)
    rows: dict[str, dict[Problem, float]] = {}
    for place in chosen:
        for name, spent in fields[place].items():
            rows.setdefault(name, {}).update(spent)
    full = sorted(name for name, spent in rows.items() if all(p in spent for p in problems))
    return Race(
        optimizers=full,
        problems=problems,
        targets=[targets[p] for p in problems],
        costs=np.array([[rows[name][p] for p in problems] for name in full]).reshape(len(full), len(problems)),
        left_out=sorted(rows.keys() - set(full)),
    )


def _field(
    place: int, section: Any, share: float, axis: str
) -> tuple[dict[str, dict[Problem, float]], dict[Problem, float]]:
    """(optimizer -> problem -> cost, problem -> target) of one section."""
    runs: dict[str, dict[Problem, Any]] = {}
    for row in section.rows:
        if not row.reference:
            runs.setdefault(row.optimizer, {(place, r.seed, r.data_seed, str(r.instance)): r for r in row.runs})
    problems = sorted({p for found in runs.values() for p in found})
    targets = {}
    for problem in problems:
        on_it = [found[problem] for found in runs.values() if problem in found]
        target = _target(section, on_it, share)
        if target is not None:
            targets[problem] = target
    spent: dict[str, dict[Problem, float]] = {}
    for name, found in runs.items():
        spent[name] = {}
        for problem, target in targets.items():
            run = found.get(problem)
            if run is None:
                continue
            cost = cost_to_target(_points_of(run), target, section.better, {"status": run.status})[AXES[axis]]
            if math.isfinite(cost) or run.status != "interrupted":  # a person stopped it: nobody knows
                spent[name][problem] = cost
    return spent, targets


def _points_of(run: Any) -> NDArray[Any]:
    return points({"points": run.points})


def _target(section: Any, runs: Sequence[Any], share: float) -> float | None:
    """The value that counts as solved; None where no run got beyond the start."""
    sign = 1.0 if section.better == "higher" else -1.0
    log = section.scale == "log"
    values = [p["value"][np.isfinite(p["value"])] for p in map(_points_of, runs)]
    values = [v for v in values if len(v)]
    start = _start(section, runs)
    if start is None or not values:
        return None
    best = sign * max(float((sign * v).max()) for v in values)
    if log:
        start, best = (math.log10(max(x, stats.FLOOR)) for x in (start, best))
    if not sign * best > sign * start:
        return None
    target = start + (1 - share) * (best - start)
    return 10**target if log else target


def _start(section: Any, runs: Sequence[Any]) -> float | None:
    """The value before the first step: validated there, or else zero-shot, or else the median of first validations."""
    lines = [run for row in section.rows if row.optimizer == "zero-shot" for run in row.runs]
    for among, at_start in ((runs, True), (lines, True), (runs, False)):
        first = [p[0] for p in map(_points_of, among) if len(p) and math.isfinite(p["value"][0])]
        first = [float(p["value"]) for p in first if p["forwards"] + 2 * p["backwards"] == 0 or not at_start]
        if first:
            return float(np.median(first))
    return None


def _largest(fields: dict[int, dict[str, Any]], targets: Mapping[Problem, float]) -> set[int]:
    """The sections with at least so many optimizers that (optimizers in all of them) x problems is largest."""
    best: tuple[tuple[int, int], set[int]] = ((0, 0), set())
    for least in sorted({len(found) for found in fields.values()}):
        chosen = {place for place, found in fields.items() if len(found) >= least}
        problems = [p for p in targets if p[0] in chosen]
        names = {name for place in chosen for name in fields[place]}
        full = sum(all(p in fields[p[0]].get(name, ()) for p in problems) for name in names)
        if full > 1:  # one alone has nobody to be compared with
            best = max(best, ((full * len(problems), len(problems)), chosen), key=lambda pair: pair[0])
    return best[1]
