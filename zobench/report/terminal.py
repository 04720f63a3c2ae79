"""The board as rich tables."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from zobench.report.leaderboard import LEFT
from zobench.report.tables import Board, Section
from zobench.report.text import HEADERS, NONE, cells, clean, facts, reasons, title

NARROW = ("rank", "optimizer", "score [95 %]", "n", "forwards", "ms/step", "memory ×", "failed", "marks")
DISPENSABLE = ("memory ×", "ms/step", "marks", "forwards")  # left out in this order where they do not fit
WIDE = 165  # columns that the whole table needs


def show(board: Board, console: Console) -> None:
    """Print every section; a narrow terminal gets the columns that matter most."""
    for section in board.sections:
        console.print(Text(clean(" · ".join(title(section))), style="bold"))
        console.print(Text(clean("; ".join(facts(section))), style="dim"))
        console.print(_table(section, HEADERS if console.width >= WIDE else NARROW, console.width))
        for row in section.rows:
            for reason in reasons(row):
                console.print(Text(f"failed: {clean(row.label)}, {clean(reason)}", style="red"))
        console.print()


def _table(section: Section, wanted: tuple[str, ...], width: int) -> Table:
    texts = [dict(zip(HEADERS, cells(row, section), strict=True)) for row in section.rows]
    shown = [name for name in wanted if any(text[name] not in ("", NONE) for text in texts)]
    for name in DISPENSABLE:
        if sum(2 + max(len(name), *(len(text[name]) for text in texts)) for name in shown) > width and name in shown:
            shown.remove(name)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in shown:
        table.add_column(name, justify="left" if name in LEFT else "right", overflow="fold", no_wrap=name not in LEFT)
    for row, text in zip(section.rows, texts, strict=True):
        table.add_row(*(Text(clean(text[name])) for name in shown), style="dim" if row.reference else "")
    return table
