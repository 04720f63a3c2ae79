"""Matrix-power regressions, even and odd: least squares in (A^T A)^j and in A (A^T A)^j.

Song, Yin and Zhang, arXiv:2308.14304. The largest singular value of A is 1; the powers are applied, never formed. Keep
kappa^(4j), kappa^(4j+2) for odd powers, the condition number of the Hessian, below 1e6.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from zobench.problems import draws
from zobench.problems.objective import Instance, LinearSquares, Parameters, named
from zobench.problems.planting import Knobs, finish

DIMENSIONS = {"tiny": (64, 8), "standard": (1024, 64), "large": (65536, 4096)}  # scale -> (n, d)


class Power(LinearSquares):
    """f(x) = 1/2 |(A^T A)^j x - b|^2 of x (d,), or 1/2 |A (A^T A)^j x - b|^2 where odd."""

    a: Tensor

    def __init__(self, j: int, odd: bool) -> None:
        super().__init__()
        self.j, self.odd = j, odd

    def predict(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        del rows
        x = p["x"]
        for _ in range(self.j):
            x = (x @ self.a.T) @ self.a
        return x @ self.a.T if self.odd else x


def power_even(knobs: Knobs, j: int = 2) -> Instance:
    """x* as planted: the operator is invertible, so that no label noise could be orthogonal to its range."""
    instance, _, rs = _planted(Power(j, odd=False), "power_even", knobs)
    return finish(instance, knobs, rs)


def power_odd(knobs: Knobs, j: int = 1) -> Instance:
    """label_noise: standard deviation, in units of 1/sqrt(n), of noise on b orthogonal to the range of A; x* stays optimal."""
    objective = Power(j, odd=True)
    instance, a, rs = _planted(objective, "power_odd", knobs)
    e = draws.off_range(a, rs.standard_normal(len(a)) * (knobs.label_noise / np.sqrt(len(a))))
    objective.b += torch.from_numpy(e)
    instance.f_star = 0.5 * float(e @ e)
    return finish(instance, replace(knobs, label_noise=0.0), rs)


def _planted(objective: Power, name: str, knobs: Knobs):
    """(instance without noise, A, generator after the draws of A and x*)."""
    n, d = DIMENSIONS[knobs.scale]
    rs = draws.seeded(name, knobs.scale, knobs.instance)
    a = draws.design(rs, knobs.scale, n, d, knobs.kappa, knobs.spectrum, centred=False)
    a /= np.sqrt(n)
    optimum = named(x=rs.standard_normal(d) / np.sqrt(d))
    objective.data(a=a)
    objective.begin(x=np.zeros(d))
    objective.plant(optimum)
    return Instance(objective, optimum), a, rs
