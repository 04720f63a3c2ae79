"""Seeds computed together are the runs that they would be alone; whatever happens to them happens to each as a row."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from zobench import lockstep, plan, record
from zobench.build import Names
from zobench.core.many import ManySeeds
from zobench.core.zeroth_order import ZerothOrder
from zobench.optimizers import MeZO
from zobench.replay import check_metrics, rebuild
from zobench.run import Place, Reporter, execute

SEEDS = "0-8"


def run(store, task="softmax_l2", optimizer="mezo", seeds=SEEDS, budget="steps=120", together=True, **place):
    asked = plan.Request([task], [optimizer], budget=budget, seeds=seeds)
    jobs = plan.jobs(asked, Names())
    return [row for row, _ in execute(jobs, Place(store=store, device="cpu", lockstep=together, **place))]


@pytest.mark.parametrize(
    "task",
    [
        "softmax_l2",
        "rows_ce[batch=4,noise=1e-4]",
        "softmax_ce[noise=1e-3,crn=true]",
        "attention[precision=float32]",
        "matfac",
        "softmax_l2[precision=bfloat16]",
    ],
)
def test_each_row_is_that_of_the_run_alone(tmp_path, task):
    together, alone = run(tmp_path / "a", task), run(tmp_path / "b", task, together=False)
    half = "precision" in task  # rounding of another order of additions is all that differs, and grows with the steps
    assert [row.lockstep for row in together] == [9] * 9 and {row.lockstep for row in alone} == {None}
    for mine, other in zip(together, alone, strict=True):
        for name in ("cell", "seed", "steps", "forwards", "backwards", "status", "state_bytes", "start_digest"):
            assert getattr(mine, name) == getattr(other, name), name
        for name in ("parameters", "facts", "peak_bytes", "inference_bytes", "kept_step", "trace_counts"):
            assert getattr(mine, name) == getattr(other, name), name
        assert mine.value == pytest.approx(other.value, rel=0.2 if half else 1e-6)
        steps = [[(p["step"], p["forwards"]) for p in row.curve if p["metrics"]] for row in (mine, other)]
        assert steps[0] == steps[1]
        np.testing.assert_allclose(mine.trace_values[:2], other.trace_values[:2], rtol=1e-2 if half else 1e-12)
    assert len({row.value for row in together}) == 9


def test_a_row_of_many_replays_to_its_weights_and_metrics(tmp_path):
    for row in run(tmp_path, "rows_ce[batch=4]")[::4]:
        problem = rebuild(row)  # raises where the digest is another
        assert check_metrics(row, problem)[1] < 1e-12


def test_a_linear_schedule_is_the_same_in_lockstep(tmp_path):
    asked = plan.Request(["softmax_l2"], ["mezo"], budget="steps=60", seeds=SEEDS, schedule="linear")
    jobs = plan.jobs(asked, Names())
    rows = [
        [row for row, _ in execute(jobs, Place(store=tmp_path / name, device="cpu", lockstep=together))]
        for name, together in (("a", True), ("b", False))
    ]
    for mine, other in zip(*rows, strict=True):
        assert mine.value == pytest.approx(other.value, rel=1e-6) and mine.lockstep == 9
        rebuild(mine)


def test_few_seeds_time_budgets_and_first_order_are_run_alone(tmp_path):
    assert {row.lockstep for row in run(tmp_path, seeds="0-3")} == {None}
    assert {row.lockstep for row in run(tmp_path, optimizer="sgd")} == {None}
    assert {row.lockstep for row in run(tmp_path, budget="time=0.05s")} == {None}


def test_runs_that_are_done_are_found_and_the_rest_is_computed(tmp_path):
    alone = run(tmp_path, seeds="0-1")
    rows = run(tmp_path, seeds="0-11")
    assert [row.value for row in rows[:2]] == [row.value for row in alone]
    assert [row.lockstep for row in rows] == [None] * 2 + [10] * 10
    assert run(tmp_path, seeds="0-11") == rows and len(list(tmp_path.glob("*.parquet"))) == 12


def test_a_run_that_diverges_stops_alone(tmp_path):
    lr = "mezo[lr=1.5e-4]"  # where some runs diverge and some do not
    rows = run(tmp_path / "a", "rosenbrock[precision=float16]", lr, seeds="0-15")
    alone = run(tmp_path / "b", "rosenbrock[precision=float16]", lr, seeds="0-15", together=False)
    assert {row.status for row in rows} == {"ok", "diverged"}
    for mine, other in zip(rows, alone, strict=True):
        assert (mine.status, mine.steps, mine.reason) == (other.status, other.steps, other.reason)
        assert mine.trace_counts == other.trace_counts
        assert (mine.final_digest is None) == (other.final_digest is None)


@pytest.mark.parametrize("together", (True, False))
def test_a_loss_that_overflows_between_two_validations_is_a_row_like_any_other(tmp_path, together):
    """exp at a rate that is too high: weights stay finite while the metrics are inf, in curve and trace alike."""
    rows = run(tmp_path, "exp", "mezo[lr=0.3]", seeds="0-15", budget="forwards=400", together=together)
    assert len(rows) == len(list(tmp_path.glob("*.parquet"))) == 16
    assert "diverged" in {row.status for row in rows}
    kept = next((row for row in rows if row.final_digest), None)
    if kept is not None:
        rebuild(kept)


def test_more_evaluations_than_noise_was_drawn_for_draw_more(tmp_path):
    together = run(tmp_path / "a", "softmax_l2[noise=1e-4]", "mezo-nspsa[n=40]", budget="steps=6")
    alone = run(tmp_path / "b", "softmax_l2[noise=1e-4]", "mezo-nspsa[n=40]", budget="steps=6", together=False)
    for mine, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(mine.trace_values, other.trace_values, rtol=1e-9)
        noise = np.array(mine.trace_values[:80]) - np.mean(mine.trace_values[:80])
        assert len(set(noise.tolist())) == 80


class Stops(Reporter):
    """Ctrl-C in the middle."""

    def update(self, state):
        if state.step == 50:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_keeps_what_is_done_and_the_same_command_ends_in_the_same_bits(tmp_path):
    jobs = plan.jobs(plan.Request(["softmax_l2"], ["mezo"], budget="steps=120", seeds=SEEDS), Names())
    stopped = [row for row, _ in execute(jobs, Place(store=tmp_path / "a", device="cpu"), Stops())]
    assert {row.status for row in stopped} == {"interrupted"} and {row.steps for row in stopped} == {50}
    rebuild(stopped[3])
    again, undisturbed = run(tmp_path / "a"), run(tmp_path / "b")
    assert {row.status for row in again} == {"ok"}
    assert [row.final_digest for row in again] == [row.final_digest for row in undisturbed]


def test_a_timeout_stops_them_all(tmp_path):
    rows = run(tmp_path, budget="steps=1000000", timeout=0.5)
    assert {row.status for row in rows} == {"timeout"} and all(row.steps > 0 for row in rows)


def test_saved_weights_are_those_of_each_run(tmp_path):
    from safetensors.torch import load_file

    rows = run(tmp_path / "store", save=tmp_path / "weights")
    for row in rows[:2]:
        x = load_file(tmp_path / "weights" / row.cell[:16] / "model.safetensors")["x"]
        assert torch.equal(x, rebuild(row).model.x.detach())


class Greedy(ZerothOrder):
    """Not elementwise: it compares values, so that every run takes its own way."""

    def __init__(self, params, lr=1e-2, *, seed=None, mode="auto"):
        super().__init__(params, dict(lr=lr), seed=seed, mode=mode)

    def update(self):
        z = self.draw()
        plus, minus = yield self.at(z), self.at(-z)
        self.apply(z if plus < minus else -z, lambda group: group["lr"])
        if plus > 1.0:  # some runs ask again
            self.apply(z, 1e-3)
            plus = yield self.at(0.1 * z)
        return plus


class Sum(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.b = torch.nn.Parameter(torch.ones(5, 3)), torch.nn.Parameter(torch.zeros(7))

    def forward(self):
        return (self.w**2).sum() / 10 + (self.b - 1).square().sum() / 10


@pytest.mark.parametrize("runs", (1, 5))
@pytest.mark.parametrize("cls", (MeZO, Greedy))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64, torch.bfloat16))
def test_the_driver_serves_any_update_and_writes_as_one_run_would(cls, dtype, runs):
    model = Sum().to(dtype)
    start = dict(model.named_parameters())
    many = ManySeeds(start, lambda named, seed: cls(named, lr=1e-2, seed=seed), range(runs))
    value = lambda p: p["w"].square().sum((-2, -1)) / 10 + (p["b"] - 1).square().sum(-1) / 10  # noqa: E731
    for _ in range(6):
        many.step(value)
    for s in range(runs):
        alone = Sum().to(dtype)
        opt = cls(alone, lr=1e-2, seed=s, mode="copy")
        for _ in range(6):
            opt.step(lambda: value({name: p.data[None] for name, p in alone.named_parameters()})[0])  # noqa: B023
        for name, p in alone.named_parameters():
            tight = dict(rtol=1e-12, atol=1e-14) if dtype == torch.float64 else dict(rtol=2e-2, atol=1e-3)
            torch.testing.assert_close(many.stack[name][s], p.data, **tight)


def test_an_optimizer_that_wrongly_calls_itself_elementwise_is_an_error_not_a_wrong_number():
    class Wrong(Greedy):
        elementwise = True

    many = ManySeeds(dict(Sum().named_parameters()), lambda named, seed: Wrong(named, seed=seed), range(3))
    with pytest.raises(ValueError, match="ambiguous"):
        many.step(lambda p: p["b"].sum(-1))


def test_groups_keep_the_order_of_the_jobs():
    jobs = plan.jobs(plan.Request(["softmax_l2"], ["sgd", "mezo"], budget="steps=5", seeds=SEEDS), Names())
    groups = list(lockstep.groups(jobs))
    assert [job for group in groups for job in group] == jobs
    assert [len(group) for group in groups] == [1] * 9 + [9]


# --- several workers ---


def command(store, *more, **kwargs):
    asked = ["-t", "softmax_l2", "-O", "mezo,sgd", "--budget", "steps=300", "--seeds", "2", "-o", str(store), *more]
    return subprocess.Popen(
        [sys.executable, "-m", "zobench", "run", *asked],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def rows_of(store):
    return {path: record.read(path) for path in sorted(Path(store).glob("*.parquet"))}


def test_two_workers_give_the_rows_of_one(tmp_path):
    both = [command(tmp_path / "one"), command(tmp_path / "two", "-j", "2")]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(line.split("(")[0] for line in outputs[0][0].splitlines()) == sorted(
        line.split("(")[0] for line in outputs[1][0].splitlines()
    )
    one, two = (rows_of(tmp_path / name) for name in ("one", "two"))
    assert {r.cell: r.final_digest for r in one.values()} == {r.cell: r.final_digest for r in two.values()}
    assert {json.loads(r.environment)["threads"] for r in two.values()} == {max(1, len(os.sched_getaffinity(0)) // 2)}


def test_a_killed_worker_costs_its_cell_and_ctrl_c_keeps_what_is_done(tmp_path):
    process = command(tmp_path / "s", "-j", "2", "--overwrite", "always", "--budget", "steps=3000000")
    workers = wait_for_children(process.pid)
    time.sleep(1.0)
    os.kill(workers[0], signal.SIGKILL)
    time.sleep(8.0)  # the next worker is at work
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    rows = list(rows_of(tmp_path / "s").values())
    statuses = sorted(row.status for row in rows)
    assert statuses[0] == "error" and set(statuses[1:]) == {"interrupted"}, [(r.status, r.reason) for r in rows]
    assert "SIGKILL" in next(row.reason for row in rows if row.status == "error")


def test_workers_whose_parent_is_gone_end_their_runs_as_interrupted(tmp_path):
    process = command(tmp_path / "s", "-j", "2", "--overwrite", "always", "--budget", "steps=3000000")
    workers = wait_for_children(process.pid)
    time.sleep(6.0)
    process.kill()
    process.communicate()
    end = time.monotonic() + 30
    while any(Path(f"/proc/{w}").exists() for w in workers) and time.monotonic() < end:
        time.sleep(0.2)
    rows = rows_of(tmp_path / "s").values()
    assert {row.status for row in rows} == {"interrupted"} and all(row.steps > 0 for row in rows)


def test_a_mistake_in_one_cell_names_it_and_lets_its_neighbours_finish(tmp_path):
    asked = ["-t", "attention[label_noise=0.5],softmax_l2", "-O", "mezo", "--budget", "steps=300", "-j", "2"]
    process = subprocess.run(
        [sys.executable, "-m", "zobench", "run", *asked, "-o", str(tmp_path / "s")], capture_output=True, text=True
    )
    assert process.returncode == 2 and "attention[label_noise=0.5] with mezo: label_noise" in process.stderr
    assert [row.task for row in rows_of(tmp_path / "s").values()] == ["softmax_l2"]


def wait_for_children(parent, count=2, limit=60.0):
    """The workers: children whose command line is multiprocessing's, not its resource tracker."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                status, line = (entry / "stat").read_text(), (entry / "cmdline").read_text()
            except OSError:
                continue
            if int(status.rpartition(")")[2].split()[1]) == parent and "spawn_main" in line:
                found.append(int(entry.name))
        if len(found) >= count:
            return found
        time.sleep(0.1)
    raise AssertionError("no workers were started")
