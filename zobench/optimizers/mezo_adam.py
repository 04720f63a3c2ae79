"""MeZO-Adam: the two-point estimate handed to Adam (Malladi et al., 2023, arXiv 2305.17333, appendix B)."""

from zobench.core import rules
from zobench.core.estimators import mean, spsa
from zobench.core.history import moment, recall, remember
from zobench.core.perturb import squared
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO-Adam",
    year=2023,
    paper="2305.17333",
    order="zeroth",
    family="adaptive",
    rate="adaptive / 2",
    forwards="n * (2 + guided)",
    state="2 * numel * wide if moments == 'stored' else 0",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-6, 1e-5, 1e-4, 5e-4, 1e-3)),
    limits=dict(lr=">=0", eps=">0", n=">=1", beta1=">=0 <1", beta2=">=0 <1", adam_eps=">0", history=">=1"),
    choices=dict(moments=("stored", "recomputed")),
    brief=dict(history=4, lr=0.02),
    aliases=(),
    notes="The estimate is formed one tensor at a time and never stored: 2 copies of the weights, not 3. moments=recomputed"
    " keeps none: both moments are drawn again from the last `history` (draw, slope) pairs, older ones being dropped."
    " Looked into: a rate divided by the noise of the estimate was too small on toy_sentiment, where half of Adam's "
    "works; which multiple of it is best differs by 30 between the regressions.",
)

__all__ = ["MeZOAdam"]


class MeZOAdam(ZerothOrder):
    """m, v: running means of ghat = mean_j g_j z_j and ghat^2, bias-corrected; theta -= lr * mhat / (sqrt(vhat) + adam_eps).

    lr: step of an element. eps: radius of the probes. n: directions. beta1, beta2, adam_eps: Adam's. moments: stored |
    recomputed from the last `history` steps. weight_decay is added to the estimate, as in torch's Adam.
    """

    def __init__(
        self, params, lr=1e-4, *, eps=1e-3, n=1, beta1=0.9, beta2=0.999, adam_eps=1e-8,
        moments="stored", history=30, **common,
    ):  # fmt: skip
        adam = dict(beta1=beta1, beta2=beta2, adam_eps=adam_eps, moments=moments, history=history)
        super().__init__(params, dict(lr=lr), eps=eps, n=n, **adam, **common)
        if moments == "recomputed" and self.defaults["weight_decay"]:
            raise ValueError("weight_decay goes through the moments: use it with moments=stored")

    def update(self):
        z, slopes, loss = yield from spsa(self, self.n)
        estimate = mean(z, slopes)
        t, betas = self.steps + 1, (self.beta1, self.beta2)
        if self.moments == "stored":
            self.each(rules.adam(*betas, self.adam_eps, step=t), estimate + self.decay())
            return loss
        remember(self, estimate, self.history)
        past = recall(self)
        m = moment(past, self.beta1) * (1 / (1 - self.beta1**t))
        v = moment([squared(g) for g in past], self.beta2) * (1 / (1 - self.beta2**t))
        self.each(rules.ratio(self.adam_eps), m, v)
        return loss
