"""Forward gradient: the exact slope along a random direction, by forward-mode AD (Baydin et al., 2022, arXiv 2202.08587)."""

from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="Forward gradient",
    year=2022,
    paper="2202.08587",
    order="forward",
    family="two-point",
    forwards="1 + guided",
    jvps="1",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-5, 1e-6, 5e-7, 1e-7, 1e-8)),
    limits=dict(lr=">=0"),
    aliases=("forward-gradient",),
    notes="Unbiased: no eps. One call of the model that carries a tangent, counted as a forward and a jvp; a budget counts the "
    "jvp as two forwards. The tangent takes one copy of the weights while it runs; attention runs in its plain form.",
)

__all__ = ["ForwardGrad"]


class ForwardGrad(ZerothOrder):
    """theta -= lr * (c z + weight_decay theta), c = d/dt L(theta + t z) at t = 0. lr as in MeZO."""

    def __init__(self, params, lr=5e-7, **common):
        super().__init__(params, dict(lr=lr), **common)
        self.eps = 1e-3  # of a guide's candidates

    def update(self):
        z = yield from self.direction()
        loss, slope = yield self.at(z, kind="jvp")
        self.descend(slope * z)
        return loss
