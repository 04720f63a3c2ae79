"""R-AdaZO: Adam whose second moment is that of the first one (Shu et al., 2025, arXiv 2502.01014, ICML 2025)."""

import math

from zobench.core import rules
from zobench.core.estimators import mean, spsa
from zobench.core.history import moment, recall, remember
from zobench.core.perturb import squared
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="R-AdaZO",
    year=2025,
    paper="2502.01014",
    order="zeroth",
    family="adaptive",
    rate="adaptive / 10",
    forwards="n + 1 + n * guided",
    state="2 * numel * wide if moments == 'stored' else 0",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-5, 1e-4, 1e-3)),
    limits=dict(lr=">=0", mu=">0", n=">=1", beta1=">=0 <1", beta2=">=0 <1", adam_eps=">0", history=">=1"),
    choices=dict(moments=("stored", "recomputed")),
    brief=dict(history=4),
    aliases=(),
    notes="The released class perturbs each tensor alone, along a vector of unit norm and without the factor d (2n "
    "forwards a tensor); here all tensors move at once, along gaussian directions that share L(theta). mu stays the "
    "length of a probe: eps = mu / sqrt(d). In half precision, or beyond a million weights, that is lost in "
    "rounding: mu = 1e-3 sqrt(d) is MeZO's radius. No bias correction, as released: the first step is 1 / sqrt(1 - "
    "beta2) = 32 times lr. moments=recomputed draws both moments again from the last `history` estimates, for "
    "history^2 / 2 draws, and scales them by the weight that is cut off.",
)

__all__ = ["RAdaZO"]


class RAdaZO(ZerothOrder):
    """ghat = mean_i u_i (L(theta + eps u_i) - L(theta)) / eps over n directions; m = beta1 m + (1 - beta1) ghat;
    v = beta2 v + (1 - beta2) m^2; theta -= lr * m / (sqrt(v) + adam_eps).

    lr: step of an element. mu: length of a probe, eps = mu / sqrt(d). bias_correction: Adam's, of both.
    moments: stored | recomputed from the last `history` steps.
    """

    def __init__(
        self, params, lr=1e-3, *, mu=5e-3, n=2, beta1=0.9, beta2=0.999, adam_eps=1e-8, bias_correction=False,
        moments="stored", history=10, **common,
    ):  # fmt: skip
        adam = dict(beta1=beta1, beta2=beta2, adam_eps=adam_eps, bias_correction=bias_correction)
        super().__init__(params, dict(lr=lr), mu=mu, n=n, moments=moments, history=history, **adam, **common)
        self.eps = mu / math.sqrt(sum(p.numel() for p in self.tensors))
        if moments == "recomputed" and self.defaults["weight_decay"]:
            raise ValueError("weight_decay goes through the moments: use it with moments=stored")

    def update(self):
        z, slopes, loss = yield from spsa(self, self.n, "one")
        estimate, t = mean(z, slopes), self.steps + 1
        first, second = (1 - self.beta1**t, 1 - self.beta2**t) if self.bias_correction else (1.0, 1.0)

        def rule(p, g, state, group):
            m = rules.average(rules.buffer(state, "m", g), self.beta1, g)
            v = rules.average(rules.buffer(state, "v", g), self.beta2, m * m)
            rules.move(p, m / first / ((v / second).sqrt() + self.adam_eps) * group["lr"])

        if self.moments == "stored":
            self.each(rule, estimate + self.decay())
            return loss
        remember(self, estimate, self.history)
        past = recall(self)
        means = [whole(past[age:], self.beta1, t - age) for age in range(len(past))]
        v = whole([squared(m) for m in means], self.beta2, t)
        self.each(rules.ratio(self.adam_eps), means[0] * (1 / first), v * (1 / second))
        return loss


def whole(kept, beta, t):
    """The running mean over t steps of which the newest are kept, scaled as if the others had been like them."""
    return moment(kept, beta) * ((1 - beta**t) / (1 - beta ** len(kept)))
