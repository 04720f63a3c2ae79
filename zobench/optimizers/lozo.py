"""LOZO: directions of low rank, one factor kept for many steps (Chen et al., 2024, arXiv 2410.07698, ICLR 2025)."""

from zobench.core import lowrank, philox
from zobench.core.estimators import spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="LOZO",
    year=2024,
    paper="2410.07698",
    order="zeroth",
    family="two-point",
    rate="two_point / rank",
    forwards="2 + guided",
    state="cols * min(rank, rows, cols) * wide if matrix else 0",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", rank=">=1", interval=">=1"),
    brief=dict(interval=3),
    aliases=(),
    notes="The direction is U V^T as in the released code, so its size grows with the rank (the paper divides by it). U and V "
    "have seeds of their own; in the release the U of the update is another than that of the probe at every refresh of V.",
)

__all__ = ["LOZO"]


class LOZO(ZerothOrder):
    """theta -= lr * g Z, g = (L(theta + eps Z) - L(theta - eps Z)) / (2 eps), Z = U V^T for matrices (m, n)  (Algorithm 1).

    U (m, rank) is new each step, V (n, rank) each `interval` steps. Vectors take a gaussian z.
    """

    def __init__(self, params, lr=1e-7, *, eps=1e-3, rank=2, interval=50, **common):
        super().__init__(params, dict(lr=lr), eps=eps, rank=rank, interval=interval, **common)

    def propose(self):
        z = self.draw()
        left = lowrank.gaussian_factors(self, self.rank, self.draws, philox.FACTOR_U, "left")
        return lowrank.outer(left, self.memory["right"]) + z.only(self.vectors())

    def update(self):
        if self.steps % self.interval == 0:
            self.draws += 1
            self.memory["right"] = lowrank.gaussian_factors(self, self.rank, self.draws, philox.FACTOR_V, "right")
        (z,), (slope,), loss = yield from spsa(self)
        self.descend(slope * z)
        return loss
