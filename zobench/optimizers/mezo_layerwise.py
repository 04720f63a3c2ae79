"""MeZO, layer by layer: each step probes and moves one layer, in turn (Malladi et al., 2023, arXiv 2305.17333, released code)."""

from zobench.core.estimators import spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO, layer-wise",
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
    aliases=(),
    notes="The flag `layer_wise_optim` of the released code. Layers are core/blocks.py's: the embedding, each "
    "numbered layer, the head. Weight decay, too, is that of the layer of the step (our reading). zo-block moves all "
    "layers in a step.",
)

__all__ = ["MeZOLayerwise"]


class MeZOLayerwise(ZerothOrder):
    """theta_l -= lr * (g z_l + weight_decay theta_l), g two-sided along z_l, l = t mod (number of layers): MeZO on one layer.

    lr: step per unit of the projected gradient. eps: radius of the probes, in units of z.
    """

    elementwise = True

    def __init__(self, params, lr=1e-6, *, eps=1e-3, **common):
        super().__init__(params, dict(lr=lr), eps=eps, **common)

    @property
    def layer(self):
        layers = self.blocks()
        return layers[self.steps % len(layers)]

    def propose(self):
        return self.draw().only(self.layer)

    def update(self):
        (z,), (slope,), loss = yield from spsa(self)
        self.apply(slope * z + self.decay().only(self.layer), lambda group: -group["lr"])
        return loss
