"""Classic functions of the zeroth-order literature: quadratics, Nesterov's, Rosenbrock's, logistic regression, cosh.

Nesterov's function with d = 500 from 0, ridge and logistic regression are those of the comparisons with STP
(Bergou, Gorbunov and Richtarik, arXiv:1902.03591); the sum of cosh has the relaxed smoothness of S2P (Pang and Zhou,
arXiv:2402.01621) and is the project's own reading. None of these is a bbob function: no oscillation, asymmetry or scores of
that suite.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zobench.problems import draws
from zobench.problems.objective import Composite, Instance, LeastSquares, Objective, Parameters, Quadratic, named
from zobench.problems.planting import CERTIFIED, Knobs, finish
from zobench.problems.sheets.softmax import kl
from zobench.spec import UsageError

QUADRATIC = {"tiny": 16, "standard": 512, "large": 1_000_000}  # scale -> d; diagonal at scale large
NESTEROV = {"tiny": (20, 16), "standard": (500, 500), "large": (100_000, 100_000)}  # scale -> (d, k)
ROSENBROCK = {"tiny": 10, "standard": 100, "large": 10_000}  # scale -> d
LOGISTIC = {"tiny": (64, 8), "standard": (2048, 128), "large": (65536, 4096)}  # scale -> (n, d)
NEWTON_STEPS = 60
CG_STEPS = 400  # at most, in one Newton step


class Dense(Quadratic):
    """1/2 x^T H x - <c, x>, h (d, d)."""

    h: Tensor

    def energy(self, x: Tensor) -> Tensor:
        return 0.5 * (x * (x @ self.h)).sum(-1)


class Diagonal(Quadratic):
    """1/2 sum h_i x_i^2 - <c, x>, h (d,)."""

    h: Tensor

    def energy(self, x: Tensor) -> Tensor:
        return 0.5 * (self.h * x.square()).sum(-1)

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        del p
        return float(self.h.max()), float(self.h.sum())


class Sparse(Quadratic):
    """1/2 sum s_i (v_i^T x)^2 - <c, x>, v (d, r), s (r,): a sum of squares, never negative by rounding."""

    v: Tensor
    s: Tensor

    def energy(self, x: Tensor) -> Tensor:
        return 0.5 * (self.s * (x @ self.v).square()).sum(-1)


def quadratic(knobs: Knobs, sparse: bool = False) -> Instance:
    """1/2 (x - x*)^T H (x - x*) up to a constant, H = V diag(spectrum) V^T, diagonal at scale large.

    sparse: H has rank d / 16, so that gradients live in a small subspace; x* is then one optimum of many.
    """
    d = QUADRATIC[knobs.scale]
    rs = draws.seeded("quadratic", knobs.scale, knobs.instance)
    spectrum = draws.singular_values(max(1, d // 16) if sparse else d, knobs.kappa, knobs.spectrum)
    spectrum = np.pad(spectrum, (0, d - len(spectrum)))
    if knobs.scale == "large":
        objective, h, v = Diagonal(), spectrum, np.empty((d, 0))
    else:
        v = draws.orthogonal(rs.standard_normal((d, d)))
        objective, h = Dense(), (v * spectrum) @ v.T
    x = rs.standard_normal(d) / np.sqrt(d)
    c = h * x if h.ndim == 1 else h @ x
    if sparse and h.ndim == 2:
        objective, rank = Sparse(), max(1, d // 16)
        objective.data(v=v[:, :rank], s=spectrum[:rank], c=c)
    else:
        objective.data(h=h, c=c)
    objective.begin(x=np.zeros(d))
    return finish(
        Instance(objective, named(x=x), -0.5 * float(x @ c), symmetry="gauge" if sparse else "none"), knobs, rs
    )


class Nesterov(Quadratic):
    """(L - mu)/8 (x_1^2 + sum (x_i - x_(i+1))^2 + x_k^2 - 2 x_1) + mu/2 |x|^2, L = 1: each coordinate leans on the one before."""

    def __init__(self, k: int, mu: float) -> None:
        super().__init__()
        self.k, self.mu = k, mu

    def energy(self, x: Tensor) -> Tensor:
        chain = x[..., : self.k]
        squares = chain[..., 0].square() + chain.diff(dim=-1).square().sum(-1) + chain[..., -1].square()
        return (1.0 - self.mu) / 8.0 * squares + 0.5 * self.mu * x.square().sum(-1)

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        """The chain's matrix has eigenvalues 2 - 2 cos(i pi / (k + 1))."""
        quarter = (1.0 - self.mu) / 4.0
        top = quarter * (2.0 + 2.0 * np.cos(np.pi / (self.k + 1.0))) + self.mu
        return float(top), quarter * 2.0 * self.k + self.mu * p["x"].shape[-1]


