"""Direct and Krylov solves of what is quadratic: QR and LSQR of least squares, Cholesky and CG of the normal equations."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from zobench.baselines._krylov import cg, lsqr
from zobench.baselines._squares import is_squares, require_quadratic, require_squares, system
from zobench.problems.oracle import Oracle
from zobench.problems.regression import Regression
from zobench.problems.sheets.linear import Linear
from zobench.spec import UsageError

INFO = dict(
    title="Direct solve",
    year=1958,
    paper="Householder, J. ACM 5 (1958); Hestenes and Stiefel (1952); Paige and Saunders, ACM TOMS 8 (1982)",
    order="reference",
    family="reference",
    tasks=(
        "linear",
        "ridge",
        "multiple",
        "kernel_ls",
        "kernel_energy",
        "power_even",
        "power_odd",
        "quadratic",
        "nesterov",
    ),
    limits=dict(),
    choices=dict(method=("auto", "qr", "cholesky", "lsqr", "cg")),
    aliases=("least-squares", "conjugate-gradients"),
    notes="auto: QR of the Jacobian for least squares, else CG. qr and cholesky are one iterate.",
    random=False,
)

LARGEST = 4096  # dimensions of a Hessian that is factorised
SINGULAR = 1e-12  # eigenvalues relative to the largest that count as 0


def solve(problem: Regression, x: Tensor, *, seed: int = 0, method: str = "auto") -> Iterator[Tensor]:
    """x - s, s the exact Newton step of a quadratic.

    qr: s = argmin |J s - c| (m D^2, and a Jacobian where A is not known). lsqr: the same s with two products of J an
    iteration. cholesky: H s = g (D Hessian products, D^3 / 3). cg: the same with one Hessian product an iteration.
    """
    del seed
    require_quadratic("direct", problem)
    oracle = problem.oracle
    if method == "auto":
        method = "qr" if is_squares(problem, x) else "cg"
    if method in ("qr", "lsqr"):
        if not isinstance(problem.exact, Linear):
            require_squares(f"direct[method={method}]", problem, x)
        return _qr(problem, x) if method == "qr" else _lsqr(problem, x)
    if method == "cholesky" and oracle.dimension > LARGEST:
        raise UsageError(f"direct: D = {oracle.dimension} is above {LARGEST}; method=cg serves it")
    return _cholesky(oracle, x) if method == "cholesky" else _cg(oracle, x)


def _system(problem: Regression, x: Tensor) -> tuple[Tensor, Tensor]:
    """(M, R) with s = argmin |M s - R|."""
    if isinstance(problem.exact, Linear):
        return system(problem.oracle, problem.exact, x)
    return problem.oracle.jacobian(x), problem.oracle.residual(x)[:, None]


def _qr(problem: Regression, x: Tensor) -> Iterator[Tensor]:
    matrix, rhs = _system(problem, x)
    q, r = torch.linalg.qr(matrix)
    yield x - torch.linalg.solve_triangular(r, q.T @ rhs, upper=True).reshape(-1)


def _lsqr(problem: Regression, x: Tensor) -> Iterator[Tensor]:
    matrix, rhs = _system(problem, x)
    for step in lsqr(lambda v: matrix @ v, lambda u: matrix.T @ u, rhs):
        yield x - step.reshape(-1)


def _cholesky(oracle: Oracle, x: Tensor) -> Iterator[Tensor]:
    hessian, gradient = oracle.hessian(x), oracle.gradient(x)
    factor, failed = torch.linalg.cholesky_ex(hessian)
    if failed:  # singular: the step of least norm
        values, vectors = torch.linalg.eigh(hessian)
        kept = values > SINGULAR * values[-1]
        yield x - vectors[:, kept] @ ((vectors[:, kept].T @ gradient) / values[kept])
    else:
        yield x - torch.cholesky_solve(gradient[:, None], factor)[:, 0]


def _cg(oracle: Oracle, x: Tensor) -> Iterator[Tensor]:
    for step in cg(lambda v: oracle.hvp(x, v), oracle.gradient(x)):
        yield x - step
