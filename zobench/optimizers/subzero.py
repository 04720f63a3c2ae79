"""SubZero: directions inside random subspaces, both sides orthonormal (Yu et al., 2024, arXiv 2410.08989, ICCV 2025)."""

import math

from zobench.core import lowrank, philox
from zobench.core.estimators import spsa
from zobench.core.info import side
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="SubZero",
    year=2024,
    paper="2410.08989",
    order="zeroth",
    family="two-point",
    rate="two_point / 4",
    forwards="2 + guided",
    state="wide * matrix * (min(rank, side(numel)) * (side(numel) + numel // side(numel)) "
    "if min(rows, cols) <= 64 and max(rows, cols) > aspect * min(rows, cols) else min(rank, rows, cols) * (rows + cols))",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", rank=">=1", interval=">=1", aspect=">=1"),
    brief=dict(interval=3, aspect=1.2),
    aliases=(),
    notes="As in the released code, which multiplies by sqrt(m n / r^2) so that E|Z|^2 = m n; the paper does not. There a "
    "switch says that the weights are an adapter's, whose matrices are reshaped; here their shape says it (our "
    "reading): a shorter side of at most 64, the longer above `aspect` times it. The factors are kept in float32 and "
    "the rank is clamped; in the release they are cast to the weights' dtype. Published: rank 8 to 64, interval 500 "
    "to 2000; prompt tuning at lr 1e-3, eps 1e-2, rank 24. Looked into: behind on bigram, whose matrices are small: "
    "with one subspace for the whole run (interval 2000) the optimum is not in reach.",
)

__all__ = ["SubZero"]


class SubZero(ZerothOrder):
    """theta -= lr * g Z, g the two-sided slope along Z = U Z0 V sqrt(m n / r^2) for matrices (m, n); Z0 (r, r) is new
    each step. U (m, r), V (r, n): orthonormal, by QR of gaussian matrices each `interval` steps, r = min(rank, m, n).

    Vectors take a gaussian z. aspect: a matrix more rectangular than this, and short, is seen as the most square one.
    """

    def __init__(self, params, lr=1e-7, *, eps=1e-3, rank=8, interval=2000, aspect=16.0, **common):
        super().__init__(params, dict(lr=lr), eps=eps, rank=rank, interval=interval, aspect=aspect, **common)

    def shape(self, p):
        short, long = sorted(lowrank.matrix_shape(p))
        if 0 < short <= 64 and long > self.aspect * short:
            return side(p.numel()), p.numel() // side(p.numel())
        return lowrank.matrix_shape(p)

    def factors(self, which, stream):
        shapes = [self.shape(p) if p.dim() >= 2 else None for p in self.tensors]
        return lowrank.orthonormal(
            [s and self.numbers(i, (s[which], min(self.rank, *s)), self.draws, stream) for i, s in enumerate(shapes)]
        )

    def propose(self):
        z, left, right = self.draw(), list(self.memory["left"]), self.memory["right"]
        for i in self.matrices():
            (m, r), n = left[i].shape, len(right[i])
            core = self.numbers(i, (r, r), self.draws, philox.DIRECTION)
            left[i] = left[i] @ core * (math.sqrt(m * n) / max(r, 1))
        return lowrank.outer(left, right) + z.only(self.vectors())

    def update(self):
        if self.steps % self.interval == 0:
            self.draws += 1
            self.memory |= dict(left=self.factors(0, philox.FACTOR_U), right=self.factors(1, philox.FACTOR_V))
        (z,), (slope,), loss = yield from spsa(self)
        self.descend(slope * z)
        return loss
