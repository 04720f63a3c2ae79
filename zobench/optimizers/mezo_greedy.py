"""MeZO-Greedy: MeZO along the best of a few candidate directions (Jin et al., 2026, arXiv 2601.04710)."""

from zobench.core.estimators import spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO-Greedy",
    year=2026,
    paper="2601.04710",
    order="zeroth",
    family="two-point",
    forwards="candidates + 2",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-7, 2e-7, 3e-7, 5e-7)),
    limits=dict(lr=">=0", eps=">0", candidates=">=2", weight_decay=">=0"),
    choices=dict(law=("gaussian", "rademacher", "sphere")),
    aliases=(),
    notes="The paper's algorithm, as MeZO-GV's is. mezo[guide=greedy] is this; guide=greedy works on others too.",
)

__all__ = ["MeZOGreedy"]


class MeZOGreedy(ZerothOrder):
    """theta -= lr * (g z + weight_decay theta), g = (L(theta + eps z) - L(theta - eps z)) / (2 eps), z the candidate of the
    lowest L(theta + eps z_i). candidates: how many are probed, on one side and at the step's minibatch.
    """

    def __init__(
        self, params, lr=2e-7, *, eps=1e-3, candidates=2, weight_decay=0.0, law="gaussian", seed=None, mode="auto"
    ):  # fmt: skip
        guide = dict(guide="greedy", candidates=candidates)
        super().__init__(
            params, dict(lr=lr, weight_decay=weight_decay), seed=seed, mode=mode, eps=eps, law=law, **guide
        )

    def update(self):
        (z,), (slope,), loss = yield from spsa(self)
        self.descend(slope * z)
        return loss
