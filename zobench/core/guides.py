"""Directions steered by the losses of a few candidates: MeZO-GV and MeZO-Greedy (Jin et al., 2026, arXiv 2601.04710).

Plug-and-play: whatever law an optimizer proposes its directions by, `candidates` of them are probed on one side.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

from zobench.core.perturb import Direction


def guided(opt: Any, **where: Any) -> Generator[Any, Any, Direction]:
    """gv: mean of the k best candidates minus mean of the others, k = floor(alpha M) within 1 .. M - 1, not normalised (the
    paper does not); greedy: the best candidate. M forwards. Ties go to the first. Raises Diverged where a loss is not finite.
    """
    z = [opt.propose() for _ in range(opt.candidates)]
    losses = yield [opt.at(opt.eps * candidate, **where) for candidate in z]
    opt.finite(*losses)
    ranked = sorted(range(len(z)), key=lambda i: losses[i])
    if opt.guide == "greedy":
        return z[ranked[0]]
    best = min(max(math.floor(opt.alpha * len(z)), 1), len(z) - 1)
    direction = Direction()
    for place, i in enumerate(ranked):
        direction += (1 / best if place < best else -1 / (len(z) - best)) * z[i]
    return direction
