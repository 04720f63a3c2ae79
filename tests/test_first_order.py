"""First-order entries against slow computations of their formulas, and the optimizers of other libraries by name."""

import json
import math
import subprocess
import sys
from collections import Counter
from importlib import metadata, util
from itertools import combinations

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from zobench import build, checkpoint, foreign, plan, record, registry
from zobench.cli import main
from zobench.core.first_order import adam_step
from zobench.core.zeroth_order import Diverged
from zobench.optimizers import I3S, SGD, AdamW, Adaptive, GaLore, SGDMomentum
from zobench.optimizers import Adam as OurAdam
from zobench.spec import EnvironmentUnmet, Job, UsageError


def tensors(*shapes, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)) for s in shapes]


def gradients(*shapes, steps, seed=1):
    """Step -> a gradient for each shape, whatever the weights are."""
    state = np.random.RandomState(seed)
    return [[state.standard_normal(s) for s in shapes] for _ in range(steps)]


def drive(optimizer, parameters, given):
    for step in given:
        for p, g in zip(parameters, step, strict=True):
            p.grad = torch.from_numpy(np.asarray(g)).to(p.dtype)
        optimizer.step()


class DenseAdam:
    """Adam on one array, as in its paper; eps as GaLore's release has it where `inner`."""

    def __init__(self, b1=0.9, b2=0.999, eps=1e-8, inner=False):
        self.b1, self.b2, self.eps, self.inner, self.m, self.v, self.t = b1, b2, eps, inner, 0.0, 0.0, 0

    def __call__(self, g):
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * g
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        mhat, vhat = self.m / (1 - self.b1**self.t), self.v / (1 - self.b2**self.t)
        return mhat / (np.sqrt(vhat) + self.eps / (math.sqrt(1 - self.b2**self.t) if self.inner else 1.0))


# --- torch's own ---


def test_momentum_adds_up_its_gradients():
    (p,) = tensors((3,))
    before, given = p.detach().numpy().copy(), gradients((3,), steps=5)
    drive(SGDMomentum([p], lr=0.1, momentum=0.8), [p], given)
    buffer, expected = np.zeros(3), before
    for (g,) in given:
        buffer = 0.8 * buffer + g
        expected = expected - 0.1 * buffer
    np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-13)


def test_without_momentum_it_is_sgd_and_without_decay_adamw_is_adam():
    given = gradients((3, 2), (2,), steps=6)
    for one, other in (
        ((SGDMomentum, dict(momentum=0.0)), (SGD, {})),
        ((AdamW, dict(weight_decay=0.0)), (OurAdam, {})),
    ):
        ends = []
        for cls, options in (one, other):
            parameters = tensors((3, 2), (2,))
            drive(cls(parameters, lr=0.01, **options), parameters, given)
            ends.append(torch.cat([p.detach().flatten() for p in parameters]))
        assert torch.equal(*ends)


# --- adaptive ---

