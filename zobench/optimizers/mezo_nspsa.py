"""MeZO with the mean of n directions a step: n-SPSA (Malladi et al., 2023, arXiv 2305.17333, Algorithm 2)."""

from zobench.core.estimators import mean, spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO, n-SPSA",
    year=2023,
    paper="2305.17333",
    order="zeroth",
    family="two-point",
    directions="n",
    forwards="(n if schedule == 'constant' else max(1, min(t + 1, total_steps) * n // max(total_steps, 1))) * (2 + guided)",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(lr=(4e-6, 4e-7)),
    limits=dict(lr=">=0", eps=">0", n=">=1", total_steps=">=0"),
    choices=dict(schedule=("constant", "linear")),
    late=dict(resample_batch=False, schedule="constant", total_steps=0),
    ends="schedule == 'linear'",
    batches="n if resample_batch else 1",
    aliases=("n-spsa", "zo-softmax"),
    presets={"zo-softmax": {"eps": 1e-4}},
    notes="2n forwards, 8 by default; all directions see one minibatch, as in the released code, and one write applies "
    "them. The paper scales lr by n: the grid is MeZO's times 4; average=False does it for any n. n = 1 is mezo in equal "
    "bits. zo-softmax is this method with eps 1e-4 (Deng et al., 2023, arXiv 2307.08352). Steps count from 1 in the schedule "
    "of n (our reading), which reaches n in the last one.",
)

__all__ = ["MeZONSPSA"]


class MeZONSPSA(ZerothOrder):
    """theta -= lr * (mean_j g_j z_j + weight_decay theta), g_j = (L(theta + eps z_j) - L(theta - eps z_j)) / (2 eps).

    n: directions a step, all probed at the same theta. average: False takes the sum in place of the mean, lr then being per
    direction (the released `scale_lr_with_samples`). lr, eps and weight_decay as in MeZO. resample_batch: each direction has a
    minibatch of its own, as in Algorithm 2. schedule: n constant, or linear, max(1, floor(n t / total_steps)) in step t;
    total_steps: 0 is the budget's.
    """

    elementwise = True

    def __init__(
        self, params, lr=4e-6, *, eps=1e-3, n=4, average=True, weight_decay=0.0, law="gaussian",
        resample_batch=False, schedule="constant", total_steps=0, **common,
    ):  # fmt: skip
        late = dict(resample_batch=resample_batch, schedule=schedule, total_steps=total_steps)
        options = dict(eps=eps, n=n, average=average, law=law)
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay), **options, **late, **common)
        if schedule == "linear" and not total_steps:
            raise ValueError("schedule=linear needs total_steps")

    def directions(self):
        """n of this step."""
        if self.schedule == "constant":
            return self.n
        return max(1, min(self.steps + 1, self.total_steps) * self.n // self.total_steps)

    def update(self):
        n = self.directions()
        if self.resample_batch:
            parts = []
            for j in range(n):
                parts.append((yield from spsa(self, batch=j or None)))
            z, slopes = [part[0][0] for part in parts], [part[1][0] for part in parts]
            loss = sum(part[2] for part in parts) / n
        else:
            z, slopes, loss = yield from spsa(self, n)
        estimate = mean(z, slopes)
        self.descend(estimate if self.average else n * estimate)
        return loss
