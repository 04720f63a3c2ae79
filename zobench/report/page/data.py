"""The board as the page's JSON: columns instead of objects, repeated texts and axes once, six significant digits.

The page's script reads it in js/data.js, which is the other half of this file.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from zobench.record import json_text
from zobench.report import palette, stats
from zobench.report.claimed import Claim, Claims, Group
from zobench.report.claimed_text import RULES as CLAIMED_RULES
from zobench.report.curves import Curve, race
from zobench.report.figures import suites
from zobench.report.summary import SHARED, Standing, Summary, chosen_rows, names_of
from zobench.report.tables import PERCENT, Board, Row, Run, Section
from zobench.report.text import BETTER, NONE, RULES, SUITES, TINY, clean, facts, title
from zobench.report.text import fidelity as fidelity_text

CELL = 16  # characters: `zobench replay` finds a run by the beginning of its cell
DIGITS = 6  # three more than are printed, so that a number is rounded once
CURVE_DIGITS = 4
DECADE = 1000  # levels of a curve on a log scale per decade: 0.23 %
CURVE_NUMBERS = 200_000  # of all curves together; above it they are thinned, because the page has to stay small
FEWEST_POINTS = 12
STRAIGHT = 0.01  # seconds that follow the cost this closely (of the total) are stored as their ends
RATIOS = 48  # points of a performance profile
READ_OFF = (1.0, 2.0, 4.0, 10.0, 100.0)  # those in the table beside it
LONGEST = 400  # characters of a text that names or explains

# Columns of a row that are plain numbers: name in the JSON -> field of tables.Row.
NUMBERS = {
    "n": "n",
    "forwards": "forwards",
    "backwards": "backwards",
    "ms": "ms_per_step",
    "seconds": "step_seconds",
    "total": "total_seconds",
    "ratio": "memory_ratio",
    "peak": "peak_bytes",
    "process": "process_bytes",
    "state": "state_bytes",
    "flops": "flops",
    "joules": "energy_joules",
    "trials": "trials",
}


def payload(board: Board, claims: Claims | None = None, summaries: Sequence[Summary] | None = None) -> dict[str, Any]:
    """Everything that the page shows, as values for `embedded`."""
    texts, axes = Pool(), Pool()
    points = _points_each(board)
    sections = [_section(section, board, texts, axes, points) for section in board.sections]
    profiles = _profiles(board, texts)
    return {
        "rules": RULES.split("\n\n"),
        "better": BETTER,
        "suites": SUITES,
        "ranked_by": board.view.rank_by,
        "budget": None if board.view.budget is None else str(board.view.budget),
        "sections": sections,
        "profiles": [profile for _, profile in profiles],
        "summaries": _summaries(summaries or (), board, [group for group, _ in profiles], texts),
        "styles": _styles(board, texts),
        "palette": [palette.LIGHT, palette.DARK, palette.DASHES],
        "floor": stats.FLOOR,
        "claims": None if claims is None else _claims(claims, texts),
        "superseded": board.superseded,
        "problems": [[clean(problem.path), clean(problem.why)] for problem in board.problems],
        "texts": texts.items,
        "axes": axes.items,
    }


def embedded(values: dict[str, Any]) -> str:
    """JSON that may stand inside a script element: no character in it can end the element or begin markup."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)  # ASCII: U+2028 and U+2029 are escaped with it
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


class Pool:
    """Values that repeat, each stored once and named by its place."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        key = value if isinstance(value, str) else json_text(value)
        if key not in self._places:
            self._places[key] = len(self.items)
            self.items.append(value)
        return self._places[key]

    def text(self, value: object | None) -> int | None:
        """The place of a text, in one line without characters that reorder or hide; None stays None."""
        if value is None:
            return None
        text = clean(value)
        return self.place(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


# ---- sections and rows ----


def _section(section: Section, board: Board, texts: Pool, axes: Pool, points: int) -> dict[str, Any]:
    c = section.conditions
    main, *rest = title(section)
    return {
        "id": section_id(section),
        "suite": texts.text(c["suite"] or "no suite"),
        "task": texts.text(section.task_label or main.rpartition(" / ")[2]),
        "about": texts.text(" · ".join(rest)),
        "facts": [texts.text(fact) for fact in facts(section, board)],
        "metric": texts.text(section.metric),
        "percent": section.metric in PERCENT and section.scale != "log",
        "higher": section.better == "higher",
        "log": section.scale == "log",
        "partial": section.partial,
        "rows": _rows(section, texts),
        "curves": _curves(section, axes, points),
        "runs": [_runs(row.runs, texts) for row in section.rows],
    }


def section_id(section: Section) -> str:
    """The section's name in an address: readable, and the same whatever else is on the board."""
    conditions = json_text([section.conditions, section.task_options, section.partial, section.metric])
    name = re.sub(r"[^a-z0-9]+", "-", str(section.conditions["task"]).lower()).strip("-")[:40]
    return f"{name}-{hashlib.sha256(conditions.encode()).hexdigest()[:8]}"


