"""ZO-AdaMM: AMSGrad on a one-sided estimate along the sphere (Chen et al., 2019, arXiv 1910.06513, NeurIPS 2019)."""

import torch

from zobench.core import rules
from zobench.core.estimators import spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="ZO-AdaMM",
    year=2019,
    paper="1910.06513",
    order="zeroth",
    family="adaptive",
    forwards="2 + guided",
    state="3 * numel * wide",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-5, 1e-4, 1e-3)),
    limits=dict(lr=">=0", eps=">0", beta1=">=0 <1", beta2=">=0 <1"),
    aliases=(),
    notes="(d / mu) (f(x + mu u) - f(x)) u with u on the unit sphere is ghat below with mu = eps sqrt(d): law=sphere has "
    "that radius. As released: beta1 = beta2 = 0.9, v and vhat start at 1e-7, no bias correction, nothing added to "
    "the root. One released script divides by sqrt(v) and takes beta2 = 0.3; this is the paper's. Nothing is "
    "constrained here, so its projection has no part. lr and eps are ours. The maximum of v cannot be drawn again: "
    "there is no form without memory.",
)

__all__ = ["ZOAdaMM"]


class ZOAdaMM(ZerothOrder):
    """ghat = z (L(theta + eps z) - L(theta)) / eps, z on the sphere of radius sqrt(d); m = beta1 m + (1 - beta1) ghat;
    v = beta2 v + (1 - beta2) ghat^2; vhat = max(vhat, v); theta -= lr * m / sqrt(vhat).

    lr: step of an element. eps: radius of a probe in units of z. weight_decay is added to the estimate.
    """

    def __init__(self, params, lr=1e-4, *, eps=1e-3, beta1=0.9, beta2=0.9, law="sphere", **common):
        super().__init__(params, dict(lr=lr), eps=eps, beta1=beta1, beta2=beta2, law=law, **common)

    def update(self):
        (z,), (slope,), loss = yield from spsa(self, 1, "one")

        def rule(p, g, state, group):
            m = rules.average(rules.buffer(state, "m", g), self.beta1, g)
            v = rules.average(rules.buffer(state, "v", g, fill=1e-7), self.beta2, g * g)
            largest = rules.buffer(state, "largest", g, fill=1e-7)
            largest.copy_(torch.maximum(largest, v))
            rules.move(p, m / largest.sqrt() * group["lr"])

        self.each(rule, slope * z + self.decay())
        return loss
