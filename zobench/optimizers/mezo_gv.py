"""MeZO-GV: MeZO along a guiding vector, the better candidates minus the worse (Jin et al., 2026, arXiv 2601.04710)."""

from zobench.core.estimators import spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO-GV",
    year=2026,
    paper="2601.04710",
    order="zeroth",
    family="two-point",
    rate="two_point / (1 / min(max(floor(alpha * candidates), 1), candidates - 1)"
    " + 1 / (candidates - min(max(floor(alpha * candidates), 1), candidates - 1)))",
    forwards="candidates + 2",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-7, 2e-7, 3e-7, 5e-7)),
    limits=dict(lr=">=0", eps=">0", candidates=">=2", alpha=">0", weight_decay=">=0"),
    choices=dict(law=("gaussian", "rademacher", "sphere")),
    aliases=(),
    notes="The paper's algorithm. The released default trainer is another (it keeps a best seed of the past), and it "
    "reseeds inside the loop over tensors, so that only the first tensor moves along what was probed. mezo[guide=gv] "
    "is this; guide=gv works on others too. Looked into: at equal forwards behind MeZO on the regressions, where "
    "choosing a direction by its loss buys less than the two forwards it costs.",
)

__all__ = ["MeZOGV"]


class MeZOGV(ZerothOrder):
    """theta -= lr * (g v + weight_decay theta), g = (L(theta + eps v) - L(theta - eps v)) / (2 eps), v = mean of the best k
    candidates z_i minus mean of the others, ranked by L(theta + eps z_i), k = floor(alpha candidates) within 1 .. candidates - 1.

    v is not normalised: its elements have variance 1/k + 1/(candidates - k), 2 by default, and a step is that much longer.
    """

    def __init__(
        self, params, lr=2e-7, *, eps=1e-3, candidates=2, alpha=0.5, weight_decay=0.0, law="gaussian", seed=None, mode="auto"
    ):  # fmt: skip
        guide = dict(guide="gv", candidates=candidates, alpha=alpha)
        super().__init__(
            params, dict(lr=lr, weight_decay=weight_decay), seed=seed, mode=mode, eps=eps, law=law, **guide
        )

    def update(self):
        (v,), (slope,), loss = yield from spsa(self)
        self.descend(slope * v)
        return loss
