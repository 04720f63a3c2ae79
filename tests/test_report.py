"""The board: what it compares, what it refuses to compare, and that nothing disappears or escapes."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path

import pytest
from records import ENVIRONMENT, record
from rich.console import Console

from zobench.record import json_text, write
from zobench.report import leaderboard, terminal
from zobench.report.tables import Board, Row, Section, board
from zobench.spec import NothingMeasured

GOLDEN = Path(__file__).parent / "golden_leaderboard.md"
ADAM = dict(optimizer="adam", optimizer_options={"lr": 1e-5}, order="first", replay_class="none", mode="train")


def fill(store: Path) -> Path:
    """MeZO at two values of eps, Adam with a diverged seed, an optimizer that only fails, a regression on log scale."""
    for seed, value in enumerate([0.90, 0.905, 0.91]):
        write(record(seed=seed, value=value), store)
        write(record(seed=seed, value=value - 0.1, optimizer_options={"eps": 1e-2, "lr": 1e-6}), store)
    for seed, value in enumerate([0.95, 0.951]):
        write(record(seed=seed, value=value, forwards=1000, backwards=1000, state_bytes=2**20, **ADAM), store)
    write(record(seed=2, status="diverged", reason="loss is nan at step 3", value=None, **ADAM), store)
    unknown = dict(value=None, metric=None, better=None, scale=None, partial_data=None)
    write(record(optimizer="hopeless", status="oom", reason="needs 8 GiB, has 4", **unknown), store)
    for seed, value in enumerate([1e-3, 1e-4, 1e-5]):
        names = dict(task="softmax_l2", task_options={"instance": seed, "r": 4}, model=None, suite=None)
        score = dict(metric="gap", better="lower", scale="log", data="generated")
        write(record(seed=seed, value=value, schedule="linear", **names, **score), store)
    return store


def shown(store: Path, **options) -> Board:
    return board([store], **options)


def only(store: Path) -> Section:
    (section,) = shown(store).sections
    return section


def by_label(section: Section) -> dict[str, Row]:
    return {row.label: row for row in section.rows}


def screen(result: Board, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    terminal.show(result, console)
    return console.file.getvalue()


def test_golden_board(tmp_path):
    """When the change is meant: delete the file, run this test twice, and read the difference."""
    text = leaderboard.markdown(shown(fill(tmp_path)))
    if not GOLDEN.exists():
        GOLDEN.write_text(text)
        pytest.fail(f"wrote {GOLDEN}")
    assert text == GOLDEN.read_text()


def test_same_results_same_bytes(tmp_path):
    store, copy = fill(tmp_path / "a"), tmp_path / "b"
    copy.mkdir()
    for number, path in enumerate(sorted(store.iterdir(), reverse=True)):
        shutil.copy(path, copy / f"{number}.parquet")  # other names, other order
    texts = {leaderboard.markdown(b) for b in (shown(store), shown(copy), board([store, copy]), board([copy, store]))}
    assert len(texts) == 1


def test_numbers_do_not_depend_on_what_else_is_loaded(tmp_path):
    fill(tmp_path)
    alone = shown(tmp_path, tasks=["softmax_*"], optimizers=["mezo"]).sections
    assert alone == [s for s in shown(tmp_path).sections if s.conditions["task"] == "softmax_l2"]


def test_rows_and_costs(tmp_path):
    section = next(s for s in shown(fill(tmp_path)).sections if s.conditions["task"] == "sst2")
    rows = by_label(section)
    assert list(rows) == ["adam[lr=1e-5]", "mezo[eps=0.001,lr=1e-6]", "mezo[eps=0.01,lr=1e-6]", "hopeless[lr=1e-6]"]
    adam, mezo, other, hopeless = rows.values()
    assert [row.rank for row in rows.values()] == [(1, 3), (1, 2), (2, 3), None]
    assert (mezo.n, mezo.ms_per_step, mezo.memory_ratio, mezo.peak_bytes) == (3, 10.0, 1.1, 11 * 2**20)
    assert (adam.forwards, adam.backwards, adam.failures, adam.marks) == (1000, 1000, {"diverged": 1}, ["2 of 3 runs"])
    assert other.marks == [] and other.score.center == pytest.approx(0.805)
    assert (hopeless.n, hopeless.failures, hopeless.score) == (0, {"oom": 1}, None)


def test_an_optimizer_that_only_fails_is_shown_with_its_reasons(tmp_path):
    result = shown(fill(tmp_path))
    for text in (leaderboard.markdown(result), screen(result), screen(result, 80), json.dumps(result.to_json())):
        assert "hopeless" in text and "needs 8 GiB, has 4" in text and "loss is nan at step 3" in text
    write(record(status="timeout", reason="1 h", value=None), tmp_path / "failed")
    assert only(tmp_path / "failed").rows[0].failures == {"timeout": 1}


def test_lower_is_better(tmp_path):
    for optimizer, values in {"good": [0.1, 0.11], "bad": [3.0, 3.1], "worse": [70.0, 70.1]}.items():
        for seed, value in enumerate(values):
            write(record(optimizer=optimizer, seed=seed, value=value, metric="loss", better="lower"), tmp_path)
    assert [(row.optimizer, row.rank) for row in only(tmp_path).rows] == [
        ("good", (1, 1)),
        ("bad", (2, 2)),
        ("worse", (3, 3)),
    ]


@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("wild", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_a_number_never_ranks_above_one(tmp_path, wild, better):
    write(record(optimizer="wild", value=wild, better=better, metrics="{}"), tmp_path)
    write(record(optimizer="tame", value=0.1, better=better), tmp_path)
    tame, wild_row = only(tmp_path).rows
    assert (tame.optimizer, tame.rank, wild_row.rank, wild_row.failures) == ("tame", (1, 1), None, {"not finite": 1})
    assert leaderboard.markdown(shown(tmp_path)).count("the value is") == 1
    json.dumps(shown(tmp_path).to_json(), allow_nan=False)


def test_partial_data_is_never_mixed_with_the_whole(tmp_path):
    for seed in range(2):
        write(record(seed=seed), tmp_path)
    write(record(seed=2, value=0.1, partial_data=True), tmp_path)
    write(record(seed=0, value=0.2, partial_data=True), tmp_path)  # the same cell, newer: and yet it does not stand
    whole, partial = shown(tmp_path).sections
    assert ([r.n for r in whole.rows], whole.rows[0].score.center, whole.partial) == ([2], 0.9, False)
    assert ([r.score.center for r in partial.rows], partial.partial) == ([0.1], True)
    assert "PARTIAL DATA" in leaderboard.markdown(shown(tmp_path)) and partial.rows[0].marks == ["partial data"]


@pytest.mark.parametrize(
    "other",
    [
        dict(model="random:other"),
        dict(revision="abc"),
        dict(adapter="lora[r=8]"),
        dict(dtype="bfloat16"),
        dict(budget="forwards=200"),
        dict(batch_size=8),
        dict(score="validation"),
        dict(data="sha256:" + "cd" * 32),
        dict(task_options={"k": 16}),
        dict(suite="other"),
        dict(metric="f1"),
    ],
)
def test_unequal_conditions_are_not_compared(tmp_path, other):
    write(record(seed=0), tmp_path)
    write(record(seed=1, **other), tmp_path)
    assert len(shown(tmp_path).sections) == 2


def test_runs_of_an_older_version_of_their_task_are_counted_and_not_shown(tmp_path):
    for seed, version in enumerate((1, 1, 2)):
        write(record(seed=seed, task_version=version), tmp_path)
    board = shown(tmp_path)
    assert only(tmp_path).conditions["task_version"] == 2 and only(tmp_path).rows[0].n == 1
    assert board.superseded == board.to_json()["superseded"] == 2
    assert "2 runs of older versions of their tasks not shown" in leaderboard.markdown(board)


def test_reference_lines_stand_below_and_have_no_rank(tmp_path):
    for seed in range(3):
        for name, order, value in (("newton", "reference", 1e-9), ("mezo", "zeroth", 1e-2), ("adam", "first", 1e-4)):
            hitting = '{"1e-1":100}' if seed else "{}"
            write(
                record(
                    seed=seed, optimizer=name, order=order, value=value * (1 + seed / 100), scale="log", better="lower",
                    hitting=hitting,
                ),
                tmp_path,
            )  # fmt: skip
    rows = only(tmp_path).rows
    assert [(row.optimizer, row.rank) for row in rows] == [("adam", (1, 1)), ("mezo", (2, 2)), ("newton", None)]
    assert rows[0].hitting == {"1e-1": 100}  # two of three came there: the median is finite
    assert "| ref | `newton" in leaderboard.markdown(shown(tmp_path))


def test_shared_time_is_marked(tmp_path):
    write(record(seed=0, lockstep=64), tmp_path)
    assert only(tmp_path).rows[0].marks == ["time shared by 64 runs"]


def test_seeds_instances_and_data_seeds_are_averaged(tmp_path):
    for seed in range(2):
        for instance in range(2):
            write(record(seed=seed, data_seed=instance, task_options={"instance": instance}), tmp_path)
    (row,) = only(tmp_path).rows
    assert row.n == 4 and [(r.seed, r.data_seed, r.instance) for r in row.runs] == [
        (0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 1, 1)
    ]  # fmt: skip


def test_a_rate_that_the_task_sets_is_one_row(tmp_path):
    for seed, rate in enumerate([0.1, 0.2]):
        options = dict(optimizer_options={"lr": "task"}, parameters=json_text({"lr": rate}), lr_source="task")
        write(record(seed=seed, **options), tmp_path)
    (row,) = only(tmp_path).rows
    assert (row.label, row.full_label, row.n) == ("mezo[lr=task]", "mezo[lr=task]", 2)


def test_marks(tmp_path):
    slow = json_text(ENVIRONMENT | {"hardware": "1-core test"})
    write(record(status="timeout", reason="1 h", value=None), tmp_path)
    write(record(), tmp_path)
    write(record(seed=1, environment=slow, provenance="beef" * 16), tmp_path)
    (row,) = only(tmp_path).rows
    assert row.marks == ["mixed hardware", "mixed code", "another attempt: 1 timeout"]
    assert row.failures == {} and only(tmp_path).hardware == ["1-core test", "2-core test"]


HOSTILE = "<script>alert(1)</script> | `x` **b** [c](javascript:d) <!-- \n# h \x1b[31m \u202e &amp; \\| ~~s~~"


def test_text_from_results_is_escaped(tmp_path):
    names = dict(optimizer=HOSTILE, task=HOSTILE, suite=HOSTILE, model=HOSTILE, data=HOSTILE[:50], adapter=HOSTILE)
    told = dict(metric=HOSTILE, probe_mode=HOSTILE, environment=json_text({"hardware": HOSTILE}), replay_class="exact")
    write(record(**names, **told, optimizer_options={HOSTILE: HOSTILE}), tmp_path)
    failed = dict(status="error", reason=HOSTILE, value=None)
    write(record(seed=1, **names, **told, optimizer_options={HOSTILE: HOSTILE}, **failed), tmp_path)
    text, plain = leaderboard.markdown(shown(tmp_path)), leaderboard.markdown(Board([], []))
    body = text.removeprefix(plain.partition("0 runs")[0])
    for markup in ("<script", "javascript:d)", "**b", "<!-- ", "\n# h", "\x1b", "\u202e", "&amp;", "~~"):
        assert markup not in body
    table = [line for line in body.splitlines() if line.startswith("|")]
    assert len(table) == 3 and len({line.count("|") for line in table}) == 1
    assert "\x1b" not in screen(shown(tmp_path)) and "\u202e" not in screen(shown(tmp_path))


def test_nothing_found_says_what_to_run(tmp_path):
    with pytest.raises(NothingMeasured, match="zobench run"):
        shown(tmp_path / "absent")
    (tmp_path / "foreign.parquet").touch()
    with pytest.raises(NothingMeasured, match=r"1 file was skipped: .*foreign\.parquet"):
        shown(tmp_path)
    write(record(), tmp_path)
    with pytest.raises(NothingMeasured, match="for rte; there are tasks sst2 and optimizers mezo"):
        shown(tmp_path, tasks=["rte"])
    assert [problem.path.name for problem in shown(tmp_path).problems] == ["foreign.parquet"]


def test_every_replayable_run_says_how(tmp_path):
    text = leaderboard.markdown(shown(fill(tmp_path)))
    assert f"`zobench replay {record(seed=0).cell[:16]}` (exact)" in text
    assert text.count("no replay without gradients") == 2
