"""MeZO as in the released code (princeton-nlp/MeZO, large_models/trainer.py): what the engine is measured against.

`torch.manual_seed`, then `torch.normal` tensor by tensor, the weights rewritten each time: +eps, -2 eps, +eps, and the
update. The forward computes the logits of every position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def add_noise(parameters: Iterable[Tensor], seed: int, scale: float) -> None:
    """p = p + scale * z, z drawn again from the seed."""
    torch.manual_seed(seed)
    for p in parameters:
        z = torch.normal(mean=0, std=1, size=p.data.size(), device=p.data.device, dtype=p.data.dtype)
        p.data = p.data + scale * z


@torch.no_grad()
def step(parameters: list[Tensor], closure: Callable[[], Tensor], seed: int, lr: float, eps: float) -> float:
    """Four passes over the weights and two forwards."""
    add_noise(parameters, seed, eps)
    plus = float(closure())
    add_noise(parameters, seed, -2 * eps)
    minus = float(closure())
    add_noise(parameters, seed, eps)
    slope = (plus - minus) / (2 * eps)
    add_noise(parameters, seed, -lr * slope)
    return (plus + minus) / 2
