"""Slow and obvious: each algorithm box of the specification on a list of float64 numpy arrays and a plain loss function.

Nothing here is shared with zobench/core or zobench/optimizers. An oracle asks a `Noise` for the numbers that the real optimizer
drew; the rest is arithmetic on dense arrays, written once more from the specification of the methods.

`ORACLES[name](w, loss, noise, names, options).step()` makes one step and leaves the new weights in `.w`.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from types import SimpleNamespace

import numpy as np

ORACLES: dict[str, type[Oracle]] = {}


def oracle_of(*names):
    def register(cls):
        ORACLES.update(dict.fromkeys(names, cls))
        return cls

    return register


class Noise:
    """The numbers a run drew, in order: whole directions, and arrays of any shape by (tensor, stream)."""

    def __init__(self):
        self.directions = deque()  # (number, stream, [array per tensor])
        self.last = 0  # the number of the direction that was taken last
        self.arrays = defaultdict(deque)  # (tensor, stream) -> arrays

    def z(self, stream=0):
        """The next whole direction, one array per tensor."""
        for place, (number, found, arrays) in enumerate(self.directions):
            if found == stream:
                del self.directions[place]
                self.last = number
                return arrays
        raise AssertionError(f"the oracle needs one more direction of stream {stream} than was drawn")

    def array(self, tensor, stream, shape):
        """The next numbers of this tensor and stream."""
        found = self.arrays[tensor, stream]
        assert found, f"the oracle needs numbers of stream {stream} for tensor {tensor} that were not drawn"
        value = found.popleft()
        assert value.shape == tuple(shape), f"tensor {tensor}, stream {stream}: {value.shape} drawn, {shape} needed"
        return value

    def rest(self):
        """What was drawn and not asked for."""
        left = {key: len(found) for key, found in self.arrays.items() if found}
        return left | ({"directions": len(self.directions)} if self.directions else {})


class Oracle:
    """Options of the optimizer are attributes; `lr`, `eps`, `weight_decay`, `guide`, `candidates`, `alpha` among them."""

    def __init__(self, w, loss, noise, names, options):
        self.w, self.loss, self.noise, self.names = [np.array(a, np.float64) for a in w], loss, noise, list(names)
        self.o = SimpleNamespace(**options)
        self.t, self.d = 0, sum(a.size for a in self.w)
        self.start()

    def start(self):
        pass

    def step(self):
        self.update()
        self.t += 1

    # --- words of the boxes

    def at(self, c, z, w=None, batch=None):
        """L(w + c z)."""
        w = self.w if w is None else w
        return self.loss([a + c * b for a, b in zip(w, z, strict=True)], batch, self.t)

    def here(self, batch=None, w=None):
        return self.loss(self.w if w is None else w, batch, self.t)

    def two_sided(self, z, **where):
        return (self.at(self.o.eps, z, **where) - self.at(-self.o.eps, z, **where)) / (2 * self.o.eps)

    def propose(self):
        return self.noise.z()

    def direction(self, **where):
        return self.chosen(self.propose, lambda z: z, **where)

    def chosen(self, propose, lift, **where):
        """A proposal, or what MeZO-GV (1.5) makes of M of them; `lift` makes a direction of a proposal, linearly."""
        if self.o.guide == "none":
            return propose()
        z = [propose() for _ in range(self.o.candidates)]
        losses = [self.at(self.o.eps, lift(zi), **where) for zi in z]
        order = np.argsort(losses, kind="stable")
        if self.o.guide == "greedy":
            return z[order[0]]
        m = len(z)
        k = min(max(math.floor(self.o.alpha * m), 1), m - 1)
        share = {i: 1 / k if place < k else -1 / (m - k) for place, i in enumerate(order)}
        return combination([share[i] for i in range(m)], z)

    def decay(self):
        """lam * theta where the rule of 4.3 says so: not for vectors, not for embeddings."""
        exempt = [a.ndim < 2 or "embed" in n for a, n in zip(self.w, self.names, strict=True)]
        return [0 * a if no else self.o.weight_decay * a for a, no in zip(self.w, exempt, strict=True)]

    def descend(self, estimate, lr=None):
        lr = self.o.lr if lr is None else lr
        self.w = [a - lr * (e + d) for a, e, d in zip(self.w, estimate, self.decay(), strict=True)]

    def slopes(self, z, sides="two"):
        """Projected gradients along several z, all at one theta."""
        if sides == "two":
            return [self.two_sided(zj) for zj in z]
        here = self.here()
        return [(self.at(self.o.eps, zj) - here) / self.o.eps for zj in z]

    def estimate(self, n, sides="two"):
        """mean_j g_j z_j, all at one theta."""
        z = [self.direction() for _ in range(n)]
        return average([times(g, zj) for g, zj in zip(self.slopes(z, sides), z, strict=True)])

    def queries(self):
        """(how many, one- or two-sided)"""
        return getattr(self.o, "queries", getattr(self.o, "n", 1)), getattr(self.o, "sides", "two")

    def layers(self, level="layer"):
        """Tensors by layer: what comes before the first numbered layer, each such layer, what comes after."""
        found, seen = {}, False
        for i, name in enumerate(self.names):
            parts = name.split(".")
            at = next((k for k, part in enumerate(parts) if part.isdigit()), None)
            if level == "linear":
                key = ".".join(parts[:-1])
            elif at is None:
                key = ("head" if seen else "embedding") if level == "layer" else ".".join(parts[:-1])
            else:
                key, seen = ".".join(parts[: at + (1 if level == "layer" else 2)]), True
            found.setdefault(key, []).append(i)
        return list(found.values())

    def only(self, z, kept):
        return [a if i in kept else 0 * a for i, a in enumerate(z)]

    def zeros(self, fill=0.0):
        return [np.full_like(a, fill) for a in self.w]


def combination(shares, several):
    """sum_i shares_i z_i, of arrays or of lists of them."""
    if isinstance(several[0], list):
        return [combination(shares, items) for items in zip(*several, strict=True)]
    return sum(c * a for c, a in zip(shares, several, strict=True))


def times(c, z):
    return [c * a for a in z]


def plus(a, b):
    return [x + y for x, y in zip(a, b, strict=True)]


def average(several):
    return [sum(arrays) / len(several) for arrays in zip(*several, strict=True)]


def total(several):
    return [sum(arrays) for arrays in zip(*several, strict=True)]


def ema(old, beta, new):
    return [beta * a + (1 - beta) * b for a, b in zip(old, new, strict=True)]


def norm(z):
    return math.sqrt(sum(float((a * a).sum()) for a in z))


def matrix(a):
    """(m, n) view of a tensor of two dimensions or more."""
    return a.reshape(a.shape[0], -1)


def rank_of(a, rank):
    return min(rank, *matrix(a).shape)


# --- 1.3 to 1.5: MeZO and its variants ---


@oracle_of("mezo")
class MeZO(Oracle):
    def update(self):
        z = self.direction()
        g = self.two_sided(z)
        self.descend(times(g, z))


@oracle_of("mezo-nspsa")
class NSPSA(Oracle):
    def update(self):
        o, n = self.o, self.o.n
        if o.schedule == "linear":
            n = max(1, math.floor((self.t + 1) / o.total_steps * o.n))
        estimates = []
        for j in range(n):
            batch = j if o.resample_batch and j else None  # None: the minibatch of the step
            z = self.direction(batch=batch)
            estimates.append(times(self.two_sided(z, batch=batch), z))
        ghat = average(estimates)
        self.descend(ghat if o.average else times(n, ghat))


@oracle_of("mezo-gv")
class GV(Oracle):
    guide = "gv"

    def start(self):
        self.o.guide = self.guide

    update = MeZO.update


@oracle_of("mezo-greedy")
class Greedy(GV):
    guide = "greedy"


class Remembering(Oracle):
    """Moments kept, or recomputed from the last `history` estimates, which drops the older ones."""

    def start(self):
        self.past = []  # the newest first

    def moment(self, beta, power=1):
        """(1 - beta) sum_k beta^age ghat_k^power."""
        kept = self.past[: self.o.history] if getattr(self.o, "moments", "") == "recomputed" else self.past
        total = self.zeros()
        for age, ghat in enumerate(kept):
            total = [a + (1 - beta) * beta**age * g**power for a, g in zip(total, ghat, strict=True)]
        return total


@oracle_of("mezo-momentum", "zo-sgd-mmt")
class Momentum(Remembering):
    """torch's SGD with momentum: buf = b buf + ghat, the first buf is ghat."""

    def update(self):
        self.past.insert(0, plus(self.estimate(*self.queries()), self.decay()))
        b = self.o.momentum
        kept = self.past[: self.o.history] if getattr(self.o, "moments", "") == "recomputed" else self.past
        buf = self.zeros()
        for age, ghat in enumerate(kept):
            buf = plus(buf, times(b**age, ghat))
        self.w = [a - self.o.lr * x for a, x in zip(self.w, buf, strict=True)]


