"""The synthetic family is the specified one: golden values, an independent numpy reference, known optima, exact scores."""

import decimal
import functools
import importlib
import math
import pkgutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import synthetic_reference as reference
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from zobench import record, registry
from zobench.cli import main
from zobench.optimizers import MeZO
from zobench.problems import acceptance, draws, regression, sheets
from zobench.problems.objective import LeastSquares
from zobench.problems.oracle import Oracle
from zobench.problems.planting import Knobs
from zobench.problems.regression import Batch
from zobench.problems.sheets.leverage import leverage_grad
from zobench.spec import Setting, UsageError

NAMES = (
    "softmax_l2 softmax_ce rows_l2 rows_ce exp cosh sinh rescaled_exp resnet_softmax relu_softmax softmax_relu attention "
    "kernel_ls kernel_energy power_even power_odd leverage leverage_grad linear multiple ridge poly_attn matfac bigram "
    "subspace_trap conv quadratic nesterov rosenbrock logistic cosh_sum"
).split()
ENTRIES = {name: e for name, e in registry.entries("task").items() if e.info["suite"] == "synthetic"}
GAUGE = {"matfac", "bigram"}  # x* is one of many
UNKNOWN = {"poly_attn"}  # no x* is known
LABEL_NOISE = {"attention": 0.01}  # where 0.1 is too much for a minimum
SLOW = {"relu_softmax", "attention", "conv", "power_odd"}  # long flat valleys
OWN_NOISE = {"linear", "multiple", "ridge", "power_odd"}  # whose noise is drawn with the data
EVERY = pytest.mark.parametrize("name", NAMES)

# name: D, f(x0), f*, |grad f(x0)|, |x*|, |x0 - x*|; tiny, instance 0, section 7 of the specification
GOLDEN = {
    "softmax_l2": (8, 6.428101887717e-03, 0.0, 1.2608225322e-02, 1.0, 1.0),
    "softmax_ce": (8, 4.158883083360e00, 3.667059668290e00, 1.0215082320e00, 1.0, 1.0),
    "exp": (8, 2.023526300663e-01, 0.0, 5.9665221120e-01, 0.5, 0.5),
    "cosh": (8, 2.296849208054e-02, 0.0, 3.1809695854e-02, 0.5, 0.46315790),
    "sinh": (8, 1.623308313026e-01, 0.0, 5.6839759009e-01, 0.5, 0.5),
    "rescaled_exp": (8, 1.361775400260e-01, 0.0, 4.8299557842e-01, 0.5, 0.5),
    "resnet_softmax": (8, 2.595193467882e-02, 0.0, 5.2351490105e-02, 1.0, 1.0),
    "relu_softmax": (8, 2.734135181548e-03, 0.0, 1.9085509524e-02, 1.0, 0.5),
    "softmax_relu": (8, 1.605712430822e-01, 0.0, 4.4250464487e-01, 1.0, 1.0),
    "attention": (18, 1.235609670679e-01, 0.0, 6.3965990925e-01, 2.22574126, 1.11287063),
    "kernel_ls": (48, 8.434359346827e-01, 0.0, 3.4190856782e00, 0.99672259, 0.99672259),
    "kernel_energy": (48, 0.0, -4.640308866693e-01, 1.3081834458e00, 0.98200634, 0.98200634),
    "power_even": (8, 1.370346740470e-02, 0.0, 8.1833185150e-02, 1.02454636, 1.02454636),
    "power_odd": (8, 6.060259988841e-02, 4.842610471296e-03, 3.1816761315e-01, 0.90251707, 0.90251707),
    "leverage": (6, 6.741071378239e-02, 0.0, 1.5416894895e00, 0.66059718, 0.09800447),
    "linear": (8, 1.972831306282e-01, 3.191306028091e-03, 5.0380539037e-01, 1.16558104, 1.16558104),
    "ridge": (8, 8.325669675484e-02, 2.570182454470e-02, 2.7648702779e-01, 0.46759391, 0.46759391),
    "multiple": (24, 1.570918259190e-01, 1.195531121477e-02, 4.0645259766e-01, 0.97420763, 0.97420763),
    "rows_ce": (16, 2.484906649788e00, 2.097350567979e00, 7.7198085223e-01, 1.32910513, 1.32910513),
    "rows_l2": (16, 4.848455614054e-02, 0.0, 6.7499837167e-02, 1.22137416, 1.22137416),
    "matfac": (44, 7.696276619790e-01, 0.0, 3.6296682759e-01, 1.84994007, 1.91932575),
    "bigram": (72, 2.498580749055e00, 1.196706818385e00, 1.9508237687e-01, 10.86669260, 11.26984317),
    "conv": (24, 3.035603493136e-02, 0.0, 2.8495247875e-02, 2.72994064, 2.72994064),
    "poly_attn": (44, 7.277080498487e-01, None, 8.5083894162e-01, None, None),
    "logistic": (8, 6.931471805599e-01, 3.727091687706e-01, 3.4805469322e-01, 2.71242902, 2.71242902),
    "quadratic": (16, 0.0, -3.914373761223e-02, 2.0497217316e-01, 0.65376278, 0.65376278),
    "nesterov": (20, 0.0, -1.176470588235e-01, 2.5e-01, 2.27518584, 2.27518584),
    "rosenbrock": (10, 2.057e03, 0.0, 2.0694271671e03, 3.16227766, 4.91934955),
}


def build(name, *, seed=0, **options):
    """The problem of the task as the command line would build it, its options checked and converted."""
    entry = ENTRIES[name]
    if name == "cosh_sum" and options.get("instance", 0) < 3:
        options.pop("instance", None)  # nothing is drawn for it
    given = registry.resolve(entry, options)
    return registry.load(entry).build(Setting(seed=seed), **given)


@functools.cache
def known(name, scale="tiny", instance=0):
    return reference.build(name, scale, instance)


@functools.cache
def shared(name):
    """Tiny instance 0, for tests that leave it as it is."""
    return build(name)


def options_of(name):
    return ENTRIES[name].options


def with_option(*wanted):
    """Parametrised over the tasks that have all these options."""
    return pytest.mark.parametrize("name", [n for n in NAMES if n in ENTRIES and set(wanted) <= set(options_of(n))])


def having(test):
    """Parametrised over the tasks whose problem passes the test."""
    return pytest.mark.parametrize("name", [n for n in NAMES if n in ENTRIES and test(shared(n))])


