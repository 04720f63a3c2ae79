"""QZO: frozen quantised weights, whose scales are trained (Shang et al., 2025, arXiv 2505.13430, ICLR 2026)."""

from typing import Any

import torch

from zobench.core import philox, quantise
from zobench.core.estimators import slope_along
from zobench.core.perturb import dense
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="QZO",
    year=2025,
    paper="2505.13430",
    order="zeroth",
    family="two-point",
    rate="two_point / (2 ** (bits - 1) - 1) ** 2",
    forwards="2 + guided",
    state="numel + (rows if matrix and scales == 'row' else 1) * wide",
    replay="local",
    mode="eval",
    quantised=True,
    grid=dict(lr=(1e-8, 1e-7, 1e-6)),
    limits=dict(lr=">=0", eps=">0", clip=">0", bits=">=2 <=8"),
    choices=dict(scales=("tensor", "row"), law=("gaussian", "rademacher")),
    aliases=(),
    notes="From a secondary source. Our reading: every trained tensor is rounded when the optimizer is made, to codes "
    "(int8, kept as state) times a scale per tensor or row; eps is in units of the scale itself, hence large "
    "against those of 8 bits. The model keeps floating-point weights, written anew each step: this shows what the "
    "method learns, not the memory that a quantised model saves. What starts at zero stays there.",
)

__all__ = ["QZO"]


class ByScale:
    """The factor of a direction that gives each element the number of its scale."""

    def __init__(self, opt, z):
        self.opt, self.z = opt, z

    def __call__(self, w, i, part):
        return quantise.spread_part(self.z[i], self.opt.tensors[i], part).expand(part.stop - part.start)


class QZO(ZerothOrder):
    """theta = D * code, codes frozen; d = clip((L(D + eps z) - L(D - eps z)) / (2 eps), -clip, clip); D = max(D - lr * d z, 0).

    D: one positive number per tensor or row (of matrices); z: gaussian, of as many. bits: of a code. lr, eps: in units of D.
    """

    def __init__(self, params, lr=1e-7, *, eps=1e-3, clip=100.0, bits=4, scales="row", **common):
        super().__init__(params, dict(lr=lr), eps=eps, clip=clip, bits=bits, scales=scales, **common)
        if self.defaults["weight_decay"]:
            raise ValueError("weight_decay acts on weights, and here they are frozen: leave it at 0")
        with torch.no_grad():
            for p in self.tensors:
                scale = self.state[p]["scale"] = quantise.fit(p, bits, scales)
                self.state[p]["codes"] = quantise.codes(p.data, scale, bits).to(torch.int8)
                quantise.write(p.data, self.state[p]["codes"], scale)

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        with torch.no_grad():
            for p in self.tensors:  # making this optimizer has rounded them once more
                quantise.write(p.data, self.state[p]["codes"], self.state[p]["scale"])

    def propose(self):
        self.draws += 1
        sizes = [self.state[p]["scale"].shape for p in self.tensors]
        z = [self.numbers(i, size, self.draws, philox.DIRECTION, self.law) for i, size in enumerate(sizes)]
        return dense([self.state[p]["codes"] for p in self.tensors]).scaled(ByScale(self, z))

    def update(self):
        z = yield from self.direction()
        slope, loss = yield from slope_along(self, z)
        self.finite(slope)
        slope = min(max(slope, -self.clip), self.clip)
        factors: list[Any] = [term.factors[0] for term in z.terms]
        parts = [(term.coefficient, factor.z) for term, factor in zip(z.terms, factors, strict=True)]
        moves = iter([sum(c * zi[i] for c, zi in parts) for i in range(len(self.tensors))])

        def rule(p, state, group):
            state["scale"] = (state["scale"] - group["lr"] * slope * next(moves)).clamp(min=0.0)
            quantise.write(p, state["codes"], state["scale"])

        self.each(rule)
        return loss
