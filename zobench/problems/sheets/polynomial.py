"""Classification by attention with a polynomial in place of the exponential.

A construction in the spirit of Song, Xu and Yin, arXiv:2310.20051: of two classes of token sequences with one feature of
equal mass, one has it in one token and the other spread over many. A fixed-weight network of high degree tells them apart
(`probe_accuracy`), one of low degree does not; with trained weights the degree does not matter.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zobench.problems import draws
from zobench.problems.objective import Instance, Objective, Parameters
from zobench.problems.oracle import Oracle
from zobench.problems.planting import Knobs, finish

DIMENSIONS = {"tiny": (16, 4, 4), "standard": (128, 4, 8), "large": (4096, 32, 8)}  # scale -> (N, m, t)
SHARPNESS = 10.0  # of the pooling
FLOOR = 1e-6  # smooths |s| at 0
NOISE = 0.1  # of the feature
FRESH = 400  # samples for the test accuracy
SOLVER_STEPS = 2000  # of L-BFGS, for f* with a ridge


class PolyAttn(Objective):
    """f = mean log(1 + exp(-label logit)) + ridge / 2 |theta|^2, a sum over samples of n tokens T (n, d), label 1 or -1.

    S = softmax of each row of beta/2 log(s^2 + FLOOR), s = T X T^T; o = S T y; pool = log mean exp(SHARPNESS o) / SHARPNESS;
    logit = k (pool - t0). Parameters x (d, d), y (d,), k (), t0 ().
    """

    tokens: Tensor  # (N, n, d)
    labels: Tensor  # (N,) 1.0 or -1.0
    fresh_tokens: Tensor
    fresh_labels: Tensor

    def __init__(self, beta: float, ridge: float) -> None:
        super().__init__()
        self.beta, self.ridge = beta, ridge

    def pool(self, x: Tensor, y: Tensor, tokens: Tensor) -> Tensor:
        """(..., N) of x (..., d, d), y (..., d), tokens (..., N, n, d)."""
        s = tokens @ x[..., None, :, :] @ tokens.mT
        weights = torch.softmax(self.beta / 2 * torch.log(s.square() + FLOOR), -1)
        o = (weights @ (tokens @ y[..., None, :, None]))[..., 0]
        return (torch.logsumexp(SHARPNESS * o, -1) - np.log(o.shape[-1])) / SHARPNESS

    def logits(self, p: Parameters, tokens: Tensor) -> Tensor:
        """(..., N)"""
        return p["k"][..., None] * (self.pool(p["x"], p["y"], tokens) - p["t0"][..., None])

    def value(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        tokens, labels = (t if rows is None else t[rows] for t in (self.tokens, self.labels))
        margin = labels * self.logits(p, tokens)
        loss = torch.logaddexp(torch.zeros_like(margin), -margin).mean(-1)
        if self.ridge == 0:
            return loss
        squares = p["x"].square().sum((-1, -2)) + p["y"].square().sum(-1) + p["k"].square() + p["t0"].square()
        return loss + self.ridge / 2 * squares

    def metrics(self, p: Parameters) -> dict[str, float]:
        """Accuracy on the samples of the loss, and on FRESH others."""
        found = {}
        for name, tokens, labels in (
            ("train_accuracy", self.tokens, self.labels),
            ("test_accuracy", self.fresh_tokens, self.fresh_labels),
        ):
            found[name] = float((labels * self.logits(p, tokens) > 0).double().mean())
        return found

    @torch.no_grad()
    def probe_accuracy(self) -> float:
        """Of the fresh samples at fixed weights X = I, y = the feature's axis, and the best threshold: what beta can tell."""
        d = self.tokens.shape[-1]
        eye = torch.eye(d, dtype=self.tokens.dtype, device=self.tokens.device)
        order = self.pool(eye, eye[0], self.fresh_tokens).argsort()
        positive = self.fresh_labels[order] > 0
        below = torch.cat([positive.new_zeros(1), ~positive]).cumsum(0)  # negatives among the first i
        above = positive.sum() - torch.cat([positive.new_zeros(1), positive]).cumsum(0)
        return float((below + above).max()) / len(order)


def poly_attn(knobs: Knobs, *, beta: float = 4.0, ridge: float = 0.0) -> Instance:
    """Start at X = I + 0.05 N, y = 0.1 N, k = 5, t0 = 0.

    Without a ridge the infimum is 0 where the classes can be told apart: f* = 0 is a bound. With one, f* is the best that
    L-BFGS finds from the start; at scale large, where that takes too long, the bound 0.
    """
    count, m, t = DIMENSIONS[knobs.scale]
    rs = draws.seeded("poly_attn", knobs.scale, knobs.instance)
    tokens, labels = _samples(rs, count, m, t)
    d = m + 2
    x = np.eye(d) + 0.05 * rs.standard_normal((d, d))
    y = 0.1 * rs.standard_normal(d)
    fresh_tokens, fresh_labels = _samples(rs, FRESH, m, t)
    objective = PolyAttn(beta, ridge)
    objective.data(tokens=tokens, labels=labels, fresh_tokens=fresh_tokens, fresh_labels=fresh_labels)
    objective.begin(x=x, y=y, k=np.array(5.0), t0=np.array(0.0))
    objective.finite_sum = count
    instance = Instance(objective, None, f_star_kind="bound", symmetry="gauge")
    instance.constants["probe_accuracy"] = objective.probe_accuracy()
    if ridge > 0 and knobs.scale != "large":
        _solve(instance)
    return finish(instance, knobs, rs)


def _samples(rs: np.random.RandomState, count: int, m: int, t: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, m t, m + 2) tokens and their labels: feature, kind (one-hot / 2), 1/2."""
    n = m * t
    tokens = np.zeros((count, n, m + 2))
    labels = 2.0 * rs.randint(0, 2, count) - 1
    for sample, label in zip(tokens, labels, strict=True):
        sample[np.arange(n), 1 + np.arange(n) % m] = 0.5
        sample[:, -1] = 0.5
        if label > 0:
            sample[rs.randint(n), 0] = 1.0
        else:
            sample[rs.choice(n, t, replace=False), 0] = 1.0 / t
    tokens[:, :, 0] += NOISE * rs.standard_normal((count, n))
    return tokens, labels


def _solve(instance: Instance) -> None:
    from scipy.optimize import minimize

    oracle = Oracle(instance.objective)

    def value_and_slope(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = oracle.value_and_gradient(torch.from_numpy(x))
        return float(value), gradient.numpy()

    options = dict(maxiter=SOLVER_STEPS, maxfun=2 * SOLVER_STEPS, ftol=1e-15, gtol=1e-10)
    found = minimize(value_and_slope, oracle.start().numpy(), jac=True, method="L-BFGS-B", options=options)
    instance.optimum = oracle.named(torch.from_numpy(found.x))
    instance.f_star, instance.f_star_kind = float(found.fun), "best_known"
