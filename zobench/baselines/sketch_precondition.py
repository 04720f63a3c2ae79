"""Sketch-to-precondition: LSQR on A R^-1, R from the QR of a sketch of A (Rokhlin and Tygert, 2008; Blendenpik, 2010)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from zobench.baselines._krylov import cg, lsqr
from zobench.baselines._sketch import sketch
from zobench.baselines._squares import system
from zobench.problems.oracle import Oracle
from zobench.problems.regression import Regression
from zobench.problems.sheets.linear import Linear
from zobench.problems.sheets.power import Power
from zobench.spec import UsageError

INFO = dict(
    title="Sketch-to-precondition",
    year=2008,
    paper="Rokhlin and Tygert, PNAS 105; Avron, Maymounkov and Toledo, SISC 32 (2010); arXiv:2308.14304",
    order="reference",
    family="reference",
    tasks=("linear", "ridge", "multiple", "power_even", "power_odd"),
    limits=dict(oversampling=">1"),
    choices=dict(kind=("gaussian", "leverage")),
    aliases=("blendenpik",),
    notes="kappa(A R^-1) = (1 + sqrt(d/m)) / (1 - sqrt(d/m)), whatever A's. Powers: successive solves with A^T A.",
    random=True,
)


def solve(
    problem: Regression, x: Tensor, *, seed: int = 0, kind: str = "gaussian", oversampling: float = 10.0
) -> Iterator[Tensor]:
    """S A = Q R for a sketch of m = oversampling d rows, then LSQR on A R^-1, all right-hand sides at once.

    (A^T A)^j x = b: j solves with A^T A, each by conjugate gradients on R^-T A^T A R^-1; A (A^T A)^j x = b: least squares in
    A, then the same. Iterates are those of the last solve. Cost: a residual; the sketch (m n d), m d^2, and two products of A
    an iteration.
    """
    if not isinstance(problem.exact, (Linear, Power)):
        raise UsageError(
            "sketch-precondition: there is no matrix A to sketch; it serves linear, ridge, multiple, power_even and power_odd"
        )
    generator = np.random.RandomState(seed)
    if isinstance(problem.exact, Linear):
        return _linear(problem.oracle, problem.exact, x, kind, oversampling, generator)
    return _power(problem.oracle, problem.exact, x, kind, oversampling, generator)


class Preconditioned:
    """A matrix M and the R of its sketch's QR; rows of M beyond `sketched` enter the QR as they are."""

    def __init__(
        self, matrix: Tensor, sketched: int, kind: str, oversampling: float, generator: np.random.RandomState
    ) -> None:
        self.matrix, top = matrix, matrix[:sketched]
        small = sketch(kind, top, round(oversampling * matrix.shape[1]), top, generator)
        _, self.r = torch.linalg.qr(torch.cat([small, matrix[sketched:]]))

    def divide(self, v: Tensor) -> Tensor:
        """R^-1 v"""
        return torch.linalg.solve_triangular(self.r, v, upper=True)

    def divide_adjoint(self, v: Tensor) -> Tensor:
        """R^-T v"""
        return torch.linalg.solve_triangular(self.r.T, v, upper=False)

    def forward(self, v: Tensor) -> Tensor:
        """M R^-1 v"""
        return self.matrix @ self.divide(v)

    def adjoint(self, u: Tensor) -> Tensor:
        """R^-T M^T u"""
        return self.divide_adjoint(self.matrix.T @ u)

    def least_squares(self, rhs: Tensor) -> Iterator[Tensor]:
        """-> argmin |M s - rhs|"""
        return map(self.divide, lsqr(self.forward, self.adjoint, rhs))

    def normal(self, rhs: Tensor) -> Iterator[Tensor]:
        """-> (M^T M)^-1 rhs"""
        return map(self.divide, cg(lambda v: self.adjoint(self.forward(v)), self.divide_adjoint(rhs)))


def _linear(
    oracle: Oracle, objective: Linear, x: Tensor, kind: str, oversampling: float, generator: np.random.RandomState
) -> Iterator[Tensor]:
    matrix, rhs = system(oracle, objective, x)
    for step in Preconditioned(matrix, len(objective.a), kind, oversampling, generator).least_squares(rhs):
        yield x - step.reshape(-1)


def _power(
    oracle: Oracle, objective: Power, x: Tensor, kind: str, oversampling: float, generator: np.random.RandomState
) -> Iterator[Tensor]:
    a = Preconditioned(objective.a, len(objective.a), kind, oversampling, generator)
    rhs = oracle.residual(x)[:, None] / objective.weight**0.5
    stages = [a.least_squares] * objective.odd + [a.normal] * objective.j
    for stage in stages[:-1]:
        *_, rhs = stage(rhs)
    for step in stages[-1](rhs):
        yield x - step[:, 0]
