"""What first-order optimizers share: the cost of a step and the size of their state, from the formulas of INFO."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import zobench.core.info as about


class FirstOrder:
    """Mixin beside a torch.optim.Optimizer. A step calls the closure once: one forward and one backward."""

    param_groups: list[dict[str, Any]]

    @property
    def info(self) -> Mapping[str, Any]:
        """INFO of the optimizer's file."""
        return getattr(sys.modules[type(self).__module__], "INFO", {})

    def _given(self) -> dict[str, Any]:
        return {**vars(self), **{k: v for k, v in self.param_groups[0].items() if k != "params"}}

    def cost(self, step: int = 0) -> about.Cost:
        """Forwards and backwards of step number `step`, from 0."""
        return about.cost(self.info, self._given(), step)

    def state_bytes(self, shapes: Iterable[about.Shape] | None = None) -> int:
        """Bytes kept between steps, gradients not included, for tensors of these shapes (default: its own)."""
        if shapes is None:
            names = [n for g in self.param_groups for n in g.get("param_names", [""] * len(g["params"]))]
            tensors = [p for g in self.param_groups for p in g["params"]]
            pairs = zip(names, tensors, strict=True)
            shapes = [about.Shape(name, tuple(p.shape), p.element_size()) for name, p in pairs]
        return about.state_bytes(self.info, self._given(), shapes)
