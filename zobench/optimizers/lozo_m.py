"""LOZO-M: low-rank directions with momentum kept in factored form (Chen et al., 2024, arXiv 2410.07698, ICLR 2025)."""

from zobench.core import lowrank, philox
from zobench.core.estimators import spsa
from zobench.core.perturb import Factored, dense, materialise
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="LOZO-M",
    year=2024,
    paper="2410.07698",
    order="zeroth",
    family="two-point",
    rate="two_point / rank",
    forwards="2 + guided",
    state="((rows + cols) * min(rank, rows, cols) if matrix else numel) * wide",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", rank=">=1", interval=">=1", beta=">=0 <1"),
    brief=dict(interval=5, rank=1),
    aliases=(),
    notes="As in the released code: U V^T is not divided by the rank, and the first momentum is g U, not (1 - beta) g U. "
    "There, at each refresh of V, the U of the update is another than that of the probe; here they have seeds of "
    "their own. With beta = 0 it is lozo.",
)

__all__ = ["LOZOM"]


class LOZOM(ZerothOrder):
    """theta -= lr * N V^T, N = beta N + (1 - beta) g U for matrices (m, n), g the slope along Z = U V^T as in LOZO.

    U (m, rank) is new each step, V (n, rank) each `interval` steps, when N becomes N (V_old^T V_new) / n.
    Vectors: a running mean of g z. beta: what momentum keeps a step.
    """

    def __init__(self, params, lr=1e-7, *, eps=1e-3, rank=2, interval=50, beta=0.9, **common):
        super().__init__(params, dict(lr=lr), eps=eps, rank=rank, interval=interval, beta=beta, **common)

    def propose(self):
        z = self.draw()
        left = lowrank.gaussian_factors(self, self.rank, self.draws, philox.FACTOR_U, "left")
        return lowrank.outer(left, self.memory["right"]) + z.only(self.vectors())

    def refresh(self):
        self.draws += 1
        old, new = (
            self.memory.get("right"),
            lowrank.gaussian_factors(self, self.rank, self.draws, philox.FACTOR_V, "right"),
        )
        if old is not None:
            turned = zip(self.memory["momentum"], old, new, strict=True)
            self.memory["momentum"] = [k if v is None else k @ (w.T @ v / len(v)) for k, w, v in turned]
        self.memory["right"] = new

    def factor(self, z, i):
        """What momentum is kept of: U of z = U V^T on a matrix, z itself on a vector."""
        if self.memory["right"][i] is None:
            return materialise(z, self.tensors[i].data, i)
        return sum(term.coefficient * term.source.left[i] for term in z.terms if isinstance(term.source, Factored))

    def update(self):
        if self.steps % self.interval == 0:
            self.refresh()
        (z,), (slope,), loss = yield from spsa(self)
        self.finite(slope)
        new, old = [slope * self.factor(z, i) for i in range(len(self.tensors))], self.memory.get("momentum")
        if old is not None:
            new = [self.beta * k + (1 - self.beta) * n for k, n in zip(old, new, strict=True)]
        self.memory["momentum"], right = new, self.memory["right"]
        vectors = [k if v is None else None for k, v in zip(new, right, strict=True)]
        self.descend(lowrank.outer(new, right) + dense(vectors))
        return loss
