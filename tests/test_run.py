"""One run becomes one row, whatever happens to it; a larger budget continues it; a file of one's own works like ours."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import zobench
from zobench import plan, record, registry
from zobench.build import Names
from zobench.problems import scoring
from zobench.replay import rebuild
from zobench.run import Place, execute
from zobench.spec import EnvironmentUnmet, Job, MismatchError, UsageError

CHECKOUT = Path(__file__).resolve().parent.parent


def run(store, optimizer="mezo", budget="steps=60", task="softmax_l2", **request):
    place = {k: request.pop(k) for k in ("timeout", "overwrite", "save") if k in request}
    asked = plan.Request([task], [optimizer], budget=budget, **request)
    return list(execute(plan.jobs(asked, Names()), Place(store=store, device="cpu", **place)))


def one(*args, **kwargs):
    ((row, _),) = run(*args, **kwargs)
    return row


def points(row):
    return {p["step"]: p["metrics"] for p in row.curve if p["metrics"] is not None}


def test_a_finished_cell_is_found_done_and_overwrite_adds_an_attempt(tmp_path):
    ((first, fresh),) = run(tmp_path)
    ((again, found),) = run(tmp_path)
    assert (fresh, found) == (False, True) and again == first
    ((second, found),) = run(tmp_path, overwrite="always")
    assert not found and second.attempt == 2 and second.final_digest == first.final_digest
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    ((standing, _),) = run(tmp_path)
    assert standing.attempt == 2


@pytest.mark.parametrize("optimizer", ("mezo", "adam", "sgd"))
def test_a_larger_budget_continues_to_the_same_bits(tmp_path, optimizer):
    one(tmp_path / "a", optimizer, "steps=60")
    longer = one(tmp_path / "a", optimizer, "steps=150")
    fresh = one(tmp_path / "b", optimizer, "steps=150")
    assert longer.continued_from and not fresh.continued_from
    assert longer.final_digest == fresh.final_digest and longer.value == fresh.value
    assert (longer.steps, longer.forwards, longer.backwards) == (fresh.steps, fresh.forwards, fresh.backwards)
    if optimizer == "mezo":
        assert longer.trace_values == fresh.trace_values and points(longer) == points(fresh)
        assert [p["forwards"] for p in longer.curve] == [p["forwards"] for p in fresh.curve]


def test_continuing_makes_no_forward_of_the_old_steps(tmp_path, monkeypatch):
    one(tmp_path, budget="steps=60")
    task = registry.load(registry.find("task", "softmax_l2"))
    build, calls = task.build, []

    def counting(setting, **options):
        problem = build(setting, **options)
        loss = problem.loss
        problem.loss = lambda batch: calls.append(1) or loss(batch)
        return problem

    monkeypatch.setattr(task, "build", counting)
    row = one(tmp_path, budget="steps=70")
    assert row.steps == 70 and row.forwards == 140
    assert len(calls) == 1 + 2 * 10  # the memory yardstick, then ten steps of two probes


def test_a_first_order_run_continues_with_its_random_state_and_best_weights(tmp_path, nano_dir, data_dir):
    """Dropout is on and the best weights are not the last: both must survive the checkpoint."""
    options = dict(task="sst2[num_train=12,num_dev=6,num_eval=6]", model=str(nano_dir), data_dir=str(data_dir))
    optimizer = "adam[lr=3e-3]"
    one(tmp_path / "a", optimizer, "steps=6", evaluations=3, batch_size=4, **options)
    longer = one(tmp_path / "a", optimizer, "steps=12", evaluations=6, batch_size=4, **options)
    fresh = one(tmp_path / "b", optimizer, "steps=12", evaluations=6, batch_size=4, **options)
    assert longer.continued_from
    assert (longer.final_digest, longer.kept_step, longer.value) == (fresh.final_digest, fresh.kept_step, fresh.value)
    assert points(longer) == points(fresh)


def test_the_best_weights_by_validation_are_kept_and_replayed(tmp_path, nano_dir, data_dir):
    row = one(
        tmp_path, "mezo[lr=2e-3]", "steps=20", "sst2[num_train=24,num_dev=8,num_eval=8]", evaluations=10, batch_size=4,
        model=str(nano_dir), data_dir=str(data_dir),
    )  # fmt: skip
    assert row.status == "ok" and row.mode == "eval" and row.partial_data and row.test_looks == 1
    scores = {step: json.loads(m) for step, m in points(row).items()}
    best = max(scores, key=lambda s: (scores[s]["accuracy"], -scores[s]["loss"], -s))
    assert row.kept_step == best and row.validation == scores[best]["accuracy"]
    problem = rebuild(row)  # checks the digest of the kept weights
    assert problem.evaluate("test")["accuracy"] == row.value


def test_validation_only_never_looks_at_the_test_rows(tmp_path, nano_dir, data_dir):
    row = one(
        tmp_path, "mezo", "steps=2", "sst2[num_train=12,num_dev=4]", model=str(nano_dir), data_dir=str(data_dir),
        score="validation",
    )  # fmt: skip
    assert row.test_looks == 0 and row.value == row.validation and not row.num_test


TASK = '''
"""A task of one's own."""
import torch
from zobench.spec import Problem, Setting