@oracle_of("mezo-adam", "zo-adam")
class Adam(Remembering):
    def update(self):
        self.past.insert(0, plus(self.estimate(*self.queries()), self.decay()))
        t, b1, b2 = self.t + 1, self.o.beta1, self.o.beta2
        m, v = self.moment(b1), self.moment(b2, 2)
        self.w = [
            a - self.o.lr * (x / (1 - b1**t)) / (np.sqrt(y / (1 - b2**t)) + self.o.adam_eps)
            for a, x, y in zip(self.w, m, v, strict=True)
        ]


@oracle_of("mezo-onepoint")
class OnePoint(Oracle):
    def update(self):
        if self.t == 0:
            self.previous = self.at(self.o.eps, self.propose())
        z = self.direction()
        current = self.at(self.o.eps, z)
        g = (current - self.previous) / self.o.eps
        self.descend(times(g, z))
        self.previous = current


class Scaled(Oracle):
    """Every layer has a scale D_l: the norm of its parameters, or |slope| along its own direction."""

    def scales(self):
        """Of a layer: its parameters' norm, or the root mean square of the slopes along `probes` directions on it alone."""
        found = {}
        z = [self.noise.z() for _ in range(self.o.probes)] if self.o.scale == "gradient" else None
        for layer in self.layers():
            if z is None:
                size = norm([self.w[i] for i in layer])
            else:
                size = math.sqrt(np.mean([self.two_sided(self.only(zj, layer)) ** 2 for zj in z]))
            found |= dict.fromkeys(layer, size if size > 0 else 1.0)
        return found

    def propose(self):
        return self.perturbed(self.noise.z())

    def perturbed(self, z):
        return [a / self.scale[i] for i, a in enumerate(z)]

    def update(self):
        if self.o.scale == "none":
            self.scale = dict.fromkeys(range(len(self.w)), 1.0)
        elif self.t == 0 or (self.o.recompute and self.t % self.o.recompute == 0):
            self.scale = self.scales()
        w = self.direction()
        g = self.two_sided(w)
        self.descend(times(g, self.updated(w)))


@oracle_of("mezo-var")
class Var(Scaled):
    def updated(self, w):
        return [a * self.scale[i] ** 2 for i, a in enumerate(w)]  # u = D z = D^2 w


@oracle_of("mezo-exp")
class Exp(Scaled):
    def updated(self, w):
        return [a * self.scale[i] for i, a in enumerate(w)]  # z = D w


@oracle_of("mezo-layerwise")
class Layerwise(Oracle):
    def propose(self):
        layers = self.layers()
        return self.only(self.noise.z(), layers[self.t % len(layers)])

    def decay(self):
        """Of the layer of the step alone: our reading."""
        layers = self.layers()
        return self.only(super().decay(), layers[self.t % len(layers)])

    update = MeZO.update


