"""MeZO-SVRG: two-point estimates corrected by those at an anchor (Gautam et al., 2024, arXiv 2404.08080, ICML 2024)."""

from zobench.core.estimators import slope_along
from zobench.core.history import recall, remember
from zobench.core.perturb import Direction
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="MeZO-SVRG",
    year=2024,
    paper="2404.08080",
    order="zeroth",
    family="two-point",
    rate="two_point / max(anchor, 1)",
    forwards="(2 * anchor_batches if t % q == 0 else 4) + guided",
    state="0 if faithful_bug else numel * itemsize",
    replay="exact",
    mode="eval",
    grid=dict(lr=(1e-5, 1e-6), anchor=(1.0, 10.0, 100.0)),
    limits=dict(lr=">=0", eps=">0", q=">=1", anchor=">=0", anchor_batches=">=1", anneal=">=0", window=">=1"),
    brief=dict(q=3, anchor=2.0, anchor_batches=2),
    aliases=(),
    notes="faithful_bug=True is the released code, for ablations alone: its anchor is the live weights, its two estimates "
    "have other directions, the second after the first's update, and so no noise cancels. The large batch is "
    "`anchor_batches` minibatches (the release takes one), all along one direction. anneal: the release compares "
    "epochs; ours are windows of steps. Looked into: on full-batch regressions it is behind MeZO at equal forwards, "
    "as it must be: there is no minibatch noise for it to remove, and 4 forwards a step.",
)

__all__ = ["MeZOSVRG"]

RISE, FLOOR, ANCHOR_FLOOR = 1.05, 1e-6, 1e-5  # of the released schedule; a rate that is given lower stays


class MeZOSVRG(ZerothOrder):
    """Every q steps: anchor = theta, gbar = g z on a large batch, theta -= anchor lr gbar. Else theta -= lr (d z + gbar),

    d = g(theta) - g(anchor), both slopes along the same z on the same minibatch. anchor: ratio of the two rates.
    anchor_batches: minibatches of the large batch. gbar is kept as (draw, slope). anneal: divides both rates when the
    mean loss of `window` steps is above 1.05 times that of the window before; 0 is off. weight_decay is added to every
    estimate.
    """

    def __init__(
        self, params, lr=1e-6, *, eps=1e-3, q=2, anchor=100.0, anchor_batches=1, anneal=0.0, window=100,
        faithful_bug=False, **common,
    ):  # fmt: skip
        svrg = dict(q=q, anchor=anchor, anchor_batches=anchor_batches, anneal=anneal, window=window)
        super().__init__(params, dict(lr=lr), eps=eps, faithful_bug=faithful_bug, **svrg, **common)
        if 0 < anneal < 1:
            raise ValueError(f"anneal must be 0 or at least 1, not {anneal!r}")

    def update(self):
        lr = self.rate(1.0, FLOOR)
        if self.steps % self.q == 0:
            if not self.faithful_bug:
                self.memory["anchor"] = [p.detach().clone() for p in self.tensors]
            z = yield from self.direction()
            found = []
            for batch in [None, *range(1, self.anchor_batches)]:
                found.append((yield from slope_along(self, z, batch=batch)))
            loss = sum(loss for _, loss in found) / len(found)
            estimate = sum(slope for slope, _ in found) / len(found) * z
            remember(self, estimate, 1)
            lr = self.rate(self.anchor, ANCHOR_FLOOR)
        else:
            z = yield from self.direction()
            slope, loss = yield from slope_along(self, z)
            estimate, shift, base, other = slope * z, Direction(), self.memory.get("anchor"), z
            if self.faithful_bug:
                shift, other = estimate.scaled([-rate for rate in self._per_tensor(lr)]), self.draw()
            correction, _ = yield from slope_along(self, other, base=base, shift=shift)
            estimate = estimate - correction * other + recall(self)[0]
        self.apply(estimate + self.decay(), lambda group: -lr(group))
        self.watch(loss)
        return loss

    def rate(self, ratio, floor):
        """The rate of a group, annealed, but not below min(itself, floor)."""
        slowed = self.memory.get("slowed", 1.0)

        def of(group):
            whole = ratio * group["lr"]
            return max(whole / slowed, min(whole, floor))

        return of

    def watch(self, loss):
        """The windows of losses, and how often the rates were divided."""
        if not self.anneal:
            return
        losses = [*self.memory.get("losses", []), float(loss)]
        if len(losses) == 2 * self.window:
            before, now = sum(losses[: self.window]), sum(losses[self.window :])
            if now > RISE * before:
                self.memory["slowed"] = self.memory.get("slowed", 1.0) * self.anneal
            losses = losses[self.window :]
        self.memory["losses"] = losses
