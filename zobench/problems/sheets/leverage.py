"""Inversion of leverage scores, and of their gradient.

leverage: Li, Song, Wang, Yin and Yu, arXiv:2404.13785. leverage_grad: Li, Song, Xu and Yin, arXiv:2408.11267, whose available
text does not define the gradient; that of the volumetric barrier is our interpretation.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zobench.problems import draws
from zobench.problems.objective import CompositeSquares, Instance, Parameters, named
from zobench.problems.planting import Knobs, finish

DIMENSIONS = {"tiny": (48, 6), "standard": (512, 24), "large": (16384, 256)}  # scale -> (n, d)
CLOSEST = 1e-12  # a slack nearer to 0 is taken for this
LEAST_SLACK = 0.05  # of the points between x* and twice the start's distance from it


class Leverage(CompositeSquares):
    """f(x) = 1/2 |sigma(x) - b|^2, sigma the leverage scores of diag(s)^-1 A at slacks s = Ax - offset; x (d,), A (n, d).

    The scores see only s^2: the domain falls into cells at s_i = 0, and the optimum is in that of s > 0.
    """

    offset: Tensor

    def slacks(self, z: Tensor) -> Tensor:
        """(..., n) bounded away from 0, with their sign."""
        s = z - self.offset
        return torch.where(s.abs() < CLOSEST, torch.where(s < 0, -CLOSEST, CLOSEST), s)

    def scores(self, s: Tensor) -> Tensor:
        """(..., n) leverage scores, which do not change with a factor of s: its least size keeps the rows' at most 1."""
        scale = s.detach().abs().amin(-1, keepdim=True) / s
        q, _ = torch.linalg.qr(scale[..., None] * self.a)
        return q.square().sum(-1)

    def link(self, z: Tensor) -> Tensor:
        return self.scores(self.slacks(z))

    def metrics(self, p: Parameters) -> dict[str, float]:
        """prediction_error, and the share of slacks that are not positive: the point is in another cell."""
        crossed = (self.logits(p) <= self.offset).double().mean()
        return super().metrics(p) | {"crossed_slacks": float(crossed)}


class LeverageGrad(Leverage):
    """f(x) = 1/2 |g(x) - b|^2, g(x) = -A_x^T sigma(x) = grad of 1/2 logdet(A_x^T A_x), A_x = diag(s)^-1 A; b (d,).

    Our interpretation of the gradient of leverage scores. Its Jacobian is positive definite: x* is unique in its cell.
    """

    def link(self, z: Tensor) -> Tensor:
        s = self.slacks(z)
        return -(self.scores(s) / s) @ self.a


def leverage(knobs: Knobs) -> Instance:
    return _planted(Leverage(), "leverage", knobs)


def leverage_grad(knobs: Knobs) -> Instance:
    return _planted(LeverageGrad(), "leverage_grad", knobs)


def _planted(objective: Leverage, name: str, knobs: Knobs) -> Instance:
    """Start half as far from x*, along a random direction, as the slacks stay at least LEAST_SLACK."""
    n, d = DIMENSIONS[knobs.scale]
    rs = draws.seeded(name, knobs.scale, knobs.instance)
    a = rs.standard_normal((n, d))
    x = rs.standard_normal(d) / np.sqrt(d)
    s = np.exp(0.5 * rs.standard_normal(n))
    u = draws.unit(rs, d)
    shrink = np.maximum(-(a @ u), 1e-300)
    reach = np.where(a @ u < 0, (s - LEAST_SLACK) / shrink, np.inf).min()
    objective.data(a=a, offset=a @ x - s)
    objective.begin(x=x + 0.5 * reach * u)
    objective.plant(named(x=x))
    return finish(Instance(objective, named(x=x)), knobs, rs, published=name)
