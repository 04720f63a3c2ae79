"""ZO-SGD-Cons: stays, or takes one step either way, whichever loss is lowest (Zhang et al., 2024, arXiv 2402.11592)."""

import math

from zobench.core.estimators import slope_along
from zobench.core.perturb import Direction
from zobench.core.zeroth_order import Diverged, ZerothOrder

INFO = dict(
    title="ZO-SGD-Cons",
    year=2024,
    paper="2402.11592",
    order="zeroth",
    family="two-point",
    forwards="(4 if reuse else 5) + guided",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-5, 1e-6, 1e-7, 1e-8), eps=(1e-2, 1e-3, 1e-4)),
    limits=dict(lr=">=0", eps=">0"),
    aliases=("zo-sgd-conserve",),
    notes="The candidates are probed, not written and undone. Never under an optimizer with state: the released sweep "
    "left AdamW in place, where its steps of -2x and +2x undo nothing. reuse is our reading of the 4 forwards "
    "that others count: the slope is one-sided, with f0 its other end.",
)

__all__ = ["ZOSGDCons"]


class ZOSGDCons(ZerothOrder):
    """theta <- argmin L over {theta, theta - lr ghat, theta + lr ghat}, ghat = g z, all on one minibatch; ties stay.

    reuse: False takes the slope from two probes (5 forwards in all), True from one and the loss at theta (4). lr, eps
    as in MeZO. weight_decay belongs to both moves: theta -= lr (+-ghat + weight_decay theta).
    """

    def __init__(self, params, lr=1e-6, *, eps=1e-3, reuse=False, **common):
        super().__init__(params, dict(lr=lr), eps=eps, reuse=reuse, **common)

    def update(self):
        z = yield from self.direction()
        here = yield self.at(Direction())
        if self.reuse:
            there = yield self.at(self.eps * z)
            slope = (there - here) / self.eps
        else:
            slope, _ = yield from slope_along(self, z)
        if not math.isfinite(here) or not math.isfinite(slope):
            raise Diverged(f"step {self.steps + 1}: the loss is {here}, its slope {slope}")
        rates = [-lr for lr in self._per_tensor(lambda group: group["lr"])]
        moves = [Direction(), slope * z, -slope * z]
        down, up = yield [self.at((move + self.decay()).scaled(rates)) for move in moves[1:]]
        self.finite(down, up)
        losses = [here, down, up]
        best = losses.index(min(losses))
        if best:
            self.descend(moves[best])
        return here