INFO = dict(title="mine", year=2026, paper="", suite="mine", kind="regression", metric="loss", better="lower",
            scale="linear", version=1, aliases=(), needs=(), budget="steps=20", batch_size=1, select="last",
            curve="linear", rates=(), limits=dict(), choices=dict())


class Mine:
    rates, facts = {}, {}

    def __init__(self, fail, at):
        self.model = torch.nn.Linear(3, 1).double()
        torch.nn.init.ones_(self.model.weight)
        self.fail, self.at, self.calls = fail, at, 0

    def batch(self, step):
        return torch.ones(4, 3, dtype=torch.float64)

    def loss(self, batch):
        self.calls += 1
        if self.fail and self.calls > self.at:
            raise {"oom": torch.OutOfMemoryError, "error": ZeroDivisionError, "memory": MemoryError}[self.fail]("no luck")
        return self.model(batch).square().mean()

    def evaluate(self, split):
        with torch.no_grad():
            return {"loss": float(self.model(self.batch(0)).square().mean())}

    def save(self, directory):
        pass


def build(setting, *, fail="", at=6):
    return Mine(fail, at)
'''
OPTIMIZER = '''
"""An optimizer of one's own: MeZO with a sign."""
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(title="mine", order="zeroth", family="two-point", forwards="2", backwards="0", replay="exact", mode="eval",
            limits=dict(lr=">=0"))
__all__ = ["Mine"]


class Mine(ZerothOrder):
    """theta -= lr * sign(g) * z."""

    def __init__(self, params, lr=1e-2, *, eps=1e-3, seed=None, mode="auto"):
        super().__init__(params, dict(lr=lr), seed=seed, mode=mode)
        self.eps = eps

    def update(self):
        z = self.draw()
        plus, minus = yield self.at(self.eps * z), self.at(-self.eps * z)
        self.apply(z, lambda group: -group["lr"] * ((plus > minus) - (plus < minus)))
        return (plus + minus) / 2
