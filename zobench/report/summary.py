"""A suite as one table: each optimizer over all tasks, and the best of them under each budget.

Over several tasks the score is the interquartile mean over tasks and runs, its interval a bootstrap stratified by task
(Agarwal et al. 2021, arXiv:2108.13264). What an optimizer did not run is shown as missing, and it is not ranked then.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zobench.record import json_text
from zobench.report import curves, stats
from zobench.report.stats import Interval, Sample
from zobench.report.tables import FIDELITY, PERCENT, Board, Row, Section, inside, option_text

SHARED = (
    "suite",
    "model",
    "revision",
    "adapter",
    "dtype",
    "budget",
    "batch_size",
    "score",
)  # by the tables of one summary
LIMITS = [m * 10**e for e in range(1, 9) for m in (1, 2, 5)]  # forward-equivalents at which the best is shown
COLUMNS = 6  # budgets in a table
PROFILE_LIMIT = 4.0  # times the least cost, as in AlgoPerf (Dahl et al., arXiv:2306.07179)


@dataclass(frozen=True)
class Standing:
    """One optimizer over the tasks of a suite; costs are medians over its tasks."""

    optimizer: str
    order: str | None  # first | zeroth | forward | hybrid
    rank: tuple[int, int] | None  # None: it lacks a task, or no run of a task gave a number
    score: Interval | None
    scores: list[Interval | None]  # by task; None: missing, or every run failed
    labels: list[str | None]  # of the row that stands for it, by task
    n: int
    missing: list[str]  # tasks
    forwards: float | None
    seconds: float | None
    memory_ratio: float | None
    state_ratio: float | None  # of the weights
    profile: float | None  # area under its performance profile, 0 to 1
    fidelity: dict[str, float]
    failures: dict[str, int]
    marks: list[str]


@dataclass(frozen=True)
class Summary:
    """The tasks of one suite under equal conditions; best first, then what is not ranked."""

    conditions: dict[str, Any]
    partial: bool
    metrics: list[str]
    better: str
    scale: str
    percent: bool
    tasks: list[str]
    standings: list[Standing]
    elsewhere: list[str]  # optimizers that ran fewer than half of the tasks


@dataclass(frozen=True)
class Best:
    """Who leads one task under growing budgets, by validation."""

    task: str
    budget: str  # of the runs
    leaders: dict[int, list[str]]  # forward-equivalents -> the best score, and who is not told apart from it
    of: int  # how many race


def summaries(board: Board) -> list[Summary]:
    """One for each suite, model and budget where at least two optimizers ran at least two tasks.

    They rank by the score: a board that ranks by a cost has none.
    """
    if board.view.rank_by != "accuracy":
        return []
    groups: dict[str, list[Section]] = {}
    for section in board.sections:
        groups.setdefault(json_text(_key(section)), []).append(section)
    found = [_summary(sections) for _, sections in sorted(groups.items())]
    return [summary for summary in found if summary is not None]


def _key(section: Section) -> list[Any]:
    kind = [section.metric in PERCENT, section.better, section.scale]
    return [section.partial, *([section.conditions[name] for name in SHARED]), kind]


def _summary(sections: list[Section]) -> Summary | None:
    chosen = [chosen_rows(section) for section in sections]
    kept = [i for i, rows in enumerate(chosen) if len(rows) > 1]  # a task with one optimizer compares nothing
    sections, chosen = [sections[i] for i in kept], [chosen[i] for i in kept]
    names = sorted({name for rows in chosen for name in rows})
    present = {name: sum(name in rows for rows in chosen) for name in names}
    shown = [name for name in names if 2 * present[name] >= len(sections)]
    if len(sections) < 2 or len(shown) < 2:
        return None
    first = sections[0]
    profiles = _profiles(sections, chosen, {name for name in shown if present[name] == len(sections)})
    standings = [_standing(name, sections, chosen, profiles.get(name)) for name in shown]
    return Summary(
        conditions={name: first.conditions[name] for name in SHARED},
        partial=first.partial,
        metrics=sorted({section.metric for section in sections}),
        better=first.better,
        scale=first.scale,
        percent=first.metric in PERCENT,
        tasks=names_of(sections),
        standings=_ranked(standings, sections, chosen),
        elsewhere=[name for name in names if name not in shown],
    )


def chosen_rows(section: Section) -> dict[str, Row]:
    """The row that stands for each optimizer: of several settings the one best on validation, never on test."""
    found: dict[str, Row] = {}
    for row in section.rows:
        if not row.reference:
            other = found.get(row.optimizer)
            if other is None or _validated(row, section.better) < _validated(other, section.better):
                found[row.optimizer] = row
    return found


def _validated(row: Row, better: str) -> tuple[Any, ...]:
    """Lower is better; settings with failed runs come last."""
    value = math.inf if row.validation is None else row.validation
    return row.n == 0, row.blamed, -value if better == "higher" else value, row.full_label


def task_name(section: Section) -> str:
    """The task with those options that differ from their defaults."""
    if section.task_label:
        return section.task_label
    options = ",".join(f"{k}={option_text(v)}" for k, v in sorted(section.task_options.items()))
    return section.conditions["task"] + (f"[{options}]" if options else "")


def names_of(sections: Sequence[Section]) -> list[str]:
    """One name for each; the same task on other data says which."""
    names = [task_name(section) for section in sections]
    return [
        f"{name} on {section.conditions['data'][-8:]}" if names.count(name) > 1 else name
        for name, section in zip(names, sections, strict=True)
    ]


def _standing(
    name: str, sections: Sequence[Section], chosen: Sequence[Mapping[str, Row]], profile: float | None
) -> Standing:
    rows = [table.get(name) for table in chosen]
    there = [row for row in rows if row is not None]
    failures: dict[str, int] = {}
    for row in there:
        for status, count in row.failures.items():
            failures[status] = failures.get(status, 0) + count
    missing = [task for task, row in zip(names_of(sections), rows, strict=True) if row is None]
    return Standing(
        optimizer=name,
        order=there[0].order,
        rank=None,
        score=_score(there, sections) if all(row is not None and row.n for row in rows) else None,
        scores=[row.score if row else None for row in rows],
        labels=[row.label if row else None for row in rows],
        n=sum(row.n for row in there),
        missing=missing,
        forwards=_median(row.forwards for row in there),
        seconds=_median(row.step_seconds for row in there),
        memory_ratio=_median(row.memory_ratio for row in there),
        state_ratio=_median(
            row.state_bytes / row.weight_bytes for row in there if row.weight_bytes and row.state_bytes is not None
        ),
        profile=profile,
        fidelity=_worst(there),
        failures=dict(sorted(failures.items())),
        marks=_marks(there, missing),
    )


def _score(rows: Sequence[Row], sections: Sequence[Section]) -> Interval | None:
    tasks = [[run.value for run in row.runs if run.value is not None] for row in rows]
    resolution = max(section.resolution for section in sections)
    return inside(stats.suite_interval(tasks, sections[0].scale, resolution), sections[0].metric)


def _marks(rows: Sequence[Row], missing: list[str]) -> list[str]:
    marks = [f"missing: {', '.join(missing)}"] if missing else []
    counted: dict[str, int] = {}
    for row in rows:
        for mark in row.marks:
            counted[mark] = counted.get(mark, 0) + 1
    edges = sum("edge" in mark for row in rows for mark in row.marks)
    marks += [f"{edges} tuned on the edge"] if edges else []
    return marks + [f"{mark} ({n} tasks)" if n > 1 else mark for mark, n in counted.items() if "edge" not in mark]


def _worst(rows: Sequence[Row]) -> dict[str, float]:
    far = {"probe_cosine": lambda x: -x, "update_gain": lambda x: abs(x - 1)}
    found = {}
    for name in FIDELITY:
        values = [row.fidelity[name] for row in rows if name in row.fidelity]
        if values:
            found[name] = max(values, key=far.get(name, lambda x: x))
    return found


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _ranked(
    standings: list[Standing], sections: Sequence[Section], chosen: Sequence[Mapping[str, Row]]
) -> list[Standing]:
    whole = [s for s in standings if s.score is not None]
    samples = [[table[s.optimizer].sample(lambda run: run.value) for table in chosen] for s in whole]
    better, scale = sections[0].better, sections[0].scale
    ranks = stats.suite_rank_intervals(samples, better, scale, max(section.resolution for section in sections))
    sign = -1 if better == "higher" else 1
    ranked = [replace(s, rank=rank) for s, rank in zip(whole, ranks, strict=True)]
    ranked.sort(key=lambda s: (sign * s.score.center if s.score else math.inf, s.optimizer))
    return ranked + sorted((s for s in standings if s.score is None), key=lambda s: (len(s.missing), s.optimizer))


def _profiles(sections: Sequence[Section], chosen: Sequence[Mapping[str, Row]], names: set[str]) -> dict[str, float]:
    """Area under the performance profile of those that ran everything; empty where the runs have no points."""
    kept = [[table[name] for name in sorted(names) if name in table] for table in chosen]
    if not names or any(run.points is None for rows in kept for row in rows for run in row.runs):
        return {}
    race = curves.race([replace(section, rows=rows) for section, rows in zip(sections, kept, strict=True)])
    areas = stats.profile_area(race.costs, PROFILE_LIMIT) if race.costs.size else []
    return {name: float(area) for name, area in zip(race.optimizers, areas, strict=True)}


# ---- the best under each budget ----


def best(board: Board) -> list[Best]:
    """Who leads each task within 100, 200, 500 ... forward-equivalents; of sections whose runs have their points."""
    found = []
    for section in board.sections:
        rows = [row for row in section.rows if not row.reference and row.n]
        pointed = all(run.points is not None for row in rows for run in row.runs)
        if len(rows) > 1 and pointed and max(row.n for row in rows) > 1:  # single runs cannot be told apart
            found.append(_best(section, rows))
    return found


def _best(section: Section, rows: Sequence[Row]) -> Best:
    limits = _limits(rows)
    within = {
        run.cell: curves.values_within(run.points, limits, section.better, section.select)
        for row in rows
        for run in row.runs
    }
    samples = [[row.sample(lambda run, i=i: within[run.cell][i]) for row in rows] for i in range(len(limits))]
    leaders = {limit: _leaders(rows, sample, section) for limit, sample in zip(limits, samples, strict=True)}
    return Best(task_name(section), section.conditions["budget"], leaders, len(rows))


def _scale(values: list[float], scale: str) -> list[float]:
    return [math.log10(max(v, stats.FLOOR)) for v in values] if scale == "log" else values


def _limits(rows: Sequence[Row]) -> list[int]:
    costs = [curves.costs(run.points) for row in rows for run in row.runs if run.points is not None and len(run.points)]
    if not any(c[-1] > 0 for c in costs):
        return []
    first, last = statistics.median(c[c > 0][0] for c in costs if c[-1] > 0), max(c[-1] for c in costs)
    inside = [limit for limit in LIMITS if first <= limit < 0.9 * last]
    return [*inside[-(COLUMNS - 1) :], int(last)]


def _leaders(rows: Sequence[Row], samples: Sequence[Sample], section: Section) -> list[str]:
    there = [(row, sample) for row, sample in zip(rows, samples, strict=True) if sample.values]
    if not there:
        return []
    sign = -1 if section.better == "higher" else 1
    center = [sign * stats.iqm(_scale(list(sample.values.values()), section.scale)) for _, sample in there]
    order = sorted(range(len(there)), key=lambda i: (center[i], there[i][0].label))
    tested = [sample for _, sample in there]
    apart = stats.apart_from(tested, order[0], section.better, section.scale, section.resolution)
    names = Counter(row.optimizer for row in rows)
    first = [there[i][0] for i in order if apart[i] <= 0]
    return [row.optimizer if names[row.optimizer] == 1 else row.label for row in first]
