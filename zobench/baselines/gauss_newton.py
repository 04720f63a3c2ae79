"""Gauss-Newton with a line search: the Hessian of least squares without the residuals' curvature (Gauss, 1809)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from zobench.baselines._descent import descend
from zobench.baselines._squares import require_squares
from zobench.problems.regression import Regression

INFO = dict(
    title="Gauss-Newton",
    year=1809,
    paper="Gauss, Theoria motus; Nocedal and Wright, Numerical Optimization, 10.3",
    order="reference",
    family="reference",
    tasks=("least squares",),
    limits=dict(),
    choices=dict(),
    aliases=(),
    notes="Steps of least norm from a QR of the Jacobian with column pivoting, Armijo's rule.",
    random=False,
)


def solve(problem: Regression, x: Tensor, *, seed: int = 0, damped: bool = True) -> Iterator[Tensor]:
    """x -= t s, s = argmin |J s - c|, J the Jacobian of the residual c (of least norm where J has no full rank).

    Cost: a Jacobian (as many backward passes as it has rows or columns, whichever is fewer), a gradient, m D^2, a value a trial.
    """
    del seed
    oracle = problem.oracle
    require_squares("gauss-newton", problem, x)

    def direction(x: Tensor, gradient: Tensor) -> Tensor:
        del gradient
        jacobian, residual = oracle.jacobian(x), oracle.residual(x)
        # gelsy ranks the columns; lstsq has it on the CPU only
        return torch.linalg.lstsq(jacobian.cpu(), residual.cpu()[:, None], driver="gelsy").solution[:, 0].to(x)

    return descend(oracle, x, direction, damped)
