"""Steps with a line search: what gradient descent, Newton, Gauss-Newton and their sketches have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from zobench.problems.oracle import Oracle

EPS = torch.finfo(torch.float64).eps
SUFFICIENT = 1e-4  # fraction of the predicted decrease that Armijo's rule asks for
SHORTEST = 1e-12  # step lengths below it are given up


def descend(oracle: Oracle, x: Tensor, direction: Callable[[Tensor, Tensor], Tensor], damped: bool) -> Iterator[Tensor]:
    """x - t s, s = direction(x, gradient), with t by backtracking from 1 where `damped`, else t = 1.

    Ends where the gradient vanishes, where s is below the rounding of x, and where no t decreases the loss.
    Cost: a gradient and the direction a step, and a value a trial.
    """
    while True:
        value, gradient = oracle.value_and_gradient(x)
        if not gradient.any():
            return
        step = direction(x, gradient)
        if float(step.norm()) <= EPS * float(x.norm()):
            return
        following = backtrack(oracle, x, value, gradient, step) if damped else x - step
        if following is None:
            return
        x = following
        yield x


def backtrack(oracle: Oracle, x: Tensor, value: Tensor, gradient: Tensor, step: Tensor) -> Tensor | None:
    """x - t s for the first t = 1, 1/2, 1/4 ... with f(x - t s) <= f - 1e-4 t <g, s>  (Armijo); None where there is none.

    Where both losses agree to rounding, the decrease is invisible, and half the gradient norm is asked for instead.
    """
    t, slope, norm = 1.0, float(gradient @ step), float(gradient.norm())
    while t >= SHORTEST and slope > 0:
        trial = x - t * step
        if decreases(oracle, trial, float(value), norm, SUFFICIENT * t * slope):
            return trial
        t /= 2
    return None


def decreases(oracle: Oracle, trial: Tensor, value: float, norm: float, least: float) -> bool:
    """Whether the loss at the trial point is lower than `value` by `least`, or its gradient by half where rounding hides that."""
    change = float(oracle.value(trial)) - value
    if change <= -least:
        return True
    hidden = abs(change) <= 32 * EPS * abs(value)
    return hidden and float(oracle.gradient(trial).norm()) <= 0.5 * norm
