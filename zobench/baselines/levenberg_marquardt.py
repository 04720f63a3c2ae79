"""Levenberg-Marquardt: Gauss-Newton in a region of trust, its damping raised and lowered by what each step did."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from zobench.baselines._descent import EPS, SUFFICIENT, decreases
from zobench.baselines._squares import require_squares
from zobench.problems.oracle import Oracle
from zobench.problems.regression import Regression

INFO = dict(
    title="Levenberg-Marquardt",
    year=1963,
    paper="Levenberg, Quart. Appl. Math. 2 (1944); Marquardt, J. SIAM 11 (1963)",
    order="reference",
    family="reference",
    tasks=("least squares",),
    limits=dict(damping=">0"),
    choices=dict(),
    aliases=("lm",),
    notes="lambda x 1/4 after a decrease, x 4 after none; one SVD serves all trials at a point.",
    random=False,
)

LOWER, RAISE = 0.25, 4.0
LARGEST = 1e20  # lambda relative to |J|^2: beyond, no step decreases the loss


def solve(problem: Regression, x: Tensor, *, seed: int = 0, damping: float = 1e-3) -> Iterator[Tensor]:
    """x -= (J^T J + lambda I)^-1 J^T c where f falls by 1e-4 of what the model predicts, lambda from damping |J(x0)|^2.

    Cost: a Jacobian, a residual, an SVD (m D^2), and a value a trial.
    """
    del seed
    require_squares("levenberg-marquardt", problem, x)
    return _iterate(problem.oracle, x, damping)


def _iterate(oracle: Oracle, x: Tensor, damping: float) -> Iterator[Tensor]:
    lam = None
    while True:
        residual = oracle.residual(x)
        value = 0.5 * float(residual @ residual)
        # J = Q R and the SVD of R: far cheaper than that of J, which has many more rows
        q, r = torch.linalg.qr(oracle.jacobian(x))
        u, s, vh = torch.linalg.svd(r, full_matrices=False)
        along = s * (u.T @ (q.T @ residual))  # J^T c in the right singular basis
        gradient, top = vh.T @ along, float(s[0]) ** 2
        lam = damping * top if lam is None else lam
        while True:
            step = vh.T @ (along / (s * s + lam))
            if lam > LARGEST * top or float(step.norm()) <= EPS * float(x.norm()):
                return
            predicted = 0.5 * float(step @ (lam * step + gradient))
            if decreases(oracle, x - step, value, float(gradient.norm()), SUFFICIENT * predicted):
                break
            lam *= RAISE
        x, lam = x - step, lam * LOWER
        yield x
