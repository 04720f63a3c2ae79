"""Exponential and hyperbolic regressions, plain and rescaled.

exp, cosh, sinh: Li, Song and Zhou, arXiv:2303.15725; rescaled: Gao, Song and Yin, arXiv:2305.00660. The factor 1/n, the
generator and the convexity bounds are the project's own. Their curvature grows with the loss: they are not globally smooth.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zobench.problems import draws
from zobench.problems.objective import CompositeSquares, Instance, Parameters, named, relative_error
from zobench.problems.planting import Knobs, finish
from zobench.spec import UsageError

DIMENSIONS = {"tiny": (64, 8), "standard": (2048, 128), "large": (65536, 4096)}  # scale -> (n, d)
FUNCTIONS = {"exp": torch.exp, "cosh": torch.cosh, "sinh": torch.sinh}


class Exponential(CompositeSquares):
    """f(x) = 1/2n |u(Ax) - b|^2, u = exp, cosh or sinh entrywise; x (d,), A (n, d). Its Hessian in the logits is diagonal."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self.function = function

    def link(self, z: Tensor) -> Tensor:
        bound = limit(z)
        return FUNCTIONS[self.function](z.clamp(-bound, bound))

    def metrics(self, p: Parameters) -> dict[str, float]:
        """prediction_error, and the share of logits whose exponential has overflowed."""
        z = self.logits(p)
        return {"prediction_error": self.error(z), "overflowed": float((z.abs() >= limit(z)).double().mean())}

    def error(self, z: Tensor) -> float:
        return relative_error(self.link(z), self.b)


class Rescaled(Exponential):
    """f(x) = 1/2n |u - <u, 1> share|^2, u = exp(Ax) or cosh(Ax): the target scales with the prediction, b is 0."""

    share: Tensor  # (n,) sums to 1

    def link(self, z: Tensor) -> Tensor:
        u = super().link(z)
        return u - u.sum(-1, keepdim=True) * self.share

    @torch.no_grad()
    def plant(self, optimum: Parameters) -> None:
        exact = self.exactly()
        u = Exponential.link(exact, exact.logits(optimum))
        self.register_buffer("share", u / u.sum())
        super().plant(optimum)

    def error(self, z: Tensor) -> float:
        """Of u / <u, 1>."""
        u = super().link(z)
        return relative_error(u / u.sum(), self.share)


def limit(z: Tensor) -> float:
    """Where logits are clipped: exp stays finite, and its square is inf."""
    return 80.0 if z.dtype == torch.float32 else 700.0


def exp(knobs: Knobs) -> Instance:
    return _regression("exp", knobs, convex=0.0)


def cosh(knobs: Knobs) -> Instance:
    """x* and -x* are optimal, unless a centred regulariser tells them apart."""
    return _regression("cosh", knobs, convex=1.0)


def sinh(knobs: Knobs) -> Instance:
    return _regression("sinh", knobs, convex=0.0)


def _regression(function: str, knobs: Knobs, convex: float) -> Instance:
    """Convexity: the least value of u'^2 + u'' (u - b) in u is -b^2/8, less 1 for cosh."""
    instance, rs = _planted(Exponential(function), function, knobs)
    objective = instance.objective
    objective.finite_sum = len(objective.get_buffer("b"))

    def bounds() -> dict[str, np.ndarray]:
        b2 = objective.get_buffer("b").double().numpy() ** 2
        return dict(paper=b2 / 2, centred=convex + b2 / 8)

    if knobs.reg == "centred":
        instance.symmetry = "none"
    return finish(instance, knobs, rs, bounds=bounds, published=function)


def rescaled_exp(knobs: Knobs, function: str = "exp") -> Instance:
    """function: exp | cosh. sinh is not offered: its loss is 0 at x = 0."""
    if function == "cosh" and knobs.init == "zero":
        raise UsageError("init=zero: with function=cosh the gradient is 0 there; take init=auto or near")
    instance, rs = _planted(Rescaled(function), "rescaled_exp", knobs)
    return finish(instance, knobs, rs, published="rescaled_exp" if function == "exp" else "")


def _planted(objective: Exponential, name: str, knobs: Knobs) -> tuple[Instance, np.random.RandomState]:
    """Start at 0; cosh, whose gradient vanishes there, at another draw of half the logits."""
    n, d = DIMENSIONS[knobs.scale]
    rs = draws.seeded(name, knobs.scale, knobs.instance)
    a = draws.design(rs, knobs.scale, n, d, knobs.kappa, knobs.spectrum)
    x, _ = draws.planted(rs, a, knobs.tau / 2)
    even = objective.function == "cosh"
    start = draws.planted(rs, a, knobs.tau / 4)[0] if even else np.zeros(d)
    objective.data(a=a)
    objective.begin(x=start)
    objective.weight = objective.ridge = 1 / n
    objective.plant(named(x=x))
    return Instance(objective, named(x=x), symmetry="sign" if even else "none"), rs