def place(problem, x):
    """Write a flat point into the model."""
    with torch.no_grad():
        for name, value in problem.oracle.named(torch.as_tensor(x, dtype=torch.float64)).items():
            problem.model.get_parameter(name).copy_(value)


def stack(problem, points):
    """(S, D) as the stacked parameters that `values` wants, in the problem's own dtype."""
    points = torch.as_tensor(np.asarray(points), dtype=torch.float64)
    return {name: value.to(problem.dtype) for name, value in problem.oracle.named(points).items()}


def gradient(problem):
    """(D,) autograd's gradient of the whole loss, in the model's own shapes."""
    problem.model.zero_grad()
    problem.model().backward()
    return torch.cat([p.grad.reshape(-1) for p in problem.model.parameters()]).numpy()


def near_start(name, scale="tiny", instance=0, size=0.02):
    rs = np.random.RandomState([instance, *name.encode()])
    x0 = known(name, scale, instance).x0
    return x0 + size * rs.standard_normal(len(x0)), rs.standard_normal(len(x0))


def best(problem):
    return problem.oracle.flat(problem.optimum)


def relative(got, expected):
    return np.linalg.norm(np.asarray(got) - expected) / np.linalg.norm(expected)


def test_the_family_is_complete():
    assert set(ENTRIES) == set(NAMES) and len(set(NAMES)) == 31
    assert registry.find("task", "softmax_regression").name == "softmax_l2"
    assert set(GOLDEN) == set(NAMES) - {"leverage_grad", "subspace_trap", "cosh_sum"}  # which have none


# --- against the specification's numbers and the reference ---


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(name):
    dimension, start, f_star, slope, norm, distance = GOLDEN[name]
    problem = build(name)
    oracle = problem.oracle
    assert oracle.dimension == dimension == problem.facts["dimension"]
    assert problem.loss(problem.batch(0)).item() == pytest.approx(start, rel=1e-8, abs=1e-15)
    assert np.linalg.norm(gradient(problem)) == pytest.approx(slope, rel=1e-8)
    if f_star is None:
        return
    assert problem.instance.f_star == pytest.approx(f_star, rel=1e-8, abs=1e-15)
    assert best(problem).norm().item() == pytest.approx(norm, rel=1e-8)
    assert (oracle.start() - best(problem)).norm().item() == pytest.approx(distance, rel=1e-7)


def agree(name, scale, instance):
    problem, expected = build(name, scale=scale, instance=instance), known(name, scale, instance)
    oracle = problem.oracle
    np.testing.assert_allclose(oracle.start().numpy(), expected.x0, rtol=1e-10, atol=1e-13)
    if expected.x_star is not None:
        np.testing.assert_allclose(best(problem).numpy(), expected.x_star, rtol=1e-7, atol=1e-10)
        assert problem.instance.f_star == pytest.approx(expected.f_star, rel=1e-10, abs=1e-15)
    held = [b.numpy() for b in problem.exact.buffers() if b.is_floating_point()]
    for array in expected.data:
        same = [b for b in held if b.size == array.size]
        assert any(np.allclose(b.reshape(array.shape), array, rtol=1e-9, atol=1e-12) for b in same), array.shape
    x, v = near_start(name, scale, instance)
    place(problem, x)
    value = problem.model().item()
    assert value == pytest.approx(expected.problem.value(x), rel=1e-8)
    assert relative(gradient(problem), expected.problem.grad(x)) < 1e-8
    product = oracle.hvp(torch.from_numpy(x), torch.from_numpy(v)).numpy()
    assert relative(product, expected.problem.hvp(x, v)) < 1e-8


@EVERY
@pytest.mark.parametrize("instance", range(3))
def test_value_gradient_and_hessian_are_those_of_the_reference(name, instance):
    agree(name, "tiny", instance)


@EVERY
def test_standard_scale_is_that_of_the_reference(name, monkeypatch):
    monkeypatch.setattr(regression.Regression, "_rates", lambda *_: {})  # they cost more than all the rest
    agree(name, "standard", 0)


@pytest.mark.parametrize("knobs", [dict(tau=2.0), dict(kappa=10.0), dict(kappa=5.0, spectrum="power")], ids=str)
@with_option("tau", "kappa")
def test_the_knobs_of_the_generator(name, knobs):
    problem = build(name, instance=1, **knobs)
    kind = {"kind": knobs["spectrum"]} if "spectrum" in knobs else {}
    expected = reference.build(name, "tiny", 1, **{k: v for k, v in knobs.items() if k != "spectrum"}, **kind)
    x = expected.x0 + 0.02 * np.random.RandomState(0).standard_normal(len(expected.x0))
    place(problem, x)
    assert problem.model().item() == pytest.approx(expected.problem.value(x), rel=1e-8)
    assert relative(gradient(problem), expected.problem.grad(x)) < 1e-8


def test_the_degree_of_a_polynomial_attention():
    problem, expected = build("poly_attn", beta=2.0, instance=1), reference.build("poly_attn", "tiny", 1, beta=2)
    x, v = near_start("poly_attn", "tiny", 1)
    place(problem, x)
    assert problem.model().item() == pytest.approx(expected.problem.value(x), rel=1e-8)
    assert relative(gradient(problem), expected.problem.grad(x)) < 1e-8
    product = problem.oracle.hvp(torch.from_numpy(x), torch.from_numpy(v)).numpy()
    assert relative(product, expected.problem.hvp(x, v)) < 1e-8


@EVERY
def test_finite_differences_and_symmetry(name):
    problem = shared(name)
    x, v = near_start(name)
    step, eye = 1e-4, np.eye(len(x))
    ahead, behind = (problem.values(stack(problem, x + s * step * eye)).numpy() for s in (1, -1))
    slope = problem.oracle.gradient(torch.from_numpy(x)).numpy()
    loose = {"relu_softmax", "softmax_relu", "leverage", "leverage_grad", "poly_attn"}
    assert relative((ahead - behind) / (2 * step), slope) < (1e-5 if name in loose else 1e-6)
    u = torch.from_numpy(np.random.RandomState(1).standard_normal(len(x)))
    v = torch.from_numpy(v)
    hu, hv = (problem.oracle.hvp(torch.from_numpy(x), w) for w in (u, v))
    assert abs(float(u @ hv - v @ hu)) <= 1e-11 * float(u.norm() * hv.norm() + v.norm() * hu.norm())


