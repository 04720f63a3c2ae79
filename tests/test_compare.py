"""`zobench compare`: verdicts by construction, what is no evidence, and what A and B may be."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from records import ENVIRONMENT, record
from rich.console import Console
from scipy import stats as scipy_stats

from zobench.cli import main
from zobench.record import json_text, read, scan, write
from zobench.report.compare import Compared, Line, Side, choose, compare, files
from zobench.report.compare_text import markdown, show
from zobench.spec import NothingMeasured, UsageError

CHECKOUT = Path(__file__).resolve().parent.parent
RESULTS = CHECKOUT / "results"
GAP = dict(metric="relative_gap", better="lower", scale="log", kind="regression", model=None, suite="synthetic")
BASELINE = dict(
    optimizer="zero-shot", optimizer_options={"lr": 0, "shots": 0}, order="reference", budget="steps=1", batch_size=1
)
ADAM = dict(optimizer="adam", optimizer_options={"lr": 1e-5}, order="first", replay_class="none")


def fill(store: Path, values: dict[str, list[float | None]], began: str = "2026-01-01", **common: Any) -> Path:
    """A run for each value, by task; None is a diverged one. Runs of another beginning are other runs."""
    for task, numbers in values.items():
        for seed, value in enumerate(numbers):
            failed = dict(status="diverged", reason="loss is nan") if value is None else {}
            environment = json_text(ENVIRONMENT | {"started": began})
            write(
                record(**{"task": task, "seed": seed, "value": value, "environment": environment} | failed | common),
                store,
            )
    return store


def place(store: Path) -> Side:
    from zobench.record import standing

    return Side(store.name, "place", f"the store {store.name}", standing(files(store)[0]))


def optimizer(store: Path, name: str, **options: Any) -> Side:
    return Side(name, "optimizer", name, choose(files(store)[0], name, options))


def both(tmp_path: Path, a: dict[str, list[float | None]], b: dict[str, list[float | None]], **common: Any) -> Compared:
    """Two stores with the same row on each task."""
    first, second = fill(tmp_path / "a", a, **common), fill(tmp_path / "b", b, "2026-02-02", **common)
    return compare(place(first), place(second))


def by_task(found: Compared) -> dict[str, Line]:
    return {line.task: line for line in found.lines}


def zobench(*args: Any, env: dict[str, str] | None = None) -> Any:
    result = CliRunner().invoke(main, ["compare", *map(str, args)], env={"COLUMNS": "200", **(env or {})})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOBENCH_STORE", raising=False)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of files that need not outlive the test


# ---- verdicts ----

A = {
    "better": [0.900, 0.905, 0.910, 0.902, 0.907],
    "worse": [0.700, 0.702, 0.698, 0.701, 0.699],
    "same": [0.800, 0.802, 0.799, 0.801, 0.798],
    "open": [0.80, 0.90, 0.70, 0.85, 0.60],
}
B = {
    "better": [0.800, 0.804, 0.811, 0.803, 0.806],
    "worse": [0.800, 0.803, 0.797, 0.802, 0.799],
    "same": [0.801, 0.801, 0.800, 0.800, 0.799],
    "open": [0.75, 0.70, 0.80, 0.70, 0.75],
}


def test_verdicts_and_tests_of_the_same_row_twice(tmp_path):
    found = both(tmp_path, A, B)
    lines = by_task(found)
    assert {task: line.verdict for task, line in lines.items()} == {
        **{name: name for name in ("better", "worse", "same")},
        "open": "undecided",
    }
    assert found.totals == {"better": 1, "same": 1, "worse": 1, "undecided": 1, "same run": 0}
    oracle = {task: scipy_stats.ttest_rel(A[task], B[task]) for task in A}
    for task, line in lines.items():
        assert line.p == pytest.approx(oracle[task].pvalue, rel=1e-9) and line.paired
        assert line.difference.center == pytest.approx(np.mean(A[task]) - np.mean(B[task]), abs=1e-12)
        bounds = oracle[task].confidence_interval(0.95)
        assert (line.difference.low, line.difference.high) == pytest.approx(tuple(bounds), rel=1e-6)
    # Holm by hand: the smallest p times 4, the next times 3 ..., never below the one before
    order = sorted(lines.values(), key=lambda line: line.p)
    running = 0.0
    for factor, line in zip((4, 3, 2, 1), order, strict=True):
        running = max(running, min(1.0, factor * line.p))
        assert line.p_adjusted == pytest.approx(running, rel=1e-12)
    assert lines["open"].seeds_needed > 5 and lines["better"].seeds_needed is None
    assert [line.task for line in found.lines] == sorted(A)


def test_optimizers_are_tested_as_independent_runs(tmp_path):
    fill(tmp_path, {"sst2": A["better"]})
    fill(tmp_path, {"sst2": B["better"][:4]}, **ADAM)
    (line,) = compare(optimizer(tmp_path, "mezo"), optimizer(tmp_path, "adam")).lines
    welch = scipy_stats.ttest_ind(A["better"], B["better"][:4], equal_var=False)
    assert line.p == pytest.approx(welch.pvalue, rel=1e-9) and not line.paired
    assert (line.rows, line.runs, line.verdict) == (("mezo[lr=1e-6]", "adam[lr=1e-5]"), (5, 4), "better")


def test_what_is_shown_of_a_and_b_differs_by_a_minus_b(tmp_path):
    """Means, not the leaderboard's interquartile means, of the very runs whose difference is tested."""
    skewed = [0.5, 0.9, 0.91, 0.92, 0.93]  # the interquartile mean is 0.91
    fill(tmp_path, {"seeds": skewed})
    fill(tmp_path, {"seeds": [0.8, 0.81, 0.82]}, **ADAM)
    for seed in range(3):  # two instances each, of one of them more runs
        for instance, count in ((0, 3), (1, 1)):
            common = dict(task="problems", seed=seed, task_options={"instance": instance})
            if seed < count:
                write(record(**common, value=0.9 - 0.2 * instance + 0.01 * seed), tmp_path)
            if seed < 1 + instance:
                write(record(**common, value=0.3 + 0.3 * instance - 0.02 * seed, **ADAM), tmp_path)
    fill(tmp_path, {"gap": [1e-9, 1e-3, 1e-4]}, **GAP)
    fill(tmp_path, {"gap": [1e-2, 1e-3, 1e-1]}, **GAP | ADAM)
    lines = by_task(compare(optimizer(tmp_path, "mezo"), optimizer(tmp_path, "adam")))
    assert lines["seeds"].scores[0].center == pytest.approx(np.mean(skewed)) and lines["seeds"].compared == (5, 3)
    low, high = scipy_stats.t.interval(0.95, 4, np.mean(skewed), scipy_stats.sem(skewed))
    assert lines["seeds"].scores[0].low == pytest.approx(low) and high > 1 and lines["seeds"].scores[0].high == 1
    assert lines["gap"].scores[0].center == pytest.approx(10 ** (-16 / 3))  # of decades
    assert lines["problems"].paired and lines["problems"].compared == (2, 2)
    assert lines["seeds"].difference.high < 1
    (wide,) = both(tmp_path / "two", {"t": [0.0, 1.0]}, {"t": [1.0, 0.2]}).lines
    assert (wide.difference.low, wide.difference.high) == (-1, 1)  # two accuracies differ by no more
    fill(tmp_path / "p", {"pairs": [0.9, 0.8, 0.7, 0.1]})
    fill(tmp_path / "q", {"pairs": [0.6, 0.65, 0.55]}, "2026-02-02")
    (pairs,) = compare(place(tmp_path / "p"), place(tmp_path / "q")).lines
    assert pairs.scores[0].center == pytest.approx(0.8) and (pairs.compared, pairs.runs) == ((3, 3), (4, 3))
    for line in (*lines.values(), wide, pairs):
        scale = np.log10 if line.scale == "log" else float
        shown = scale(line.scores[0].center) - scale(line.scores[1].center)
        assert shown == pytest.approx(line.difference.center, rel=1e-9), line.task
    assert "3 pairs" in screen(compare(place(tmp_path / "p"), place(tmp_path / "q")), 120)
    text = screen(compare(optimizer(tmp_path, "mezo"), optimizer(tmp_path, "adam")), 200)
    assert "5 / 3" in text and "means of the n runs compared" in text


