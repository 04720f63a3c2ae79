"""The numbers of the synthetic family: matrices with chosen singular values, planted optima, directions.

Everything is drawn in float64 on the CPU from `RandomState`, whose stream is frozen (NEP 19); the order of the draws is
part of an instance's definition.
"""

from __future__ import annotations

import zlib

import numpy as np

CHUNK = 4096  # rows of a large matrix that are made at once


def seeded(name: str, scale: str, instance: int) -> np.random.RandomState:
    """The generator of an instance."""
    return np.random.RandomState(zlib.crc32(f"zobench-synth/v1/{name}/{scale}/{instance}".encode()))


def orthogonal(matrix: np.ndarray) -> np.ndarray:
    """Q of the QR factorisation with a positive diagonal of R, which is unique."""
    q, r = np.linalg.qr(matrix)
    signs = np.sign(np.diag(r))
    return q * np.where(signs == 0, 1, signs)


def singular_values(d: int, kappa: float, kind: str = "geom") -> np.ndarray:
    """(d,) from 1 down to 1/kappa."""
    i = np.arange(d)
    if d == 1 or kappa == 1:
        return np.ones(d)
    if kind == "geom":
        return kappa ** (-i / (d - 1.0))
    if kind == "step":
        return np.where(i < (d + 1) // 2, 1.0, 1.0 / kappa)
    return (1.0 + i) ** (-np.log(kappa) / np.log(d))


def matrix(
    rs: np.random.RandomState, n: int, d: int, kappa: float = 1.0, kind: str = "geom", centred: bool = True
) -> np.ndarray:
    """(n, d) float64 with singular values sqrt(n) * singular_values, its columns of mean 0 where `centred`.

    Centred, because softmax does not see a constant added to all logits.
    """
    gaussian = rs.standard_normal((n, d))
    u = orthogonal(gaussian - gaussian.mean(0) if centred else gaussian)
    v = orthogonal(rs.standard_normal((d, d)))
    return np.sqrt(n) * (u * singular_values(d, kappa, kind)) @ v.T


def large_matrix(
    rs: np.random.RandomState, n: int, d: int, kappa: float = 1.0, kind: str = "geom", centred: bool = True
) -> np.ndarray:
    """(n, d) float32, as above up to a factor (1 + sqrt(d/n)) / (1 - sqrt(d/n)) in its condition number.

    A gaussian times diag(singular values) times a reflection: two QRs of this size would take too long.
    """
    result, total = np.empty((n, d), np.float32), np.zeros(d)
    for start in range(0, n, CHUNK):
        part = rs.standard_normal((min(CHUNK, n - start), d))
        total += part.sum(0)
        result[start : start + CHUNK] = part
    mean = total / n if centred else np.zeros(d)
    v = unit(rs, d)
    scale = singular_values(d, kappa, kind)
    for start in range(0, n, CHUNK):
        part = (result[start : start + CHUNK] - mean) * scale
        result[start : start + CHUNK] = part - 2 * np.outer(part @ v, v)
    return result


def gaussian(rs: np.random.RandomState, scale: str, n: int, d: int) -> np.ndarray:
    """(n, d) standard normal; the same numbers in float32 at scale large, made in chunks."""
    if scale != "large":
        return rs.standard_normal((n, d))
    result = np.empty((n, d), np.float32)
    for start in range(0, n, CHUNK):
        result[start : start + CHUNK] = rs.standard_normal((min(CHUNK, n - start), d))
    return result


def design(
    rs: np.random.RandomState,
    scale: str,
    n: int,
    d: int,
    kappa: float = 1.0,
    kind: str = "geom",
    centred: bool = True,
) -> np.ndarray:
    """The design matrix A (n, d) of a scale: exact singular values, or those of `large_matrix` at scale large."""
    return (large_matrix if scale == "large" else matrix)(rs, n, d, kappa, kind, centred)


def product(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A x in float64, without a float64 copy of a large A."""
    if a.dtype == np.float64:
        return a @ x
    return np.concatenate([a[start : start + CHUNK].astype(np.float64) @ x for start in range(0, len(a), CHUNK)])


def adjoint(a: np.ndarray, r: np.ndarray) -> np.ndarray:
    """A^T r in float64, without a float64 copy of a large A."""
    total = np.zeros((a.shape[1], *r.shape[1:]))
    for start in range(0, len(a), CHUNK):
        total += a[start : start + CHUNK].T.astype(np.float64, copy=False) @ r[start : start + CHUNK]
    return total


def gram(a: np.ndarray) -> np.ndarray:
    """(d, d) A^T A in float64, without a float64 copy of a large A."""
    total = np.zeros((a.shape[1], a.shape[1]))
    for start in range(0, len(a), CHUNK):
        part = a[start : start + CHUNK].astype(np.float64, copy=False)
        total += part.T @ part
    return total


def off_range(a: np.ndarray, e: np.ndarray) -> np.ndarray:
    """e (n, ...) without its projection to the range of A (n, d), in float64."""
    if a.dtype == np.float64:
        q = orthogonal(a)
        return e - q @ (q.T @ e)
    inner = gram(a)  # a QR of a large A would need float64 copies of it
    for _ in range(2):  # the first leaves what the condition of A^T A hides
        e = e - product(a, np.linalg.solve(inner, adjoint(a, e)))
    return e


def planted(rs: np.random.RandomState, a: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """x* (d,) with A x* of root mean square tau, and A x* (n,), in float64."""
    x = rs.standard_normal(a.shape[1])
    z = product(a, x)
    factor = tau / np.sqrt(np.mean(z * z))
    x = x * factor
    return x, product(a, x)


def unit(rs: np.random.RandomState, d: int) -> np.ndarray:
    """(d,) uniform on the unit sphere."""
    v = rs.standard_normal(d)
    return v / np.linalg.norm(v)


def near(rs: np.random.RandomState, best: dict[str, np.ndarray], delta: float = 0.5) -> dict[str, np.ndarray]:
    """best + delta |best| u for parameters taken as one flat vector, u a random unit vector."""
    flat = np.concatenate([part.ravel() for part in best.values()])
    moved = flat + delta * np.linalg.norm(flat) * unit(rs, len(flat))
    parts = np.split(moved, np.cumsum([part.size for part in best.values()])[:-1])
    return {name: part.reshape(best[name].shape) for name, part in zip(best, parts, strict=True)}
