"""ZO-hybrid: backpropagation in the last layers, two-point elsewhere (Zhang et al., 2024, arXiv 2402.11592)."""

from zobench.core import rules
from zobench.core.estimators import slope_along
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="ZO-hybrid",
    year=2024,
    paper="2402.11592",
    order="hybrid",
    family="two-point",
    rate="min(two_point, (gradient if fo == 'sgd' else adaptive) / ratio)",
    forwards="3 + guided",
    backwards="1",
    state="2 * numel * wide if fo == 'adam' and block >= blocks - late else 0",
    replay="none",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", late=">=1", ratio=">0"),
    choices=dict(fo=("sgd", "adam")),
    aliases=("elastic-zo",),
    notes="The paper names the split and releases no code; this is our reading. Activations and gradients are kept "
    "for the last `late` layers alone (the head, or final norm, counts as one; a tied head belongs to the "
    "embedding). No dropout in either half. A model of one "
    "layer (every regression here) is trained by gradients alone: there the two probes tell nothing.",
)

__all__ = ["ZOHybrid"]


class ZOHybrid(ZerothOrder):
    """Early layers: theta -= lr * g z, z on them alone. Late ones: SGD or Adam at ratio * lr, from one backward pass.

    late: how many of the last layers are differentiated. fo: sgd | adam (.9, .999, 1e-8). lr: of the early layers, as
    in MeZO. All probes see the same weights. weight_decay is added to either estimate, at the early layers' lr.
    """

    def __init__(self, params, lr=1e-7, *, eps=1e-3, late=1, fo="sgd", ratio=100.0, **common):
        super().__init__(params, dict(lr=lr), eps=eps, late=late, fo=fo, ratio=ratio, **common)

    def propose(self):
        return self.draw().only([i for block in self.blocks()[: -self.late] for i in block])

    def update(self):
        late = [i for block in self.blocks()[-self.late :] for i in block]
        z = yield from self.direction()
        slope, loss = yield from slope_along(self, z)
        self.finite((yield self.at(kind="grad", blocks=late)))
        gradient = self.gradient()
        if self.fo == "sgd":
            self.descend(slope * z + self.ratio * gradient)
            return loss
        adam = rules.adam(0.9, 0.999, 1e-8, step=self.steps + 1)

        def rule(p, g, state, group):
            adam(p, g, state, {"lr": self.ratio * group["lr"]})

        self.descend(slope * z)
        self.each(rule, gradient, blocks=late)
        return loss
