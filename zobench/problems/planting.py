"""From a planted problem to the one that was asked for: its knobs, another start, a regulariser, noise on the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zobench.problems import acceptance, draws
from zobench.problems.objective import Composite, Instance, LeastSquares, Objective
from zobench.problems.oracle import Oracle
from zobench.spec import UsageError

CERTIFIED = 1e-12  # relative gradient norm at which Newton's point is called the optimum
NEWTON_STEPS = 100
JACOBIAN = 2**28  # entries of the largest Jacobian that label noise is made orthogonal to

Bounds = Mapping[str, float | np.ndarray]


@dataclass(frozen=True)
class Knobs:
    """What every sheet may be asked for; a task's options are the ones it has.

    tau: root mean square of the logits at x* (half of it for exp, cosh and sinh). kappa, spectrum: condition number of A and
    shape of its singular values. init: the sheet's own start ("auto"), 0, or x* + delta |x*| u, u a random unit vector.
    reg: none | paper (1/2 |diag(w) A x|^2) | centred (the same around x*), with w^2 so that the loss is mu-strongly convex.
    label_noise: size of the noise on b, relative to |b - mean b|, orthogonal to the model's tangent space at x*.
    """

    scale: str = "tiny"
    instance: int = 0
    tau: float = 1.0
    kappa: float = 1.0
    spectrum: str = "geom"
    init: str = "auto"
    delta: float = 0.5
    reg: str = "none"
    mu: float = 1.0
    label_noise: float = 0.0


def finish(
    instance: Instance,
    knobs: Knobs,
    rs: np.random.RandomState,
    *,
    bounds: Bounds | Callable[[], Bounds] | None = None,
    simplex: bool = False,
    published: str = "",
) -> Instance:
    """Apply init, label noise and regulariser, in this order of draws.

    bounds: what w^2 must exceed for a convex loss: `paper` (the papers' constant) and `centred` (ours), a number or (n,);
    `smooth`, where known, bounds the loss's Hessian in the logits from above. A function, where they follow from noisy labels.
    simplex: predictions sum to 1, and so shall noisy labels.
    published: the problem's name in the table of instances that can be solved, of which default knobs tell best_gap and hard.
    """
    best = acceptance.best_gap(published, knobs.scale, knobs.instance)
    if best is not None and knobs == Knobs(knobs.scale, knobs.instance):
        instance.constants |= dict(best_gap=best, hard=acceptance.hard(published, knobs.scale, knobs.instance))
    _start(instance, knobs, rs)
    if knobs.label_noise > 0:
        add_label_noise(instance, knobs.label_noise, rs, simplex)
    if knobs.reg != "none":
        _regularise(instance, knobs, dict(bounds() if callable(bounds) else bounds or {}))
    return instance


def _start(instance: Instance, knobs: Knobs, rs: np.random.RandomState) -> None:
    if knobs.init == "auto":
        return
    oracle = Oracle(instance.objective)
    if knobs.init == "zero":
        place(instance.objective, torch.zeros(oracle.dimension, dtype=torch.float64))
        return
    if instance.optimum is None:
        raise UsageError("init=near needs a known optimum, which this problem does not have")
    best = oracle.flat(instance.optimum)
    u = torch.from_numpy(draws.unit(rs, oracle.dimension))
    place(instance.objective, best + knobs.delta * best.norm() * u)


@torch.no_grad()
def place(objective: Objective, x: Tensor) -> None:
    """Write a flat point (D,) into the parameters."""
    for name, value in Oracle(objective).named(x).items():
        objective.get_parameter(name).copy_(value)


def add_label_noise(instance: Instance, size: float, rs: np.random.RandomState, simplex: bool = False) -> None:
    """b += e with J^T e = 0 at x*, |e| = size |b - mean b|: x* stays exactly stationary, f* = weight / 2 |e|^2.

    On a simplex e is drawn as b * N(0, I) and every row of b keeps its sum. Raises UsageError where x* is no minimiser any more.
    """
    objective = instance.objective
    assert isinstance(objective, LeastSquares) and instance.optimum is not None
    oracle = Oracle(objective)
    best = oracle.flat(instance.optimum)
    b = objective.b.detach().double().reshape(-1)
    if len(b) * oracle.dimension > JACOBIAN:
        raise UsageError("label_noise: the Jacobian is too large at this scale; take a smaller one, or label_noise=0")
    e = torch.from_numpy(rs.standard_normal(len(b)))
    e = b * e if simplex else e
    with torch.no_grad():
        span = oracle.jacobian(best)[: len(b)]
    if simplex:
        width = objective.b.shape[-1]
        sums = torch.eye(len(b) // width, dtype=span.dtype).repeat_interleave(width, 0)
        span = torch.cat([span, sums * (b != 0)[:, None]], 1)  # what a mask holds at 0 stays there
    q, r = torch.linalg.qr(span)
    u, values, _ = torch.linalg.svd(r)  # without what has no length: a gauge, whose directions could be any
    q = q @ u[:, values > 1e-13 * values[0]]
    drawn = e.norm()
    for _ in range(2):  # twice: the first projection leaves rounding errors along q
        e = e - q @ (q.T @ e)
    if e.norm() < 1e-8 * drawn:
        raise UsageError(
            "label_noise: every change of b is one that the model can follow; only label_noise=0 is possible"
        )
    e = e * (size * (b - b.mean()).norm() / e.norm())
    objective.b = (b + e).reshape(objective.b.shape)
    instance.f_star = 0.5 * objective.weight * float(e @ e)
    curvatures = torch.linalg.eigvalsh(oracle.hessian(best))
    if curvatures[0] < -1e-12 * curvatures[-1]:
        raise UsageError(f"label_noise={size:g}: the planted point is no minimum any more; take less noise")


def _regularise(instance: Instance, knobs: Knobs, bounds: dict) -> None:
    objective = instance.objective
    assert isinstance(objective, Composite) and instance.optimum is not None
    smallest = float(torch.linalg.svdvals(objective.a.double())[-1])
    w2 = bounds[knobs.reg] + knobs.mu / (objective.ridge * smallest**2)
    with torch.no_grad():
        centre = objective.logits({k: v.to(objective.a) for k, v in instance.optimum.items()}).double().numpy()
    objective.regularise(w2, centre if knobs.reg == "centred" else None)
    if "smooth" in bounds and np.ndim(w2) == 0:
        largest = float(torch.linalg.svdvals(objective.a.double())[0])
        total = float(objective.a.double().square().sum())
        convex = knobs.mu if knobs.reg == "centred" else (w2 - bounds["centred"]) * smallest**2
        # matrix smoothness H_bar = (smooth + w^2) A^T A: its largest eigenvalue and effective rank
        instance.constants.update(
            smoothness=(bounds["smooth"] + w2) * largest**2, effective_rank=total / largest**2, convexity=convex
        )
    if knobs.reg == "paper":
        certify(instance)


def certify(instance: Instance) -> None:
    """Replace optimum and f* by Newton's, damped by Armijo, from the start; "certified" where the gradient has vanished and
    the Hessian is positive definite, else "best_known"."""
    oracle = Oracle(instance.objective)
    start = oracle.start().double()
    scale = float(oracle.gradient(start).norm())
    x = start
    for _ in range(NEWTON_STEPS):
        value, gradient = oracle.value_and_gradient(x)
        if float(gradient.norm()) <= CERTIFIED * scale:
            break
        values, vectors = torch.linalg.eigh(oracle.hessian(x))
        step = vectors @ ((vectors.T @ gradient) / values.abs().clamp(min=1e-10 * float(values.abs().max())))
        t = 1.0
        # near the optimum the value's rounding hides the decrease, but not the gradient's
        while (
            float(oracle.value(x - t * step)) > float(value - 1e-4 * t * (gradient @ step))
            and float(oracle.gradient(x - t * step).norm()) > 0.5 * float(gradient.norm())
            and t > 1e-10
        ):
            t /= 2
        if t <= 1e-10:
            break
        x = x - t * step
    convex = float(torch.linalg.eigvalsh(oracle.hessian(x))[0]) > 0
    stationary = float(oracle.gradient(x).norm()) <= CERTIFIED * scale
    instance.optimum = oracle.named(x)
    instance.f_star = float(oracle.value(x))
    instance.f_star_kind = "certified" if convex and stationary else "best_known"
