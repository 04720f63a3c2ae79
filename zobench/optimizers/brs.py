"""BRS: random search, its slopes by forward differences (Nesterov and Spokoiny, 2017; Mania et al., 2018, arXiv 1803.07055)."""

from zobench.core.estimators import deviation, directions, mean
from zobench.core.perturb import Direction
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="Basic random search",
    year=2017,
    paper="Nesterov and Spokoiny, Found. Comput. Math. 17; 1803.07055",
    order="zeroth",
    family="two-point",
    rate="gradient / (1 + (gradient / two_point - 1) / n) / (1 if divide_by_nu else 1 / ((2 if sides == 'two' else 1) * eps))"
    " * (eps * adaptive * sqrt(d) / gradient / 4 if normalise else 1)",
    forwards="(2 * n if sides == 'two' else n + 1) + n * guided",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", n=">=1"),
    choices=dict(sides=("one", "two")),
    aliases=("gaussian-smoothing", "random-search"),
    notes="By default the random gradient-free method: forward differences, rate 1 / (4 (d + 4) l) in theory. Mania "
    "et al.: sides=two, divide_by_nu=False, and normalise=True for their augmented search without its choice of the "
    "best directions. sides=two is mezo-nspsa. law=sphere has radius sqrt(d), so that the estimate needs no further "
    "factor d.",
)

__all__ = ["BRS"]


class BRS(ZerothOrder):
    """theta -= lr * (mean_j g_j u_j + weight_decay theta), g = (L(theta + nu u) - L(theta)) / nu, nu = eps; sides=two:
    g = (L(theta + nu u) - L(theta - nu u)) / (2 nu).

    n: directions. divide_by_nu: False takes the difference of the losses for g. normalise: divides g by the standard deviation
    of all losses of the step.
    """

    elementwise = True

    def __init__(self, params, lr=1e-6, *, eps=1e-3, n=1, sides="one", divide_by_nu=True, normalise=False, **common):
        options = dict(n=n, sides=sides, divide_by_nu=divide_by_nu, normalise=normalise)
        super().__init__(params, dict(lr=lr), eps=eps, **options, **common)

    def update(self):
        u = yield from directions(self, self.n)
        far = [self.at(self.eps * uj) for uj in u]
        near = [self.at(-self.eps * uj) for uj in u] if self.sides == "two" else [self.at(Direction())]
        values = yield [*far, *near]
        plus, minus = values[: self.n], values[self.n :]
        unit = (self.eps * (2 if self.sides == "two" else 1)) if self.divide_by_nu else 1.0
        if self.normalise:
            spread = deviation(values)
            unit = unit * (spread + (spread == 0))
        differences = [a - b for a, b in zip(plus, minus if self.sides == "two" else minus * self.n, strict=True)]
        self.descend(mean(u, [difference / unit for difference in differences]))
        return sum(values) / len(values) if self.sides == "two" else minus[0]
