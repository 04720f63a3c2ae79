"""Least squares as these lines see it: f = 1/2 |c(x)|^2 with a Jacobian; and how a quadratic is told."""

from __future__ import annotations

import torch
from torch import Tensor

from zobench.problems.objective import LeastSquares
from zobench.problems.oracle import Oracle
from zobench.problems.regression import Regression
from zobench.problems.sheets.linear import Linear
from zobench.spec import UsageError

ENTRIES = 2**27  # of a Jacobian that is written out: 1 GiB
AGREE = 1e-8  # relative difference below which two numbers are the same


def is_squares(problem: Regression, x: Tensor) -> bool:
    """Whether the residuals are the whole loss. Cost: a residual and a value."""
    oracle = problem.oracle
    if not isinstance(problem.exact, LeastSquares):
        return False
    value, residual = float(oracle.value(x)), oracle.residual(x)
    return abs(0.5 * float(residual @ residual) - value) <= AGREE * abs(value)


def require_squares(line: str, problem: Regression, x: Tensor) -> None:
    """Refuse what is no least squares, or too large for a Jacobian."""
    oracle, serves = problem.oracle, "it serves least squares (softmax_l2, exp, attention, linear ...)"
    if not is_squares(problem, x):
        raise UsageError(f"{line}: the loss is no sum of squared residuals; {serves}")
    rows = oracle.residual(x).numel()
    if rows * oracle.dimension > ENTRIES:
        raise UsageError(f"{line}: a Jacobian of {rows} x {oracle.dimension} is too large; {serves} at a smaller scale")


def require_quadratic(line: str, problem: Regression) -> None:
    """Refuse a loss whose Hessian changes."""
    if not problem.exact.quadratic:
        raise UsageError(
            f"{line}: the loss is no quadratic; it serves linear, ridge, multiple, kernel_ls, kernel_energy, power_even, "
            "power_odd, quadratic and nesterov"
        )


def require_linear(line: str, problem: Regression) -> Linear:
    """Refuse what is no regression on a known matrix."""
    if not isinstance(problem.exact, Linear):
        raise UsageError(f"{line}: there is no matrix A of a linear regression; it serves linear, ridge and multiple")
    return problem.exact


def system(oracle: Oracle, objective: Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    """(M, R): x - argmin |M S - R| is the regression's solution, M (n, d) = A over the ridge's rows, R (n, k). One residual."""
    a = objective.a
    if objective.lam:
        ridge = (objective.lam / objective.weight) ** 0.5 * torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
        a = torch.cat([a, ridge])
    return a, oracle.residual(x).reshape(len(a), -1) / objective.weight**0.5
