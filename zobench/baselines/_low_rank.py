"""Steps in a subspace of each matrix parameter: the gradient projected on r left vectors, refreshed now and then.

Zhang et al., arXiv:2502.05790 (I3S), after GaLore (Zhao et al., arXiv:2403.03507).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from zobench.problems.regression import Regression
from zobench.spec import UsageError

Choose = Callable[[Tensor, int, np.random.RandomState], Tensor]  # (G (m, p), r, generator) -> (m, r) orthonormal
BETA1, BETA2, TINY = 0.9, 0.999, 1e-8  # of Adam


class Projected:
    """The iterates x -= lr P step(P^T G), P (m, r) refreshed every `refresh` steps from the gradient of that step.

    inner: sgd, or adam with its moments in the projected space, kept when P changes as GaLore keeps them. Parameters that are no
    matrices take the step unprojected. `metrics["overlap"]`: |P_old^T P_new|_F^2 / r, averaged over matrices and refreshes
    (1: the subspace stands still, r/m: it is drawn afresh). Cost: a gradient of a minibatch a step, an SVD a refresh.
    """

    def __init__(
        self,
        problem: Regression,
        x: Tensor,
        choose: Choose,
        *,
        rank: int,
        refresh: int,
        inner: str,
        lr: float,
        seed: int,
    ) -> None:
        self.problem, self.x, self.choose, self.rank, self.refresh = problem, x, choose, rank, refresh
        self.inner, self.lr, self.generator = inner, lr, np.random.RandomState(seed)
        self.step = 0
        self.bases: dict[str, Tensor] = {}
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}
        self.overlaps: list[float] = []

    @property
    def metrics(self) -> dict[str, float]:
        return {"overlap": float(np.mean(self.overlaps))} if self.overlaps else {}

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        oracle = self.problem.oracle
        gradients = oracle.named(oracle.gradient(self.x, self.problem.batch(self.step).rows))
        if self.step % self.refresh == 0:
            self._refresh(gradients)
        self.step += 1
        moves = [self._move(name, gradient).reshape(-1) for name, gradient in gradients.items()]
        self.x = self.x - self.lr * torch.cat(moves)
        return self.x

    def _refresh(self, gradients: dict[str, Tensor]) -> None:
        for name, gradient in gradients.items():
            if gradient.dim() != 2:
                continue
            basis = self.choose(gradient, rank_of(gradient, self.rank), self.generator)
            if name in self.bases:
                self.overlaps.append(float((self.bases[name].T @ basis).square().sum()) / basis.shape[1])
            self.bases[name] = basis

    def _move(self, name: str, gradient: Tensor) -> Tensor:
        basis = self.bases.get(name)
        inside = gradient if basis is None else basis.T @ gradient
        step = inside if self.inner == "sgd" else self._adam(name, inside)
        return step if basis is None else basis @ step

    def _adam(self, name: str, g: Tensor) -> Tensor:
        first, second = self.moments.get(name, (torch.zeros_like(g), torch.zeros_like(g)))
        first, second = BETA1 * first + (1 - BETA1) * g, BETA2 * second + (1 - BETA2) * g * g
        self.moments[name] = first, second
        unbiased = second / (1 - BETA2**self.step)
        return first / (1 - BETA1**self.step) / (unbiased.sqrt() + TINY)


def rank_of(gradient: Tensor, rank: int) -> int:
    """r for a matrix: as asked, at most its smaller side; 0 is the square root of that side, rounded."""
    smaller = min(gradient.shape)
    return min(rank or round(smaller**0.5), smaller)


def require_matrices(line: str, problem: Regression) -> None:
    """Refuse a problem without a matrix to project."""
    if not any(len(shape) == 2 for shape in problem.oracle.shapes.values()):
        raise UsageError(f"{line}: no parameter is a matrix; it serves subspace_trap, matfac, bigram and the like")