OFF = dict(clip=0.0, decay=0.0, patience=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adaptive_with_all_off_is_adam_in_equal_bits(dtype):
    given, ends = gradients((4, 3), (3,), steps=40), []
    for make in (lambda p: Adaptive(p, lr=0.01, **OFF), lambda p: OurAdam(p, lr=0.01)):
        parameters = tensors((4, 3), (3,), dtype=dtype)
        optimizer = make(parameters)
        for i in range(4):
            drive(optimizer, parameters, given[10 * i : 10 * (i + 1)])
            if isinstance(optimizer, Adaptive):
                optimizer.observe({"loss": 1.0})
        ends.append(torch.cat([p.detach().flatten() for p in parameters]))
    assert torch.equal(*ends)


def test_adaptive_follows_its_formulas():
    """Clip, warm-up, late decay, plateaus and decoupled decay together, against numpy."""
    options = dict(clip=2.0, decay=3.0, start=0.4, warmup=5, patience=2, factor=0.3, tol=0.01, weight_decay=0.1)
    steps, lr = 50, 0.02
    given = gradients((4, 3), (3,), steps=steps)
    parameters = tensors((4, 3), (3,))
    x = [p.detach().numpy().copy() for p in parameters]
    optimizer = Adaptive(parameters, lr=lr, total_steps=steps, **options)
    losses = iter([1.0, 0.995, 0.991, 0.5, 0.6, 0.7, 0.495, 0.492, 0.1, 0.2])
    adams, kappa, best, bad = [DenseAdam(), DenseAdam()], 1.0, math.inf, 0
    for t, step in enumerate(given, start=1):
        drive(optimizer, parameters, [step])
        norm = math.sqrt(sum(float((g**2).sum()) for g in step))
        rate = lr * kappa * min(1, t / 5) * math.exp(-3 * max(0, t - 20) / (50 - 20))
        for i, g in enumerate(step):
            x[i] = x[i] * (1 - rate * 0.1) - rate * adams[i](g * min(1, 2.0 / norm))
        if t % 5 == 0:
            loss = next(losses)
            optimizer.observe({"loss": loss, "accuracy": 0.5})
            if loss < best - 0.01:
                best, bad = loss, 0
            else:
                bad += 1
                if bad >= 2:
                    kappa, bad = kappa * 0.3, 0
    assert kappa == pytest.approx(0.3**3)  # the plateaus that the losses above make
    for p, expected in zip(parameters, x, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-11)
    assert optimizer.param_groups[0]["lr"] == lr


def test_the_last_rate_is_five_percent():
    optimizer = Adaptive(tensors((2,)), total_steps=1000)
    assert [optimizer.schedule(t) for t in (1, 500)] == [1.0, 1.0]
    assert optimizer.schedule(750) == pytest.approx(math.exp(-1.5))
    assert optimizer.schedule(1000) == pytest.approx(0.0498, abs=1e-4)


def test_adaptive_asks_for_its_length_and_for_a_start_within_it():
    with pytest.raises(ValueError, match="total_steps"):
        Adaptive(tensors((2,)))
    with pytest.raises(ValueError, match="start"):
        Adaptive(tensors((2,)), total_steps=10, start=1.0)


def test_adaptive_takes_its_length_from_the_budget():
    for budget, steps in (("forwards=600", 200), ("steps=70", 70)):
        (job,) = plan.jobs(plan.Request(["softmax_ce"], ["adaptive"], budget=budget), build.Names())
        _, options, source = build.make_optimizer(job, build.make_problem(job, torch.device("cpu")))
        assert (options["total_steps"], source) == (steps, "task")


# --- galore, i3s ---


def rotated(given, x, lr, rank, gap, scale, eps, inner, decay=0.0, choose=lambda s, r, k: range(r)):
    """The end of one matrix: numpy's SVD of every gap-th gradient, moments kept, and the bases."""
    adam, bases, basis = DenseAdam(eps=eps, inner=inner), [], None
    tall = x.shape[0] >= x.shape[1]
    for t, g in enumerate(given):
        if t % gap == 0:
            u, s, vt = np.linalg.svd(g, full_matrices=False)
            basis = (vt.T if tall else u)[:, list(choose(s, min(rank, *x.shape), t // gap))]
            if bases:  # a sign is free, and the kept moments know the one that was taken: torch's LAPACK takes the same
                assert basis.shape == bases[-1].shape
            bases.append(basis)
        n = adam(g @ basis) @ basis.T if tall else basis @ adam(basis.T @ g)
        x = (x - lr * scale * n) * (1 - lr * decay)
    return x, bases


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
@pytest.mark.parametrize("form", ["released", "torch"])
def test_galore_at_full_rank_is_adam_in_a_rotated_basis(shape, form):
    given = gradients(shape, (3,), steps=25)
    parameters = tensors(shape, (3,))
    x, b = (p.detach().numpy().copy() for p in parameters)
    options = dict(scale=0.5, eps=1e-2, weight_decay=0.1)  # a large eps, so that its form is seen
    drive(GaLore(parameters, lr=0.05, rank=9, gap=100, eps_form=form, **options), parameters, given)
    expected, _ = rotated([g for g, _ in given], x, 0.05, 9, 100, 0.5, 1e-2, form == "released", decay=0.1)
    np.testing.assert_allclose(parameters[0].detach().numpy(), expected, rtol=1e-9)
    plain = DenseAdam(eps=1e-2, inner=form == "released")
    for _, g in given:
        b = (b - 0.05 * plain(g)) * (1 - 0.05 * 0.1)
    np.testing.assert_allclose(parameters[1].detach().numpy(), b, rtol=1e-9)


def test_the_released_eps_is_larger_by_the_correction():
    group = dict(betas=(0.9, 0.999), eps=0.5)
    g = torch.tensor([2.0], dtype=torch.float64)
    step = {
        inner: float(adam_step(torch.zeros_like(g), torch.zeros_like(g), g, 1, group, inner)) for inner in (True, False)
    }
    assert step[False] == pytest.approx(2 / (2 + 0.5))
    assert step[True] == pytest.approx(2 / (2 + 0.5 / math.sqrt(0.001)))
    assert 1 / math.sqrt(0.001) == pytest.approx(31.6, abs=0.03)


def test_rotated_adam_is_not_adam():
    """So that the test above could fail."""
    given, ends = gradients((5, 3), steps=10), []
    for cls, options in ((GaLore, dict(rank=3, gap=100, scale=1.0, eps_form="torch", eps=1e-8)), (OurAdam, {})):
        parameters = tensors((5, 3))
        drive(cls(parameters, lr=0.05, **options), parameters, given)
        ends.append(parameters[0].detach())
    assert not torch.allclose(*ends, atol=1e-3)


def test_galore_keeps_its_moments_over_a_refresh_and_reports_the_overlap():
    shapes, rank, gap = ((6, 4), (3, 5)), 2, 4
    given, parameters = gradients(*shapes, steps=13), tensors(*shapes)
    optimizer = GaLore(parameters, lr=0.05, rank=rank, gap=gap, scale=1.0)
    assert optimizer.diagnostics() == {}
    overlaps, old = [], [None, None]
    for t, step in enumerate(given):
        before = [p.detach().clone() for p in parameters]
        drive(optimizer, parameters, [step])
        for i, g in enumerate(step):
            u, _, vt = np.linalg.svd(g, full_matrices=False)
            if t % gap == 0:
                basis = vt[:rank].T if i == 0 else u[:, :rank]
                if old[i] is not None:
                    overlaps.append(np.linalg.norm(old[i].T @ basis) ** 2 / rank)
                old[i] = basis
            moved = (parameters[i].detach() - before[i]).numpy()
            inside = moved @ old[i] @ old[i].T if i == 0 else old[i] @ old[i].T @ moved
            np.testing.assert_allclose(moved, inside, atol=1e-14)  # the step lies in the subspace
            assert optimizer.state[parameters[i]]["step"] == t + 1
    assert len(overlaps) == 6
    assert optimizer.diagnostics() == {"subspace_overlap": pytest.approx(np.mean(overlaps), rel=1e-10)}


def test_a_subspace_that_stands_still_overlaps_wholly():
    g = gradients((6, 4), steps=1)
    parameters = tensors((6, 4))
    optimizer = GaLore(parameters, rank=2, gap=1)
    drive(optimizer, parameters, g * 5)
    assert optimizer.diagnostics()["subspace_overlap"] == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
def test_i3s_at_full_rank_is_galore(shape):
    given, ends = gradients(shape, (2,), steps=12), []
    for cls in (GaLore, I3S):
        parameters = tensors(shape, (2,))
        drive(cls(parameters, lr=0.05, rank=3, gap=5), parameters, given)
        ends.append(parameters)
    for one, other in zip(*ends, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=0)


SIGMA = (4.0, 2.0, 1.0, 1.0)


def drawn(seed, rank, sigma=SIGMA, refreshes=1):
    """Which of the unit vectors i3s takes from a gradient that is diagonal."""
    (p,) = tensors((4, 4))
    optimizer = I3S([p], rank=rank, gap=1, seed=seed)
    for _ in range(refreshes):
        drive(optimizer, [p], [[np.diag(sigma)]])
    rows = optimizer.state[p]["basis"].abs().sum(1)
    return tuple(int(i) for i in torch.nonzero(rows > 0.5).flatten())


def within(count, n, p):
    """Four standard deviations of a binomial."""
    return abs(count - n * p) <= 4 * math.sqrt(n * p * (1 - p)) + 1e-9


def test_i3s_draws_in_proportion_to_the_singular_values():
    n, p = 600, [s / sum(SIGMA) for s in SIGMA]
    one = Counter(drawn(seed, 1) for seed in range(n))
    assert all(within(one[(i,)], n, p[i]) for i in range(4)), one
    two = Counter(drawn(seed, 2) for seed in range(n))
    for i, j in combinations(range(4), 2):  # i then j, or j then i, each from what the first has left
        chance = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        assert within(two[(i, j)], n, chance), (two, i, j, chance)


def test_i3s_draws_anew_at_each_refresh_and_for_each_tensor():
    assert len({drawn(seed=3, rank=1, sigma=(1.0, 1.0, 1.0, 1.0), refreshes=k) for k in range(1, 9)}) > 1
    parameters = tensors(*[(4, 4)] * 12)
    optimizer = I3S(parameters, rank=1, gap=1)
    drive(optimizer, parameters, [[np.eye(4)] * 12])
    assert len({int(optimizer.state[p]["basis"].abs().argmax()) for p in parameters}) > 1


def test_vectors_of_value_zero_make_up_the_rank():
    assert drawn(seed=0, rank=3, sigma=(1.0, 0.0, 0.0, 0.0))[0] == 0
    assert len(drawn(seed=0, rank=2, sigma=(0.0, 0.0, 0.0, 0.0))) == 2


@pytest.mark.parametrize("cls", [GaLore, I3S])
def test_a_gradient_that_is_not_finite_stops_the_step_before_a_weight_moves(cls):
    parameters = tensors((2,), (3, 2))
    before = [p.detach().clone() for p in parameters]
    with pytest.raises(Diverged, match="tensor 1 is not finite"):
        drive(cls(parameters), parameters, [[np.ones(2), np.full((3, 2), np.nan)]])
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))


def test_tensors_named_to_be_skipped_are_stepped_unprojected():
    parameters = dict(zip(("embed.weight", "layers.0.weight"), tensors((4, 3), (4, 3)), strict=True))
    optimizer = GaLore(list(parameters.items()), rank=1)
    drive(optimizer, list(parameters.values()), gradients((4, 3), (4, 3), steps=1))
    assert ["basis" in optimizer.state[p] for p in parameters.values()] == [False, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cls, options", [(Adaptive, dict(total_steps=20)), (GaLore, dict(gap=3)), (I3S, dict(gap=3))])
def test_wide_state_of_half_precision_weights_survives_a_checkpoint(cls, options, dtype, tmp_path):
    given = gradients((5, 4), (3,), steps=9)
    whole = tensors((5, 4), (3,), dtype=dtype)
    optimizer = cls(whole, lr=0.01, **options)
    drive(optimizer, whole, given[:5])
    named = [(str(i), p) for i, p in enumerate(whole)]
    assert checkpoint.save(tmp_path / "c.safetensors", named, optimizer, None, {})
    drive(optimizer, whole, given[5:])
    again = tensors((5, 4), (3,), seed=5, dtype=dtype)
    fresh = cls(again, lr=0.01, **options)
    checkpoint.load(tmp_path / "c.safetensors", [(str(i), p) for i, p in enumerate(again)], fresh)
    drive(fresh, again, given[5:])
    kept = [v for s in fresh.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    assert {v.dtype for v in kept} == {torch.float32}
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


def test_the_run_gives_i3s_its_seed_and_stores_the_overlap(tmp_path):
    assert "seed" not in registry.find("optimizer", "i3s").options
    requested = plan.Request(["matfac"], ["i3s[rank=1,gap=5]"], budget="steps=16", seeds="4-4")
    (job,) = plan.jobs(requested, build.Names())
    optimizer, *_ = build.make_optimizer(job, build.make_problem(job, torch.device("cpu")))
    assert optimizer.param_groups[0]["seed"] == 4
    rows = cli_rows(tmp_path, "matfac", "i3s[rank=1,gap=5]", "steps=16")
    assert 0 < json.loads(rows[0].diagnostics)["subspace_overlap"] < 1 + 1e-12


# --- other libraries' ---

installed = pytest.mark.skipif(util.find_spec("pytorch_optimizer") is None, reason="needs pytorch-optimizer")


def cli(*arguments):
    return CliRunner().invoke(main, arguments)


def cli_rows(folder, task, optimizer, budget, **options):
    answer = cli(
        "run", "-t", task, "-O", optimizer, "--budget", budget, "-o", str(folder), "-q", *options.get("more", ())
    )
    assert answer.exit_code == 0, answer.output
    return [record.read(path) for path in sorted(folder.glob("*.parquet"))]


def test_torchs_adam_by_name_is_adam(tmp_path):
    ends = [
        cli_rows(tmp_path / name.partition("[")[0].replace(":", "-"), "softmax_ce", name, "forwards=60")[0]
        for name in ("adam[lr=0.01,beta2=0.95]", "torch:adam[lr=0.01,betas=(0.9,0.95)]", "torch:Adam[lr=0.01]")
    ]
    assert ends[0].final_digest == ends[1].final_digest != ends[2].final_digest
    assert [row.optimizer for row in ends] == ["adam", "torch:Adam", "torch:Adam"]
    assert json.loads(ends[1].optimizer_options)["betas"] == [0.9, 0.95]
    assert (ends[1].forwards, ends[1].backwards, ends[1].lr_source) == (20, 20, "given")


@installed
def test_lion_by_name_is_its_formula(tmp_path):
    from zobench.build import make_optimizer, make_problem

    (job,) = plan.jobs(plan.Request(["softmax_ce"], ["pytorch-optimizer:lion[lr=0.01]"]), build.Names())
    optimizer, *_ = make_optimizer(job, make_problem(job, torch.device("cpu")))
    (p,) = [p for group in optimizer.param_groups for p in group["params"]][:1]
    x, m = p.detach().numpy().copy(), 0.0
    given = gradients(p.shape, steps=4)
    drive(optimizer, [p], given)
    for (g,) in given:
        x = x - 0.01 * np.sign(0.9 * m + 0.1 * g)
        m = 0.99 * m + 0.01 * g
    np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-9, atol=1e-12)
    assert cli_rows(tmp_path, "softmax_ce", "pytorch-optimizer:Lion", "forwards=60")[0].lr_source == "task"


@installed
def test_muon_gets_its_two_kinds_of_tensors():
    entry = registry.find("optimizer", "pytorch-optimizer:muon")
    optimizer = foreign.make(entry, tensors((4, 3), (3,)), {**entry.options, "lr": 0.01})
    assert [(g["use_muon"], [p.ndim for p in g["params"]]) for g in optimizer.param_groups] == [
        (True, [2]),
        (False, [1]),
    ]


def test_lbfgs_counts_every_call_of_its_closure(tmp_path):
    (row,) = cli_rows(tmp_path, "softmax_ce", "torch:LBFGS[max_iter=4,history_size=3]", "forwards=90")
    assert row.status == "ok"
    assert row.forwards == row.backwards >= 30 > row.steps


def test_a_longer_budget_continues_it(tmp_path):
    short, whole = tmp_path / "short", tmp_path / "whole"
    cli_rows(short, "softmax_ce", "torch:NAdam[lr=0.01]", "forwards=60")
    rows = cli_rows(short, "softmax_ce", "torch:NAdam[lr=0.01]", "forwards=120")
    (once,) = cli_rows(whole, "softmax_ce", "torch:NAdam[lr=0.01]", "forwards=120")
    continued = next(row for row in rows if row.budget == "forwards=120")
    assert continued.continued_from
    assert continued.final_digest == once.final_digest


def test_what_cannot_train_ends_as_a_row_with_its_reason(tmp_path):
    answer = cli("run", "-t", "softmax_ce", "-O", "torch:SparseAdam", "--budget", "steps=3", "-o", str(tmp_path), "-q")
    assert answer.exit_code == 4
    assert "does not support dense gradients" in answer.stdout


@pytest.mark.parametrize(
    "name, said",
    [
        ("torch:Adm", "did you mean torch:Adam"),
        ("torch:", "no optimizer ''"),
        ("torch:lr_scheduler", "no optimizer"),
        ("torhc:Adam", "unknown library 'torhc'; did you mean torch?"),
        ("torch:Adam[beta=0.9]", "did you mean betas?"),
        ("torch:Adam[lr=-1]", "lr must be >= 0"),
        ("torch:Adam[lr=fast]", "lr must be a number"),
        ("torch:Adam[betas=0.9]", "betas must be"),
        ("torch:Adam[betas=(0.9,3)]", "Invalid beta parameter at index 1"),
        ("torch:Muon", "only supports 2D parameters"),
        pytest.param("pytorch-optimizer:Lyon", "did you mean pytorch-optimizer:Lion", marks=installed),
        pytest.param("pytorch-optimizer:SAM", "made from base_optimizer", marks=installed),
        pytest.param("pytorch-optimizer:SophiaH", "differentiates the gradient once more", marks=installed),
        pytest.param("pytorch-optimizer:Ranger21", "Ranger21[num_iterations=...]", marks=installed),
    ],
)
def test_mistakes_are_one_line(name, said, tmp_path):
    answer = cli("run", "-t", "softmax_ce", "-O", name, "--budget", "steps=3", "-o", str(tmp_path), "-q")
    assert answer.exit_code == 2, answer.output
    assert said in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_a_missing_library_says_what_to_install(monkeypatch, tmp_path):
    foreign._classes.cache_clear()
    monkeypatch.setattr(foreign.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentUnmet, match=r"pip install 'zobench\[optimizers\]'"):
        registry.find("optimizer", "pytorch-optimizer:Lion")
    answer = cli("run", "-t", "softmax_ce", "-O", "pytorch-optimizer:Lion", "-o", str(tmp_path))
    assert answer.exit_code == 6


def test_whole_numbers_pass_where_a_float_may_stand():
    entry = registry.find("optimizer", "TORCH:sgd")
    assert (entry.name, entry.info["family"]) == ("torch:SGD", "gradient")
    assert registry.resolve(entry, {"weight_decay": 0.1, "momentum": 0, "foreach": True})["weight_decay"] == 0.1
    with pytest.raises(UsageError, match="nesterov must be true or false"):
        registry.resolve(entry, {"nesterov": 0.5})


def test_every_class_of_torch_is_described_as_python_sees_it():
    import inspect

    for name in foreign._classes(foreign.LIBRARIES["torch"]):
        entry, cls = registry.find("optimizer", f"torch:{name}"), getattr(torch.optim, name)
        assert issubclass(registry.optimizer_class(entry), cls)
        for key, parameter in list(inspect.signature(cls.__init__).parameters.items())[2:]:
            assert entry.options[key] == parameter.default, (name, key)


def test_a_job_keeps_its_tuples_over_json():
    (job,) = plan.jobs(plan.Request(["softmax_ce"], ["torch:Adam[betas=(0.5,0.6)]"]), build.Names())
    again = Job.from_json(job.to_json())
    assert again.cell == job.cell
    optimizer, *_ = build.make_optimizer(again, build.make_problem(again, torch.device("cpu")))
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.6)


@installed
def test_provenance_has_the_version_of_the_library(monkeypatch):
    (job,) = plan.jobs(plan.Request(["softmax_ce"], ["pytorch-optimizer:Lion"]), build.Names())
    before, version = plan.provenance(job), metadata.version
    assert plan.provenance(job) == before
    monkeypatch.setattr(metadata, "version", lambda name: "9.9" if name == "pytorch-optimizer" else version(name))
    assert plan.provenance(job) != before


def test_planning_with_a_name_imports_no_library():
    code = (
        "import sys; from zobench import registry; e = registry.find('optimizer', 'torch:nadam'); "
        "assert e.options['betas'] == (0.9, 0.999) and e.doc; "
        "assert 'torch' not in sys.modules and 'pytorch_optimizer' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    answer = cli("info", "torch:nadam")
    assert answer.exit_code == 0
    assert "momentum_decay = 0.004" in answer.stdout
