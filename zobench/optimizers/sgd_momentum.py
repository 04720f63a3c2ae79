"""SGD with momentum: a step against a running sum of gradients (Polyak, 1964; torch.optim.SGD)."""

import torch

from zobench.core.first_order import FirstOrder

INFO = dict(
    title="SGD with momentum",
    year=1964,
    paper="Polyak, USSR Comput. Math. Math. Phys. 4",
    order="first",
    family="gradient",
    rate="gradient * (1 - momentum)",
    forwards="1",
    backwards="1",
    state="numel * itemsize if momentum else 0",
    replay="none",
    mode="train",
    grid=dict(lr=(1e-5, 1e-4, 1e-3)),
    limits=dict(lr=">=0", momentum=">=0", weight_decay=">=0"),
    aliases=("momentum",),
    notes="At equal lr its steps add up to 1 / (1 - momentum) times those of sgd: an omitted lr is that much smaller. The grid "
    "is ours; no source gives one for language models.",
)

__all__ = ["SGDMomentum"]


class SGDMomentum(FirstOrder, torch.optim.SGD):
    """buf = momentum buf + gradient + weight_decay theta (the first buf is the gradient); theta -= lr * buf.

    nesterov: step along gradient + momentum buf.
    """

    def __init__(self, params, lr=1e-4, *, momentum=0.9, nesterov=False, weight_decay=0.0):
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