def test_correction_decides(tmp_path):
    """One p of 0.02 is enough alone, and not among ten lines."""
    a, b = [0.90, 0.91, 0.92], [0.87, 0.875, 0.88]
    assert 0.005 < scipy_stats.ttest_rel(a, b).pvalue < 0.05
    alone = both(tmp_path / "one", {"t0": a}, {"t0": b})
    many = {f"t{i}": [0.5 + 0.1 * (-1) ** i, 0.5, 0.5 + 0.03 * i] for i in range(1, 10)}
    among = both(tmp_path / "ten", {"t0": a, **many}, {"t0": b, **{t: v[::-1] for t, v in many.items()}})
    assert (by_task(alone)["t0"].verdict, by_task(among)["t0"].verdict) == ("better", "undecided")


@pytest.mark.parametrize("kind", [{}, GAP])
def test_mirror(tmp_path, kind):
    scaled = lambda values: {t: [10 ** (8 * v - 10) if kind else v for v in x] for t, x in values.items()}  # noqa: E731
    first = fill(tmp_path / "a", scaled(A), forwards=3000, peak_bytes=3 * 2**20, **kind)
    second = fill(tmp_path / "b", scaled(B), "2026-02-02", forwards=4000, peak_bytes=2**20, state_bytes=8, **kind)
    there, back = compare(place(first), place(second)), compare(place(second), place(first))
    swapped = {"better": "worse", "worse": "better"}
    for x, y in zip(there.lines, back.lines, strict=True):
        assert y.verdict == swapped.get(x.verdict, x.verdict)
        assert (y.p, y.p_adjusted, y.seeds_needed, y.margin) == (x.p, x.p_adjusted, x.seeds_needed, x.margin)
        assert y.difference.center == pytest.approx(-x.difference.center)
        assert (y.difference.low, y.difference.high) == pytest.approx((-x.difference.high, -x.difference.low))
        assert y.effect == pytest.approx(-x.effect)
        assert y.superiority.center == pytest.approx(1 - x.superiority.center)
        assert y.scores == x.scores[::-1] and y.runs == x.runs[::-1]
        assert (x.costs["forwards"][2], y.costs["forwards"][2]) == (0.75, pytest.approx(4 / 3))
        assert (x.costs["peak_bytes"][2], x.costs["state_bytes"][2]) == (3.0, 0.0)
        assert y.costs["state_bytes"][2] == math.inf and x.costs["backwards"][2] == 1.0  # nothing on either side
    assert there.overall.wins == back.overall.wins[::-1] and there.overall.p == back.overall.p
    assert there.overall.superiority.center == pytest.approx(1 - back.overall.superiority.center)


