"""One contract, run over every registered task, on real rows where there are some and on ours where not."""

import doctest
import math
from functools import cache
from pathlib import Path

import pytest
import torch

from zobench import registry
from zobench.build import trained
from zobench.optimizers import MeZO
from zobench.spec import Budget, Setting, UsageError

ENTRIES = list(registry.entries("task").values())
KEYS = set(
    "title year paper suite kind metric better scale version aliases needs budget batch_size select curve rates".split()
)
OF_LANGUAGE = {"loss", "sizes"}  # and where the rows are: hub or world
SMALL = dict(num_train=12, num_dev=4, num_eval=4, k=4, max_new_tokens=3)
SIGNED = ("mcc", "matthews_correlation", "pearson", "spearman")  # metrics from -1
OURS = Path(__file__).parent / "rows"
pytestmark = pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)


def build(entry, data_dir, sizes=SMALL, options=None, **changed):
    """A new problem of few rows on the small random model that the entry is tried on."""
    needs_model = "model" in entry.info["needs"]
    model = entry.info.get("model") or entry.info.get("try", "random:opt-nano")
    setting = dict(model=model if needs_model else None, data_dir=data_dir if needs_model else None, batch_size=4)
    given = {k: v for k, v in sizes.items() if k in entry.options} | (options or {})
    return registry.load(entry).build(Setting(**setting | changed), **registry.resolve(entry, given))


@cache
def built(name, data_dir):
    """The problem of `build` as it starts: for tests that leave it as it is."""
    return build(registry.find("task", name), data_dir)


def leaves(batch):
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)]


def test_info_is_complete(entry):
    assert set(entry.info) >= KEYS
    assert entry.info["better"] in ("higher", "lower") and entry.info["scale"] in ("linear", "log")
    Budget.parse(entry.info["budget"])
    assert "hub" not in entry.info or set(entry.info["hub"]) >= {"id", "folder"}
    if "model" in entry.info["needs"]:
        assert set(entry.info) >= OF_LANGUAGE and ("hub" in entry.info) != ("world" in entry.info)
        assert "hub" not in entry.info or entry.info["fields"]
    known = {**entry.common, **entry.options}
    for told in ("limits", "choices", "by"):
        assert set(entry.info.get(told, {})) <= set(known), told
    limits, choices = registry.bounds(entry)
    assert all(known[name] in allowed for name, allowed in choices.items())
    assert all(registry.resolve(entry, {name: known[name]}) for name in limits)


def test_the_examples_in_its_docstrings_hold(entry):
    result = doctest.testmod(registry.load(entry))
    assert result.failed == 0 and (result.attempted or not entry.info["needs"])


def test_its_loss_is_a_finite_scalar_with_a_gradient(entry, data_dir):
    problem = built(entry.name, data_dir)
    loss = problem.loss(problem.batch(0))
    assert loss.shape == () and loss.dtype in (torch.float32, torch.float64) and math.isfinite(float(loss.detach()))
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for _, p in trained(problem.model))
    problem.model.zero_grad(set_to_none=True)


