"""What was tried on validation: how often, at which values, and whether the chosen one is at the edge of them."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import record

from zobench.record import write
from zobench.report import tuning
from zobench.report.read import load
from zobench.report.tables import Row, board
from zobench.report.tuning import Trials, Tried, edges, told

CHECKOUT = Path(__file__).resolve().parent.parent
GAP = dict(metric="relative_gap", better="lower", scale="log", kind="regression", model=None, suite="synthetic")
HEAD = "task,optimizer,factor,lr,metric,value,status"


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def run(store: Path, value: float | None, lr: Any, seed: int = 0, used: float | None = None, **more: Any) -> None:
    """lr: as asked; used: what "task" came to."""
    options = {"eps": 1e-3, "lr": lr} | more.pop("options", {})
    failed = {"status": "diverged"} if value is None else {}
    parameters = json.dumps(options | {"lr": lr if used is None else used})
    write(record(value=value, seed=seed, optimizer_options=options, parameters=parameters, **failed | more), store)


def trial(store: Path, value: float | None, lr: Any, **more: Any) -> None:
    run(store, value, lr, **{"seed": 1000, "score": "validation"} | more)


def sheet(store: Path, *lines: str, head: str = HEAD, name: str = "trials.csv") -> None:
    (store / "tuning").mkdir(exist_ok=True, parents=True)
    (store / "tuning" / name).write_text("\n".join([head, *lines]) + "\n")


def trials(store: Path) -> tuple[Trials, list[Any]]:
    frame, _ = load([store])
    return tuning.trials([store], frame.to_dict("records"))


def on_test(store: Path) -> dict[Any, tuple[Row, Tried | None]]:
    """Rows scored on test, by their lr as asked."""
    found, _ = trials(store)
    sections = [s for s in board([store]).sections if s.conditions["score"] == "test"]
    return {row.options["lr"]: (row, found.of(s, row)) for s in sections for row in s.rows}


def marks(store: Path) -> dict[Any, list[str]]:
    return {lr: edges(row, tried) if tried else [told(tried)] for lr, (row, tried) in on_test(store).items()}


def test_trials_in_the_store(tmp_path):
    for lr, value in ((1e-7, 0.5), (1e-6, 0.7), (1e-5, 0.8), (1e-4, None)):
        trial(tmp_path, value, lr)
    for lr in (1e-7, 1e-5, 1e-4, 3e-5):
        run(tmp_path, 0.75, lr)
    assert marks(tmp_path) == {
        1e-7: ["lr on the edge of its grid (smallest of 4)"],
        1e-5: [],
        1e-4: ["lr on the edge of its grid (largest of 4)"],
        3e-5: ["untuned: default"],  # none of the four
    }
    row, tried = on_test(tmp_path)[1e-5]
    assert (tried.count, tried.failed, tried.diverged, tried.sources) == (4, 1, 1, ("runs",))
    assert tried.grid == {"lr": [1e-7, 1e-6, 1e-5, 1e-4]}
    assert told(tried) == "best of 4 trials on validation, 1 of them failed"
    assert row.trials == 4 and "lr on the edge of its grid (smallest of 4)" in on_test(tmp_path)[1e-7][0].marks


def test_one_value_has_no_edge(tmp_path):
    trial(tmp_path, 0.5, 1e-6)
    run(tmp_path, 0.6, 1e-6)
    run(tmp_path, 0.6, 1e-5)
    assert marks(tmp_path) == {1e-6: [], 1e-5: ["untuned: default"]}
    assert told(on_test(tmp_path)[1e-6][1]) == "untuned: default"


def test_without_trials_nothing_is_said(tmp_path):
    run(tmp_path, 0.6, 1e-6)
    assert marks(tmp_path) == {1e-6: ["untuned: default"]} and trials(tmp_path)[0].all() == []


def test_a_trial_is_not_its_own_choice(tmp_path):
    for lr in (1e-6, 1e-5):
        trial(tmp_path, 0.5, lr)
    (section,) = board([tmp_path]).sections
    assert [trials(tmp_path)[0].of(section, row) for row in section.rows] == [None, None]


@pytest.mark.parametrize(
    "other",
    [
        dict(budget="forwards=200"),
        dict(optimizer="adam"),
        dict(adapter="lora[r=8]"),
        dict(model="random:other"),
        dict(dtype="bfloat16"),
        dict(task_options={"k": 2}),
        dict(task="rte"),
        dict(batch_size=4),
    ],
)
def test_trials_under_other_conditions_do_not_count(tmp_path, other):
    for lr in (1e-6, 1e-5):
        trial(tmp_path, 0.5, lr, **other)
    run(tmp_path, 0.6, 1e-6)
    assert marks(tmp_path) == {1e-6: ["untuned: default"]}


def test_seeds_and_splits_are_one_setting(tmp_path):
    for lr, values in ((1e-6, (0.4, 0.6)), (1e-5, (0.7, 0.9)), (1e-4, (0.8, None))):
        for split, value in enumerate(values):
            trial(tmp_path, value, lr, data_seed=split)
    run(tmp_path, 0.6, 1e-5)
    tried = on_test(tmp_path)[1e-5][1]
    assert [s.value for s in tried.settings] == [pytest.approx(0.5), pytest.approx(0.8), None]
    assert (tried.count, tried.failed, edges(on_test(tmp_path)[1e-5][0], tried)) == (3, 1, [])


def test_each_option_has_its_own_edge(tmp_path):
    for lr, eps, law in itertools.product((1e-6, 1e-5, 1e-4), (1e-4, 1e-3), ("gaussian", "sphere")):
        trial(tmp_path, 0.5, lr, options={"eps": eps, "law": law})
    run(tmp_path, 0.6, 1e-5, options={"eps": 1e-3, "law": "sphere"})
    row, tried = on_test(tmp_path)[1e-5]
    assert edges(row, tried) == ["eps on the edge of its grid (largest of 2)"]  # words have no edge
    assert tried.count == 12 and tried.grid["law"] == ["gaussian", "sphere"]


def test_expected_best_is_the_mean_over_all_draws(tmp_path):
    values = {1e-7: 0.31, 1e-6: 0.72, 1e-5: 0.55, 1e-4: 0.64}
    for lr, value in values.items():
        trial(tmp_path, value, lr)
    run(tmp_path, 0.6, 1e-5)
    expected = [np.mean([max(draw) for draw in itertools.combinations(values.values(), k)]) for k in (1, 2, 3, 4)]
    assert on_test(tmp_path)[1e-5][1].expected_best() == pytest.approx(expected)


def test_expected_best_on_a_log_scale_with_failures(tmp_path):
    values = {0.1: 1e-2, 0.2: 1e-8, 0.3: 1e-5, 0.4: None}
    for lr, value in values.items():
        trial(tmp_path, value, lr, **GAP)
    run(tmp_path, 1e-8, 0.2, **GAP)
    logs = [math.inf if v is None else math.log10(v) for v in values.values()]
    found = on_test(tmp_path)[0.2][1].expected_best()
    for k in (1, 2, 3, 4):
        mean = float(np.mean([min(draw) for draw in itertools.combinations(logs, k)]))
        assert found[k - 1] == (None if math.isinf(mean) else pytest.approx(10**mean))
    assert found[0] is None and found[3] == pytest.approx(1e-8)


# ---- CSV ----


def gap_run(store: Path, lr: Any, used: float | None = None, **more: Any) -> None:
    names = dict(task="softmax_ce", task_label="softmax_ce", task_options={"instance": 0, "kappa": 1.0}) | GAP
    run(store, 1e-5, lr, used=used, **names | more)


def test_a_sheet_of_trials(tmp_path):
    task_rate = 0.08297233681409266
    sheet(
        tmp_path,
        "softmax_ce,mezo,0.03,0.00249,relative_gap,0.0089,ok",
        f"softmax_ce,mezo,1,{task_rate},relative_gap,1e-12,ok",
        "softmax_ce,mezo,3,0.249,relative_gap,inf,diverged",
        "softmax_ce,mezo,10,0.83,relative_gap,,diverged",
        "softmax_ce,adam,1,0.1,relative_gap,1e-3,ok",
    )
    gap_run(tmp_path, "task", used=task_rate * (1 + 1e-12))
    gap_run(tmp_path, 0.83)
    gap_run(tmp_path, 0.00249 * (1 + 1e-12))
    gap_run(tmp_path, 0.249 * (1 + 1e-6))  # another rate, however near
    found = marks(tmp_path)
    assert found["task"] == [] and found[0.83] == ["lr on the edge of its grid (largest of 4)"]
    assert found[0.00249 * (1 + 1e-12)] == ["lr on the edge of its grid (smallest of 4)"]
    assert found[0.249 * (1 + 1e-6)] == ["untuned: default"]
    tried = on_test(tmp_path)["task"][1]
    assert (tried.count, tried.diverged, tried.sources) == (4, 2, ("trials.csv",))
    assert [s.value for s in tried.settings] == [0.0089, 1e-12, None, None]


def test_a_rate_left_to_the_task_differs_from_instance_to_instance(tmp_path):
    lines = ("softmax_ce,mezo,1,0.1,relative_gap,1e-3,ok", "softmax_ce,mezo,3,0.3,relative_gap,1e-4,ok")
    sheet(tmp_path, *lines)
    for instance, used in enumerate((0.1, 0.11, 0.12)):
        gap_run(tmp_path, "task", used=used, task_options={"instance": instance, "kappa": 1.0})
    assert marks(tmp_path) == {"task": ["lr on the edge of its grid (smallest of 2)"]}


def test_sheets_and_runs_add_up_without_counting_twice(tmp_path):
    sheet(tmp_path, "sst2,mezo,1,1e-6,accuracy,0.7,ok", "sst2,mezo,3,3e-6,accuracy,0.8,ok", name="a.csv")
    sheet(tmp_path, "sst2,mezo,3,3e-6,accuracy,0.8,ok", "sst2,mezo,10,1e-5,accuracy,0.6,ok", name="b.csv")
    trial(tmp_path, 0.7, 1e-6)
    trial(tmp_path, 0.1, 1e-4)
    run(tmp_path, 0.8, 3e-6, task_label="sst2")
    tried = on_test(tmp_path)[3e-6][1]
    assert tried.grid == {"lr": [1e-6, 3e-6, 1e-5, 1e-4]} and tried.count == 4
    assert tried.sources == ("runs", "a.csv", "b.csv")


def test_options_of_a_task_may_stand_in_any_order(tmp_path):
    label = "softmax_l2[kappa=10.0,tau=2.0]"
    lines = [f'"softmax_l2[tau=2.0, kappa=10.0,instance=3]",mezo,1,{lr},relative_gap,1e-3,ok' for lr in (0.1, 0.2)]
    sheet(tmp_path, *lines, "softmax_l2,mezo,1,0.4,relative_gap,1e-3,ok")
    gap_run(tmp_path, 0.2, task="softmax_l2", task_label=label)
    assert marks(tmp_path) == {0.2: ["lr on the edge of its grid (largest of 2)"]}


def test_a_sheet_speaks_of_the_runs_that_were_given_its_rates(tmp_path):
    lines = [f"sst2,mezo,{factor},{1e-6 * factor},accuracy,0.7,ok" for factor in (1, 3)]
    sheet(tmp_path, *lines)
    run(tmp_path, 0.8, 3e-6, task_label="sst2", budget="forwards=4000")
    run(tmp_path, 0.8, "task", used=1e-6, task_label="sst2", budget="forwards=200")  # nobody tuned for these
    found = on_test(tmp_path)
    assert found[3e-6][1].count == 2 and found["task"][1] is None
    narrowed = [f"{line},forwards=200" for line in lines]
    sheet(tmp_path, *narrowed, head=f"{HEAD},budget")
    found = on_test(tmp_path)
    assert found[3e-6][1] is None and found["task"][1].count == 2


BROKEN = [
    ("task,optimizer,lr,value\nx,y,1,2\n", "lacks the column status", 0),
    ("", "lacks the column task", 0),
    (
        f"{HEAD}\nsst2,mezo,1,fast,accuracy,0.7,ok\nsst2,mezo,1,1e-6,accuracy,0.7,ok\n",
        "line 2: lr 'fast' is no number",
        1,
    ),
    (f"{HEAD}\nsst2,mezo,1,1e-6,accuracy,high,ok\nsst2,mezo,x,,,,ok\n", "'high' is no number (and 1 lines more)", 0),
    (f"{HEAD}\nsst2,mezo,1,inf,accuracy,0.7,ok\n", "line 2: lr 'inf' is no rate", 0),
    (f"{HEAD}\nsst2,mezo\n", "must not be blank", 0),
    (f'{HEAD}\nsst2,mezo,1,"1e-6,accuracy,0.7,ok\n', "no list of trials", 0),
    (b"\xff\xfe\x00\x01PAR1", "no list of trials", 0),
]


@pytest.mark.parametrize("text, why, kept", BROKEN)
def test_a_malformed_sheet_is_a_line_and_no_error(tmp_path, text, why, kept):
    run(tmp_path, 0.8, 1e-6, task_label="sst2")
    sheet(tmp_path, "sst2,mezo,1,1e-7,accuracy,0.5,ok", name="good.csv")
    bad = tmp_path / "tuning" / "bad.csv"
    bad.write_bytes(text if isinstance(text, bytes) else text.encode())
    found, problems = trials(tmp_path)
    assert [p.path for p in problems] == [bad] and why in problems[0].why and "\n" not in problems[0].why
    assert sum(len(t.settings) for t in found.all() if t.sources == ("bad.csv",)) == kept
    assert any(p.path == bad for p in board([tmp_path]).problems)


def test_a_directory_in_the_place_of_a_sheet_is_named(tmp_path):
    run(tmp_path, 0.8, 1e-6)
    (tmp_path / "tuning" / "x.csv").mkdir(parents=True)
    assert "directory" in trials(tmp_path)[1][0].why


def test_json_is_plain(tmp_path):
    sheet(tmp_path, "softmax_ce,mezo,1,0.1,relative_gap,inf,diverged", "softmax_ce,mezo,3,0.3,relative_gap,1e-4,ok")
    for lr in (1e-6, 1e-5):
        trial(tmp_path, 0.5, lr)
    run(tmp_path, 0.5, 1e-6)
    written = json.loads(json.dumps(trials(tmp_path)[0].to_json(), allow_nan=False))
    assert [(t["task"], t["trials"], t["diverged"]) for t in written] == [("softmax_ce", 2, 1), ("sst2", 2, 0)]
    assert written[0]["expected_best"] == [None, pytest.approx(1e-4)] and written[0]["better"] == "lower"
    assert written[1]["grid"] == {"lr": [1e-6, 1e-5]}


def test_the_committed_edges_are_those_that_the_suite_was_written_with():
    """The script that tuned marked each chosen rate that was the smallest or largest tried: `# edge`."""
    parts = re.split(r"\[\[run\]\]", (CHECKOUT / "zobench" / "suites" / "optimizers.toml").read_text())[1:]
    expected: dict[str, set[str]] = {}
    for part in parts:
        task = re.search(r'tasks = \["(\w+)"\]', part)[1]
        expected[task] = set(re.findall(r'^    "([\w-]+).*# edge', part, re.M))
    frame, _ = load([CHECKOUT / "results"], tasks=list(expected))
    records = frame.to_dict("records")
    found, problems = tuning.trials([CHECKOUT / "results"], records)
    assert problems == []
    marked: dict[str, set[str]] = {task: set() for task in expected}
    for section in board([CHECKOUT / "results"], tasks=list(expected)).sections:
        for row in [row for row in section.rows if not row.reference]:
            tried = found.of(section, row)
            suite = section.conditions["budget"] in ("forwards=2000", "forwards=300")
            assert (tried is not None) == suite, (section.conditions, row.label)
            if tried:
                assert tried.count == (4 if section.conditions["task"] == "toy_sentiment" else 5)
                if edges(row, tried):
                    marked[section.conditions["task"]].add(row.optimizer)
    assert marked == expected and sum(map(len, expected.values())) > 50
