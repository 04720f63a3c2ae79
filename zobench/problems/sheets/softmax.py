"""Softmax regressions: squared loss, cross-entropy, and the residual unit with a softmax.

Squared loss: Deng, Li, Mahadevan and Song, arXiv:2307.08352; Deng, Li and Song, arXiv:2304.10411. Residual unit: Song, Wang
and Yin, arXiv:2309.13482. The curvature bounds, generator and scores are the project's own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zobench.problems import draws
from zobench.problems.objective import Composite, CompositeSquares, Instance, Parameters, named
from zobench.problems.planting import Knobs, finish

DIMENSIONS = {"tiny": (64, 8), "standard": (2048, 128), "large": (65536, 4096), "paper": (64, 8)}  # scale -> (n, d)
RADIUS = 4.0  # |A| = |x*| = R at scale paper, the least that the papers' theorems allow


class SoftmaxL2(CompositeSquares):
    """f(x) = 1/2 |softmax(Ax) - b|^2. Its Hessian in the logits lies between -1/4 and 1/3 for x anywhere, b a simplex point."""

    def link(self, z: Tensor) -> Tensor:
        return torch.softmax(z, -1)


class SoftmaxCE(Composite):
    """f(x) = logsumexp(Ax) - <b, Ax>: convex, its Hessian in the logits at most 1/2."""

    b: Tensor

    def phi(self, z: Tensor, rows: Tensor | None = None) -> Tensor:
        return torch.logsumexp(z, -1) - (self.b * z).sum(-1)

    def gap(self, p: Parameters, optimum: Parameters | None, f_star: float) -> Tensor:
        """KL(b | softmax(Ax)), plus what the regulariser adds."""
        if optimum is None or (self.w2 is not None and self.centre is None):  # x* is not where softmax(Ax) = b
            return self.value(p) - f_star
        z, best = self.logits(p), self.logits(optimum)
        return kl(z - best, self.b) + self.regulariser_gap(z, best)


def kl(delta: Tensor, b: Tensor) -> Tensor:
    """(...) KL(b | p) for p = softmax(log b + delta), delta and b (..., n): exact where b and p agree in all digits."""
    delta = delta - (b * delta).sum(-1, keepdim=True)
    return torch.log1p((b * (torch.expm1(delta) - delta)).sum(-1))


class ResNetSoftmax(CompositeSquares):
    """f(x) = 1/2 |u / <u, 1> - b|^2 with u = exp(z) + z, z = Ax; <u, 1> >= n because A is centred."""

    def link(self, z: Tensor) -> Tensor:
        top = z.amax(-1, keepdim=True).clamp(min=0.0)  # never negative: exp(-top) must not blow up
        u = torch.exp(z - top) + z * torch.exp(-top)
        return u / u.sum(-1, keepdim=True)


def softmax_l2(knobs: Knobs) -> Instance:
    objective, optimum, rs = _planted(SoftmaxL2(), "softmax_l2", knobs)
    objective.plant(optimum)
    # 1/4 and 1/3: numerically certified bounds; 4: the papers' weight
    bounds = dict(paper=4.0, centred=0.25, smooth=1 / 3)
    return finish(Instance(objective, optimum), knobs, rs, bounds=bounds, simplex=True, published="softmax_l2")


def resnet_softmax(knobs: Knobs) -> Instance:
    objective, optimum, rs = _planted(ResNetSoftmax(), "resnet_softmax", knobs)
    objective.plant(optimum)
    bounds = dict(paper=4.0, centred=0.25)
    return finish(Instance(objective, optimum), knobs, rs, bounds=bounds, simplex=True, published="resnet_softmax")


def softmax_ce(knobs: Knobs) -> Instance:
    objective, optimum, rs = _planted(SoftmaxCE(), "softmax_ce", knobs)
    exact = objective.exactly()
    for o in (exact, objective):
        o.register_buffer("b", torch.softmax(exact.logits(optimum), -1))
    f_star = float(exact.value(optimum))
    bounds = dict(paper=0.0, centred=0.0, smooth=0.5)
    return finish(Instance(objective, optimum, f_star), knobs, rs, bounds=bounds)


def _planted(objective, name: str, knobs: Knobs):
    """A and x* of the sheet, started at 0: (objective, optimum, generator after these draws)."""
    n, d = DIMENSIONS[knobs.scale]
    rs = draws.seeded(name, knobs.scale, knobs.instance)
    a = draws.design(rs, knobs.scale, n, d, knobs.kappa, knobs.spectrum)
    if knobs.scale == "paper":
        a = a * (RADIUS / np.sqrt(n))
    x, _ = draws.planted(rs, a, knobs.tau)
    if knobs.scale == "paper":
        x = x * (RADIUS / np.linalg.norm(x))
    objective.data(a=a)
    objective.begin(x=np.zeros(d))
    return objective, named(x=x), rs
