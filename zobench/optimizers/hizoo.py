"""HiZOO: directions and steps scaled by a running diagonal of curvature (Zhao et al., 2024, arXiv 2402.15173, ICLR 2025)."""

from zobench.core import rules
from zobench.core.perturb import Direction
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="HiZOO",
    year=2024,
    paper="2402.15173",
    order="zeroth",
    family="two-point",
    forwards="3 + guided",
    state="numel * wide",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", smooth=">=0 <=1"),
    aliases=(),
    notes="H is kept in float32: its relative change of about 1e-6 a step is lost in the weights' half precision, where the "
    "release is MeZO. It also runs a fourth forward for its log, and its script sets smooth = 0. H is held above 1e-12.",
)

__all__ = ["HiZOO"]

FLOOR = 1e-12


class HiZOO(ZerothOrder):
    """z scaled by H^-1/2, H the running diagonal: H = (1 - smooth) H + smooth c H z^2, c = |L+ + L- - 2 L0| / (2 eps^2).

    Probes use the old H, the step the new one: theta -= lr * (g z / sqrt(H) + weight_decay theta). smooth: 0 is MeZO.
    """

    def __init__(self, params, lr=1e-6, *, eps=1e-3, smooth=1e-8, **common):
        super().__init__(params, dict(lr=lr), eps=eps, smooth=smooth, **common)

    def propose(self):
        return self.draw().scaled(self.inverse_root)

    def inverse_root(self, w, i, part):
        kept = self.state[self.tensors[i]].get("hessian")
        return w.new_ones(w.shape) if kept is None else kept.view(-1)[part].to(w.dtype).rsqrt()

    def update(self):
        z = yield from self.direction()  # z / sqrt(H), with the old H
        here, plus, minus = yield self.at(Direction()), self.at(self.eps * z), self.at(-self.eps * z)
        self.finite(here, plus, minus)
        slope = (plus - minus) / (2 * self.eps)
        curvature = abs(plus + minus - 2 * here) / (2 * self.eps**2)

        def rule(p, scaled, decay, state, group):
            h = rules.buffer(state, "hessian", scaled, fill=1.0)
            noise = scaled * h.sqrt()  # z again
            h.mul_(1 - self.smooth + self.smooth * curvature * noise * noise).clamp_(min=FLOOR)
            rules.move(p, (slope * noise * h.rsqrt() + decay) * group["lr"])

        self.each(rule, z, self.decay())
        return here