@having(lambda problem: isinstance(problem.exact, LeastSquares))
def test_residual_and_jacobian_belong_to_value_and_gradient(name):
    oracle = shared(name).oracle
    x = torch.from_numpy(near_start(name)[0])
    c, jacobian = oracle.residual(x), oracle.jacobian(x)
    assert float(0.5 * c @ c) == pytest.approx(float(oracle.value(x)), rel=1e-10)
    assert relative((jacobian.T @ c).numpy(), oracle.gradient(x).numpy()) < 1e-9


# --- optima and scores ---


@EVERY
def test_the_optimum_is_one(name):
    if name in UNKNOWN:
        assert build(name).optimum is None
        return
    problem = build(name)
    place(problem, best(problem))
    got = problem.evaluate("validation")
    assert got["loss"] == pytest.approx(problem.instance.f_star, rel=1e-12, abs=1e-28)
    assert abs(got["relative_gap"]) < 1e-24
    assert got["relative_gradient"] < 1e-12
    if problem.instance.symmetry == "gauge":
        assert "distance" not in got
    else:
        assert got["distance"] == 0


@EVERY
def test_gaps_keep_their_digits_next_to_the_optimum(name):
    if name in UNKNOWN:
        return
    problem, expected = shared(name), known(name)
    optimum = best(problem).numpy()
    u = np.random.RandomState(3).standard_normal(len(optimum))
    u /= np.linalg.norm(u)
    x = optimum + 1e-9 * u
    moved = x - optimum  # as rounded
    with torch.no_grad():
        gap = float(problem._gap(problem.oracle.named(torch.from_numpy(x))))
    assert gap == pytest.approx(0.5 * moved @ expected.problem.hvp(optimum, moved), rel=1e-3, abs=0)
    assert problem.evaluate("test")["relative_gap"] == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["softmax_l2", "softmax_ce", "resnet_softmax", "exp", "cosh"])
def test_gaps_of_centred_losses_keep_their_digits_too(name):
    problem = build(name, reg="centred")
    u = 1e-9 * torch.from_numpy(draws.unit(np.random.RandomState(3), 8))
    x = best(problem) + u
    moved = x - best(problem)
    with torch.no_grad():
        gap = float(problem._gap(problem.oracle.named(x)))
    expected = 0.5 * float(moved @ problem.oracle.hvp(best(problem), moved))
    assert gap == pytest.approx(expected, rel=1e-3, abs=0)


def test_the_gap_of_cross_entropy_against_fifty_digits():
    problem = shared("softmax_ce")
    a, b = problem.exact.a.numpy(), problem.exact.b.numpy()
    optimum = best(problem).numpy()
    u = np.random.RandomState(0).standard_normal(8)
    x = optimum + 1e-9 * u / np.linalg.norm(u)
    with decimal.localcontext() as context:
        context.prec = 50
        exact = lambda array: [decimal.Decimal(float(t)) for t in array]  # noqa: E731

        def cross_entropy(point):
            z = [sum(r * t for r, t in zip(exact(row), exact(point), strict=True)) for row in a]
            return sum(t.exp() for t in z).ln() - sum(p * t for p, t in zip(exact(b), z, strict=True)) / sum(exact(b))

        # b sums to 1 only up to rounding, which must not move the comparison: logits are centred, so it does not
        true = cross_entropy(x) - cross_entropy(optimum)
    with torch.no_grad():
        point = problem.oracle.named(torch.from_numpy(x))
        assert float(problem._gap(point)) == pytest.approx(float(true), rel=1e-3, abs=0)
        assert abs(float(problem.exact.value(point)) - problem.instance.f_star) < 1e-14  # nothing is left of 1e-18


def test_distance_knows_the_symmetry():
    problem = build("cosh")
    assert problem.instance.symmetry == "sign"
    place(problem, -best(problem))
    assert problem.evaluate("test")["distance"] == 0 and problem.evaluate("test")["relative_gap"] < 1e-24
    for name in NAMES:
        problem = shared(name)
        assert ("distance" in problem.evaluate("test")) == (name not in GAUGE | UNKNOWN), name
    problem = build("conv")  # a constant added to b1 changes nothing
    with torch.no_grad():
        problem.model.b1.add_(3.0)
    got = problem.evaluate("test")
    assert got["distance"] == pytest.approx(1) and got["relative_gap"] == pytest.approx(1)


@EVERY
def test_scores_are_relative_to_the_start(name):
    got = shared(name).evaluate("validation")
    assert got["relative_gap"] == pytest.approx(1, rel=1e-12) and got["relative_gradient"] == pytest.approx(1)
    assert got.get("distance", 1.0) == pytest.approx(1)
    assert got == shared(name).evaluate("test")
    facts = shared(name).facts
    assert facts["f_star_kind"] in ("exact", "certified", "best_known", "bound")
    assert facts["f_star"] == shared(name).instance.f_star and facts["precision"] == "float64"


@EVERY
def test_rates_come_from_the_larger_curvature_of_start_and_optimum(name):
    problem = shared(name)
    oracle = problem.oracle
    points = [oracle.start()] + ([] if problem.optimum is None else [best(problem)])
    tops, traces = [], []
    for x in points:
        hessian = oracle.hessian(x)
        tops.append(float(torch.linalg.eigvalsh(hessian)[-1]))
        traces.append(float(hessian.trace()))
    top = max(tops)
    expected = {
        "gradient": 1 / top,
        "two-point": min(1 / (max(t, m) + 2 * m) for t, m in zip(traces, tops, strict=True)),
        "adaptive": float(oracle.gradient(points[0]).square().mean().sqrt()) / top,
    } | problem.instance.rates
    if problem.rows:  # minibatches lower them
        assert all(0 < problem.rates[family] < rate for family, rate in expected.items())
    else:
        assert problem.rates == pytest.approx(expected, rel=1e-6)


