"""The reference lines keep one contract, and each reaches what algebra, scipy or the specification's figures say."""

import copy
import importlib
import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse.linalg
import torch
from task_files import load_task

from zobench import registry
from zobench.baselines import _krylov, approximate_newton, i3s_projection, nystrom_pcg, random_projection, top_r, varpro
from zobench.baselines._sketch import leverage_scores, sketch
from zobench.baselines.sketch_precondition import Preconditioned
from zobench.problems import draws
from zobench.problems.planting import Knobs
from zobench.problems.regression import Regression
from zobench.problems.sheets import exponential, linear
from zobench.spec import Setting, UsageError

ENTRIES = {name: entry for name, entry in registry.entries("baseline").items() if entry.builder == "solve"}
LINES = sorted(entry.path.stem for entry in ENTRIES.values())
EVERY = pytest.mark.parametrize("line", LINES)
SERVED = {"varpro": "attention", "nystrom_pcg": "kernel_energy", "sketch_precondition": "power_odd"}  # else as below
SERVED |= dict.fromkeys(("direct", "sketch_and_solve"), "ridge")
SERVED |= dict.fromkeys(("top_r", "i3s_projection", "random_projection"), "subspace_trap")
EVERYWHERE = {"gd", "agd", "newton"}


def build(task, seed=0, **options):
    return load_task(task).build(Setting(seed=seed), **options)


def solve(line, problem, **options):
    return importlib.import_module(f"zobench.baselines.{line}").solve(problem, problem.oracle.start(), **options)


def path(line, problem, steps=1000, **options):
    """The iterates, the start before them."""
    return [problem.oracle.start(), *itertools.islice(solve(line, problem, **options), steps)]


def scores(problem, x):
    return problem.scores(problem.oracle.named(x))


def gap(problem, x):
    """f - f*"""
    return float(problem.exact.gap(problem.oracle.named(x), problem.optimum, problem.instance.f_star))


# --- the contract -------------------------------------------------------------------------------------------------------


class Secret:
    def __getattr__(self, name):
        raise AssertionError(f"a line must not read {name}")


