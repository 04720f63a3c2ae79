"""Adagrad: steps scaled by the root of all squared gradients so far (Duchi et al., 2011; torch.optim.Adagrad)."""

import torch

from zobench.core.first_order import FirstOrder

INFO = dict(
    title="Adagrad",
    year=2011,
    paper="Duchi et al., JMLR 12",
    order="first",
    family="adaptive",
    rate="10 * adaptive",
    forwards="1",
    backwards="1",
    state="numel * itemsize + 4",
    replay="none",
    mode="train",
    grid=dict(lr=(1e-4, 1e-3, 1e-2)),
    limits=dict(lr=">=0", lr_decay=">=0", eps=">=0", weight_decay=">=0"),
    aliases=(),
    notes="Its steps shrink as 1 / sqrt(t): an omitted lr is ten times that of Adam, the ratio of torch's defaults. The grid "
    "is ours; no source gives one for language models.",
)

__all__ = ["Adagrad"]


class Adagrad(FirstOrder, torch.optim.Adagrad):
    """s += g * g; theta -= lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps), g = gradient + weight_decay theta."""

    def __init__(self, params, lr=1e-3, *, lr_decay=0.0, eps=1e-10, weight_decay=0.0):
        super().__init__(params, lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay)
