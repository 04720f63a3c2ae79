"""S2P: to the better of two points on a random line, or where the slope points (Pang and Zhou, 2024, arXiv 2402.01621)."""

import math

import numpy as np

from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="Stochastic Two-Points",
    year=2024,
    paper="2402.01621",
    order="zeroth",
    family="adaptive",
    rate="adaptive * sqrt(d) * two_point / gradient if option == 1 "
    "else two_point * d * (lipschitz if option == 2 else 1.01 * l0)",
    forwards="2 + guided + (2 if option != 1 and not sign_trick else 0)",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-5, 1e-4)),
    limits=dict(lr=">=0", eps=">0", lipschitz=">0", l0=">0", l1=">=0", total_steps=">=0"),
    choices=dict(option=(1, 2, 4), schedule=("sqrt", "total")),
    brief=dict(lr=0.15),
    ends="schedule == 'total'",
    aliases=(),
    notes="No code is public: options 1 and 4 are from secondary sources, defaults and grid are ours. "
    "sign_trick=False compares losses at distance a_k: below a half-precision forward's noise on language models, "
    "meant for float64. Two equal losses make no step. Option 2 with the sign trick is mezo with the rate lr / "
    "(lipschitz d). Option 3 is option 1 with other constants. weight_decay is decoupled.",
)

__all__ = ["S2P"]

A = B = 1.01


class S2P(ZerothOrder):
    """theta = argmin {L(theta + a_k s), L(theta - a_k s)}; sign_trick: theta -= a_k sign(g) s, g the slope at radius eps.

    option 1: a_k = lr / sqrt(k + 1), or lr / sqrt(total_steps) with schedule=total; lr is an element's first move.
    option 2: a_k = lr |g| / (lipschitz d). option 4: a_k = lr |g| / ((A l0 + sqrt(2) B l1 |g|) d), A = B = 1.01. Under
    both the paper's lr is 1. d: trained elements. total_steps: 0 is the budget's. law: of s.
    """

    elementwise = True

    def __init__(
        self, params, lr=1e-5, *, eps=1e-3, option=1, sign_trick=True, schedule="sqrt", total_steps=0,
        lipschitz=1.0, l0=1.0, l1=1.0, **common,
    ):  # fmt: skip
        bounds = dict(lipschitz=lipschitz, l0=l0, l1=l1)
        when = dict(option=option, sign_trick=sign_trick, schedule=schedule, total_steps=total_steps)
        super().__init__(params, dict(lr=lr), eps=eps, **when, **bounds, **common)
        if schedule == "total" and not total_steps:
            raise ValueError("schedule=total needs total_steps")

    def distance(self, slope):
        """a_k / lr."""
        d = sum(p.numel() for p in self.tensors)
        if self.option == 1:
            return 1 / math.sqrt(self.total_steps if self.schedule == "total" else self.steps + 1)
        if self.option == 2:
            return abs(slope) / (self.lipschitz * d)
        return abs(slope) / ((A * self.l0 + math.sqrt(2) * B * self.l1 * abs(slope)) * d)

    def update(self):
        s = yield from self.direction()
        rates = [group["lr"] for group in self.param_groups for _ in group["params"]]
        plus = minus = slope = 0.0  # option 1 needs no slope
        if self.sign_trick or self.option != 1:
            plus, minus = yield self.at(self.eps * s), self.at(-self.eps * s)
            slope = (plus - minus) / (2 * self.eps)
        move = self.distance(slope) * s
        if not self.sign_trick:
            plus, minus = yield self.at(move.scaled(rates)), self.at(-move.scaled(rates))
        gap = plus - minus
        self.descend((np.sign(gap) + 0 * gap) * move)  # not finite where the gap is not: the sign would hide it
        return (plus + minus) / 2
