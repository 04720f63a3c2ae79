"""MeZO with the mean of n directions a step: n-SPSA (Malladi et al., 2023, arXiv 2305.17333, Algorithm 2)."""

from zobench.core.estimators import mean, spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO, n-SPSA",
    year=2023,
    paper="2305.17333",
    order="zeroth",
    family="two-point",
    directions="n",
    forwards="n * (2 + guided)",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(4e-6, 4e-7)),
    limits=dict(lr=">=0", eps=">0", n=">=1"),
    aliases=("n-spsa", "zo-softmax"),
    notes="2n forwards, 8 by default; all directions see one minibatch, as in the released code, and one write applies them. "
    "The paper scales lr by n: the grid is MeZO's times 4; average=False does it for any n. n = 1 is mezo in equal bits.",
)

__all__ = ["MeZONSPSA"]


class MeZONSPSA(ZerothOrder):
    """theta -= lr * (mean_j g_j z_j + weight_decay theta), g_j = (L(theta + eps z_j) - L(theta - eps z_j)) / (2 eps).

    n: directions a step, all probed at the same theta and minibatch (Algorithm 2 draws a minibatch for each). average: False
    takes the sum in place of the mean, lr then being per direction (the released `scale_lr_with_samples`). lr, eps and
    weight_decay as in MeZO.
    """

    elementwise = True

    def __init__(self, params, lr=4e-6, *, eps=1e-3, n=4, average=True, weight_decay=0.0, law="gaussian", **common):
        options = dict(eps=eps, n=n, average=average, law=law)
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay), **options, **common)

    def update(self):
        z, slopes, loss = yield from spsa(self, self.n)
        estimate = mean(z, slopes)
        self.descend(estimate if self.average else self.n * estimate)
        return loss
