"""ZO, block-wise: each block perturbed alone, in turn, 2 forwards each (Zhang et al., 2024, arXiv 2402.11592)."""

from zobench.core.estimators import slope_along
from zobench.core.perturb import Direction
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="ZO, block-wise",
    year=2024,
    paper="2402.11592",
    order="zeroth",
    family="two-point",
    forwards="blocks * (2 + guided)",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0"),
    choices=dict(level=("layer", "part", "linear")),
    aliases=(),
    notes="Each block has a draw of its own; the released code gives all of them one seed, so that equal shapes see "
    "equal noise. An immediate update is a shift of the later probes, written once at the end of the step. "
    "Compare at equal forwards, not steps. The loss reported is the mean over all probes.",
)

__all__ = ["ZOBlock"]


class ZOBlock(ZerothOrder):
    """For every block b in order: g_b from probes at theta +- eps z_b, z_b zero outside b; theta_b -= lr * g_b z_b.

    level: layer | part (attention, MLP) | linear (each module). immediate: True lets later blocks see the update of
    earlier ones; False probes all at the same theta. lr, eps as in MeZO.
    """

    elementwise = True

    def __init__(self, params, lr=1e-6, *, eps=1e-3, level="layer", immediate=True, **common):
        super().__init__(params, dict(lr=lr), eps=eps, level=level, immediate=immediate, **common)

    def propose(self):
        return self.draw().only(self.block)

    def update(self):
        rates = [-lr for lr in self._per_tensor(lambda group: group["lr"])]
        moved, losses = Direction(), []
        for block in self.blocks(self.level):
            self.block = block
            shift = moved if self.immediate else Direction()
            z = yield from self.direction(shift=shift)
            slope, loss = yield from slope_along(self, z, shift=shift)
            moved += (slope * z + self.decay().only(self.block)).scaled(rates)
            losses.append(loss)
        self.apply(moved)
        return sum(losses) / len(losses)
