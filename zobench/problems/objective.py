"""What a synthetic objective is: a module whose loss is also a pure function of given, possibly stacked, parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

Parameters = Mapping[str, Tensor]  # name -> (..., *shape): any number of points, stacked in front


class Objective(nn.Module):
    """f of the module's parameters, in their natural shapes; data are buffers. Parameters stand at the start x0.

    Subclasses write `value`, vectorised over leading dimensions, and, where f - f* would cancel, `gap`.
    """

    finite_sum = 0  # number of terms that a minibatch is drawn from; 0: the objective is no finite sum
    streaming = 0  # size of a batch of the objective's own stream (see `draw`); 0: no stream
    quadratic = False  # the Hessian is the same everywhere
    outputs = 1  # equal diagonal blocks of a quadratic's Hessian, one for each output that a sample has

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """() the loss at the module's own parameters."""
        return self.value(dict(self.named_parameters()), rows)

    def value(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        """(...) losses at the points p, each (..., *shape).

        rows (..., B) int64 picks the terms of a finite sum, for every point its own; None takes all. The loss of a minibatch
        estimates the whole loss without bias.
        """
        raise NotImplementedError

    def gap(self, p: Parameters, optimum: Parameters | None, f_star: float) -> Tensor:
        """(...) f - f*, in a form that does not cancel where the objective has one."""
        del optimum
        return self.value(p) - f_star

    def draw(self, rs: np.random.RandomState, size: int) -> np.ndarray:
        """One minibatch, handed to `value` as `rows`: int64 numbers of terms, with replacement, unless a sheet says else."""
        return rs.randint(self.finite_sum, size=size).astype(np.int64)

    def canonical(self, p: Parameters) -> Parameters:
        """The point at which distances are taken: p without what the loss does not see of it."""
        return p

    def exactly(self) -> Self:
        """Itself, or a float64 copy of an objective whose data are float32 (scale large)."""
        low = any(buffer.dtype == torch.float32 for buffer in self.buffers())
        return copy.deepcopy(self).double() if low else self

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        """(largest eigenvalue, trace) of the Hessian at one point: each where a formula gives it, else None."""
        del p
        return None, None

    def metrics(self, p: Parameters) -> dict[str, float]:
        """What a sheet reports beside gap, gradient and distance."""
        del p
        return {}

    def data(self, **arrays: np.ndarray) -> None:
        """Keep arrays as buffers."""
        for name, array in arrays.items():
            self._buffers.pop(name, None)
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))

    def begin(self, **arrays: np.ndarray) -> None:
        """Make the parameters, at their start."""
        for name, array in arrays.items():
            self.register_parameter(name, nn.Parameter(torch.from_numpy(np.array(array, dtype=np.float64))))


