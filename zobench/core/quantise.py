"""Weights on a grid of their own: symmetric, uniform, `bits` bits, one scale for a tensor or for each row of a matrix.

w = scale * code, code = -(2^(bits - 1) - 1) .. 2^(bits - 1) - 1, rounded once to the dtype of w. With at most 8 bits the code
can be read back from the rounded weight, so that the weights themselves are all that is kept beside the scales. The model
goes on holding them in floating point: no memory is saved, but what a method does on the grid is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zobench.core.perturb import computing_dtype


def largest(bits: int) -> int:
    """The largest code."""
    return 2 ** (bits - 1) - 1


def fit(w: Tensor, bits: int, scales: str, span: float = 1.0) -> Tensor:
    """(rows,) or (1,): scales at which the grid just holds w. What is all zero gets a grid from -span to span."""
    if not w.numel():
        return torch.ones(1, dtype=computing_dtype(w.dtype), device=w.device)
    rows = w.detach().to(computing_dtype(w.dtype)).reshape(w.shape[0] if scales == "row" and w.dim() >= 2 else 1, -1)
    reach = rows.abs().amax(1)
    return torch.where(reach > 0, reach, reach.max() if reach.max() > 0 else span) / largest(bits)


def spread(scale: Tensor, w: Tensor) -> Tensor:
    """Numbers of the scales, shaped to multiply w."""
    return scale.view(-1, *(1,) * (w.dim() - 1)) if w.dim() else scale.view(())


def spread_part(scale: Tensor, w: Tensor, part: slice) -> Tensor:
    """Numbers of the scales for the elements `part` of w, counted in one row."""
    if len(scale) == 1:
        return scale
    return scale[torch.arange(part.start, part.stop, device=scale.device) // (w.numel() // len(scale))]


def codes(w: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The nearest codes, as floating point numbers."""
    return (w.to(scale.dtype) / spread(scale, w)).round().clamp(-largest(bits), largest(bits)).nan_to_num(0.0)


def write(w: Tensor, numbers: Tensor, scale: Tensor) -> Tensor:
    """w = scale * code, in place."""
    return w.copy_((numbers.to(scale.dtype) * spread(scale, w)).to(w.dtype))
