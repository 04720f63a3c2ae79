"""Gradient descent at the known smoothness, or with a growing step by Armijo's rule (Cauchy, 1847; Armijo, 1966)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from zobench.problems.oracle import Oracle
from zobench.problems.regression import Regression

INFO = dict(
    title="Gradient descent",
    year=1847,
    paper="Cauchy, C. R. Acad. Sci. 25; Armijo, Pacific J. Math. 16 (1966)",
    order="reference",
    family="reference",
    tasks=("*",),
    limits=dict(),
    choices=dict(step=("rate", "armijo")),
    aliases=("gradient-descent",),
    notes="Full gradients. rate: 1/l, l the task's largest curvature at x0 and x*. armijo: the step doubles, then halves.",
    random=False,
)

LONGEST = 1e12  # a converged run would double its step for ever
SHORTEST = 1e-20


def solve(problem: Regression, x: Tensor, *, seed: int = 0, step: str = "rate") -> Iterator[Tensor]:
    """x -= t g.

    rate: t = 1/l. armijo: t doubles from the step before (1/l at first) and halves until f(x - t g) <= f - t |g|^2 / 2.
    Cost: a gradient a step; with armijo also a value a trial.
    """
    del seed
    first = problem.full_rate
    return _constant(problem.oracle, x, first) if step == "rate" else _armijo(problem.oracle, x, first / 2)


def _constant(oracle: Oracle, x: Tensor, t: float) -> Iterator[Tensor]:
    while True:
        following = x - t * oracle.gradient(x)
        if following.equal(x):
            return
        x = following
        yield x


def _armijo(oracle: Oracle, x: Tensor, t: float) -> Iterator[Tensor]:
    while True:
        value, gradient = oracle.value_and_gradient(x)
        square = float(gradient @ gradient)
        if square == 0:
            return
        t = min(2 * t, LONGEST)
        # written so that nan and inf at the trial point halve the step
        while not float(oracle.value(x - t * gradient)) <= float(value) - 0.5 * t * square:
            t /= 2
            if t < SHORTEST:
                return
        if x.equal(x - t * gradient):
            return
        x = x - t * gradient
        yield x