class Facts(dict):
    def _check(self, key):
        assert key != "f_star", "a line must not read f*"

    def __getitem__(self, key):
        self._check(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self._check(key)
        return super().get(key, default)


def blind(problem):
    """The same problem, whose optimum cannot be read."""
    problem = copy.copy(problem)
    hidden = property(lambda self: Secret().optimum)
    problem.__class__ = type("Blind", (Regression,), {"optimum": hidden})
    problem.instance, problem.facts = Secret(), Facts(problem.facts)
    return problem


@EVERY
def test_what_a_line_says_of_itself(line):
    entry = ENTRIES[line.replace("_", "-")]
    info, options = entry.info, entry.options
    assert info["order"] == info["family"] == "reference"
    assert isinstance(info["random"], bool) and isinstance(info["year"], int)
    assert all(isinstance(info[key], str) for key in ("title", "paper", "notes"))
    assert all(isinstance(value, tuple) and all(map(str, value)) for value in (info["tasks"], info["aliases"]))
    assert set(info["limits"]) | set(info["choices"]) <= set(options)
    assert all(options[key] in allowed for key, allowed in info["choices"].items())
    assert registry.resolve(entry, options) == options  # the defaults are within the limits
    assert entry.doc and importlib.import_module(f"zobench.baselines.{line}").solve.__doc__
    assert not {"problem", "x", "seed"} & set(options)


@EVERY
def test_every_line_keeps_the_contract(line):
    problem = build(SERVED.get(line, "softmax_l2"))
    before = {name: p.detach().clone() for name, p in problem.model.named_parameters()}
    start = problem.oracle.start()
    module, counts = importlib.import_module(f"zobench.baselines.{line}"), []
    iterates = []
    for x in itertools.islice(module.solve(blind(problem), start, seed=3), 5):
        iterates.append(x.clone())
        counts.append(problem.oracle.forwards + problem.oracle.backwards)
    assert iterates
    assert all(x.shape == start.shape and x.dtype == torch.float64 and x.isfinite().all() for x in iterates)
    assert counts[0] > 0 and counts == sorted(counts)
    assert start.equal(problem.oracle.start())
    assert all(p.equal(before[name]) and p.grad is None for name, p in problem.model.named_parameters())
    again = path(line, build(SERVED.get(line, "softmax_l2")), len(iterates), seed=3)[1:]
    for a, b in zip(iterates, again, strict=True):  # LAPACK's last bits depend on where its arrays lie
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("line", [name.replace("-", "_") for name, e in ENTRIES.items() if e.info["random"]])
def test_another_seed_takes_another_path(line):
    task = SERVED.get(line, "softmax_l2")
    first, second = (path(line, build(task, seed=seed), 3, seed=seed)[-1] for seed in (0, 1))
    assert not first.equal(second)


@pytest.mark.parametrize("line", sorted(set(LINES) - EVERYWHERE))
def test_a_task_that_a_line_does_not_serve_is_refused_at_the_call(line):
    with pytest.raises(UsageError, match=rf"^{line.replace('_', '-')}: .*serves"):
        solve(line, build("cosh_sum"))


def test_what_depends_on_more_than_the_task_is_refused_too(monkeypatch):
    monkeypatch.setattr("zobench.baselines.newton.LARGEST", 7)
    monkeypatch.setattr("zobench.baselines.direct.LARGEST", 7)
    monkeypatch.setattr("zobench.baselines._squares.ENTRIES", 100)
    for line, task, options, says in (
        ("newton", "softmax_l2", {}, "D = 8 is above 7"),
        ("direct", "ridge", dict(method="cholesky"), "D = 8 is above 7; method=cg"),
        ("direct", "kernel_energy", dict(method="qr"), "no sum of squared residuals"),
        ("gauss_newton", "softmax_l2", {}, "64 x 8 is too large"),
        ("agd", "softmax_l2", dict(momentum="constant"), "momentum=restart"),
        ("nystrom_pcg", "kernel_ls", dict(rank=49), "48 rows"),
        ("approximate_newton", "rescaled_exp", {}, "not A"),
    ):
        with pytest.raises(UsageError, match=says):
            solve(line, build(task), **options)
    with pytest.raises(UsageError, match="singular"):
        next(iter(solve("agd", build("nesterov"), momentum="constant")))


# --- gradient descent ---------------------------------------------------------------------------------------------------


def test_gradient_methods_keep_their_rates_on_a_quadratic():
    problem = build("quadratic")
    values = torch.linalg.eigvalsh(problem.oracle.hessian(problem.oracle.start()))
    ratio = float(values[0] / values[-1])
    plain, fast = (path(line, problem, 150) for line in ("gd", "agd"))
    first = gap(problem, plain[0])
    distance = float((plain[0] - problem.optimum["x"]).square().sum())
    for k, (x, y) in enumerate(zip(plain, fast, strict=True)):
        assert gap(problem, x) <= first * (1 - ratio) ** (2 * k) * (1 + 1e-9)
        assert gap(problem, y) <= (first + float(values[0]) / 2 * distance) * (1 - ratio**0.5) ** k * (1 + 1e-9)
    assert gap(problem, fast[-1]) < 1e-5 * gap(problem, plain[-1])


def test_without_strong_convexity_the_momentum_is_restarted():
    problem = build("nesterov")
    points = path("agd", problem, 60)
    distance = float((points[0] - problem.optimum["x"]).square().sum())
    for k, x in enumerate(points):
        assert gap(problem, x) <= 2 / problem.rates["gradient"] * distance / (k + 1) ** 2
    problem = build("softmax_l2")
    assert scores(problem, path("agd", problem, 100)[-1])["relative_gap"] < 1e-20


def test_known_constants_are_used():
    problem = build("softmax_ce", reg="centred")
    smoothness, convexity = problem.facts["smoothness"], problem.facts["convexity"]
    first, second = path("agd", problem, 2)[1:]
    step = problem.oracle.start() - problem.oracle.gradient(problem.oracle.start()) / smoothness
    torch.testing.assert_close(first, step)
    root = (smoothness / convexity) ** 0.5
    y = step + (root - 1) / (root + 1) * (step - problem.oracle.start())
    torch.testing.assert_close(second, y - problem.oracle.gradient(y) / smoothness)


@pytest.mark.parametrize("task", ["exp", "rosenbrock", "softmax_relu"])
def test_armijo_halves_until_the_loss_falls_by_half_of_what_the_slope_says(task):
    problem = build(task)
    oracle = problem.oracle
    points = path("gd", problem, 20, step="armijo")
    lengths = []
    for x, after in itertools.pairwise(points):
        value, gradient = oracle.value_and_gradient(x)
        t = float((x - after) @ gradient / (gradient @ gradient))
        lengths.append(t)
        torch.testing.assert_close(after, x - t * gradient)
        assert oracle.value(after) <= value - 0.5 * t * (gradient @ gradient) * (1 - 1e-9)
    ratios = np.log2(np.array(lengths[1:]) / lengths[:-1])
    np.testing.assert_allclose(ratios, ratios.round(), atol=1e-6)
    assert max(ratios) <= 1 + 1e-6


@pytest.mark.parametrize("line", ["gd", "newton", "gauss_newton", "levenberg_marquardt"])
def test_at_an_exact_optimum_there_is_nothing_to_do(line):
    problem, module = build("rosenbrock"), importlib.import_module(f"zobench.baselines.{line}")
    ones = torch.ones(10, dtype=torch.float64)
    for options in ({}, dict(step="armijo")) if line == "gd" else ({},):
        assert not list(itertools.islice(module.solve(problem, ones, **options), 3))


# --- Newton and its kin -------------------------------------------------------------------------------------------------

NEWTON_TASKS = "softmax_l2 softmax_ce rows_l2 rows_ce exp cosh sinh rescaled_exp resnet_softmax softmax_relu leverage"


@pytest.mark.parametrize("task", NEWTON_TASKS.split())
def test_newton_reaches_the_optimum_in_a_few_steps(task):
    problem = build(task)
    points = path("newton", problem, 30)
    reached = next(k for k, x in enumerate(points) if scores(problem, x)["relative_gap"] <= 1e-20)
    assert 3 <= reached <= 30


def test_newton_leaves_a_saddle_by_the_size_of_its_eigenvalues():
    problem = build("softmax_l2", tau=2.0)
    x = problem.oracle.start()
    values, vectors = torch.linalg.eigh(problem.oracle.hessian(x))
    assert values[0] < 0
    gradient = problem.oracle.gradient(x)
    plain = next(iter(solve("newton", problem, damped=False, saddle_free=False)))
    torch.testing.assert_close(plain, x - torch.linalg.solve(problem.oracle.hessian(x), gradient))
    free = next(iter(solve("newton", problem, damped=False)))
    torch.testing.assert_close(free, x - vectors @ ((vectors.T @ gradient) / values.abs()))
    assert scores(problem, path("newton", problem, 40)[-1])["relative_gap"] < 1e-20


@pytest.mark.parametrize("line", ["gauss_newton", "levenberg_marquardt"])
@pytest.mark.parametrize("task", ["softmax_l2", "attention", "leverage", "matfac", "conv", "ridge"])
def test_least_squares_are_solved_with_a_jacobian(line, task):
    problem = build(task)
    assert scores(problem, path(line, problem, 60)[-1])["relative_gap"] < 1e-20


def test_levenberg_marquardt_solves_what_it_says_and_agrees_with_scipy():
    problem = build("attention")
    oracle, x = problem.oracle, problem.oracle.start()
    jacobian, residual = oracle.jacobian(x), oracle.residual(x)
    lam = 0.1 * torch.linalg.matrix_norm(jacobian, 2) ** 2
    step = torch.linalg.solve(jacobian.T @ jacobian + lam * torch.eye(18), jacobian.T @ residual)
    torch.testing.assert_close(next(iter(solve("levenberg_marquardt", problem, damping=0.1))), x - step)
    found = scipy.optimize.least_squares(
        lambda v: oracle.residual(torch.from_numpy(v)).numpy(),
        x.numpy(),
        jac=lambda v: oracle.jacobian(torch.from_numpy(v)).numpy(),
        method="lm",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    ours = path("levenberg_marquardt", problem)[-1]
    np.testing.assert_allclose(ours.numpy(), found.x, rtol=1e-7, atol=1e-7)


# --- approximate Newton -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("oversampling, expected", [(0.0, 3e-16), (64.0, 3e-8), (16.0, 4e-6), (8.0, 5e-4)])
def test_sampled_newton_converges_linearly_as_measured(monkeypatch, oversampling, expected):
    """Section 3: exp, n = 4096, d = 16, kappa(A) = 100: the distance after 12 steps."""
    monkeypatch.setitem(exponential.DIMENSIONS, "tall", (4096, 16))
    problem = Regression(Setting(), exponential.exp(Knobs("tall", kappa=100.0)))
    options = dict(oversampling=oversampling, damped=False)
    distances = [
        scores(problem, path("approximate_newton", problem, 12, seed=s, **options)[-1])["distance"] for s in range(3)
    ]
    measured = float(np.median(distances))
    # a rate that is 1.25 times as good, of another draw of rows, is a factor 15 after 12 steps
    assert expected / 20 <= measured <= 20 * expected


@pytest.mark.parametrize(
    "task, options, rank",
    [
        ("logistic", {}, 0),
        ("exp", dict(reg="paper"), 0),
        ("cosh", dict(reg="centred"), 0),
        ("softmax_l2", dict(reg="paper"), 2),
    ],
)
def test_the_diagonal_is_the_hessian_s_but_for_two_ranks_of_softmax(task, options, rank):
    problem = build(task, **options)
    objective, x = problem.exact, 0.1 * torch.arange(8, dtype=torch.float64)
    d = approximate_newton.diagonal(objective, objective.logits(problem.oracle.named(x)).detach())
    approximate = objective.a.T @ (d[:, None] * objective.a)
    approximate.diagonal().add_(approximate_newton.shrinkage(objective))
    rest = problem.oracle.hessian(x) - approximate
    assert (torch.linalg.svdvals(rest) > 1e-12 * torch.linalg.matrix_norm(approximate, 2)).sum() <= rank
    assert torch.linalg.eigvalsh(approximate)[0] > 0


@pytest.mark.parametrize("task", ["softmax_l2", "softmax_ce", "exp", "cosh", "sinh", "logistic"])
@pytest.mark.parametrize("reg", ["none", "paper"])
def test_approximate_newton_converges_on_what_it_serves(task, reg):
    problem = build(task, **({} if task == "logistic" else dict(reg=reg)))
    end = path("approximate_newton", problem, 50)[-1]
    assert scores(problem, end)["relative_gradient"] < 1e-5


def test_the_sampled_gram_matrix_is_unbiased():
    rs = np.random.RandomState(0)
    a = torch.from_numpy(draws.matrix(rs, 200, 4, 10.0))
    samples = torch.stack([approximate_newton.sampled_gram(a, 32, rs) for _ in range(2000)])
    error = (samples.mean(0) - a.T @ a).abs() / (samples.std(0) / 2000**0.5)
    assert error.max() < 4.5


# --- variable projection ------------------------------------------------------------------------------------------------


def test_the_gradient_of_the_reduced_loss_is_the_partial_one():
    problem = build("attention")
    oracle, x = problem.oracle, problem.oracle.start()
    reduced = varpro.Reduced(oracle, x)
    point, loss = reduced(x)
    assert loss == pytest.approx(float(oracle.value(point)), rel=1e-12)
    gradient = oracle.gradient(point)
    assert gradient[9:].norm() < 1e-12 * gradient[:9].norm()  # Y is optimal
    u = torch.zeros(18, dtype=torch.float64)
    u[:9] = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    h = 1e-4
    f = [reduced(x + k * h * u)[1] for k in (-2, -1, 1, 2)]
    slope = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)
    assert slope == pytest.approx(float(gradient @ u), rel=1e-8)


def test_varpro_beats_descent_on_both():
    problem = build("attention")
    ends = [scores(problem, path(line, problem, 100, **options)[-1])["relative_gap"] for line, options in (
        ("gd", dict(step="armijo")), ("varpro", {}), ("varpro", dict(step="gauss_newton")))]  # fmt: skip
    assert ends[1] < ends[0] / 3
    assert ends[2] < 1e-25
    with pytest.raises(UsageError, match="Y free"):
        solve("varpro", build("attention", variant="x"))


# --- linear algebra -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "qr", "cholesky", "lsqr", "cg"])
@pytest.mark.parametrize(
    "task", "linear ridge multiple kernel_ls power_even power_odd kernel_energy quadratic nesterov".split()
)
def test_direct_solves_what_is_quadratic(task, method):
    problem = build(task)
    if task in ("kernel_energy", "quadratic", "nesterov") and method in ("qr", "lsqr"):
        with pytest.raises(UsageError, match="least squares"):
            solve("direct", problem, method=method)
        return
    points = path("direct", problem, 300, method=method)
    found = scores(problem, points[-1])
    assert found["relative_gap"] < 1e-25
    assert found["relative_gradient"] < 1e-10
    assert len(points) == 2 or method in ("lsqr", "cg", "auto")


@pytest.mark.parametrize("task", ["linear", "multiple"])
def test_direct_agrees_with_torch(task):
    problem = build(task)
    a, b = problem.exact.a, problem.exact.b
    expected = torch.linalg.lstsq(a, b.reshape(len(a), -1)).solution.reshape(-1)
    torch.testing.assert_close(path("direct", problem)[-1], expected, rtol=1e-10, atol=1e-12)


def test_krylov_iterates_are_scipy_s():
    rs = np.random.RandomState(0)
    a, b = draws.matrix(rs, 60, 12, 30.0), rs.standard_normal((60, 3))
    m, rhs = torch.from_numpy(a), torch.from_numpy(b)
    ours = list(itertools.islice(_krylov.lsqr(lambda v: m @ v, lambda u: m.T @ u, rhs), 8))
    for k in (1, 4, 8):
        theirs = [scipy.sparse.linalg.lsqr(a, b[:, j], iter_lim=k, atol=0, btol=0, conlim=0)[0] for j in range(3)]
        np.testing.assert_allclose(ours[k - 1].numpy(), np.stack(theirs, 1), rtol=1e-5, atol=1e-9)
    h, g = m.T @ m, m.T @ rhs
    ours = list(itertools.islice(_krylov.cg(lambda v: h @ v, g, lambda r: r / h.diagonal()[:, None]), 8))
    inverse = np.diag(1 / h.diagonal().numpy())
    for k in (1, 4, 8):
        theirs = [scipy.sparse.linalg.cg(h.numpy(), g[:, j].numpy(), maxiter=k, rtol=0, M=inverse)[0] for j in range(3)]
        np.testing.assert_allclose(ours[k - 1].numpy(), np.stack(theirs, 1), rtol=1e-5, atol=1e-9)


def test_krylov_methods_end_and_stand_still_on_columns_that_are_done():
    a = torch.from_numpy(draws.matrix(np.random.RandomState(0), 40, 6, 10.0))
    rhs = torch.stack([torch.zeros(40), a[:, 0], torch.ones(40)], 1).double()
    steps = list(itertools.islice(_krylov.lsqr(lambda v: a @ v, lambda u: a.T @ u, rhs), 200))
    assert len(steps) < 30
    torch.testing.assert_close(steps[-1], torch.linalg.lstsq(a, rhs).solution, rtol=1e-10, atol=1e-12)
    assert list(_krylov.cg(lambda v: v, torch.zeros(6, dtype=torch.float64))) == []


@pytest.fixture
def tall(monkeypatch):
    monkeypatch.setitem(linear.DIMENSIONS, "tall", (400, 20))
    return Regression(Setting(), linear.linear(Knobs("tall", kappa=10.0, label_noise=0.1)))


def excess(problem, kind, m, repeats):
    """Objective errors relative to f*, one for each sketch."""
    d = problem.oracle.dimension
    ends = [path("sketch_and_solve", problem, seed=s, kind=kind, oversampling=m / d)[-1] for s in range(repeats)]
    return np.array([gap(problem, x) for x in ends]) / problem.instance.f_star


@pytest.mark.parametrize("m", [60, 400])
def test_a_gaussian_sketch_has_the_expected_excess(tall, m):
    found = excess(tall, "gaussian", m, 150)
    assert abs(found.mean() - 20 / (m - 21)) < 4 * found.std() / len(found) ** 0.5


@pytest.mark.parametrize("m, measured", [(100, 0.244), (200, 0.120), (400, 0.052)])
def test_a_sample_by_leverage_has_the_measured_excess(tall, m, measured):
    assert excess(tall, "leverage", m, 150).mean() == pytest.approx(measured, rel=0.25)


@pytest.mark.parametrize("kind", ["gaussian", "leverage"])
def test_sketches_keep_norms_on_average(kind):
    rs = np.random.RandomState(0)
    a = torch.from_numpy(draws.matrix(rs, 100, 5, 10.0))
    assert leverage_scores(a).sum().item() == pytest.approx(5)
    squares = torch.stack([sketch(kind, a, 20, a, rs).square().sum(0) for _ in range(1000)])
    error = (squares.mean(0) - a.square().sum(0)).abs() / (squares.std(0) / 1000**0.5)
    assert error.max() < 4


@pytest.mark.parametrize("kind", ["gaussian", "leverage"])
@pytest.mark.parametrize("oversampling", [5.0, 10.0, 20.0])
def test_the_preconditioned_condition_number_is_the_predicted_one_whatever_the_matrix(kind, oversampling):
    root = oversampling**-0.5
    found = []
    for kappa in (1.0, 1e4):
        rs = np.random.RandomState(1)
        a = torch.from_numpy(draws.matrix(rs, 2000, 20, kappa))
        values = torch.linalg.svdvals(Preconditioned(a, 2000, kind, oversampling, rs).forward(torch.eye(20).double()))
        found.append(float(values[0] / values[-1]))
    assert found[1] == pytest.approx((1 + root) / (1 - root), rel=0.2)
    assert found[0] == pytest.approx(found[1], rel=0.2 if kind == "leverage" else 1e-6)


@pytest.mark.parametrize("kind", ["gaussian", "leverage"])
@pytest.mark.parametrize("task", ["linear", "ridge", "multiple", "power_even", "power_odd"])
def test_sketched_preconditioning_solves_to_rounding(task, kind):
    problem = build(task)
    points = path("sketch_precondition", problem, 100, kind=kind)
    assert scores(problem, points[-1])["distance"] < 1e-13
    assert len(points) < 20


def test_powers_are_solved_one_after_another():
    for j, odd in itertools.product((1, 3), (False, True)):
        problem = build("power_odd" if odd else "power_even", j=j)
        assert scores(problem, path("sketch_precondition", problem, 100)[-1])["distance"] < 1e-11


def test_ill_conditioned_regressions_take_no_more_iterations(monkeypatch):
    monkeypatch.setitem(linear.DIMENSIONS, "tall", (1000, 20))
    counts = {}
    for kappa in (1.0, 1e4):
        problem = Regression(Setting(), linear.linear(Knobs("tall", kappa=kappa, label_noise=0.1)))
        counts[kappa] = len(path("sketch_precondition", problem, 200))
        assert gap(problem, path("sketch_precondition", problem, 200)[-1]) < 1e-20
    assert abs(counts[1e4] - counts[1.0]) <= 5
    assert len(path("direct", problem, 200, method="lsqr")) > 1.5 * counts[1e4]


@pytest.mark.parametrize("task", ["kernel_energy", "kernel_ls"])
def test_nystroem_takes_fewer_iterations_than_plain_conjugate_gradients(task):
    problem = build(task, t=1.0)
    plain, quick = path("direct", problem, 500, method="cg"), path("nystrom_pcg", problem, 500)
    assert scores(problem, quick[-1])["relative_gap"] < 1e-25
    assert len(quick) < 0.9 * len(plain)
    assert len(path("nystrom_pcg", problem, 500, rank=24)) < 0.7 * len(plain)


def test_the_nystroem_preconditioner_flattens_the_spectrum():
    k = build("kernel_energy", t=1.0).exact.k
    divide = nystrom_pcg.preconditioner(k, 12, np.random.RandomState(0))
    inverse = divide(torch.eye(len(k)).double())
    torch.testing.assert_close(inverse, inverse.T)
    values = torch.linalg.eigvals(inverse @ k).real
    assert values.max() / values.min() < torch.linalg.cond(k) / 20
    full = nystrom_pcg.preconditioner(k, len(k), np.random.RandomState(0))
    product = full(k)  # of full rank it is K's inverse, up to a factor
    torch.testing.assert_close(product / product[0, 0], torch.eye(len(k)).double(), rtol=0, atol=1e-6)


# --- low-rank projections -----------------------------------------------------------------------------------------------


def test_subspaces_are_orthonormal_and_chosen_as_named():
    rs = np.random.RandomState(0)
    values = torch.tensor([4.0, 2.0, 1.0, 1.0]).double()
    u, _ = torch.linalg.qr(torch.from_numpy(rs.standard_normal((6, 4))))
    v, _ = torch.linalg.qr(torch.from_numpy(rs.standard_normal((5, 4))))
    g = u @ (values[:, None] * v.T)
    for module in (top_r, i3s_projection, random_projection):
        p = module.choose(g, 2, rs)
        torch.testing.assert_close(p.T @ p, torch.eye(2).double())
    assert (top_r.choose(g, 2, rs).T @ u[:, :2]).square().sum() == pytest.approx(2)
    first = np.array([[int((i3s_projection.choose(g, 1, rs)[:, 0] @ u).abs().argmax())] for _ in range(2000)])[:, 0]
    shares = np.array([(first == 0).mean(), (first == 1).mean(), (first >= 2).mean()])
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=4 * 0.5 / 2000**0.5)
    single = torch.outer(u[:, 0], v[:, 0])
    assert i3s_projection.choose(single, 3, rs).shape == (6, 3)  # vectors of value 0 make up the rest
    spans = torch.stack([p @ p.T for p in (random_projection.choose(g, 2, rs) for _ in range(2000))])
    torch.testing.assert_close(spans.mean(0), torch.eye(6).double() / 3, rtol=0, atol=0.03)


