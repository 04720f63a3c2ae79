"""ZO-Adam: the averaged difference estimate handed to Adam (Zhang et al., 2024, arXiv 2402.11592)."""

from zobench.core import rules
from zobench.core.estimators import mean, spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="ZO-Adam",
    year=2024,
    paper="2402.11592",
    order="zeroth",
    family="adaptive",
    rate="adaptive / 2",
    forwards="queries * ((2 if sides == 'two' else 1) + guided) + (0 if sides == 'two' else 1)",
    state="2 * numel * wide",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-4, 1e-5, 1e-6, 1e-7, 1e-8)),
    limits=dict(lr=">=0", eps=">0", queries=">=1", beta1=">=0 <1", beta2=">=0 <1", adam_eps=">0"),
    choices=dict(sides=("two", "one")),
    brief=dict(lr=0.02),
    aliases=(),
    notes="The mathematics of mezo-adam in the peer benchmark's protocol. The estimate of all queries is formed one "
    "tensor at a time; moments are float32. lr 1e-5 of its grid is our choice: the tuned values were never "
    "released. On regressions half of the adaptive rate, for the noise of one direction does not average "
    "out.",
)

__all__ = ["ZOAdam"]


class ZOAdam(ZerothOrder):
    """m, v: running means of ghat = mean_j g_j z_j and ghat^2, bias-corrected; theta -= lr * mhat / (sqrt(vhat) +
    adam_eps).

    queries: directions a step, at one theta and minibatch. sides: two | one (all share the loss at theta). lr: step of
    an element. eps: radius of the probes. weight_decay is added to the estimate, as in torch's Adam.
    """

    def __init__(
        self, params, lr=1e-5, *, eps=1e-3, beta1=0.9, beta2=0.999, adam_eps=1e-8, queries=1, sides="two", **common
    ):
        adam = dict(beta1=beta1, beta2=beta2, adam_eps=adam_eps)
        super().__init__(params, dict(lr=lr), eps=eps, queries=queries, sides=sides, **adam, **common)

    def update(self):
        z, slopes, loss = yield from spsa(self, self.queries, self.sides)
        rule = rules.adam(self.beta1, self.beta2, self.adam_eps, step=self.steps + 1)
        self.each(rule, mean(z, slopes) + self.decay())
        return loss
