"""SGD: a step against the gradient (torch.optim.SGD, unchanged)."""

import torch

from zobench.core.first_order import FirstOrder

INFO = dict(
    title="SGD",
    year=1951,
    paper="Robbins and Monro, Ann. Math. Statist. 22",
    order="first",
    family="gradient",
    forwards="1",
    backwards="1",
    state="0",
    replay="none",
    mode="train",
    grid=dict(lr=(1e-4, 5e-4, 1e-3, 5e-3, 1e-2)),
    limits=dict(lr=">=0", weight_decay=">=0"),
    aliases=(),
    notes="",
)

__all__ = ["SGD"]


class SGD(FirstOrder, torch.optim.SGD):
    """theta -= lr * (gradient + weight_decay theta), no momentum."""

    def __init__(self, params, lr=1e-3, *, weight_decay=0.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay)