def test_log_scale_is_compared_as_factors(tmp_path):
    base = [1e-5, 2e-5, 4e-5, 3e-5]
    jitter = [1.01, 0.99, 1.0, 1.005]
    worse = [10 * x * j for x, j in zip(base, jitter, strict=True)]
    close = [1.05 * x * j for x, j in zip(base, jitter, strict=True)]
    found = by_task(both(tmp_path, {"far": worse, "near": close}, {"far": base, "near": base}, **GAP))
    far, near = found["far"], found["near"]
    assert far.difference.center == pytest.approx(np.mean(np.log10(worse)) - np.mean(np.log10(base)))
    assert (far.verdict, near.verdict) == ("worse", "same")  # 5 % is certain, and less than a factor of 1.1
    assert near.margin == pytest.approx(math.log10(1.1)) and near.p_adjusted < 0.05
    strict = compare(place(tmp_path / "a"), place(tmp_path / "b"), margins={"factor": 1.01})
    assert by_task(strict)["near"].verdict == "worse"


def test_a_failed_run_is_never_an_advantage(tmp_path):
    a = {"dies": [None, None, None], "limps": [0.95, 0.951, None], "both": [None, None, None]}
    b = {"dies": [0.8, 0.81, 0.82], "limps": [0.80, 0.801, 0.802], "both": [None, None, None]}
    found = both(tmp_path, a, b)
    lines = by_task(found)
    assert lines["dies"].verdict == "worse" and lines["dies"].notes == ["A: 3 diverged"]
    assert lines["limps"].verdict == "undecided" and lines["limps"].seeds_needed is None
    assert lines["both"].verdict == "undecided" and lines["both"].difference is None
    assert (lines["dies"].failed, lines["limps"].failed) == ((3, 0), (1, 0))
    assert found.overall.wins == (1, 0, 1)  # limps has the better mean; dies is a loss; both says nothing
    reverse = compare(place(tmp_path / "b"), place(tmp_path / "a"))
    assert by_task(reverse)["dies"].verdict == "better"
    for text in (markdown(found), screen(found, 60), screen(found, 200)):
        assert "diverged" in text or "dies" in text


def test_failed_runs_are_told_at_every_width(tmp_path):
    """Side, row, how many of how many, and the first reason: no column that a narrow terminal drops hides them."""
    a = {"t": [0.9, 0.91, None, None, None], "whole": [0.9, 0.91]}
    fill(tmp_path / "a", a, reason="loss is [red]nan\x1b[31m")
    write(record(task="t", seed=9, value=None, status="oom", reason="no memory"), tmp_path / "a")
    fill(tmp_path / "b", {"t": [0.8, None, 0.82, 0.83, 0.84], "whole": [0.8, 0.81]}, "2026-02-02")
    found = compare(place(tmp_path / "a"), place(tmp_path / "b"))
    told = [
        "failed: A, mezo[lr=1e-6] on t: 4 of 6 runs, seed 2: diverged: loss is",
        "failed: B, mezo[lr=1e-6] on t: 1 of 5 runs, seed 1: diverged: loss is nan",
    ]
    for width in (60, 80, 100, 120, 300):
        text = screen(found, width)
        said = " ".join(text.split())
        assert all(line in said for line in told) and said.count("failed:") == 2, (width, text)
        assert "\x1b" not in text and max(map(len, text.splitlines())) <= width
    assert markdown(found).count("\n- failed: ") == 2
    answer = found.to_json()["lines"][0]
    assert answer["b"]["failures"] == "1 of 5 runs, seed 1: diverged: loss is nan" and answer["b"]["failed"] == 1
    assert by_task(found)["whole"].failures == ("", "")
    fill(tmp_path / "c", {f"t{i:02}": [0.5, None] for i in range(70)})
    fill(tmp_path / "d", {f"t{i:02}": [0.5, 0.6] for i in range(70)}, "2026-02-02")
    many = screen(compare(place(tmp_path / "c"), place(tmp_path / "d")), 200)
    assert many.count("failed: A") == 60 and "and 10 more with failed runs: -o FILE.md has all" in many


def test_interrupted_runs_say_nothing(tmp_path):
    fill(tmp_path / "a", {"t": [0.9, 0.91, 0.92]})
    write(record(task="t", seed=3, value=None, status="interrupted", reason="Ctrl-C"), tmp_path / "a")
    fill(tmp_path / "b", {"t": [0.5, 0.51, 0.52]}, "2026-02-02")
    (line,) = compare(place(tmp_path / "a"), place(tmp_path / "b")).lines
    assert (line.verdict, line.failed, line.runs) == ("better", (0, 0), (3, 3))


# ---- what is no evidence ----


def test_the_same_runs_are_no_evidence(tmp_path):
    fill(tmp_path / "a", {"t": [0.9, 0.91, 0.92]})
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for number, path in enumerate(sorted((tmp_path / "b").iterdir())):
        path.rename(path.with_name(f"{number}.parquet"))  # the content counts, not the name
    found = compare(place(tmp_path / "a"), place(tmp_path / "b"))
    (line,) = found.lines
    assert (line.verdict, line.p, line.shared, found.overall) == ("same run", None, 3, None)
    fill(tmp_path / "b", {"t": [0.1, 0.11, 0.12]}, "2026-02-02")  # newer attempts at the same cells stand
    assert compare(place(tmp_path / "a"), place(tmp_path / "b")).lines[0].verdict == "better"