# --- 1.6 to 1.10 ---


@oracle_of("s2p")
class S2P(Oracle):
    def update(self):
        o = self.o
        s = self.direction()
        gamma = self.two_sided(s) if o.option != 1 or o.sign_trick else None
        if o.option == 1:
            a = o.lr / math.sqrt(self.t + 1 if o.schedule == "sqrt" else o.total_steps)
        elif o.option == 2:
            a = o.lr * abs(gamma) / (o.lipschitz * self.d)
        else:
            a = o.lr * abs(gamma) / ((1.01 * o.l0 + math.sqrt(2) * 1.01 * o.l1 * abs(gamma)) * self.d)
        if o.sign_trick:
            sign = np.sign(gamma)
        else:
            sign = 1.0 if self.at(-a, s) < self.at(a, s) else -1.0
        self.w = [x - a * sign * b for x, b in zip(self.w, s, strict=True)]


@oracle_of("vs2p")
class VS2P(Oracle):
    def start(self):
        self.window = []

    def update(self):
        o = self.o
        s = self.direction()
        gamma = self.two_sided(s)
        self.window = [*self.window, gamma][-o.window :]
        sigma = float(np.std(self.window)) if len(self.window) > 1 else abs(gamma)
        if gamma == 0:
            return
        tau_a = tau_b = 3.0
        decay = {"constant": 1.0, "linear": 1 - self.t / (o.total_steps or 1)}.get(o.schedule)
        decay = 0.5 * (1 + math.cos(math.pi * self.t / o.total_steps)) if decay is None else decay
        a = decay * o.lr * o.eps / (tau_b * sigma / abs(gamma) + tau_b / tau_a)
        self.w = [x - np.sign(gamma) * a * b for x, b in zip(self.w, s, strict=True)]


@oracle_of("stp")
class STP(Oracle):
    def update(self):
        s = times(1 / math.sqrt(self.d), self.direction())  # a unit vector, or nearly
        a = self.o.lr / (self.t + 1) ** {"sqrt": 0.5, "inverse": 1.0, "constant": 0.0}[self.o.schedule]
        points = [self.w, plus(self.w, times(a, s)), plus(self.w, times(-a, s))]
        losses = [self.here(w=p) for p in points]
        self.w = points[int(np.argmin(losses))]


@oracle_of("brs")
class BRS(Oracle):
    def update(self):
        o = self.o
        u = [self.direction() for _ in range(o.n)]
        if o.sides == "one":
            here = self.here()
            difference = [self.at(o.eps, ui) - here for ui in u]
            width = o.eps
        else:
            difference = [self.at(o.eps, ui) - self.at(-o.eps, ui) for ui in u]
            width = 2 * o.eps
        g = [x / width if o.divide_by_nu else x for x in difference]
        if o.normalise:  # the augmented search: by the deviation of all rewards of the step
            rewards = [self.at(side * o.eps, ui) for ui in u for side in ((1, -1) if o.sides == "two" else (1,))]
            g = [x / np.std(rewards if o.sides == "two" else [*rewards, here]) for x in g]
        self.descend(average([times(gi, ui) for gi, ui in zip(g, u, strict=True)]))


@oracle_of("zo-sgd-sign")
class Sign(Oracle):
    def update(self):
        z = [self.direction() for _ in range(self.o.n)]
        g = self.slopes(z, self.o.sides)
        if self.o.sign_of == "vector":
            ghat = average([times(gj, zj) for gj, zj in zip(g, z, strict=True)])
            self.descend([np.sign(a) for a in ghat])
        else:
            self.descend(average([times(np.sign(gj), zj) for gj, zj in zip(g, z, strict=True)]))


# --- 2: the peer benchmark's ---


@oracle_of("zo-sgd-cons")
class Conservative(Oracle):
    def update(self):
        z = self.direction()
        g = self.slopes([z], "one" if self.o.reuse else "two")[0]
        step = times(self.o.lr * g, z)
        points = [self.w, plus(self.w, times(-1, step)), plus(self.w, step)]
        self.w = points[int(np.argmin([self.here(w=p) for p in points]))]


@oracle_of("forward-grad")
class ForwardGrad(Oracle):
    def update(self):
        v = self.direction()
        c = sum(float((g * a).sum()) for g, a in zip(self.loss.gradient(self.w, None, self.t), v, strict=True))
        self.descend(times(c, v))


@oracle_of("zo-block")
class Block(Oracle):
    def propose(self):
        return self.only(self.noise.z(), self.block)

    def update(self):
        estimates = []
        for block in self.layers(self.o.level):
            self.block = block
            z = self.direction()
            g = self.two_sided(z)
            estimates.append(plus(times(g, z), self.only(self.decay(), self.block)))
            if self.o.immediate:
                self.move(estimates.pop())
        for estimate in estimates:
            self.move(estimate)

    def move(self, estimate):
        self.w = [a - self.o.lr * e for a, e in zip(self.w, estimate, strict=True)]


@oracle_of("zo-hybrid")
class Hybrid(Oracle):
    def propose(self):
        late = [i for layer in self.layers()[-self.o.late :] for i in layer]
        return self.only(self.noise.z(), set(range(len(self.w))) - set(late))

    def update(self):
        late = [i for layer in self.layers()[-self.o.late :] for i in layer]
        z = self.direction()
        g = self.two_sided(z)
        gradient = self.only(self.loss.gradient(self.w, None, self.t), late)
        if self.o.fo == "sgd":
            self.descend(plus(times(g, z), times(self.o.ratio, gradient)))
            return
        zero = self.zeros()
        self.m = ema(getattr(self, "m", zero), 0.9, gradient)
        self.v = ema(getattr(self, "v", zero), 0.999, [a * a for a in gradient])
        c1, c2 = 1 - 0.9 ** (self.t + 1), 1 - 0.999 ** (self.t + 1)
        adam = [m / c1 / (np.sqrt(v / c2) + 1e-8) for m, v in zip(self.m, self.v, strict=True)]
        self.descend(plus(times(g, z), times(self.o.ratio, adam)))


