"""Which weights a run ends with: the best by validation, or the last."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zobench.core.trace import digest

Named = Sequence[tuple[str, Tensor]]


class Keeper:
    """Holds a copy of the best weights in main memory while better ones may still come.

    select: `best` keeps the highest (or lowest) metric; ties go to the lower validation loss, then to the earlier step.
    `last` keeps the end of the run, as methods that cannot see their best iterate for free must be scored.
    """

    def __init__(self, weights: Named, metric: str, better: str, select: str):
        self.weights, self.metric, self.select = weights, metric, select
        self.sign = -1.0 if better == "lower" else 1.0
        self.step = 0
        self.metrics: dict[str, float] = {}
        self.best: tuple[float, float] | None = None
        self.copy: list[Tensor] | None = None

    def offer(self, step: int, metrics: dict[str, float], copy: list[Tensor] | None = None) -> None:
        """A validation at this step; `copy`: its weights where they are no longer in the model."""
        score = self.sign * metrics[self.metric]
        ranked = (-math.inf if math.isnan(score) else score, -metrics.get("loss", 0.0))
        if self.select == "last" or self.best is None or ranked > self.best:
            self.best, self.step, self.metrics = ranked, step, metrics
            if self.select == "best":
                self.copy = copy or copies(self.weights)

    def restore(self, last_step: int) -> list[Tensor] | None:
        """Put the kept weights into the model; returns the last ones where those were others."""
        if self.copy is None or self.step == last_step:
            self.step, self.copy = last_step if self.select == "last" or self.best is None else self.step, None
            return None
        last = copies(self.weights)
        put(self.weights, self.copy)
        return last

    def digest(self) -> str:
        return digest(self.weights)


def copies(weights: Named) -> list[Tensor]:
    return [p.detach().to("cpu", copy=True) for _, p in weights]


@torch.no_grad()
def put(weights: Named, values: Sequence[Tensor]) -> None:
    for (_, p), value in zip(weights, values, strict=True):
        p.data.copy_(value)
