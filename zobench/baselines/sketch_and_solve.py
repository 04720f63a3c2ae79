"""Sketch-and-solve: the least squares of m random combinations, or samples, of the rows (Sarlos, 2006; Drineas et al., 2011)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from zobench.baselines._sketch import sketch
from zobench.baselines._squares import require_linear, system
from zobench.problems.oracle import Oracle
from zobench.problems.regression import Regression
from zobench.problems.sheets.linear import Linear

INFO = dict(
    title="Sketch-and-solve",
    year=2006,
    paper="Sarlos, FOCS 2006; Drineas et al., Numer. Math. 117 (2011); arXiv:2311.14823 (its classical part)",
    order="reference",
    family="reference",
    tasks=("linear", "ridge", "multiple"),
    limits=dict(oversampling=">1"),
    choices=dict(kind=("gaussian", "leverage")),
    aliases=(),
    notes="m = oversampling d rows. gaussian: the expected excess over f* is d / (m - d - 1). One iterate.",
    random=True,
)


def solve(
    problem: Regression, x: Tensor, *, seed: int = 0, kind: str = "gaussian", oversampling: float = 10.0
) -> Iterator[Tensor]:
    """argmin |S (A X - B)|^2 / 2n + lam / 2 |X|^2 for a sketch S of m = oversampling d rows.

    gaussian: S entries N(0, 1/m). leverage: rows drawn with probability p_i = l_i / d, weighted by 1 / sqrt(m p_i), l the
    leverage scores of A. Cost: a residual; m n d for the gaussian sketch, n d^2 for the scores; m d^2.
    """
    return _solve(problem.oracle, require_linear("sketch-and-solve", problem), x, seed, kind, oversampling)


def _solve(oracle: Oracle, objective: Linear, x: Tensor, seed: int, kind: str, oversampling: float) -> Iterator[Tensor]:
    matrix, rhs = system(oracle, objective, x)
    n, d = objective.a.shape
    both = torch.cat([matrix, rhs], 1)
    m = round(oversampling * d)
    small = sketch(kind, both[:n], m, objective.a, np.random.RandomState(seed))
    _, r = torch.linalg.qr(torch.cat([small, both[n:]]))  # the ridge's rows stay as they are
    yield x - torch.linalg.solve_triangular(r[:d, :d], r[:d, d:], upper=True).reshape(-1)
