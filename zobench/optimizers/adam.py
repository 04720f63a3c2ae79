"""Adam: steps scaled by running moments of the gradient (Kingma and Ba, 2015, arXiv 1412.6980; torch.optim.Adam)."""

import torch

from zobench.core.first_order import FirstOrder

INFO = dict(
    title="Adam",
    year=2015,
    paper="1412.6980",
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
    notes="weight_decay is added to the gradient, as in torch; for decoupled decay use AdamW.",
)

__all__ = ["Adam"]


class Adam(FirstOrder, torch.optim.Adam):
    """theta -= lr * mhat / (sqrt(vhat) + eps), with bias-corrected moments."""

    def __init__(self, params, lr=1e-5, *, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)