'''


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "mytask.py").write_text(TASK)
    (tmp_path / "myopt.py").write_text(OPTIMIZER)
    return str(tmp_path / "mytask.py"), str(tmp_path / "myopt.py")


@pytest.mark.parametrize("optimizer", ("sgd[lr=1e200]", "mezo[lr=1e200]"))
def test_divergence_is_a_row(tmp_path, mine, optimizer):
    row = one(tmp_path / "s", optimizer, "steps=50", mine[0])
    assert row.status == "diverged" and row.reason and row.value is None and row.steps < 50
    assert record.read(next((tmp_path / "s").glob("*.parquet"))).status == "diverged"
    ((again, found),) = run(tmp_path / "s", optimizer, "steps=50", mine[0])
    assert not found and again.attempt == 2  # a failure is not an answer to be reused


def test_files_of_ones_own_run_like_ours(tmp_path, mine):
    row = one(tmp_path / "s", mine[1], "steps=30", mine[0])
    assert row.status == "ok" and row.forwards == 60 and row.value < 9.0 and row.task == "file:mytask"
    assert rebuild(row).evaluate("validation")["loss"] == row.value


@pytest.mark.parametrize("fail, status", (("oom", "oom"), ("memory", "oom"), ("error", "error")))
def test_failures_are_rows_with_a_reason_and_what_was_measured(tmp_path, mine, fail, status):
    row = one(tmp_path / "s", "mezo", "steps=30", f"{mine[0]}[fail={fail}]")
    assert row.status == status and "no luck" in row.reason
    assert row.steps == 2 and len(row.trace_values) == 4 and row.forwards >= 4
    assert record.scan(tmp_path / "s")[1] == []


def test_provenance_follows_code_not_words(tmp_path, mine):
    def provenance():
        plan._tree.cache_clear(), plan._imports.cache_clear()
        (job,) = plan.jobs(plan.Request([mine[0]], [mine[1]]), Names())
        return plan.provenance(job)

    before, path = provenance(), Path(mine[1])
    path.write_text(OPTIMIZER.replace("theta -= lr", "w -= lr").replace("An optimizer", "# a comment\nAn optimizer"))
    assert provenance() == before
    path.write_text(OPTIMIZER.replace("1e-3", "2e-3"))
    assert provenance() != before
    path.write_text(OPTIMIZER)
    engine = registry.PACKAGE / "core" / "perturb.py"
    files = plan._closure([path])
    assert engine in files and registry.PACKAGE / "report" / "tables.py" not in files


def test_a_time_limit_is_a_row_and_the_run_goes_on_from_it(tmp_path):
    row = one(tmp_path, budget="steps=100000", timeout=1.0)
    assert row.status == "timeout" and 0 < row.steps < 100000 and "limit" in row.reason
    goal = row.steps + 50
    later = one(tmp_path, budget=f"steps={goal}")
    assert later.continued_from and later.final_digest == one(tmp_path / "fresh", budget=f"steps={goal}").final_digest


@pytest.mark.parametrize("budget, steps", (("steps=7", 7), ("forwards=20", 10)))
def test_budgets_are_kept(tmp_path, budget, steps):
    assert one(tmp_path, "mezo", budget).steps == steps


def test_a_backward_costs_two_forwards_of_the_budget(tmp_path):
    row = one(tmp_path, "sgd", "forwards=30")
    assert (row.steps, row.forwards, row.backwards) == (10, 10, 10)


def test_a_time_budget_ends_the_run(tmp_path):
    row = one(tmp_path, "mezo", "time=0.5s")
    assert row.status == "ok" and 0.5 <= row.step_seconds + row.warmup_seconds < 1.5


def test_a_linear_schedule_is_in_the_trace(tmp_path):
    row = one(tmp_path, "mezo", "steps=40", schedule="linear")
    rates = [e[4] for e in json.loads(row.trace_events) if e[1] == "group" and e[3] == "lr"]
    assert len(rates) == 40 and rates[-1] == pytest.approx(rates[0] / 40)
    rebuild(row)
    longer = one(tmp_path, "mezo", "steps=80", schedule="linear")
    assert not longer.continued_from  # its schedule is another one


def test_a_falsified_trace_is_found_out(tmp_path):
    row = one(tmp_path)
    row.trace_values[10] += 1e-9
    with pytest.raises(MismatchError, match="differ"):
        rebuild(row)


def test_first_order_runs_say_that_they_cannot_be_replayed(tmp_path):
    with pytest.raises(UsageError, match="no trace"):
        rebuild(one(tmp_path, "adam"))


def test_the_row_holds_what_was_measured(tmp_path, nano_dir, data_dir):
    options = dict(
        task="sst2[num_train=12,num_dev=4,num_eval=4]", model=str(nano_dir), data_dir=str(data_dir), batch_size=4
    )
    mezo, adam = (one(tmp_path, name, "steps=5", **options) for name in ("mezo", "adam"))
    trainable = mezo.parameters_count
    assert (mezo.state_bytes, mezo.forwards, mezo.backwards) == (0, 10, 0)
    assert (adam.forwards, adam.backwards) == (5, 5)
    assert adam.state_bytes >= 2 * 4 * trainable and adam.weight_bytes == 4 * trainable
    assert adam.peak_bytes - mezo.peak_bytes > 3 * 4 * trainable  # gradients and two moments
    assert mezo.inference_bytes <= mezo.peak_bytes < 1.3 * mezo.inference_bytes
    assert mezo.probe_mode == "stream" and mezo.restore_drift == 0.0 and mezo.probe_cosine > 0.999
    assert mezo.tokens > 0 and mezo.eval_forwards > 0 and mezo.timed_steps == 3 and mezo.rss_bytes > mezo.peak_bytes
    environment = json.loads(mezo.environment)
    assert environment["torch"] and environment["hardware"] and environment["started"]
    assert mezo.start_digest == adam.start_digest and mezo.final_digest != adam.final_digest


def test_low_precision_shows_in_the_fidelity_columns(tmp_path, nano_dir, data_dir):
    options = dict(
        task="sst2[num_train=12,num_dev=4,num_eval=4]", model=str(nano_dir), data_dir=str(data_dir), batch_size=4
    )
    row = one(tmp_path, "mezo[lr=1e-6]", "steps=4", dtype="bf16", **options)
    assert row.status == "ok" and row.restore_drift == 0.0
    assert row.probe_unmoved > 0.01 and row.probe_cosine < 0.9999
    assert row.lost_updates > 0.9  # at lr g near 1e-6 nearly every bfloat16 update rounds away


def test_the_door_for_notebooks(tmp_path):
    rows = zobench.run("softmax_l2", ["sgd", "mezo[lr=1.0]"], seeds=2, budget="steps=10", store=tmp_path)
    assert [r.optimizer for r in rows] == ["sgd", "sgd", "mezo", "mezo"] and [r.seed for r in rows] == [0, 1, 0, 1]
    assert rows[0].lr_source == "task" and rows[2].lr_source == "given"
    assert callable(zobench.run) and zobench.run.Place is Place


def test_a_job_crosses_as_text():
    for job in plan.jobs(plan.Request(["softmax_l2"], ["mezo", "adam"], seeds="2"), Names()):
        assert Job.from_json(job.to_json()) == job and Job.from_json(job.to_json()).cell == job.cell


COMMAND = [sys.executable, "-m", "zobench", "run", "-t", "softmax_l2", "-O", "mezo", "--budget", "steps=3000", "-o"]


def start(store):
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen(
        [*COMMAND, str(store)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_ctrl_c_is_a_row_and_the_same_command_goes_on_to_the_same_bits(tmp_path):
    process = start(tmp_path)
    time.sleep(3.0)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            continue
        break
    _, err = process.communicate(timeout=60)
    if process.returncode == 0:
        pytest.skip("the run was faster than the signal")
    assert process.returncode == 130, err
    assert "Traceback" not in err
    rows, problems = record.scan(tmp_path)
    assert not problems
    assert all(r["status"] == "interrupted" for r in rows)
    second = start(tmp_path)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    finished = [
        r for r in record.scan(tmp_path, ("status", "final_digest", "continued_from"))[0] if r["status"] == "ok"
    ]
    fresh = one(tmp_path / "fresh", "mezo", "steps=3000")
    assert [r["final_digest"] for r in finished] == [fresh.final_digest]
    assert bool(finished[0]["continued_from"]) == any(r["steps"] for r in rows)


def test_a_killed_run_leaves_no_half_file(tmp_path):
    for delay in (0.3, 1.5, 2.5, 3.0):
        process = start(tmp_path)
        time.sleep(delay)
        process.kill()
        process.communicate()
        rows, problems = record.scan(tmp_path)
        assert not problems and all(r["status"] == "ok" for r in rows)
    second = start(tmp_path)
    second.communicate(timeout=120)
    assert second.returncode == 0
    (row,) = record.standing(record.scan(tmp_path)[0])
    assert row["status"] == "ok" and torch.isfinite(torch.tensor(row["value"]))


TORN = '''
"""A first-order optimizer that is interrupted twice in the middle of its second step."""
import os
import signal