VARIANTS = [
    ("matfac", dict(rank=1)),
    ("matfac", dict(rank=3)),
    ("matfac", dict(full=True)),
    ("bigram", dict(full=True)),
    ("attention", dict(variant="x")),
    ("attention", dict(variant="qk", rank=2)),
    ("attention", dict(sequences=3)),
    ("attention", dict(init="cold")),
    ("kernel_ls", dict(t=1.0, ridge=0.1)),
    ("kernel_energy", dict(t=16.0, ridge=0.1)),
    ("power_even", dict(j=1)),
    ("power_odd", dict(j=2)),
    ("ridge", dict(lam=0.5)),
    ("quadratic", dict(kappa=1e4, spectrum="step")),
    ("quadratic", dict(sparse=True)),
    ("nesterov", dict(mu=0.05)),
    ("logistic", dict(lam=1e-2, kappa=10.0)),
    ("subspace_trap", dict(nu=0.0)),
    ("rescaled_exp", dict(function="cosh")),
    ("softmax_l2", dict(scale="paper")),
]


@pytest.mark.parametrize("name, options", VARIANTS, ids=lambda v: v if isinstance(v, str) else str(v))
def test_variants_have_the_optimum_that_they_say(name, options):
    problem = build(name, **options)
    assert problem.evaluate("test")["relative_gap"] == pytest.approx(1)
    oracle, x = problem.oracle, best(problem)
    assert float(oracle.value(x)) == pytest.approx(problem.instance.f_star, rel=1e-10, abs=1e-25)
    assert float(oracle.gradient(x).norm() / problem._start_slope) < 1e-11
    values = torch.linalg.eigvalsh(oracle.hessian(x))
    assert values[0] > -1e-9 * values[-1]
    u = torch.from_numpy(np.random.RandomState(0).standard_normal(len(x)))
    away = x + 1e-2 * u / u.norm()
    with torch.no_grad():
        gap = float(problem._gap(oracle.named(away)))
    assert gap == pytest.approx(float(oracle.value(away)) - problem.instance.f_star, rel=1e-6, abs=1e-13) and gap >= 0


def test_a_factorisation_of_too_low_a_rank_keeps_the_singular_values_left_out():
    problem = build("matfac", rank=1)
    left = torch.linalg.svdvals(problem.exact.b)[1:]
    assert problem.instance.f_star == pytest.approx(0.5 * float(left.square().sum()), rel=1e-10)


def test_what_the_sheets_report():
    x = near_start("subspace_trap")[0]
    problem, expected = build("subspace_trap"), known("subspace_trap").problem
    place(problem, x)
    away, q = x.reshape(32, 16) - expected.best, expected.q
    complement = ((away - q @ (q.T @ away)) ** 2).sum() / (expected.best**2).sum()
    assert problem.evaluate("test")["complement_gap"] == pytest.approx(complement)
    assert shared("bigram").evaluate("test")["excess_nats"] == pytest.approx(2.498580749055 - 1.196706818385)
    got = shared("linear").evaluate("test")
    assert got["relative_objective_error"] == pytest.approx(1.972831306282e-01 / 3.191306028091e-03 - 1)
    squares = np.linalg.svd(known("ridge").data[0], compute_uv=False) ** 2
    assert shared("ridge").facts["statistical_dimension"] == pytest.approx((squares / (squares + 64 * 0.1)).sum())
    problem = build("leverage")
    assert problem.evaluate("test")["crossed_slacks"] == 0
    place(problem, 100 * problem.oracle.start())
    assert 0 < problem.evaluate("test")["crossed_slacks"] < 1
    b = shared("softmax_l2").exact.b
    error = float((torch.full_like(b, 1 / 64) - b).norm() / b.norm())
    assert shared("softmax_l2").evaluate("test")["prediction_error"] == pytest.approx(error)


def test_the_degree_of_an_attention_that_tells_the_classes_apart(monkeypatch):
    monkeypatch.setattr(regression.Regression, "_rates", lambda *_: {})
    low, high = (build("poly_attn", beta=beta, scale="standard").facts["probe_accuracy"] for beta in (0.0, 8.0))
    assert low < 0.7 and high > 0.9


# --- stacks, minibatches, noise, counters ---


@EVERY
def test_stacked_values_are_the_losses_of_the_points(name):
    problem = build(name)
    x, _ = near_start(name)
    points = x + 0.01 * np.random.RandomState(5).standard_normal((5, len(x)))
    one_by_one = []
    for point in points:
        place(problem, point)
        one_by_one.append(problem.model().item())
    np.testing.assert_allclose(problem.values(stack(problem, points)).numpy(), one_by_one, rtol=1e-11)


@EVERY
def test_stacked_runs_have_the_batches_and_the_noise_of_each(name):
    options = dict(noise=1e-2) | (dict(batch=3) if "batch" in options_of(name) else {}) | several(name)
    seeds = [3, 0, 7]
    problems = [build(name, seed=seed, **options) for seed in seeds]
    x, _ = near_start(name)
    points = x + 0.01 * np.random.RandomState(5).standard_normal((3, len(x)))
    together = problems[0].batches(4, seeds)
    separate = [problem.batch(4) for problem in problems]
    for shift in (0.0, 0.01):  # two evaluations in one step: the noise goes on
        values = problems[0].values(stack(problems[0], points + shift), together)
        for value, problem, batch, point in zip(values, problems, separate, points, strict=True):
            place(problem, point + shift)
            assert problem.loss(batch).item() == pytest.approx(value.item(), rel=1e-10)


def several(name):
    """Options that make the problem a sum of more than one term."""
    return dict(sequences=5) if name == "attention" else {}


@with_option("batch")
def test_a_minibatch_is_the_mean_of_its_rows(name):
    problem = build(name, batch=3, **several(name))
    x, _ = near_start(name)
    rows = problem.batch(0).rows
    place(problem, x)
    values = problem.values(stack(problem, np.tile(x, (3, 1))), Batch(rows[:, None], None, [0]))
    assert problem.model(rows).item() == pytest.approx(float(values.mean()), rel=1e-12)


@with_option("batch")
def test_the_losses_of_single_rows_average_to_the_loss(name):
    problem = build(name, batch=1, **several(name))
    x, _ = near_start(name)
    place(problem, x)
    rows = problem.batch(0).rows
    finite = problem.exact.finite_sum
    if finite and not rows.is_floating_point() and rows.shape == (1,):
        every = torch.arange(finite)[:, None]
        values = problem.values(stack(problem, np.tile(x, (finite, 1))), Batch(every, None, [0]))
        assert float(values.mean()) == pytest.approx(problem.oracle.value(torch.from_numpy(x)).item(), rel=1e-12)
        hit = torch.cat([problem.batch(step).rows for step in range(12 * finite)])
        assert len(hit.unique()) == finite
        return
    # a stream of samples: a statistical check
    many = 1500
    batch = problem.batches(0, range(many))
    values = problem.values(stack(problem, np.tile(x, (many, 1))), batch)
    truth = problem.oracle.value(torch.from_numpy(x)).item()
    assert abs(float(values.mean()) - truth) < 4.5 * float(values.std()) / math.sqrt(many)
    assert float(values.std()) > 0


