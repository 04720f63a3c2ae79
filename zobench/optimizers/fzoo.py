"""FZOO: one-sided Rademacher probes, a step over the spread of their losses (Dang et al., 2025, arXiv 2506.09034)."""

from zobench.core.estimators import deviation, directions, mean
from zobench.core.perturb import Direction
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="FZOO",
    year=2025,
    paper="2506.09034",
    order="zeroth",
    family="adaptive",
    rate="(1 if form == 'code' else eps) * 0.125 * sqrt(d) * adaptive / (1 + (gradient / two_point - 1) / n)",
    forwards="n * (1 + guided) + 1",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-5, 5e-5, 1e-4)),
    limits=dict(lr=">=0", eps=">0", n=">=2"),
    choices=dict(form=("code", "paper")),
    aliases=(),
    notes="The released code is the default, for the published lr belongs to it; the paper's divides by eps too and "
    "takes the sample std. Always n + 1 forwards: the release's path of n / 2 is never reached. Where all "
    "probes agree nothing moves. Steps do not shrink with the slope: on regressions lr is an eighth of what the "
    "first slope allows.",
)

__all__ = ["FZOO"]


class FZOO(ZerothOrder):
    """theta -= lr * mean_i (l_i - l_0) z_i / sigma, l_i = L(theta + eps z_i), sigma the std of l_1 .. l_n.

    The scale of the loss cancels. form: "code": population std; "paper": std with n - 1, and the differences divided by
    eps (lr is eps times the code's). n: directions, Rademacher by default. eps: radius.
    """

    elementwise = True

    def __init__(self, params, lr=5e-5, *, eps=1e-4, n=8, form="code", law="rademacher", **common):
        super().__init__(params, dict(lr=lr), eps=eps, n=n, form=form, law=law, **common)

    def update(self):
        z = yield from directions(self, self.n)
        here, *losses = yield [self.at(Direction()), *(self.at(self.eps * zi) for zi in z)]
        sigma = deviation(losses) * (1 if self.form == "code" else self.eps * (self.n / (self.n - 1)) ** 0.5)
        moves = (sigma != 0) / (sigma + (sigma == 0))  # 1 / sigma, or 0; arrays too
        self.descend(mean(z, [(loss - here) * moves for loss in losses]))
        return here
