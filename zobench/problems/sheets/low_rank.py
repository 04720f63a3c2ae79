"""Low-rank tasks: matrix factorisation, a bigram language model, and a stream whose noise holds a low-rank method fast.

After Zhang et al., arXiv:2502.05790. The bigram model's loss floor is known exactly; the stream has its noise in one
subspace, which a method that follows the largest singular vectors of its gradients never leaves.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zobench.problems import draws
from zobench.problems.objective import Instance, LeastSquares, Objective, Parameters, named
from zobench.problems.planting import Knobs, finish
from zobench.problems.sheets.softmax import kl
from zobench.spec import UsageError

FACTORS = {"tiny": (12, 10, 2), "standard": (128, 96, 4), "large": (4096, 4096, 32)}  # scale -> (m, n, rank)
TOKENS = {"tiny": (12, 3), "standard": (256, 16), "large": (8192, 128)}  # scale -> (V, rank)
STREAM = {"tiny": (32, 16, 4, 8), "standard": (128, 64, 8, 16), "large": (1024, 512, 32, 64)}  # scale -> (m, p, r0, B)


class MatFac(LeastSquares):
    """f(U, V) = 1/2 |U V^T - M|^2 of u (m, k), v (n, k)."""

    trailing = 2

    def predict(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        del rows
        return p["u"] @ p["v"].mT

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        u, v = p["u"], p["v"]
        return None, float(len(u) * v.square().sum() + len(v) * u.square().sum())


class MatApprox(LeastSquares):
    """f(W) = 1/2 |W - M|^2 of w (m, n): what methods with low-rank states make of a matrix of low rank."""

    trailing = 2
    quadratic = True

    def predict(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        del rows
        return p["w"]

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        return 1.0, float(p["w"].numel())


def matfac(knobs: Knobs, rank: int = 0, full: bool = False) -> Instance:
    """M = U* V*^T. rank: that of the factors to be fitted, 0 for M's own; below M's, f* is half the squares of the singular
    values left out (Eckart and Young). full: one matrix W, from 0, in the place of the factors."""
    m, n, r = FACTORS[knobs.scale]
    k = rank or r
    if k > min(m, n) or (full and rank):
        raise UsageError(f"rank={rank}: take 1 to {min(m, n)} for two factors, and none with full=True")
    rs = draws.seeded("matfac", knobs.scale, knobs.instance)
    u, v = rs.standard_normal((m, r)) / np.sqrt(m), rs.standard_normal((n, r)) / np.sqrt(n)
    if full:
        objective, optimum, f_star = MatApprox(), named(w=u @ v.T), 0.0
        objective.begin(w=np.zeros((m, n)))
    else:
        objective = MatFac()
        start = 0.5 * rs.standard_normal((m + n) * k) / np.sqrt(m)
        objective.begin(u=start[: m * k].reshape(m, k), v=start[m * k :].reshape(n, k))
        best_u, best_v, f_star = (u, v, 0.0) if k == r else _truncated(u, v, k)
        optimum = named(u=best_u, v=best_v)
    objective.data(b=u @ v.T)
    published = "matfac" if not full and k == r else ""
    return finish(
        Instance(objective, optimum, f_star, symmetry="none" if full else "gauge"), knobs, rs, published=published
    )


def _truncated(u: np.ndarray, v: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Factors of the best approximation of rank k to U V^T, padded with zeros where k is more than its rank, and the loss."""
    (q, left), (o, right) = np.linalg.qr(u), np.linalg.qr(v)
    x, values, y = np.linalg.svd(left @ right.T)
    root = np.sqrt(values[:k])
    pad = ((0, 0), (0, max(0, k - len(values))))
    best_u, best_v = np.pad(q @ x[:, :k] * root, pad), np.pad(o @ y.T[:, :k] * root, pad)
    return best_u, best_v, 0.5 * float(np.sum(values[k:] ** 2))


