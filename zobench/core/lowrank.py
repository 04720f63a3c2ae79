"""Factors of low-rank directions: one list entry per trained tensor, None for those of fewer than two dimensions.

A tensor of two dimensions or more is seen as a matrix (m, n): its first dimension and all the rest. The rank is never more
than min(m, n).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zobench.core.perturb import Direction, factored

Factors = list[Tensor | None]


def matrix_shape(p: Tensor) -> tuple[int, int]:
    """(m, n) of a tensor seen as a matrix."""
    return p.shape[0], p[0].numel() if p.shape[0] else 0


def rank_of(p: Tensor, rank: int) -> int:
    return min(rank, *matrix_shape(p))


def gaussian_factors(opt: Any, rank: int, draw: int, stream: int, side: str) -> Factors:
    """N(0, 1) numbers of draw `draw`: (m, r) for side "left", (n, r) for side "right", r = min(rank, m, n)."""
    found: Factors = []
    for i, p in enumerate(opt.tensors):
        if p.dim() < 2:
            found.append(None)
            continue
        length = matrix_shape(p)[0 if side == "left" else 1]
        found.append(opt.numbers(i, (length, rank_of(p, rank)), draw, stream))
    return found


def orthonormal(factors: Sequence[Tensor | None]) -> Factors:
    """The columns of each (k, r) made orthonormal by QR, in the dtype of the factors (float32 or float64).

    Signs are those of Gram and Schmidt (R with a positive diagonal), whatever the library's QR prefers.
    """
    return [None if f is None else _gram_schmidt(f) for f in factors]


def _gram_schmidt(f: Tensor) -> Tensor:
    q, r = torch.linalg.qr(f)
    return (q * torch.where(r.diagonal() < 0, -1.0, 1.0).to(q)).contiguous()  # as a checkpoint gives it back


def outer(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> Direction:
    """left (m, r) @ right (n, r)^T on every matrix, nothing on other tensors."""
    return factored(left, [None if v is None else v.T for v in right])
