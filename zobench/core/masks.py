"""Thresholds for masks that keep a given fraction of the weights: of their magnitudes, or of a random number each.

A mask itself is a predicate, `direction.scaled(callable)` (core/perturb.py): never stored, the same in probe and update.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from zobench.core.perturb import CHUNK, computing_dtype


def threshold(tensors: Sequence[Tensor], fraction: float) -> float:
    """The smallest h such that at least this fraction of all elements has |w| <= h.

    An exact order statistic, by bisection on the bits of h: no copy of the weights, the same on every device.
    """
    count = max(math.ceil(fraction * sum(t.numel() for t in tensors) - 1e-9), 1)
    double = any(t.dtype == torch.float64 for t in tensors)
    number, whole = ("<d", "<Q") if double else ("<f", "<I")
    value = lambda bits: struct.unpack(number, struct.pack(whole, bits))[0]  # noqa: E731
    low, high = 0, struct.unpack(whole, struct.pack(number, math.inf))[0]
    while low < high:
        middle = (low + high) // 2
        if sum(_within(t, value(middle)) for t in tensors) >= count:
            high = middle
        else:
            low = middle + 1
    return value(low)


def share_within(tensor: Tensor, h: float) -> float:
    """The fraction of its elements with |w| <= h."""
    return _within(tensor, h) / max(tensor.numel(), 1)


def gaussian_cut(density: float) -> float:
    """What a standard normal number stays within with this probability: its inverse distribution function."""
    return float(torch.special.ndtri(torch.tensor(density, dtype=torch.float64)))


def _within(tensor: Tensor, h: float) -> int:
    parts = tensor.detach().reshape(-1).split(CHUNK)
    return int(sum((part.to(computing_dtype(part.dtype)).abs() <= h).sum() for part in parts))
