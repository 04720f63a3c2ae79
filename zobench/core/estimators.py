"""Estimates of the slope along directions, from probes: two- and one-sided, one or several directions a step.

Generators for use inside an optimizer's `update` with `yield from`; `opt.eps` is the radius, in units of z. `where` goes to the
probes: base=, batch=.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from zobench.core.perturb import Direction
from zobench.core.zeroth_order import Diverged


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
        return z, two_sided(opt, values), sum(values) / len(values)
    here, *values = yield [opt.at(Direction(), **where), *(opt.at(opt.eps * zj, **where) for zj in z)]
    return z, [(value - here) / opt.eps for value in values], here


def two_sided(opt: Any, values: Sequence[float]) -> list[float]:
    """Slopes from losses at +eps z and -eps z in turn: L(+), L(-), L(+), L(-) ..."""
    return [(plus - minus) / (2 * opt.eps) for plus, minus in zip(values[::2], values[1::2], strict=True)]


def directions(opt: Any, n: int, **where: Any) -> Generator[Any, Any, list[Direction]]:
    """n directions, each guided where the optimizer asks for it."""
    found = []
    for _ in range(n):
        found.append((yield from opt.direction(**where)))
    return found


def slope_along(opt: Any, z: Direction, **where: Any) -> Generator[Any, Any, tuple[float, float]]:
    """(two-sided projected gradient along a given z, mean of the two losses)."""
    plus, minus = yield opt.at(opt.eps * z, **where), opt.at(-opt.eps * z, **where)
    return two_sided(opt, (plus, minus))[0], (plus + minus) / 2


def mean(z: Sequence[Direction], slopes: Sequence[float]) -> Direction:
    """The gradient estimate: mean_j slope_j z_j. A direction; nothing dense is formed."""
    estimate = Direction()
    for zj, slope in zip(z, slopes, strict=True):
        estimate += slope / len(z) * zj
    return estimate


def layer_norms(opt: Any, of: str, n: int = 1) -> Generator[Any, Any, list[float]]:
    """A number for each tensor, its layer's norm, 1 where that is 0. of: "gradient": root mean square of the slopes along n
    directions on that layer alone, 2n forwards a layer; "parameter": of the weights; "none": all 1.
    """
    found = [1.0] * len(opt.tensors)
    layers = opt.blocks() if of != "none" else []
    if of == "gradient":
        z = [opt.draw() for _ in range(n)]
        parts = [zj.only(layer) for layer in layers for zj in z]
        values = yield [opt.at(radius * part) for part in parts for radius in (opt.eps, -opt.eps)]
        slopes = two_sided(opt, values)
        squares = [sum(g * g for g in slopes[k : k + n]) / n for k in range(0, len(slopes), n)]
    else:
        opt.driver.flush(opt)
        sizes = [float(p.detach().double().square().sum()) for p in opt.tensors]
        squares = [sum(sizes[i] for i in layer) for layer in layers]
    if not all(map(math.isfinite, squares)):
        raise Diverged(f"step {opt.steps + 1}: the norm of a layer is not finite")
    for layer, square in zip(layers, squares, strict=True):
        for i in layer:
            found[i] = math.sqrt(square) or 1.0
    return found


def deviation(values: Sequence[Any]) -> Any:
    """Their standard deviation, dividing by their number; of arrays, elementwise."""
    middle = sum(values) / len(values)
    return np.sqrt(sum((value - middle) * (value - middle) for value in values) / len(values))