def test_a_projected_step_is_that_of_the_minibatch_s_gradient_within_the_subspace():
    problem = build("subspace_trap", seed=4)
    x, first = path("top_r", problem, 1, lr=0.1, rank=3)
    gradient = problem.oracle.named(problem.oracle.gradient(x, problem.batch(0).rows))["w"]
    u = torch.linalg.svd(gradient)[0][:, :3]
    torch.testing.assert_close(first, x - 0.1 * (u @ (u.T @ gradient)).reshape(-1))
    adam = path("top_r", problem, 1, lr=0.1, rank=3, inner="adam")[1]
    inside = u.T @ gradient
    torch.testing.assert_close(adam, x - 0.1 * (u @ (inside / (inside.abs() + 1e-8))).reshape(-1))


def test_of_full_rank_and_refreshed_at_every_step_it_is_sgd():
    problem = build("subspace_trap")
    x, *points = path("top_r", problem, 5, rank=16, refresh=1)
    for step, after in enumerate(points):
        x = x - 0.01 * problem.oracle.gradient(x, problem.batch(step).rows)
        torch.testing.assert_close(after, x, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("line", ["top_r", "i3s_projection", "random_projection"])
def test_each_matrix_has_its_own_subspace_and_progress_is_made(line):
    for task in ("matfac", "bigram"):
        problem = build(task)
        iterator = solve(line, problem, inner="adam")
        assert iterator.metrics == {}
        x = list(itertools.islice(iterator, 150))[-1]
        assert set(iterator.bases) == {"u", "v"}
        assert scores(problem, x)["relative_gap"] < 0.9
        assert 0 < iterator.metrics["overlap"] <= 1


def run_trap(line, steps, seed=0, **options):
    """(complement gap, overlap of successive subspaces)"""
    problem = build("subspace_trap", seed=seed)
    iterator = solve(line, problem, seed=seed, **options)
    *_, x = itertools.islice(iterator, steps)
    return scores(problem, x)["complement_gap"], iterator.metrics["overlap"]


def test_the_trap_holds_the_leading_subspace_and_lets_importance_sampling_go():
    trapped, stuck = run_trap("top_r", 800, lr=0.03)
    sampled, moving = run_trap("i3s_projection", 800, lr=0.03)
    free, _ = run_trap("top_r", 400, lr=0.03, rank=16, refresh=1)  # all of the gradient
    assert trapped > 2 * sampled > 0.01
    assert free < 1e-9
    assert stuck > 0.75 > moving - 0.05


@pytest.mark.slow
def test_the_trap_s_figures_are_the_measured_ones():
    """P10: complement gaps .049, .011 and .060 and overlaps .88, .76 and .12 after 4,000 steps."""
    for line, figures in dict(
        top_r=(0.049, 0.88), i3s_projection=(0.011, 0.76), random_projection=(0.060, 0.12)
    ).items():
        complement, overlap = run_trap(line, 4000)
        assert complement == pytest.approx(figures[0], rel=0.5)
        assert overlap == pytest.approx(figures[1], abs=0.06)
