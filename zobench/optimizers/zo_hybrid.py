"""ZO-hybrid: backpropagation for the last layers, two-point estimates for the others (Zhang et al., 2024, arXiv 2402.11592)."""

from zobench.core.estimators import slope_along
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="ZO-hybrid",
    year=2024,
    paper="2402.11592",
    order="hybrid",
    family="two-point",
    rate="min(two_point, gradient / ratio)",
    forwards="3 + guided",
    backwards="1",
    state="0",
    replay="none",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", late=">=1", ratio=">=0"),
    aliases=("elastic-zo",),
    notes="The paper names the split and releases no code; this is our reading. SGD for the last `late` layers (the head counts as "
    "one) at ratio * lr; their activations and gradients are all that backpropagation keeps.",
)

__all__ = ["ZOHybrid"]


class ZOHybrid(ZerothOrder):
    """Early layers: theta -= lr * g z, z on them alone. Late layers: theta -= ratio * lr * gradient, from one backward pass.

    late: how many of the last layers are differentiated. lr: of the early ones, as in MeZO. Both see the same weights.
    """

    def __init__(self, params, lr=1e-7, *, eps=1e-3, late=1, ratio=100.0, **common):
        super().__init__(params, dict(lr=lr), eps=eps, late=late, ratio=ratio, **common)

    def propose(self):
        return self.draw().only([i for block in self.blocks()[: -self.late] for i in block])

    def update(self):
        late = [i for block in self.blocks()[-self.late :] for i in block]
        z = yield from self.direction()
        slope, loss = yield from slope_along(self, z)
        yield self.at(kind="grad", blocks=late)
        self.descend(slope * z + self.ratio * self.gradient())
        return loss
