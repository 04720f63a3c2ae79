"""ZO-signSGD: every element moves by lr against the sign of the estimate (Liu et al., ICLR 2019; arXiv 2402.11592)."""

import numpy as np

from zobench.core import rules
from zobench.core.estimators import mean, spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="ZO-signSGD",
    year=2019,
    paper="Liu et al., ICLR 2019; 2402.11592",
    order="zeroth",
    family="adaptive",
    rate="adaptive * sqrt(d) * two_point / gradient / 3",
    forwards="(2 * n if sides == 'two' else n + 1) + n * guided",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-5, 1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", n=">=1"),
    choices=dict(sign_of=("vector", "scalar"), sides=("two", "one")),
    brief=dict(lr=0.02),
    aliases=("zo-signsgd",),
    notes="sign_of=scalar is what the released code of 2402.11592 runs: MeZO with slopes of one size. Its grid is "
    "broken; ours is here. n > 1 keeps nothing either: the mean is drawn again one tensor at a time. weight_decay is "
    "decoupled. Steps do not shrink with the gradient: a constant lr stops at a floor (--schedule linear).",
)

__all__ = ["ZOSGDSign"]


class ZOSGDSign(ZerothOrder):
    """theta -= lr * (sign(mean_j g_j z_j) + weight_decay theta); sign_of=scalar: theta -= lr * mean_j sign(g_j) z_j.

    lr: move of an element. eps: radius of the probes. n: directions. sides: two, g = (L(+eps z) - L(-eps z)) / (2 eps); one,
    (L(eps z) - L(0)) / eps.
    """

    def __init__(self, params, lr=1e-6, *, eps=1e-3, n=1, sides="two", sign_of="vector", **common):
        super().__init__(params, dict(lr=lr), eps=eps, n=n, sides=sides, sign_of=sign_of, **common)

    def update(self):
        z, slopes, loss = yield from spsa(self, self.n, self.sides)
        if self.sign_of == "scalar":
            self.descend(
                mean(z, [np.sign(slope) + 0 * slope for slope in slopes])
            )  # 0 * inf is nan: a sign would hide it
            return loss

        def rule(p, estimate, decay, state, group):
            rules.move(p, (estimate.sign() + decay) * group["lr"])

        self.each(rule, mean(z, slopes), self.decay())
        return loss
