"""Linear regressions: one right-hand side, several, and ridge.

Song, Yin and Zhang, arXiv:2311.14823, for the objectives; its quantum algorithm is not implemented.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from zobench.problems import draws
from zobench.problems.objective import Instance, LinearSquares, Parameters, named
from zobench.problems.oracle import DENSE
from zobench.problems.planting import Knobs, finish

DIMENSIONS = {"tiny": (64, 8), "standard": (2048, 128), "large": (65536, 4096)}  # scale -> (n, d)
SEVERAL = {
    "tiny": (64, 8, 3),
    "standard": (2048, 64, 8),
    "large": (65536, 4096, 64),
}  # scale -> (n, d, right-hand sides)


class Linear(LinearSquares):
    """f(x) = 1/2n |A x - b|^2 + lam/2 |x|^2 of x (d,), or (d, k) with b (n, k): a finite sum over the rows of A (n, d)."""

    a: Tensor
    best: Tensor  # x*
    least: float  # f*

    def predict(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        x = p["x"]
        if self.trailing == 2:
            return (self.a if rows is None else self.a[rows]) @ x
        return x @ self.a.T if rows is None else (self.a[rows] @ x[..., None])[..., 0]

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        d = self.a.shape[1]
        trace = self.outputs * (self.weight * float(self.a.square().sum()) + self.lam * d)
        if d > DENSE:
            return None, trace
        return self.weight * float(torch.linalg.eigvalsh(self.a.T @ self.a)[-1]) + self.lam, trace

    def metrics(self, p: Parameters) -> dict[str, float]:
        """relative_objective_error f / f* - 1, where noise keeps f* from 0."""
        found = super().metrics(p)
        if self.least > 0:
            found["relative_objective_error"] = float(self.gap(p, {"x": self.best}, self.least)) / self.least
        return found


def linear(knobs: Knobs) -> Instance:
    """label_noise: standard deviation of noise on b, orthogonal to the range of A, so that x* stays optimal."""
    return _instance("linear", knobs, DIMENSIONS[knobs.scale])


def multiple(knobs: Knobs) -> Instance:
    return _instance("multiple", knobs, SEVERAL[knobs.scale])


def ridge(knobs: Knobs, lam: float = 0.1) -> Instance:
    """x* is solved for. The statistical dimension sum s^2 / (s^2 + n lam) over A's singular values s is among the constants."""
    return _instance("ridge", knobs, DIMENSIONS[knobs.scale], lam)


def _instance(name: str, knobs: Knobs, dimensions: tuple[int, ...], lam: float = 0.0) -> Instance:
    n, d, *columns = dimensions
    rs = draws.seeded(name, knobs.scale, knobs.instance)
    a = draws.design(rs, knobs.scale, n, d, knobs.kappa, knobs.spectrum, centred=False)
    x = rs.standard_normal((d, *columns)) / np.sqrt(d)
    e = knobs.label_noise * draws.off_range(a, rs.standard_normal((n, *columns)))
    b = draws.product(a, x) + e
    constants = {}
    if lam:
        inner = draws.gram(a) / n
        regular = inner + lam * np.eye(d)
        x = np.linalg.solve(regular, draws.adjoint(a, b) / n)
        constants["statistical_dimension"] = float(np.trace(np.linalg.solve(regular, inner)))
    objective = Linear()
    objective.finite_sum, objective.weight, objective.lam = n, 1.0 / n, lam
    objective.trailing, objective.outputs = 1 + len(columns), columns[0] if columns else 1
    objective.data(a=a, b=b, best=x)
    objective.begin(x=np.zeros(x.shape))
    residual = draws.product(a, x) - b if lam else e
    objective.least = 0.5 * float(np.sum(residual**2)) / n + 0.5 * lam * float(np.sum(x**2))
    instance = Instance(objective, named(x=x), objective.least, constants=constants)
    return finish(instance, replace(knobs, label_noise=0.0), rs)
