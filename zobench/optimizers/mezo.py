"""MeZO: SGD along one random direction, its slope from two forward passes (Malladi et al., 2023, arXiv 2305.17333)."""

from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO",
    year=2023,
    paper="2305.17333",
    order="zeroth",
    family="two-point",
    forwards="2",
    backwards="0",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", weight_decay=">=0"),
    choices=dict(law=("gaussian", "rademacher", "sphere")),
    aliases=("zo-sgd",),
    notes="n = 1 two-sided SPSA at one minibatch; restore and update are one write, so rounding does not eat the step.",
)

__all__ = ["MeZO"]


class MeZO(ZerothOrder):
    """theta -= lr * (g z + weight_decay theta), g = (L(theta + eps z) - L(theta - eps z)) / (2 eps)  (Algorithm 1).

    lr: step per unit of the projected gradient. eps: radius of the probes, in units of z. Decay skips 1-D tensors.
    """

    elementwise = True

    def __init__(self, params, lr=1e-6, *, eps=1e-3, weight_decay=0.0, law="gaussian", seed=None, mode="auto"):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay), seed=seed, law=law, mode=mode)
        if not eps > 0:
            raise ValueError(f"eps must be > 0, not {eps}")
        self.eps = eps

    def update(self):
        z = self.draw()
        plus, minus = yield self.at(self.eps * z), self.at(-self.eps * z)
        slope = (plus - minus) / (2 * self.eps)  # projected gradient, nats per unit of z
        self.apply(slope * z + self.decay(), lambda group: -group["lr"])
        return (plus + minus) / 2