def quantile(a, q):
    """The smallest h such that at least a share q of the elements is not above it."""
    return np.quantile(np.abs(a), q, method="inverted_cdf")


@oracle_of("zo-sparse")
class Sparse(Oracle):
    """A share 1 - sparsity is trained: of small or large weights, or of elements chosen at random."""

    def start(self):
        o, everything = self.o, np.concatenate([a.ravel() for a in self.w])
        groups = [everything if o.groups == "global" else a for a in self.w]
        small = o.mask == "magnitude" and o.keep == "small"
        self.cut = [quantile(a, 1 - o.sparsity if small else o.sparsity) for a in groups]
        # A random mask takes only the densities from the weights.
        shares = [np.mean(np.abs(a) > h) for a, h in zip(self.w, self.cut, strict=True)]
        self.density = shares if o.groups == "global" else [1 - o.sparsity] * len(self.w)

    def mask(self):
        o = self.o
        if o.mask == "random":
            return self.kept
        if o.keep == "small":
            return [np.abs(a) <= h for a, h in zip(self.w, self.cut, strict=True)]
        return [np.abs(a) > h for a, h in zip(self.w, self.cut, strict=True)]

    def propose(self):
        return [a * m for a, m in zip(self.noise.z(), self.mask(), strict=True)]

    def update(self):
        if self.o.mask == "random" and self.t % self.o.resample == 0:
            # Uniform numbers of normal ones, by the distribution function of the normal law.
            phi = np.vectorize(lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2))), otypes=[float])
            self.kept = [phi(z) <= share for z, share in zip(self.noise.mask(), self.density, strict=True)]
        self.descend(self.estimate(*self.queries()))


# --- 3: the newer methods ---


@oracle_of("hizoo")
class HiZOO(Oracle):
    def start(self):
        self.h = self.zeros(1.0)

    def propose(self):
        return [a / np.sqrt(h) for a, h in zip(self.noise.z(), self.h, strict=True)]

    def update(self):
        o, eps = self.o, self.o.eps
        scaled = self.direction()
        here, up, down = self.here(), self.at(eps, scaled), self.at(-eps, scaled)
        z = [a * np.sqrt(h) for a, h in zip(scaled, self.h, strict=True)]
        c = abs(up + down - 2 * here) / (2 * eps**2)
        self.h = [(1 - o.smooth) * h + o.smooth * c * h * a * a for h, a in zip(self.h, z, strict=True)]
        self.h = [np.maximum(h, 1e-12) for h in self.h]
        g = (up - down) / (2 * eps)
        self.descend([g * a / np.sqrt(h) for a, h in zip(z, self.h, strict=True)])


class LowRank(Oracle):
    """Z = U V^T: U (m, r) each step, V (n, r) each `interval` steps; vectors take a Gaussian z."""

    U, V = 2, 3

    def refresh(self):
        r = self.o.rank
        self.right = [
            self.noise.array(i, self.V, (matrix(a).shape[1], rank_of(a, r))) if a.ndim >= 2 else None
            for i, a in enumerate(self.w)
        ]

    def factors(self):
        z, found = self.noise.z(), []
        for i, a in enumerate(self.w):
            if a.ndim >= 2:
                found.append(self.noise.array(i, self.U, (matrix(a).shape[0], rank_of(a, self.o.rank))))
            else:
                found.append(z[i])
        return found

    def product(self, left):
        return [
            u if v is None else (u @ v.T).reshape(a.shape) for u, v, a in zip(left, self.right, self.w, strict=True)
        ]

    def propose(self):
        return self.product(self.factors())


@oracle_of("lozo")
class LOZO(LowRank):
    def update(self):
        if self.t % self.o.interval == 0:
            self.refresh()
        z = self.direction()
        g = self.two_sided(z)
        self.descend(times(g, z))


@oracle_of("lozo-m")
class LOZOM(LowRank):
    """The momentum is N (m, r) on the current V; at a refresh it is projected on the new one."""

    def start(self):
        self.kept = None

    def update(self):
        b = self.o.beta
        if self.t % self.o.interval == 0:
            old = getattr(self, "right", None)
            self.refresh()
            if self.kept is not None:
                self.kept = [
                    k if v is None else k @ (before.T @ v) / matrix(a).shape[1]
                    for k, before, v, a in zip(self.kept, old, self.right, self.w, strict=True)
                ]
        u = self.chosen(self.factors, self.product)
        g = self.two_sided(self.product(u))
        self.kept = times(g, u) if self.kept is None else ema(self.kept, b, times(g, u))
        self.descend(self.product(self.kept))


@oracle_of("sparse-mezo")
class SparseMeZO(Oracle):
    def start(self):
        self.threshold = [quantile(a, 1 - self.o.sparsity) for a in self.w]

    def propose(self):
        return [z * (np.abs(a) <= h) for z, a, h in zip(self.noise.z(), self.w, self.threshold, strict=True)]

    update = MeZO.update


def orthonormal(a):
    """Q of a QR factorisation with the signs of Gram and Schmidt."""
    found = []
    for column in a.T:
        for q in found * 2:  # twice, for the digits
            column = column - (q @ column) * q
        found.append(column / np.linalg.norm(column))
    return np.stack(found, 1)


