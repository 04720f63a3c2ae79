"""RMSProp: steps scaled by a running root mean square of the gradient (Tieleman and Hinton, 2012; torch.optim.RMSprop)."""

import torch

from zobench.core.first_order import FirstOrder

INFO = dict(
    title="RMSProp",
    year=2012,
    paper="Tieleman and Hinton, Coursera lecture 6.5",
    order="first",
    family="adaptive",
    forwards="1",
    backwards="1",
    state="numel * itemsize * (2 if momentum else 1) + 4",
    replay="none",
    mode="train",
    grid=dict(lr=(1e-6, 1e-5, 1e-4)),
    limits=dict(lr=">=0", smoothing=">=0", eps=">=0", momentum=">=0", weight_decay=">=0"),
    aliases=(),
    notes="`smoothing` is torch's alpha. No bias correction: the first step is 1 / sqrt(1 - smoothing) = 10 times lr. The grid "
    "is ours; no source gives one for language models.",
)

__all__ = ["RMSProp"]


class RMSProp(FirstOrder, torch.optim.RMSprop):
    """s = smoothing s + (1 - smoothing) g * g; theta -= lr * g / (sqrt(s) + eps), g = gradient + weight_decay theta.

    momentum: of the scaled gradient, buf = momentum buf + g / (sqrt(s) + eps); theta -= lr * buf.
    """

    def __init__(self, params, lr=1e-5, *, smoothing=0.99, eps=1e-8, momentum=0.0, weight_decay=0.0):
        super().__init__(params, lr=lr, alpha=smoothing, eps=eps, momentum=momentum, weight_decay=weight_decay)
