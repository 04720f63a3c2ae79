"""LeZO: MeZO on a random fraction of the layers, another at each step (Wang et al., 2024, arXiv 2410.09823)."""

from zobench.core import philox
from zobench.core.estimators import spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="LeZO",
    year=2024,
    paper="2410.09823",
    order="zeroth",
    family="two-point",
    forwards="2 + guided",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", sparsity=">=0 <1"),
    aliases=(),
    notes="Our reading (no code was released that we could read): embedding and head count as layers and are sampled "
    "like the others; round((1 - sparsity) L) layers are active, at least one. sparsity 0 is mezo in equal "
    "bits.",
)

__all__ = ["LeZO"]


class LeZO(ZerothOrder):
    """theta -= lr * g z, z zero outside the active layers; these are drawn anew at each step, without replacement.

    sparsity: the fraction of layers that rest, below 1. lr, eps as in MeZO.
    """

    def __init__(self, params, lr=1e-6, *, eps=1e-3, sparsity=0.75, **common):
        super().__init__(params, dict(lr=lr), eps=eps, sparsity=sparsity, **common)

    def active(self):
        """Numbers of the tensors in this step's layers: those with the lowest of L random numbers."""
        layers = self.blocks()
        count = max(round((1 - self.sparsity) * len(layers)), 1)
        keys = self.numbers(0, (len(layers),), self.steps + 1, philox.SECOND).tolist()
        chosen = sorted(range(len(layers)), key=keys.__getitem__)[:count]
        return [i for layer in chosen for i in layers[layer]]

    def propose(self):
        return self.draw().only(self.active())

    def update(self):
        (z,), (slope,), loss = yield from spsa(self)
        self.descend(slope * z)
        return loss
