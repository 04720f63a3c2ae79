"""One colour and one dash pattern per optimizer name, the same on every figure and on the page.

Six colours that stay apart for the three kinds of colour blindness (simulated after Machado et al. 2009), each with a
contrast of at least 3 : 1 on its ground. What two names share in colour, the dashes and the labels tell apart.
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
    """(colour, dash) of each line of a figure: those of the name, or its colour with the next dash that is free."""
    taken: set[tuple[int, int]] = set()
    found = []
    for name in names:
        tint, first = _place(name)
        free = [d % len(DASHES) for d in range(first, first + len(DASHES)) if (tint, d % len(DASHES)) not in taken]
        place = (tint, free[0] if free else first)
        taken.add(place)
        found.append((LIGHT[tint], DASHES[place[1]]))
    return found


def _place(name: str) -> tuple[int, int]:
    if name in FIXED:
        return FIXED[name]
    digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    return digest[0] % len(LIGHT), digest[1] % len(DASHES)
