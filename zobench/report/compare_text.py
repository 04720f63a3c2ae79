"""`zobench compare` on a terminal and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zobench.report.compare import FEWEST_TASKS, MARGINS, Alone, Compared, Line, Overall, kind_of
from zobench.report.leaderboard import code, escape
from zobench.report.stats import Interval
from zobench.report.text import NONE, clean, number, score

HEADERS = (
    *("task", "conditions", "row", "A is", "B is", "n", "A", "B", "A - B", "effect", "P(A better)", "p", "verdict"),
    *("forwards ×", "ms/step ×", "memory ×", "state ×", "FLOPs ×", "notes"),
)
LEFT = ("task", "conditions", "row", "A is", "B is", "verdict", "notes")
# Left out in this order where they do not fit.
DISPENSABLE = (
    *(
        ("notes",),
        ("conditions",),
        ("FLOPs ×",),
        ("state ×",),
        ("A is", "B is"),
        ("row",),
        ("P(A better)",),
        ("effect",),
    ),
    *(("memory ×",), ("ms/step ×",), ("forwards ×",), ("n",), ("p",), ("A", "B")),
)
SHORT = ("A", "B", "P(A better)")  # whose intervals go before any column does
RATIOS = {
    "forwards ×": "cost",
    "ms/step ×": "ms_per_step",
    "memory ×": "peak_bytes",
    "state ×": "state_bytes",
    "FLOPs ×": "flops",
}
STYLES = {"better": "green", "worse": "red", "undecided": "yellow", "same": "", "same run": "dim"}
MOST = 10  # rows without a counterpart that a terminal lists
TINY = 1e-4  # what is below is not told apart from 0
FAILED = 60  # lines about failed runs that a terminal prints

LEGEND = (
    "A, B: means of the n runs compared; A - B: the difference of these means, on a log scale their ratio; intervals of "
    "Student's t; p after Holm's correction; seeds needed a side"
)

RULES = f"""\
A against B, under equal conditions. A and B are the means of the n runs (or pairs) that are compared, geometric ones where the
scale is log; the leaderboard has interquartile means of all runs. A - B is the difference of these means (their ratio A / B
where the scale is log), and all three have Student's t intervals. Positive effects (Hedges' g, or d_z of pairs) are in A's
favour. P(A better) is the chance that a run of A is better than one of B. Of the same row of two stores or commits, runs of
the same cell are compared as pairs; runs that both sides hold are no evidence, and left out. p is two-sided, after Holm's
correction for all lines.

