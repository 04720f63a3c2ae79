"""Estimates of the slope along directions, from probes: two- and one-sided, one or several directions a step.

Generators for use inside an optimizer's `update` with `yield from`; `opt.eps` is the radius, in units of z. `where` goes to the
probes: base=, batch=.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from zobench.core.perturb import Direction


def spsa(
    opt: Any, n: int = 1, sides: str = "two", **where: Any
) -> Generator[Any, Any, tuple[list[Direction], list[float], float]]:
    """(directions z_j, their projected gradients in nats per unit of z, loss), all at one point and minibatch.

    sides: "two": (L(+eps z) - L(-eps z)) / (2 eps), 2n forwards, the loss is the mean of all probes (Spall, 1992);
    "one": (L(eps z) - L(0)) / eps, n + 1 forwards, the loss is L(0).
    """
    z = yield from directions(opt, n, **where)
    if sides == "two":
        values = yield [opt.at(radius * zj, **where) for zj in z for radius in (opt.eps, -opt.eps)]
        slopes = [(plus - minus) / (2 * opt.eps) for plus, minus in zip(values[::2], values[1::2], strict=True)]
        return z, slopes, sum(values) / len(values)
    here, *values = yield [opt.at(Direction(), **where), *(opt.at(opt.eps * zj, **where) for zj in z)]
    return z, [(value - here) / opt.eps for value in values], here


def directions(opt: Any, n: int, **where: Any) -> Generator[Any, Any, list[Direction]]:
    """n directions, each guided where the optimizer asks for it."""
    found = []
    for _ in range(n):
        found.append((yield from opt.direction(**where)))
    return found


def slope_along(opt: Any, z: Direction, **where: Any) -> Generator[Any, Any, tuple[float, float]]:
    """(two-sided projected gradient along a given z, mean of the two losses)."""
    plus, minus = yield opt.at(opt.eps * z, **where), opt.at(-opt.eps * z, **where)
    return (plus - minus) / (2 * opt.eps), (plus + minus) / 2


def mean(z: Sequence[Direction], slopes: Sequence[float]) -> Direction:
    """The gradient estimate: mean_j slope_j z_j. A direction; nothing dense is formed."""
    estimate = Direction()
    for zj, slope in zip(z, slopes, strict=True):
        estimate += slope / len(z) * zj
    return estimate
