"""MEAZO: the two-point step over one running root mean square of the slope (2026, arXiv 2605.03869)."""

from zobench.core.estimators import mean, spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MEAZO",
    year=2026,
    paper="2605.03869",
    order="zeroth",
    family="adaptive",
    rate="adaptive * sqrt(d) * two_point / gradient / 3",
    forwards="n * (2 + guided)",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-5, 1e-4)),
    limits=dict(lr=">=0", eps=">0", n=">=1", beta=">=0 <1", zeta=">0"),
    brief=dict(lr=0.006),
    aliases=(),
    notes="From a secondary source, which prints beta^(t-1) in the bias correction (undefined in the first step: t here). "
    "Its v is of the mean of the n signed slopes; beta, zeta, n and the grid are ours. Does not depend on the scale "
    "of the loss, up to zeta. Looked into: with adaptive / sqrt(d) nothing moved on toy_sentiment; a step moves each "
    "element by lr, as sign methods do, and takes their rate.",
)

__all__ = ["MEAZO"]


class MEAZO(ZerothOrder):
    """theta -= lr * (mean_i g_i z_i / (sqrt(vhat) + zeta) + weight_decay theta);
    v = beta v + (1 - beta) g^2; vhat = v / (1 - beta^t).

    g_i: two-sided slopes along n directions; g: their mean; v: one number. lr: step of an element, about.
    """

    elementwise = True

    def __init__(self, params, lr=1e-5, *, eps=1e-3, n=1, beta=0.99, zeta=1e-8, **common):
        super().__init__(params, dict(lr=lr), eps=eps, n=n, beta=beta, zeta=zeta, **common)

    def update(self):
        z, slopes, loss = yield from spsa(self, self.n)
        slope = sum(slopes) / self.n
        v = self.memory["v"] = self.beta * self.memory.get("v", 0.0) + (1 - self.beta) * slope * slope
        size = (v / (1 - self.beta ** (self.steps + 1))) ** 0.5
        self.descend(mean(z, slopes) * (1 / (size + self.zeta)))
        return loss
