"""Gradients projected on their r leading left singular vectors, as GaLore does (Zhao et al., 2024, arXiv:2403.03507)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zobench.baselines._low_rank import Projected, require_matrices
from zobench.problems.regression import Regression

INFO = dict(
    title="Top-r gradient projection",
    year=2024,
    paper="Zhao et al., arXiv:2403.03507",
    order="reference",
    family="reference",
    tasks=("subspace_trap", "matfac", "bigram", "matrix parameters"),
    limits=dict(rank=">=0", refresh=">=1", lr=">0"),
    choices=dict(inner=("sgd", "adam")),
    aliases=("galore-top-r",),
    notes="The r leading left singular vectors. rank=0: the root of the smaller side. Reports successive subspaces' overlap.",
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
    require_matrices("top-r", problem)
    return Projected(problem, x, choose, rank=rank, refresh=refresh, inner=inner, lr=lr, seed=seed)


def choose(gradient: Tensor, r: int, generator: np.random.RandomState) -> Tensor:
    """(m, r) the leading left singular vectors."""
    del generator
    u, _, _ = torch.linalg.svd(gradient, full_matrices=False)
    return u[:, :r]
