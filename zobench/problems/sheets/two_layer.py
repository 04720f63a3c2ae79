"""Regressions of two layers: ReLU inside and softmax outside, and the other way round.

relu_softmax: Deng, Song and Xie, arXiv:2308.08358, from its title and abstract. softmax_relu: Li, Song, Wang and Yin,
arXiv:2311.15390, whose abstract names only the softmax inside; ReLU outside is our reading.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zobench.problems import draws
from zobench.problems.objective import CompositeSquares, Instance, named
from zobench.problems.planting import Knobs, finish

DIMENSIONS = {"tiny": (64, 32, 8), "standard": (1024, 256, 64), "large": (32768, 4096, 1024)}  # scale -> (n, m, d)


class ReluSoftmax(CompositeSquares):
    """f(x) = 1/2 |softmax(A2 relu(Ax)) - b|^2; x (d,), A (m, d), A2 (n, m) with centred columns.

    Kinks where an entry of Ax is 0; the gradient at x = 0 is 0. It has bad local minima: of tiny instances 0 to 19, gradient
    descent from the start ends in one at 0, 10 and 12.
    """

    a2: Tensor

    def link(self, z: Tensor) -> Tensor:
        return torch.softmax(torch.relu(z) @ self.a2.T, -1)


class SoftmaxRelu(CompositeSquares):
    """f(x) = 1/2m |relu(A2 softmax(Ax)) - b|^2; x (d,), A (n, d), A2 (m, n). Kinks where an entry of A2 softmax(Ax) is 0."""

    a2: Tensor

    def link(self, z: Tensor) -> Tensor:
        return torch.relu(torch.softmax(z, -1) @ self.a2.T)


def relu_softmax(knobs: Knobs) -> Instance:
    """Start at x* + |x*| u / 2, u a random unit vector."""
    n, m, d = DIMENSIONS[knobs.scale]
    rs = draws.seeded("relu_softmax", knobs.scale, knobs.instance)
    a = draws.design(rs, knobs.scale, m, d, knobs.kappa, knobs.spectrum, centred=False)
    a2 = draws.gaussian(rs, knobs.scale, n, m)
    a2 *= np.sqrt(2.0 / m)
    a2 -= a2.mean(0, dtype=np.float64).astype(a2.dtype)
    x, _ = draws.planted(rs, a, knobs.tau)
    start = draws.near(rs, {"x": x})["x"]
    return _instance(ReluSoftmax(), dict(a=a, a2=a2), x, start, knobs, rs, "relu_softmax", simplex=True)


def softmax_relu(knobs: Knobs) -> Instance:
    """Start at 0."""
    n, m, d = DIMENSIONS[knobs.scale]
    rs = draws.seeded("softmax_relu", knobs.scale, knobs.instance)
    a = draws.design(rs, knobs.scale, n, d, knobs.kappa, knobs.spectrum)
    a2 = draws.gaussian(rs, knobs.scale, m, n)
    a2 *= np.sqrt(n)
    x, _ = draws.planted(rs, a, knobs.tau)
    objective = SoftmaxRelu()
    objective.weight = 1 / m
    return _instance(objective, dict(a=a, a2=a2), x, np.zeros(d), knobs, rs, "softmax_relu")


def _instance(
    objective: CompositeSquares,
    data: dict[str, np.ndarray],
    x: np.ndarray,
    start: np.ndarray,
    knobs: Knobs,
    rs: np.random.RandomState,
    name: str,
    simplex: bool = False,
) -> Instance:
    objective.data(**data)
    objective.begin(x=start)
    objective.plant(named(x=x))
    return finish(Instance(objective, named(x=x)), knobs, rs, simplex=simplex, published=name)
