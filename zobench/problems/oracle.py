"""What structure-aware methods may ask of an objective, at a flat point and counted: value, gradient, Hessian, residual.

Derivatives are autograd's, on a function of the flat vector: the module and its parameters are not touched. The flat
vector is the row-major concatenation of the parameters in their order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zobench.problems.objective import LeastSquares, Objective

DENSE = 1024  # dimensions up to which a Hessian is written out
PROBES = 64  # of Hutchinson's estimate of a trace
TOGETHER = 8  # probes computed at once: what they keep grows with it, what they read of the data does not
COLUMNS = 64  # Hessian columns computed at once


class Oracle:
    """An objective as a function of a flat (D,) vector.

    `counts` tells what was asked: values, gradients, hvps, residuals, jacobians (a Hessian counts as D hvps).
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        parameters = dict(objective.named_parameters())
        self.shapes = {name: tuple(p.shape) for name, p in parameters.items()}
        self.sizes = [p.numel() for p in parameters.values()]
        self.dimension = sum(self.sizes)
        self.counts: Counter[str] = Counter()

    def flat(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """(D,) from named tensors."""
        return torch.cat([parameters[name].detach().reshape(-1) for name in self.shapes])

    def named(self, x: Tensor) -> dict[str, Tensor]:
        """Named tensors (..., *shape) from (..., D)."""
        parts = x.split(self.sizes, -1)
        return {
            name: part.reshape((*x.shape[:-1], *shape))
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def start(self) -> Tensor:
        """(D,) the parameters as they stand in the module."""
        return self.flat(dict(self.objective.named_parameters()))

    @property
    def forwards(self) -> int:
        """Forward passes that the counts amount to: an hvp is two passes forward and two backward."""
        c = self.counts
        return c["values"] + c["gradients"] + 2 * c["hvps"] + c["residuals"] + c["jacobians"]

    @property
    def backwards(self) -> int:
        """Backward passes; a Jacobian is as many as it has rows or columns, whichever is fewer."""
        return self.counts["gradients"] + 2 * self.counts["hvps"] + self.counts["jacobian_passes"]

    def _f(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        return self.objective.value(self.named(x), rows)

    @torch.no_grad()
    def value(self, x: Tensor) -> Tensor:
        """() f at (D,), or (q,) at (q, D)."""
        self.counts["values"] += x.numel() // self.dimension
        return self._f(x)

    def gradient(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """(D,), of the whole loss or of a minibatch (`Regression.batch(step).rows`)."""
        self.counts["gradients"] += 1
        return torch.func.grad(self._f)(x, rows)

    def value_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """() and (D,); counts as one gradient, whose forward gives the value."""
        self.counts["gradients"] += 1
        gradient, value = torch.func.grad_and_value(self._f)(x)
        return value, gradient

    def hvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The Hessian at x (D,) times v: (D,), or (q, D) for the q rows of v."""
        self.counts["hvps"] += v.numel() // self.dimension
        return self._hvp(x)(v)

    def _hvp(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        pull: Any = torch.func.vjp(torch.func.grad(self._f), x)[1]
        return lambda v: pull(v)[0] if v.dim() == 1 else torch.func.vmap(lambda u: pull(u)[0])(v)

    def hessian(self, x: Tensor) -> Tensor:
        """(D, D), symmetric; D hvps."""
        self.counts["hvps"] += self.dimension
        product = self._hvp(x)
        eye = torch.eye(self.dimension, dtype=x.dtype, device=x.device)
        h = torch.cat([product(rows) for rows in eye.split(COLUMNS)])
        return (h + h.T) / 2

    def residual(self, x: Tensor) -> Tensor:
        """(m,) c with f = 1/2 |c|^2, for least squares."""
        self.counts["residuals"] += 1
        return self._residual(x)

    def jacobian(self, x: Tensor) -> Tensor:
        """(m, D) of the residual."""
        self.counts["jacobians"] += 1
        found: Any = torch.func.vjp(self._residual, x)
        c, pull = found
        self.counts["jacobian_passes"] += min(len(c), self.dimension)
        if len(c) <= self.dimension:
            eye = torch.eye(len(c), dtype=x.dtype, device=x.device)
            return torch.cat([torch.func.vmap(lambda u: pull(u)[0])(rows) for rows in eye.split(COLUMNS)])
        # J v from backward mode alone: u -> J^T u is linear, and J its transpose
        push: Any = torch.func.vjp(lambda u: pull(u)[0], torch.zeros_like(c))[1]
        eye = torch.eye(self.dimension, dtype=x.dtype, device=x.device)
        return torch.cat([torch.func.vmap(lambda v: push(v)[0])(rows) for rows in eye.split(COLUMNS)]).T

    def _residual(self, x: Tensor) -> Tensor:
        objective = self.objective
        assert isinstance(objective, LeastSquares)
        return objective.residual(self.named(x)).reshape(-1)


def curvature(oracle: Oracle, x: Tensor) -> tuple[float, float]:
    """(largest eigenvalue, trace) of the Hessian at x.

    The objective's formulas where it has both; else exact up to DENSE dimensions, and beyond, Lanczos from a fixed start
    and Hutchinson's estimate from fixed signs for what no formula gives.
    """
    with torch.no_grad():
        top, trace = oracle.objective.curvature(oracle.named(x))
    if oracle.dimension <= DENSE and (top is None or trace is None):
        hessian = oracle.hessian(x)
        if not hessian.isfinite().all():
            return math.inf, math.inf
        values = torch.linalg.eigvalsh(hessian)
        return float(values[-1]), float(values.sum())
    return _lanczos(oracle, x) if top is None else top, _hutchinson(oracle, x) if trace is None else trace


def _lanczos(oracle: Oracle, x: Tensor) -> float:
    from scipy.sparse.linalg import LinearOperator, eigsh

    rs = np.random.RandomState(0)
    product = oracle._hvp(x)
    d = oracle.dimension

    def matvec(v: np.ndarray) -> np.ndarray:
        return product(torch.from_numpy(v.ravel()).to(x)).double().cpu().numpy()

    start = rs.standard_normal(d)
    top = eigsh(
        LinearOperator((d, d), matvec=matvec, dtype=np.float64),
        k=1, which="LA", v0=start, tol=1e-3, return_eigenvectors=False,
    )  # fmt: skip
    return float(top[0])


def _hutchinson(oracle: Oracle, x: Tensor) -> float:
    rs = np.random.RandomState(1)
    product = oracle._hvp(x)
    signs = (
        torch.from_numpy(rs.randint(0, 2, (TOGETHER, oracle.dimension)) * 2.0 - 1.0).to(x)
        for _ in range(0, PROBES, TOGETHER)
    )
    return float(np.mean([float((s * product(s)).sum()) / TOGETHER for s in signs]))
