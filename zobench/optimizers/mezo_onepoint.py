"""MeZO, one-point: one forward a step, its slope against the step before (Malladi et al., 2023, 2305.17333, definition 8)."""

from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO, one-point",
    year=2023,
    paper="2305.17333",
    order="zeroth",
    family="two-point",
    rate="min(two_point / 2, eps * gradient / (adaptive * sqrt(d)) / 2)",
    forwards="(2 if t == 0 else 1) + guided",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-7, 1e-8)),
    limits=dict(lr=">=0", eps=">0"),
    brief=dict(eps=0.1),
    aliases=("zo-residual",),
    notes="The residual-feedback estimate of Zhang et al. (2022). What a step, or another minibatch, changes in the loss "
    "enters the slope divided by eps: it is stable only for lr |gradient| < eps, and far worse than two forwards on "
    "one minibatch. The first step spends one more forward, along a direction of its own. The grid is our suggestion."
    " Looked into: far behind everywhere at equal forwards, as its source says.",
)

__all__ = ["MeZOOnePoint"]


class MeZOOnePoint(ZerothOrder):
    """theta -= lr * g z, g = (L(theta + eps z; B) - the same quantity of the last step, at its theta, z and minibatch) / eps.

    lr: step per unit of g. eps: radius of the probes, in units of z; larger is less noisy and more biased.
    """

    elementwise = True

    def __init__(self, params, lr=1e-7, *, eps=1e-3, **common):
        super().__init__(params, dict(lr=lr), eps=eps, **common)

    def update(self):
        if "last" not in self.memory:
            self.memory["last"] = yield self.at(self.eps * self.propose())
        z = yield from self.direction()
        loss = yield self.at(self.eps * z)
        slope = (loss - self.memory["last"]) / self.eps
        self.memory["last"] = loss
        self.descend(slope * z)
        return loss