def test_the_stream_of_the_subspace_trap():
    problem, expected = build("subspace_trap", seed=3), known("subspace_trap").problem
    place(problem, near_start("subspace_trap")[0])
    batch = problem.batch(11)
    rows, w = batch.rows.numpy(), problem.model.w.detach().numpy()
    assert rows.shape == (8, 16 + 4)
    x, y = rows[:, :16], rows[:, :16] @ expected.best.T + expected.nu * rows[:, 16:] @ expected.q.T
    assert problem.loss(batch).item() == pytest.approx(0.5 * ((x @ w.T - y) ** 2).sum() / 8, rel=1e-12)
    place(problem, best(problem))  # where the gradient is noise alone, which stays in the span of Q
    problem.loss(batch).backward()
    slope = problem.model.w.grad.numpy()
    assert np.linalg.norm(slope - expected.q @ (expected.q.T @ slope)) < 1e-12 * np.linalg.norm(slope)


@EVERY
def test_only_the_loss_runs_the_model(name):
    problem = build(name)
    calls = []
    problem.model.register_forward_hook(lambda *_: calls.append(1))
    problem.evaluate("test")
    problem.values(stack(problem, known(name).x0[None]))
    assert calls == []
    problem.loss(problem.batch(0))
    problem.loss(problem.batch(0))
    assert calls == [1, 1]


def test_the_oracle_counts_what_it_is_asked():
    oracle = Oracle(build("softmax_l2").exact)
    x = oracle.start()
    oracle.value(torch.stack([x, x, x]))
    oracle.gradient(x)
    oracle.value_and_gradient(x)
    oracle.hvp(x, torch.stack([x, x]))
    oracle.hessian(x)
    oracle.residual(x)
    oracle.jacobian(x)
    counted = dict(values=3, gradients=2, hvps=2 + 8, residuals=1, jacobians=1, jacobian_passes=8)
    assert dict(oracle.counts) == counted
    assert (oracle.forwards, oracle.backwards) == (3 + 2 + 20 + 1 + 1, 2 + 20 + 8)


@EVERY
def test_evaluation_noise_has_the_size_that_was_asked_for(name):
    clean, noisy = shared(name), build(name, noise=1e-2)
    many = 500
    points = stack(noisy, np.tile(known(name).x0, (many, 1)))
    batch = noisy.batches(0, range(many))._replace(rows=None)
    errors = (noisy.values(points, batch) - clean.values(points)).numpy()
    size = 1e-2 * (float(noisy.oracle.value(noisy.oracle.start())) - (noisy.instance.f_star or 0.0))
    assert abs(errors.std() / size - 1) < 4.5 / math.sqrt(2 * many)
    assert abs(errors.mean()) < 4.5 * size / math.sqrt(many)


@EVERY
def test_common_random_numbers_cancel_in_differences_and_others_do_not(name):
    x, v = near_start(name)
    differences = {}
    for label, options in dict(clean={}, crn=dict(noise=1e-1, crn=True), fresh=dict(noise=1e-1)).items():
        problem = build(name, seed=2, **options)
        batch = build(name, seed=2).batch(9)  # a stream's rows, for all three
        batch = problem.batch(9)._replace(rows=batch.rows)
        losses = []
        for point in (x + 1e-3 * v, x - 1e-3 * v):
            place(problem, point)
            losses.append(problem.loss(batch).item())
        differences[label] = losses[0] - losses[1]
        again = problem.batch(9)._replace(rows=batch.rows)
        assert problem.loss(again).item() - problem.model(*([] if batch.rows is None else [batch.rows])).item() == (
            0.0 if label == "clean" else pytest.approx(float(problem.noise * problem._start_gap * again.noise(0)))
        )
    scale = max(abs(t) for t in losses)
    assert differences["crn"] == pytest.approx(differences["clean"], abs=1e-14 * scale, rel=1e-9)
    assert abs(differences["fresh"] - differences["clean"]) > 1e-4 * float(problem._start_gap)


# --- labels with noise, regularisers ---


@with_option("label_noise")
def test_label_noise_leaves_the_optimum_where_it_is(name):
    size = LABEL_NOISE.get(name, 0.1)
    instance = 1 if name == "relu_softmax" else 0  # whose instance 0 has a bad local minimum
    plain, noisy = build(name, instance=instance, label_noise=0.0), build(name, instance=instance, label_noise=size)
    x = best(noisy)
    np.testing.assert_allclose(x.numpy(), best(plain).numpy(), rtol=1e-12, atol=1e-14)
    weight = noisy.exact.weight
    e = (noisy.exact.b - plain.exact.b).reshape(-1)
    if name not in OWN_NOISE:
        spread = (plain.exact.b - plain.exact.b.mean()).norm()
        assert float(e.norm() / spread) == pytest.approx(size, rel=1e-9)
    jacobian = noisy.oracle.jacobian(x)[: len(e)]
    assert float((jacobian.T @ e).norm() / (jacobian.norm() * e.norm())) < 1e-14
    if name != "ridge":
        assert noisy.instance.f_star == pytest.approx(0.5 * weight * float(e @ e), rel=1e-12)
    assert float(noisy.oracle.value(x)) == pytest.approx(noisy.instance.f_star, rel=1e-12)
    assert float(noisy.oracle.gradient(x).norm() / noisy._start_slope) < 1e-12
    if name in ("softmax_l2", "resnet_softmax", "relu_softmax", "rows_l2", "conv"):  # each row of b keeps its sum
        assert float(noisy.exact.b.sum(-1).sub(plain.exact.b.sum(-1)).abs().max()) < 1e-14
    if name == "conv":  # what the mask holds at 0 stays there
        assert float(noisy.exact.b.triu(1).abs().max()) < 1e-15
    if name == "softmax_l2":
        assert float(e.norm()) == pytest.approx(0.1 * float((plain.exact.b - 1 / 64).norm()), rel=1e-9)
        assert float(noisy.exact.b.min()) >= 0
    close = 1e-3 if name in SLOW else 1e-6
    for _ in range(2000):  # gradient descent at the published rate, on the model itself
        gradient(noisy)
        with torch.no_grad():
            for p in noisy.model.parameters():
                p -= noisy.rates["gradient"] * p.grad
            if noisy._gap(noisy.point()) < close * noisy._start_gap:
                break
    got = noisy.evaluate("test")
    assert got["relative_gap"] <= close and got["distance"] < (0.5 if name in SLOW else 0.02)


