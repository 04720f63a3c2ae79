"""MeZO: SGD along one random direction, its slope from two forward passes (Malladi et al., 2023, arXiv 2305.17333)."""

from zobench.core.estimators import spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO",
    year=2023,
    paper="2305.17333",
    order="zeroth",
    family="two-point",
    forwards="2 + guided",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0"),
    aliases=("zo-sgd",),
    notes="n = 1 two-sided SPSA at one minibatch; restore and update are one write, so rounding does not eat the step.",
)

__all__ = ["MeZO"]


class MeZO(ZerothOrder):
    """theta -= lr * (g z + weight_decay theta), g = (L(theta + eps z) - L(theta - eps z)) / (2 eps)  (Algorithm 1).

    lr: step per unit of the projected gradient. eps: radius of the probes, in units of z.
    """

    elementwise = True

    def __init__(self, params, lr=1e-6, *, eps=1e-3, weight_decay=0.0, law="gaussian", **common):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay), eps=eps, law=law, **common)

    def update(self):
        (z,), (slope,), loss = yield from spsa(self)
        self.descend(slope * z)
        return loss
