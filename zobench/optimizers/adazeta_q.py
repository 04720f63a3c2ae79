"""AdaZeta's queries: SPSA with more directions as the epochs go by (Yang et al., 2024, arXiv 2406.18060)."""

from zobench.core.estimators import mean, spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="AdaZeta, query schedule",
    year=2024,
    paper="2406.18060",
    order="zeroth",
    family="two-point",
    forwards="min(max(int(shrink * (t // steps_per_epoch) ** rate), 1), most) * (2 + guided)",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-7)),
    limits=dict(lr=">=0", eps=">0", steps_per_epoch=">=1", shrink=">0", rate=">=0", most=">=1"),
    brief=dict(steps_per_epoch=2, shrink=1.0),
    aliases=(),
    notes="The schedule alone; the paper's tensor-train adapters are a matter of the model. Epochs count from 0, as "
    "released; their length is an option (63: MeZO's 1,000 examples in batches of 16), since an optimizer does not "
    "see the data. The default lr is kept while the number of queries grows.",
)

__all__ = ["AdaZetaQ"]


class AdaZetaQ(ZerothOrder):
    """theta -= lr * (mean_j g_j z_j + weight_decay theta) over Q = min(max(int(shrink * epoch^rate), 1), most) directions z_j.

    g_j: two-sided slopes, as in MeZO; epoch: how often `steps_per_epoch` steps have passed. lr and eps as in MeZO.
    """

    elementwise = True

    def __init__(
        self, params, lr=1e-6, *, eps=1e-3, steps_per_epoch=63, shrink=0.5, rate=0.5, most=15, **common
    ):  # fmt: skip
        options = dict(eps=eps, steps_per_epoch=steps_per_epoch, shrink=shrink, rate=rate, most=most)
        super().__init__(params, dict(lr=lr), **options, **common)

    def update(self):
        epoch = self.steps // self.steps_per_epoch
        queries = min(max(int(self.shrink * epoch**self.rate), 1), self.most)
        z, slopes, loss = yield from spsa(self, queries)
        self.descend(mean(z, slopes))
        return loss