def test_shared_runs_are_left_out_of_a_comparison(tmp_path):
    fill(tmp_path / "a", {"t": [0.9, 0.91, 0.92, 0.8, 0.81, 0.82]})
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    fill(tmp_path / "b", {"t": [0.5, 0.52, 0.51]}, "2026-02-02")  # seeds 0 to 2 again
    (line,) = compare(place(tmp_path / "a"), place(tmp_path / "b")).lines
    oracle = scipy_stats.ttest_rel([0.9, 0.91, 0.92], [0.5, 0.52, 0.51])
    assert line.p == pytest.approx(oracle.pvalue) and line.shared == 3 and line.runs == (6, 6)
    assert "3 runs on both sides left out" in line.notes
    more = shutil.copytree(tmp_path / "a", tmp_path / "c")
    for seed in (6, 7):
        write(record(task="t", seed=seed, value=0.1), more)
    found = compare(place(tmp_path / "a"), place(more))
    assert (found.lines[0].verdict, found.lines[0].notes[-1]) == ("undecided", "A has no run of its own")
    assert [len(side) for side in found.alone] == [0, 1] and len(found.alone[1][0].cells) == 2


def test_equal_numbers_of_the_same_cells_are_the_same_however_few(tmp_path):
    (line,) = both(tmp_path, {"t": [0.123]}, {"t": [0.123]}).lines
    assert (line.verdict, line.p, line.shared) == ("same", None, 0)
    (line,) = both(tmp_path / "other", {"t": [0.123]}, {"t": [0.124]}).lines
    assert line.verdict == "undecided"  # one run each tells nothing


# ---- what is compared with what ----


def test_the_setting_best_on_validation_stands_for_an_optimizer(tmp_path):
    for lr, validation, test in ((1e-6, 0.7, 0.99), (1e-5, 0.9, 0.6), (1e-4, 0.8, 0.95)):
        fill(tmp_path, {"t": [test, test + 0.001]}, validation=validation, optimizer_options={"lr": lr})
    broken = dict(optimizer_options={"lr": 1e-3}, validation=0.99)
    fill(tmp_path, {"t": [0.99, None]}, **broken)
    fill(tmp_path, {"t": [0.5, 0.501]}, **ADAM)
    (line,) = compare(optimizer(tmp_path, "mezo"), optimizer(tmp_path, "adam")).lines
    assert line.rows[0] == "mezo[lr=1e-5]" and line.scores[0].center == pytest.approx(0.6005)
    assert line.notes == ["A: the best of 4 settings on validation"]
    (line,) = compare(optimizer(tmp_path, "mezo", lr=1e-4), optimizer(tmp_path, "adam")).lines
    assert line.rows[0] == "mezo[lr=0.0001]" and line.notes == []


def test_lower_is_better_on_validation_too(tmp_path):
    for lr, value in ((0.1, 1e-3), (0.2, 1e-9)):
        fill(tmp_path, {"t": [value, 2 * value]}, optimizer_options={"lr": lr}, **GAP)
    fill(tmp_path, {"t": [1e-5, 2e-5]}, **GAP | ADAM)
    (line,) = compare(optimizer(tmp_path, "mezo"), optimizer(tmp_path, "adam")).lines
    assert line.rows[0] == "mezo[lr=0.2]"


def test_only_equal_conditions_meet(tmp_path):
    fill(tmp_path, {"t": [0.9, 0.8]})
    for other in (dict(budget="forwards=200"), dict(dtype="bfloat16"), dict(task_options={"k": 3}), dict(batch_size=2)):
        fill(tmp_path, {"t": [0.5, 0.6]}, **ADAM | other)
    with pytest.raises(
        NothingMeasured, match=r"nearest is t, which differs in (batch_size|budget|dtype|task options): "
    ):
        compare(optimizer(tmp_path, "mezo"), optimizer(tmp_path, "adam"))
    fill(tmp_path, {"t": [0.5, 0.6]}, **ADAM)
    found = compare(optimizer(tmp_path, "mezo"), optimizer(tmp_path, "adam"))
    assert len(found.lines) == 1 and [len(side) for side in found.alone] == [0, 4]


def test_a_baseline_meets_an_optimizer_under_any_budget(tmp_path):
    for budget in ("forwards=200", "forwards=4000"):
        fill(tmp_path, {"t": [0.9, 0.91]}, budget=budget)
    fill(tmp_path, {"t": [0.5]}, **BASELINE)
    found = compare(optimizer(tmp_path, "zero-shot"), optimizer(tmp_path, "mezo"))
    assert len(found.lines) == 2 and found.alone == ([], [])
    assert {row for line in found.lines for row in line.rows} == {"zero-shot[lr=0]", "mezo[lr=1e-6]"}
    assert sorted(line.where[3] for line in found.lines) == ["forwards=200", "forwards=4000"]


def test_trials_and_older_versions_are_left_out(tmp_path):
    for common in (dict(), dict(score="validation"), dict(task_version=2)):
        fill(tmp_path, {"t": [0.9, 0.91]}, **common)
        fill(tmp_path, {"t": [0.5, 0.51]}, **common | ADAM)
    found = compare(optimizer(tmp_path, "mezo"), optimizer(tmp_path, "adam"))
    (line,) = found.lines
    assert "version 2" in line.where and len(found.notes) == 1 and "2 lines of older versions" in found.notes[0]
    fill(tmp_path, {"u": [0.9, 0.91]}, score="validation")
    fill(tmp_path, {"u": [0.5, 0.51]}, score="validation", **ADAM)
    found = compare(optimizer(tmp_path, "mezo"), optimizer(tmp_path, "adam"))
    assert [line.task for line in found.lines] == ["t"] and "1 line of trials" in found.notes[1]