@oracle_of("subzero")
class SubZero(Oracle):
    def shape(self, a):
        """(m, n); of a very rectangular matrix the most square one of as many elements."""
        m, n = matrix(a).shape
        if max(m, n) <= self.o.aspect * min(m, n):
            return m, n
        side = max(k for k in range(1, math.isqrt(a.size) + 1) if a.size % k == 0)
        return side, a.size // side

    def refresh(self):
        self.u, self.v = {}, {}
        for i, a in enumerate(self.w):
            if a.ndim >= 2:
                m, n = self.shape(a)
                r = min(self.o.rank, m, n)
                self.u[i] = orthonormal(self.noise.array(i, 2, (m, r)))
                self.v[i] = orthonormal(self.noise.array(i, 3, (n, r))).T

    def propose(self):
        z, found = self.noise.z(), []
        for i, a in enumerate(self.w):
            if a.ndim < 2:
                found.append(z[i])
                continue
            (m, n), r = self.shape(a), self.u[i].shape[1]
            core = self.noise.array(i, 0, (r, r))
            found.append((self.u[i] @ core @ self.v[i] * math.sqrt(m * n / r**2)).reshape(a.shape))
        return found

    def update(self):
        if self.t % self.o.interval == 0:
            self.refresh()
        MeZO.update(self)


@oracle_of("mezo-svrg")
class SVRG(Oracle):
    """lr is eta_2, anchor * lr is eta_1; both are divided by `anneal` when the loss has risen by 5 %, window by window."""

    def start(self):
        self.slowed, self.losses = 1.0, []

    def rate(self, whole, floor):
        return max(whole / self.slowed, floor) if self.slowed > 1 else whole

    def update(self):
        o = self.o
        z = self.direction()
        if self.t % o.q == 0:
            self.anchor = [a.copy() for a in self.w]
            batches = [None, *range(1, o.anchor_batches)]
            self.gbar = times(np.mean([self.two_sided(z, batch=b) for b in batches]), z)
            probes = [self.at(side * o.eps, z, batch=b) for b in batches for side in (1, -1)]
            self.descend(self.gbar, self.rate(o.lr * o.anchor, 1e-5))
        else:
            probes = [self.at(side * o.eps, z) for side in (1, -1)]
            now, then = self.two_sided(z), self.two_sided(z, w=self.anchor)
            self.descend(plus(times(now - then, z), self.gbar), self.rate(o.lr, 1e-6))
        if o.anneal:
            self.losses.append(np.mean(probes))
            if len(self.losses) % o.window == 0 and len(self.losses) >= 2 * o.window:
                before, last = self.losses[-2 * o.window : -o.window], self.losses[-o.window :]
                if np.mean(last) > 1.05 * np.mean(before):
                    self.slowed *= o.anneal


@oracle_of("zo-adamu")
class AdaMU(Oracle):
    """Momentum in the perturbation; alpha, b1, b2 fall from 1 along half a cosine between T1 and T2.

    recomputed: m is the noise of the last `history` steps, each with the coefficient that it has by now.
    """

    ends = (0.5, 0.9, 0.01)

    def start(self):
        self.past = []  # noise in m, the newest first

    def phases(self):
        first, last = self.o.start, 0.8 * self.o.total_steps
        if self.t < first:
            return 1.0, 1.0, 1.0
        if self.t >= last:
            return self.ends
        wave = 0.5 * (1 + math.cos(math.pi * (self.t - first) / (last - first)))
        return tuple(end + (1 - end) * wave for end in self.ends)

    def update(self):
        alpha, b1, b2 = self.phases()

        def parts():
            """zdot, zddot - m, m; these as terms"""
            return [
                times(math.sqrt(alpha), self.noise.z(0)),
                times(math.sqrt(1 - alpha), self.noise.z(1)),
                *self.past,
            ]

        def lift(found):
            return plus(times(b1, found[0]), times(1 - b1, total(found[1:])))

        first, other, *past = self.chosen(parts, lift)
        second = total([other, *past])
        m = plus(times(b1, first), times(1 - b1, second))
        v = [b2 * a**2 + (1 - b2) * b**2 for a, b in zip(first, second, strict=True)]
        g = self.two_sided(m)
        self.descend([g * a / np.sqrt(b + 1e-8) for a, b in zip(m, v, strict=True)])
        self.past = [plus(times(b1, first), times(1 - b1, other)), *(times(1 - b1, z) for z in past)]
        if self.o.moments == "recomputed":
            self.past = self.past[: self.o.history]


@oracle_of("r-adazo")
class RAdaZO(Oracle):
    """recomputed: running means of the last `history` estimates, as if the older ones had been like them."""

    def start(self):
        self.past = []  # estimates, the newest first

    def mean(self, past, beta, t):
        moment = total([times((1 - beta) * beta**age, a) for age, a in enumerate(past)])
        return times((1 - beta**t) / (1 - beta ** len(past)), moment)

    def update(self):
        o, t = self.o, self.t + 1
        mu = o.mu / math.sqrt(self.d)
        u = [self.direction() for _ in range(o.n)]
        here = self.here()
        ghat = average([times((self.at(mu, ui) - here) / mu, ui) for ui in u])
        self.past = [plus(ghat, self.decay()), *self.past]
        if o.moments == "recomputed":
            self.past = self.past[: o.history]
        means = [self.mean(self.past[age:], o.beta1, t - age) for age in range(len(self.past))]
        m, v = means[0], self.mean([[a * a for a in mean] for mean in means], o.beta2, t)
        if o.bias_correction:
            m, v = times(1 / (1 - o.beta1**t), m), times(1 / (1 - o.beta2**t), v)
        self.w = [a - o.lr * x / (np.sqrt(y) + o.adam_eps) for a, x, y in zip(self.w, m, v, strict=True)]


@oracle_of("fzoo")
class FZOO(Oracle):
    def update(self):
        o = self.o
        u = [self.direction() for _ in range(o.n)]
        losses = [self.at(o.eps, ui) for ui in u]
        here = self.here()
        sigma = float(np.std(losses))  # of the population, as in the code
        if o.form == "paper":
            sigma = float(np.std(losses, ddof=1)) * o.eps
        if sigma == 0:
            return
        total = self.zeros()
        for value, ui in zip(losses, u, strict=True):
            total = plus(total, times((value - here) / (o.n * sigma), ui))
        self.descend(total)


