"""The board as rich tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zobench.report import text
from zobench.report.leaderboard import count
from zobench.report.summary import Summary, summaries
from zobench.report.tables import Board, Section
from zobench.report.text import HEADERS, LEFT, SUMMARY_HEADERS, clean

ROWS = 60  # of a table
SECTIONS = 100
# Left out in this order where they do not fit.
DISPENSABLE = (
    *(
        "peak MiB",
        "FLOPs",
        "cost to 1e-1 / 1e-3",
        "trials",
        "ms/step",
        "backwards",
        "profile",
        "order",
        "state ×",
        "fidelity",
    ),
    *("marks", "seconds", "memory ×", "forwards"),
)


def show(board: Board, console: Console) -> None:
    """Print every suite and every section; a narrow terminal gets the columns that matter most, a screen no thousand rows."""
    for summary in summaries(board):
        _head(console, text.summary_title(summary), text.summary_facts(summary))
        rows = [text.summary_cells(standing, summary) for standing in summary.standings[:ROWS]]
        console.print(_table(_summary_headers(summary, rows), rows, console.width))
        _more(console, len(summary.standings) - ROWS, "optimizer")
        console.print()
    for section in board.sections[:SECTIONS]:
        _head(console, text.title(section), text.facts(section, board))
        _section(section, console)
        console.print()
    _more(console, len(board.sections) - SECTIONS, "table")


def _more(console: Console, left: int, thing: str) -> None:
    if left > 0:
        console.print(Text(f"and {count(left, thing)} more: -o FILE has all, -t and -O choose", style="dim"))


def _head(console: Console, title: Iterable[str], facts: Iterable[str]) -> None:
    console.print(Text(clean(" · ".join(title)), style="bold"))
    console.print(Text(clean("; ".join(facts)), style="dim"))


def _summary_headers(summary: Summary, rows: list[dict[str, str]]) -> list[str]:
    headers = text.shown(SUMMARY_HEADERS, rows)
    headers[5:5] = summary.tasks
    return headers


def _section(section: Section, console: Console) -> None:
    ranked, rest = [r for r in section.rows if not r.reference], [r for r in section.rows if r.reference]
    shown = [*ranked[:ROWS], *rest]
    rows = [text.cells(row, section) for row in shown]
    console.print(_table(text.shown(HEADERS, rows), rows, console.width, [row.reference for row in shown]))
    _more(console, len(ranked) - ROWS, "row")
    failed = [(row, reason) for row in section.rows for reason in text.reasons(row)]
    for row, reason in failed[:ROWS]:
        console.print(Text(f"failed: {clean(row.label)}, {clean(reason)}", style="red"))
    _more(console, len(failed) - ROWS, "failed run")


def _table(headers: list[str], rows: list[dict[str, str]], width: int, faint: list[bool] | None = None) -> Table:
    headers = _fitting(headers, rows, width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in headers:
        left = name in LEFT
        table.add_column(Text(clean(name)), justify="left" if left else "right", overflow="fold", no_wrap=not left)
    for row, dim in zip(rows, faint or [False] * len(rows), strict=True):
        table.add_row(*(Text(clean(row[name])) for name in headers), style="dim" if dim else "")
    return table


def _fitting(headers: list[str], rows: list[dict[str, str]], width: int) -> list[str]:
    """Without what does not fit: the tasks of a summary first, then what matters least."""
    known = {*HEADERS, *SUMMARY_HEADERS}
    for name in [*(h for h in headers if h not in known), *DISPENSABLE]:
        if _needs(headers, rows) <= width:
            break
        headers = [h for h in headers if h != name]
    return headers


def _needs(headers: Iterable[str], rows: Iterable[Mapping[str, str]]) -> int:
    rows = list(rows)
    return sum(2 + max(len(name), *(min(len(row[name]), 60) for row in rows)) for name in headers)
