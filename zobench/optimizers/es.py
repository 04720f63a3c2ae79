"""ES: a population of gaussian moves weighted by normalised rewards (Qiu et al., 2025, arXiv 2509.24372)."""

from zobench.core.estimators import deviation, directions, mean
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="ES",
    year=2025,
    paper="2509.24372",
    order="zeroth",
    family="adaptive",
    rate="0.25 * sqrt(d) * adaptive / (1 + (gradient / two_point - 1) / population)",
    forwards="population * (1 + guided)",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-4, 5e-4, 1e-3)),
    limits=dict(lr=">=0", eps=">0", population=">=2"),
    brief=dict(population=6),
    aliases=("evolution-strategies",),
    notes="The reward is minus the loss (the paper's is of generated answers). eps is its sigma, lr its alpha. All "
    "tensors have noise of their own, as in the released `_iid` version; the first one gave each tensor the "
    "same seed. One write, no state. Steps do not shrink with the slope: on regressions lr is a quarter of what "
    "the first slope allows.",
)

__all__ = ["ES"]


class ES(ZerothOrder):
    """theta += lr * mean_i R_i z_i, R_i = (r_i - mean r) / (std r + 1e-8), r_i = -L(theta + eps z_i).

    The std divides by n. population: directions, hence forwards, a step. eps: radius. lr: length of the step that
    follows the slope, whatever the scale of the loss.
    """

    elementwise = True

    def __init__(self, params, lr=5e-4, *, eps=1e-3, population=30, **common):
        super().__init__(params, dict(lr=lr), eps=eps, population=population, **common)

    def update(self):
        z = yield from directions(self, self.population)
        losses = yield [self.at(self.eps * zi) for zi in z]
        centre = sum(losses) / self.population
        spread = deviation(losses)
        self.descend(mean(z, [(loss - centre) / (spread + 1e-8) for loss in losses]))
        return centre
