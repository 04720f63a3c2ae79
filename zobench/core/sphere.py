"""Directions on the sphere of radius sqrt(d): sqrt(d) g / |g|, g the gaussian direction of the same numbers, d all its elements.

Such a direction is g with another coefficient. |g|, over all tensors, costs one more pass over noise that is not stored. Its
bits are the same on every backend: squares are exact in float64, the 4,096 of a block are added in halves (element j to
element j + 2048, then + 1024, ...; missing ones are 0), and the sum over the blocks is the exact one, rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zobench.core import philox
from zobench.core.perturb import CHUNK, LAWS, Direction, seeded, using_reference

CHOICES = (*LAWS, "sphere")


def drawn(law: str, tensors: Sequence[Tensor], draw: int, seed: int | tuple[int, ...], stream: int) -> Direction:
    """A direction of any law over `tensors`, which are numbered in order; a tuple of seeds is the same draw of many runs."""
    if law not in CHOICES:
        raise ValueError(f"unknown law {law!r}: choose from {', '.join(CHOICES)}")
    if law != "sphere":
        return seeded(law, draw, seed, stream)
    count = sum(t.numel() for t in tensors)
    norms = squared_norms(tensors, draw, seed if isinstance(seed, tuple) else (seed,), stream)
    factors = [math.sqrt(count / norm) if norm else 1.0 for norm in norms]
    return seeded("gaussian", draw, seed, stream) * (np.array(factors) if isinstance(seed, tuple) else factors[0])


def squared_norms(tensors: Sequence[Tensor], draw: int, seeds: Sequence[int], stream: int) -> list[float]:
    """|g|^2 over all tensors, for each seed."""
    if using_reference() or any(t.device.type != "cpu" for t in tensors):
        return [math.fsum(_blocks(tensors, draw, seed, stream)) for seed in seeds]
    from zobench.core import kernels

    size = np.array([t.numel() for t in tensors], np.int64)
    blocks = kernels.squares(size, np.arange(len(size)), draw, stream, np.array(seeds, np.int64))
    return [math.fsum(of_run) for of_run in blocks.tolist()]


def _blocks(tensors: Sequence[Tensor], draw: int, seed: int, stream: int) -> list[float]:
    """The sum of squares of each block, in plain torch on the tensors' own devices."""
    sums: list[Tensor] = []
    for i, t in enumerate(tensors):
        for lo in range(0, t.numel(), CHUNK):
            z = philox.normal(seed, draw, i, stream, min(CHUNK, t.numel() - lo), lo, t.device).double()
            parts = torch.nn.functional.pad(z, (0, -len(z) % philox.BLOCK)).square().view(-1, philox.BLOCK)
            while parts.shape[1] > 1:
                low, high = parts.chunk(2, dim=1)
                parts = low + high
            sums.append(parts.flatten())
    return torch.cat([s.to(sums[0].device) for s in sums]).tolist() if sums else []