def test_batches_are_a_pure_function_of_step_and_seed(entry, data_dir):
    problem, twin = built(entry.name, data_dir), build(entry, data_dir)
    late = problem.batch(5)  # asked for first: no hidden position
    for step in (0, 5):
        again, other = problem.batch(step), twin.batch(step)
        assert all(torch.equal(a, b) for a, b in zip(leaves(again), leaves(other), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(leaves(late), leaves(problem.batch(5)), strict=True))


def test_metrics_are_there_and_evaluation_leaves_no_trace(entry, data_dir):
    problem = built(entry.name, data_dir)
    batch = problem.batch(0)
    with torch.no_grad():
        before = float(problem.loss(batch))
    metrics = problem.evaluate("validation")
    assert entry.info["metric"] in metrics and all(isinstance(v, float) for v in metrics.values())
    if entry.info["scale"] == "linear":
        assert (-1.0 if entry.info["metric"] in SIGNED else 0.0) <= metrics[entry.info["metric"]] <= 1.0
    with torch.no_grad():
        assert float(problem.loss(batch)) == before


def test_test_rows_are_sealed_when_validation_is_scored(entry, data_dir):
    problem = build(entry, data_dir, score="validation")
    problem.evaluate("validation")
    if entry.info["kind"] != "regression":
        with pytest.raises(UsageError, match="validation only"):
            problem.evaluate("test")


def test_published_rates_cover_what_info_names(entry, data_dir):
    rates = built(entry.name, data_dir).rates
    assert set(rates) == set(entry.info["rates"]) and all(0 < r < math.inf for r in rates.values())


def gap_after(problem, opt, steps):
    for step in range(steps):
        batch = problem.batch(step)
        if isinstance(opt, MeZO):
            opt.step(lambda: problem.loss(batch))  # noqa: B023
        else:
            opt.zero_grad()
            problem.loss(batch).backward()
            opt.step()
    return problem.evaluate("validation")["relative_gap"]


def test_published_rates_of_a_regression_make_progress(entry, data_dir):
    if entry.info["kind"] != "regression":
        return
    # the trap's minibatch noise is 16 times its gradient, and one direction in 512 is seen a step
    steps, reached = (1000, 0.96) if entry.name == "subspace_trap" else (300, 0.5)
    for seed in (0, 1):
        problem = build(entry, data_dir, seed=seed)
        assert gap_after(problem, MeZO(problem.model, lr=problem.rates["two-point"], seed=seed), steps) < reached
    for family, method in (("gradient", torch.optim.SGD), ("adaptive", torch.optim.Adam)):
        problem = build(entry, data_dir)
        opt = method(problem.model.parameters(), lr=problem.rates[family])
        assert gap_after(problem, opt, 100) < 0.5, family


def test_a_published_rate_makes_progress(entry, data_dir):
    if "two-point" not in entry.info["rates"] or entry.info["kind"] == "regression":
        return
    problem = build(entry, data_dir, sizes=SMALL | dict(num_train=200, num_dev=60), batch_size=16)
    start = problem.evaluate("validation")["loss"]
    opt = MeZO(problem.model, lr=problem.rates["two-point"], seed=1)
    for step in range(50):
        batch = problem.batch(step)
        opt.step(lambda: problem.loss(batch))  # noqa: B023
    assert problem.evaluate("validation")["loss"] < start


def test_a_saved_model_opens_again(entry, data_dir, tmp_path):
    problem = built(entry.name, data_dir)
    problem.save(tmp_path / "saved")
    assert list((tmp_path / "saved").glob("*.safetensors"))
    if entry.info["needs"]:
        import transformers

        from zobench.models.load import KINDS

        model = getattr(transformers, KINDS[problem.kind][0]).from_pretrained(tmp_path / "saved")
        transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
        mine = dict(problem.model.named_parameters())
        assert all(torch.equal(p, mine[name]) for name, p in model.named_parameters())


def test_every_choice_of_its_own_builds_another_problem(entry, data_dir):
    """Templates, splits, versions: the loss is finite, and the facts say what was chosen."""
    if "model" not in entry.info["needs"]:
        return
    for option, values in entry.info.get("choices", {}).items():
        for value in values:
            where = OURS if entry.name == "glue_mnli" else data_dir  # the slices have no mismatched rows
            problem = build(entry, where, options={option: value})
            with torch.no_grad():
                assert math.isfinite(float(problem.loss(problem.batch(0)))), (option, value)
            if option == "template":
                assert problem.facts["template"] == value


def test_an_objective_that_is_a_metric_is_its_negative_without_a_gradient(entry, data_dir):
    for objective in registry.bounds(entry)[1].get("objective", ())[1:]:
        problem = build(entry, data_dir, options=dict(objective=objective))
        loss = problem.loss(problem.batch(0))
        assert loss.shape == () and not loss.requires_grad
        assert -1.0 <= float(loss) <= (1.0 if objective in SIGNED else 0.0)
        assert problem.facts["objective"] == objective


def test_calibration_changes_predictions_and_nothing_else(entry, data_dir):
    known = registry.bounds(entry)[1].get("calibration", ())
    if "sfc" not in known or built(entry.name, data_dir).kind != "causal":
        return
    problem = build(entry, data_dir, options=dict(calibration="sfc"))
    plain, calibrated = (p.evaluate("validation") for p in (built(entry.name, data_dir), problem))
    assert set(plain) == set(calibrated) and calibrated["loss"] == pytest.approx(plain["loss"])
    assert 0.0 <= calibrated["accuracy"] <= 1.0
