"""Krylov methods as generators of iterates, for one right-hand side or, as columns, for many at once.

scipy has both, but gives no iterate before the last (LSQR) or hands it to a callback (CG), from which nothing can be yielded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Operator = Callable[[Tensor], Tensor]

EPS = torch.finfo(torch.float64).eps


def cg(product: Operator, residual: Tensor, precondition: Operator = lambda r: r) -> Iterator[Tensor]:
    """s_1, s_2 ... -> H^-1 residual for H = H^T > 0, preconditioned conjugate gradients (Hestenes and Stiefel, 1952).

    Each column (d, k) has its own step lengths. Ends where the recursive residual is below rounding.
    """
    s, r = torch.zeros_like(residual), residual
    z = precondition(r)
    p, rz = z, _dots(r, z)
    goal = EPS * residual.norm()
    while r.norm() > goal:
        hp = product(p)
        alpha = _ratio(rz, _dots(p, hp))
        s, r = s + alpha * p, r - alpha * hp
        yield s
        z = precondition(r)
        rz, before = _dots(r, z), rz
        p = z + _ratio(rz, before) * p


def lsqr(forward: Operator, adjoint: Operator, residual: Tensor) -> Iterator[Tensor]:
    """s_1, s_2 ... -> argmin |M s - residual|, LSQR by Golub and Kahan's bidiagonalisation (Paige and Saunders, 1982).

    Residual (m,) or (m, k). Ends where the estimate of |M^T r| is below rounding of |M| |r| in every column, or stands still.
    """
    u, beta = _unit(residual)
    v, alpha = _unit(adjoint(u))
    w, s = v, torch.zeros_like(v)
    phi_bar, rho_bar, norm = beta, alpha, alpha.square()
    while True:
        u, beta = _unit(forward(v) - alpha * u)
        v, alpha_next = _unit(adjoint(u) - beta * v)
        rho = torch.hypot(rho_bar, beta)
        cosine, sine = _ratio(rho_bar, rho), _ratio(beta, rho)
        before, s = s, s + _ratio(cosine * phi_bar, rho) * w
        yield s
        w = v - _ratio(sine * alpha_next, rho) * w
        rho_bar, phi_bar, alpha = -cosine * alpha_next, sine * phi_bar, alpha_next
        norm = norm + beta.square() + alpha.square()  # |M|_F^2, built up
        slope = (alpha * cosine * phi_bar).abs()
        if bool((slope <= EPS * norm.sqrt() * phi_bar).all()) or (s - before).norm() <= EPS * s.norm():
            return


def _dots(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(0)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0: a column that has converged moves no more."""
    return torch.where(b == 0, torch.zeros_like(a), a / torch.where(b == 0, torch.ones_like(b), b))


def _unit(t: Tensor) -> tuple[Tensor, Tensor]:
    norm = t.norm(dim=0)
    return _ratio(t, norm.expand_as(t)), norm
