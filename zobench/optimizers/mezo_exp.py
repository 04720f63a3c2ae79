"""MeZO, expectation-modified: layers perturbed in proportion to 1/D, moved along z itself (Malladi et al., 2023, 2305.17333)."""

from zobench.core.estimators import layer_norms, spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO, expectation-modified SPSA",
    year=2023,
    paper="2305.17333",
    order="zeroth",
    family="two-point",
    rate="two_point * adaptive * sqrt(d) / gradient / (1 + 15 / probes**2) if scale == 'gradient' else two_point / 2",
    forwards="2 + guided + (2 * blocks * probes if scale == 'gradient' and (t == 0 or recompute and t % recompute == 0) else 0)",
    state="0",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", recompute=">=0", probes=">=1"),
    choices=dict(scale=("gradient", "parameter", "none")),
    brief=dict(probes=8, recompute=10),
    aliases=(),
    notes="Definition 7. The estimate's mean is D^-1 gradient: a normalised gradient, so that lr has another unit "
    "than MeZO's where the scale is not none; lr is the paper's all the same. D as in mezo-var, with the same "
    "deviations.",
)

__all__ = ["MeZOExp"]


class MeZOExp(ZerothOrder):
    """theta_l -= lr * (g z_l + weight_decay theta_l), g = (L(theta + eps w) - L(theta - eps w)) / (2 eps), w_l = z_l / D_l.

    scale: D_l is, of layer l, the gradient norm |L(+eps z_l) - L(-eps z_l)| / (2 eps), or the parameter norm; none: 1 (MeZO);
    0 counts as 1. probes: directions of which a gradient norm is the root mean square. recompute: steps between measurements of
    D, 0: once.
    """

    def __init__(self, params, lr=1e-6, *, eps=1e-3, scale="gradient", probes=1, recompute=0, **common):
        super().__init__(params, dict(lr=lr), eps=eps, scale=scale, probes=probes, recompute=recompute, **common)

    def propose(self):
        return self.draw().scaled([1 / d for d in self.memory["scales"]])

    def update(self):
        if self.steps == 0 or (self.recompute and self.steps % self.recompute == 0):
            self.memory["scales"] = yield from layer_norms(self, self.scale, self.probes)
        (w,), (slope,), loss = yield from spsa(self)
        self.descend(slope * w.scaled(self.memory["scales"]))  # z
        return loss
