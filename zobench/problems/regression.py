"""Softmax regression with a planted optimum: min over x of 1/2 |softmax(Ax) - b|^2, b = softmax(A x*).

Objective: Deng, Li, Mahadevan and Song, arXiv:2307.08352; Deng, Li and Song, arXiv:2304.10411. Curvature bound,
generator and scores are the project's own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zobench.spec import Setting, UsageError

DIMENSIONS = {"tiny": (64, 8), "standard": (2048, 128), "large": (65536, 4096)}  # scale -> (n, d)
SPECTRA = ("geom", "step", "power")
PRECISIONS = {"float64": torch.float64, "float32": torch.float32}
CHUNK = 4096  # rows of A that are made, or read in float64, at once


def seeded(name: str, scale: str, instance: int) -> np.random.RandomState:
    """The generator of an instance. RandomState's stream is frozen (NEP 19); Generator's may change."""
    return np.random.RandomState(zlib.crc32(f"zobench-synth/v1/{name}/{scale}/{instance}".encode()))


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


def orthogonal(matrix: np.ndarray) -> np.ndarray:
    """Q of the QR factorisation with a positive diagonal of R, which is unique."""
    q, r = np.linalg.qr(matrix)
    signs = np.sign(np.diag(r))
    return q * np.where(signs == 0, 1, signs)


def centred_matrix(rs: np.random.RandomState, n: int, d: int, kappa: float, kind: str) -> np.ndarray:
    """(n, d) float64 with singular values sqrt(n) * singular_values and columns of mean 0.

    Centred, because softmax does not see a constant added to all logits.
    """
    gaussian = rs.standard_normal((n, d))
    u = orthogonal(gaussian - gaussian.mean(0))
    v = orthogonal(rs.standard_normal((d, d)))
    return np.sqrt(n) * (u * singular_values(d, kappa, kind)) @ v.T


def large_matrix(rs: np.random.RandomState, n: int, d: int, kappa: float, kind: str) -> np.ndarray:
    """(n, d) float32, as above up to a factor (1 + sqrt(d/n)) / (1 - sqrt(d/n)) in its condition number.

    A centred gaussian times diag(singular values) times a reflection: two QRs of this size would take too long.
    """
    matrix, total = np.empty((n, d), np.float32), np.zeros(d)
    for start in range(0, n, CHUNK):
        part = rs.standard_normal((min(CHUNK, n - start), d))
        total += part.sum(0)
        matrix[start : start + CHUNK] = part
    v = rs.standard_normal(d)
    v /= np.linalg.norm(v)
    scale = singular_values(d, kappa, kind)
    for start in range(0, n, CHUNK):
        part = (matrix[start : start + CHUNK] - total / n) * scale
        matrix[start : start + CHUNK] = part - 2 * np.outer(part @ v, v)
    return matrix


def planted(rs: np.random.RandomState, a: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """x* (d,) with logits A x* of root mean square tau, and these logits (n,), in float64."""
    x = rs.standard_normal(a.shape[1])
    z = np.concatenate([a[start : start + CHUNK].astype(np.float64) @ x for start in range(0, len(a), CHUNK)])
    factor = tau / np.sqrt(np.mean(z * z))
    return x * factor, z * factor


class SoftmaxL2(nn.Module):
    """f(x) = 1/2 |softmax(Ax) - b|^2, the parameter x (d,), started at 0; `forward()` takes nothing and returns f."""

    a: Tensor  # (n, d)
    b: Tensor  # (n,) on the simplex

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.register_buffer("a", a)
        self.register_buffer("b", b)
        self.x = nn.Parameter(a.new_zeros(a.shape[1]))

    def forward(self) -> Tensor:
        return self.value(self.x)

    def value(self, x: Tensor) -> Tensor:
        """f at each of (..., d) points, in one product with A."""
        residual = torch.softmax(x @ self.a.T, -1) - self.b
        return 0.5 * residual.square().sum(-1)


class SoftmaxCurvature:
    """f, its gradient and Hessian at any x, in closed form, reading A in chunks in `dtype`; never calls the module.

    With p = softmax(Ax), c = p - b, h = c - <p, c> and J = diag(p) - p p^T: gradient A^T (p * h), Hessian A^T H A
    with H u = J J u + p * h * u' - p <p, h * u'>, u' = u - <p, u>.
    """

    def __init__(self, a: Tensor, b: Tensor, dtype: torch.dtype = torch.float64) -> None:
        self.a, self.b, self.dtype = a, b.to(dtype), dtype

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self.a), CHUNK):
            rows = slice(start, start + CHUNK)
            yield rows, self.a[rows].to(self.dtype)

    def logits(self, x: Tensor) -> Tensor:
        """A x: (n,) or (n, m)."""
        x = x.to(self.dtype)
        return torch.cat([part @ x for _, part in self.chunks()])

    def adjoint(self, z: Tensor) -> Tensor:
        """A^T z: (d,) or (d, m)."""
        return torch.stack([part.T @ z[rows] for rows, part in self.chunks()]).sum(0)

    def value(self, x: Tensor) -> Tensor:
        return 0.5 * (torch.softmax(self.logits(x), 0) - self.b).square().sum()

    def state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """p and h at x, (n,) each."""
        p = torch.softmax(self.logits(x), 0)
        c = p - self.b
        return p, c - p @ c

    def gradient(self, x: Tensor) -> Tensor:
        p, h = self.state(x)
        return self.adjoint(p * h)

    def hvp(self, x: Tensor, v: Tensor) -> Tensor:
        """Hessian at x times v, (d,) or (d, m)."""
        return self.product(*self.state(x), v)

    def product(self, p: Tensor, h: Tensor, v: Tensor) -> Tensor:
        """Hessian times v where the state is (p, h)."""
        u = self.logits(v)
        column = (slice(None),) + (None,) * (v.dim() - 1)
        p_, h_ = p[column], h[column]
        du = u - p @ u
        dp = p_ * du
        return self.adjoint(p_ * (dp - p @ dp) + p_ * h_ * du - p_ * (p @ (h_ * du)))

    def trace(self, x: Tensor) -> float:
        """Trace of the Hessian, from H = diag(q) - s p^T - p s^T + <3p - 2b, p> p p^T, s = (2p - b) * p."""
        p = torch.softmax(self.logits(x), 0)
        s = (2 * p - self.b) * p
        q = s - (p @ (p - self.b)) * p
        norms = torch.cat([part.square().sum(1) for _, part in self.chunks()])
        ap, as_ = self.adjoint(p), self.adjoint(s)
        return float(q @ norms - 2 * as_ @ ap + ((3 * p - 2 * self.b) @ p) * (ap @ ap))

    def largest_eigenvalue(self, x: Tensor) -> float:
        """Of the Hessian: from the whole of it where d is small, else by Lanczos from a fixed start."""
        d = self.a.shape[1]
        if d <= DIMENSIONS["standard"][1]:
            hessian = self.hvp(x, torch.eye(d, device=x.device))
            return float(torch.linalg.eigvalsh(hessian)[-1])
        from scipy.sparse.linalg import LinearOperator, eigsh

        state = self.state(x)

        def product(v: np.ndarray) -> np.ndarray:
            return self.product(*state, torch.from_numpy(v.ravel()).to(x)).double().cpu().numpy()

        start = np.random.RandomState(0).standard_normal(d)
        operator = LinearOperator((d, d), matvec=product, dtype=np.float64)
        return float(eigsh(operator, k=1, which="LA", v0=start, tol=1e-3, return_eigenvectors=False)[0])


def step_rates(f: SoftmaxCurvature, start: Tensor, optimum: Tensor) -> dict[str, float]:
    """Step rates by family, from the Hessian at the start and at the optimum (the larger curvature of the two).

    gradient: 1/l, l the largest eigenvalue. two-point: 1/(l (r + 2)) with l r the trace, at which one gaussian
    direction a step still descends in expectation. adaptive: the rate at which a coordinate-normalised step first moves
    as far as a gradient step would, for such a step has root mean square 1 and a gradient step that of the gradient.
    """
    largest = [f.largest_eigenvalue(x) for x in (start, optimum)]
    traces = [f.trace(x) for x in (start, optimum)]
    curvature = max(largest)
    rms = float(f.gradient(start).square().mean().sqrt())
    return {
        "gradient": 1 / curvature,
        "two-point": 1 / max(trace + 2 * top for trace, top in zip(traces, largest, strict=True)),
        "adaptive": rms / curvature,
    }


class SoftmaxRegression:
    """The problem `softmax_l2`: full batch, f* = 0 at the planted x*, start at 0, scored in float64.

    The precision of the loss is an option of the task ("auto": float64, float32 at scale large); the run's --dtype is
    for models and not used.

    Args:
        instance: number of the drawn problem.
        tau: root mean square of the logits at x*, the knob of nonlinearity and conditioning.
        kappa, spectrum: condition number of A and shape of its singular values.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        instance: int = 0,
        scale: str = "tiny",
        tau: float = 1.0,
        kappa: float = 1.0,
        spectrum: str = "geom",
        precision: str = "auto",
    ) -> None:
        if scale not in DIMENSIONS or spectrum not in SPECTRA or precision not in ("auto", *PRECISIONS):
            raise UsageError(
                f"softmax_l2: scale is one of {', '.join(DIMENSIONS)}, spectrum of {', '.join(SPECTRA)}, "
                f"precision of auto, {', '.join(PRECISIONS)}; got {scale}, {spectrum}, {precision}"
            )
        if not tau > 0 or not kappa >= 1:
            raise UsageError(f"softmax_l2: tau must be positive and kappa at least 1; got {tau}, {kappa}")
        if precision == "auto":
            precision = "float32" if scale == "large" else "float64"
        n, d = DIMENSIONS[scale]
        rs = seeded("softmax_l2", scale, instance)
        a = (large_matrix if scale == "large" else centred_matrix)(rs, n, d, kappa, spectrum)
        optimum, logits = planted(rs, a, tau)
        b = torch.softmax(torch.from_numpy(logits), 0)
        dtype, device = PRECISIONS[precision], setting.device
        self.model = SoftmaxL2(torch.from_numpy(a).to(device, dtype), b.to(device, dtype))
        # Scores use A and b as drawn: float64, except at scale large, where A is float32 for everyone
        exact = self.model.a if dtype == torch.float64 or scale == "large" else torch.from_numpy(a).to(device)
        self.curvature = SoftmaxCurvature(exact, b.to(device))
        self.optimum = torch.from_numpy(optimum).to(device)
        start = torch.zeros_like(self.optimum)
        # Rates need few digits, and at scale large float64 copies of A would take most of the time
        rough = SoftmaxCurvature(exact, b.to(device), torch.float32) if scale == "large" else self.curvature
        self.rates: Mapping[str, float] = step_rates(rough, start, self.optimum)
        self.facts: Mapping[str, Any] = dict(
            num_train=n, num_dev=0, num_test=0, partial_data=False, precision=precision, dimension=d, template="none"
        )
        self._start_value = self.curvature.value(start)
        self._start_slope = self.curvature.gradient(start).norm()

    def batch(self, step: int) -> None:
        """None: every step sees the whole problem."""
        del step

    def loss(self, batch: None = None) -> Tensor:
        """() in the problem's precision. One forward of the model."""
        del batch
        return self.model()

    def values(self, stack: Mapping[str, Tensor]) -> Tensor:
        """(S,) losses at S points: {"x": (S, d)} -> one product with A; S forwards that no counter sees."""
        return self.model.value(stack["x"])

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, float]:
        """Gap, gradient norm and distance relative to the start, and the loss; the same for every split.

        At the iterate, never at probes, whose mean has a floor of its own; without a forward of the model.
        """
        del split
        x = self.model.x.detach().double()
        value = self.curvature.value(x)
        return {
            "relative_gap": float(value / self._start_value),  # f* = 0
            "relative_gradient": float(self.curvature.gradient(x).norm() / self._start_slope),
            "distance": float((x - self.optimum).norm() / self.optimum.norm()),
            "loss": float(value),
        }

    def save(self, directory: Path) -> None:
        """Write x as `model.safetensors`; A and b follow from the task's options."""
        from safetensors.torch import save_file

        Path(directory).mkdir(parents=True, exist_ok=True)
        save_file({"x": self.model.x.detach().cpu().contiguous()}, Path(directory) / "model.safetensors")