class LeastSquares(Objective):
    """f = weight / 2 |predict - b|^2 over all trailing dimensions of the prediction."""

    b: Tensor
    weight: float = 1.0
    trailing: int = 1  # dimensions of one prediction

    def predict(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        """(..., *shape of b) or, for rows, (..., B, ...)"""
        raise NotImplementedError

    def value(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        return self.half_squares(self.predict(p, rows), rows)

    def half_squares(self, prediction: Tensor, rows: Tensor | None) -> Tensor:
        """(...) weight / 2 |prediction - b|^2, scaled up from a minibatch to the whole sum."""
        if rows is None:
            return 0.5 * self.weight * _squares(prediction - self.b, self.trailing)
        weight = self.weight * self.finite_sum / rows.shape[-1]
        return 0.5 * weight * _squares(prediction - self.b[rows], self.trailing)

    def residual(self, p: Parameters) -> Tensor:
        """c with f = 1/2 |c|^2."""
        return self.weight**0.5 * (self.predict(p) - self.b)

    def gap(self, p: Parameters, optimum: Parameters | None, f_star: float) -> Tensor:
        """|F - F*|^2 / 2 - <F - F*, b - F*>, which stays accurate where f and f* agree in all digits."""
        if optimum is None:
            return self.value(p) - f_star
        best = self.predict(optimum)
        moved, noise = self.predict(p) - best, self.b - best  # noise is exactly 0 where b was planted without any
        cross = (moved * noise).flatten(-self.trailing).sum(-1)
        return self.weight * (0.5 * _squares(moved, self.trailing) - cross)

    def metrics(self, p: Parameters) -> dict[str, float]:
        """prediction_error, relative to b."""
        return {"prediction_error": relative_error(self.predict(p), self.b)}

    @torch.no_grad()
    def plant(self, optimum: Parameters) -> None:
        """Make b what the model predicts at the optimum, so that f* = 0."""
        self.register_buffer("b", self.exactly().predict(optimum))


def _squares(residual: Tensor, trailing: int) -> Tensor:
    return residual.square().flatten(-trailing).sum(-1)


def relative_error(prediction: Tensor, truth: Tensor) -> float:
    """|prediction - truth| / |truth|, for a sheet's metrics."""
    return float((prediction - truth).norm() / truth.norm())


class LinearSquares(LeastSquares):
    """f = weight / 2 |predict - b|^2 + lam / 2 |p|^2 of a prediction that is linear in the parameters."""

    quadratic = True
    lam: float = 0.0

    def value(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        loss = super().value(p, rows)
        return loss + 0.5 * self.lam * self._norm2(p) if self.lam else loss

    def gap(self, p: Parameters, optimum: Parameters | None, f_star: float) -> Tensor:
        """f without b, at p - x*: exact, for the gradient vanishes at x*."""
        if optimum is None:
            return self.value(p) - f_star
        away = {name: value - optimum[name] for name, value in p.items()}
        return 0.5 * self.weight * _squares(self.predict(away), self.trailing) + 0.5 * self.lam * self._norm2(away)

    def residual(self, p: Parameters) -> Tensor:
        """The rows of lam follow the predictions'."""
        c = super().residual(p)
        if not self.lam:
            return c
        rest = [self.lam**0.5 * p[name].flatten(-own.dim()) for name, own in self.named_parameters()]
        return torch.cat([c.flatten(-self.trailing), *rest], -1)

    def _norm2(self, p: Parameters) -> Tensor:
        return torch.stack([_squares(p[name], own.dim()) for name, own in self.named_parameters()]).sum(0)


class Quadratic(Objective):
    """f(x) = 1/2 x^T H x - <c, x> of one parameter x (d,). Subclasses write `energy`."""

    quadratic = True
    c: Tensor

    def energy(self, x: Tensor) -> Tensor:
        """(...) 1/2 x^T H x of (..., d)."""
        raise NotImplementedError

    def value(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        del rows
        return self.energy(p["x"]) - (self.c * p["x"]).sum(-1)

    def gap(self, p: Parameters, optimum: Parameters | None, f_star: float) -> Tensor:
        """1/2 (x - x*)^T H (x - x*)"""
        return self.value(p) - f_star if optimum is None else self.energy(p["x"] - optimum["x"])


class Composite(Objective):
    """f(x) = phi(A x) + ridge / 2 |diag(w) (A x - centre)|^2 of one parameter x (d,), A (n, d).

    Subclasses write `phi`; those that are least squares come from `CompositeSquares`.
    """

    a: Tensor
    ridge: float = 1.0  # the factor of the regulariser: 1, or 1/n where the loss is a mean
    w2: Tensor | None  # (n,) squared weights
    centre: Tensor | None  # (n,) logits at which the regulariser vanishes

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("w2", None)
        self.register_buffer("centre", None)

    def logits(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        """(..., n) A x, or (..., B) of the rows."""
        x = p["x"]
        return x @ self.a.T if rows is None else (self.a[rows] @ x[..., None])[..., 0]

    def regulariser(self, z: Tensor, rows: Tensor | None = None) -> Tensor | float:
        """(...) of logits (..., n)."""
        if self.w2 is None:
            return 0.0
        pick = (lambda t: t) if rows is None else (lambda t: t[rows])
        factor = self.ridge if rows is None else self.ridge * self.finite_sum / rows.shape[-1]
        away = z if self.centre is None else z - pick(self.centre)
        return 0.5 * factor * (pick(self.w2) * away.square()).sum(-1)

    def phi(self, z: Tensor, rows: Tensor | None = None) -> Tensor:
        """(...) of logits (..., n)."""
        raise NotImplementedError

    def value(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        z = self.logits(p, rows)
        return self.phi(z, rows) + self.regulariser(z, rows)

    def regulariser_gap(self, z: Tensor, best: Tensor) -> Tensor | float:
        """(...) the regulariser at logits z minus that at the optimum's, without cancellation."""
        if self.w2 is None:
            return 0.0
        both = z + best if self.centre is None else z + best - 2 * self.centre
        return 0.5 * self.ridge * (self.w2 * (z - best) * both).sum(-1)

    def regularise(self, w2: np.ndarray | float, centre: np.ndarray | None) -> None:
        """Switch the regulariser on: squared weights (n,) or one for all, vanishing at logits `centre` (n,) or at 0."""
        self.data(w2=np.full(len(self.a), w2, np.float64))
        if centre is not None:
            self.data(centre=centre)


class CompositeSquares(LeastSquares, Composite):
    """f(x) = weight / 2 |link(A x) - b|^2 + the regulariser. Subclasses write `link`, (..., n) -> (..., n)."""

    def link(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def predict(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        return self.link(self.logits(p, rows))

    def phi(self, z: Tensor, rows: Tensor | None = None) -> Tensor:
        return self.half_squares(self.link(z), rows)

    def value(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        return Composite.value(self, p, rows)

    def gap(self, p: Parameters, optimum: Parameters | None, f_star: float) -> Tensor:
        gap = super().gap(p, optimum, f_star)
        if optimum is None or self.w2 is None:
            return gap
        return gap + self.regulariser_gap(self.logits(p), self.logits(optimum))

    def residual(self, p: Parameters) -> Tensor:
        """The regulariser's rows follow the residuals."""
        c = super().residual(p)
        if self.w2 is None:
            return c
        z = self.logits(p)
        away = z if self.centre is None else z - self.centre
        return torch.cat([c, self.ridge**0.5 * self.w2.sqrt() * away], -1)


@dataclass
class Instance:
    """An objective with what is known about it. Everything float64 on the CPU (A of scale large float32)."""

    objective: Objective
    optimum: dict[str, Tensor] | None  # x*, by parameter
    f_star: float | None = 0.0
    f_star_kind: str = "exact"  # exact | certified | best_known | bound
    symmetry: str = "none"  # none | sign | gauge (no distance is reported)
    constants: dict[str, Any] = field(default_factory=dict)  # smoothness and the like, where proved
    rates: dict[str, float] = field(default_factory=dict)  # step rates by family that curvature cannot tell


def named(**arrays: np.ndarray) -> dict[str, Tensor]:
    """Arrays as float64 tensors, for an `Instance`'s optimum."""
    return {name: torch.from_numpy(np.array(array, dtype=np.float64)) for name, array in arrays.items()}