A is better or worse where p is below alpha; the same where the whole interval of the difference lies within the smallest
difference that matters ({MARGINS["points"]:g} point of an accuracy, a factor of {MARGINS["factor"]:g} on a log scale, \
{100 * MARGINS["relative"]:g} % of any other metric, unless --margin
says otherwise), or where the same cells gave the same numbers to the bit; and else undecided, with the seeds a side that would
decide it if what is seen were true (power 0.8). A side with failed runs is never better; one of which every run failed is
worse than one without failures. Costs are A / B: forwards (a backward counts 2), time in a step (on one class of hardware
only), peak memory, optimizer state, FLOPs."""


def show(found: Compared, console: Console) -> None:
    """Print the lines, the totals, what is on one side alone; a narrow terminal gets the columns that matter most."""
    for name, side in (("A", found.a), ("B", found.b)):
        console.print(Text(clean(f"{name}: {side.says}, {_count(len(side.records), 'run')}"), style="bold"))
    common, headers, rows = _table(found)
    for line in (" · ".join(common), LEGEND):
        console.print(Text(clean(line), style="dim")) if line else None
    console.print()
    if rows:
        headers, rows = _fitting(headers, rows, console.width)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for name in headers:
            left = name in LEFT
            table.add_column(Text(name), justify="left" if left else "right", overflow="fold", no_wrap=not left)
        for row, line in zip(rows, _shown(found), strict=True):
            style = STYLES[line.verdict]
            table.add_row(*(Text(clean(row[name]), style=style if name == "verdict" else "") for name in headers))
        console.print(table)
    failed = _failed(found)
    for line in failed[:FAILED]:
        console.print(Text(clean(line), style="red"))
    if len(failed) > FAILED:
        console.print(Text(f"and {len(failed) - FAILED} more with failed runs: -o FILE.md has all", style="dim"))
    for i, sentence in enumerate(_sentences(found)):
        console.print(Text(clean(sentence), style="bold" if i == 0 else ""))
    for name, alone in zip("AB", found.alone, strict=True):
        if alone:
            console.print(Text(_only(name, alone)))
        for one in alone[:MOST]:
            console.print(Text(f"  {clean(_alone(one))}, {_count(len(one.cells), 'run')}", style="dim"))
        if len(alone) > MOST:
            console.print(Text(f"  and {_count(len(alone) - MOST, 'row')} more: -o FILE.md has all", style="dim"))


def markdown(found: Compared) -> str:
    """A page; every text that comes from results is escaped."""
    lines = ["# Comparison", "", "<!-- generated by `zobench compare` -->", "", RULES, ""]
    lines += [f"- {n}: {escape(s.says)}, {_count(len(s.records), 'run')}" for n, s in (("A", found.a), ("B", found.b))]
    common, headers, rows = _table(found)
    lines += ["", f"{escape(' · '.join(common))}." if common else "", ""]
    if rows:
        lines += [_row(headers), _row("---" if name in LEFT else "---:" for name in headers)]
        lines += [_row(_cell(name, row[name]) for name in headers) for row in rows]
        lines += [""]
    failed = [f"- {escape(line)}" for line in _failed(found)]
    lines += [*failed, ""] if failed else []
    lines += [line for sentence in _sentences(found) for line in (escape(sentence), "")]
    for name, alone in zip("AB", found.alone, strict=True):
        cells = [f"- {escape(_alone(one))}: {', '.join(code(cell) for cell in one.cells)}" for one in alone]
        lines += [_only(name, alone), "", *cells, ""] if alone else []
    return "\n".join(lines)


def _cell(name: str, text: str) -> str:
    return code(text) if name in ("row", "A is", "B is") else escape(text)


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


# ---- the table ----


def _shown(found: Compared) -> list[Line]:
    """Runs that are on both sides say nothing: JSON has those lines, a reader is told how many there are."""
    return [line for line in found.shown if line.verdict != "same run"]


def _table(found: Compared) -> tuple[list[str], list[str], list[dict[str, str]]]:
    """What all lines share, the headers of columns that say something, and the cells."""
    lines = _shown(found)
    if not lines:
        return [], [], []
    shared = [part for part in lines[0].where if all(part in line.where for line in lines)] if len(lines) > 1 else []
    notes = [n for n in lines[0].notes if all(n in line.notes for line in lines)] if len(lines) > 1 else []
    rows = [_cells(line, found, shared, notes) for line in lines]
    unneeded = {"row"} if found.a.kind == "optimizer" else {"A is", "B is"}
    headers = [h for h in HEADERS if h not in unneeded and any(row[h] not in ("", NONE) for row in rows)]
    metrics = sorted({_metric(line) for line in lines})
    return [*shared, *(metrics if len(metrics) == 1 else []), *notes], headers, rows


def _cells(line: Line, found: Compared, shared: list[str], notes: list[str]) -> dict[str, str]:
    one_metric = len({_metric(other) for other in _shown(found)}) == 1
    telling = _telling(line, found)
    conditions = [part for part in line.where if part not in shared + telling] + ([] if one_metric else [_metric(line)])
    return {
        "task": ", ".join([line.task, *telling]),
        "conditions": " · ".join(conditions),
        "row": line.rows[0],
        "A is": line.rows[0],
        "B is": line.rows[1],
        "n": _compared(line),
        "A": score(line.scores[0], line.metric, line.scale),
        "B": score(line.scores[1], line.metric, line.scale),
        "A - B": difference(line),
        "effect": NONE if line.effect is None else f"{line.effect:+.2f}",
        "P(A better)": _chance(line.superiority),
        "p": p_text(line.p_adjusted),
        "verdict": line.verdict + (f" ({line.seeds_needed} seeds)" if line.seeds_needed else ""),
        **{header: ratio(line.costs[name][2]) for header, name in RATIOS.items()},
        "notes": "; ".join(note for note in line.notes if note not in notes),
    }


def _telling(line: Line, found: Compared) -> list[str]:
    """The conditions that tell the line from others of its task."""
    kin = [other.where for other in _shown(found) if (other.task, other.where[:1]) == (line.task, line.where[:1])]
    return [part for part in line.where if any(part not in where for where in kin)]


def _compared(line: Line) -> str:
    a, b = line.compared
    return f"{a} pairs" if line.paired and a > 1 else str(a) if a == b else f"{a} / {b}"


def _failed(found: Compared) -> list[str]:
    """A line for each row with runs that gave no number, by side."""
    return [
        f"failed: {name}, {line.rows[i]} on {', '.join([line.task, *_telling(line, found)])}: {line.failures[i]}"
        for line in _shown(found)
        for i, name in enumerate("AB")
        if line.failures[i]
    ]


def _metric(line: Line) -> str:
    return f"{line.metric}, {line.better} is better" + (", log scale" if line.scale == "log" else "")


def difference(line: Line) -> str:
    """In points, as a factor, or in units of the metric; with its interval."""
    if line.difference is None:
        return NONE
    kind = kind_of(line.metric, line.scale)

    def one(x: float) -> str:
        if kind == "factor":
            return f"×{_factor(x)}"
        return f"{100 * x:+.1f}" if kind == "points" else f"{x:+.3g}"

    d = line.difference
    return one(d.center) + ("" if d.low is None or d.high is None else f" [{one(d.low)}, {one(d.high)}]")


def _factor(decades: float) -> str:
    if abs(decades) > 300:
        return "0" if decades < 0 else "∞"
    return f"{10**decades:.1e}" if abs(decades) >= 3 else f"{10**decades:.3g}"


def _chance(interval: Interval | None) -> str:
    if interval is None or (interval.low == 0 and interval.high == 1):  # single runs say nothing
        return NONE
    if interval.low is None or interval.high is None:
        return f"{interval.center:.2f}"
    return f"{interval.center:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def p_text(p: float | None) -> str:
    if p is None:
        return NONE
    return "<1e-4" if p < TINY else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def ratio(x: float | None) -> str:
    return NONE if x is None else "∞" if math.isinf(x) else number(x)


def _fitting(headers: list[str], rows: list[dict[str, str]], width: int) -> tuple[list[str], list[dict[str, str]]]:
    """What fits: without the intervals of SHORT first, then without what matters least."""
    if _needs(headers, rows) > width:
        rows = [row | {name: row[name].partition(" [")[0] for name in SHORT} for row in rows]
    for names in DISPENSABLE:
        if _needs(headers, rows) <= width:
            break
        if names != ("row",) or len({row["row"] for row in rows}) == 1:  # lines that only the row tells apart
            headers = [h for h in headers if h not in names]
    return headers, rows


def _needs(headers: Iterable[str], rows: list[dict[str, str]]) -> int:
    """Columns of text are folded, so that they take no more than 30."""
    return sum(2 + max(len(h), *(_folded(h, row) for row in rows)) for h in headers)


def _folded(header: str, row: Mapping[str, str]) -> int:
    return min(len(row[header]), 30) if header in LEFT else len(row[header])


# ---- sentences ----


def _sentences(found: Compared) -> list[str]:
    spoken = {"better": "better", "same": "the same", "worse": "worse"}
    totals = ", ".join(f"{spoken[name]} on {n}" for name, n in found.totals.items() if n and name in spoken)
    rest = f"undecided on {n}" if (n := found.totals["undecided"]) else ""
    rest += f"{', ' if rest else ''}the same runs on {n}, not shown" if (n := found.totals["same run"]) else ""
    first = f"{_count(len(found.lines), 'line')}"
    told = "; ".join(part for part in (f"A is {totals}" if totals else "", rest) if part)
    sentences = [f"{first}: {told}."]
    hidden = len([line for line in found.lines if line.verdict != "same run"]) - len(_shown(found))
    sentences += [f"{_count(hidden, 'line')} not shown: not told apart."] if hidden else []
    sentences += [_overall(found.overall)] if found.overall else []
    if found.lines and all(line.verdict == "same run" for line in found.lines):
        sentences.append("Both sides hold the same runs: there is nothing to learn from comparing them.")
    sentences += [f"{note}." for note in found.notes]
    return sentences


def _overall(overall: Overall) -> str:
    better, equal, worse = overall.wins
    wins = f"A's mean is better on {better}, worse on {worse}" + (f", equal on {equal}" if equal else "")
    text = f"Over {_count(overall.tasks, 'task')}: {wins}"
    if overall.superiority is not None:
        text += f"; a run of A is better with probability {_chance(overall.superiority)}"
    if overall.p is not None:
        p = f"p < {TINY:g}" if overall.p < TINY else f"p = {p_text(overall.p)}"
        return f"{text}; {overall.test} test over tasks: {p}."
    return f"{text}; no test over fewer than {FEWEST_TASKS} tasks."


def _only(name: str, alone: list[Alone]) -> str:
    runs = sum(len(one.cells) for one in alone)
    return f"Only in {name}: {_count(runs, 'run')} in {_count(len(alone), 'row')}:"


def _alone(one: Alone) -> str:
    return f"{one.row} on {one.task} ({' · '.join(one.where)})"


def _count(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'' if n == 1 else 's'}"
