"""ZO-AdaMU: momentum and uncertainty in the perturbation itself (Jiang et al., 2023, arXiv 2312.15184, AAAI 2024)."""

import math

from zobench.core import philox, rules
from zobench.core.estimators import slope_along
from zobench.core.history import recall, remember
from zobench.core.perturb import Direction, Seeded, dense, squared
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="ZO-AdaMU",
    year=2023,
    paper="2312.15184",
    order="zeroth",
    family="two-point",
    rate="two_point / 4",
    forwards="2 + guided",
    state="numel * wide if moments == 'stored' else 0",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-4, 1e-2)),
    limits=dict(lr=">=0", eps=">0", start=">=0", total_steps=">=0", history=">=1"),
    choices=dict(moments=("stored", "recomputed")),
    brief=dict(start=4, total_steps=20, history=8),
    aliases=(),
    notes="Equation (7) and the text disagree and the released code does not run. Our reading: alpha, b1, b2 are 1 until "
    "step `start`, fall along half a cosine to .5, .9, .01 at 0.8 total_steps, and stay. Another reading "
    "(PawnDragon/SubZero) has 0.5 + 0.5 cos(pi (T3 - T1) / (T3 - t phi (T3 - T2) / (T2 - T1))), b2 from 0, and "
    "sqrt(v) + sigma below. The release keeps sign(g) m. moments=recomputed keeps the coefficients of the last "
    "`history` steps' noise: m forgets a factor of ten a step, so 8 steps are all of it. With guide=gv the "
    "momentum cancels, being the same in every candidate; guide=greedy keeps it.",
)

__all__ = ["ZOAdaMU"]

ENDS = (0.5, 0.9, 0.01)  # alpha, b1, b2 of the last phase


class ZOAdaMU(ZerothOrder):
    """z1 ~ N(0, alpha), z2 ~ N(m, 1 - alpha); z = b1 z1 + (1 - b1) z2; v = b2 z1^2 + (1 - b2) z2^2; then, with g the
    two-sided slope along z, theta -= lr * g z / sqrt(v + 1e-8), and m = z.

    start: steps of plain noise (alpha = b1 = b2 = 1, a step g sign(z)). total_steps: of the run, 0 takes them from the budget.
    moments: stored | recomputed from the noise of the last `history` steps.
    """

    def __init__(
        self, params, lr=1e-4, *, eps=1e-3, start=1024, total_steps=0, moments="stored", history=8, **common
    ):  # fmt: skip
        options = dict(eps=eps, start=start, total_steps=total_steps, moments=moments, history=history)
        super().__init__(params, dict(lr=lr), **options, **common)
        if total_steps < 1:
            raise ValueError("the phases end with the run: give total_steps")

    def phases(self):
        """alpha, b1, b2 of this step."""
        last = 0.8 * self.total_steps
        first = min(self.start, last)
        done = 0.0 if self.steps < first else 1.0 if self.steps >= last else (self.steps - first) / (last - first)
        return [end + (1 - end) * 0.5 * (1 + math.cos(math.pi * done)) for end in ENDS]

    def momentum(self):
        if self.moments == "recomputed":
            return recall(self)[0] if "history" in self.memory else Direction()
        kept = [self.state[p].get("m") for p in self.tensors]
        return Direction() if any(m is None for m in kept) else dense(kept)

    def propose(self):
        alpha, b1, _ = self.phases()
        first, second = self.draw(), self.draw(stream=philox.SECOND)
        return b1 * math.sqrt(alpha) * first + (1 - b1) * (math.sqrt(1 - alpha) * second + self.momentum())

    def fresh(self, term):
        """Whether it is of this step's z1."""
        source = term.source
        return isinstance(source, Seeded) and source.stream == philox.DIRECTION and source.draw > self.before

    def update(self):
        self.before = self.draws
        _, b1, b2 = self.phases()
        z = yield from self.direction()
        slope, loss = yield from slope_along(self, z)
        fresh = Direction(tuple(t for t in z.terms if self.fresh(t)))  # b1 z1, whatever a guide has made of it
        rest = Direction(tuple(t for t in z.terms if not self.fresh(t)))  # (1 - b1) z2
        v = b2 / b1**2 * squared(fresh)
        if b1 < 1:
            v += (1 - b2) / (1 - b1) ** 2 * squared(rest)

        def rule(p, step, m, v, decay, state, group):
            if self.moments == "stored":
                rules.buffer(state, "m", m).copy_(m)
            rules.move(p, (step / (v + 1e-8).sqrt() + decay) * group["lr"])

        self.each(rule, slope * z, z, v, self.decay())
        if self.moments == "recomputed":
            draws = sorted(t.source.draw for t in z.terms if isinstance(t.source, Seeded))[-2 * self.history :]
            kept = [t for t in z.terms if isinstance(t.source, Seeded) and t.source.draw in draws]
            remember(self, Direction(tuple(kept)), 1)
        return loss
