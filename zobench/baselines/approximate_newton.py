"""The papers' approximate Newton: a Hessian A^T D A, D diagonal, from few rows of A drawn by leverage score.

Deng, Li and Song, arXiv:2304.10411; Li, Song and Zhou, arXiv:2303.15725.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from zobench.baselines._descent import descend
from zobench.baselines._sketch import draw_rows
from zobench.problems.objective import Composite
from zobench.problems.regression import Regression
from zobench.problems.sheets.classic import Logistic
from zobench.problems.sheets.exponential import Exponential
from zobench.problems.sheets.softmax import SoftmaxCE, SoftmaxL2
from zobench.spec import UsageError

INFO = dict(
    title="Approximate Newton, leverage-score sampling",
    year=2023,
    paper="arXiv:2303.15725, arXiv:2304.10411",
    order="reference",
    family="reference",
    tasks=("softmax_l2", "softmax_ce", "exp", "cosh", "sinh", "logistic"),
    limits=dict(oversampling=">=0"),
    choices=dict(),
    aliases=("leverage-newton",),
    notes="oversampling: rows of the Hessian's sketch per dimension; 0 takes all of them. Softmax: its diagonal part alone.",
    random=True,
)

LEAST = 0.1  # of the Gauss-Newton diagonal: what D must exceed


def solve(
    problem: Regression, x: Tensor, *, seed: int = 0, oversampling: float = 16.0, damped: bool = True
) -> Iterator[Tensor]:
    """x -= t H~^-1 g, H~ = sum over m drawn rows of a_i D_i a_i^T / (m l_i / d), l the leverage scores of D^1/2 A.

    m = oversampling d. Cost: a gradient, the diagonal D (as much as a Hessian product, and counted so), a QR of D^1/2 A and
    m d^2; a value a trial.
    """
    objective, oracle = problem.exact, problem.oracle
    if not serves(objective):
        raise UsageError(
            "approximate-newton: the Hessian is not A^T D A; it serves softmax_l2, softmax_ce, exp, cosh, sinh and logistic"
        )
    assert isinstance(objective, Composite)
    generator = np.random.RandomState(seed)
    a, shift = objective.a, shrinkage(objective)
    m = round(oversampling * a.shape[1])

    def direction(x: Tensor, gradient: Tensor) -> Tensor:
        oracle.counts["hvps"] += 1
        with torch.no_grad():
            scaled = diagonal(objective, objective.logits(oracle.named(x))).sqrt()[:, None] * a
        hessian = sampled_gram(scaled, m, generator)
        hessian.diagonal().add_(shift)
        return torch.linalg.solve(hessian, gradient)

    return descend(oracle, x, direction, damped)


def sampled_gram(a: Tensor, m: int, generator: np.random.RandomState) -> Tensor:
    """(d, d) an unbiased estimate of A^T A from m rows, or A^T A itself for m = 0."""
    if m == 0:
        return a.T @ a
    rows, weights = draw_rows(a, m, generator)
    return a[rows].T @ (weights[:, None] * a[rows])


def serves(objective: object) -> bool:
    return type(objective) in (
        SoftmaxL2,
        SoftmaxCE,
        Exponential,
        Logistic,
    )  # Exponential's rescaled form has no diagonal


def shrinkage(objective: Composite) -> float:
    """lambda of 1/2 lambda |x|^2."""
    return objective.lam if isinstance(objective, Logistic) else 0.0


def diagonal(objective: Composite, z: Tensor) -> Tensor:
    """(n,) D >= 0 at the logits: the Hessian's diagonal (part) with the regulariser's, at least a tenth of Gauss-Newton's."""
    hessian, square = _parts(objective, z)
    if objective.w2 is not None:
        hessian, square = hessian + objective.ridge * objective.w2, square + objective.ridge * objective.w2
    return torch.maximum(hessian, LEAST * square)


def _parts(objective: Composite, z: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) the diagonal of the Hessian and that of Gauss-Newton's, both in the logits."""
    if isinstance(objective, Exponential):
        return _exponential(objective, z)
    if isinstance(objective, Logistic):
        variance = torch.sigmoid(z) * torch.sigmoid(-z) / len(z)
        return variance, variance
    return _softmax(objective, z)


def _exponential(objective: Exponential, z: Tensor) -> tuple[Tensor, Tensor]:
    """u'^2 + u'' (u - b) and u'^2."""
    u = objective.link(z)
    up = {"exp": torch.exp, "cosh": torch.sinh, "sinh": torch.cosh}[objective.function](z)
    # exp, cosh and sinh are their own second derivatives
    return objective.weight * (up * up + u * (u - objective.b)), objective.weight * up * up


def _softmax(objective: Composite, z: Tensor) -> tuple[Tensor, Tensor]:
    """Without the terms of rank 2: (2p - b) p - <p, p - b> p, and p^2; of cross-entropy p twice."""
    p = torch.softmax(z, -1)
    if isinstance(objective, SoftmaxCE):
        return p, p
    assert isinstance(objective, SoftmaxL2)
    return (2 * p - objective.b) * p - (p @ (p - objective.b)) * p, p * p
