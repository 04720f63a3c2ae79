"""Conjugate gradients on a kernel matrix, preconditioned by its Nystroem approximation (Frangella, Tropp and Udell, 2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from zobench.baselines._krylov import EPS, cg
from zobench.problems.regression import Regression
from zobench.problems.sheets.kernel import KernelEnergy, KernelLS
from zobench.spec import UsageError

INFO = dict(
    title="Nystroem PCG",
    year=2023,
    paper="Frangella, Tropp and Udell, SIAM J. Matrix Anal. Appl. 44, arXiv:2110.02820",
    order="reference",
    family="reference",
    tasks=("kernel_ls", "kernel_energy"),
    limits=dict(rank=">=0"),
    choices=dict(),
    aliases=("kernel-pcg",),
    notes="rank=0: the square root of n, rounded up. Stands in for the tensor sketch of arXiv:2308.14304.",
    random=True,
)


def solve(problem: Regression, x: Tensor, *, seed: int = 0, rank: int = 0) -> Iterator[Tensor]:
    """K s = K x - b by conjugate gradients, preconditioned with l (U Lambda^-1 U^T) + I - U U^T.

    U Lambda U^T of rank r is K's Nystroem approximation from r gaussian vectors, l its least eigenvalue. Cost: r products of K at
    first, and one an iteration (a Hessian product of kernel_energy, counted; of kernel_ls, whose Hessian is K^2, on the data).
    """
    objective, oracle = problem.exact, problem.oracle
    if not isinstance(objective, (KernelLS, KernelEnergy)):
        raise UsageError("nystrom-pcg: there is no kernel matrix; it serves kernel_ls and kernel_energy")
    n = oracle.dimension
    if rank > n:
        raise UsageError(f"nystrom-pcg: rank={rank} is above the kernel's {n} rows; take at most {n}, or 0")
    rank = rank or int(np.ceil(n**0.5))
    k = objective.k
    generator = np.random.RandomState(seed)

    def iterate() -> Iterator[Tensor]:
        if isinstance(objective, KernelEnergy):
            residual, product = oracle.gradient(x), lambda v: oracle.hvp(x, v)
        else:
            residual, product = oracle.residual(x) / objective.weight**0.5, lambda v: k @ v
        for step in cg(product, residual, preconditioner(k, rank, generator)):
            yield x - step

    return iterate()


def preconditioner(k: Tensor, rank: int, generator: np.random.RandomState) -> Callable[[Tensor], Tensor]:
    """r -> P^-1 r; see `solve`. The shift keeps the small Cholesky factor from breaking down, and is taken off again."""
    omega, _ = torch.linalg.qr(torch.from_numpy(generator.standard_normal((len(k), rank))).to(k))
    y = k @ omega
    shift = EPS * len(k) ** 0.5 * float(y.norm())
    y = y + shift * omega
    factor = torch.linalg.cholesky((omega.T @ y + (omega.T @ y).T) / 2)
    u, s, _ = torch.linalg.svd(torch.linalg.solve_triangular(factor, y.T, upper=False).T, full_matrices=False)
    values = (s * s - shift).clamp(min=EPS * float(s[0]) ** 2)

    scaled = u * (values[-1] / values - 1)
    return lambda r: r + scaled @ (u.T @ r)
