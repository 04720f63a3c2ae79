"""Accelerated gradient descent (Nesterov, 1983), restarted where no strong convexity is known (O'Donoghue and Candes, 2015)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from zobench.problems.oracle import Oracle
from zobench.problems.regression import Regression
from zobench.spec import UsageError

INFO = dict(
    title="Accelerated gradient descent",
    year=1983,
    paper="Nesterov, Soviet Math. Dokl. 27; O'Donoghue and Candes, Found. Comput. Math. 15 (2015), arXiv:1204.3982",
    order="reference",
    family="reference",
    tasks=("*",),
    limits=dict(),
    choices=dict(momentum=("auto", "constant", "restart")),
    aliases=("nesterov-agd", "accelerated-gradient-descent", "fista"),
    notes="Full gradients. Constant momentum where L and mu are known, else FISTA's momentum with restarts.",
    random=False,
)

LARGEST = 1000  # dimensions of a Hessian whose eigenvalues are taken
SINGULAR = 1e-12  # eigenvalues relative to the largest that count as 0


def solve(problem: Regression, x: Tensor, *, seed: int = 0, momentum: str = "auto") -> Iterator[Tensor]:
    """x+ = y - t g(y), y+ = x+ + beta (x+ - x).

    constant: t = 1/L, beta = (sqrt k - 1) / (sqrt k + 1), k = L/mu, stated by the task or a quadratic's.
    restart: t = 1/l from the task's rate, beta of FISTA, set back to 0 when <g(y), x+ - x> > 0. Cost: a gradient a step.
    """
    del seed
    known = bool(problem.facts.get("smoothness") and problem.facts.get("convexity"))
    spectrum = problem.exact.quadratic and problem.oracle.dimension <= LARGEST
    if momentum == "constant" and not (known or spectrum):
        raise UsageError(
            "agd: momentum=constant needs a quadratic, or a task that states smoothness and convexity "
            "(softmax_l2[reg=centred], say); take momentum=restart"
        )
    return _iterate(problem, x, momentum, known)


def _iterate(problem: Regression, x: Tensor, momentum: str, known: bool) -> Iterator[Tensor]:
    smoothness, convexity = (0.0, 0.0) if momentum == "restart" else _constants(problem, x, known)
    if convexity:
        root = (smoothness / convexity) ** 0.5
        yield from _constant(problem.oracle, x, 1 / smoothness, (root - 1) / (root + 1))
    elif momentum == "constant":
        raise UsageError(
            "agd: the quadratic is singular, and momentum=constant needs a convex one; take momentum=restart"
        )
    else:
        yield from _restart(problem.oracle, x, problem.full_rate)


def _constants(problem: Regression, x: Tensor, known: bool) -> tuple[float, float]:
    """(L, mu) that the task states, or a quadratic's eigenvalues (D Hessian products); (0, 0) where there are none."""
    if known:
        return problem.facts["smoothness"], problem.facts["convexity"]
    if not problem.exact.quadratic or problem.oracle.dimension > LARGEST:
        return 0.0, 0.0
    values = torch.linalg.eigvalsh(problem.oracle.hessian(x))
    smallest, largest = float(values[0]), float(values[-1])
    return (largest, smallest) if smallest > SINGULAR * largest else (0.0, 0.0)


def _constant(oracle: Oracle, x: Tensor, t: float, beta: float) -> Iterator[Tensor]:
    y = x
    while True:
        following = y - t * oracle.gradient(y)
        if following.equal(x) and y.equal(x):
            return
        x, y = following, following + beta * (following - x)
        yield x


def _restart(oracle: Oracle, x: Tensor, t: float) -> Iterator[Tensor]:
    y, weight = x, 1.0
    while True:
        gradient = oracle.gradient(y)
        following = y - t * gradient
        if following.equal(x) and y.equal(x):
            return
        if float(gradient @ (following - x)) > 0:
            weight, y = 1.0, following
        else:
            heavier = (1 + (1 + 4 * weight * weight) ** 0.5) / 2
            y = following + (weight - 1) / heavier * (following - x)
            weight = heavier
        x = following
        yield x
