"""Gradients projected on a random r-dimensional subspace: what a subspace method reaches that looks at nothing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zobench.baselines._low_rank import Projected, require_matrices
from zobench.problems.regression import Regression

INFO = dict(
    title="Random gradient projection",
    year=2024,
    paper="arXiv:2502.05790 (as a baseline); after Hao et al., Flora, arXiv:2402.03293",
    order="reference",
    family="reference",
    tasks=("subspace_trap", "matfac", "bigram", "matrix parameters"),
    limits=dict(rank=">=0", refresh=">=1", lr=">0"),
    choices=dict(inner=("sgd", "adam")),
    aliases=(),
    notes="r random orthonormal columns. rank=0: the root of the smaller side. Reports successive subspaces' overlap.",
    random=True,
)


def solve(
    problem: Regression,
    x: Tensor,
    *,
    seed: int = 0,
    rank: int = 0,
    refresh: int = 20,
    inner: str = "sgd",
    lr: float = 0.01,
) -> Projected:
    """See `_low_rank.Projected`. Cost: a minibatch's gradient a step, an SVD every `refresh` steps."""
    require_matrices("random-projection", problem)
    return Projected(problem, x, choose, rank=rank, refresh=refresh, inner=inner, lr=lr, seed=seed)


def choose(gradient: Tensor, r: int, generator: np.random.RandomState) -> Tensor:
    """(m, r) orthonormal, its span uniformly random."""
    gaussian = generator.standard_normal((gradient.shape[0], r))
    basis, _ = torch.linalg.qr(torch.from_numpy(gaussian).to(gradient))
    return basis
