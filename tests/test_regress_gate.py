"""The gate catches what is planted, names it, and does not cry wolf."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from records import record

from zobench import gate, paired, suite, worker
from zobench import record as store
from zobench.checkout import Checkout, checkout
from zobench.cli import main
from zobench.cli.regress import regress as command
from zobench.gate import Gate, Rule, Timing
from zobench.paired import Worker
from zobench.plan import Request
from zobench.record import Problem, json_text
from zobench.report import regress, regress_text
from zobench.report.regress import Finding, Report, Side
from zobench.report.slowdown import Times, decide, sign_flip
from zobench.spec import EnvironmentUnmet, UsageError

ROOT = Path(__file__).parents[1]
RULES = Gate().rules
HEADER = json_text({"format": 1, "parameters": [["w", [8], "float64"]]})


def run(**changes):
    """A finished float64 regression."""
    values = dict(task="softmax_l2", kind="regression", dtype="float64", model=None, metric="relative_gap")
    values |= dict(better="lower", metrics=json_text({"loss": 2.0}), flops=1000, weight_bytes=64, parameters_count=8)
    values |= dict(trace_header=HEADER, trace_values=[0.5, 0.25], trace_counts=[2], final_digest="ab" * 32, seed=0)
    curve = [dict(step=0, forwards=0, backwards=0, seconds=0.0, loss=None, metrics=json_text({"loss": 8.0}))]
    curve += [dict(step=1, forwards=2, backwards=0, seconds=0.1, loss=4.0, metrics=None)]
    return record(**values | {"curve": curve} | changes)


def side(*rows, problems=()):
    return Side({r.cell: r for r in rows}, {r.cell: json.loads(r.job) for r in rows}, problems)


def gated(old, new, same_machine=False, rules=RULES):
    """gate -> outcome of what is not equal."""
    found = regress.compare({new.cell: new}, side(old), {new.cell: "it"}, rules, "base", same_machine)
    return {f.gate: f.outcome for f in found if f.outcome != "equal"}


def report(*findings, verdicts=()):
    return Report("regress", {"baseline": "results", "base": "main"}, 1, findings, verdicts)


# --- one metric -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, gate",
    [
        (dict(forwards=4001), "forwards"),
        (dict(forwards=3999), "forwards"),
        (dict(backwards=1), "backwards"),
        (dict(steps=1999), "steps"),
        (dict(flops=1001), "flops"),
        (dict(flops=None), "flops"),
        (dict(state_bytes=8), "state_bytes"),
        (dict(weight_bytes=72), "weight_bytes"),
        (dict(parameters_count=9), "parameters_count"),
        (dict(trace_header=HEADER.replace("8", "9")), "shapes"),
        (dict(trace_counts=[3]), "trace_counts"),
        (dict(metrics=json_text({"loss": 2.02})), "loss"),
        (dict(metrics=json_text({"loss": 1.98})), "loss"),
        (dict(metrics=json_text({"loss": "nan"})), "loss"),
    ],
    ids=str,
)
def test_what_is_the_same_on_every_machine_is_held_against_stored_results(change, gate):
    assert gated(run(), run(**change)) == {gate: "regressed"}


@pytest.mark.parametrize(
    "change, gate",
    [
        (dict(peak_bytes=12 * 2**20), "peak_bytes"),
        (dict(inference_bytes=10 * 2**20 + 1), "inference_bytes"),
        (dict(final_digest="ac" * 32), "final_digest"),
        (dict(trace_values=[0.5, np.nextafter(0.25, 1)]), "trace_values"),
        (dict(curve=[dict(step=1, forwards=2, backwards=0, seconds=0.1, loss=4.04, metrics=None)]), "train_loss"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_hangs_on_the_machine_is_held_against_base_alone(change, gate):
    assert gated(run(), run(**change)) == {}
    assert gated(run(), run(**change), same_machine=True) == {gate: "regressed"}


def test_an_accuracy_is_held_against_base_and_may_improve():
    old = record(value=0.90)
    assert gated(old, record(value=0.89)) == {}
    assert gated(old, record(value=0.89), same_machine=True) == {"value": "regressed"}
    assert gated(old, record(value=0.91), same_machine=True) == {"value": "improved"}


def test_the_loss_has_its_tolerance_and_its_floor():
    at = lambda loss: run(metrics=json_text({"loss": loss}))  # noqa: E731
    assert gated(run(), at(2.0 * (1 + 0.9e-6))) == {}
    assert gated(run(), at(2.0 * (1 + 1.1e-6))) == {"loss": "regressed"}
    assert gated(at(1e-30), at(7e-14)) == {}  # 8.0 at the start: below 8e-14 is rounding
    assert gated(at(1e-30), at(9e-14)) == {"loss": "regressed"}
    assert gated(run(dtype="float32"), run(dtype="float32", metrics=json_text({"loss": 3.0}))) == {}


def test_less_memory_and_fewer_operations_are_improvements():
    new = run(flops=999, state_bytes=0, peak_bytes=5)
    assert gated(run(state_bytes=8), new, same_machine=True) == dict.fromkeys(
        ("flops", "state_bytes", "peak_bytes"), "improved"
    )


def test_what_the_baseline_never_measured_is_said():
    found = regress.compare({run().cell: run()}, side(run(flops=None)), {run().cell: "it"}, RULES, "baseline")
    assert [(f.gate, f.outcome) for f in found if f.outcome != "equal"] == [("flops", "unknown")]
    assert report(*found).code == 0


def test_a_rule_may_note_and_may_look_away():
    rules = {**RULES, "forwards": Rule("note"), "steps": Rule("off")}
    assert gated(run(), run(forwards=1, steps=1), rules=rules) == {"forwards": "noted"}


def test_where_two_traces_part():
    found = regress.difference([0.5, 0.25, 1.0], [0.5, 0.75, 1.0])
    assert "entry 2" in found and "0.25 -> 0.75" in found
    assert "2 -> 3" in regress.difference([0.5, 0.25], [0.5, 0.25, 1.0])
    assert "+1 %" in regress.difference(2.0, 2.02)


# --- cells ------------------------------------------------------------------------------------------------------------


def test_a_run_that_fails_is_not_a_number_that_moved():
    bad = run(status="diverged", reason="the loss is nan", metrics=None, forwards=7)
    assert gated(run(), bad) == {"status": "failed"}
    assert gated(bad, run()) == {"status": "improved"}
    assert gated(bad, bad) == {}
    assert gated(bad, run(status="diverged", metrics=None, forwards=8)) == {"forwards": "regressed"}
    late = run(status="timeout", reason="60 s", forwards=7)
    assert gated(late, run(status="timeout", forwards=9)) == {}  # how far it came is chance


def test_vanished_new_and_changed_cells_are_outcomes_of_their_own():
    old, other = run(), run(seed=1)
    gone = regress.compare({}, side(old), {old.cell: "it"}, RULES, "baseline")
    assert [(f.outcome, f.gate) for f in gone] == [("vanished", "run")]
    new = regress.compare({other.cell: other}, side(old), {other.cell: "it"}, RULES, "baseline")
    assert [f.outcome for f in new] == ["new"]
    changed = run(optimizer_options={"eps": 1e-3, "lr": 2e-6})
    (found,) = regress.compare({changed.cell: changed}, side(old), {changed.cell: "it"}, RULES, "baseline")
    assert found.outcome == "vanished" and "lr 1e-06 -> 2e-06" in found.note
    both = {old.cell: "one", changed.cell: "other"}  # the suite has both: the second is only new
    found = regress.compare({old.cell: old, changed.cell: changed}, side(old), both, RULES, "baseline")
    assert {f.label: f.outcome for f in found if f.gate == "run"} == {"other": "new"}


def test_the_code_is_the_first_of_3_4_5_6():
    one = Finding("c", "it", "forwards", "base", "equal")
    of = lambda *outcomes: report(one, *(replace(one, outcome=o) for o in outcomes)).code  # noqa: E731
    assert of() == 0
    assert of("improved", "noted", "unknown", "unsure", "new") == 0
    assert [of(o) for o in ("regressed", "failed", "vanished", "unreadable", "unmet")] == [3, 4, 5, 5, 6]
    order = ("unmet", "unreadable", "failed", "regressed")
    assert [of(*order[: n + 1]) for n in range(4)] == [6, 5, 4, 3]


def test_a_gate_that_compared_nothing_does_not_pass():
    one = Finding("c", "it", "run", "baseline", "new")
    assert report().code == 5
    assert report(one).code == 5
    assert report(one, replace(one, outcome="unknown")).code == 5


def test_an_unreadable_file_stops_the_gate():
    old = run()
    before = side(old, problems=[Problem(Path("results/bad.parquet"), "not a readable Parquet file")])
    found = regress.compare({old.cell: old}, before, {old.cell: "it"}, RULES, "baseline")
    assert report(*found).code == 5
    assert report(*regress.allow(found, ["run"])).code == 5  # not to be waved through


def test_what_is_allowed_is_noted():
    found = regress.compare({run().cell: run(forwards=1)}, side(run()), {run().cell: "it"}, RULES, "baseline")
    assert report(*found).code == 3
    assert report(*regress.allow(found, ["forwards"])).code == 0
    assert report(*regress.allow(found, ["steps"])).code == 3


def test_a_base_that_differs_from_itself_accuses_nobody():
    base, again = run(), run(final_digest="cd" * 32)
    head = run(final_digest="ef" * 32, forwards=4001)
    found = regress.compare({head.cell: head}, side(base), {head.cell: "it"}, RULES, "base", same_machine=True)
    assert regress.suspects(found) == [head.cell]
    steady = regress.confirm(found, side(base), side(base), RULES)
    assert {f.gate for f in steady if f.outcome == "regressed"} == {"final_digest", "forwards"}
    found = regress.confirm(found, side(base), side(again), RULES)
    assert {f.gate: f.outcome for f in found if f.outcome != "equal"} == {
        "final_digest": "unsure", "forwards": "regressed"
    }  # fmt: skip


def test_memory_that_grows_with_every_step_is_a_leak_and_a_buffer_is_none():
    steady, first, window = (
        [100] * 8,
        [100, 180, 180, 180, 180, 180, 180, 180],
        [100, 110, 110, 120, 120, 130, 130, 140],
    )
    growing = [100 + 16 * n for n in range(8)]
    assert [regress.growth(kept) for kept in (steady, first, window, growing)] == [0, 0, 0, 16]
    assert regress.leak("it", steady, growing).outcome == "regressed"
    assert regress.leak("it", growing, growing).outcome == "equal"
    assert regress.leak("it", growing, steady).outcome == "improved"


# --- the suite's table ------------------------------------------------------------------------------------------------


def test_the_gate_of_the_suite_is_read():
    read = suite.read("regress")
    assert read.gate.rules["loss"] == Rule(rtol=1e-6, floor=1e-14)
    assert read.gate.rules["forwards"] == Rule()
    assert read.gate.timing.tolerance == 0.10
    assert suite.timed(read) and all(len(r.tasks) == len(r.optimizers) == 1 for r in suite.timed(read))
    assert gate.parse({}) == Gate()


@pytest.mark.parametrize(
    "table, said",
    [
        ("[gate]\nforward = 'exact'", "forwards"),
        ("[gate]\nforwards = 'exactly'", "did you mean exact"),
        ("[gate]\nforwards = 3", "write"),
        ("[gate]\nloss = {rtoll = 1e-6}", "did you mean rtol"),
        ("[gate]\nloss = {rtol = -1}", "at least 0"),
        ("[gate]\nloss = {rtol = true}", "at least 0"),
        ("[gate]\nfinal_digest = {rtol = 1e-6}", "no tolerance"),
        ("[gate.timing]\ntolerence = 0.1", "did you mean tolerance"),
        ("[gate.timing]\ntolerance = 0", "positive"),
        ("[gate.timing]\nlevel = 0.7", "positive"),
        ("[gate.timing]\nlaunches = 1", "at least 2"),
        ("[gate.timing]\nrounds = 1.5", "whole number"),
        ("[gate.timing.run]\ntasks = ['linear']", "two brackets"),
        ("[[gate.timing.run]]\ntasks = ['linear']", "optimizers"),
        ("[[gate.timing.run]]\ntasks = ['linear']\noptimizers = ['sgd']\nbudgett = 'small'", "budget"),
        ("[[gate]]\nforwards = 'exact'", "is a table"),
        ("[gates]\nforwards = 'exact'", "did you mean gate"),
    ],
    ids=str,
)
def test_a_mistake_in_the_table_is_one_line(tmp_path, table, said):
    path = tmp_path / "mine.toml"
    path.write_text(f"[[run]]\ntasks = ['linear']\noptimizers = ['sgd']\n{table}\n")
    with pytest.raises(UsageError, match=re.escape(said)) as error:
        suite.read(str(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


# --- wall-clock: the rule ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 4, 7, 10])
def test_sign_flips_are_counted_exactly(n):
    rng = np.random.default_rng(n)
    values = np.round(rng.normal(0.4, 1, n), 1)  # with ties
    x = values[values != 0]
    order = np.abs(x)
    ranks = np.array([(order < v).sum() + ((order == v).sum() + 1) / 2 for v in order])
    seen = abs(np.sum(np.sign(x) * ranks))
    flips = [abs(np.dot(signs, ranks)) for signs in itertools.product((-1, 1), repeat=len(x))]
    assert sign_flip(values) == pytest.approx(np.mean([f >= seen - 1e-9 for f in flips]))


def test_sign_flips_of_nothing():
    assert sign_flip([]) == sign_flip([0.0, 0.0]) == 1.0
    assert sign_flip(np.ones(60)) == pytest.approx(2 * 0.5**60)


def clocks(rng, slowdown=0.0, process=0.01, launches=5, rounds=12, spikes=0.1):
    """Times of one cell on a machine that does other work: processes differ, blocks have heavy tails, some are hit."""

    def side(shift=0.0):
        noise = process * rng.standard_normal((launches, 1)) + 0.02 * rng.standard_t(2, (launches, rounds))
        hit = (rng.random((launches, rounds)) < spikes) * rng.exponential(0.7, (launches, rounds))
        return 0.01 * np.exp(noise + hit + shift)

    return Times("cell", side(), side(), side(np.log1p(slowdown)))


@pytest.mark.parametrize("process", [0.0, 0.01, 0.03, 0.10])
def test_equal_code_raises_no_alarm_in_50_gates_of_4_cells(process):
    rng = np.random.default_rng(int(1000 * process))
    verdicts = [v for _ in range(50) for v in decide([clocks(rng, process=process) for _ in range(4)], 0.10, 0.01)]
    assert [v for v in verdicts if v.outcome in ("slower", "faster")] == []
    unsure = np.mean([v.outcome == "cannot tell" for v in verdicts])
    assert unsure < 0.2 if process <= 0.01 else unsure > 0.3  # it says so where the machine is too noisy


def test_a_slowdown_of_a_fifth_is_found_and_one_within_the_tolerance_is_not():
    rng = np.random.default_rng(7)
    found = [decide([clocks(rng, 0.2), clocks(rng), clocks(rng)], 0.10, 0.01) for _ in range(50)]
    assert sum(v[0].outcome == "slower" for v in found) >= 48
    assert {w.outcome for v in found for w in v[1:]} <= {"same", "cannot tell"}
    small = [decide([clocks(rng, 0.05)], 0.10, 0.01)[0].outcome for _ in range(50)]
    assert "slower" not in small


def test_what_is_faster_is_said_and_how_much():
    rng = np.random.default_rng(9)
    (v,) = decide([clocks(rng, -0.3, process=0.0)], 0.10, 0.01)
    assert v.outcome == "faster" and v.change == pytest.approx(-0.3, abs=0.03)
    (finding,) = regress.timing([v])
    assert finding.outcome == "improved" and report(finding).code == 0


def test_the_noise_of_base_against_itself_raises_the_bar():
    """Processes of base that are 30 % apart: a head that is 15 % off has shown nothing."""
    base = np.full((5, 12), 1.0)
    again = base * np.array([1.3, 0.75, 1.25, 0.8, 1.3])[:, None]
    (v,) = decide([Times("it", base, again, base * 1.15)], 0.10, 0.01)
    assert v.outcome == "cannot tell" and v.threshold > 0.10 and v.detectable > 0.10
    (w,) = decide([Times("it", base, base, base * 1.15)], 0.10, 0.01)
    assert w.outcome == "slower" and w.threshold == pytest.approx(0.10)


def test_a_few_pairs_decide_nothing():
    flat = np.ones((2, 2))
    (v,) = decide([Times("it", flat, flat, 3 * flat)], 0.10, 0.01)
    assert v.outcome == "cannot tell"
    assert decide([], 0.10, 0.01) == []
    with pytest.raises(ValueError, match="launches"):
        decide([Times("it", flat, flat, np.ones((2, 3)))], 0.10, 0.01)


# --- JUnit, Markdown, annotations -------------------------------------------------------------------------------------

HOSTILE = 'a<b>&"]]>\x00\x1b[31m|`*'
EVERY = [
    Finding("c1", HOSTILE, "forwards", "baseline", "regressed", 400, 401, "100 % more,: \n::error::"),
    Finding("c2", "two", "status", "baseline", "failed", "ok", "oom", "why"),
    Finding("c3", "three", "run", "baseline", "vanished"),
    Finding("c4", "four", "flops", "baseline", "unknown", None, 3),
    Finding("c5", "five", "flops", "baseline", "improved", 4, 3),
    Finding("c6", "six", "flops", "base", "equal", 3, 3),
    Finding("c7", "seven", "step_seconds", "base", "unsure", 0.1, 0.2),
]


def test_junit_is_xml_with_a_case_for_each_cell_and_gate():
    root = ElementTree.fromstring(regress_text.junit(report(*EVERY)))
    assert root.tag == "testsuites" and [s.tag for s in root] == ["testsuite", "testsuite"]
    assert [root.get(k) for k in ("tests", "failures", "errors", "skipped")] == ["7", "1", "2", "2"]
    assert [s.get("tests") for s in root] == ["5", "2"]
    cases = {case.get("name"): case for case in root.iter("testcase") if "a<b>" in case.get("classname", "")}
    failure = cases["forwards"].find("failure")
    assert failure is not None and "400 -> 401" in failure.get("message", "")
    assert 'a<b>&"]]>' in cases["forwards"].get("classname", "")


def test_a_gate_that_compared_nothing_is_an_error_in_every_form():
    empty = report(replace(EVERY[3], gate="run", outcome="new"))
    assert empty.code == 5 and regress_text.NOTHING in regress_text.markdown(empty)
    assert ElementTree.fromstring(regress_text.junit(empty)).get("errors") == "2"  # of the baseline, of base
    assert len(regress_text.errors(empty)) == 1


def test_markdown_and_annotations_hold_no_markup_of_names():
    text = regress_text.markdown(report(*EVERY))
    line = next(line for line in text.splitlines() if "401" in line)
    assert line.count("|") == len(regress_text.HEADERS) + 1
    assert "<b>" not in text and "\x1b" not in text and "\x00" not in text
    lines = regress_text.errors(report(*EVERY))
    assert [x.split(" title=")[0] for x in lines] == ["::error"] * 3 + ["::warning"]
    assert not any("\n" in x or "\x1b" in x for x in lines)
    assert "100 %25 more" in lines[0]
    many = [replace(EVERY[0], cell=str(n)) for n in range(500)]
    assert len(regress_text.errors(report(*many))) == regress_text.ANNOTATIONS
    assert len(regress_text.markdown(report(*many)).splitlines()) < 100


# --- the command, on real runs ----------------------------------------------------------------------------------------

SUITE = """# a small gate
[[run]]
tasks = ["softmax_l2"]
optimizers = ["mezo", "sgd"]
budget = "steps=6"
"""


def invoke(*arguments):
    result = CliRunner().invoke(main, ["regress", *map(str, arguments), "-q"], env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def gated_store(tmp_path):
    (tmp_path / "s.toml").write_text(SUITE)
    arguments = ["run", "--suite", str(tmp_path / "s.toml"), "-o", str(tmp_path / "results"), "-q"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    return tmp_path


def tampered(folder, **changes):
    """A newer attempt of the mezo cell with other numbers."""
    path = next(p for p in (folder / "results").glob("*.parquet") if store.read(p).optimizer == "mezo")
    row = store.read(path)
    store.write(replace(row, **changes), folder / "results")
    return row


def test_equal_runs_pass_in_one_line_and_an_extra_forward_does_not(gated_store):
    words = ("--suite", gated_store / "s.toml", "--baseline", gated_store / "results")
    clean = invoke(*words, "--junit", gated_store / "a" / "j.xml", "--summary", gated_store / "s.md")
    assert clean.exit_code == 0 and len(clean.stdout.strip().splitlines()) == 1
    assert ElementTree.parse(gated_store / "a" / "j.xml").getroot().get("failures") == "0"
    row = tampered(gated_store, forwards=11)
    bad = invoke(*words, "--json", "--summary", gated_store / "s.md")
    assert bad.exit_code == 3
    answer = json.loads(bad.stdout)
    (moved,) = [f for f in answer["moved"] if f["outcome"] == "regressed"]
    assert (moved["gate"], moved["before"], moved["after"]) == ("forwards", 11, row.forwards)
    assert moved["label"] == "softmax_l2 mezo" and answer["code"] == 3
    assert (gated_store / "s.md").read_text().count("### zobench regress") == 2  # appended
    assert invoke(*words, "-O", "sgd").exit_code == 0
    assert invoke(*words, "--only", "loss").exit_code == 0
    assert invoke(*words, "--allow", "forwards").exit_code == 0


def test_update_accepts_and_the_next_run_is_clean(gated_store):
    words = ("--suite", gated_store / "s.toml", "--baseline", gated_store / "results")
    tampered(gated_store, forwards=11)
    before = {p.name: p.read_bytes() for p in (gated_store / "results").glob("*.parquet")}
    assert invoke(*words).exit_code == 3
    updated = invoke(*words, "--update")
    assert updated.exit_code == 0 and "wrote 1 new attempts" in updated.stderr and "forwards" in updated.stdout
    after = {p.name: p.read_bytes() for p in (gated_store / "results").glob("*.parquet")}
    assert len(after) == len(before) + 1 and after.items() >= before.items()  # nothing was touched
    assert invoke(*words).exit_code == 0


def test_missing_unreadable_and_failed_have_codes_of_their_own(gated_store):
    words = ("--suite", gated_store / "s.toml", "--baseline", gated_store / "results")
    assert invoke(*words, "-t", "nosuch").exit_code == 5
    assert invoke("--suite", gated_store / "s.toml", "--baseline", gated_store / "nowhere").exit_code == 5
    (gated_store / "empty").mkdir()
    assert invoke("--suite", gated_store / "s.toml", "--baseline", gated_store / "empty").exit_code == 5
    (gated_store / "results" / "0123456789abcdef-1.parquet").write_bytes(b"PAR1 torn")
    torn = invoke(*words)
    assert torn.exit_code == 5 and "0123456789abcdef-1.parquet" in torn.stdout
    assert invoke(*words, "--update").exit_code == 5
    (gated_store / "results" / "0123456789abcdef-1.parquet").unlink()
    late = invoke(*words, "--timeout", "0.000001s")
    assert late.exit_code == 4 and "timeout" in late.stdout
    late = invoke(*words, "--timeout", "0.000001s", "--update")
    assert late.exit_code == 4 and "wrote 0 new attempts" in late.stderr


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "--baseline DIR"),
        (["--baseline", "results", "--timing"], "--timing needs --base"),
        (["--baseline", "results", "--update", "--base", "HEAD"], "leave --base out"),
        (["--baseline", "results", "--only", "step_seconds"], "needs --timing"),
        (["--baseline", "results", "--only", "forward"], "did you mean forwards"),
        (["--baseline", "results", "--suite", "regres"], "did you mean regress"),
        (["--base", "no/such/revision"], "neither a directory"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(words, said):
    result = invoke(*words)
    assert result.exit_code == 2 and said in result.stderr and len(result.stderr.strip().splitlines()) == 1


# --- wall-clock: the turns --------------------------------------------------------------------------------------------


class Answers:
    """Answers as a worker does, and writes down who was asked."""

    def __init__(self, role, asked):
        self.role, self.asked = role, asked

    def ask(self, **order):
        self.asked.append((order["do"], self.role))
        return {"cell": "c", "seconds": 0.01 + self.role}


def test_the_sides_take_every_place_of_a_round_equally_often(monkeypatch):
    launches = []

    @contextmanager
    def started(*checkouts):
        heads = [c.name == "head" for c in checkouts]
        launches.append(heads.index(True))
        asked = []
        yield [Answers(number, asked) for number in range(3)]
        steps = [role for do, role in asked if do == "steps"]
        assert len(steps) == 36
        for place in range(3):
            assert Counter(steps[place::3]) == {0: 12 // 3, 1: 12 // 3, 2: 12 // 3}

    monkeypatch.setattr(paired, "workers", started)
    base, head = Checkout(ROOT, "base"), Checkout(ROOT, "head")
    requests = [Request(["linear"], ["sgd"])]
    (pair,) = paired.measure(base, head, requests, Timing(launches=6, rounds=12))
    assert Counter(launches) == {0: 2, 1: 2, 2: 2}  # head is started first, second and last
    for side in (pair.base, pair.again, pair.head):
        assert np.shape(side) == (6, 12)


def test_a_request_for_an_older_checkout_says_only_what_is_not_default():
    assert paired.plain(Request(["linear"], ["sgd"], seeds="3")) == {
        "tasks": ["linear"], "optimizers": ["sgd"], "seeds": "3"
    }  # fmt: skip


def test_sleep_is_time_and_waiting_for_a_core_is_not(monkeypatch):
    before = worker.clock()
    time.sleep(0.02)
    assert worker.clock() - before >= 19_900_000
    waits = iter([5, 5, 5 + 10**9, 5 + 10**9])
    monkeypatch.setattr(worker, "waited", lambda: next(waits))
    before = worker.clock()
    assert worker.clock() - before < 0  # a second of waiting, taken off


# --- base: its code, and no other -------------------------------------------------------------------------------------


def test_an_installed_package_is_not_taken_for_base(tmp_path):
    (tmp_path / "tasks").mkdir()
    process = Worker(Checkout(tmp_path, "base"))
    try:
        with pytest.raises(EnvironmentUnmet, match="python imports zobench from"):
            process.greet()
    finally:
        process.close()


def test_a_base_that_is_too_old_says_so(tmp_path):
    (tmp_path / "base" / "zobench").mkdir(parents=True)
    (tmp_path / "base" / "zobench" / "__init__.py").write_text("")
    (tmp_path / "s.toml").write_text(SUITE)
    result = invoke("--suite", tmp_path / "s.toml", "--base", tmp_path / "base", "-O", "sgd")
    assert result.exit_code == 6 and "cannot be run" in result.stdout and "Error" in result.stdout


def git(folder, *words):
    names = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", "-C", folder, *names, *words], check=True, capture_output=True, text=True).stdout


def code(folder):
    """A copy of this checkout's code, compiled kernels included."""
    for name in ("zobench", "tasks"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    (folder / "zobench").mkdir(parents=True)
    (folder / "zobench" / "__init__.py").write_text("generation = 1\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    (folder / "zobench" / "__init__.py").write_text("generation = 2\n")
    return folder


def test_a_revision_is_a_worktree_that_does_not_stay(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with checkout("main", repository) as base:
        assert (base.root / "zobench" / "__init__.py").read_text() == "generation = 1\n"
        assert "main" in base.name and len(git(repository, "worktree", "list").splitlines()) == 2
    with pytest.raises(KeyboardInterrupt), checkout("HEAD", repository):
        raise KeyboardInterrupt
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert not list(tmp_path.glob("zobench-base-*"))
    assert git(repository, "status", "--porcelain").split() == ["M", "zobench/__init__.py"]
    for wrong in ("nosuch", "--help", "", "HEAD:zobench"):
        with pytest.raises(UsageError, match="neither a directory"), checkout(wrong, repository):
            pass
    with pytest.raises(EnvironmentUnmet, match="no git checkout"), checkout("main", tmp_path):
        pass


def head_of(folder, *words, **more):
    """`zobench regress` as the code in `folder` has it."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-P", "-m", "zobench", "regress", *map(str, words), "-q"]
    return subprocess.Popen(
        arguments, env=environment | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_ctrl_c_half_way_leaves_nothing_behind(tmp_path):
    folder, temporary = code(tmp_path / "repository"), tmp_path / "t"
    temporary.mkdir()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    (tmp_path / "s.toml").write_text(SUITE.replace("steps=6", "time=60s"))
    process = head_of(folder, "--suite", tmp_path / "s.toml", "--base", "HEAD", "-O", "mezo", TMPDIR=str(temporary))
    for _ in range(600):
        if len(git(folder, "worktree", "list").splitlines()) == 2 and list(temporary.glob("zobench-regress-*")):
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130, said
    assert len(git(folder, "worktree", "list").splitlines()) == 1
    assert not [p.name for p in temporary.iterdir() if p.name.startswith("zobench")]


# --- plants, in real code ---------------------------------------------------------------------------------------------

PLANTS = {  # file -> what is replaced, and by what
    "mezo": ("self.descend(slope * z)", "self.descend(1.01 * slope * z)"),
    "zo_sgd_sign": (
        "z, slopes, loss = yield",
        "yield self.at(self.eps * self.decay())\n        z, slopes, loss = yield",
    ),
    "zo_sgd_mmt": (
        "z, slopes, loss = yield",
        "import torch\n        self.kept = [*getattr(self, 'kept', []), torch.zeros(100)]\n        z, slopes, loss = yield",
    ),
    "lozo": (
        "(z,), (slope,), loss = yield",
        "import torch\n        LEFT.append(torch.zeros(100))\n        (z,), (slope,), loss = yield",
    ),
}
PLANTED = """# four plants and one clean cell
[[run]]
tasks = ["softmax_l2"]
optimizers = ["mezo", "zo-sgd-sign", "zo-sgd-mmt", "lozo", "sgd"]
budget = "steps=10"

[[gate.timing.run]]
tasks = ["softmax_l2"]
optimizers = ["lozo", "sgd"]
"""


def planted(folder, *names):
    code(folder)
    for name in names:
        path = folder / "zobench" / "optimizers" / f"{name}.py"
        old, new = PLANTS[name]
        text = path.read_text()
        assert old in text, f"{name}.py no longer has the line that the plant replaces"
        path.write_text(text.replace(old, new) + ("\nLEFT = []\n" if "LEFT" in new else ""))
    return folder


def test_each_plant_is_caught_and_named(tmp_path):
    """A step that is 1 % too long, an extra forward, a leak in the optimizer, and one that hides from it."""
    (tmp_path / "s.toml").write_text(PLANTED)
    folder = planted(tmp_path / "head", *PLANTS)
    process = head_of(folder, "--suite", tmp_path / "s.toml", "--base", ROOT, "--json")
    out, said = process.communicate(timeout=300)
    assert process.returncode == 3, said
    caught = {}
    for f in json.loads(out)["moved"]:
        if f["outcome"] == "regressed":
            caught.setdefault(f["label"].split()[-1], set()).add(f["gate"])
    assert caught["mezo"] >= {"loss", "final_digest", "trace_values"} and "forwards" not in caught["mezo"]
    assert caught["zo-sgd-sign"] >= {"forwards", "trace_counts"}
    assert "state_bytes" in caught["zo-sgd-mmt"] and "loss" not in caught["zo-sgd-mmt"]
    assert caught["lozo"] >= {"leak_bytes"} and "loss" not in caught["lozo"]
    assert "sgd" not in caught


SLOWED = (
    "(z,), (slope,), loss = yield",
    "import time\n        time.sleep({seconds})\n        (z,), (slope,), loss = yield",
)


@pytest.mark.slow
def test_a_slowdown_of_a_fifth_is_caught_in_real_code(tmp_path, monkeypatch):
    text = '[[run]]\ntasks = ["softmax_l2"]\noptimizers = ["sgd"]\n[[gate.timing.run]]\n'
    (tmp_path / "s.toml").write_text(text + 'tasks = ["toy_sentiment"]\noptimizers = ["mezo", "adam"]\n')
    words = ("--suite", tmp_path / "s.toml", "--base", ROOT, "--timing", "--only", "step_seconds", "--json")
    out, said = head_of(code(tmp_path / "same"), *words).communicate()
    cells = {v["label"].split()[-1]: v for v in json.loads(out)["timing"]}
    assert {v["outcome"] for v in cells.values()} <= {"same", "cannot tell"}, said
    seconds = cells["mezo"]["seconds"]
    monkeypatch.setitem(PLANTS, "mezo", (SLOWED[0], SLOWED[1].format(seconds=0.2 * seconds)))
    process = head_of(planted(tmp_path / "head", "mezo"), *words)
    out, said = process.communicate()
    cells = {v["label"].split()[-1]: v for v in json.loads(out)["timing"]}
    assert process.returncode == 3 and cells["mezo"]["outcome"] == "slower", (cells, said)
    assert cells["adam"]["outcome"] in ("same", "cannot tell")


@pytest.mark.slow
def test_fifty_gates_of_equal_code_raise_no_alarm(tmp_path):
    """An hour on a busy machine."""
    text = '[[run]]\ntasks = ["softmax_l2"]\noptimizers = ["sgd"]\n[[gate.timing.run]]\n'
    (tmp_path / "s.toml").write_text(text + 'tasks = ["softmax_l2[scale=standard]"]\noptimizers = ["mezo"]\n')
    folder = code(tmp_path / "head")
    words = ("--suite", tmp_path / "s.toml", "--base", ROOT, "--timing", "--only", "step_seconds")
    codes = []
    for _ in range(50):
        process = head_of(folder, *words)
        process.communicate()
        codes.append(process.returncode)
    assert codes == [0] * 50


# --- the workflow -----------------------------------------------------------------------------------------------------


def test_the_workflow_says_what_the_command_understands():
    workflow = yaml.safe_load((ROOT / ".github/workflows/regress.yml").read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    lines = []
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        steps = job["steps"]
        assert steps[0]["with"]["fetch-depth"] == 0  # base's commits must be there
        for step in steps:
            assert "${{" not in step.get("run", ""), "text from outside belongs in env, not in a script"
            lines += [line for line in step.get("run", "").splitlines() if "bin/zobench" in line]
    assert len(lines) == 2
    for line in lines:
        words = line.replace('"', "").split()
        assert words[0] == ".venv/bin/zobench" and words[1] == "regress"
        parsed = command.make_context("regress", words[2:]).params
        assert parsed["suite_name"] == "regress" and parsed["baselines"] == ("results",) and parsed["junit"]
