"""What first-order optimizers share: the cost of a step and the size of their state, from the formulas of INFO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

import zobench.core.info as about


class FirstOrder:
    """Mixin beside a torch.optim.Optimizer. A step calls the closure once: one forward and one backward."""

    param_groups: list[dict[str, Any]]
    state: Any

    @property
    def info(self) -> Mapping[str, Any]:
        """INFO of the optimizer's file."""
        return about.of_class(type(self))

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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch does, but state that was kept in another dtype than the weights' stays in it."""
        super().load_state_dict(state_dict)  # type: ignore[misc]
        numbers = [i for g in state_dict["param_groups"] for i in g["params"]]
        tensors = [p for g in self.param_groups for p in g["params"]]
        for i, p in zip(numbers, tensors, strict=True):
            for key, value in state_dict["state"].get(i, {}).items():
                loaded = self.state[p].get(key)
                if isinstance(value, Tensor) and isinstance(loaded, Tensor) and value.dtype != loaded.dtype:
                    self.state[p][key] = value.to(loaded.device, copy=True)


def is_half(p: Tensor) -> bool:
    return p.dtype in (torch.bfloat16, torch.float16)


def wide(x: Tensor) -> Tensor:
    """In float32 where it is half precision: 0.999 v is v in bfloat16, and Adam's eps is 0 in float16."""
    return x.float() if is_half(x) else x


def adam_step(first: Tensor, second: Tensor, g: Tensor, t: int, group: dict[str, Any], inner: bool = False) -> Tensor:
    """mhat / (sqrt(vhat) + eps) of step t, from 1; the moments are moved in place.

    inner: eps is added before v is corrected, mhat / (sqrt(vhat) + eps / sqrt(1 - beta2^t)): at t = 1 31.6 times larger.
    """
    beta1, beta2 = group["betas"]
    first.lerp_(g, 1 - beta1)
    second.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    correction = (1 - beta2**t) ** 0.5
    eps = group["eps"] * (1.0 if inner else correction)
    return first / (second.sqrt() + eps) * (correction / (1 - beta1**t))
