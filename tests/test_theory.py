"""The convergence theory of n-SPSA, checked on the project's own optimizers: identities, rates, floors, and what must fail.

H_bar bounds the Hessian everywhere, l is its largest eigenvalue, r = tr(H_bar) / l its effective rank; q directions z a step,
E[z z'] = I. Then E f(x+) <= f - eta |grad f|^2 + eta^2 l gamma |grad f|^2 / 2 with gamma = 1 + (r + 1) / q for gaussian z, after
Malladi et al., arXiv:2305.17333, section 4, and Deng, Li, Mahadevan and Song, arXiv:2307.08352, who run it on softmax
regression. On quadratics these are identities, and sample means are held against them to 4 standard errors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from task_files import load_task
from torch import Tensor

from zobench.core.many import ManySeeds
from zobench.optimizers import MeZO, MeZONSPSA
from zobench.problems.regression import Batch, Regression
from zobench.spec import Setting

LAWS = ("gaussian", "sphere", "rademacher")
CLOSE, FAR = 4.0, 8.0  # standard errors within which a claim must hold, and beyond which a false one must miss
ELEMENTS = 1 << 17  # of the points that are stepped together


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The tensors are small: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Mean(NamedTuple):
    """A sample mean and its standard error."""

    value: float
    error: float

    def off(self, claim: float) -> float:
        """How many standard errors the claim misses by."""
        return abs(self.value - claim) / self.error


def mean(samples: Tensor) -> Mean:
    value = float(samples.mean())
    rounding = 1e-13 * abs(value)  # where every sample is the same number (signs on a diagonal Hessian)
    return Mean(value, float(samples.std()) / math.sqrt(len(samples)) + rounding)


class Steps(NamedTuple):
    """Many first steps from one point. slopes: the mean over a step's directions of the squared projected gradient."""

    after: Tensor  # (N,) f(x+)
    slopes: Tensor  # (N,)

    def steadied(self, squared_gradient: float) -> Tensor:
        """f(x+) less what the slopes, whose mean is |grad f|^2, explain of it: the same mean, a smaller error."""
        away = self.slopes - squared_gradient
        centred = away - away.mean()
        return self.after - (self.after @ centred) / centred.square().sum() * away


def optimizer_of(q: int, rate: float, law: str = "gaussian", eps: float = 1e-3):
    """mezo for one direction a step, mezo-nspsa for more."""
    if q == 1:
        return lambda slices, seed: MeZO(slices, rate, eps=eps, law=law, seed=seed)
    return lambda slices, seed: MeZONSPSA(slices, rate, eps=eps, n=q, law=law, seed=seed)