@oracle_of("conmezo")
class ConMeZO(Oracle):
    """recomputed: m is a sum of the noise of the last `history` steps."""

    def start(self):
        self.past = []  # noise in m, the newest first

    def beta(self):
        """0.1, then from 0.1 to the target between steps 200 and 2000, where `warmup` is 2000."""
        begin, end, target = self.o.warmup / 10, self.o.warmup, self.o.beta
        if self.t >= end:
            return target
        if self.t <= begin:
            return 0.1
        p = ((self.t - begin) / (end - begin)) ** 1.8
        return target - (target - 0.1) / (1 + 8 * p) ** 3

    def parts(self):
        """sin u and, one by one, the terms of cos sqrt(d) m / |m|."""
        u = self.propose()
        if not self.past:
            return [u]
        along = math.cos(self.o.cone) * math.sqrt(self.d) / norm(total(self.past))
        return [times(math.sin(self.o.cone), u), *(times(along, z) for z in self.past)]

    def update(self):
        parts = self.chosen(self.parts, total)
        z = total(parts)
        g, b = self.two_sided(z), self.beta()
        self.descend(times(g, z))
        old = [self.zeros(), *self.past]
        self.past = [plus(times(b, a), times((1 - b) * g, c)) for a, c in zip(old, parts, strict=False)]
        if self.o.moments == "recomputed":
            self.past = self.past[: self.o.history]


