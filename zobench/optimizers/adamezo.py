"""AdaMeZO: Adam's moments drawn again from the last few slopes, none of them stored (Cai et al., 2026, arXiv 2605.00650)."""

from zobench.core import rules
from zobench.core.estimators import spsa
from zobench.core.history import recall, remember
from zobench.core.perturb import Direction, squared
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="AdaMeZO",
    year=2026,
    paper="2605.00650",
    order="zeroth",
    family="adaptive",
    rate="min(two_point, 0.5 * adaptive / scale)",
    forwards="2 + guided",
    state="0",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-8, 1e-7, 1e-6)),
    limits=dict(lr=">=0", eps=">0", history=">=1", beta1=">=0 <1", beta2=">=0 <1", adam_eps=">0", scale=">0"),
    brief=dict(history=4),
    aliases=(),
    notes="As released: sums without the factors 1 - beta, no bias correction, adam_eps 1e-5 outside the root, and a "
    "constant `scale` of 100, so that lr = 1e-7 serves the first `history` steps, which are MeZO's, and the others. "
    "Looked into: a rate divided by sqrt(d) left toy_sentiment where it was; an element moves by lr * scale, so the "
    "rate is Adam's over scale.",
)

__all__ = ["AdaMeZO"]


class AdaMeZO(ZerothOrder):
    """m = sum_k beta1^k g_k z_k, v = sum_k beta2^k (g_k z_k)^2, k the age of the last `history` steps;
    theta -= lr * (scale m / (sqrt(v) + adam_eps) + weight_decay theta). The first `history` steps are MeZO's.

    scale lr: step of an element. It takes `history` draws an element, and no memory.
    """

    def __init__(
        self, params, lr=1e-7, *, eps=1e-3, history=10, beta1=0.7, beta2=0.9, adam_eps=1e-5, scale=100.0, **common
    ):  # fmt: skip
        options = dict(eps=eps, history=history, beta1=beta1, beta2=beta2, adam_eps=adam_eps, scale=scale)
        super().__init__(params, dict(lr=lr), **options, **common)

    def update(self):
        (z,), (slope,), loss = yield from spsa(self)
        remember(self, slope * z, self.history)
        if self.steps < self.history:
            self.descend(slope * z)
            return loss
        m, v = Direction(), Direction()
        for age, estimate in enumerate(recall(self)):
            m += self.beta1**age * estimate
            v += self.beta2**age * squared(estimate)

        def rule(p, m, v, decay, state, group):
            rules.move(p, (self.scale * m / (v.sqrt() + self.adam_eps) + decay) * group["lr"])

        self.each(rule, m, v, self.decay())
        return loss
