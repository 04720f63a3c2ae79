"""The softmax regression is the specified one: golden values, closed-form derivatives, published rates."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from task_files import load_task

from zobench.problems import regression
from zobench.spec import Setting, UsageError


def build(**options):
    return load_task("softmax_l2").build(Setting(), **options)


@pytest.fixture
def problem():
    return build()


def test_golden_values(problem):
    loss = problem.loss(problem.batch(0))
    loss.backward()
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(6.428101887717e-03, rel=1e-8)
    assert problem.model.x.grad.norm().item() == pytest.approx(1.2608225322e-02, rel=1e-8)
    assert problem.optimum.norm().item() == pytest.approx(1.0, rel=1e-8)


def test_the_optimum_has_loss_zero_and_gradient_zero(problem):
    with torch.no_grad():
        problem.model.x.copy_(problem.optimum)
    got = problem.evaluate("validation")
    assert got["loss"] < 1e-30
    assert got["relative_gap"] < 1e-28
    assert got["relative_gradient"] < 1e-12
    assert got["distance"] == 0


@pytest.mark.parametrize("options", [{}, {"tau": 2.0, "kappa": 10.0}, {"kappa": 5.0, "spectrum": "power"}])
def test_derivatives_in_closed_form_agree_with_autograd(options):
    problem = build(instance=1, **options)
    x = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradient = torch.autograd.functional.jacobian(problem.model.value, x)
    hessian = torch.autograd.functional.hessian(problem.model.value, x)
    curvature = problem.curvature
    torch.testing.assert_close(curvature.value(x), problem.model.value(x), rtol=1e-12, atol=0)
    torch.testing.assert_close(curvature.gradient(x), gradient, rtol=1e-10, atol=1e-14)
    product = curvature.hvp(x, torch.eye(8, dtype=torch.float64))
    torch.testing.assert_close(product, hessian, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(product, product.T, rtol=1e-10, atol=1e-15)
    torch.testing.assert_close(curvature.hvp(x, gradient), hessian @ gradient, rtol=1e-9, atol=1e-14)
    assert curvature.trace(x) == pytest.approx(hessian.trace().item(), rel=1e-10)
    assert curvature.largest_eigenvalue(x) == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-10)


def test_singular_values_and_centring():
    rs = np.random.RandomState(0)
    a = regression.centred_matrix(rs, 64, 8, 10.0, "geom")
    np.testing.assert_allclose(np.linalg.svd(a, compute_uv=False), 8 * regression.singular_values(8, 10.0), rtol=1e-12)
    np.testing.assert_allclose(a.sum(0), 0, atol=1e-12)
    for kind in regression.SPECTRA:
        assert regression.singular_values(8, 10.0, kind)[[0, -1]] == pytest.approx([1, 0.1])


def test_rates_are_those_of_the_larger_curvature(problem):
    l0, l1 = (problem.curvature.largest_eigenvalue(x) for x in (0 * problem.optimum, problem.optimum))
    t0, t1 = (problem.curvature.trace(x) for x in (0 * problem.optimum, problem.optimum))
    assert problem.rates["gradient"] == pytest.approx(1 / max(l0, l1))
    assert problem.rates["two-point"] == pytest.approx(min(1 / (l0 * (t0 / l0 + 2)), 1 / (l1 * (t1 / l1 + 2))))
    step = problem.rates["gradient"] * problem.curvature.gradient(0 * problem.optimum)
    assert problem.rates["adaptive"] * np.sqrt(8) == pytest.approx(step.norm().item())


def test_gradient_descent_at_its_rate_converges(problem):
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=problem.rates["gradient"])
    for step in range(100):
        optimizer.zero_grad()
        problem.loss(problem.batch(step)).backward()
        optimizer.step()
    assert problem.evaluate("validation")["relative_gap"] < 1e-8


def test_stacked_values_are_the_losses_of_the_points(problem):
    points = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = []
    for point in points:
        with torch.no_grad():
            problem.model.x.copy_(point)
        expected.append(problem.loss(None).item())
    np.testing.assert_allclose(problem.values({"x": points}).numpy(), expected, rtol=1e-12)


def test_only_the_loss_runs_the_model(problem):
    calls = []
    problem.model.register_forward_hook(lambda *_: calls.append(1))
    problem.evaluate("test")
    problem.values({"x": torch.zeros(2, 8, dtype=torch.float64)})
    assert calls == []
    problem.loss(problem.batch(0))
    assert calls == [1]


def test_evaluation_stays_in_float64_when_the_loss_is_not():
    exact, rounded = build(), build(precision="float32")
    assert rounded.loss(None).dtype == torch.float32
    assert rounded.model.x.dtype == torch.float32
    assert rounded.evaluate("test") == exact.evaluate("test")
    assert (exact.facts["precision"], rounded.facts["precision"]) == ("float64", "float32")


def test_large_scale_is_made_in_chunks_of_the_same_distribution(monkeypatch):
    monkeypatch.setitem(regression.DIMENSIONS, "large", (1024, 160))
    monkeypatch.setattr(regression, "CHUNK", 300)
    problem = build(scale="large", kappa=10.0)
    a = problem.model.a.double()
    assert problem.loss(None).dtype == torch.float32
    assert a.mean(0).abs().max() < 1e-6
    values = torch.linalg.svdvals(a)
    spread = (1 + (160 / 1024) ** 0.5) / (1 - (160 / 1024) ** 0.5)
    assert 10 / spread < values[0] / values[-1] < 10 * spread
    assert (a @ problem.optimum).square().mean().sqrt().item() == pytest.approx(1.0, rel=1e-6)
    assert problem.evaluate("test")["loss"] > 0
    for x in (0 * problem.optimum, problem.optimum):  # d > 128: Lanczos
        hessian = problem.curvature.hvp(x, torch.eye(160))
        top = torch.linalg.eigvalsh(hessian)[-1].item()
        assert problem.curvature.largest_eigenvalue(x) == pytest.approx(top, rel=1e-2)
    monkeypatch.setattr(regression, "CHUNK", 1024)
    np.testing.assert_allclose(build(scale="large", kappa=10.0).model.a, problem.model.a, rtol=1e-4, atol=1e-5)


def test_instances_differ_and_repeat():
    assert build(instance=1).model.a.equal(build(instance=1).model.a)
    assert not build(instance=1).model.a.equal(build(instance=2).model.a)


def test_impossible_options_are_named():
    for options in ({"scale": "huge"}, {"spectrum": "flat"}, {"precision": "float16"}, {"tau": 0.0}, {"kappa": 0.5}):
        with pytest.raises(UsageError, match=str(next(iter(options.values())))):
            build(**options)


def test_saved_weights_are_the_iterate(problem, tmp_path):
    with torch.no_grad():
        problem.model.x.add_(1.5)
    problem.save(tmp_path / "weights")
    assert load_file(tmp_path / "weights" / "model.safetensors")["x"].equal(problem.model.x.detach())