def first_steps(losses, start: Tensor, samples: int, *, q: int, rate: float, law: str = "gaussian") -> Steps:
    """`samples` steps from `start`: runs in lockstep, put back after every step; each step draws anew."""
    runs = min(samples, ELEMENTS // len(start))
    first = 10_000 * len(start)  # other seeds in other dimensions: directions that begin alike err alike
    many = ManySeeds({"x": start}, optimizer_of(q, rate, law), range(first, first + runs))
    after, slopes = [], []
    for _ in range(math.ceil(samples / runs)):
        many.stack["x"].copy_(start)
        many.step(losses)
        after.append(losses(many.stack))
        probes = np.stack(many.values[-2 * q :])
        slopes.append(torch.from_numpy((((probes[::2] - probes[1::2]) / 2e-3) ** 2).mean(0)))
        many.values.clear()
    return Steps(torch.cat(after), torch.cat(slopes))


def quadratic(h: Tensor):
    """Losses 1/2 x' diag(h) x of stacked points."""
    return lambda stack: 0.5 * stack["x"].square() @ h


def second_moment(h: Tensor, g: Tensor, q: int, law: str) -> float:
    """E[e' H e] of the estimate e of the gradient g, H = diag(h)."""
    d, gg, ghg = len(h), float(g @ g), float(h @ g.square())
    one = float(h.sum()) * gg + 2 * ghg
    if law == "sphere":
        one *= d / (d + 2)
    if law == "rademacher":
        one -= 2 * ghg
    return one / q + (1 - 1 / q) * ghg


# --- T1, T2, T3, T8: identities on quadratics ---


@pytest.mark.parametrize("q, samples", [(1, 100_000), (4, 25_000)])
@pytest.mark.parametrize("law", LAWS)
def test_one_step_on_a_quadratic_is_the_identity(law, q, samples):
    """T1. E f(x+) = f - eta |g|^2 + eta^2 E[e' H e] / 2, and another law's identity is not met."""
    h, rate = torch.logspace(0, math.log10(0.05), 12, dtype=torch.float64), 0.05
    start = torch.ones(12, dtype=torch.float64)
    g, gg, value = h, float(h @ h), float(h.sum()) / 2
    steps = first_steps(quadratic(h), start, samples, q=q, rate=rate, law=law)
    claims = {name: value - rate * gg + rate**2 / 2 * second_moment(h, g, q, name) for name in LAWS}
    steadied = mean(steps.steadied(gg))
    assert mean(steps.slopes).off(gg) < CLOSE
    assert mean(steps.after).off(claims[law]) < CLOSE
    assert steadied.off(claims[law]) < CLOSE
    assert all(steadied.off(claim) > FAR for name, claim in claims.items() if name != law)


@pytest.mark.parametrize("q", (1, 5))
def test_the_best_rate_contracts_a_ball_by_one_minus_one_over_gamma(q):
    """T2. On |x|^2 / 2 with eta = 1 / gamma, E f(x+) / f = 1 - 1 / gamma; a gamma without its + 1 is refuted."""
    d, gamma = 20, 1 + 21 / q
    start = torch.ones(d, dtype=torch.float64)
    steps = first_steps(quadratic(start), start, 100_000 // q, q=q, rate=1 / gamma)
    ratio = mean(steps.after / (d / 2))
    steadied = mean(steps.steadied(d) / (d / 2))
    assert ratio.off(1 - 1 / gamma) < CLOSE and steadied.off(1 - 1 / gamma) < CLOSE
    assert steadied.off(1 - 1 / (1 + d / q)) > FAR


@pytest.mark.parametrize("q, samples", [(1, 10_000), (8, 4_000)])
def test_the_decrease_depends_on_the_effective_rank_and_not_on_the_dimension(q, samples):
    """T3. Spectra of trace 8 and largest eigenvalue 1 in ever more dimensions: at eta = 1 / (l gamma), x in the top eigenspace,
    the decrease is |g|^2 / (2 gamma) in all of them."""
    gamma, found = 1 + 9 / q, {}
    for d in (16, 64, 256, 1024):
        h = torch.full((d,), 4 / (d - 4), dtype=torch.float64)
        h[:4] = 1.0
        start = (torch.arange(d) < 4).double()
        steps = first_steps(quadratic(h), start, samples, q=q, rate=1 / gamma)
        normalised = lambda after: mean((2 - after) / 2)  # noqa: E731 - 2 l (f - f+) / |g|^2, with f = 2 and |g|^2 = 4
        plain, found[d] = normalised(steps.after), normalised(steps.steadied(4))
        assert plain.value > 1 / gamma - CLOSE * plain.error
        assert found[d].off(1 / gamma) < CLOSE
    trend, error = slope(np.log2(list(found)), list(found.values()))
    assert abs(trend) < CLOSE * error
    # what the dimension in the place of the rank would make of it
    assert all(found[d].off(2 / gamma - (1 + (d + 1) / q) / gamma**2) > FAR for d in (64, 256, 1024))


def slope(x: np.ndarray, y: list[Mean]) -> tuple[float, float]:
    """Of the weighted least-squares line, and its standard error."""
    weight = np.array([1 / m.error**2 for m in y])
    x = x - weight @ x / weight.sum()
    spread = weight @ x**2
    return float(weight * x @ np.array([m.value for m in y]) / spread), float(spread**-0.5)


def test_four_times_the_best_rate_diverges_in_mean():
    """T8, the negative control. At eta = c / gamma the ratio is 1 - (2 c - c^2) / gamma: 1 + 8 / gamma for c = 4, 1 for c = 2."""
    d, gamma = 20, 22
    start = torch.ones(d, dtype=torch.float64)
    for c, samples in ((1, 20_000), (4, 100_000)):
        steps = first_steps(quadratic(start), start, samples, q=1, rate=c / gamma)
        ratio = mean(steps.after / (d / 2))
        assert ratio.off(1 - (2 * c - c * c) / gamma) < CLOSE
        assert (ratio.value > 1) == (c == 4) and ratio.off(1) > FAR


# --- T7: minibatches ---


def test_a_minibatch_adds_its_share_of_the_rows_variance():
    """T7. E |grad f_B|^2 = |grad f|^2 + tr(Cov of the rows' gradients) / B, for the task's batches and for mezo's slopes on them;
    the variance is a multiple alpha (f - f*) of the gap on the way to x*, where it vanishes."""
    size, samples = 4, 100_000
    problem: Regression = load_task("rows_ce").build(Setting(), batch=size)
    x = problem.oracle.start()
    whole, variance = moments_of_rows(problem, x)
    claim = whole + variance / size
    rows = torch.from_numpy(problem.exact.draw(np.random.RandomState(0), samples * size).reshape(samples, size))
    batch = Batch(rows, None, [0])
    drawn = gradients_of_rows(problem, x)[rows].mean(1)
    assert torch.allclose(problem.oracle.gradient(x, rows[7]), drawn[7], rtol=1e-10)
    squares = mean(drawn.square().sum(1))
    assert squares.value == pytest.approx(claim, rel=0.01)
    many = ManySeeds(dict(problem.model.named_parameters()), optimizer_of(1, 0.0), range(samples))
    many.step(lambda points: problem.values(points, batch))
    plus, minus = many.values
    slopes = mean(torch.from_numpy(((plus - minus) / 2e-3) ** 2))
    for found in (squares, slopes):
        assert found.off(claim) < CLOSE
        assert found.off(claim - variance / size) > FAR and found.off(claim + variance / size) > FAR
    assert problem.optimum is not None
    best = problem.oracle.flat(problem.optimum)
    way = [x + t * (best - x) for t in (0.0, 0.25, 0.5, 0.75, 0.99)]
    ratios = [moments_of_rows(problem, point)[1] / float(gaps(problem, problem.oracle.named(point))) for point in way]
    assert min(ratios) > 5 and max(ratios) < 9


def gradients_of_rows(problem: Regression, x: Tensor) -> Tensor:
    """(rows, D)"""
    return torch.stack([problem.oracle.gradient(x, torch.tensor([i])) for i in range(problem.exact.finite_sum)])


def moments_of_rows(problem: Regression, x: Tensor) -> tuple[float, float]:
    """Squared norm of the mean of the rows' gradients, and the trace of their covariance."""
    rows = gradients_of_rows(problem, x)
    return float(rows.mean(0).square().sum()), float((rows - rows.mean(0)).square().sum(1).mean())


# --- T4, T5: softmax regressions that are strongly convex ---


def centred(name: str, kappa: float) -> Regression:
    """|A| = |x*| = 4, regularised around x*: squared loss with mu = 1, cross-entropy with w^2 = 0.05."""
    mu = 1.0 if name == "softmax_l2" else 0.05 * (4 / kappa) ** 2
    return load_task(name).build(Setting(), scale="paper", reg="centred", kappa=kappa, mu=mu)


class Bounds(NamedTuple):
    """What the theory says of a problem: smoothness l and effective rank r of H_bar, strong convexity mu."""

    smoothness: float
    effective_rank: float
    convexity: float

    def gamma(self, q: int, law: str, d: int) -> float:
        r = self.effective_rank
        return 1 + (d * r + d - 2) / (q * (d + 2)) if law == "sphere" else 1 + (r + 1) / q


def trajectory(problem: Regression, steps: int, runs: int, *, q: int, rate: float, law: str, eps: float) -> Tensor:
    """(steps + 1, runs, d) the points of many runs."""
    many = ManySeeds(dict(problem.model.named_parameters()), optimizer_of(q, rate, law, eps), range(runs))
    points = [many.stack["x"].clone()]
    for _ in range(steps):
        many.step(problem.values)
        points.append(many.stack["x"].clone())
    return torch.stack(points)


@torch.no_grad()
def gaps(problem: Regression, points: dict[str, Tensor]) -> Tensor:
    """(...) f - f* at points (..., *shape)."""
    return problem.exact.gap(points, problem.optimum, problem.instance.f_star or 0.0)


def pl_ratios(problem: Regression, points: Tensor, mu: float) -> Tensor:
    """(N,) |grad f|^2 / (2 mu (f - f*)) at points (N, d): at least 1 where f is mu-strongly convex."""
    gradients = torch.func.vmap(problem.oracle.gradient)(points)
    return gradients.square().sum(1) / (2 * mu * gaps(problem, {"x": points}))


@pytest.mark.slow
@pytest.mark.parametrize("q, law", [(1, "gaussian"), (8, "sphere")])
@pytest.mark.parametrize("kappa", (1.0, 3.0))
@pytest.mark.parametrize("name", ("softmax_l2", "softmax_ce"))
def test_runs_converge_at_least_at_the_rate_of_the_theorem(name, kappa, q, law):
    """T4. E f(x_t) - f* <= (1 - mu / (l gamma))^t (f(x_0) - f*) at eta = 1 / (l gamma), for 256 runs and every t."""
    problem = centred(name, kappa)
    bounds = Bounds(**problem.instance.constants)
    gamma = bounds.gamma(q, law, 8)
    contraction = bounds.convexity / (bounds.smoothness * gamma)
    steps = math.ceil(3 / contraction)
    points = trajectory(problem, steps, 256, q=q, rate=1 / (bounds.smoothness * gamma), law=law, eps=1e-4)
    gap = gaps(problem, {"x": points})
    means, errors = gap.mean(1), gap.std(1) / 16
    bound = gap[0, 0] * (1 - contraction) ** torch.arange(steps + 1, dtype=torch.float64)
    assert (means - 3 * errors <= bound * (1 + 1e-12)).all()
    rate = -float((means[-1] / means[0]).log()) / steps
    assert rate >= -math.log1p(-contraction)
    assert rate < 16 * contraction  # l and mu are worst cases, but not by more than that


@pytest.mark.parametrize("kappa", (1.0, 3.0))
@pytest.mark.parametrize("name", ("softmax_l2", "softmax_ce"))
def test_the_gradient_dominates_the_gap(name, kappa):
    """T5. |grad f|^2 / 2 >= mu (f - f*), at points that mezo visits and at random ones; without the regulariser not."""
    problem = centred(name, kappa)
    bounds = Bounds(**problem.instance.constants)
    rate = 1 / (bounds.smoothness * bounds.gamma(1, "gaussian", 8))
    visited = trajectory(problem, 40, 16, q=1, rate=rate, law="gaussian", eps=1e-4).flatten(0, 1)
    directions = torch.randn(2000, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    away = torch.logspace(-2, 1, 2000, dtype=torch.float64)[:, None] * directions
    assert problem.optimum is not None
    random = problem.optimum["x"] + away
    lowest = [float(pl_ratios(problem, points, bounds.convexity).min()) for points in (visited, random)]
    plain = load_task(name).build(Setting(), scale="paper", kappa=kappa)
    assert min(lowest) >= 1
    assert float(pl_ratios(plain, random, bounds.convexity).min()) < 1


# --- T6: what the radius of the probes leaves ---


@pytest.mark.slow
def test_a_tenth_of_the_radius_leaves_a_ten_thousandth_of_the_gap():
    """T6. Run to stationarity, the relative gap has a floor proportional to eps^4."""
    problem = load_task("softmax_ce").build(Setting(), scale="standard")
    start = dict(problem.model.named_parameters())
    floors = []
    for eps in (1e-2, 1e-3, 1e-4):
        many = ManySeeds(start, optimizer_of(1, problem.rates["two-point"], eps=eps), range(4))
        found = []
        for step in range(7000):
            many.step(problem.values)
            if step >= 5000 and step % 20 == 0:
                found.append(gaps(problem, many.stack).mean())
        floors.append(float(torch.stack(found).mean() / gaps(problem, start)))
        early, late = torch.stack(found).chunk(2)
        assert 0.5 < early.mean() / late.mean() < 2  # stationary
    assert all(1e4 / 3 < a / b < 3e4 for a, b in zip(floors, floors[1:], strict=False))
