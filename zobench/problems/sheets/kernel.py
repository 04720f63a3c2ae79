"""Attention-kernel regressions: least squares in K and its energy, K = exp(t (A A^T - 1)) entrywise.

Song, Yin and Zhang, arXiv:2308.14304. The rows of A are unit vectors, drawn at random; the factor e^-t and the energy are
the project's own. K is positive definite where the rows differ; larger t brings it closer to the identity.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from zobench.problems import draws
from zobench.problems.objective import Instance, LinearSquares, Parameters, Quadratic, named
from zobench.problems.planting import Knobs, finish

DIMENSIONS = {"tiny": (48, 6), "standard": (512, 16), "large": (16384, 64)}  # scale -> (n, d): K is n x n
CHUNK = 1024  # rows of K that are made at once


class KernelLS(LinearSquares):
    """f(x) = 1/2 |K x - b|^2 of x (n,); Hessian K^2."""

    k: Tensor

    def predict(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        del rows
        return p["x"] @ self.k

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        del p
        return None, float(self.k.square().sum())


class KernelEnergy(Quadratic):
    """f(x) = 1/2 x^T K x - b^T x of x (n,); Hessian K."""

    k: Tensor

    def energy(self, x: Tensor) -> Tensor:
        return 0.5 * (x * (x @ self.k)).sum(-1)

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        del p
        return None, float(self.k.trace())


def kernel_ls(knobs: Knobs, t: float = 4.0, ridge: float = 0.0) -> Instance:
    """K + ridge I in the place of K, where asked for."""
    k, x, rs = _planted("kernel_ls", knobs, t, ridge)
    objective = KernelLS()
    objective.data(k=k, b=draws.product(k, x))
    objective.begin(x=np.zeros(len(x)))
    return finish(Instance(objective, named(x=x)), knobs, rs)


def kernel_energy(knobs: Knobs, t: float = 4.0, ridge: float = 0.0) -> Instance:
    k, x, rs = _planted("kernel_energy", knobs, t, ridge)
    objective = KernelEnergy()
    c = draws.product(k, x)
    objective.data(k=k, c=c)
    objective.begin(x=np.zeros(len(x)))
    return finish(Instance(objective, named(x=x), -0.5 * float(x @ c)), knobs, rs)


def _planted(name: str, knobs: Knobs, t: float, ridge: float):
    """K (n, n), float32 at scale large, x* (n,) and the generator after these draws."""
    n, d = DIMENSIONS[knobs.scale]
    rs = draws.seeded(name, knobs.scale, knobs.instance)
    a = rs.standard_normal((n, d))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    k = np.empty((n, n), np.float32 if knobs.scale == "large" else np.float64)
    for start in range(0, n, CHUNK):
        k[start : start + CHUNK] = np.exp(t * (a[start : start + CHUNK] @ a.T - 1.0))
    k[np.diag_indices(n)] += ridge
    return k, rs.standard_normal(n) / np.sqrt(n), rs