def test_label_noise_that_cannot_be_is_refused():
    with pytest.raises(UsageError, match="no minimum any more"):
        build("attention", label_noise=0.1)
    for name in (
        "leverage_grad",
        "power_even",
    ):  # as many outputs as parameters: nothing is orthogonal to the tangent space
        assert "label_noise" not in options_of(name)
    with pytest.raises(UsageError, match="label_noise"):
        leverage_grad(Knobs(label_noise=0.1))


@with_option("reg")
def test_the_centred_regulariser_keeps_the_optimum_and_makes_the_loss_convex(name):
    plain, centred = shared(name), build(name, reg="centred")
    assert torch.equal(best(plain), best(centred)) and plain.instance.f_star == centred.instance.f_star
    place(centred, best(centred))
    got = centred.evaluate("test")
    assert got["relative_gap"] < 1e-24 and got["relative_gradient"] < 1e-12
    rs = np.random.RandomState(0)
    for size in (0.1, 0.3, 1.0, 3.0):
        x = best(centred) + size * best(centred).norm() * torch.from_numpy(draws.unit(rs, 8))
        lowest = float(torch.linalg.eigvalsh(centred.oracle.hessian(x))[0])
        assert lowest >= 1 - 1e-9, size  # mu = 1


@with_option("reg")
def test_the_papers_regulariser_gives_a_certified_optimum(name):
    problem = build(name, reg="paper")
    assert problem.instance.f_star_kind == "certified"
    x = best(problem)
    slope = problem.oracle.gradient(problem.oracle.start()).norm()
    assert float(problem.oracle.gradient(x).norm() / slope) <= 1e-12
    assert float(torch.linalg.eigvalsh(problem.oracle.hessian(x))[0]) > 0
    assert problem.instance.f_star == pytest.approx(float(problem.oracle.value(x)), rel=1e-12)
    assert not torch.equal(x, best(shared(name)))
    if name == "softmax_l2":  # w^2 >= 4 + mu / sigma^2: the minimiser is next to 0
        assert float(x.norm() / best(shared(name)).norm()) < 1e-2


@pytest.mark.parametrize("reg", ["paper", "centred"])
def test_regularised_losses_are_those_of_the_reference(reg):
    problem, expected = build("softmax_l2", reg=reg, instance=1), known("softmax_l2", "tiny", 1)
    a, b = expected.data
    w2 = {"paper": 4, "centred": 0.25}[reg] + 1 / 64
    again = reference.SoftmaxL2(a, b, w2=w2, zc=a @ expected.x_star if reg == "centred" else 0.0)
    x, v = near_start("softmax_l2", "tiny", 1)
    place(problem, x)
    assert problem.model().item() == pytest.approx(again.value(x), rel=1e-10)
    assert relative(gradient(problem), again.grad(x)) < 1e-10
    product = problem.oracle.hvp(torch.from_numpy(x), torch.from_numpy(v)).numpy()
    assert relative(product, again.hvp(x, v)) < 1e-10


@pytest.mark.parametrize("reg", ["paper", "centred"])
@pytest.mark.parametrize("name", ["exp", "cosh", "sinh"])
def test_regularisers_of_the_exponentials_are_those_of_the_reference(name, reg):
    problem, expected = build(name, reg=reg, instance=1), known(name, "tiny", 1)
    a, b = expected.data
    bound = b**2 / 2 if reg == "paper" else b**2 / 8 + (name == "cosh")
    w2 = bound / 64 + 1 / 64  # the factor 1/n; A has singular values 8, and mu = 1 is the convexity that is left
    again = reference.ExpRegression(a, b, name, w2=w2, zc=a @ expected.x_star if reg == "centred" else 0.0)
    x, _ = near_start(name, "tiny", 1)
    place(problem, x)
    assert problem.model().item() == pytest.approx(again.value(x), rel=1e-10)
    assert relative(gradient(problem), again.grad(x)) < 1e-10


def test_the_papers_preset_has_their_norms():
    problem = build("softmax_l2", scale="paper")
    assert float(torch.linalg.matrix_norm(problem.exact.a, 2)) == pytest.approx(4)
    assert float(best(problem).norm()) == pytest.approx(4)


@with_option("init", "delta")
def test_starts_that_are_asked_for(name):
    if "zero" in ENTRIES[name].info["choices"]["init"]:
        assert not build(name, init="zero").oracle.start().any()
    problem = build(name, init="near", delta=0.25)
    away = problem.oracle.start() - best(problem)
    assert float(away.norm() / best(problem).norm()) == pytest.approx(0.25)


# --- precision ---


@EVERY
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_an_imprecise_oracle_rounds_the_loss_and_not_the_scores(name, precision):
    exact, rough = shared(name), build(name, precision=precision)
    loss = rough.loss(rough.batch(0))
    loss.backward()
    assert loss.dtype == torch.float32 and all(p.dtype == torch.float32 for p in rough.model.parameters())
    assert all(p.grad.isfinite().all() for p in rough.model.parameters())
    if precision != "float32":
        assert loss.to(getattr(torch, precision)).float().equal(loss)
    assert loss.item() == pytest.approx(exact.loss(exact.batch(0)).item(), rel=0.2, abs=2e-3)
    got, expected = rough.evaluate("test"), exact.evaluate("test")
    assert got == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert rough.facts["precision"] == precision


def test_an_overflow_of_exp_is_infinite_and_not_a_number():
    for name in ("exp", "cosh", "sinh", "rescaled_exp", "cosh_sum"):
        problem = build(name)
        far = 1e3 * best(problem) if name != "cosh_sum" else 1e3 * torch.ones_like(best(problem))
        place(problem, far)
        assert problem.loss(problem.batch(0)).item() == math.inf, name
        assert problem.values(stack(problem, far[None].numpy())).item() == math.inf, name