import torch

INFO = dict(title="torn", order="first", family="gradient", forwards="1", backwards="1", replay="none", mode="train",
            limits=dict())
__all__ = ["Torn"]


class Torn(torch.optim.SGD):
    """Half a step, two Ctrl-C, the other half."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, lr=lr)
        self.taken = 0

    def step(self, closure=None):
        self.taken += 1
        loss = super().step(closure)
        if self.taken == 2 and os.environ.get("ZOBENCH_TEST_TEAR"):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return loss
'''


def test_a_step_that_was_torn_is_not_continued_from(tmp_path, mine, monkeypatch):
    path = tmp_path / "torn.py"
    path.write_text(TORN)
    monkeypatch.setenv("ZOBENCH_TEST_TEAR", "1")
    torn = one(tmp_path / "s", str(path), "steps=5", mine[0])
    assert torn.status == "interrupted" and torn.steps == 1 and torn.final_digest is None
    monkeypatch.delenv("ZOBENCH_TEST_TEAR")
    again = one(tmp_path / "s", str(path), "steps=5", mine[0])
    fresh = one(tmp_path / "fresh", str(path), "steps=5", mine[0])
    assert again.continued_from is None and again.final_digest == fresh.final_digest


def test_a_bad_place_for_weights_is_told_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnmet, match="cannot save"):
        one(tmp_path / "s", save=tmp_path / "file" / "deep")


def test_an_optimizer_that_watches_validation_is_not_continued_on_another_schedule(tmp_path):
    path = tmp_path / "watching.py"
    watching = OPTIMIZER.replace("    def update", "    def observe(self, metrics):\n        super().observe(metrics)\n"
                                 "        self.eps *= 0.9\n\n    def update")  # fmt: skip
    path.write_text(watching)
    one(tmp_path / "s", str(path), "steps=20")
    longer = one(tmp_path / "s", str(path), "steps=50")
    assert longer.continued_from is None
    assert longer.final_digest == one(tmp_path / "fresh", str(path), "steps=50").final_digest


def test_provenance_follows_a_helper_beside_the_file(tmp_path, mine):
    helper = Path(mine[1]).with_name("myhelper.py")
    helper.write_text("SCALE = 1.0\n")
    Path(mine[1]).write_text("from myhelper import SCALE\nfrom zobench.optimizers import MeZO\n" + OPTIMIZER.lstrip())
    files = plan._closure([Path(mine[1])])
    assert helper in files and registry.PACKAGE / "optimizers" / "mezo.py" in files


MISTAKES = (
    dict(overwrite="Always"),
    dict(seeds=[-1]),
    dict(batch_size=2.5),
    dict(budgett=3),
    dict(timeout="soon"),
)


@pytest.mark.parametrize("bad", MISTAKES)
def test_the_door_names_a_mistake(tmp_path, bad):
    with pytest.raises(UsageError):
        zobench.run("softmax_l2", "mezo", store=tmp_path, **bad)


def test_seeds_as_people_write_them(tmp_path):
    assert (
        plan.seeds("0") == [0]
        and plan.seeds("3") == [0, 1, 2]
        and plan.seeds("2-4") == [2, 3, 4]
        and plan.seeds("7,5") == [7, 5]
    )
    rows = zobench.run("softmax_l2", "mezo", seeds=[4, 2], budget="steps=2", store=tmp_path)
    assert [r.seed for r in rows] == [4, 2]
    with pytest.raises(UsageError):
        plan.seeds("99999999999")


def nan_model(nano_dir, tmp_path):
    """random:opt-nano with one weight that is no number."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "nan"
    shutil.copytree(nano_dir, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.decoder.layers.1.fc1.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


@pytest.mark.parametrize(
    "task, optimizer",
    [
        ("sst2[num_train=8,num_dev=4,num_eval=4]", "zero-shot"),
        ("sst2[num_train=8,num_dev=4,num_eval=4,objective=accuracy]", "mezo"),
        ("squad[num_train=4,num_dev=2,num_eval=2,max_new_tokens=2]", "zero-shot"),
    ],
)
def test_a_model_of_nans_has_no_accuracy(nano_dir, tmp_path, data_dir, task, optimizer):
    asked = plan.Request(
        [task], [optimizer], model=nan_model(nano_dir, tmp_path), budget="steps=2", data_dir=str(data_dir)
    )
    ((row, _),) = execute(plan.jobs(asked, Names()), Place(tmp_path / "store", "cpu"))
    assert row.status == "diverged" and ("nan" in row.reason or "not finite" in row.reason)


def test_weights_that_the_last_step_destroyed_are_not_a_result(tmp_path, data_dir):
    task = "sst2[num_train=8,num_dev=4,num_eval=4]"
    asked = plan.Request([task], ["mezo[lr=1e30]"], model="random:opt-nano", budget="steps=1", data_dir=str(data_dir))
    ((row, _),) = execute(plan.jobs(asked, Names()), Place(tmp_path, "cpu"))
    assert row.status == "diverged" and row.value is None


# --- a stop in an evaluation ------------------------------------------------------------------------------------------

SMALL = "num_train=12,num_dev=6,num_eval=6"


class Asks:
    """Sends itself Ctrl-C in one forward of one evaluation, both counted from 1, and counts the forwards after it.

    Evaluation 0 is what comes before the first: the yardstick of memory, then steps.
    """

    def __init__(self, monkeypatch, evaluation, forward=2, act=lambda: os.kill(os.getpid(), signal.SIGINT)):
        self.evaluations = self.problems = self.after = 0
        self.asked, make = False, zobench.run.make_problem

        def made(job, device):
            problem, forwards = make(job, device), 0
            evaluate, self.problems = problem.evaluate, self.problems + 1

            def enter(split):
                nonlocal forwards
                self.evaluations, forwards = self.evaluations + 1, 0
                return evaluate(split)

            def called(module, arguments, output):
                nonlocal forwards
                forwards += 1
                self.after += self.asked
                if not self.asked and (self.evaluations, forwards) == (evaluation, forward):
                    self.asked = True
                    act()

            problem.evaluate = enter
            problem.model.register_forward_hook(called)
            return problem

        monkeypatch.setattr(zobench.run, "make_problem", made)


def language(store, optimizer, nano_dir, data_dir, budget="steps=4", task="sst2", **more):
    return run(
        store, optimizer, budget, f"{task}[{SMALL}]", batch_size=4, evaluations=2, model=str(nano_dir),
        data_dir=str(data_dir), **more,
    )  # fmt: skip


@pytest.fixture
def batches_of_one(monkeypatch):
    """Evaluations of one example in a forward."""
    monkeypatch.setattr(scoring, "EVALUATION_TOKENS", 1)


RESULT = "final_digest kept_step value metrics validation validation_metrics steps forwards backwards test_looks status"


@pytest.mark.parametrize("optimizer", ["mezo[lr=1e-3]", "adam[lr=1e-3]"])
@pytest.mark.parametrize("evaluation", [1, 2, 3], ids=["in the middle", "at the end", "of the test rows"])
def test_ctrl_c_in_an_evaluation_stops_it_and_the_run_goes_on_to_the_same_bits(
    tmp_path, monkeypatch, batches_of_one, nano_dir, data_dir, optimizer, evaluation
):
    with monkeypatch.context() as patch:
        asks = Asks(patch, evaluation)
        ((row, _),) = language(tmp_path / "a", optimizer, nano_dir, data_dir)
    assert asks.asked and asks.after == 0  # not one batch more
    steps = 2 if evaluation == 1 else 4
    assert row.status == "interrupted" and row.reason == f"stopped by Ctrl-C after {steps} steps, in an evaluation"
    assert (row.steps, row.value, row.metrics, row.test_looks) == (steps, None, None, 0)
    assert len(points(row)) == evaluation - 1 and row.eval_forwards > 0
    ((again, _),) = language(tmp_path / "a", optimizer, nano_dir, data_dir)
    ((fresh, _),) = language(tmp_path / "b", optimizer, nano_dir, data_dir)
    assert again.continued_from and again.status == "ok" and again.test_looks == 1
    for name in RESULT.split():
        assert getattr(again, name) == getattr(fresh, name), name
    assert points(again) == points(fresh)
    if optimizer.startswith("mezo"):
        assert again.trace_values == fresh.trace_values and again.trace_events == fresh.trace_events
        rebuild(again)


def test_after_an_interrupted_evaluation_no_other_job_starts(tmp_path, monkeypatch, batches_of_one, data_dir):
    asks = Asks(monkeypatch, 2)
    rows = run(tmp_path, "zero-shot", task=f"sst2[{SMALL}]", model="random:opt-nano", data_dir=str(data_dir), seeds="3")
    assert [(row.status, row.value, row.test_looks) for row, _ in rows] == [("interrupted", None, 0)]
    assert asks.problems == 1 and asks.after == 0 and len(record.scan(tmp_path)[0]) == 1


def test_a_timeout_in_an_evaluation_ends_it(tmp_path, monkeypatch, batches_of_one, nano_dir, data_dir):
    asks = Asks(monkeypatch, 2, act=lambda: time.sleep(5))
    ((row, _),) = language(tmp_path, "zero-shot", nano_dir, data_dir, timeout=5.0)
    assert row.status == "timeout" and row.value is None and asks.after == 0
    assert row.reason == "the limit of 5 s had passed after 0 steps, in an evaluation"


def test_a_step_is_not_torn_by_a_stop(tmp_path, monkeypatch, nano_dir, data_dir):
    """Ctrl-C at the first of a step's two forwards, where the weights are perturbed: the step is finished."""
    asks = Asks(monkeypatch, 0)
    ((row, _),) = language(tmp_path, "mezo", nano_dir, data_dir)
    assert asks.asked and row.status == "interrupted" and row.steps == 1
    assert asks.after == 1 and "evaluation" not in row.reason


def test_ctrl_c_between_two_jobs_is_heard(tmp_path):
    jobs = plan.jobs(plan.Request(["softmax_l2"], ["mezo", "adam"], budget="steps=3"), Names())
    rows = []
    for row, _ in execute(jobs, Place(store=tmp_path, device="cpu")):
        if not rows:
            os.kill(os.getpid(), signal.SIGINT)
        rows.append(row)
    assert [(row.status, row.steps) for row in rows] == [("ok", 3), ("interrupted", None)]
    last = execute(jobs[:1], Place(store=tmp_path, device="cpu"))
    assert next(last)[0].status == "ok"
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):  # no row is left to say it
        next(last)


def test_a_stop_in_the_evaluation_at_the_start_of_a_curve_is_a_row_without_steps(
    tmp_path, monkeypatch, batches_of_one, nano_dir, data_dir
):
    monkeypatch.setitem(registry.find("task", "sst2").info, "curve", "log")
    with monkeypatch.context() as patch:
        asks = Asks(patch, 1)
        ((row, _),) = language(tmp_path / "a", "mezo", nano_dir, data_dir)
    assert asks.after == 0 and (row.status, row.steps, row.curve, row.value) == ("interrupted", 0, [], None)
    ((again, _),) = language(tmp_path / "a", "mezo", nano_dir, data_dir)
    ((fresh, _),) = language(tmp_path / "b", "mezo", nano_dir, data_dir)
    assert again.continued_from is None and again.final_digest == fresh.final_digest and points(again) == points(fresh)
