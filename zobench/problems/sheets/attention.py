"""One layer of attention, both of its matrices free: Gao, Song, Wang and Yin, arXiv:2309.07418.

The paper sums without our factor 1/2n. X alone, with logits divided by d: Alman and Song, NeurIPS 2024. Data, starts, the
many sequences and the factored X are the project's own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from zobench.problems import draws
from zobench.problems.objective import Instance, LeastSquares, Parameters, named
from zobench.problems.planting import Knobs, finish
from zobench.spec import UsageError

DIMENSIONS = {"tiny": (16, 3), "standard": (128, 16), "large": (4096, 128)}  # scale -> (n, d)
COLD = 0.1  # size of Y at the cold start, relative to Y*


class Attention(LeastSquares):
    """f(X, Y) = 1/2n |softmax(A X A^T) A Y - b|_F^2, the softmax of each row; X, Y (d, d), A and b (N, n, d).

    The mean over N sequences A. X may be a product q k^T, or the only parameter, Y being data.
    """

    trailing = 3
    a: Tensor
    divisor: float = 1.0  # of the logits

    def predict(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        a = self.a if rows is None else self.a[rows]
        x = p["x"] if "x" in p else p["q"] @ p["k"].mT
        y = p["y"] if "y" in p else self.get_buffer("values")
        scores = torch.softmax(a @ (x / self.divisor)[..., None, :, :] @ a.mT, -1)
        return scores @ (a @ y[..., None, :, :])


def attention(knobs: Knobs, *, variant: str = "full", rank: int = 0, sequences: int = 1) -> Instance:
    """Start at theta* + |theta*| u / 2, or (init "cold") at X = 0 and Y = COLD N / sqrt(d), in whose way are spurious minima.

    variant: full | x (Y is data; 1/2 |.|^2 without 1/n, logits divided by d) | qk (X = q k^T, q and k (d, rank), no
    distance). A cold start of q and k is as small as Y's, for at 0 neither has a gradient.
    """
    n, d = DIMENSIONS[knobs.scale]
    rank = _rank(variant, rank, d)
    rs = draws.seeded("attention", knobs.scale, knobs.instance)
    a = rs.standard_normal((sequences, n, d))
    best = _matrices(rs, variant, d, rank)
    divisor = float(d) if variant == "x" else 1.0
    x = best["x"] if "x" in best else best["q"] @ best["k"].T
    factor = knobs.tau * divisor / np.sqrt(((a @ x @ a.swapaxes(1, 2)) ** 2).mean())
    for name, share in dict(x=factor, q=np.sqrt(factor), k=np.sqrt(factor)).items():
        if name in best:
            best[name] = best[name] * share
    best["y"] = rs.standard_normal((d, d)) / np.sqrt(d)

    objective = Attention()
    objective.divisor, objective.finite_sum = divisor, sequences
    objective.weight = 1 / (sequences if variant == "x" else sequences * n)
    objective.data(a=a)
    if variant == "x":
        objective.data(values=best.pop("y"))
    objective.begin(**_cold(rs, best, d) if knobs.init == "cold" else draws.near(rs, best))
    objective.plant(named(**best))
    plain = variant == "full" and sequences == 1 and knobs.init == "auto"
    loose = variant == "qk" or knobs.init == "cold"  # x* is one of many, or not the one in reach
    knobs = replace(knobs, init="auto") if knobs.init == "cold" else knobs
    instance = Instance(objective, named(**best), symmetry="gauge" if loose else "none")
    return finish(instance, knobs, rs, published="attention" if plain else "")


def _rank(variant: str, rank: int, d: int) -> int:
    if rank and variant != "qk":
        raise UsageError(f"rank={rank}: only variant=qk has a rank")
    if rank > d:
        raise UsageError(f"rank={rank}: q and k have {d} rows at this scale; take at most {d}, or 0 for {d}")
    return rank or d


def _matrices(rs: np.random.RandomState, variant: str, d: int, rank: int) -> dict[str, np.ndarray]:
    if variant == "qk":
        return dict(q=rs.standard_normal((d, rank)), k=rs.standard_normal((d, rank)))
    return dict(x=rs.standard_normal((d, d)))


def _cold(rs: np.random.RandomState, best: dict[str, np.ndarray], d: int) -> dict[str, np.ndarray]:
    small = {name: COLD * rs.standard_normal(best[name].shape) / np.sqrt(d) for name in best if name != "x"}
    return {name: small.get(name, np.zeros_like(best[name])) for name in best}
