"""Addax: a zeroth-order estimate on long rows, a gradient on short ones (Li et al., 2024, arXiv 2410.06441)."""

from zobench.core.estimators import slope_along
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="Addax",
    year=2024,
    paper="2410.06441",
    order="hybrid",
    family="two-point",
    rate="1 / (mix / two_point + (1 - mix) / gradient)",
    forwards="3 + guided",
    backwards="1",
    state="0",
    replay="none",
    mode="eval",
    grid=dict(lr=(1e-5, 1e-4), mix=(1e-3, 1e-2, 1e-1)),
    limits=dict(lr=">=0", eps=">0", mix=">=0 <=1"),
    choices=dict(split=("all", "length")),
    aliases=(),
    notes="mix is the paper's alpha. split=all is Addax-WA: both minibatches from the whole data. split=length: rows "
    "above the median length for the estimate, the others for the gradient (the paper tunes the threshold). No "
    "dropout in either half. The gradient is whole before the step; the release updates tensor by tensor.",
)

__all__ = ["Addax"]


class Addax(ZerothOrder):
    """theta -= lr * (mix g z + (1 - mix) gradient + weight_decay theta), g and gradient on two minibatches.

    mix: weight of the zeroth-order part, at most 1. split: all | length (language tasks alone). lr: that of SGD,
    nearly.
    """

    def __init__(self, params, lr=1e-4, *, eps=1e-3, mix=1e-2, split="all", **common):
        super().__init__(params, dict(lr=lr), eps=eps, mix=mix, split=split, **common)

    def update(self):
        far, near = (None, 1) if self.split == "all" else ("long", "short")
        z = yield from self.direction(batch=far)
        slope, loss = yield from slope_along(self, z, batch=far)
        self.finite((yield self.at(kind="grad", batch=near)))
        self.descend(self.mix * slope * z + (1 - self.mix) * self.gradient())
        return loss
