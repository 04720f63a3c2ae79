"""AdamW: Adam with weight decay outside the moments (Loshchilov and Hutter, 2019, arXiv 1711.05101; torch.optim.AdamW)."""

import torch

from zobench.core.first_order import FirstOrder

INFO = dict(
    title="AdamW",
    year=2019,
    paper="1711.05101",
    order="first",
    family="adaptive",
    forwards="1",
    backwards="1",
    state="2 * numel * itemsize + 4",
    replay="none",
    mode="train",
    grid=dict(lr=(1e-5, 5e-5, 8e-5)),
    limits=dict(lr=">=0", beta1=">=0 <1", beta2=">=0 <1", eps=">0", weight_decay=">=0"),
    aliases=(),
    notes="weight_decay is torch's default, 0.01, and the one difference to adam; the papers compared here use 0.",
)

__all__ = ["AdamW"]


class AdamW(FirstOrder, torch.optim.AdamW):
    """theta *= 1 - lr weight_decay; theta -= lr * mhat / (sqrt(vhat) + eps), with bias-corrected moments."""

    def __init__(self, params, lr=1e-5, *, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01):
        super().__init__(params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)
