"""Variable projection on attention: Y solved for at every X, and descent on X alone (Golub and Pereyra, 1973)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from zobench.baselines._squares import require_squares
from zobench.problems.oracle import Oracle
from zobench.problems.regression import Regression
from zobench.problems.sheets.attention import Attention
from zobench.spec import UsageError

INFO = dict(
    title="Variable projection",
    year=1973,
    paper="Golub and Pereyra, SIAM J. Numer. Anal. 10; Kaufman, BIT 15 (1975)",
    order="reference",
    family="reference",
    tasks=("attention",),
    limits=dict(),
    choices=dict(step=("gradient", "gauss_newton")),
    aliases=("variable-projection",),
    notes="The loss is linear least squares in Y. gradient: Armijo's rule with a growing step; gauss_newton: Kaufman's.",
    random=False,
)

LONGEST, SHORTEST = 1e12, 1e-20


def solve(problem: Regression, x: Tensor, *, seed: int = 0, step: str = "gradient") -> Iterator[Tensor]:
    """X -= t s for F(X) = min_Y f(X, Y), whose gradient is the partial one, df/dX at (X, Y(X)).

    gradient: s = dF/dX, t doubles and halves until F decreases by t |s|^2 / 2. gauss_newton: s from the joint Gauss-Newton step
    at (X, Y(X)), t from 1. Cost: a gradient (a Jacobian) a step, and a residual and a least squares in Y a trial.
    """
    del seed
    oracle = problem.oracle
    if not isinstance(problem.exact, Attention) or "y" not in oracle.shapes:
        raise UsageError("varpro: the loss is not linear in a part of its parameters; it serves attention with Y free")
    if step == "gradient":
        return _iterate(oracle, x, _gradient, problem.full_rate / 2, growth=2.0)
    require_squares("varpro", problem, x)
    return _iterate(oracle, x, _gauss_newton, 1.0, growth=LONGEST)


class Reduced:
    """Y(X) and F(X) of an objective linear in its parameter y (d, k).

    The residual is M(X) Y - b up to a factor: its values at Y = 0 and Y = I tell both.
    """

    def __init__(self, oracle: Oracle, x: Tensor) -> None:
        self.oracle = oracle
        self.targets = -self._residual(x, torch.zeros_like)

    def __call__(self, x: Tensor) -> tuple[Tensor, float]:
        """(x with the best y, the loss there): one residual, one least squares."""
        design = self._residual(x, lambda y: torch.eye(len(y)).to(y)) + self.targets
        best = torch.linalg.lstsq(design.cpu(), self.targets.cpu(), driver="gelsy").solution.to(x)
        loss = 0.5 * float((design @ best - self.targets).square().sum())
        return self._with(x, best), loss

    def _residual(self, x: Tensor, y: Callable[[Tensor], Tensor]) -> Tensor:
        value = y(self.oracle.named(x)["y"])
        return self.oracle.residual(self._with(x, value)).reshape(-1, value.shape[1])

    def _with(self, x: Tensor, y: Tensor) -> Tensor:
        return self.oracle.flat({**self.oracle.named(x), "y": y})


Direction = Callable[[Oracle, Tensor], tuple[Tensor, float]]  # x -> (s with no part in y, predicted decrease per t)


def _iterate(oracle: Oracle, x: Tensor, direction: Direction, t: float, growth: float) -> Iterator[Tensor]:
    longest = 1.0 if growth == LONGEST else LONGEST  # a Gauss-Newton step is tried whole each time
    reduced = Reduced(oracle, x)
    x, loss = reduced(x)
    yield x
    while True:
        step, decrease = direction(oracle, x)
        t = min(growth * t, longest)
        while True:
            trial, value = reduced(x - t * step)
            if value <= loss - t * decrease:
                break
            t /= 2
            if t < SHORTEST:
                return
        if trial.equal(x):
            return
        x, loss = trial, value
        yield x


def _gradient(oracle: Oracle, x: Tensor) -> tuple[Tensor, float]:
    gradient = _without_y(oracle, oracle.gradient(x))
    return gradient, 0.5 * float(gradient @ gradient)


def _gauss_newton(oracle: Oracle, x: Tensor) -> tuple[Tensor, float]:
    jacobian, residual = oracle.jacobian(x), oracle.residual(x)
    step = torch.linalg.lstsq(jacobian.cpu(), residual.cpu()[:, None], driver="gelsy").solution[:, 0].to(x)
    return _without_y(oracle, step), 1e-4 * float(residual @ (jacobian @ step))


def _without_y(oracle: Oracle, v: Tensor) -> Tensor:
    parts = oracle.named(v)
    return oracle.flat({**parts, "y": torch.zeros_like(parts["y"])})
