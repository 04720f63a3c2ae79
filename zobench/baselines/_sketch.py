"""Random sketches of a tall matrix: Gaussian, and rows by leverage score."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

CHUNK = 512  # rows of a gaussian sketch that are drawn at once: at scale large all of them would take 20 GB


def leverage_scores(a: Tensor) -> Tensor:
    """(n,) squared row norms of Q in A = QR; they sum to the rank."""
    q, _ = torch.linalg.qr(a)
    return q.square().sum(1)


def draw_rows(a: Tensor, m: int, generator: np.random.RandomState) -> tuple[Tensor, Tensor]:
    """m rows drawn with replacement, with probability p_i in proportion to leverage: (their numbers, 1 / (m p_i))."""
    scores = leverage_scores(a)
    p = (scores / scores.sum()).cpu().numpy()
    rows = torch.from_numpy(generator.choice(len(p), size=m, p=p / p.sum())).to(a.device)
    return rows, 1 / (m * torch.from_numpy(p).to(a)[rows])


def sketch(kind: str, matrices: Tensor, m: int, by: Tensor, generator: np.random.RandomState) -> Tensor:
    """(m, k) S M with E S^T S = I, S gaussian or rows drawn by the leverage of `by` (n, d)."""
    if kind == "gaussian":
        sizes = [min(CHUNK, m - start) for start in range(0, m, CHUNK)]
        parts = (torch.from_numpy(generator.standard_normal((size, len(matrices)))) for size in sizes)
        return torch.cat([part.to(matrices) @ matrices for part in parts]) / m**0.5
    rows, weights = draw_rows(by, m, generator)
    return weights.sqrt()[:, None] * matrices[rows]
