"""Update rules for `each`: functions (p, g, state, group) that move one tensor along a gradient estimate g.

p: the parameter's data, written once and rounded once. g, like the state, in the dtype of computation (float32, or float64 for
float64 weights). state: the tensor's own, empty before its first step. Multiply and add are separate operations throughout, so
that rules without roots and divisions give equal bits everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Rule = Callable[[Tensor, Tensor, dict[str, Any], dict[str, Any]], None]


def move(p: Tensor, step: Tensor) -> None:
    """p -= step, in the dtype of step, with one rounding."""
    p.copy_((p.to(step.dtype) - step).to(p.dtype))


def buffer(state: dict[str, Any], name: str, like: Tensor, fill: float = 0.0) -> Tensor:
    """The state tensor of this name; on its first use a new one, filled."""
    if name not in state:
        state[name] = torch.full_like(like, fill)
    return state[name]


def average(kept: Tensor, beta: float, new: Tensor) -> Tensor:
    """kept = beta kept + (1 - beta) new, in place."""
    return kept.mul_(beta).add_(new * (1 - beta))


def momentum(beta: float) -> Rule:
    """torch's SGD with momentum: buf = beta buf + g (the first buf is g); p -= lr buf."""

    def rule(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        kept = buffer(state, "momentum", g)
        kept.mul_(beta).add_(g)
        move(p, kept * group["lr"])

    return rule


def adam(beta1: float, beta2: float, eps: float, *, step: int, correct: bool = True) -> Rule:
    """torch's Adam: m, v running means of g and g^2, bias-corrected (`step` from 1); p -= lr mhat / (sqrt(vhat) + eps)."""
    first, second = (1 - beta1**step, 1 - beta2**step) if correct else (1.0, 1.0)

    def rule(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        m = average(buffer(state, "m", g), beta1, g)
        v = average(buffer(state, "v", g), beta2, g * g)
        move(p, m / first / ((v / second).sqrt() + eps) * group["lr"])

    return rule


def sign(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """p -= lr sign(g)."""
    move(p, g.sign() * group["lr"])


def newton_schulz(g: Tensor, iterations: int = 5) -> Tensor:
    """The orthogonal factor of g (m, n), nearly: five quintic steps (Jordan et al., 2024, Muon); all zero for g = 0."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm() + 1e-7)
    x = x.T if g.shape[0] > g.shape[1] else x
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def ratio(eps: float) -> Callable[..., None]:
    """p -= lr m / (sqrt(v) + eps), for moments that come from elsewhere."""

    def rule(p: Tensor, m: Tensor, v: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        move(p, m / (v.sqrt() + eps) * group["lr"])

    return rule