class Bigram(Objective):
    """f = sum_i pi_i CE(P_i, softmax(Z_i)), Z = U V^T of u, v (V, r), or Z = w (V, V): the next token given one.

    A minibatch is pairs (token, next token) (..., B, 2), drawn from pi and P. Next tokens follow P = softmax(U* V*^T).
    """

    pi: Tensor  # (V,)
    next: Tensor  # (V, V) P
    best_u: Tensor
    best_v: Tensor

    def logits(self, p: Parameters) -> Tensor:
        """(..., V, V)"""
        return p["w"] if "w" in p else p["u"] @ p["v"].mT

    def rows_of(self, p: Parameters, tokens: Tensor) -> Tensor:
        """(..., B, V) logits after these tokens (..., B)."""
        factor = p["w"] if "w" in p else p["u"]
        lead = torch.broadcast_shapes(factor.shape[:-2], tokens.shape[:-1])
        index = tokens[..., None].expand(*lead, tokens.shape[-1], factor.shape[-1])
        picked = factor.expand(*lead, *factor.shape[-2:]).gather(-2, index)
        return picked if "w" in p else picked @ p["v"].mT

    def value(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        if rows is None:
            z = self.logits(p)
            return (self.pi * (torch.logsumexp(z, -1) - (self.next * z).sum(-1))).sum(-1)
        z = self.rows_of(p, rows[..., 0])
        follows = rows[..., 1, None].expand(*z.shape[:-1], 1)
        return (torch.logsumexp(z, -1) - z.gather(-1, follows)[..., 0]).mean(-1)

    def draw(self, rs: np.random.RandomState, size: int) -> np.ndarray:
        tokens = _inverse(np.cumsum(self.pi.cpu().numpy())[None], rs.uniform(size=size))
        follows = _inverse(np.cumsum(self.next[torch.from_numpy(tokens)].cpu().numpy(), 1), rs.uniform(size=size))
        return np.stack([tokens, follows], -1)

    def gap(self, p: Parameters, optimum: Parameters | None, f_star: float) -> Tensor:
        """sum_i pi_i KL(P_i | softmax(Z_i))"""
        del optimum, f_star
        return (self.pi * kl(self.logits(p) - self.best_u @ self.best_v.mT, self.next)).sum(-1)

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        """The trace from the variances of one-hot next tokens, and of V's rows, under each row of softmax(Z)."""
        s = torch.softmax(self.logits(p), -1)
        if "w" in p:
            return None, float(self.pi @ (s * (1 - s)).sum(-1))
        u, v = p["u"], p["v"]
        over_v = self.pi @ ((s @ v.square().sum(-1)) - (s @ v).square().sum(-1))
        return None, float(over_v + (self.pi * u.square().sum(-1)) @ (s * (1 - s)).sum(-1))

    def metrics(self, p: Parameters) -> dict[str, float]:
        """excess_nats: the loss above the entropy of the next token."""
        return {"excess_nats": float(self.gap(p, None, 0.0))}


def _inverse(cumulative: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(B,) int64: where the laws (B or 1, V) put u (B,)."""
    found = (cumulative < (u * cumulative[:, -1])[:, None]).sum(1)
    return np.minimum(found, cumulative.shape[1] - 1).astype(np.int64)


def bigram(knobs: Knobs, full: bool = False) -> Instance:
    """full: one matrix of logits, from 0, in the place of U and V; the loss is convex then."""
    size, r = TOKENS[knobs.scale]
    rs = draws.seeded("bigram", knobs.scale, knobs.instance)
    u, v = (rs.standard_normal((size, r)) * (1.5 / r**0.25) for _ in range(2))
    start = 0.3 * rs.standard_normal(2 * size * r)
    pi = 1.0 / (1.0 + np.arange(size))
    z = u @ v.T
    z -= np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True)) + z.max(-1, keepdims=True)
    objective = Bigram()
    objective.finite_sum = size * size
    objective.data(pi=pi / pi.sum(), next=np.exp(z), best_u=u, best_v=v)
    if full:
        optimum = named(w=z)
        objective.begin(w=np.zeros((size, size)))
    else:
        optimum = named(u=u, v=v)
        objective.begin(u=start[: size * r].reshape(size, r), v=start[size * r :].reshape(size, r))
    f_star = -float((pi / pi.sum()) @ (np.exp(z) * z).sum(-1))
    # the loss does not see a constant added to a row of logits, nor what maps U and V inversely
    return finish(Instance(objective, optimum, f_star, symmetry="gauge"), knobs, rs, published="" if full else "bigram")


class SubspaceTrap(Objective):
    """f(W) = 1/2B sum_b |W x_b - y_b|^2 over a stream x ~ N(0, I_p), y = W* x + nu Q xi, xi ~ N(0, I_r0); w (m, p).

    A batch is what was drawn of it: (..., B, p + r0) of x and xi. The whole loss is the population's,
    1/2 |W - W*|^2 + 1/2 nu^2 r0.
    """

    quadratic = True
    best: Tensor  # W*
    q: Tensor  # (m, r0) orthonormal: the columns span the noise

    def __init__(self, nu: float, batch: int) -> None:
        super().__init__()
        self.nu, self.streaming = nu, batch

    def value(self, p: Parameters, rows: Tensor | None = None) -> Tensor:
        away = p["w"] - self.best
        if rows is None:
            return 0.5 * away.square().sum((-2, -1)) + 0.5 * self.nu**2 * self.q.shape[1]
        x, xi = rows[..., : away.shape[-1]], rows[..., away.shape[-1] :]
        residual = x @ away.mT - self.nu * (xi @ self.q.T)
        return 0.5 * residual.square().sum(-1).mean(-1)

    def draw(self, rs: np.random.RandomState, size: int) -> np.ndarray:
        columns = self.best.shape[1]
        return np.concatenate([rs.standard_normal((size, columns)), rs.standard_normal((size, self.q.shape[1]))], 1)

    def gap(self, p: Parameters, optimum: Parameters | None, f_star: float) -> Tensor:
        del optimum, f_star
        return 0.5 * (p["w"] - self.best).square().sum((-2, -1))

    def curvature(self, p: Parameters) -> tuple[float | None, float | None]:
        return 1.0, float(p["w"].numel())

    def metrics(self, p: Parameters) -> dict[str, float]:
        """complement_gap: |(I - Q Q^T)(W - W*)|^2 / |W*|^2, where there is no noise to blame."""
        away = p["w"] - self.best
        rest = away - self.q @ (self.q.T @ away)
        return {"complement_gap": float(rest.square().sum() / self.best.square().sum())}


def subspace_trap(knobs: Knobs, nu: float = 8.0) -> Instance:
    m, p, r0, batch = STREAM[knobs.scale]
    rs = draws.seeded("subspace_trap", knobs.scale, knobs.instance)
    best = rs.standard_normal((m, p)) / np.sqrt(p)
    objective = SubspaceTrap(nu, batch)
    objective.outputs = m
    objective.data(best=best, q=draws.orthogonal(rs.standard_normal((m, r0))))
    objective.begin(w=np.zeros((m, p)))
    return finish(Instance(objective, named(w=best), 0.5 * nu**2 * r0), knobs, rs)
