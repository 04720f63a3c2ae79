"""Many softmax regressions that share their matrix of weights: squared loss and cross-entropy.

Gao, Song and Xie, arXiv:2307.02419, without the rescaled version. The factor 1/n, generator and scores are the project's own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zobench.problems import draws
from zobench.problems.objective import Instance, LeastSquares, Objective, Parameters, named, relative_error
from zobench.problems.planting import Knobs, finish
from zobench.problems.sheets.softmax import kl

DIMENSIONS = {"tiny": (32, 12, 4), "standard": (256, 128, 12), "large": (8192, 4096, 256)}  # scale -> (n, V, d)


class Rows(Objective):
    """S = softmax of each row of A1 X A2^T; X (d, d), A1 (n, d), A2 (V, d) with centred columns, targets b (n, V)."""

    a1: Tensor
    a2: Tensor
    b: Tensor

    def logits(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        """(..., n, V), or (..., B, V) of the rows."""
        a1 = self.a1 if rows is None else self.a1[rows]
        return a1 @ p["x"] @ self.a2.T

    def metrics(self, p: Parameters) -> dict[str, float]:
        return {"prediction_error": relative_error(torch.softmax(self.logits(p), -1), self.b)}


class RowsL2(LeastSquares, Rows):
    """f(X) = 1/2n |S - b|_F^2, a sum over rows."""

    trailing = 2

    def predict(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        return torch.softmax(self.logits(p, rows), -1)


class RowsCE(Rows):
    """f(X) = mean over rows of CE(b_i, S_i): convex."""

    def value(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        z = self.logits(p, rows)
        b = self.b if rows is None else self.b[rows]
        return (torch.logsumexp(z, -1) - (b * z).sum(-1)).mean(-1)

    def gap(self, p: Parameters, optimum: Parameters | None, f_star: float) -> Tensor:
        """Mean over rows of KL(b_i | S_i)."""
        if optimum is None:
            return self.value(p) - f_star
        return kl(self.logits(p) - self.logits(optimum), self.b).mean(-1)


def rows_l2(knobs: Knobs) -> Instance:
    objective = RowsL2()
    optimum, rs = _planted(objective, "rows_l2", knobs)
    objective.weight = 1 / objective.finite_sum
    objective.plant(optimum)
    return finish(Instance(objective, optimum), knobs, rs, simplex=True, published="rows_l2")


def rows_ce(knobs: Knobs) -> Instance:
    objective = RowsCE()
    optimum, rs = _planted(objective, "rows_ce", knobs)
    objective.register_buffer("b", torch.softmax(objective.logits(optimum), -1))
    return finish(Instance(objective, optimum, float(objective.value(optimum))), knobs, rs)


def _planted(objective: Rows, name: str, knobs: Knobs) -> tuple[dict[str, Tensor], np.random.RandomState]:
    """Start at 0; tau is the root mean square of all logits at X*."""
    n, v, d = DIMENSIONS[knobs.scale]
    rs = draws.seeded(name, knobs.scale, knobs.instance)
    a1, a2 = rs.standard_normal((n, d)), rs.standard_normal((v, d))
    a2 -= a2.mean(0)
    x = rs.standard_normal((d, d))
    x *= knobs.tau / np.sqrt(((a1 @ x @ a2.T) ** 2).mean())
    objective.data(a1=a1, a2=a2)
    objective.begin(x=np.zeros((d, d)))
    objective.finite_sum = n
    return named(x=x), rs
