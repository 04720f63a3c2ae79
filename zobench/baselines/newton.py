"""Newton's method, saddle-free and damped (Dauphin et al., 2014, arXiv:1406.2572)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from zobench.baselines._descent import descend
from zobench.problems.regression import Regression
from zobench.spec import UsageError

INFO = dict(
    title="Newton, saddle-free and damped",
    year=2014,
    paper="Dauphin et al., arXiv:1406.2572",
    order="reference",
    family="reference",
    tasks=("*",),
    limits=dict(),
    choices=dict(),
    aliases=("saddle-free-newton", "damped-newton"),
    notes="Eigenvalues of the Hessian by magnitude, Armijo's rule; D <= 1000. Plain: saddle_free=false,damped=false.",
    random=False,
)

LARGEST = 1000  # dimensions of a Hessian that is written out
FLOOR = 1e-10  # of |eigenvalues|, relative to the largest


def solve(
    problem: Regression, x: Tensor, *, seed: int = 0, damped: bool = True, saddle_free: bool = True
) -> Iterator[Tensor]:
    """x -= t Q |Lambda|^-1 Q^T g for the Hessian Q Lambda Q^T, |Lambda| >= 1e-10 of its largest.

    saddle_free=false keeps the signs of Lambda; damped=false takes t = 1. Cost: D Hessian products, a gradient, D^3 and a
    value a trial.
    """
    del seed
    oracle = problem.oracle
    if oracle.dimension > LARGEST:
        raise UsageError(
            f"newton: D = {oracle.dimension} is above {LARGEST}; it serves tasks of at most {LARGEST} parameters"
        )

    def direction(x: Tensor, gradient: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(oracle.hessian(x))
        magnitude = values.abs().clamp(min=FLOOR * float(values.abs().max()))
        signs = 1.0 if saddle_free else torch.where(values < 0, -1.0, 1.0).to(values)
        return vectors @ (signs * (vectors.T @ gradient) / magnitude)

    return descend(oracle, x, direction, damped)
