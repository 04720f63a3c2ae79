"""MeZO-momentum: the two-point estimate handed to SGD with momentum (Malladi et al., 2023, arXiv 2305.17333, appendix B)."""

from zobench.core import rules
from zobench.core.estimators import mean, spsa
from zobench.core.history import moment, recall, remember
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO-momentum",
    year=2023,
    paper="2305.17333",
    order="zeroth",
    family="two-point",
    rate="gradient / (1 + (gradient / two_point - 1) / n) * (1 - momentum)",
    forwards="n * (2 + guided)",
    state="numel * wide if moments == 'stored' else 0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7, 1e-8)),
    limits=dict(lr=">=0", eps=">0", n=">=1", momentum=">=0 <1", history=">=1"),
    choices=dict(moments=("stored", "recomputed")),
    brief=dict(history=4),
    aliases=(),
    notes="torch's SGD: no dampening, so a step is worth 1 / (1 - momentum) of MeZO's. The estimate is never stored: "
    "one copy of the weights, not two. moments=recomputed keeps none: the buffer is drawn again from the last "
    "`history` (draw, slope) pairs, older ones being dropped. The grid is our suggestion; the released `--momentum` "
    "does not exist.",
)

__all__ = ["MeZOMomentum"]


class MeZOMomentum(ZerothOrder):
    """m = momentum m + ghat, ghat = mean_j g_j z_j + weight_decay theta; theta -= lr * m. With momentum = 0 it is MeZO.

    lr: step per unit of m. eps: radius of the probes. n: directions. momentum: what m keeps a step. moments: stored |
    recomputed, m = sum_k momentum^k ghat_(t-k) over the last `history` steps.
    """

    def __init__(self, params, lr=1e-7, *, eps=1e-3, n=1, momentum=0.9, moments="stored", history=30, **common):
        super().__init__(
            params, dict(lr=lr), eps=eps, n=n, momentum=momentum, moments=moments, history=history, **common
        )
        if moments == "recomputed" and self.defaults["weight_decay"]:
            raise ValueError("weight_decay goes through the momentum: use it with moments=stored")

    def update(self):
        z, slopes, loss = yield from spsa(self, self.n)
        estimate = mean(z, slopes)
        if self.moments == "stored":
            self.each(rules.momentum(self.momentum), estimate + self.decay())
            return loss
        remember(self, estimate, self.history)
        self.descend(moment(recall(self), self.momentum) * (1 / (1 - self.momentum)))
        return loss