def test_half_precision_overflows_to_infinity():
    problem = build("rosenbrock", precision="float16")
    place(problem, 10.0 * torch.ones(10))
    assert problem.loss(problem.batch(0)).item() == math.inf
    assert math.isfinite(problem.evaluate("test")["loss"])


def zobench(*args):
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_run_that_overflows_is_a_diverged_row(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = zobench(
        "run", "-t", "rosenbrock[precision=float16]", "-O", "mezo[lr=1]", "--budget", "steps=50", "-q", "-o", tmp_path / "store"
    )  # fmt: skip
    assert result.exit_code == 4, result.stderr
    (row,), problems = record.scan(tmp_path / "store")
    assert row["status"] == "diverged" and not problems


# --- large instances, the numbers behind ---


def test_large_instances_are_made_in_chunks_of_the_same_distribution(monkeypatch):
    from zobench.problems.sheets import softmax

    monkeypatch.setitem(softmax.DIMENSIONS, "large", (1024, 160))
    monkeypatch.setattr(draws, "CHUNK", 300)
    problem = build("softmax_l2", scale="large", kappa=10.0)
    assert problem.model.a.dtype == torch.float32 and problem.facts["precision"] == "float32"
    assert problem.loss(problem.batch(0)).dtype == torch.float32
    a = problem.model.a.double()
    assert a.mean(0).abs().max() < 1e-6
    values = torch.linalg.svdvals(a)
    spread = (1 + (160 / 1024) ** 0.5) / (1 - (160 / 1024) ** 0.5)
    assert 10 / spread < values[0] / values[-1] < 10 * spread
    assert float(a.square().sum()) == pytest.approx(1024 * (draws.singular_values(160, 10.0) ** 2).sum(), rel=0.05)
    assert (a @ best(problem)).square().mean().sqrt().item() == pytest.approx(1.0, rel=1e-6)
    assert problem.evaluate("test")["relative_gap"] == pytest.approx(1)
    monkeypatch.setattr(draws, "CHUNK", 1024)
    again = build("softmax_l2", scale="large", kappa=10.0)
    np.testing.assert_allclose(again.model.a, problem.model.a, rtol=1e-4, atol=1e-5)


SHEETS = [importlib.import_module(f"zobench.problems.sheets.{m.name}") for m in pkgutil.iter_modules(sheets.__path__)]


@EVERY
def test_every_large_instance_can_be_made_and_scored(name, monkeypatch):
    for sheet in SHEETS:  # in small
        for value in vars(sheet).values():
            if isinstance(value, dict) and {"tiny", "large"} <= set(value):
                monkeypatch.setitem(value, "large", value["tiny"])
    monkeypatch.setattr(draws, "CHUNK", 10)
    problem = build(name, scale="large")
    loss = problem.loss(problem.batch(0))
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite() and problem.facts["precision"] == "float32"
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in problem.model.parameters())
    if not problem.rows:
        assert loss.item() == pytest.approx(float(problem.oracle.value(problem.oracle.start())), rel=1e-5, abs=1e-6)
    assert problem.evaluate("test")["relative_gap"] == pytest.approx(1, rel=1e-5)
    assert all(0 < rate < math.inf for rate in problem.rates.values())
    if problem.optimum is not None:
        got = problem.scores(problem.optimum)
        assert abs(got["relative_gap"]) < 1e-9 and got["relative_gradient"] < 1e-6


def test_curvature_beyond_dense_sizes_is_estimated(monkeypatch):
    from zobench.problems import oracle

    problem = shared("subspace_trap" if "subspace_trap" in ENTRIES else "softmax_l2")
    for name in ("softmax_l2", "attention", "kernel_ls"):
        problem = shared(name)
        x = problem.oracle.start()
        monkeypatch.setattr(oracle, "DENSE", 1024)
        top, trace = oracle.curvature(problem.oracle, x)
        monkeypatch.setattr(oracle, "DENSE", 2)
        assert oracle.curvature(problem.oracle, x) == (
            pytest.approx(top, rel=1e-2),
            pytest.approx(trace, rel=0.5, abs=abs(top)),
        )


@pytest.mark.parametrize("kind", ["geom", "step", "power"])
@pytest.mark.parametrize("centred", [True, False])
def test_matrices_have_their_singular_values(kind, centred):
    a = draws.matrix(np.random.RandomState(0), 64, 8, 10.0, kind, centred)
    expected = 8 * reference.spectrum(8, 10.0, kind)
    np.testing.assert_allclose(np.linalg.svd(a, compute_uv=False), np.sort(expected)[::-1], rtol=1e-12)
    np.testing.assert_allclose(a, reference.make_a(np.random.RandomState(0), 64, 8, 10.0, kind, centred), rtol=1e-12)
    if centred:
        np.testing.assert_allclose(a.sum(0), 0, atol=1e-12)
    else:
        assert abs(a.sum(0)).max() > 1e-3
    assert draws.singular_values(8, 10.0, kind)[[0, -1]] == pytest.approx([1, 0.1])
    assert draws.singular_values(1, 10.0, kind) == [1] and (draws.singular_values(5, 1.0, kind) == 1).all()


def test_planted_points_have_their_logits():
    rs = np.random.RandomState(1)
    a = draws.matrix(rs, 64, 8)
    x, z = draws.planted(rs, a, 1.5)
    np.testing.assert_allclose(a @ x, z, rtol=1e-12)
    assert np.sqrt(np.mean(z * z)) == pytest.approx(1.5) and np.linalg.norm(x) == pytest.approx(1.5)
    assert np.linalg.norm(draws.unit(rs, 9)) == pytest.approx(1)
    q = draws.orthogonal(rs.standard_normal((9, 4)))
    np.testing.assert_allclose(q.T @ q, np.eye(4), atol=1e-14)
    half = a.astype(np.float32)
    np.testing.assert_allclose(draws.product(half, x), half.astype(float) @ x, rtol=1e-12)


# --- which instances can be solved ---


