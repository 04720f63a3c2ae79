"""ZO, sparse: directions under a random or magnitude mask (Zhang et al., 2024, arXiv 2402.11592)."""

import math

from zobench.core import philox
from zobench.core.estimators import mean, spsa
from zobench.core.masks import gaussian_cut, share_within, threshold
from zobench.core.perturb import Seeded, noise
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="ZO, sparse",
    year=2024,
    paper="2402.11592",
    order="zeroth",
    family="two-point",
    directions="queries",
    forwards="queries * ((2 if sides == 'two' else 1) + guided) + (0 if sides == 'two' else 1)",
    state="0",
    replay="exact",
    mode="eval",
    grid=dict(sparsity=(0.1, 0.3, 0.5, 0.7, 0.9), resample=(1, 10, 100, 1000)),
    limits=dict(lr=">=0", eps=">0", queries=">=1", sparsity=">=0 <1", resample=">=1"),
    choices=dict(mask=("random", "magnitude"), groups=("layer", "global"), keep=("small", "top"), sides=("two", "one")),
    brief=dict(resample=3),
    aliases=("zo-sgd-sparse",),
    notes="The density is exact in expectation: the released masks compare a normal number with the sparsity itself, "
    "so that 0.1 masks 54 % and 0.9 82 %. Probes and updates of all queries share the mask; the release forgets "
    "it in the update of q > 1. As in the release, `groups=global` of a random mask gives each tensor the share "
    "of its weights above the global quantile. Our reading of magnitude masks: thresholds once from |theta_0|, "
    "a threshold of 0 trains the tensor whole.",
)

__all__ = ["ZOSparse"]


class ZOSparse(ZerothOrder):
    """theta -= lr * mean_j g_j m z_j, m a mask of 0 and 1: two- or one-sided slopes g_j along m z_j.

    mask: "random": each element is kept with probability 1 - sparsity, drawn anew every `resample` steps; "magnitude":
    keep=small (|theta| within the quantile) or top (above it). groups: layer (each tensor alike) | global (one quantile
    of all weights). sparsity: the fraction that rests, below 1. queries: directions a step. sides: two | one.
    """

    def __init__(
        self, params, lr=1e-6, *, eps=1e-3, sparsity=0.5, mask="random", resample=1, groups="layer", keep="small",
        queries=1, sides="two", **common,
    ):  # fmt: skip
        masks = dict(sparsity=sparsity, mask=mask, resample=resample, groups=groups, keep=keep)
        super().__init__(params, dict(lr=lr), eps=eps, queries=queries, sides=sides, **masks, **common)

    def propose(self):
        return self.draw().scaled(self.kept) if self.sparsity else self.draw()

    def kept(self, w, i, part):
        cut = self.memory["cuts"][i]
        if self.mask == "random":
            source = Seeded("gaussian", self.memory["mask"], self.seed, philox.SECOND)
            return noise(source, w, i, part) <= cut
        return w.abs() <= cut if self.keep == "small" else w.abs() > cut

    def cuts(self):
        """A number per tensor: of a normal draw (random), or of |theta_0| (magnitude)."""
        small = self.mask == "magnitude" and self.keep == "small"
        fraction, all_of_them = 1 - self.sparsity if small else self.sparsity, self.tensors
        if self.mask == "random" and self.groups == "layer":
            return [gaussian_cut(1 - self.sparsity)] * len(all_of_them)
        if self.groups == "global":
            shared = threshold(all_of_them, fraction)
            if self.mask == "random":
                return [gaussian_cut(1 - share_within(p, shared)) for p in all_of_them]
            found = [shared] * len(all_of_them)
        else:
            found = [threshold([p], fraction) for p in all_of_them]
        everything = math.inf if small else -1.0
        return [h or everything for h in found]

    def update(self):
        if self.sparsity and self.steps == 0:
            self.memory["cuts"] = self.cuts()
        if self.sparsity and self.mask == "random" and self.steps % self.resample == 0:
            self.draws += 1
            self.memory["mask"] = self.draws
        z, slopes, loss = yield from spsa(self, self.queries, self.sides)
        self.descend(mean(z, slopes))
        return loss