def test_time_is_compared_on_equal_hardware_only(tmp_path):
    def side(name: str, seconds: float, hardware: str | None, **more: Any) -> Side:
        environment = ENVIRONMENT | {"hardware": hardware, "started": name}
        for seed in range(3):
            common = dict(task="t", seed=seed, value=0.9 + seed / 100, timed_steps=100, step_seconds=seconds)
            write(record(**common, environment=json_text(environment), **more), tmp_path / name)
        return place(tmp_path / name)

    base = side("base", 2.0, "GPU one")
    for name, hardware, more, ratio, note in (
        ("equal", "GPU one", {}, 2.0, None),
        ("other", "GPU two", {}, None, "GPU one against GPU two"),
        ("unknown", None, {}, None, "hardware not recorded"),
        ("lockstep", "GPU one", {"lockstep": 64}, None, "shared by different numbers of runs"),
    ):
        (line,) = compare(base, side(name, 1.0, hardware, **more)).lines
        assert line.costs["ms_per_step"] == (20.0, 10.0, ratio) and line.costs["step_seconds"][2] == ratio
        assert line.costs["forwards"][2] == 1.0
        assert [n for n in line.notes if "time" in n] == ([f"time not compared: {note}"] if note else [])


def test_what_a_failed_run_does_not_know_comes_from_the_other_side(tmp_path):
    fill(tmp_path / "a", {"t": [None, None]}, metric=None, better=None, scale=None, partial_data=None)
    fill(tmp_path / "b", {"t": [0.5, 0.6]})
    (line,) = compare(place(tmp_path / "a"), place(tmp_path / "b")).lines
    assert (line.verdict, line.metric) == ("worse", "accuracy")


# ---- over tasks ----


def test_six_tasks_are_tested_and_five_are_not(tmp_path):
    values = {f"t{i}": [0.9 + i / 100, 0.91 + i / 100] for i in range(6)}
    lower = {task: [x - 0.3 - i / 50 for x in v] for i, (task, v) in enumerate(values.items())}
    found = both(tmp_path / "six", values, lower)
    assert (found.overall.tasks, found.overall.wins, found.overall.test) == (6, (6, 0, 0), "Wilcoxon signed-rank")
    assert found.overall.p == pytest.approx(2 / 2**6)  # one of 2^6 signs, two sides
    assert found.overall.superiority.center == 1.0 and found.overall.superiority.low < 0.9
    assert "test over tasks: p = 0.031." in screen(found, 300)
    sure = replace(found, overall=replace(found.overall, p=3e-7))
    assert "test over tasks: p < 0.0001." in screen(sure, 300)
    for store in ("a", "b"):
        fill(tmp_path / "mixed" / store, dict(list((values if store == "a" else lower).items())[:4]), store)
        gaps = {f"g{i}": [1e-8 if store == "a" else 1e-3, 1e-7 if store == "a" else 2e-3] for i in range(3)}
        fill(tmp_path / "mixed" / store, gaps, store, **GAP)
    found = compare(place(tmp_path / "mixed" / "a"), place(tmp_path / "mixed" / "b"))
    assert (found.overall.tasks, found.overall.test, found.overall.p) == (7, "sign", pytest.approx(2 / 2**7))
    few = both(tmp_path / "five", dict(list(values.items())[:5]), dict(list(lower.items())[:5]))
    assert (few.overall.tasks, few.overall.test, few.overall.p) == (5, None, None)


def test_each_task_weighs_the_same(tmp_path):
    """Three rows of one task, all lost, against one row of another, won: one half, not a quarter."""
    for store, won in (("a", True), ("b", False)):
        fill(tmp_path / store, {"u": [0.9, 0.91] if won else [0.1, 0.11]}, store)
        for lr in (1e-6, 1e-5, 1e-4):
            values = [0.1, 0.11] if won else [0.9, 0.91]
            fill(tmp_path / store, {"t": values}, store, optimizer_options={"lr": lr})
    overall = compare(place(tmp_path / "a"), place(tmp_path / "b")).overall
    assert (overall.superiority.center, overall.wins) == (pytest.approx(0.5), (1, 0, 1))


# ---- margins ----


def test_margins(tmp_path):
    first, second = fill(tmp_path / "a", A), fill(tmp_path / "b", B, "2026-02-02")
    sides = place(first), place(second)
    wide = by_task(compare(*sides, margins={"points": 12}))
    assert {line.verdict for task, line in wide.items() if task != "open"} == {"same"}
    assert wide["better"].margin == pytest.approx(0.12)
    assert by_task(compare(*sides, margins=12.0))["better"].verdict == "same"
    assert by_task(compare(*sides, margins={"accuracy": 12.0}))["better"].verdict == "same"
    with pytest.raises(UsageError, match="did you mean accuracy"):
        compare(*sides, margins={"acuracy": 1})
    fill(first, {"gap": [1e-3, 2e-3]}, **GAP)
    fill(second, {"gap": [1e-3, 2.1e-3]}, "2026-02-02", **GAP)
    with pytest.raises(UsageError, match=r"factor=1\.1,points=1"):
        compare(place(first), place(second), margins=2.0)
    with pytest.raises(UsageError, match="at least 1"):
        compare(place(first), place(second), margins={"factor": 0.5})
    for store, values in (("c", [2.00, 2.01, 2.005]), ("d", [2.01, 2.005, 2.0])):
        fill(tmp_path / store, {"nats": values}, store, metric="loss", better="lower")
    (line,) = compare(place(tmp_path / "c"), place(tmp_path / "d"), margins={"relative": 0.02}).lines
    assert line.margin == pytest.approx(0.02 * 2.005, rel=1e-3) and line.verdict == "same"


