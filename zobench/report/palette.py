"""The colour and dashes of every optimizer, and the one rule by which the lines of a chart share them.

Figures and the page (page/js/theme.js) draw an optimizer in its own colour wherever no other line of the chart has it
first; `places` says who comes first and what the others take.

Six colours that stay apart for the three kinds of colour blindness (simulated after Machado et al. 2009), each with a
contrast of at least 3 : 1 on its ground. Where there are more lines than colours, dashes and labels tell them apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

LIGHT = ("#0072B2", "#D55E00", "#00664B", "#9A7BFF", "#A78276", "#222222")  # on white
DARK = ("#5AB0F0", "#FF8A4C", "#2BB58A", "#9B7BFF", "#FFE3B9", "#E86AA6")  # on #14171a
DASHES = ((), (5.0, 1.6), (1.2, 1.4), (6.0, 1.5, 1.2, 1.5))  # on, off, ... in widths of the line; () is solid
REST = "#B8B8B8"  # rows that are there for the view as a whole
# (colour, dash) of the names that stand in nearly every table: they must never meet
FIXED = {
    "mezo": (0, 0),
    "adam": (1, 0),
    "sgd": (2, 0),
    "zero-shot": (5, 2),
    "icl": (5, 1),
    "linear-probe": (5, 3),
    "mezo-adam": (3, 0),
    "zo-adamm": (3, 1),
    "mezo-momentum": (0, 1),
    "adamw": (1, 1),
    "sgd-momentum": (2, 1),
    "newton": (5, 0),
    "adagrad": (4, 0),
    "galore": (4, 2),
    "adaptive": (3, 2),
    "i3s": (0, 3),
    "rmsprop": (2, 3),
}


def colour(name: str, *, dark: bool = False) -> str:
    """`#rrggbb` of an optimizer, by its bare name; dark: for a dark ground."""
    return (DARK if dark else LIGHT)[_place(name)[0]]


def dash(name: str) -> tuple[float, ...]:
    """On and off lengths in line widths, as SVG's stroke-dasharray has them; () is a solid line."""
    return DASHES[_place(name)[1]]


def styles(names: Iterable[str]) -> list[tuple[str, tuple[float, ...]]]:
    """(colour, dash) of each line of a figure, see `places`."""
    return [(LIGHT[tint], DASHES[dashes]) for tint, dashes in places(names)]


def places(names: Iterable[str]) -> list[tuple[int, int]]:
    """The places of (colour, dash) of each line of a chart, in the order of the names.

    In the order of `priority` each takes its own colour, or the next one that no line before it has; where all are
    taken, its own with the next dashes that are free.
    """
    names = list(names)
    taken: set[tuple[int, int]] = set()
    found = [(0, 0)] * len(names)
    for i in sorted(range(len(names)), key=lambda i: priority(names[i])):
        tint, dashes = _place(names[i])
        tints = {t for t, _ in taken}
        tint = next((t for t in _from(tint, len(LIGHT)) if t not in tints), tint)
        dashes = next((d for d in _from(dashes, len(DASHES)) if (tint, d) not in taken), dashes)
        found[i] = tint, dashes
        taken.add(found[i])
    return found


def priority(name: str) -> int:
    """Lower chooses first: FIXED names before others, their solid lines before dashed ones."""
    return FIXED[name][1] if name in FIXED else len(DASHES)


def _from(first: int, n: int) -> list[int]:
    return [(first + i) % n for i in range(n)]


def _place(name: str) -> tuple[int, int]:
    if name in FIXED:
        return FIXED[name]
    digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    return digest[0] % len(LIGHT), digest[1] % len(DASHES)