def test_the_table_of_solvable_instances_is_the_specified_one():
    table = tomllib.loads(Path(acceptance.__file__).with_suffix(".toml").read_text())
    tiny = {name: scales["tiny"] for name, scales in table.items()}
    assert set(tiny) <= set(NAMES) and all(
        len(methods["gd"]) == len(methods["newton"]) == 20 for methods in tiny.values()
    )
    stuck = {name: {i for i, gap in enumerate(methods["gd"]) if gap > 1e-2} for name, methods in tiny.items()}
    assert {name: found for name, found in stuck.items() if found} == {
        "relu_softmax": {0, 10, 12},
        "cosh": {15},
        "bigram": {13},
    }
    convex = (
        "softmax_ce rows_ce kernel_ls kernel_energy power_even power_odd linear multiple ridge subspace_trap".split()
    )
    convex += ["quadratic", "nesterov", "logistic", "cosh_sum"]
    assert set(tiny) == set(NAMES) - set(convex) - UNKNOWN


def test_acceptance_is_told_where_it_was_measured():
    assert acceptance.hard("cosh", "tiny", 15) is True and acceptance.best_gap("cosh", "tiny", 15) > 1e-2
    assert (
        acceptance.hard("relu_softmax", "tiny", 0) is False and acceptance.gaps("relu_softmax", "tiny", 0)["gd"] > 1e-2
    )
    assert acceptance.hard("bigram", "standard", 0) is None and acceptance.best_gap("bigram", "standard", 0) > 1e-2
    assert acceptance.gaps("softmax_l2", "tiny", 3) == {"gd": 1e-10, "newton": 1e-10}
    assert acceptance.hard("softmax_l2", "tiny", 20) is acceptance.best_gap("softmax_ce", "tiny", 0) is None
    assert build("cosh", instance=15).facts["hard"] is True and build("softmax_l2").facts["best_gap"] == 1e-10
    for options in (dict(tau=2.0), dict(reg="centred"), dict(init="near"), dict(instance=20)):
        assert "hard" not in build("softmax_l2", **options).facts
    assert "hard" not in build("attention", init="cold").facts and "hard" in build("attention").facts
    assert "hard" not in build("bigram", full=True).facts and "hard" not in build("softmax_ce").facts


# --- use ---


@EVERY
def test_instances_differ_and_repeat(name):
    x = near_start(name)[0]
    values = [float(build(name, instance=i).oracle.value(torch.from_numpy(x))) for i in (1, 1, 2)]
    assert values[0] == values[1]
    assert (values[0] != values[2]) != (name in ("nesterov", "rosenbrock", "cosh_sum"))  # which nothing is drawn for


def test_saved_weights_are_the_iterate(tmp_path):
    problem = build("attention")
    place(problem, problem.oracle.start() + 1.5)
    problem.save(tmp_path / "weights")
    saved = load_file(tmp_path / "weights" / "model.safetensors")
    assert all(saved[name].equal(p.detach()) for name, p in problem.model.named_parameters())
    assert len(saved) == 2


@EVERY
def test_impossible_options_are_usage_errors(name):
    wrong = dict(nothing=1, scale="huge", precision="fp8", instance=-1, noise=-0.1)
    wrong |= dict(tau=0.0, kappa=0.5, batch=-1, delta=0.0, mu=-1.0, label_noise=-1.0)
    for option, value in wrong.items():
        if option in options_of(name) or option == "nothing":
            with pytest.raises(UsageError, match=option):
                build(name, **{option: value})
    if "batch" in options_of(name) and shared(name).exact.finite_sum and not shared(name).exact.streaming:
        with pytest.raises(UsageError, match="batch"):
            build(name, batch=shared(name).exact.finite_sum + 1)


MISTAKES = [
    ("softmax_l2[tua=1]", "did you mean tau"),
    ("softmax_l2[scale=huge]", "must be one of tiny, standard, large"),
    ("softmax_l2[precision=fp8]", "must be one of auto, float64"),
    ("softmax_l2[instance=-1]", "instance must be >= 0"),
    ("softmax_l2[tau=0]", "tau must be > 0"),
    ("softmax_l2[kappa=0.5]", "kappa must be >= 1"),
    ("linear[batch=1000]", "batch=1000"),
    ("softmax_l2[init=near,delta=0]", "delta must be > 0"),
]


@pytest.mark.parametrize("task, says", MISTAKES)
def test_a_mistake_is_one_line_and_code_2(task, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = zobench("run", "-t", task, "-O", "mezo", "--budget", "steps=1")
    assert result.exit_code == 2 and says in result.stderr and result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1 and result.stderr.startswith("zobench: ")


def test_seeds_out_of_range_are_one_line_and_code_2(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seeds in ("4294967296-4294967296", "-1"):
        result = zobench("run", "-t", "softmax_l2", "-O", "mezo", "--seeds", seeds)
        assert result.exit_code == 2 and len(result.stderr.strip().splitlines()) == 1, seeds


@pytest.mark.parametrize(
    "spec",
    ["exp[tau=2000]", "sinh[reg=centred,mu=1e300]", "softmax_l2[init=near,delta=1e-300]", "kernel_ls[ridge=1e300]"],
)
def test_knobs_that_leave_nothing_finite_to_measure_are_one_line(spec):
    result = CliRunner().invoke(main, ["run", "-t", spec, "-O", "mezo", "--budget", "steps=5", "-o", "unused", "-q"])
    assert result.exit_code == 2 and "take" in result.stderr and result.stderr.count("\n") == 1


def test_the_two_point_rate_allows_for_evaluation_noise():
    """Noise of one percent at the quiet rate would carry a run away from the optimum."""
    quiet, noisy = (build("softmax_l2", noise=sigma) for sigma in (0.0, 1e-2))
    assert noisy.rates["two-point"] < 0.3 * quiet.rates["two-point"]
    assert noisy.rates["gradient"] == quiet.rates["gradient"]  # an additive constant has no gradient
    assert build("softmax_l2", noise=1e-2, crn=True).rates == quiet.rates
    ends = []
    for seed in range(4):
        problem = build("softmax_l2", seed=seed, noise=1e-2)
        opt = MeZO(problem.model, lr=problem.rates["two-point"], seed=seed)
        for step in range(2000):
            batch = problem.batch(step)
            opt.step(lambda: problem.loss(batch))  # noqa: B023
        ends.append(problem.evaluate("test")["relative_gap"])
    assert sorted(ends)[2] < 0.5, ends


def test_a_sparse_quadratic_has_no_negative_gap():
    problem = build("quadratic", sparse=True)
    for x in (problem.oracle.flat(problem.optimum), *torch.randn(20, 16, dtype=torch.float64) * 1e-8):
        assert problem.scores(problem.oracle.named(x + problem.oracle.flat(problem.optimum)))["relative_gap"] >= 0
