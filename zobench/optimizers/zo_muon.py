"""ZO-Muon: the mean of several one-sided estimates in a random subspace, orthogonalised (2026, arXiv 2602.17155)."""

from zobench.core import lowrank, philox, rules
from zobench.core.estimators import mean, spsa
from zobench.core.perturb import Factored, factored
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="ZO-Muon",
    year=2026,
    paper="2602.17155",
    order="zeroth",
    family="two-point",
    rate="two_point * max(sqrt(d) / 4, 1)",
    forwards="n + 1 + n * guided if opt == 'muon' else n * (2 + guided)",
    state="rows * min(rank, rows, cols) * wide if matrix else 0",
    replay="local",
    mode="eval",
    grid=dict(lr=(1e-3, 1e-2, 1e-1)),
    limits=dict(lr=">=0", eps=">0", n=">=1", rank=">=1", interval=">=1", vector_lr=">=0"),
    choices=dict(opt=("muon", "sgd")),
    brief=dict(interval=3, vector_lr=1.0),
    aliases=(),
    notes="P is refreshed once each interval; the released code draws another for each query of a refresh step. There "
    "vectors have the rate 1e-7 whatever lr is: here vector_lr is their share of lr (our reading), so that lr = 0 "
    "stops them too; a model without matrices is stepped at lr. opt=sgd is the paper's Subspace-MeZO, two-sided (with"
    " n=1), whose lr is like MeZO's. Looked into: at a two-point rate nothing moved on toy_sentiment, because P "
    "msign(M) has one size whatever the slope; the task's rate is therefore scaled by sqrt(d) / 4, and with it this "
    "is the best of the pure zeroth-order methods in the tuning there.",
)

__all__ = ["ZOMuon"]


class ZOMuon(ZerothOrder):
    """For matrices (m, n), with g_i = (L(theta + eps P u_i) - L(theta)) / eps and M = mean_i g_i u_i:

        theta -= lr * P msign(M)

    u_i (r, n) is gaussian, P (m, r) orthonormal and new each `interval` steps, msign five steps of Newton and Schulz. n: queries.
    Vectors: theta -= vector_lr * lr * mean_i g_i z_i. opt: muon | sgd, theta -= lr * P M with two-sided g_i.
    """

    def __init__(
        self, params, lr=1e-2, *, eps=1e-3, n=4, rank=64, interval=100, vector_lr=1e-5, opt="muon", **common
    ):  # fmt: skip
        options = dict(eps=eps, n=n, rank=rank, interval=interval, vector_lr=vector_lr, opt=opt)
        super().__init__(params, dict(lr=lr), **options, **common)

    def propose(self):
        z, basis, right = self.draw(), self.memory["basis"], [None] * len(self.tensors)
        for i in self.matrices():
            shape = basis[i].shape[1], lowrank.matrix_shape(self.tensors[i])[1]
            right[i] = self.numbers(i, shape, self.draws, philox.DIRECTION)
        return factored(basis, right) + z.only(self.vectors())

    def orthogonal(self, estimate):
        """P msign(M) of the estimate P M."""
        terms = [t for t in estimate.terms if isinstance(t.source, Factored)]
        right = [None] * len(self.tensors)
        for i in self.matrices():
            if terms:  # none where all slopes are zero
                right[i] = rules.newton_schulz(sum(t.coefficient * t.source.right[i] for t in terms))
        return factored(self.memory["basis"], right)

    def update(self):
        if self.steps % self.interval == 0:
            self.draws += 1
            drawn = lowrank.gaussian_factors(self, self.rank, self.draws, philox.FACTOR_U, "left")
            self.memory["basis"] = lowrank.orthonormal(drawn)
        z, slopes, loss = yield from spsa(self, self.n, "one" if self.opt == "muon" else "two")
        estimate = mean(z, slopes)
        if self.opt == "sgd":
            self.descend(estimate)
            return loss
        self.finite(*slopes)
        share = self.vector_lr if self.matrices() else 1.0
        self.descend(self.orthogonal(estimate) + share * estimate.only(self.vectors()))
        return loss
