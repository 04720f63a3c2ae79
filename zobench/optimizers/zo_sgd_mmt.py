"""ZO-SGD-MMT: the averaged estimate handed to SGD with momentum (Zhang et al., 2024, arXiv 2402.11592)."""

from zobench.core import rules
from zobench.core.estimators import mean, spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="ZO-SGD-MMT",
    year=2024,
    paper="2402.11592",
    order="zeroth",
    family="two-point",
    rate="(1 - momentum) * gradient / (1 + (gradient / two_point - 1) / queries)",
    forwards="queries * ((2 if sides == 'two' else 1) + guided) + (0 if sides == 'two' else 1)",
    state="numel * wide",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-5, 1e-6, 1e-7, 1e-8)),
    limits=dict(lr=">=0", eps=">0", queries=">=1", momentum=">=0 <1"),
    choices=dict(sides=("two", "one")),
    aliases=("zo-sgd-momentum",),
    notes="The mathematics of mezo-momentum in the peer benchmark's protocol. The estimate of all queries is formed "
    "one tensor at a time: 1 copy of the weights is kept, where the released code holds a gradient beside it. "
    "lr 1e-7 of its grid is our choice.",
)

__all__ = ["ZOSGDMMT"]


class ZOSGDMMT(ZerothOrder):
    """b = momentum b + ghat (the first b is ghat); theta -= lr b. ghat = mean_j g_j z_j + weight_decay theta.

    queries: directions a step, at one theta and minibatch. sides: two | one (all share the loss at theta). lr: about
    1 - momentum times that of MeZO. eps: radius of the probes.
    """

    def __init__(self, params, lr=1e-7, *, eps=1e-3, momentum=0.9, queries=1, sides="two", **common):
        super().__init__(params, dict(lr=lr), eps=eps, momentum=momentum, queries=queries, sides=sides, **common)

    def update(self):
        z, slopes, loss = yield from spsa(self, self.queries, self.sides)
        self.each(rules.momentum(self.momentum), mean(z, slopes) + self.decay())
        return loss
