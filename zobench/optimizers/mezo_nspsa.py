"""MeZO with the mean of n directions a step: n-SPSA (Malladi et al., 2023, arXiv 2305.17333, Algorithm 2)."""

from zobench.core.perturb import Direction
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO, n-SPSA",
    year=2023,
    paper="2305.17333",
    order="zeroth",
    family="two-point",
    directions="n",
    forwards="8",
    backwards="0",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(4e-6, 4e-7)),
    limits=dict(lr=">=0", eps=">0", n=">=1", weight_decay=">=0"),
    choices=dict(law=("gaussian", "rademacher", "sphere")),
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

    def __init__(
        self,
        params,
        lr=4e-6,
        *,
        eps=1e-3,
        n=4,
        average=True,
        weight_decay=0.0,
        law="gaussian",
        seed=None,
        mode="auto",
    ):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay), seed=seed, law=law, mode=mode)
        if not eps > 0:
            raise ValueError(f"eps must be > 0, not {eps}")
        if not n >= 1:
            raise ValueError(f"n must be >= 1, not {n}")
        self.eps, self.n, self.average = eps, n, average

    def update(self):
        z = [self.draw() for _ in range(self.n)]
        values = yield [self.at(radius * zj) for zj in z for radius in (self.eps, -self.eps)]
        estimate = Direction()
        for zj, plus, minus in zip(z, values[::2], values[1::2], strict=True):
            slope = (plus - minus) / (2 * self.eps)  # projected gradient, nats per unit of z
            estimate += slope / (self.n if self.average else 1) * zj
        self.apply(estimate + self.decay(), lambda group: -group["lr"])
        return sum(values) / len(values)
