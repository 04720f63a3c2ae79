"""KerZOO: probes at random radii, weighted by a kernel that cancels the bias of third order (2025, arXiv 2505.18886)."""

from zobench.core import philox
from zobench.core.estimators import mean, two_sided
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="KerZOO",
    year=2025,
    paper="2505.18886",
    order="zeroth",
    family="two-point",
    rate="two_point / (6.25 * scale)",
    forwards="n * (2 + guided)",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", n=">=1", scale=">0"),
    aliases=(),
    notes="From a secondary source; scale = 1 makes E[r K(r)] = 1 and with it the estimate one of the gradient (our "
    "reading). E[(r K(r))^2] = 6.25: the price of the kernel is a step 6 times shorter, and at lr = 1e-7 here it is "
    "about MeZO at 1e-6. Looked into: on toy_sentiment the tuning seed hardly left the start in 150 steps at any of "
    "six rates, while three other seeds reached MeZO. One step in seven goes uphill, up to 7.5 times as far: the "
    "kernel's variance.",
)

__all__ = ["KerZOO"]


class KerZOO(ZerothOrder):
    """theta -= lr * (mean_i g_i u_i + weight_decay theta) over n directions, with

        g_i = K(r_i) (L(theta + eps r_i u_i) - L(theta - eps r_i u_i)) / (2 eps)

    r_i ~ U[-1, 1], K(r) = scale * 15/4 r (5 - 7 r^2), u_i gaussian. lr and eps as in MeZO.
    """

    def __init__(self, params, lr=1e-7, *, eps=1e-3, n=1, scale=1.0, **common):
        super().__init__(params, dict(lr=lr), eps=eps, n=n, scale=scale, **common)

    def update(self):
        u, radii = [], []
        for _ in range(self.n):
            u.append((yield from self.direction()))
            radii.append(2 * float(philox.uniform(self.seed, self.draws, 0, philox.ROUNDING, 1)) - 1)
        values = yield [self.at(side * self.eps * r * z) for z, r in zip(u, radii, strict=True) for side in (1, -1)]
        slopes = two_sided(self, values)
        kernels = [self.scale * 15 / 4 * r * (5 - 7 * r * r) for r in radii]
        self.descend(mean(u, [k * slope for k, slope in zip(kernels, slopes, strict=True)]))
        return sum(values) / len(values)
