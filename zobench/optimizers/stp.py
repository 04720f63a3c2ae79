"""STP: stay, or go a set distance there or back on a random line, whichever is best (Bergou et al., 2019, arXiv 1902.03591)."""

import math

from zobench.core.perturb import Direction
from zobench.core.zeroth_order import Diverged, ZerothOrder

INFO = dict(
    title="Stochastic Three Points",
    year=2019,
    paper="1902.03591",
    order="zeroth",
    family="adaptive",
    rate="adaptive * d * two_point / gradient",
    forwards="3 + guided",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-3, 1e-2, 1e-1)),
    limits=dict(lr=">=0"),
    choices=dict(schedule=("sqrt", "inverse", "constant")),
    brief=dict(schedule="constant"),
    aliases=("mistp",),
    notes="All three losses are taken at the step's minibatch, as in MiSTP (2209.07883). Equal losses: it stays. A loss "
    "that is not finite ends the run, be it the one that would be passed over. Losses are compared at the distance of"
    " the step: below a half-precision forward's noise on language models. lr and its grid are ours. weight_decay is "
    "decoupled. Looked into: the step is a length, and as such was ten times too short on toy_sentiment when it was "
    "taken from Adam's move of an element alone.",
)

__all__ = ["STP"]


class STP(ZerothOrder):
    """theta = argmin {L(theta), L(theta + a_k s), L(theta - a_k s)}, s on the unit sphere (law=gaussian: N(0, I) / sqrt(d)).

    lr: a_0, a length in weights. schedule: a_k = lr / sqrt(k + 1) (sqrt), lr / (k + 1) (inverse), lr (constant).
    """

    def __init__(self, params, lr=1e-2, *, schedule="sqrt", law="sphere", **common):
        super().__init__(params, dict(lr=lr), schedule=schedule, law=law, **common)
        self.eps = 1e-3  # of a guide's candidates

    def update(self):
        z = yield from self.direction()  # of length sqrt(d)
        k, d = self.steps + 1, sum(p.numel() for p in self.tensors)
        decay = {"sqrt": math.sqrt(k), "inverse": k, "constant": 1}[self.schedule]
        s = 1 / (math.sqrt(d) * decay) * z
        step = s.scaled([group["lr"] for group in self.param_groups for _ in group["params"]])
        losses = yield self.at(Direction()), self.at(step), self.at(-step)
        if not all(map(math.isfinite, losses)):
            raise Diverged(f"step {k}: a loss is not finite")
        place = losses.index(min(losses))
        self.descend((0, -1, 1)[place] * s)
        return losses[0]
