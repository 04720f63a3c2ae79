"""The synthetic family once more, in numpy and with derivatives written by hand: the appendix of the family's specification.

The order of the draws defines an instance. Parameters are one flat vector, in the order of the appendix. Where the
appendix gives no Hessian, its product is the complex-step derivative of the gradient, exact to rounding.
"""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

COMPLEX_STEP = 1e-40


# --- seeds, matrices, directions ---


def seeded(name, scale, seed):
    return np.random.RandomState(zlib.crc32(f"zobench-synth/v1/{name}/{scale}/{seed}".encode()))


def qr_pos(g):
    q, r = np.linalg.qr(g)
    s = np.sign(np.diag(r))
    s[s == 0] = 1
    return q * s


def spectrum(d, kappa, kind="geom"):
    i = np.arange(d)
    if d == 1 or kappa == 1:
        return np.ones(d)
    return {
        "geom": kappa ** (-i / (d - 1.0)),
        "step": np.where(i < (d + 1) // 2, 1.0, 1.0 / kappa),
        "power": (1.0 + i) ** (-np.log(kappa) / np.log(d)),
    }[kind]


def make_a(rs, n, d, kappa=1.0, kind="geom", center=True):
    g = rs.standard_normal((n, d))
    if center:
        g = g - g.mean(0)
    u = qr_pos(g)
    v = qr_pos(rs.standard_normal((d, d)))
    return np.sqrt(n) * (u * spectrum(d, kappa, kind)) @ v.T


def plant(rs, a, tau):
    x = rs.standard_normal(a.shape[1])
    z = a @ x
    return x * (tau / np.sqrt(np.mean(z * z)))


def unit(rs, d):
    v = rs.standard_normal(d)
    return v / np.linalg.norm(v)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def lse(z):
    m = z.max(-1, keepdims=True)
    return (m + np.log(np.exp(z - m).sum(-1, keepdims=True)))[..., 0]


def through_softmax(s, g):
    """The gradient in the logits of rows s = softmax(z), from that in s."""
    return s * (g - (s * g).sum(-1, keepdims=True))


class Problem:
    def value(self, x):
        raise NotImplementedError

    def grad(self, x):
        raise NotImplementedError

    def hvp(self, x, v):
        return self.grad(x + 1j * COMPLEX_STEP * v).imag / COMPLEX_STEP


# --- f(x) = phi(A x) + 1/2 sum w2 (A x - zc)^2 ---


class Composite(Problem):
    def __init__(self, a, w2=0.0, zc=0.0):
        self.a, self.w2, self.zc = a, w2, zc

    def value(self, x):
        z = self.a @ x
        q = z - self.zc
        return self.phi(z) + 0.5 * np.sum(self.w2 * q * q)

    def grad(self, x):
        z = self.a @ x
        return self.a.T @ (self.g(z) + self.w2 * (z - self.zc))

    def hvp(self, x, v):
        u = self.a @ v
        return self.a.T @ (self.h(self.a @ x, u) + self.w2 * u)


class SoftmaxL2(Composite):
    """1/2 |softmax(Ax) - b|^2"""

    def __init__(self, a, b, **k):
        super().__init__(a, **k)
        self.b = b

    def phi(self, z):
        c = softmax(z) - self.b
        return 0.5 * c @ c

    def g(self, z):
        p = softmax(z)
        c = p - self.b
        return p * (c - p @ c)

    def h(self, z, u):
        p = softmax(z)
        c = p - self.b
        h = c - p @ c
        du = u - p @ u
        dp = p * du
        return p * (dp - p @ dp) + p * h * du - p * (p @ (h * du))


class SoftmaxCE(Composite):
    """logsumexp(Ax) - <b, Ax>"""

    def __init__(self, a, b, **k):
        super().__init__(a, **k)
        self.b = b

    def phi(self, z):
        return lse(z) - self.b @ z

    def g(self, z):
        return softmax(z) - self.b

    def h(self, z, u):
        p = softmax(z)
        return p * (u - p @ u)


ACTIVATIONS = {  # u, u', u''
    "exp": (np.exp, np.exp, np.exp),
    "cosh": (np.cosh, np.sinh, np.cosh),
    "sinh": (np.sinh, np.cosh, np.sinh),
    "expid": (lambda z: np.exp(z) + z, lambda z: np.exp(z) + 1.0, np.exp),
}


class ExpRegression(Composite):
    """1/(2n) |u(Ax) - b|^2"""

    def __init__(self, a, b, act, **k):
        super().__init__(a, **k)
        self.b = b
        self.u, self.u1, self.u2 = ACTIVATIONS[act]
        self.n = len(b)

    def phi(self, z):
        c = self.u(z) - self.b
        return 0.5 * c @ c / self.n

    def g(self, z):
        return self.u1(z) * (self.u(z) - self.b) / self.n

    def h(self, z, v):
        return (self.u1(z) ** 2 + self.u2(z) * (self.u(z) - self.b)) * v / self.n


class Rescaled(ExpRegression):
    """1/(2n) |u - <u, 1> b|^2"""

    def phi(self, z):
        u = self.u(z)
        c = u - u.sum() * self.b
        return 0.5 * c @ c / self.n

    def g(self, z):
        u = self.u(z)
        c = u - u.sum() * self.b
        return self.u1(z) * (c - self.b @ c) / self.n

    def h(self, z, v):
        u = self.u(z)
        c = u - u.sum() * self.b
        h = c - self.b @ c
        du = self.u1(z) * v
        dc = du - du.sum() * self.b
        return (self.u2(z) * v * h + self.u1(z) * (dc - self.b @ dc)) / self.n


class Normalized(ExpRegression):
    """1/2 |u / <u, 1> - b|^2"""

    def phi(self, z):
        u = self.u(z)
        c = u / u.sum() - self.b
        return 0.5 * c @ c

    def g(self, z):
        u = self.u(z)
        a = u.sum()
        f = u / a
        c = f - self.b
        return self.u1(z) * (c - f @ c) / a

    def h(self, z, v):
        u = self.u(z)
        a = u.sum()
        f = u / a
        c = f - self.b
        h = c - f @ c
        u1 = self.u1(z)
        du = u1 * v
        da = du.sum()
        df = (du - f * da) / a
        dh = df - (df @ c + f @ df)
        return (self.u2(z) * v * h + u1 * dh - u1 * h * da / a) / a


class SoftmaxRelu(Composite):
    """1/(2m) |relu(A2 softmax(Ax)) - b|^2"""

    def __init__(self, a, a2, b, **k):
        super().__init__(a, **k)
        self.a2, self.b, self.m = a2, b, len(b)

    def phi(self, z):
        r = np.maximum(self.a2 @ softmax(z), 0) - self.b
        return 0.5 * r @ r / self.m

    def g(self, z):
        p = softmax(z)
        y = self.a2 @ p
        q = self.a2.T @ ((y > 0) * (y - self.b))
        return p * (q - p @ q) / self.m

    def h(self, z, u):
        p = softmax(z)
        y = self.a2 @ p
        on = y > 0
        q = self.a2.T @ (on * (y - self.b))
        h = q - p @ q
        du = u - p @ u
        dp = p * du
        dq = self.a2.T @ (on * (self.a2 @ dp))
        return (p * (dq - p @ dq) + p * h * du - p * (p @ (h * du))) / self.m


# --- the others ---


class ReluSoftmax(Problem):
    """1/2 |softmax(A2 relu(A1 x)) - b|^2"""

    def __init__(self, a1, a2, b):
        self.a1, self.a2, self.inner = a1, a2, SoftmaxL2(a2, b)

    def value(self, x):
        return self.inner.value(np.maximum(self.a1 @ x, 0))

    def grad(self, x):
        z = self.a1 @ x
        return self.a1.T @ ((z > 0) * self.inner.grad(np.maximum(z, 0)))

    def hvp(self, x, v):
        z = self.a1 @ x
        on = z > 0
        return self.a1.T @ (on * self.inner.hvp(np.maximum(z, 0), on * (self.a1 @ v)))


class Rows(Problem):
    """Multi-row softmax regression: 1/(2n) |softmax(A1 X A2^T) - B|^2, or the mean cross-entropy of its rows."""

    def __init__(self, a1, a2, b, kind):
        self.a1, self.a2, self.b, self.kind = a1, a2, b, kind
        self.n, self.shape = len(a1), (a1.shape[1], a2.shape[1])

    def logits(self, x):
        return self.a1 @ x.reshape(self.shape) @ self.a2.T

    def value(self, x):
        z = self.logits(x)
        if self.kind == "l2":
            return 0.5 * ((softmax(z) - self.b) ** 2).sum() / self.n
        return (lse(z) - (self.b * z).sum(1)).sum() / self.n

    def grad(self, x):
        s = softmax(self.logits(x))
        g = s - self.b
        if self.kind == "l2":
            g = through_softmax(s, g)
        return (self.a1.T @ g @ self.a2).ravel() / self.n


class Attention(Problem):
    """1/(2n) |softmax(A1 X A2^T) A3 Y - B|^2, X then Y."""

    def __init__(self, a1, a2, a3, b):
        self.a1, self.a2, self.a3, self.b = a1, a2, a3, b
        self.n, self.d = a1.shape

    def split(self, x):
        k = self.d**2
        return x[:k].reshape(self.d, self.d), x[k:].reshape(self.d, -1)

    def value(self, x):
        xx, y = self.split(x)
        e = softmax(self.a1 @ xx @ self.a2.T) @ (self.a3 @ y) - self.b
        return 0.5 * (e * e).sum() / self.n

    def grad(self, x):
        xx, y = self.split(x)
        s = softmax(self.a1 @ xx @ self.a2.T)
        v = self.a3 @ y
        e = s @ v - self.b
        gz = through_softmax(s, e @ v.T)
        return np.concatenate([(self.a1.T @ gz @ self.a2).ravel(), (self.a3.T @ (s.T @ e)).ravel()]) / self.n

    def hvp(self, x, v):
        xx, y = self.split(x)
        vx, vy = self.split(v)
        s = softmax(self.a1 @ xx @ self.a2.T)
        val = self.a3 @ y
        e = s @ val - self.b
        g = e @ val.T
        ds = through_softmax(s, self.a1 @ vx @ self.a2.T)
        dval = self.a3 @ vy
        de = ds @ val + s @ dval
        dg = de @ val.T + e @ dval.T
        mean = (s * g).sum(1, keepdims=True)
        dmean = (ds * g + s * dg).sum(1, keepdims=True)
        dgz = ds * (g - mean) + s * (dg - dmean)
        first, second = self.a1.T @ dgz @ self.a2, self.a3.T @ (ds.T @ e + s.T @ de)
        return np.concatenate([first.ravel(), second.ravel()]) / self.n


class Linear(Problem):
    """1/(2n) |op(x) - b|^2 + lam/2 |x|^2 of a matrix x of the given shape."""

    def __init__(self, op, op_t, b, shape, n=1, lam=0.0):
        self.op, self.op_t, self.b, self.shape, self.n, self.lam = op, op_t, b, shape, n, lam

    def value(self, x):
        r = self.op(x.reshape(self.shape)) - self.b
        return 0.5 * np.sum(r * r) / self.n + 0.5 * self.lam * np.sum(x * x)

    def grad(self, x):
        return self.op_t(self.op(x.reshape(self.shape)) - self.b).ravel() / self.n + self.lam * x

    def hvp(self, x, v):
        return self.op_t(self.op(v.reshape(self.shape))).ravel() / self.n + self.lam * v


class Quadratic(Problem):
    """1/2 x^T H x - c^T x"""

    def __init__(self, h, c):
        self.h, self.c = h, c

    def value(self, x):
        return 0.5 * x @ (self.h @ x) - self.c @ x

    def grad(self, x):
        return self.h @ x - self.c

    def hvp(self, x, v):
        return self.h @ v


class Leverage(Problem):
    """1/2 |sigma(x) - target|^2, sigma the leverage scores of diag(Ax - b)^-1 A."""

    def __init__(self, a, b, target):
        self.a, self.b, self.target = a, b, target

    def projection(self, x):
        ax = self.a / (self.a @ x - self.b)[:, None]
        p = ax @ np.linalg.solve(ax.T @ ax, ax.T)  # not by QR, which is no analytic function: see complex steps
        return ax, p, np.diag(p).copy()

    def scores(self, x):
        v = 1.0 / (self.a @ x - self.b)
        q = np.linalg.qr((v / np.abs(v).max())[:, None] * self.a)[0]
        return (q * q).sum(1)

    def value(self, x):
        r = self.scores(x) - self.target
        return 0.5 * r @ r

    def grad(self, x):
        ax, p, sigma = self.projection(x)
        r = sigma - self.target
        return -2.0 * ax.T @ (sigma * r - (p * p) @ r)

    def hvp(self, x, v):
        ax, p, sigma = self.projection(x)
        r = sigma - self.target
        dl = ax @ v
        dp = -(dl[:, None] * p + p * dl) + 2 * (p * dl) @ p
        ds = np.diag(dp).copy()
        lam = lambda t: sigma * t - (p * p) @ t  # noqa: E731
        return -2.0 * ax.T @ (-dl * lam(r) + ds * r - 2 * (p * dp) @ r + lam(ds))


class LeverageGradient(Leverage):
    """1/2 |g(x) - target|^2, g = -A_x^T sigma(x), whose Jacobian is A_x^T (3 diag sigma - 2 P o P) A_x."""

    def g(self, x):
        ax, _, sigma = self.projection(x)
        return -ax.T @ sigma

    def value(self, x):
        r = self.g(x) - self.target
        return 0.5 * r @ r

    def grad(self, x):
        ax, p, sigma = self.projection(x)
        jacobian = ax.T @ (3 * sigma[:, None] * ax - 2 * (p * p) @ ax)
        return jacobian @ (-ax.T @ sigma - self.target)

    hvp = Problem.hvp


class Conv(Problem):
    """1/(2n) |S - P|^2, S the causal row-softmax of sum_i conv(b_i, m_i)."""

    def __init__(self, n, sizes, target=None):
        self.n, self.sizes, self.target = n, sizes, target
        self.mask = np.tril(np.ones((n, n), bool))

    def attention(self, x):
        z, o = np.zeros((self.n, self.n), x.dtype), 0
        for m in self.sizes:
            lag = np.subtract.outer(np.arange(m), np.arange(m))
            z[self.n - m :, self.n - m :] += np.where(lag >= 0, x[o : o + m][np.clip(lag, 0, m - 1)], 0.0)
            o += m
        return softmax(np.where(self.mask, z, -np.inf))

    def value(self, x):
        e = self.attention(x) - self.target
        return 0.5 * (e * e).sum() / self.n

    def grad(self, x):
        s = self.attention(x)
        gz = through_softmax(s, s - self.target)
        parts = [[np.trace(gz[self.n - m :, self.n - m :], -k) for k in range(m)] for m in self.sizes]
        return np.concatenate(parts) / self.n


class Factors(Problem):
    """1/2 |U V^T - M|^2, U then V."""

    def __init__(self, m, r):
        self.target, self.r, (self.m, self.n) = m, r, m.shape

    def split(self, x):
        k = self.m * self.r
        return x[:k].reshape(self.m, self.r), x[k:].reshape(self.n, self.r)

    def value(self, x):
        u, v = self.split(x)
        e = u @ v.T - self.target
        return 0.5 * (e * e).sum()

    def grad(self, x):
        u, v = self.split(x)
        e = u @ v.T - self.target
        return np.concatenate([(e @ v).ravel(), (e.T @ u).ravel()])


class Bigram(Factors):
    """sum_i pi_i CE(P_i, softmax((U V^T)_i))"""

    def __init__(self, pi, p, r):
        super().__init__(p, r)
        self.pi = pi

    def value(self, x):
        u, v = self.split(x)
        z = u @ v.T
        return self.pi @ (lse(z) - (self.target * z).sum(1))

    def grad(self, x):
        u, v = self.split(x)
        g = self.pi[:, None] * (softmax(u @ v.T) - self.target)
        return np.concatenate([(g @ v).ravel(), (g.T @ u).ravel()])


class PolyAttention(Problem):
    """Classification by attention |s|^beta / sum |s|^beta; X, y, k, t0."""

    def __init__(self, tokens, labels, beta, delta=1e-6, rho=10.0, lam=0.0):
        self.tokens, self.labels, self.beta, self.delta, self.rho, self.lam = tokens, labels, beta, delta, rho, lam

    def forward(self, x):
        d, t = self.tokens.shape[2], self.tokens
        xx, y, k, t0 = x[: d * d].reshape(d, d), x[d * d : -2], x[-2], x[-1]
        q = t @ xx @ t.transpose(0, 2, 1)
        s = softmax(0.5 * self.beta * np.log(q * q + self.delta))
        v = t @ y
        o = (s @ v[:, :, None])[:, :, 0]
        pool = (lse(self.rho * o) - np.log(o.shape[1])) / self.rho
        return q, s, v, o, pool, k, t0

    def value(self, x):
        *_, pool, k, t0 = self.forward(x)
        return np.logaddexp(0, -self.labels * k * (pool - t0)).mean() + 0.5 * self.lam * x @ x

    def grad(self, x):
        t = self.tokens
        q, s, v, o, pool, k, t0 = self.forward(x)
        m = self.labels * k * (pool - t0)
        dl = -self.labels / (1 + np.exp(m)) / len(m)
        go = (dl * k)[:, None] * softmax(self.rho * o)
        gy = np.einsum("nj,njd->d", (s.transpose(0, 2, 1) @ go[:, :, None])[:, :, 0], t)
        dlogits = through_softmax(s, go[:, :, None] * v[:, None, :])
        dq = dlogits * self.beta * q / (q * q + self.delta)
        gx = (t.transpose(0, 2, 1) @ dq @ t).sum(0)
        return np.concatenate([gx.ravel(), gy, [(dl * (pool - t0)).sum(), -(dl * k).sum()]]) + self.lam * x


class Rosenbrock(Problem):
    def value(self, x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    def grad(self, x):
        t = x[1:] - x[:-1] ** 2
        g = np.zeros_like(x)
        g[:-1] = -400 * x[:-1] * t - 2 * (1 - x[:-1])
        g[1:] += 200 * t
        return g


class Logistic(Problem):
    """mean log(1 + exp(-y A x)) + lam/2 |x|^2"""

    def __init__(self, a, y, lam):
        self.a, self.y, self.lam = a, y, lam

    def value(self, x):
        return np.logaddexp(0, -self.y * (self.a @ x)).mean() + 0.5 * self.lam * x @ x

    def grad(self, x):
        m = self.y * (self.a @ x)
        return -self.a.T @ (self.y * 0.5 * (1 - np.tanh(m / 2))) / len(m) + self.lam * x


class CoshSum(Problem):
    """sum_i cosh(a_i x_i) - 1"""

    def __init__(self, a):
        self.a = a

    def value(self, x):
        return (np.cosh(self.a * x) - 1).sum()

    def grad(self, x):
        return self.a * np.sinh(self.a * x)

    def hvp(self, x, v):
        return self.a**2 * np.cosh(self.a * x) * v


class SubspaceTrap(Problem):
    """1/2 |W - W*|^2 + nu^2 r0 / 2: the mean over the stream of y = W* x + nu Q xi."""

    def __init__(self, best, q, nu):
        self.best, self.q, self.nu = best, q, nu

    def value(self, x):
        return 0.5 * ((x - self.best.ravel()) ** 2).sum() + 0.5 * self.nu**2 * self.q.shape[1]

    def grad(self, x):
        return x - self.best.ravel()

    def hvp(self, x, v):
        return v


# --- instances ---

DIMENSIONS = {  # name: tiny, standard
    "softmax_l2": ((64, 8), (2048, 128)),
    "softmax_ce": ((64, 8), (2048, 128)),
    "exp": ((64, 8), (2048, 128)),
    "cosh": ((64, 8), (2048, 128)),
    "sinh": ((64, 8), (2048, 128)),
    "rescaled_exp": ((64, 8), (2048, 128)),
    "resnet_softmax": ((64, 8), (2048, 128)),
    "relu_softmax": ((64, 32, 8), (1024, 256, 64)),
    "softmax_relu": ((64, 32, 8), (1024, 256, 64)),
    "attention": ((16, 3), (128, 16)),
    "kernel_ls": ((48, 6), (512, 16)),
    "kernel_energy": ((48, 6), (512, 16)),
    "power_even": ((64, 8), (1024, 64)),
    "power_odd": ((64, 8), (1024, 64)),
    "leverage": ((48, 6), (512, 24)),
    "leverage_grad": ((48, 6), (512, 24)),
    "linear": ((64, 8), (2048, 128)),
    "ridge": ((64, 8), (2048, 128)),
    "multiple": ((64, 8, 3), (2048, 64, 8)),
    "rows_ce": ((32, 12, 4), (256, 128, 12)),
    "rows_l2": ((32, 12, 4), (256, 128, 12)),
    "matfac": ((12, 10, 2), (128, 96, 4)),
    "bigram": ((12, 3), (256, 16)),
    "subspace_trap": ((32, 16, 4), (128, 64, 8)),
    "conv": ((16, (16, 8)), (128, (128, 64, 24))),
    "poly_attn": ((16, 4, 4), (128, 4, 8)),
    "logistic": ((64, 8), (2048, 128)),
    "quadratic": ((16,), (512,)),
    "nesterov": ((20, 16), (500, 500)),
    "rosenbrock": ((10,), (100,)),
    "cosh_sum": ((10,), (100,)),  # the specification names no size: rosenbrock's
}


@dataclass
class Reference:
    problem: Any
    x0: np.ndarray  # flat
    x_star: np.ndarray | None
    f_star: float | None
    data: tuple[np.ndarray, ...] = ()  # as drawn

    def __post_init__(self):
        self.x0 = np.ravel(self.x0).astype(float)
        self.x_star = None if self.x_star is None else np.ravel(self.x_star)


def build(name, scale="tiny", seed=0, *, tau=1.0, kappa=None, kind="geom", beta=4, nu=8.0, lam=0.0):
    """kappa, kind: of A, or of the Hessian of `quadratic`; beta, lam: of poly_attn; nu: of subspace_trap."""
    rs = seeded(name, scale, seed)
    dims = DIMENSIONS[name][("tiny", "standard").index(scale)]
    knobs = dict(tau=tau, kappa=kappa, kind=kind, beta=beta, nu=nu, lam=lam)
    return BUILDERS[name](rs, dims, name, **{k: v for k, v in knobs.items() if v is not None})


def _composite(rs, dims, name, tau, kind, kappa=1.0, **_):
    n, d = dims
    t = 0.5 * tau if name in ("exp", "sinh", "cosh", "rescaled_exp") else tau
    a = make_a(rs, n, d, kappa, kind)
    xs = plant(rs, a, t)
    zs = a @ xs
    zero = np.zeros(d)
    if name == "softmax_l2":
        return Reference(SoftmaxL2(a, softmax(zs)), zero, xs, 0.0, (a, softmax(zs)))
    if name == "softmax_ce":
        problem = SoftmaxCE(a, softmax(zs))
        return Reference(problem, zero, xs, problem.value(xs), (a, softmax(zs)))
    if name == "resnet_softmax":
        u = ACTIVATIONS["expid"][0](zs)
        return Reference(Normalized(a, u / u.sum(), "expid"), zero, xs, 0.0, (a, u / u.sum()))
    if name == "rescaled_exp":
        u = np.exp(zs)
        return Reference(Rescaled(a, u / u.sum(), "exp"), zero, xs, 0.0, (a, u / u.sum()))
    x0 = plant(rs, a, 0.5 * t) if name == "cosh" else zero
    b = ACTIVATIONS[name][0](zs)
    return Reference(ExpRegression(a, b, name), x0, xs, 0.0, (a, b))


def _relu_softmax(rs, dims, name, tau, kind, kappa=1.0, **_):
    n, m, d = dims
    a1 = make_a(rs, m, d, kappa, kind, center=False)
    a2 = rs.standard_normal((n, m)) * np.sqrt(2.0 / m)
    a2 -= a2.mean(0)
    xs = plant(rs, a1, tau)
    x0 = xs + 0.5 * np.linalg.norm(xs) * unit(rs, d)
    b = softmax(a2 @ np.maximum(a1 @ xs, 0))
    return Reference(ReluSoftmax(a1, a2, b), x0, xs, 0.0, (a1, a2, b))


def _softmax_relu(rs, dims, name, tau, kind, kappa=1.0, **_):
    n, m, d = dims
    a1 = make_a(rs, n, d, kappa, kind)
    a2 = np.sqrt(n) * rs.standard_normal((m, n))
    xs = plant(rs, a1, tau)
    b = np.maximum(a2 @ softmax(a1 @ xs), 0)
    return Reference(SoftmaxRelu(a1, a2, b), np.zeros(d), xs, 0.0, (a1, a2, b))


def _attention(rs, dims, name, tau, **_):
    n, d = dims
    a = rs.standard_normal((n, d))
    x = rs.standard_normal((d, d))
    x *= tau / np.sqrt(((a @ x @ a.T) ** 2).mean())
    y = rs.standard_normal((d, d)) / np.sqrt(d)
    best = np.concatenate([x.ravel(), y.ravel()])
    b = softmax(a @ x @ a.T) @ a @ y
    x0 = best + 0.5 * np.linalg.norm(best) * unit(rs, len(best))
    return Reference(Attention(a, a, a, b), x0, best, 0.0, (a, b))


def _kernel(rs, dims, name, **_):
    n, d = dims
    a = rs.standard_normal((n, d))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    k = np.exp(4.0 * (a @ a.T - 1))
    xs = rs.standard_normal(n) / np.sqrt(n)
    if name == "kernel_ls":
        return Reference(Linear(lambda v: k @ v, lambda v: k @ v, k @ xs, (n,)), np.zeros(n), xs, 0.0, (k, k @ xs))
    problem = Quadratic(k, k @ xs)
    return Reference(problem, np.zeros(n), xs, problem.value(xs), (k, k @ xs))


def _power(rs, dims, name, kind, kappa=3.0, **_):
    n, d = dims
    odd = name == "power_odd"
    j = 1 if odd else 2
    a = make_a(rs, n, d, kappa, kind, center=False) / np.sqrt(n)

    def even(v):
        for _ in range(j):
            v = a.T @ (a @ v)
        return v

    op = (lambda v: a @ even(v)) if odd else even
    op_t = (lambda v: even(a.T @ v)) if odd else even
    xs = rs.standard_normal(d) / np.sqrt(d)
    b, f_star = op(xs), 0.0
    if odd:
        e = rs.standard_normal(n) * 0.1 / np.sqrt(n)
        q = qr_pos(a)
        e -= q @ (q.T @ e)
        b, f_star = b + e, 0.5 * e @ e
    return Reference(Linear(op, op_t, b, (d,)), np.zeros(d), xs, f_star, (a, b))


def _leverage(rs, dims, name, **_):
    n, d = dims
    a = rs.standard_normal((n, d))
    xs = rs.standard_normal(d) / np.sqrt(d)
    slack = np.exp(0.5 * rs.standard_normal(n))
    b = a @ xs - slack
    if name == "leverage":
        problem = Leverage(a, b, np.zeros(n))
        problem.target = problem.projection(xs)[2]
    else:
        problem = LeverageGradient(a, b, np.zeros(d))
        problem.target = problem.g(xs)
    u = unit(rs, d)
    au = a @ u
    furthest = np.min(np.where(au < 0, (slack - 0.05) / np.maximum(-au, 1e-300), np.inf))
    return Reference(problem, xs + 0.5 * furthest * u, xs, 0.0, (a, problem.target))


def _linear(rs, dims, name, kind, kappa=10.0, **_):
    n, d = dims[:2]
    shape = (d, *dims[2:])
    a = make_a(rs, n, d, kappa, kind, center=False)
    xs = rs.standard_normal(shape) / np.sqrt(d)
    e = rs.standard_normal((n, *shape[1:]))
    q = qr_pos(a)
    e = 0.1 * (e - q @ (q.T @ e))
    lam = 0.1 if name == "ridge" else 0.0
    problem = Linear(lambda v: a @ v, lambda v: a.T @ v, a @ xs + e, shape, n, lam)
    if lam:
        xs = np.linalg.solve(a.T @ a / n + lam * np.eye(d), a.T @ problem.b / n)
    return Reference(problem, np.zeros(shape), xs, problem.value(xs.ravel()), (a, problem.b))


def _rows(rs, dims, name, tau, **_):
    n, v, d = dims
    a1 = rs.standard_normal((n, d))
    a2 = rs.standard_normal((v, d))
    a2 -= a2.mean(0)
    x = rs.standard_normal((d, d))
    x *= tau / np.sqrt(((a1 @ x @ a2.T) ** 2).mean())
    b = softmax(a1 @ x @ a2.T)
    problem = Rows(a1, a2, b, name[5:])
    f_star = 0.0 if name == "rows_l2" else problem.value(x.ravel())
    return Reference(problem, np.zeros(d * d), x, f_star, (a1, a2, b))


def _matfac(rs, dims, name, **_):
    m, n, r = dims
    u = rs.standard_normal((m, r)) / np.sqrt(m)
    v = rs.standard_normal((n, r)) / np.sqrt(n)
    best = np.concatenate([u.ravel(), v.ravel()])
    x0 = 0.5 * rs.standard_normal(len(best)) / np.sqrt(m)
    return Reference(Factors(u @ v.T, r), x0, best, 0.0, (u @ v.T,))


def _bigram(rs, dims, name, **_):
    v, r = dims
    u = rs.standard_normal((v, r)) * 1.5 / r**0.25
    w = rs.standard_normal((v, r)) * 1.5 / r**0.25
    pi = (1.0 + np.arange(v)) ** -1.0
    pi /= pi.sum()
    problem = Bigram(pi, softmax(u @ w.T), r)
    best = np.concatenate([u.ravel(), w.ravel()])
    x0 = 0.3 * rs.standard_normal(len(best))
    return Reference(problem, x0, best, problem.value(best), (pi, problem.target))


def _subspace_trap(rs, dims, name, nu, **_):
    m, p, r = dims
    best = rs.standard_normal((m, p)) / np.sqrt(p)
    q = qr_pos(rs.standard_normal((m, r)))
    return Reference(SubspaceTrap(best, q, nu), np.zeros(m * p), best, 0.5 * nu**2 * r, (best, q))


def _conv(rs, dims, name, **_):
    n, sizes = dims
    best = np.concatenate([rs.standard_normal(m) * np.exp(-2 * np.arange(m) / m) for m in sizes])
    problem = Conv(n, sizes)
    problem.target = problem.attention(best)
    return Reference(problem, np.zeros(len(best)), best, 0.0, (problem.target,))


def _poly_attn(rs, dims, name, beta, lam, **_):
    count, m, t = dims
    n, d, h, nu = m * t, m + 2, t, 0.1
    tokens, labels = np.zeros((count, n, d)), 2 * rs.randint(0, 2, count) - 1
    for i in range(count):
        tokens[i, np.arange(n), 1 + np.arange(n) % m] = 0.5
        tokens[i, :, -1] = 0.5
        if labels[i] > 0:
            tokens[i, rs.randint(n), 0] = 1.0
        else:
            tokens[i, rs.choice(n, h, replace=False), 0] = 1.0 / h
    tokens[:, :, 0] += nu * rs.standard_normal((count, n))
    x = np.eye(d) + 0.05 * rs.standard_normal((d, d))
    x0 = np.concatenate([x.ravel(), 0.1 * rs.standard_normal(d), [5.0, 0.0]])
    return Reference(PolyAttention(tokens, labels, beta, lam=lam), x0, None, None, (tokens, labels.astype(float)))


def _logistic(rs, dims, name, kind, kappa=1.0, **_):
    n, d = dims
    a = make_a(rs, n, d, kappa, kind)
    truth = plant(rs, a, 2.0)
    y = np.where(rs.uniform(size=n) < 1 / (1 + np.exp(-a @ truth)), 1.0, -1.0)
    problem = Logistic(a, y, 1e-3)
    x = np.zeros(d)
    for _ in range(50):
        q = 0.25 * (1 - np.tanh(y * (a @ x) / 2) ** 2)
        x = x - np.linalg.solve((a.T * q) @ a / n + 1e-3 * np.eye(d), problem.grad(x))
    return Reference(problem, np.zeros(d), x, problem.value(x), (a, y))


def _quadratic(rs, dims, name, kind, kappa=100.0, **_):
    (d,) = dims
    v = qr_pos(rs.standard_normal((d, d)))
    h = (v * spectrum(d, kappa, kind)) @ v.T
    xs = rs.standard_normal(d) / np.sqrt(d)
    problem = Quadratic(h, h @ xs)
    return Reference(problem, np.zeros(d), xs, problem.value(xs), (h,))


def _nesterov(rs, dims, name, **_):
    d, k = dims
    h, i = np.zeros((d, d)), np.arange(k)
    h[i, i] = 0.5
    h[i[1:], i[:-1]] = h[i[:-1], i[1:]] = -0.25
    c = np.zeros(d)
    c[0] = 0.25
    xs = np.zeros(d)
    xs[:k] = 1 - np.arange(1, k + 1) / (k + 1.0)
    return Reference(Quadratic(h, c), np.zeros(d), xs, -(1 / 8) * (1 - 1 / (k + 1.0)))


def _rosenbrock(rs, dims, name, **_):
    (d,) = dims
    return Reference(Rosenbrock(), np.tile([-1.2, 1.0], d // 2), np.ones(d), 0.0)


def _cosh_sum(rs, dims, name, **_):
    (d,) = dims
    return Reference(CoshSum(np.geomspace(1.0, 10.0, d)), np.full(d, 0.5), np.zeros(d), 0.0)


BUILDERS = {
    **dict.fromkeys(("softmax_l2", "softmax_ce", "resnet_softmax", "exp", "cosh", "sinh", "rescaled_exp"), _composite),
    "relu_softmax": _relu_softmax,
    "softmax_relu": _softmax_relu,
    "attention": _attention,
    **dict.fromkeys(("kernel_ls", "kernel_energy"), _kernel),
    **dict.fromkeys(("power_even", "power_odd"), _power),
    **dict.fromkeys(("leverage", "leverage_grad"), _leverage),
    **dict.fromkeys(("linear", "ridge", "multiple"), _linear),
    **dict.fromkeys(("rows_ce", "rows_l2"), _rows),
    "matfac": _matfac,
    "bigram": _bigram,
    "subspace_trap": _subspace_trap,
    "conv": _conv,
    "poly_attn": _poly_attn,
    "logistic": _logistic,
    "quadratic": _quadratic,
    "nesterov": _nesterov,
    "rosenbrock": _rosenbrock,
    "cosh_sum": _cosh_sum,
}