def _rows(section: Section, texts: Pool) -> dict[str, Any]:
    """One list per column, or one value where all rows have the same number or text; a column that no row has is left out."""
    rows = section.rows
    columns: dict[str, list[Any]] = {
        "label": [texts.text(row.label) for row in rows],
        "full": [texts.text(row.full_label) for row in rows],
        "optimizer": [texts.text(row.optimizer) for row in rows],
        "order": [texts.text(row.order) for row in rows],
        "rank": [list(row.rank) if row.rank else None for row in rows],
        "score": [_interval(row.score) for row in rows],
        "spent": [_spent(row.spent) for row in rows],
        "mode": [texts.text(row.probe_mode) for row in rows],
        "fidelity": [{k: digits(v, 4) for k, v in row.fidelity.items()} or None for row in rows],
        "exactness": [_exactness(row.fidelity, texts) for row in rows],
        "hitting": [{k: digits(v) for k, v in row.hitting.items()} or None for row in rows],
        "cost": [_cost(row) for row in rows],
        "reference": [1 if row.reference else None for row in rows],
        "failures": [{clean(k): v for k, v in row.failures.items()} or None for row in rows],
        "marks": [[texts.text(mark) for mark in row.marks] or None for row in rows],
    }
    columns |= {name: [digits(getattr(row, field)) for row in rows] for name, field in NUMBERS.items()}
    there = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    return {name: values if isinstance(values[0], list | dict) else _same(values) for name, values in there.items()}


def _cost(row: Row) -> float | None:
    """Forward-equivalents where they are not `forwards + 2 backwards`: the median of a sum need not be the sum of medians."""
    sum_of_medians = None if row.forwards is None else row.forwards + 2 * (row.backwards or 0)
    return None if row.cost == sum_of_medians else digits(row.cost)


def _interval(interval: stats.Interval | None) -> list[Any] | None:
    """[center], or [center, low, high]; null where it is not finite."""
    if interval is None:
        return None
    found = [digits(x) for x in (interval.center, interval.low, interval.high)]
    return found[:1] if found[1:] == [None, None] else found


def _exactness(found: dict[str, float], texts: Pool) -> int | None:
    """Fidelity in few words."""
    words = fidelity_text(found)
    return None if words == NONE else texts.text(words)


def _spent(spent: float | None) -> float | str | None:
    if spent is not None and spent <= TINY:
        return 0
    return "never" if spent is not None and math.isinf(spent) else digits(spent)


def _runs(runs: Sequence[Run], texts: Pool) -> list[Any]:
    """[cells, seeds, data seeds, values, statuses, replay classes, reasons, instances]: each is one list, or one value
    where all runs have the same; the cells are one text, and what is unknown at the end is left out.
    """
    found = [
        " ".join(re.sub(r"[^0-9A-Za-z]", "", run.cell)[:CELL] for run in runs),
        _same([run.seed for run in runs]),
        _same([run.data_seed for run in runs]),
        _same([digits(run.value) for run in runs]),
        _same([texts.text(run.status) for run in runs]),
        _same([texts.text(run.replay_class) for run in runs]),
        _same([texts.text(run.reason) for run in runs]),
        _same([texts.text(run.instance) for run in runs]),
    ]
    while found[-1] is None:
        found.pop()
    return found


def _same(values: list[Any]) -> Any:
    return values[0] if len({repr(value) for value in values}) == 1 else values


