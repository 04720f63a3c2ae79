"""What a reader asks of the board: subsets, budgets, other axes, other formats."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from records import record

from zobench.cli import main
from zobench.record import write
from zobench.report.flat import csv_text
from zobench.report.leaderboard import markdown
from zobench.report.summary import best, summaries
from zobench.report.tables import Section, board
from zobench.report.view import View
from zobench.spec import Budget, NothingMeasured, UsageError


def points(*values: float, forwards: int = 100, backwards: int = 0, seconds: float = 1.0) -> dict:
    """A curve that was validated after every so many forwards, and the columns that follow from it."""
    curve = [
        dict(
            step=10 * i, forwards=forwards * i, backwards=backwards * i, seconds=seconds * i, loss=1.0,
            metrics=json.dumps({"accuracy": value}),
        )
        for i, value in enumerate(values, 1)
    ]  # fmt: skip
    n = len(values)
    return dict(
        curve=curve, forwards=forwards * n, backwards=backwards * n, steps=10 * n, step_seconds=seconds * n, kept_step=10
    )  # fmt: skip


def fill(store: Path) -> Path:
    """`quick` is ahead at first, `slow` in the end; `quick` needs gradients and memory."""
    for seed in range(3):
        d = seed / 1000
        quick = points(0.80 + d, 0.81 + d, 0.82 + d, 0.82 + d, backwards=50)
        slow = points(0.50 + d, 0.60 + d, 0.81 + d, 0.90 + d)
        write(record(optimizer="quick", seed=seed, value=0.82 + d, peak_bytes=4000, order="first", **quick), store)
        write(record(optimizer="slow", seed=seed, value=0.90 + d, peak_bytes=1000, flops=4 * 10**9, **slow), store)
    return store


def only(store: Path, **asked) -> Section:
    (section,) = board([store], view=View(**asked)).sections
    return section


def order(section: Section) -> list[str]:
    return [row.optimizer for row in section.rows]


def test_by_the_score_the_slow_one_leads(tmp_path):
    section = only(fill(tmp_path))
    assert order(section) == ["slow", "quick"] and [row.rank for row in section.rows] == [(1, 1), (2, 2)]
    assert [row.spent for row in section.rows] == [None, None]


def test_within_a_budget_each_run_counts_with_what_it_had_validated_by_then(tmp_path):
    section = only(fill(tmp_path), budget=Budget.parse("forwards=250"))  # quick: 200 each; slow: 100 each
    assert order(section) == ["quick", "slow"]
    quick, slow = section.rows
    assert quick.score.center == pytest.approx(0.801) and slow.score.center == pytest.approx(0.601)
    assert (quick.forwards, quick.backwards, quick.cost, quick.step_seconds) == (100, 50, 200, 1.0)
    assert (slow.forwards, slow.cost, slow.flops) == (200, 200, 2 * 10**9)  # half of the run, half of its FLOPs
    assert section.conditions["budget"] == "at most forwards=250" and section.conditions["score"] == "validation"


def test_a_run_that_validated_nothing_within_the_budget_says_so(tmp_path):
    section = only(fill(tmp_path), budget=Budget.parse("forwards=150"))
    assert order(section) == ["slow", "quick"] and section.rows[1].failures == {"too short": 3}
    assert section.rows[1].rank is None and section.rows[1].blamed == 0
    assert "nothing was validated within forwards=150" in markdown(
        board([tmp_path], view=View(budget=Budget.parse("forwards=150")))
    )


def test_a_longer_run_holds_the_shorter_ones(tmp_path):
    write(record(budget="forwards=100", value=0.5, **points(0.5)), tmp_path)
    write(record(budget="forwards=400", value=0.9, **points(0.5, 0.6, 0.7, 0.9)), tmp_path)
    section = only(tmp_path, budget=Budget.parse("forwards=300"))
    assert [(row.n, row.score.center) for row in section.rows] == [(1, 0.7)]


@pytest.mark.parametrize(
    "axis, spent",
    [("forwards", {"quick": 400.0, "slow": 300.0}), ("time", {"quick": 2.0, "slow": 3.0})],
)
def test_ranked_by_the_cost_of_a_target(tmp_path, axis, spent):
    section = only(fill(tmp_path), rank_by=axis, target=0.81)
    assert {row.optimizer: row.spent for row in section.rows} == spent
    assert order(section) == sorted(spent, key=spent.__getitem__)


def test_who_never_meets_the_target_is_last_and_infinite(tmp_path):
    section = only(fill(tmp_path), rank_by="forwards", target=0.85)
    assert order(section) == ["slow", "quick"] and section.rows[1].spent == math.inf
    assert "| never |" in markdown(board([tmp_path], view=View(rank_by="forwards", target=0.85)))


def test_without_a_target_half_of_the_optimizers_reach_it(tmp_path):
    section = only(fill(tmp_path), rank_by="forwards")
    assert section.target == pytest.approx(0.821)  # the lower of the two medians: both reach it
    assert all(math.isfinite(row.spent) for row in section.rows)


def test_ranked_by_memory(tmp_path):
    section = only(fill(tmp_path), rank_by="memory")
    assert order(section) == ["slow", "quick"] and [row.spent for row in section.rows] == [1000, 4000]


def test_an_axis_that_was_not_measured_ranks_nobody(tmp_path):
    section = only(fill(tmp_path), rank_by="energy", target=0.5)
    assert [row.rank for row in section.rows] == [None, None]


def test_never_is_worse_than_ever(tmp_path):
    """All of one reach the target and none of the other: no number is missing, so they are told apart."""
    for seed in range(3):
        write(record(optimizer="there", seed=seed, value=0.9, **points(0.5, 0.9)), tmp_path)
        write(record(optimizer="never", seed=seed, value=0.6, **points(0.5, 0.6)), tmp_path)
    there, never = only(tmp_path, rank_by="forwards", target=0.8).rows
    assert (there.optimizer, there.rank, never.rank) == ("there", (1, 1), (2, 2))


def test_a_run_without_a_curve_is_not_a_run_that_never_came_there(tmp_path):
    write(record(optimizer="bare", value=0.9), tmp_path)
    write(record(optimizer="drawn", value=0.9, **points(0.5, 0.9)), tmp_path)
    ranks = {row.optimizer: (row.rank, row.spent) for row in only(tmp_path, rank_by="forwards", target=0.6).rows}
    assert ranks == {"drawn": ((1, 1), 200.0), "bare": (None, None)}


def test_within_a_budget_the_run_that_was_validated_later_within_it_stands(tmp_path):
    """The longer run has its first validation after the limit: the shorter one says more."""
    write(record(budget="forwards=400", value=0.8, **points(0.6, 0.7, 0.75, 0.8)), tmp_path)
    write(record(budget="forwards=4000", value=0.9, **points(0.85, 0.9, forwards=2000)), tmp_path)
    (row,) = only(tmp_path, budget=Budget.parse("forwards=400")).rows
    assert (row.n, row.score.center, row.failures) == (1, 0.8, {})


def test_a_trial_and_the_run_of_the_same_seed_count_once(tmp_path):
    for seed in range(3):
        for score in ("validation", "test"):
            write(record(seed=seed, score=score, value=0.9, **points(0.8, 0.9)), tmp_path)
    (row,) = only(tmp_path, budget=Budget.parse("forwards=100")).rows
    assert row.n == 3


def test_target_and_cost_are_of_what_is_within_the_budget(tmp_path):
    section = only(fill(tmp_path), rank_by="forwards", budget=Budget.parse("forwards=250"))
    assert section.target == pytest.approx(0.601) and order(section) == ["quick", "slow"]
    assert [row.spent for row in section.rows] == [200.0, 200.0]


@pytest.mark.parametrize("target, says", [(math.nan, "write a number"), (90.0, "write 0.9 for 90 %")])
def test_targets_that_cannot_be(tmp_path, target, says):
    with pytest.raises(UsageError, match=says):
        only(fill(tmp_path), rank_by="forwards", target=target)


@pytest.mark.parametrize("asked", [dict(rank_by="speed"), dict(target=0.5), dict(rank_by="memory", target=0.5)])
def test_what_means_nothing_is_refused(asked):
    with pytest.raises(UsageError, match="rank"):
        View(**asked)


def test_subsets(tmp_path):
    write(record(suite="opt", adapter="lora[alpha=16,r=8]", dtype="bfloat16"), tmp_path)
    write(record(suite=None, task="mine", model=None), tmp_path)
    assert only(tmp_path, adapter=("lora*",)).conditions["dtype"] == "bfloat16"
    assert only(tmp_path, model=("none",)).conditions["task"] == "mine"
    assert only(tmp_path, suite=("opt",), dtype=("bf*",)).conditions["task"] == "sst2"
    with pytest.raises(NothingMeasured, match="suite glue"):
        only(tmp_path, suite=("glue",))


def test_another_precision_is_another_table_and_each_says_so(tmp_path):
    for dtype in ("float32", "bfloat16"):
        write(record(dtype=dtype), tmp_path)
    sections = board([tmp_path]).sections
    assert [s.notes for s in sections] == [
        ["also measured in float32: another table"],
        ["also measured in bfloat16: another table"],
    ]


def test_lost_updates_are_marked(tmp_path):
    write(record(lost_updates=0.988, update_gain=0.26, probe_cosine=0.97), tmp_path)
    row = only(tmp_path).rows[0]
    assert row.marks == ["99 % of updates rounded away"] and row.fidelity["update_gain"] == 0.26
    assert "cos 0.970, lost 99 %, gain 0.26" in markdown(board([tmp_path]))


# ---- suites ----


def test_a_suite_in_one_table(tmp_path):
    for task, shift in (("sst2", 0.0), ("rte", -0.2), ("copa", -0.1)):
        for seed in range(4):
            for name, value in (("good", 0.9), ("bad", 0.6)):
                write(record(task=task, optimizer=name, seed=seed, value=value + shift + seed / 100), tmp_path)
    write(record(task="sst2", optimizer="partly", value=0.99), tmp_path)
    write(record(task="rte", optimizer="partly", value=0.99), tmp_path)
    write(record(task="rte", optimizer="once", value=0.99), tmp_path)
    (summary,) = summaries(board([tmp_path]))
    good, bad, partly = summary.standings
    assert summary.tasks == ["copa", "rte", "sst2"] and summary.elsewhere == ["once"]
    assert [s.optimizer for s in summary.standings] == ["good", "bad", "partly"]
    values = sorted(0.9 + shift + seed / 100 for shift in (0, -0.2, -0.1) for seed in range(4))
    assert good.score.center == pytest.approx(sum(values[3:9]) / 6)  # the middle half of 12
    assert (good.rank, bad.rank, partly.rank, good.n) == ((1, 1), (2, 2), None, 12)
    assert partly.missing == ["copa"] and partly.score is None and partly.scores[0] is None
    assert "missing: copa" in markdown(board([tmp_path]))


def test_of_several_settings_the_one_best_on_validation_stands_for_the_optimizer(tmp_path):
    for task in ("sst2", "rte"):
        for lr, validation, test in ((1e-6, 0.8, 0.7), (1e-7, 0.7, 0.9)):
            options = dict(optimizer_options={"lr": lr}, validation=validation)
            write(record(task=task, value=test, **options), tmp_path)
        write(record(task=task, optimizer="other", value=0.5), tmp_path)
    (summary,) = summaries(board([tmp_path]))
    first = summary.standings[0]
    assert first.optimizer == "mezo" and first.score.center == pytest.approx(0.7)
    assert first.labels == ["mezo[lr=1e-6]", "mezo[lr=1e-6]"]


def test_the_best_under_each_budget(tmp_path):
    (line,) = best(board([fill(tmp_path)], curves=True))
    assert line.leaders[200] == ["quick"] and line.leaders[max(line.leaders)] == ["slow"]


# ---- formats ----


def cli(*arguments: str, code: int = 0):
    result = CliRunner().invoke(main, ["report", *arguments])
    assert result.exit_code == code, result.output
    return result


def test_the_same_numbers_in_every_format(tmp_path):
    store = fill(tmp_path / "store")
    files = {ending: tmp_path / f"board.{ending}" for ending in ("md", "json", "csv", "html")}
    cli(str(store), *(part for path in files.values() for part in ("-o", str(path))))
    found = json.loads(files["json"].read_text())
    lines = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    assert [line["optimizer"] for line in lines] == ["slow", "quick"]
    (section,) = found["sections"]
    for line, row in zip(lines, section["rows"], strict=True):
        assert float(line["score"]) == row["score"]["center"]
        assert [int(line["rank_low"]), int(line["rank_high"])] == row["rank"]
        assert f"{100 * row['score']['center']:.1f}" in files["md"].read_text()
        assert line["optimizer"] in files["html"].read_text()
    assert len(section["rows"][0]["curve"]["cost"]) == 4
    assert json.loads(cli(str(store), "--format", "json").stdout) == found
    assert cli(str(store), "--format", "csv").stdout == files["csv"].read_text()


def test_a_spreadsheet_gets_no_formula(tmp_path):
    write(record(optimizer="=cmd|' /C calc'!A0", value=0.5), tmp_path)
    (line,) = csv.DictReader(io.StringIO(csv_text(board([tmp_path]))))
    assert line["optimizer"].startswith("'=") and line["label"].startswith("'=")


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["-o", "board.xlsx"], "end it in .md"),
        (["--rank-by", "sped"], "is not one of"),
        (["--budget", "forwards"], "write for example forwards=2000"),
        (["--target", "0.5"], "--rank-by"),
        (["-t", "nothing"], "no results for"),
    ],
)
def test_mistakes_get_one_line(tmp_path, arguments, says):
    write(record(), tmp_path)
    result = CliRunner().invoke(main, ["report", str(tmp_path), *arguments])
    assert result.exit_code in (2, 5) and says in result.output and "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_an_alias_finds_what_is_stored_under_the_name(tmp_path):
    write(record(task="toy_qa"), tmp_path)
    assert "toy_qa" in cli(str(tmp_path), "-t", "toy-qa").stdout