# ---- how it is shown ----


def screen(found: Compared, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(found, console)
    return console.file.getvalue()


def test_every_width_shows_task_difference_and_verdict(tmp_path):
    found = both(tmp_path, A, B, forwards=4000)
    for width in (60, 80, 120, 300):
        text = screen(found, width)
        assert max(map(len, text.splitlines())) <= width
        for name in ("better", "worse", "same", "undecided", "+9.9", "open"):
            assert name in text, (width, name)
    assert "memory ×" in screen(found, 300) and "memory ×" not in screen(found, 60)


def test_only_changed_hides_lines_and_keeps_the_correction(tmp_path):
    first, second = fill(tmp_path / "a", A), fill(tmp_path / "b", B, "2026-02-02")
    sides = place(first), place(second)
    whole, changed = compare(*sides), compare(*sides, only_changed=True, sort="effect")
    assert {line.task for line in changed.shown} == {"better", "worse"} and changed.totals == whole.totals
    assert {line.task: line.p_adjusted for line in changed.lines} == {
        line.task: line.p_adjusted for line in whole.lines
    }
    assert "2 lines not shown" in screen(changed, 200)
    by_p = compare(*sides, sort="p").lines
    assert [line.p for line in by_p] == sorted(line.p for line in by_p)
    verdicts = [line.verdict for line in compare(*sides, sort="verdict").lines]
    assert verdicts == ["worse", "better", "undecided", "same"]


def test_hostile_names_are_text(tmp_path):
    evil = "<script>alert(1)</script>|x`\n\x1b[31m[red]"
    for store, value in (("a", 0.9), ("b", 0.1)):
        fill(
            tmp_path / store, {evil: [value, value + 0.001, value]}, store, optimizer=evil, suite=evil, task_label=evil
        )
    fill(tmp_path / "a", {"t": [0.5]}, optimizer=evil, reason=evil)
    found = compare(place(tmp_path / "a"), place(tmp_path / "b"))
    page = markdown(found)
    assert "<script" not in page and "\x1b" not in page
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1  # no cell was added
    assert "\x1b" not in screen(found, 120) and "[red]" in screen(found, 300)
    json.dumps(found.to_json(), allow_nan=False)


def test_same_results_same_bytes(tmp_path):
    both(tmp_path, A, B)
    copy = tmp_path / "copy" / "a"
    copy.mkdir(parents=True)
    for number, path in enumerate(sorted((tmp_path / "a").iterdir(), reverse=True)):
        shutil.copy(path, copy / f"{number}.parquet")
    texts = {markdown(compare(place(a), place(tmp_path / "b"))) for a in (tmp_path / "a", copy)}
    assert len(texts) == 1


# ---- the command ----


def test_json_and_exit_codes(tmp_path):
    both(tmp_path, A, B)
    result = zobench("a", "b", "--json")
    assert result.exit_code == 0 and result.stderr == ""
    answer = json.loads(result.stdout, parse_constant=lambda text: pytest.fail(text))
    assert answer["totals"]["worse"] == 1  # a question, not a gate: 0 whatever the verdict
    line = next(line for line in answer["lines"] if line["task"] == "better")
    assert line["a"]["n"] == 5 and line["a"]["score"]["center"] > line["b"]["score"]["center"]
    assert line["verdict"] == "better" and line["ratios"]["forwards"] == 1.0 and line["difference"]["low"] > 0
    assert answer["a"] == {"text": "a", "kind": "place", "says": "the store a", "runs": 20}
    result = zobench("a", "b", "-o", "out/compared.md", "--only-changed", "-t", "better,worse")
    assert result.exit_code == 0 and result.stdout == "" and "wrote out/compared.md" in result.stderr
    page = Path("out/compared.md").read_text()
    assert page.startswith("# Comparison") and page.count("\n| ") == 4
    result = zobench("a", "b", "-o", "x.json", "-o", "x.md", "-o", "./x.md")
    assert result.stderr.splitlines() == ["wrote x.json", "wrote x.md"]
    assert json.loads(Path("x.json").read_text()) == answer and Path("x.md").read_text().startswith("# Comparison")


MISTAKES = [
    (("a", "nosuch"), 2, "'nosuch' is no directory"),
    (("a", "mezoo", "--store", "a"), 2, "did you mean mezo"),
    (("mezo", "mezo", "--store", "a"), 2, "the same runs"),
    (("mezo", "mezo[lr=1e-6]", "--store", "a"), 2, "the same runs"),
    (("mezo", "mezo[lr=2e-6]", "--store", "a"), 2, "no run of mezo has lr=2e-6; did you mean 1e-6?"),
    (("mezo", "mezo[epz=1]", "--store", "a"), 2, "did you mean eps"),
    (("a", "mezo", "--store", "a"), 2, "mezo is an optimizer and a is not"),
    (("mezo", "b", "--store", "a"), 2, "mezo is an optimizer and b is not"),
    (("a", "empty"), 5, "no results in the store empty"),
    (("a", "other"), 5, "nothing to compare"),
    (("a", "b", "-t", "nosuch"), 5, "no results for task nosuch"),
    (("a", "b", "--suite", "opd"), 5, "did you mean opt"),
    (("a", "b", "--alpha", "1"), 2, "between 0 and 1"),
    (("a", "b", "--margin", "points=-1"), 2, "write a number"),
    (("a", "b", "--margin", "1", "--margin", "points=2"), 2, "points=1"),
    (("a", "b", "--sort", "verdicts"), 2, "did you mean verdict"),
    (("HEAD:nowhere", "b"), 2, "git knows no revision HEAD here"),
    (("NOREV:other", "b"), 2, "git knows no revision NOREV here"),  # and not: did you mean the directory other?
    (("a", "b", "-o", "x.txt"), 2, "output x.txt: end it in .md or .json"),
    (("a", "b", "-o", "x.html"), 2, "end it in .md or .json"),
    (("a", "broken.parquet"), 5, "(1 file was skipped: broken.parquet: "),
    (("a",), 2, "Missing argument"),
    (("a", "b", "-o", "a/file.md/x.md"), 6, "cannot write"),
]


@pytest.fixture(scope="module")
def two_stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    fill(folder / "a", A)
    fill(folder / "b", B, "2026-02-02")
    fill(folder / "other", {"elsewhere": [0.5]})
    (folder / "empty").mkdir()
    (folder / "a" / "file.md").write_text("")
    (folder / "broken.parquet").write_bytes(b"PAR1")
    return folder


@pytest.mark.parametrize("args, code, says", MISTAKES)
def test_a_mistake_is_one_line(two_stores, monkeypatch, args, code, says):
    monkeypatch.chdir(two_stores)
    result = zobench(*args)
    lines = result.stderr.strip().splitlines()
    assert (result.exit_code, result.stdout) == (code, "") and says in lines[-1] and len(lines) == 1, result.stderr


def test_a_name_that_is_a_directory_and_an_optimizer_is_refused(tmp_path):
    fill(tmp_path / "store", {"t": [0.9, 0.91]})
    fill(tmp_path / "store", {"t": [0.8, 0.81]}, **ADAM)
    (tmp_path / "mezo").mkdir()
    result = zobench("mezo", "adam", "--store", "store")
    assert result.exit_code == 2 and "could be several things" in result.stderr
    assert "write ./mezo" in result.stderr and "write 'mezo[]'" in result.stderr
    assert zobench("mezo[]", "adam", "--store", "store").exit_code == 0
    assert "no results in the store ./mezo" in zobench("./mezo", "store").stderr


def test_an_optimizer_against_a_variant_of_itself(tmp_path):
    fill(tmp_path / "s", {"t": [0.9, 0.91, 0.92]}, optimizer_options={"law": "gaussian", "lr": 1e-6})
    fill(tmp_path / "s", {"t": [0.5, 0.51, 0.52]}, optimizer_options={"law": "sphere", "lr": 1e-6})
    answer = json.loads(zobench("MeZO", "mezo[law=sphere]", "--store", "s", "--json").stdout)
    (line,) = answer["lines"]
    assert [line[side]["row"] for side in "ab"] == ["mezo[law=gaussian,lr=1e-6]", "mezo[law=sphere,lr=1e-6]"]
    assert line["verdict"] == "better" and answer["alone"] == {"a": [], "b": []}


def test_two_selections_with_the_same_best_setting_have_nothing_to_compare(tmp_path):
    for law, lr, value in (("sphere", 1e-6, 0.9), ("sphere", 1e-5, 0.5), ("gaussian", 1e-6, 0.6)):
        fill(tmp_path / "s", {"t": [value, value + 0.01]}, optimizer_options={"law": law, "lr": lr}, validation=value)
    result = zobench("mezo[law=sphere]", "mezo[lr=1e-6]", "--store", "s")
    assert result.exit_code == 5 and "are the same ones: add options that differ" in result.stderr


def test_the_command_offers_what_the_comparison_knows():
    from zobench.cli.compare import KINDS as OFFERED_KINDS
    from zobench.cli.compare import SORTS as OFFERED_SORTS
    from zobench.report.compare import MARGINS, SORTS

    assert (SORTS, tuple(MARGINS)) == (OFFERED_SORTS, OFFERED_KINDS)
    words = " ".join(zobench("-h").stdout.split())
    assert "Default: " + ",".join(f"{kind}={value:g}" for kind, value in MARGINS.items()) in words


def test_a_damaged_file_is_named_and_the_rest_compared(tmp_path):
    both(tmp_path, A, B)
    (tmp_path / "b" / "0123456789abcdef-1.parquet").write_bytes(b"PAR1 no")
    result = zobench("a", "b", "--json")
    assert result.exit_code == 0 and "skipped b/0123456789abcdef-1.parquet" in result.stderr
    assert len(json.loads(result.stdout)["problems"]) == 1


# ---- git ----


def git(*words: str, at: Path) -> str:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    done = subprocess.run(
        ["git", *words], cwd=at, env=os.environ | identity | quiet, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_directory_as_it_was_at_a_revision(tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    store = fill(repository / "deep" / "results", A)
    (store / "broken.parquet").write_bytes(b"no")
    (store / "tuning").mkdir()
    (store / "tuning" / "inner.parquet").write_bytes(b"not of the store")
    git("init", "-q", at=repository)
    git("add", ".", at=repository)
    git("commit", "-qm", "one", at=repository)
    git("tag", "v1", at=repository)
    fill(store, B, "2026-02-02")
    for place_, name in ((repository, "deep/results"), (repository / "deep", "results"), (store, ".")):
        monkeypatch.chdir(place_)
        result = zobench(f"v1:{name}", name, "--json")
        assert result.exit_code == 0, result.stderr
        answer = json.loads(result.stdout)
        assert answer["totals"]["better"] == answer["totals"]["worse"] == 1 and answer["compared"] == 4
        assert answer["problems"][0]["path"] == f"v1:{name}/broken.parquet" and "/tmp" not in str(answer["problems"][0])
    monkeypatch.chdir(repository)
    assert json.loads(zobench("v1:deep/results/", "HEAD:deep/results", "--json").stdout)["totals"]["same run"] == 4
    for text, says in (("v1:deep/nowhere", "no directory deep/nowhere at v1"), ("v2:deep/results", "no revision v2")):
        result = zobench(text, "deep/results")
        assert result.exit_code == 2 and says in result.stderr and len(result.stderr.splitlines()) == 1


def test_commits_of_runs(tmp_path):
    store = tmp_path / "s"
    commits = ["abcd1" + "0" * 35, "abcd2" + "0" * 35]
    for commit, values in zip(commits, (A, B), strict=True):
        environment = json_text(ENVIRONMENT | {"commit": commit, "dirty": commit == commits[0]})
        fill(store, values, environment=environment)  # attempts 1 and 2 of the same cells
    answer = json.loads(zobench("abcd1", "ABCD2", "--store", "s", "--json").stdout)
    assert answer["totals"] == {"better": 1, "same": 1, "worse": 1, "undecided": 1, "same run": 0}
    assert "made with uncommitted changes" in answer["lines"][0]["notes"]
    result = zobench("abcd", "abcd2", "--store", "s")
    assert result.exit_code == 2 and "ambiguous in s: abcd10000000, abcd20000000" in result.stderr
    result = zobench("abcd3", "abcd2", "--store", "s")
    assert result.exit_code == 2 and "its runs are of abcd10000000, abcd20000000" in result.stderr
    git("init", "-q", "-b", "trunk", at=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "one", at=tmp_path)
    head = git("rev-parse", "HEAD", at=tmp_path)
    result = zobench("trunk", "abcd2", "--store", "s")
    assert result.exit_code == 2 and f"no run of commit {head[:12]} (trunk) in s" in result.stderr
    fill(store, A, "2026-03-03", environment=json_text(ENVIRONMENT | {"commit": head}))
    assert json.loads(zobench("trunk", "abcd2", "--store", "s", "--json").stdout)["totals"]["better"] == 1


# ---- the committed results ----


@pytest.fixture(scope="module")
def real() -> list[dict[str, Any]]:
    """The newest attempt of every committed cell."""
    return list({r["cell"]: r for r in sorted(scan(RESULTS)[0], key=lambda r: r["attempt"])}.values())


def test_real_optimizers_meet_where_both_ran(real):
    """The lines and their differences, from the files with nothing of the reports."""
    answer = json.loads(zobench("mezo", "adam", "--store", RESULTS, "--json").stdout)
    rows = [r for r in real if r["optimizer"] in ("mezo", "adam") and r["status"] == "ok"]
    newest = {r["task"]: max(x["task_version"] for x in rows if x["task"] == r["task"]) for r in rows}
    groups: dict[tuple[Any, ...], dict[str, dict[str, list[Any]]]] = {}
    for r in rows:
        if r["task_version"] == newest[r["task"]]:
            options = {k: v for k, v in json.loads(r["task_options"]).items() if k != "instance"}
            names = ("task", "model", "revision", "adapter", "dtype", "budget", "batch_size", "score", "data", "suite")
            key = (*(r[n] for n in names), json_text(options))
            groups.setdefault(key, {}).setdefault(r["optimizer"], {}).setdefault(r["optimizer_options"], []).append(r)
    met = {key: group for key, group in groups.items() if len(group) == 2}
    assert len(answer["lines"]) == len(met) > 20
    single = {key: g for key, g in met.items() if all(len(settings) == 1 for settings in g.values())}
    expected = Counter()
    for group in single.values():
        mezo, adam = ([r["value"] for r in next(iter(group[name].values()))] for name in ("mezo", "adam"))
        if next(iter(group["mezo"].values()))[0]["scale"] == "log":
            mezo, adam = np.log10(np.maximum(mezo, 1e-28)), np.log10(np.maximum(adam, 1e-28))
        expected[round(float(np.mean(mezo) - np.mean(adam)), 6)] += 1
    found = Counter(round(line["difference"]["center"], 6) for line in answer["lines"])
    assert not expected - found


def test_real_stores_differ_where_files_were_changed(tmp_path, real):
    copy = tmp_path / "copy"
    copy.mkdir()
    wanted = [r for r in real if r["task"] in ("toy_sentiment", "bigram") and r["optimizer"] in ("mezo", "sgd")]
    paths = [r["path"] for r in wanted]
    for path in paths:
        shutil.copy(path, copy)
    shutil.copytree(copy, tmp_path / "head")
    changed = [r for r in (read(p) for p in sorted((tmp_path / "head").iterdir())) if r.budget == "forwards=2000"]
    assert len(changed) == 6  # bigram, three seeds of each
    for r in changed:
        r.value = (r.value or 0) * (100 if r.optimizer == "mezo" else 1.001)
        write(r, tmp_path / "head")
    answer = json.loads(zobench("head", "copy", "--json").stdout)
    verdicts = {
        (x["task"], x["a"]["row"].partition("[")[0]): x["verdict"]
        for x in answer["lines"]
        if x["verdict"] != "same run"
    }
    assert verdicts == {("bigram", "mezo"): "worse", ("bigram", "sgd"): "same"}
    line = next(x for x in answer["lines"] if x["verdict"] == "worse")
    assert line["difference"]["center"] == pytest.approx(2.0)  # decades