def newton_schulz(g):
    x = g / (np.linalg.norm(g) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


@oracle_of("zo-muon")
class ZOMuon(Oracle):
    def start(self):
        self.p = [None] * len(self.w)

    def factors(self):
        """u (r, n) on matrices, z on vectors."""
        z = self.noise.z()
        return [
            f if p is None else self.noise.array(i, 0, (p.shape[1], matrix(a).shape[1]))
            for i, (f, p, a) in enumerate(zip(z, self.p, self.w, strict=True))
        ]

    def lift(self, factors):
        return [f if p is None else (p @ f).reshape(a.shape) for f, p, a in zip(factors, self.p, self.w, strict=True)]

    def update(self):
        o = self.o
        if self.t % o.interval == 0:
            for i, a in enumerate(self.w):
                if a.ndim >= 2:
                    self.p[i] = orthonormal(self.noise.array(i, 2, (a.shape[0], rank_of(a, o.rank))))
        u = [self.chosen(self.factors, self.lift) for _ in range(o.n)]
        g = self.slopes([self.lift(ui) for ui in u], "two" if o.opt == "sgd" else "one")
        mean = average([times(gi, ui) for gi, ui in zip(g, u, strict=True)])
        if o.opt == "muon":
            mean = [o.vector_lr * m if p is None else newton_schulz(m) for p, m in zip(self.p, mean, strict=True)]
        self.descend(self.lift(mean))


@oracle_of("addax")
class Addax(Oracle):
    def update(self):
        a = self.o.mix
        far, near = ("long", "short") if self.o.split == "length" else (None, 1)
        z = self.direction(batch=far)
        g0 = self.two_sided(z, batch=far)
        g1 = self.loss.gradient(self.w, near, self.t)
        self.descend(plus(times(a * g0, z), times(1 - a, g1)))


@oracle_of("meazo")
class MEAZO(Oracle):
    def start(self):
        self.v = 0.0

    def update(self):
        o = self.o
        z = [self.direction() for _ in range(o.n)]
        g = [self.two_sided(zj) for zj in z]
        self.v = o.beta * self.v + (1 - o.beta) * float(np.mean(g)) ** 2
        vhat = self.v / (1 - o.beta ** (self.t + 1))
        mean = average([times(gj, zj) for gj, zj in zip(g, z, strict=True)])
        self.descend(times(1 / (math.sqrt(vhat) + o.zeta), mean))


@oracle_of("dizo")
class DiZO(Oracle):
    def start(self):
        self.first = [a.copy() for a in self.w]

    def projected(self):
        return [i for i, n in enumerate(self.names) if ("k_proj" in n or "v_proj" in n) and n.endswith("weight")]

    def update(self):
        MeZO.update(self)
        if (self.t + 1) % self.o.interval == 0:
            self.project()

    def project(self):
        o, kept = self.o, self.projected()
        offset = {j: self.w[j] - self.first[j] for j in kept}
        size = {j: float(np.linalg.norm(offset[j])) for j in kept}
        gamma = dict(size)

        def placed(values):
            return [self.first[j] + values[j] / size[j] * offset[j] if j in size else a for j, a in enumerate(self.w)]

        for _ in range(o.inner):
            z = {j: float(self.noise.array(j, 0, (1,))[0]) for j in kept}
            z = {j: float(np.clip(z[j], -o.tau * size[j] / o.radius, o.tau * size[j] / o.radius)) for j in kept}
            up = self.here(w=placed({j: gamma[j] + o.radius * z[j] for j in kept}))
            down = self.here(w=placed({j: gamma[j] - o.radius * z[j] for j in kept}))
            g = (up - down) / (2 * o.radius)
            for j in kept:
                moved = gamma[j] - o.step_size * size[j] * g * z[j]
                gamma[j] = min(max(moved, (1 - o.tau) * size[j]), (1 + o.tau) * size[j])
        self.w = placed(gamma)


@oracle_of("tezo")
class TeZO(Oracle):
    """Z = U diag(tau) V^T with U, V fixed for the run; moments are kept of tau (and of z on vectors)."""

    def start(self):
        self.m = self.v = None

    def factors(self):
        """One rank for all matrices."""
        r = self.o.rank
        draw = lambda i, a, side: self.noise.array(i, 2 + side, (matrix(a).shape[side], r)) if a.ndim >= 2 else None  # noqa: E731
        self.u, self.right = ([draw(i, a, side) for i, a in enumerate(self.w)] for side in (0, 1))

    def taus(self):
        z = self.noise.z()
        return [z[i] if a.ndim < 2 else self.noise.array(i, 0, (self.o.rank,)) for i, a in enumerate(self.w)]

    def lift(self, tau, power=1):
        return [
            t if a.ndim < 2 else (u**power @ np.diag(t) @ (v**power).T).reshape(a.shape)
            for t, u, v, a in zip(tau, self.u, self.right, self.w, strict=True)
        ]

    def update(self):
        o = self.o
        if self.t == 0:
            self.factors()
        tau = self.chosen(self.taus, self.lift)
        g = self.two_sided(self.lift(tau))
        ghat = times(g, tau)
        if o.variant == "plain":
            self.descend(self.lift(ghat))
            return
        self.m = ema(self.m or times(0.0, ghat), o.beta1, ghat)
        if o.variant == "m":
            self.descend(self.lift(self.m))
            return
        self.v = ema(self.v or times(0.0, ghat), o.beta2, [a * a for a in ghat])
        t = self.t + 1
        m, v = self.lift(self.m), self.lift(self.v, 2)
        m, v = times(1 / (1 - o.beta1**t), m), times(1 / (1 - o.beta2**t), v)
        self.descend([x / (np.sqrt(y) + o.adam_eps) for x, y in zip(m, v, strict=True)])


@oracle_of("adamezo")
class AdaMeZO(Oracle):
    def start(self):
        self.past = []

    def update(self):
        o = self.o
        z = self.direction()
        ghat = times(self.two_sided(z), z)
        self.past = [ghat, *self.past][: o.history]
        if self.t < o.history:
            self.descend(ghat)
            return
        m, v = self.zeros(), self.zeros()
        for age, g in enumerate(self.past):
            m = plus(m, times(o.beta1**age, g))
            v = plus(v, times(o.beta2**age, [a * a for a in g]))
        self.descend([o.scale * x / (np.sqrt(y) + o.adam_eps) for x, y in zip(m, v, strict=True)])


@oracle_of("kerzoo")
class KerZOO(Oracle):
    def update(self):
        o = self.o
        estimates = []
        for _ in range(o.n):
            u, r = self.direction(), 2 * self.noise.uniform() - 1
            kernel = o.scale * 15 / 4 * r * (5 - 7 * r**2)
            g = (self.at(o.eps * r, u) - self.at(-o.eps * r, u)) / (2 * o.eps) * kernel
            estimates.append(times(g, u))
        self.descend(average(estimates))


@oracle_of("adazeta-q")
class AdaZeta(Oracle):
    def update(self):
        o = self.o
        epoch = self.t // o.steps_per_epoch
        queries = min(max(int(o.shrink * epoch**o.rate), 1), o.most)
        self.descend(self.estimate(queries))


@oracle_of("lezo")
class LeZO(Oracle):
    def update(self):
        self.kept = self.active()
        MeZO.update(self)

    def propose(self):
        return self.only(self.noise.z(), self.kept)

    def active(self):
        """(1 - sparsity) of the layers: those with the lowest of as many random numbers."""
        layers = self.layers()
        keys = self.noise.array(0, 1, (len(layers),))
        count = max(1, round((1 - self.o.sparsity) * len(layers)))
        return [i for k in np.argsort(keys)[:count] for i in layers[k]]


@oracle_of("es")
class ES(Oracle):
    def update(self):
        o = self.o
        z = [self.direction() for _ in range(o.population)]
        rewards = np.array([-self.at(o.eps, zi) for zi in z])
        scores = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
        move = average([times(r, zi) for r, zi in zip(scores, z, strict=True)])
        self.descend(times(-1, move))


@oracle_of("zo-adamm")
class ZOAdaMM(Oracle):
    """AMSGrad of (d / mu) (f(x + mu u) - f(x)) u, u on the unit sphere; v and its maximum start at 1e-7."""

    def start(self):
        self.m, self.v, self.vhat = self.zeros(), self.zeros(1e-7), self.zeros(1e-7)

    def update(self):
        o = self.o
        u = times(1 / math.sqrt(self.d), self.direction())
        mu = o.eps * math.sqrt(self.d)  # eps is in units of sqrt(d) u
        ghat = times(self.d / mu * (self.at(mu, u) - self.here()), u)
        ghat = plus(ghat, self.decay())
        self.m = ema(self.m, o.beta1, ghat)
        self.v = ema(self.v, o.beta2, [a * a for a in ghat])
        self.vhat = [np.maximum(a, b) for a, b in zip(self.vhat, self.v, strict=True)]
        self.w = [a - o.lr * m / np.sqrt(v) for a, m, v in zip(self.w, self.m, self.vhat, strict=True)]


class Quantised(Oracle):
    """w = scale * code: a scale for each row of a matrix (or for a tensor), whole codes of `bits` bits, symmetric."""

    def start(self):
        self.largest, self.scale, self.code = 2 ** (self.o.bits - 1) - 1, [], []
        for a in self.w:
            rows = matrix(a) if self.o.scales == "row" and a.ndim >= 2 else a.reshape(1, -1)
            self.scale.append(np.abs(rows).max(1) / self.largest)
            self.code.append(np.round(rows / self.scale[-1][:, None]))
        self.w = self.weights(self.scale, self.code)

    def weights(self, scale, code):
        return [(c * s[:, None]).reshape(a.shape) for a, s, c in zip(self.w, scale, code, strict=True)]

    def steps(self):
        """The distance of two neighbours on the grid, for every element."""
        return self.weights(self.scale, [np.ones_like(c) for c in self.code])


@oracle_of("quzo")
class QuZO(Quantised):
    def rounded(self, z):
        """Whole steps of the grid, up or down by chance, so that the mean stays."""
        return [np.floor(a / s + u) * s for a, s, u in zip(z, self.steps(), self.noise.uniforms(), strict=True)]

    def update(self):
        o, z, first = self.o, [], []
        for _ in range(o.n):
            z.append(self.noise.z())
            first.append(times(1 / o.eps, self.rounded(times(o.eps, z[-1]))))
        mu = [self.two_sided(u) for u in first]
        second = [times(1 / o.eps, self.rounded(times(o.eps, zi))) for zi in z]
        move = plus(average([times(m, u) for m, u in zip(mu, second, strict=True)]), self.decay())
        move = self.rounded(times(o.lr, move))
        for i, (c, s) in enumerate(zip(self.code, self.scale, strict=True)):
            steps = np.round(move[i].reshape(c.shape) / s[:, None])
            self.code[i] = np.clip(c - steps, -self.largest, self.largest)
        self.w = self.weights(self.scale, self.code)


@oracle_of("qzo")
class QZO(Quantised):
    def update(self):
        o = self.o
        z = [self.noise.array(i, 0, s.shape) for i, s in enumerate(self.scale)]
        up, down = (self.here(w=self.weights(plus(self.scale, times(r, z)), self.code)) for r in (o.eps, -o.eps))
        d = min(max((up - down) / (2 * o.eps), -o.clip), o.clip)
        self.scale = [np.maximum(s - o.lr * d * a, 0) for s, a in zip(self.scale, z, strict=True)]
        self.w = self.weights(self.scale, self.code)


# --- 1.1, 1.2, 1.11: first order ---


class FirstOrder(Oracle):
    def update(self):
        self.move(self.loss.gradient(self.w, None, self.t), self.t + 1)


@oracle_of("sgd", "sgd-momentum")
class SGD(FirstOrder):
    def move(self, g, t):
        b = getattr(self.o, "momentum", 0.0)
        self.buf = plus(times(b, self.buf), g) if t > 1 else g
        self.w = [a - self.o.lr * x for a, x in zip(self.w, self.buf, strict=True)]


@oracle_of("adagrad")
class Adagrad(FirstOrder):
    def move(self, g, t):
        self.sum = [s + a * a for s, a in zip(getattr(self, "sum", self.zeros()), g, strict=True)]
        self.w = [a - self.o.lr * x / (np.sqrt(s) + 1e-10) for a, x, s in zip(self.w, g, self.sum, strict=True)]


@oracle_of("rmsprop")
class RMSprop(FirstOrder):
    def move(self, g, t):
        self.v = ema(getattr(self, "v", self.zeros()), 0.99, [a * a for a in g])
        self.w = [a - self.o.lr * x / (np.sqrt(v) + 1e-8) for a, x, v in zip(self.w, g, self.v, strict=True)]


@oracle_of("adam", "adamw", "adaptive")
class FirstOrderAdam(FirstOrder):
    """adam: weight decay is in the gradient; adamw, adaptive: decoupled. adaptive clips, and slows down late."""

    def start(self):
        self.m, self.v, self.kappa = self.zeros(), self.zeros(), 1.0

    def move(self, g, t):
        o, lr, wd = self.o, self.o.lr, self.o.weight_decay
        if hasattr(o, "clip"):
            if o.clip:
                g = times(min(1, o.clip / norm(g)), g)
            t0 = o.start * o.total_steps
            lr = lr * self.kappa * (min(1, t / o.warmup) if o.warmup else 1)
            lr = lr * (math.exp(-o.decay * max(0, t - t0) / (o.total_steps - t0)) if o.decay else 1)
        if o.decoupled:
            self.w = [a * (1 - lr * wd) for a in self.w]
        else:
            g = [a + wd * b for a, b in zip(g, self.w, strict=True)]
        self.m, self.v = ema(self.m, 0.9, g), ema(self.v, 0.999, [a * a for a in g])
        mhat, vhat = times(1 / (1 - 0.9**t), self.m), times(1 / (1 - 0.999**t), self.v)
        self.w = [a - lr * m / (np.sqrt(v) + 1e-8) for a, m, v in zip(self.w, mhat, vhat, strict=True)]


@oracle_of("galore", "i3s")
class GaLore(FirstOrder):
    """`indices`: which singular vectors span the subspace; the leading ones, or what i3s has drawn."""

    def start(self):
        self.basis, self.m, self.v = {}, {}, {}

    def move(self, g, t):
        o = self.o
        for i, a in enumerate(self.w):
            projected = a.ndim == 2 and "embed" not in self.names[i]
            right = projected and a.shape[0] >= a.shape[1]
            if projected and (t - 1) % o.gap == 0:
                u, _, vh = np.linalg.svd(g[i], full_matrices=False)
                indices = self.noise.indices(i) if hasattr(self.noise, "indices") else range(min(o.rank, *a.shape))
                basis = vh.T[:, indices] if right else u[:, indices]
                # A singular vector has no sign of its own, and the moments outlive it: both must take the same.
                self.basis[i] = basis * np.sign((basis * self.noise.basis(i)).sum(0))
            p = self.basis.get(i)
            r = g[i] if p is None else g[i] @ p if right else p.T @ g[i]
            self.m[i] = 0.9 * self.m.get(i, 0 * r) + 0.1 * r
            self.v[i] = 0.999 * self.v.get(i, 0 * r) + 0.001 * r * r
            eps = o.eps / math.sqrt(1 - 0.999**t) if o.eps_form == "released" else o.eps
            n = self.m[i] / (1 - 0.9**t) / (np.sqrt(self.v[i] / (1 - 0.999**t)) + eps)
            back = n if p is None else o.scale * (n @ p.T if right else p @ n)
            a = a - o.lr * back
            self.w[i] = a - o.lr * o.weight_decay * a