def nesterov(knobs: Knobs, strong: float = 0.0) -> Instance:
    """strong: mu, the convexity of the strongly convex variant, whose optimum solves a tridiagonal system."""
    if not 0.0 <= strong < 1.0:
        raise UsageError(f"mu={strong:g}: the convexity must be at least 0 and below the smoothness, which is 1")
    d, k = NESTEROV[knobs.scale]
    rs = draws.seeded("nesterov", knobs.scale, knobs.instance)
    quarter = (1.0 - strong) / 4.0
    c, x = np.zeros(d), np.zeros(d)
    c[0] = quarter
    if strong:
        from scipy.linalg import solveh_banded

        bands = np.stack([np.full(k, -quarter), np.full(k, 2.0 * quarter + strong)])
        x[:k] = solveh_banded(bands, c[:k])
    else:
        x[:k] = 1.0 - np.arange(1, k + 1) / (k + 1.0)
    objective = Nesterov(k, strong)
    objective.data(c=c)
    objective.begin(x=np.zeros(d))
    return finish(Instance(objective, named(x=x), -0.5 * float(c @ x)), knobs, rs)


class Rosenbrock(LeastSquares):
    """sum 100 (x_(i+1) - x_i^2)^2 + (1 - x_i)^2 of x (d,)"""

    weight = 2.0

    def predict(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        del rows
        x, after = p["x"][..., :-1], p["x"][..., 1:]
        return torch.cat([10.0 * (after - x.square()), x], -1)

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        x = p["x"]
        return None, float((1200.0 * x[:-1].square() - 400.0 * x[1:] + 202.0).sum())


def rosenbrock(knobs: Knobs) -> Instance:
    """From (-1.2, 1, -1.2, 1 ...); the same for every instance. d >= 4 has a second local minimum near (-1, 1, ..., 1)."""
    d = ROSENBROCK[knobs.scale]
    rs = draws.seeded("rosenbrock", knobs.scale, knobs.instance)
    objective = Rosenbrock()
    objective.begin(x=np.tile([-1.2, 1.0], d // 2))
    optimum = named(x=np.ones(d))
    objective.plant(optimum)
    return finish(Instance(objective, optimum), knobs, rs, published="rosenbrock")


class Logistic(Composite):
    """mean log(1 + exp(-y_i <a_i, x>)) + lam/2 |x|^2 of x (d,), y in {-1, 1}: a finite sum."""

    y: Tensor
    lam: float

    def margins(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        return self.logits(p, rows) * (self.y if rows is None else self.y[rows])

    def value(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        m = self.margins(p, rows)
        return torch.logaddexp(torch.zeros_like(m), -m).mean(-1) + 0.5 * self.lam * p["x"].square().sum(-1)

    def gap(self, p: Parameters, optimum: Parameters | None, f_star: float) -> Tensor:
        """Bregman divergence of the loss from x*, where the gradient vanishes: a mean of divergences of two-point laws."""
        if optimum is None:
            return self.value(p) - f_star
        best = self.margins(optimum)
        wrong = torch.sigmoid(-best)
        moved = self.margins(p) - best
        laws, shift = torch.stack([wrong, 1 - wrong], -1), torch.stack([-moved, torch.zeros_like(moved)], -1)
        near = kl(shift.clamp(-30.0, 30.0), laws.expand(shift.shape))
        far = torch.logaddexp(torch.zeros_like(moved), -best - moved) - torch.logaddexp(torch.zeros_like(best), -best)
        away = p["x"] - optimum["x"]
        divergence = torch.where(moved.abs() < 30.0, near, far + wrong * moved)
        return divergence.mean(-1) + 0.5 * self.lam * away.square().sum(-1)

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        m = self.margins(p)
        weights = torch.sigmoid(m) * torch.sigmoid(-m)
        a2 = torch.linalg.vector_norm(self.a, dim=1).square()
        return None, float((weights * a2).mean() + self.lam * self.a.shape[1])


def logistic(knobs: Knobs, lam: float = 1e-3) -> Instance:
    """Labels follow a logistic model whose logits have root mean square tau. x* by Newton: "certified"."""
    n, d = LOGISTIC[knobs.scale]
    rs = draws.seeded("logistic", knobs.scale, knobs.instance)
    a = draws.design(rs, knobs.scale, n, d, knobs.kappa, knobs.spectrum)
    _, z = draws.planted(rs, a, knobs.tau)
    y = np.where(rs.uniform(size=n) < 0.5 * (1.0 + np.tanh(z / 2)), 1.0, -1.0)
    x, f_star = _newton(a, y, lam)
    objective = Logistic()
    objective.lam, objective.finite_sum = lam, n
    objective.data(a=a, y=y)
    objective.begin(x=np.zeros(d))
    return finish(Instance(objective, named(x=x), f_star, "certified", constants=dict(convexity=lam)), knobs, rs)


def _newton(a: np.ndarray, y: np.ndarray, lam: float) -> tuple[np.ndarray, float]:
    """(x*, f*): Newton's steps from 0, each by conjugate gradients in A's own precision, halved until the loss falls."""
    n, d = a.shape

    def loss(m: np.ndarray, x: np.ndarray) -> float:
        return float(np.logaddexp(0.0, -m).mean() + 0.5 * lam * x @ x)

    x, m = np.zeros(d), np.zeros(n)
    first = None
    for _ in range(NEWTON_STEPS):
        g = lam * x - draws.adjoint(a, y * 0.5 * (1.0 - np.tanh(m / 2))) / n
        first = first or float(np.linalg.norm(g))
        if float(np.linalg.norm(g)) <= CERTIFIED * first:
            return x, loss(m, x)
        weights = (0.25 * (1.0 - np.tanh(m / 2) ** 2) / n).astype(a.dtype)
        step = _conjugate(lambda v, w=weights: a.T @ (w * (a @ v)) + lam * v, g.astype(a.dtype))
        along, t = y * draws.product(a, step), 1.0
        while loss(m - t * along, x - t * step) > loss(m, x) * (1 + 1e-12) and t > 1e-6:
            t /= 2
        x, m = x - t * step, m - t * along
    raise UsageError("the logistic regression's optimum was not found; take a larger lam or a smaller kappa")


def _conjugate(product, b: np.ndarray) -> np.ndarray:
    """Conjugate gradients for product(x) = b, to what the precision of b allows; float64."""
    tolerance = float(np.linalg.norm(b)) * (1e-12 if b.dtype == np.float64 else 1e-5)
    x, r = np.zeros_like(b), b.copy()
    direction, square = r.copy(), float(r @ r)
    for _ in range(CG_STEPS):
        if square**0.5 <= tolerance:
            break
        image = product(direction)
        t = square / float(direction @ image)
        x, r = x + x.dtype.type(t) * direction, r - x.dtype.type(t) * image
        square, before = float(r @ r), square
        direction = r + x.dtype.type(square / before) * direction
    return x.astype(np.float64)


class CoshSum(Objective):
    """sum (cosh(a_i x_i) - 1) of x (d,), written 2 sinh^2(a_i x_i / 2), which neither cancels nor overflows before f does."""

    a: Tensor

    def value(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        del rows
        return 2.0 * torch.sinh(0.5 * self.a * p["x"]).square().sum(-1)

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        h = self.a.square() * torch.cosh(self.a * p["x"])
        return float(h.max()), float(h.sum())


def cosh_sum(knobs: Knobs) -> Instance:
    """a_i geometric from 1 to 10, from x = 1/2; the same for every instance. The curvature grows like the loss."""
    d = ROSENBROCK[knobs.scale]
    objective = CoshSum()
    objective.data(a=10.0 ** (np.arange(d) / (d - 1.0)))
    objective.begin(x=np.full(d, 0.5))
    return Instance(objective, named(x=np.zeros(d)))
