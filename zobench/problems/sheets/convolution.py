"""Attention whose logits are a sum of convolutions, fitted after its softmax.

The basis of convolutions: arXiv:2405.05219. Recovering its lengths is combinatorial and fitting it to a matrix is linear;
fitting the softmaxed attention is the project's own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from zobench.problems import draws
from zobench.problems.objective import Instance, LeastSquares, Parameters, named
from zobench.problems.planting import Knobs, finish

# scale -> (n, lengths of the convolutions)
DIMENSIONS = {"tiny": (16, (16, 8)), "standard": (128, (128, 64, 24)), "large": (4096, (4096, 1024, 128))}


class Convolution(LeastSquares):
    """f = 1/2n |S - b|_F^2, S = causal row softmax of the sum over i of conv(b_i, m_i); parameters b1, b2, ... (m_i,).

    conv(b, m) (n, n) is 0 but for its bottom right (m, m), a lower triangular Toeplitz matrix with first column b.
    """

    trailing = 2

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def predict(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        place = torch.arange(self.n, device=p["b1"].device)
        lag = place[:, None] - place  # (n, n) row minus column
        z = sum(self._conv(b, lag) for b in p.values())
        return torch.softmax(torch.where(lag >= 0, z, -torch.inf), -1)

    def _conv(self, b: Tensor, lag: Tensor) -> Tensor:
        """(..., n, n); what it puts above the diagonal is masked later."""
        m = b.shape[-1]
        toeplitz = b.index_select(-1, lag[:m, :m].clamp(min=0).flatten()).unflatten(-1, (m, m))
        return functional.pad(toeplitz, (self.n - m, 0, self.n - m, 0))

    def canonical(self, p: Parameters) -> Parameters:
        """A constant added to a b_i as long as the rows does not change S."""
        return {name: b - b.mean(-1, keepdim=True) if b.shape[-1] == self.n else b for name, b in p.items()}


def conv(knobs: Knobs) -> Instance:
    """Start at 0. Long lags are seen by few rows: the tail is slow."""
    n, lengths = DIMENSIONS[knobs.scale]
    rs = draws.seeded("conv", knobs.scale, knobs.instance)
    best = {f"b{i}": rs.standard_normal(m) * np.exp(-2 * np.arange(m) / m) for i, m in enumerate(lengths, start=1)}
    objective = Convolution(n)
    objective.weight = 1 / n
    objective.begin(**{name: np.zeros_like(b) for name, b in best.items()})
    objective.plant(named(**best))
    return finish(Instance(objective, named(**best)), knobs, rs, simplex=True, published="conv")
