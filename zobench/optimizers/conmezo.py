"""ConMeZO: directions in a cone around the momentum (2025, arXiv 2511.02757, AISTATS 2026)."""

import math

from zobench.core import rules
from zobench.core.estimators import slope_along
from zobench.core.history import recall, remember
from zobench.core.perturb import Direction, dense
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="ConMeZO",
    year=2025,
    paper="2511.02757",
    order="zeroth",
    family="two-point",
    forwards="2 + guided",
    state="numel * wide if moments == 'stored' else 0",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", cone=">=0", beta=">=0 <1", warmup=">=0", history=">=1"),
    choices=dict(moments=("stored", "recomputed")),
    brief=dict(warmup=20, history=4),
    aliases=(),
    notes="beta is 0.1 in the first tenth of `warmup` and rises to its target, as released (200 and 2000 steps); steps "
    "count from 0. The paper's number is from memory. The momentum is a sum of the noise of past steps: "
    "moments=recomputed keeps its coefficients for the last `history` draws, and no copy of the weights. A step "
    "without momentum (the first) is MeZO's; cone = pi / 2 is MeZO throughout. With guide=gv the "
    "momentum cancels, being the same in every candidate; guide=greedy keeps it.",
)

__all__ = ["ConMeZO"]


class ConMeZO(ZerothOrder):
    """z = cos(cone) sqrt(d) m / |m| + sin(cone) u, u gaussian; g the two-sided slope along z;
    theta -= lr * g z; m = beta m + (1 - beta) g z.

    cone: half its angle in radians. beta: of the momentum m after `warmup` steps (0: from the start). moments: stored |
    recomputed from the last `history` draws.
    """

    def __init__(
        self, params, lr=1e-7, *, eps=1e-3, cone=1.35, beta=0.99, warmup=2000, moments="stored", history=30, **common
    ):  # fmt: skip
        options = dict(eps=eps, cone=cone, beta=beta, warmup=warmup, moments=moments, history=history)
        super().__init__(params, dict(lr=lr), **options, **common)

    def schedule(self):
        """beta of this step."""
        hold = self.warmup / 10
        if self.steps >= self.warmup:
            return self.beta
        p = max((self.steps - hold) / (self.warmup - hold), 0.0) ** 1.8
        return self.beta - (self.beta - 0.1) / (1 + 8 * p) ** 3

    def momentum(self):
        return recall(self)[0] if self.moments == "recomputed" else dense([self.state[p]["m"] for p in self.tensors])

    def propose(self):
        u, norm = self.draw(), self.memory.get("norm", 0.0)
        if norm == 0.0:
            return u
        root = math.sqrt(sum(p.numel() for p in self.tensors))
        return math.cos(self.cone) * root / norm * self.momentum() + math.sin(self.cone) * u

    def update(self):
        z = yield from self.direction()
        slope, loss = yield from slope_along(self, z)
        beta, squares = self.schedule(), []

        def rule(p, g, decay, state, group):
            m = rules.average(rules.buffer(state, "m", g), beta, g)
            squares.append(m.double().square().sum().item())
            rules.move(p, (g + decay) * group["lr"])

        if self.moments == "stored":
            self.each(rule, slope * z, self.decay())
        else:
            old = self.momentum() if "history" in self.memory else Direction()
            m = beta * old + (1 - beta) * slope * z
            self.descend(slope * z)
            remember(self, Direction(m.terms[-self.history :]), 1)
            self.each(lambda p, m, *_: squares.append(m.double().square().sum().item()), self.momentum())
        self.memory["norm"] = math.sqrt(math.fsum(squares))
        return loss
