"""VS2P: two-point steps, slopes clipped smoothly on the scale of their spread (Pang and Zhou, 2024, arXiv 2402.01621)."""

import math

from zobench.core.estimators import deviation, spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="Variance-reduced S2P (AS2P)",
    year=2024,
    paper="2402.01621",
    order="zeroth",
    family="adaptive",
    rate="two_point * adaptive * sqrt(d) / gradient / eps",
    forwards="2 + guided",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-3, 1e-2, 1e-1)),
    limits=dict(lr=">=0", eps=">0", tau_a=">0", tau_b=">0", window=">=2", total_steps=">=0"),
    choices=dict(schedule=("constant", "linear", "cosine")),
    brief=dict(window=5, lr=45.0),
    ends="schedule != 'constant'",
    aliases=("as2p",),
    notes="The second version of the paper; no code is public. Our choices: beta_k = 1; sigma over the last 100 "
    "slopes, that of the step included, dividing by their number, and |g| in the first step; no step for g = 0; rho "
    "= eps. The state is `window` numbers. The step does not change when the loss is multiplied by a number.",
)

__all__ = ["VS2P"]


class VS2P(ZerothOrder):
    """theta -= sign(g) a s, a = lr_k eps / (tau_b sigma / |g| + tau_b / tau_a), g the slope along s, sigma that of recent g.

    lr: the longest move of an element is lr eps tau_a / tau_b; it is a quarter of lr eps for |g| = sigma and MeZO's with rate
    lr eps / (tau_b sigma) for small |g|. window: slopes kept. schedule: constant | linear | cosine to 0 at total_steps (0: the
    budget's).
    """

    elementwise = True

    def __init__(
        self, params, lr=1e-2, *, eps=1e-3, tau_a=3.0, tau_b=3.0, window=100, schedule="constant", total_steps=0, **common
    ):  # fmt: skip
        when = dict(schedule=schedule, total_steps=total_steps)
        super().__init__(params, dict(lr=lr), eps=eps, tau_a=tau_a, tau_b=tau_b, window=window, **when, **common)
        if schedule != "constant" and not total_steps:
            raise ValueError(f"schedule={schedule} needs total_steps")

    def decayed(self):
        if self.schedule == "constant":
            return 1.0
        part = min(self.steps / self.total_steps, 1.0)
        return 1 - part if self.schedule == "linear" else (1 + math.cos(math.pi * part)) / 2

    def update(self):
        (s,), (slope,), loss = yield from spsa(self)
        slopes = [*self.memory.get("slopes", []), slope][-self.window :]
        self.memory["slopes"] = slopes
        sigma = deviation(slopes) if len(slopes) > 1 else abs(slope)
        size = self.tau_b * sigma + self.tau_b / self.tau_a * abs(slope)
        self.descend(self.decayed() * self.eps * slope / (size + (size == 0)) * s)
        return loss
