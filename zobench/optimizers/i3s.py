"""I3S: GaLore with its singular vectors drawn by importance (Zhang et al., 2025, arXiv 2502.05790; later called SARA)."""

import torch

from zobench.core import philox
from zobench.core.projection import Projected

INFO = dict(
    title="I3S",
    year=2025,
    paper="2502.05790",
    order="first",
    family="adaptive",
    rate="adaptive / max(scale, 1)",
    forwards="1",
    backwards="1",
    state="wide * (min(rank, rows, cols) * (2 * max(rows, cols) + min(rows, cols)) "
    "if ndim == 2 and (skip == '' or skip not in name) else 2 * numel)",
    replay="none",
    mode="train",
    grid=dict(lr=(1e-5, 3e-5, 1e-4)),
    limits=dict(
        lr=">=0", rank=">=1", gap=">=1", scale=">=0", beta1=">=0 <1", beta2=">=0 <1", eps=">0", weight_decay=">=0"
    ),
    choices=dict(eps_form=("released", "torch")),
    brief=dict(rank=1, gap=3),
    aliases=("sara",),
    notes="The authors' code is not available. All but the choice of the vectors is galore, with its defaults and deviations. "
    "Vectors are drawn one after the other without replacement, each with a chance in proportion to its singular value "
    "(torch.multinomial on the CPU, seeded by run, tensor and refresh). Vectors of value 0 may be needed to make up the "
    "rank: none has a chance below 1e-12 of the largest. The run stores the overlap of consecutive subspaces.",
)

__all__ = ["I3S"]


class I3S(Projected):
    """GaLore's step (see galore) with P = r = `rank` singular vectors of G, drawn without replacement,

        Pr(i) = sigma_i / sum sigma,

    every `gap` steps. seed: names the draws, 0 <= seed < 2**32.
    """

    def __init__(
        self, params, lr=3e-5, *, rank=4, gap=500, scale=4.0, beta1=0.9, beta2=0.999, eps=1e-6, eps_form="released",
        weight_decay=0.0, skip="embed", seed=0,
    ):  # fmt: skip
        options = dict(rank=rank, gap=gap, scale=scale, beta1=beta1, beta2=beta2, eps=eps, eps_form=eps_form, skip=skip)
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay) | options | dict(seed=seed))

    def choose(self, values, r, group, draw, tensor):
        weights = values.double().cpu()
        weights = weights.clamp(min=max(1e-12 * float(weights.max()), 1e-300))
        word = philox.words(group["seed"], draw, tensor, philox.DIRECTION, 0, 1)[0, 0]
        generator = torch.Generator().manual_seed(int(word))
        drawn = torch.multinomial(weights, r, replacement=False, generator=generator)
        return drawn.sort().values.to(values.device)
