"""GaLore: Adam on the gradient projected to its leading singular vectors (Zhao et al., 2024, arXiv 2403.03507)."""

import torch

from zobench.core.projection import Projected

INFO = dict(
    title="GaLore",
    year=2024,
    paper="2403.03507",
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
    aliases=(),
    notes="Defaults: the paper's GLUE runs (rank 4, scale 4, gap 500); pre-training takes rank=128, gap=200, scale=0.25. "
    "The released scripts list attention and MLP matrices; here every matrix is projected whose name does not contain "
    "`skip` (ours; '' projects all). As released: eps is added before v is corrected (eps_form=torch: after), moments are "
    "kept when the basis changes, weight decay follows the step. An omitted lr on a task with published rates is "
    "divided by scale. State is float32 for half-precision weights, where the release keeps it in their dtype.",
)

__all__ = ["GaLore"]


class GaLore(Projected):
    """Of each matrix gradient G, every `gap` steps: P = its r = `rank` leading singular vectors on the smaller side. Then

        R = P^T G;  m = beta1 m + (1 - beta1) R;  v = beta2 v + (1 - beta2) R^2
        theta -= lr * scale * P mhat / (sqrt(vhat) + eps / sqrt(1 - beta2^t));  theta -= lr * weight_decay * theta

    (from the right where G is tall). Other tensors take the step without P and scale.
    """

    def __init__(
        self, params, lr=3e-5, *, rank=4, gap=500, scale=4.0, beta1=0.9, beta2=0.999, eps=1e-6, eps_form="released",
        weight_decay=0.0, skip="embed",
    ):  # fmt: skip
        options = dict(rank=rank, gap=gap, scale=scale, beta1=beta1, beta2=beta2, eps=eps, eps_form=eps_form, skip=skip)
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay) | options)

    def choose(self, values, r, group, draw, tensor):
        return torch.arange(r, device=values.device)
