"""TeZO: low-rank directions of fixed factors, weighted by tau, which is new each step (Sun et al., 2025, arXiv 2501.19057)."""

from typing import Any

from zobench.core import philox
from zobench.core.estimators import spsa
from zobench.core.lowrank import matrix_shape, outer
from zobench.core.perturb import Factored, dense, materialise
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="TeZO",
    year=2025,
    paper="2501.19057",
    order="zeroth",
    family="two-point",
    rate="adaptive / sqrt(d) if variant == 'adam' else two_point / rank",
    forwards="2 + guided",
    state="wide * ((rows + cols) * rank if matrix else 0) "
    "+ wide * (0 if variant == 'plain' else 1 if variant == 'm' else 2) * (rank if matrix else numel)",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", rank=">=1", beta1=">=0 <1", beta2=">=0 <1", adam_eps=">0"),
    choices=dict(variant=("plain", "m", "adam")),
    aliases=(),
    notes="No code is released. Our reading: one rank for all matrices, which may exceed min(m, n) (the paper sets it by "
    "layer); U V^T is not divided by it, so lr 1e-7 at rank 8 steps about as MeZO at 1e-6; TeZO-Adam keeps of the "
    "square of U diag(tau) V^T the sum of the squared terms, whose mixed ones have mean zero. variant=adam needs an "
    "lr like MeZO-Adam's (1e-4); its moments are bias-corrected. Looked into: behind on bigram, because U and V never"
    " change and the optimum is not in their span.",
)

__all__ = ["TeZO"]


class Left(list):
    """Left factors U diag(tau) that remember tau."""

    def __init__(self, u, tau):
        super().__init__(None if a is None else a * t for a, t in zip(u, tau, strict=True))
        self.tau = tau


class TeZO(ZerothOrder):
    """theta -= lr * g Z, g the two-sided slope along Z = U diag(tau) V^T = sum_s tau_s u_s v_s^T, tau ~ N(0, I_rank) each step.

    U (m, rank), V (n, rank): gaussian, drawn once. Vectors take a gaussian z. variant:
        plain, as above
        m      theta -= lr * U diag(mu) V^T, mu the running mean of g tau
        adam   theta -= lr * U diag(muhat) V^T / (sqrt(U^2 diag(nuhat) (V^2)^T) + adam_eps), nu that of (g tau)^2
    """

    def __init__(
        self, params, lr=1e-7, *, eps=1e-3, rank=8, variant="plain", beta1=0.9, beta2=0.999, adam_eps=1e-8, **common
    ):  # fmt: skip
        options = dict(eps=eps, rank=rank, variant=variant, beta1=beta1, beta2=beta2, adam_eps=adam_eps)
        super().__init__(params, dict(lr=lr), **options, **common)

    def factors(self, which, stream):
        shape = lambda p: (matrix_shape(p)[which], self.rank)  # noqa: E731
        drawn = lambda i, p: self.numbers(i, shape(p), self.draws, stream) if p.dim() >= 2 else None  # noqa: E731
        return [drawn(i, p) for i, p in enumerate(self.tensors)]

    def propose(self):
        z, left = self.draw(), self.memory["left"]
        tau = [
            u if u is None else self.numbers(i, (self.rank,), self.draws, philox.DIRECTION) for i, u in enumerate(left)
        ]
        return outer(Left(left, tau), self.memory["right"]) + z.only(self.vectors())

    def weights(self, z, i):
        """tau of a direction on a matrix, its numbers on a vector."""
        if self.memory["left"][i] is None:
            return materialise(z, self.tensors[i].data, i)
        sources: list[Any] = [(t.coefficient, t.source) for t in z.terms if isinstance(t.source, Factored)]
        return sum(c * source.left.tau[i] for c, source in sources)

    def product(self, tau, power=1):
        left, right = ([a if a is None else a**power for a in self.memory[side]] for side in ("left", "right"))
        vectors = [t if a is None else None for t, a in zip(tau, left, strict=True)]
        return outer(Left(left, tau), right) + dense(vectors)

    def moment(self, name, beta, new):
        """The running mean of this name, bias-corrected for adam."""
        old = self.memory.get(name, [0 * n for n in new])
        kept = self.memory[name] = [beta * k + (1 - beta) * n for k, n in zip(old, new, strict=True)]
        return [k / (1 - beta ** (self.steps + 1)) for k in kept] if self.variant == "adam" else kept

    def update(self):
        if "left" not in self.memory:
            self.draws += 1
            self.memory |= dict(left=self.factors(0, philox.FACTOR_U), right=self.factors(1, philox.FACTOR_V))
        (z,), (slope,), loss = yield from spsa(self)
        if self.variant == "plain":
            self.descend(slope * z)
            return loss
        self.finite(slope)
        tau = [slope * self.weights(z, i) for i in range(len(self.tensors))]
        m = self.product(self.moment("m", self.beta1, tau))
        if self.variant == "m":
            self.descend(m)
            return loss
        v = self.product(self.moment("v", self.beta2, [t * t for t in tau]), power=2)

        def rule(p, m, v, decay, state, group):
            p.copy_((p - group["lr"] * (m / (v.sqrt() + self.adam_eps) + decay)).to(p.dtype))

        self.each(rule, m, v, self.decay())
        return loss
