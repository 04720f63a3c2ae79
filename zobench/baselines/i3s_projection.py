"""Gradients projected on r of their left singular vectors, drawn by importance (I3S: Zhang et al., arXiv:2502.05790)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zobench.baselines._low_rank import Projected, require_matrices
from zobench.problems.regression import Regression

INFO = dict(
    title="I3S gradient projection",
    year=2025,
    paper="arXiv:2502.05790",
    order="reference",
    family="reference",
    tasks=("subspace_trap", "matfac", "bigram", "matrix parameters"),
    limits=dict(rank=">=0", refresh=">=1", lr=">0"),
    choices=dict(inner=("sgd", "adam")),
    aliases=("i3s-sgd",),
    notes="r left singular vectors, drawn by value. rank=0: the root of the smaller side. Reports subspaces' overlap.",
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
    require_matrices("i3s-projection", problem)
    return Projected(problem, x, choose, rank=rank, refresh=refresh, inner=inner, lr=lr, seed=seed)


def choose(gradient: Tensor, r: int, generator: np.random.RandomState) -> Tensor:
    """(m, r) left singular vectors, drawn without replacement with probability in proportion to the singular value."""
    u, s, _ = torch.linalg.svd(gradient, full_matrices=False)
    # vectors of value 0 may still be needed to make up r, so none may have probability 0
    weights = s.cpu().numpy().astype(np.float64)
    weights = np.maximum(weights, 1e-12 * max(weights.max(), 1e-300))
    drawn = generator.choice(len(weights), size=r, replace=False, p=weights / weights.sum())
    return u[:, torch.from_numpy(drawn).to(u.device)]
