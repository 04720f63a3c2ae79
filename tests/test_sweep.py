"""`zobench sweep`: trials are chosen by validation alone, the choice is scored on test, and what is done stays done."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from records import record as a_record

from zobench import plan, record, suite, tune
from zobench.build import Names
from zobench.cli import main
from zobench.spec import Job, UsageError

SWEEP = ["sweep", "-t", "toy_sentiment", "-O", "mezo[lr=[1e-4,1e-3]]", "--budget", "forwards=40", "--evaluations", "1"]


def zobench(*args):
    result = CliRunner().invoke(main, [str(a) for a in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOBENCH_STORE", str(tmp_path / "runs"))
    return tmp_path / "runs"


def scores(store):
    """score, learning rate, seed, value, looks at test, attempt of every run."""
    names = ("score", "optimizer_options", "seed", "value", "test_looks", "attempt", "status")
    rows, problems = record.scan(store, names)
    assert not problems
    return [(r["score"], json.loads(r["optimizer_options"])["lr"], *(r[n] for n in names[2:])) for r in rows]


def test_a_sweep_chooses_on_validation_and_tests_the_choice(store):
    said = zobench(*SWEEP, "--seeds", "2", "--json")
    assert said.exit_code == 0, said.output
    (answer,) = json.loads(said.stdout)
    runs = scores(store)
    trials = {
        lr: value for score, lr, seed, value, looks, *_ in runs if score == "validation" and seed == 0 and looks == 0
    }
    assert set(trials) == {1e-4, 1e-3}
    best = max(trials, key=trials.__getitem__)
    assert answer["chosen"] == {"lr": best}
    assert answer["edge"] == [f"lr={best} is the {'smallest' if best == 1e-4 else 'largest'} of 2"]
    tests = {seed: value for score, lr, seed, value, looks, *_ in runs if score == "test" and lr == best and looks == 1}
    assert set(tests) == {0, 1} and len(runs) == 4
    assert answer["test"] == pytest.approx(sum(tests.values()) / 2)
    # once more: nothing is run
    again = zobench(*SWEEP, "--seeds", "2", "-q")
    assert again.exit_code == 0 and len(scores(store)) == 4
    assert again.stdout.count("\n") == 1 and f"[lr={best}]" in again.stdout
    planned = zobench(*SWEEP, "--seeds", "2", "--dry-run", "--json", "--device-flops", "1e12")
    assert planned.exit_code == 0, planned.output
    assert (
        json.loads(planned.stdout)["totals"]["done"] >= 2
    )  # the setting that a plan counts need not be the chosen one


def test_a_sweep_that_is_interrupted_goes_on(store):
    command = [sys.executable, "-m", "zobench", *SWEEP[:-3], "forwards=100", "--evaluations", "1", "-q"]
    command[command.index("mezo[lr=[1e-4,1e-3]]")] = "mezo[lr=[1e-4,1e-3,1e-2]]"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list(store.glob("*.parquet")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "goes on" in errors
    before = {(lr, attempt) for _, lr, *_, attempt, status in scores(store) if status == "ok"}
    assert before and len(before) < 4
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runs = scores(store)
    assert len([r for r in runs if r[-1] == "ok"]) == 4
    assert not {(lr, attempt) for _, lr, *_, attempt, _ in runs if attempt > 1} & before


# --- choosing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def study():
    table = {"run": [{"tasks": ["toy_sentiment"], "optimizers": ["mezo[lr=[1e-5,1e-4,1e-3],eps=[1e-3,1e-2]]"]}]}
    return tune.study(suite.of(suite.load(Path("mine"), table))[0], Names())


def answers(study, values, losses=None, **other):
    """cell -> row of every trial, in the order of the points."""
    losses = losses or [1.0] * len(values)
    made = {}
    for (job,), value, loss in zip(study.trials, values, losses, strict=True):
        made[job.cell] = replace(
            a_record(value=value, validation_metrics=json.dumps({"loss": loss}), **other), cell=job.cell
        )
    return made


def test_the_trials_are_the_product_on_one_seed_without_the_test(study):
    assert study.points == [dict(lr=lr, eps=eps) for lr in (1e-5, 1e-4, 1e-3) for eps in (1e-3, 1e-2)]
    jobs = [job for jobs in study.trials for job in jobs]
    assert {(job.score, job.seed) for job in jobs} == {("validation", 0)}
    assert len({job.cell for job in jobs}) == 6


def test_the_best_metric_wins_then_the_lower_loss_then_the_earlier(study):
    assert tune.best(study, answers(study, [0.1, 0.2, 0.9, 0.3, 0.9, 0.4])) == 2
    assert tune.best(study, answers(study, [0.1, 0.2, 0.9, 0.3, 0.9, 0.4], [1, 1, 1, 1, 0.5, 1])) == 4
    assert tune.best(study, answers(study, [3, 2, 5, 1, 4, 6], better="lower")) == 3


def test_a_trial_that_failed_is_never_the_best(study):
    rows = answers(study, [0.1, 0.2, 0.9, 0.3, 0.9, 0.4])
    for number in (2, 4):
        rows[study.trials[number][0].cell].status = "diverged"
    assert tune.best(study, rows) == 5
    for row in rows.values():
        row.status = "oom"
    assert tune.best(study, rows) is None
    assert tune.best(study, {}) is None


def test_an_edge_is_flagged(study):
    tune.choose(study, 3, Names())  # lr 1e-4, eps 1e-2
    assert study.edge == ["eps=0.01 is the largest of 2"]
    assert [(job.score, job.optimizer_options["lr"], job.optimizer_options["eps"]) for job in study.final] == [
        ("test", 1e-4, 1e-2)
    ]


def test_tasks_that_share_a_setting_are_judged_by_their_mean(tmp_path, data_dir):
    path = tmp_path / "splits.toml"
    path.write_text(
        '[[run]]\ntasks = ["kshot_sst2[k=2,split=[1,2]]"]\noptimizers = ["mezo"]\nmodel = "random:roberta-nano"\n'
        f'over = "split"\ndata_dir = "{data_dir}"\n[[tune]]\noptimizers = ["mezo"]\nlr = [1e-3, 1e-4]\neps = 1e-3\n'
    )
    (row,) = suite.rows(str(path))
    made = tune.study(row, Names())
    assert made.name == "kshot_sst2[k=2] mezo none"
    assert [[job.task_options["split"] for job in jobs] for jobs in made.trials] == [[1, 2], [1, 2]]
    rows = {}
    for jobs, values in zip(made.trials, [(0.9, 0.1), (0.6, 0.6)], strict=True):
        rows |= {job.cell: replace(a_record(value=v), cell=job.cell) for job, v in zip(jobs, values, strict=True)}
    assert tune.best(made, rows) == 1
    tune.choose(made, 1, Names())
    assert [job.task_options["split"] for job in made.final] == [1, 2]


def test_fewer_trials_are_the_same_number_for_all_and_spread_evenly():
    points = [dict(lr=lr) for lr in range(9)]
    assert tune.spread(points, None) == points
    assert [p["lr"] for p in tune.spread(points, 3)] == [0, 4, 8]
    assert [p["lr"] for p in tune.spread(points, 1)] == [0]
    assert tune.spread(points[:2], 5) == points[:2]
    with pytest.raises(UsageError, match="at least 1"):
        tune.spread(points, 0)
    for optimizer in ("mezo", "mezo-gv", "adam"):
        (row,) = suite.rows("opt11", tasks=["drop"], optimizers=[optimizer], adapters=["none"])
        assert len(tune.spread(row.points(), 3)) == 3


def test_a_trial_that_diverged_is_not_repeated(tmp_path, study):
    (job,) = study.trials[0]
    diverged = replace(a_record(), cell=job.cell, status="diverged", provenance=plan.provenance(job), reason="nan")
    record.write(diverged, tmp_path)
    assert set(tune.diverged([job], tmp_path)) == {job.cell}
    record.write(replace(diverged, provenance="0" * 64, attempt=2), tmp_path)  # other code
    assert tune.diverged([job], tmp_path) == {}
    ran: list[Job] = []
    tune.run([study], Names(), lambda jobs: ran.extend(jobs) or [], tmp_path / "none")
    assert len(ran) == 6


# --- the plan ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args, code, says",
    [
        ((), 2, "name a suite"),
        (("--suite", "opt12"), 2, "did you mean opt11?"),
        (("--suite", "opt11:zo", "-n"), 2, "did you mean zo-llm?"),
        (("--suite", "opt11", "-t", "softmax_l2", "-n"), 2, "no row of these"),
        (("--suite", "opt11", "-t", "sst2", "--trials", "0", "-n"), 2, "at least 1"),
        (("--suite", "opt11:nondiff", "-O", "adam", "-n"), 2, "needs a gradient"),
        (("--suite", "opt11", "-O", "adamm", "-n"), 2, "did you mean"),
        (("--suite", "opt11", "-j", "0"), 2, "at least 1"),
        (("--suite", "opt11", "--device-flops", "fast", "-n"), 2, "is no number"),
    ],
)
def test_a_mistake_is_one_line(store, args, code, says):
    said = zobench("sweep", *args)
    assert said.exit_code == code, said.output
    assert says in said.stderr and said.stderr.count("\n") == 1


def test_the_plan_of_the_papers_table(store, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    args = ("--suite", "opt11", "-m", "facebook/opt-1.3b", "-O", "mezo,mezo-gv,adam", "--adapter", "none", "-n")
    given = ("--device-flops", "1e14", "--device-memory", "16")
    said = zobench("sweep", *args, *given, "--json")
    assert said.exit_code == 0, said.output
    answer = json.loads(said.stdout)
    studies = {(s["task"], s["optimizer"]): s for s in answer["studies"]}
    assert len(studies) == 33
    for task in ("sst2", "record", "squad", "drop"):
        trials = 3 if task in ("squad", "drop") else 2
        mezo, guided, adam = (studies[task, name] for name in ("mezo", "mezo-gv", "adam"))
        assert (mezo["trials"], mezo["runs"], mezo["steps"], mezo["forwards_per_run"]) == (trials, 3, 20_000, 40_000)
        assert mezo["forwards"] == (trials + 3) * 40_000
        assert (guided["trials"], guided["steps"]) == (8, 10_000)
        assert (adam["trials"], adam["steps"], adam["backwards"]) == (3, 625, 6 * 625)
        assert mezo["fits"] and not adam["fits"]  # 2.6 GB of half precision; four times 5.3 GB
    total = answer["totals"]
    assert total["do_not_fit"] == 11 * 6
    # 9 tasks with 2 rates and 2 with 3, three seeds; with 4 candidates a step takes 6 forwards, 6,667 of them 40,002
    mezo, guided, adam = (9 * 5 + 2 * 6) * 40_000, 11 * (4 * 40_000 + 4 * 40_002 + 3 * 40_000), 11 * 6 * 625
    assert total["forwards"] == mezo + guided + adam
    shown = zobench("sweep", *args, *given)
    assert shown.exit_code == 0 and "DOES NOT FIT" in shown.stdout and f"{total['forwards']:,} forwards" in shown.stdout
    assert not store.exists()
