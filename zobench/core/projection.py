"""Adam in a subspace of each matrix gradient: what first-order methods with low-rank gradients share (GaLore, I3S).

A method says which singular vectors of the gradient span the subspace. They are those of its smaller side, r of them: a tall
gradient G (m, n), m >= n, is projected from the right, R = G P with P (n, r), a wide one from the left, R = P^T G with P (m, r).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from zobench.core import info as about
from zobench.core.first_order import FirstOrder, adam_step, wide
from zobench.core.zeroth_order import Diverged


class Projected(FirstOrder, torch.optim.Optimizer):
    """Every `gap` steps a matrix gets a basis P from its gradient; Adam's moments live in the projection R.

    Moments are kept when P changes. Other tensors take the same step unprojected. Weight decay is decoupled and comes last.
    State is float32 where the weights are half precision. Steps of a tensor, and the overlaps of its bases, are numbers in it.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]):
        about.check(self.info, defaults)
        defaults["betas"] = defaults.pop("beta1"), defaults.pop("beta2")
        super().__init__(params, defaults)

    def choose(self, values: Tensor, r: int, group: dict[str, Any], draw: int, tensor: int) -> Tensor:
        """(r,) int64: which of the singular vectors, whose values these are, span the subspace.

        draw: how many bases this tensor had before; tensor: its number among all.
        """
        raise NotImplementedError  # pragma: no cover - the one method a subclass must write

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moving = list(self._moving())
        for i, name, p, group in moving:  # all before the first write: a gradient without a basis stops the whole step
            if _projected(name, p, group) and self.state[p].get("step", 0) % group["gap"] == 0:
                self._refresh(i, name, p, group)
        for _, _, p, group in moving:
            self._move(p, group)
        return loss

    def diagnostics(self) -> dict[str, float]:
        """subspace_overlap: |P_old^T P_new|_F^2 / r, the mean over matrices and refreshes (1: the subspace stands still)."""
        kept = [s for s in self.state.values() if s.get("overlaps")]
        changes = sum(s["overlaps"] for s in kept)
        return {"subspace_overlap": sum(s["overlap"] for s in kept) / changes} if changes else {}

    def _moving(self) -> Iterator[tuple[int, str, Tensor, dict[str, Any]]]:
        i = 0
        for group in self.param_groups:
            for name, p in zip(group.get("param_names", [""] * len(group["params"])), group["params"], strict=True):
                if p.grad is not None:
                    yield i, name, p, group
                i += 1

    def _refresh(self, i: int, name: str, p: Tensor, group: dict[str, Any]) -> None:
        gradient, state = p.grad, self.state[p]
        assert gradient is not None
        if not gradient.isfinite().all():
            raise Diverged(f"the gradient of {name or f'tensor {i}'} is not finite: it has no singular vectors")
        u, values, vh = torch.linalg.svd(wide(gradient), full_matrices=False)
        draw = state.get("overlaps", -1) + 1
        chosen = self.choose(values, min(group["rank"], *p.shape), group, draw, i)
        basis = _signed((vh.T if _right(p) else u)[:, chosen])
        if draw:
            overlap = float((state["basis"].T @ basis).square().sum()) / basis.shape[1]
            state["overlap"] += overlap
        state.setdefault("overlap", 0.0)
        state["basis"], state["overlaps"] = basis, draw

    def _move(self, p: Tensor, group: dict[str, Any]) -> None:
        state, basis = self.state[p], self.state[p].get("basis")
        assert p.grad is not None
        g = wide(p.grad)
        r = g if basis is None else (g @ basis if _right(p) else basis.T @ g)
        if "step" not in state:
            state.update(step=0, first=torch.zeros_like(r), second=torch.zeros_like(r))
        state["step"] += 1
        step = adam_step(state["first"], state["second"], r, state["step"], group, group["eps_form"] == "released")
        if basis is not None:
            step = group["scale"] * (step @ basis.T if _right(p) else basis @ step)
        moved = (wide(p) - group["lr"] * step) * (1 - group["lr"] * group["weight_decay"])
        p.copy_(moved.to(p.dtype))


def _signed(basis: Tensor) -> Tensor:
    """Each column with its largest element positive: moments outlive a basis, and a library may return either sign."""
    largest = basis.abs().argmax(0, keepdim=True)
    return (basis * basis.gather(0, largest).sign()).contiguous()


def _projected(name: str, p: Tensor, group: dict[str, Any]) -> bool:
    return p.ndim == 2 and p.numel() > 0 and (group["skip"] == "" or group["skip"] not in name)


def _right(p: Tensor) -> bool:
    return p.shape[0] >= p.shape[1]