def digits(x: float | None, keep: int = DIGITS) -> float | int | None:
    """The number with so many significant digits, whole where it is; None where it is not finite.

    >>> digits(0.12345678), digits(12345678.0), digits(2.0), digits(float("inf"))
    (0.123457, 12345700, 2, None)
    """
    if x is None or not math.isfinite(x):
        return None
    short = float(f"{x:.{keep - 1}e}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short


# ---- curves ----


def _points_each(board: Board) -> int:
    """Points that a curve may have, so that all together stay near CURVE_NUMBERS numbers."""
    found = [row.curve for section in board.sections for row in section.rows if row.curve is not None]
    longest = max((len(curve.cost) for curve in found), default=0)
    numbers = sum(_numbers(curve) for curve in found)
    if numbers <= CURVE_NUMBERS:
        return max(longest, 2)
    return max(FEWEST_POINTS, int(longest * CURVE_NUMBERS / numbers))


def _numbers(curve: Curve) -> int:
    """How many numbers have to be written for it; cost and steps are shared by most."""
    band = 2 if np.isfinite(curve.low).any() else 0
    clock = 0 if _straight(curve.cost, curve.seconds) else 1
    kept = 0 if np.array_equal(curve.kept, curve.center, equal_nan=True) else 1
    return len(curve.cost) * (1 + band + clock + kept)


def _curves(section: Section, axes: Pool, points: int) -> dict[str, Any]:
    """`unit` of the levels (null: thousandths of a decade) and one curve or null per row."""
    log = section.scale == "log"
    unit = None if log else _unit(row.curve.center for row in section.rows if row.curve is not None)
    return {"unit": unit, "rows": [_curve(row, unit, axes, points) for row in section.rows]}


def _unit(arrays: Iterable[np.ndarray]) -> float:
    """The step of a linear scale: a ten-thousandth of the largest value's decade; outliers do not count."""
    sizes = np.concatenate([[0.0], *[np.abs(array[np.isfinite(array)]) for array in arrays]])
    typical = float(np.quantile(sizes, 0.9)) or float(sizes.max()) or 1.0
    return float(f"1e{math.floor(math.log10(typical)) - CURVE_DIGITS + 1}")


def _curve(row: Row, unit: float | None, axes: Pool, points: int) -> list[Any] | None:
    """[cost, steps, seconds, flops, joules, center, below, above, n] and kept.

    cost and steps name an axis of the pool; seconds is a list, or its ends where they follow the cost; flops and joules
    are the last value, because they are shares by cost; center is a list of differences of levels; below and above are
    the distances from it to the ends of the interval, in levels; kept is how far what the runs would have ended with lies
    from center, left out where nowhere.
    """
    if row.curve is None or not len(row.curve.cost):
        return None
    thin = thinned(len(row.curve.cost), points)
    curve = row.curve
    cost, seconds = curve.cost[thin], curve.seconds[thin]
    arrays = (curve.center, curve.low, curve.high, curve.kept)
    center, low, high, kept = (_levels(array[thin], unit) for array in arrays)
    farther = _distances(kept, center)
    return [
        axes.place(_differences([round(float(x)) for x in cost])),
        axes.place(_differences([round(float(x)) for x in curve.steps[thin]])) if _known(curve.steps[thin]) else None,
        _clock(cost, seconds),
        digits(float(curve.flops[-1]), CURVE_DIGITS),
        digits(float(curve.joules[-1]), CURVE_DIGITS),
        _differences(center),
        _distances(center, low),
        _distances(high, center),
        _same([int(x) for x in curve.n[thin]]),
        *([farther] if farther and any(farther) else []),
    ]


def thinned(length: int, points: int) -> np.ndarray:
    """At most `points` of 0 .. length - 1, evenly, the first and the last among them."""
    return np.unique(np.round(np.linspace(0, length - 1, min(length, points))).astype(int))


def _known(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())


def _clock(cost: np.ndarray, seconds: np.ndarray) -> list[Any] | None:
    if not _known(seconds):
        return None
    if _straight(cost, seconds) and len(cost) > 2:
        return [digits(float(seconds[0]), CURVE_DIGITS), digits(float(seconds[-1]), CURVE_DIGITS)]
    return [digits(float(x), 3) for x in seconds]


def _straight(cost: np.ndarray, seconds: np.ndarray) -> bool:
    """Whether the seconds lie on the line between their ends, as near as can be seen in a plot."""
    if not _known(seconds) or len(cost) < 2 or cost[-1] <= cost[0]:
        return True
    line = np.interp(cost, [cost[0], cost[-1]], [seconds[0], seconds[-1]])
    return bool(np.abs(seconds - line).max() <= STRAIGHT * max(abs(seconds[-1]), 1e-12))


def _levels(values: np.ndarray, unit: float | None) -> list[int | None]:
    """Whole numbers on the section's scale; None where there is no number, or one too large to be drawn."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scaled = DECADE * np.log10(np.maximum(values, stats.FLOOR)) if unit is None else values / unit
    return [round(float(x)) if math.isfinite(x) and abs(x) < 1e12 else None for x in scaled]


def _differences(levels: Sequence[int | None]) -> list[int | None]:
    """Each level less the last known one; the first as it is."""
    found, last = [], 0
    for level in levels:
        found.append(None if level is None else level - last)
        last = last if level is None else level
    return found


def _distances(upper: Sequence[int | None], lower: Sequence[int | None]) -> list[int | None] | None:
    found = [None if a is None or b is None else a - b for a, b in zip(upper, lower, strict=True)]
    return found if any(x is not None for x in found) else None


# ---- performance profiles ----


def _profiles(board: Board, texts: Pool) -> list[tuple[list[Any], dict[str, Any]]]:
    """(what its tables share, the profile): for each optimizer the share of problems that it solved within a factor of
    the cheapest optimizer's cost. The groups and their rows are those of the figures.
    """
    found = []
    for _, sections in suites(board):
        if all(run.points is not None for section in sections for row in section.rows for run in row.runs):
            profile = _profile(sections, texts)
            found += [] if profile is None else [(_shared(sections[0].conditions, sections[0].partial), profile)]
    return found


def _shared(conditions: dict[str, Any], partial: bool) -> list[Any]:
    return [partial, *(conditions[name] for name in SHARED)]


def _profile(sections: list[Section], texts: Pool) -> dict[str, Any] | None:
    race_ = race(sections)
    if len(race_.optimizers) < 2 or not race_.problems:
        return None
    cheapest = race_.costs.min(axis=0)
    ratios = race_.costs[:, np.isfinite(cheapest)] / np.maximum(cheapest[np.isfinite(cheapest)], 1.0)
    slowest = max(2.0, float(np.max(ratios, where=np.isfinite(ratios), initial=2.0)))
    taus = np.unique([*np.geomspace(1.0, 1.1 * slowest, RATIOS), slowest, *(t for t in READ_OFF if t < slowest)])
    shares = stats.performance_profile(race_.costs, taus)
    order = sorted(range(len(race_.optimizers)), key=lambda i: (-float(np.mean(shares[i])), race_.optimizers[i]))
    c = sections[0].conditions
    return {
        "suite": texts.text(c["suite"] or "no suite"),
        "about": texts.text(_about(c, sections[0].partial)),
        "tasks": len({problem[0] for problem in race_.problems}),
        "problems": len(race_.problems),
        "taus": [digits(float(t)) for t in taus],
        "names": [texts.text(race_.optimizers[i]) for i in order],
        "shares": [[digits(float(s), 3) for s in shares[i]] for i in order],
        "left_out": len(race_.left_out),
    }


# ---- colours ----


def _styles(board: Board, texts: Pool) -> dict[str, list[int]]:
    """Place of an optimizer's name -> places of its own colour and dashes in the palette, and its `palette.priority`."""
    names = sorted({row.optimizer for section in board.sections for row in section.rows})
    return {
        str(texts.text(name)): [
            palette.LIGHT.index(palette.colour(name)),
            palette.DASHES.index(palette.dash(name)),
            palette.priority(name),
        ]
        for name in names
    }


# ---- summaries ----


def _summaries(
    summaries: Sequence[Summary], board: Board, groups: Sequence[list[Any]], texts: Pool
) -> list[dict[str, Any]]:
    """groups: what the tables of each profile share. A profile stands below the last summary of its tables."""
    found = [_summary(summary, board, texts) for summary in summaries]
    shared = [_shared(summary.conditions, summary.partial) for summary in summaries]
    for i, mine in enumerate(shared):
        found[i]["profile"] = groups.index(mine) if mine in groups and mine not in shared[i + 1 :] else None
    return found


def _summary(summary: Summary, board: Board, texts: Pool) -> dict[str, Any]:
    ids = _tables(summary, board)
    return {
        "suite": texts.text(summary.conditions["suite"] or "no suite"),
        "about": texts.text(_about(summary.conditions, summary.partial)),
        "metrics": texts.text(", ".join(summary.metrics)),
        "higher": summary.better == "higher",
        "log": summary.scale == "log",
        "percent": summary.percent and summary.scale != "log",
        "tasks": [[texts.text(task), ids.get(task)] for task in summary.tasks],
        "elsewhere": [texts.text(name) for name in summary.elsewhere],
        "rows": [_standing(standing, texts) for standing in summary.standings],
    }


def _tables(summary: Summary, board: Board) -> dict[str, str]:
    """Task of the summary, as it names it -> its table's place in the address."""
    shared = _shared(summary.conditions, summary.partial)
    kind = (summary.percent, summary.better, summary.scale)
    own = [
        section
        for section in board.sections
        if _shared(section.conditions, section.partial) == shared
        and (section.metric in PERCENT, section.better, section.scale) == kind
        and len(chosen_rows(section)) > 1
    ]
    return dict(zip(names_of(own), map(section_id, own), strict=True))


def _about(conditions: dict[str, Any], partial: bool) -> str:
    """What the tables of a summary or profile share, besides the suite."""
    c = conditions
    model = f"{c['model']}@{c['revision'][:12]}" if c["model"] and c["revision"] else c["model"]
    adapter = c["adapter"] if c["adapter"] != "none" else None
    parts = [model, adapter, c["dtype"], c["budget"], f"batch {c['batch_size']}", f"{c['score']} score"]
    return " · ".join([*(part for part in parts if part), *(["PARTIAL DATA"] if partial else [])])


def _standing(standing: Standing, texts: Pool) -> dict[str, Any]:
    return {
        "optimizer": texts.text(standing.optimizer),
        "order": texts.text(standing.order),
        "rank": list(standing.rank) if standing.rank else None,
        "score": _interval(standing.score),
        "scores": [_interval(score) for score in standing.scores],
        "labels": [texts.text(label) for label in standing.labels],
        "n": standing.n,
        "missing": len(standing.missing),
        "forwards": digits(standing.forwards),
        "seconds": digits(standing.seconds),
        "ratio": digits(standing.memory_ratio),
        "state": digits(standing.state_ratio),
        "profile": digits(standing.profile),
        "exactness": _exactness(standing.fidelity, texts),
        "failures": {clean(k): v for k, v in standing.failures.items()} or None,
        "marks": [texts.text(mark) for mark in standing.marks] or None,
    }


# ---- claimed and reproduced ----


def _claims(claims: Claims, texts: Pool) -> dict[str, Any]:
    return {
        "rules": CLAIMED_RULES.replace("Read the numbered note", "Open its row and read the note"),
        "unmatched": [claims.unmatched_runs, claims.unmatched_groups],
        "groups": [_group(group, texts) for group in claims.groups],
        "problems": [[clean(problem.path), clean(problem.why)] for problem in claims.problems],
    }


def _group(group: Group, texts: Pool) -> dict[str, Any]:
    return {
        "task": texts.text(group.task),
        "model": texts.text(group.model),
        "optimizer": texts.text(group.optimizer),
        "adapter": texts.text(group.adapter),
        "partial": group.partial,
        "protocol": texts.text("; ".join(group.protocol)),
        "failures": {clean(k): v for k, v in group.failures.items()},
        "cells": [re.sub(r"[^0-9A-Za-z]", "", cell)[:CELL] for cell in group.cells],
        "claims": [_claim(claim, texts) for claim in group.claims],
    }


def _claim(claim: Claim, texts: Pool) -> dict[str, Any]:
    row = claim.published
    join: Callable[[Sequence[str]], int | None] = lambda parts: texts.text("; ".join(parts)) if parts else None  # noqa: E731
    return {
        "metric": texts.text(claim.metric),
        "ours": _interval(claim.ours),
        "n": claim.n,
        "published": digits(row.value),
        "printed": texts.text(row.printed + ("?" if row.off_grid else "")),
        "std": digits(row.std),
        "difference": digits(claim.difference),
        "source": texts.text(", ".join(part for part in (f"{row.source} {row.arxiv}".strip(), row.table) if part)),
        "quality": texts.text(row.source_quality),
        "method": texts.text(f"{row.method}, {row.peft}"),
        "differences": join(claim.differences),
        "unknown": join(claim.unknown),
        "note": texts.text(row.note) if row.note else None,
    }
