"""The examples of CONTRIBUTING.md work as they stand: extracted, run through the command line, replayed."""

import doctest
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from zobench import registry
from zobench.cli import main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```python\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder elsewhere with the examples in it."""
    for name, source in EXAMPLES.items():
        (tmp_path / name).write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOBENCH_STORE", raising=False)
    return tmp_path


def zobench(*arguments: str) -> str:
    """stdout of a command that must succeed."""
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def test_both_examples_are_there():
    assert set(EXAMPLES) == {"one_sided.py", "review.py", "valley.py", "heavy_ball.py"}


def test_the_optimizer_runs_descends_and_replays(folder):
    zobench("run", "-t", "softmax_l2", "-O", "./one_sided.py", "--budget", "steps=300", "-o", "store", "--seeds", "2")
    rows = json.loads(zobench("list", "runs", "-o", "store", "--json"))
    assert len(rows) == 2
    assert all(row["status"] == "ok" and row["value"] < 0.9 for row in rows), rows
    for row in rows:
        zobench("replay", row["name"], "--store", "store", "--evaluate")


def test_the_optimizer_keeps_the_contract_and_takes_a_guide(folder):
    found = json.loads(zobench("test", "./one_sided.py", "--no-board", "--json"))
    assert found["ok"] and {"info", "softmax_ce", "replay", "resume"} <= {check["check"] for check in found["checks"]}
    spec = "./one_sided.py[guide=greedy]"
    zobench("run", "-t", "softmax_l2", "-O", f"mezo,{spec}", "--budget", "steps=50", "-o", "store")
    ended = {r["name"]: r["status"] for r in json.loads(zobench("list", "runs", "-o", "store", "--json"))}
    assert len(ended) == 2 and set(ended.values()) == {"ok"}


def test_the_optimizer_is_short(folder):
    """About twenty lines of code, without what it says of itself."""
    source = EXAMPLES["one_sided.py"]
    code = re.sub(r"INFO = dict\(.*?\n\)\n", "", source, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20


def test_the_task_runs(folder):
    arguments = [
        "-O",
        "mezo",
        "-m",
        "random:opt-nano",
        "--budget",
        "steps=2",
        "-b",
        "2",
        "--data",
        str(ROOT / "tests/rows"),
    ]
    zobench("run", "-t", "./review.py[num_eval=4]", *arguments, "-o", "store")
    (row,) = json.loads(zobench("list", "runs", "-o", "store", "--json"))
    assert row["status"] == "ok", row


def test_the_regression_runs_in_lockstep_and_replays(folder):
    zobench("run", "-t", "./valley.py[noise=0]", "-O", "mezo", "--seeds", "0-15", "-o", "store")
    rows = json.loads(zobench("list", "runs", "-o", "store", "--json"))
    assert len(rows) == 16 and all(row["status"] == "ok" and row["value"] < 1e-6 for row in rows)
    zobench("replay", rows[3]["name"], "--store", "store", "--evaluate")


def test_the_reference_line_runs_and_is_not_ranked(folder):
    zobench("run", "-t", "softmax_l2", "-O", "./heavy_ball.py,mezo", "--budget", "forwards=600", "-o", "store")
    board = json.loads(zobench("report", "store", "--json"))
    ((mezo, ball),) = [section["rows"] for section in board["sections"]]
    assert mezo["rank"] == [1, 1] and ball["rank"] is None and ball["score"]["center"] < 1e-8


def test_the_docstring_of_the_task_is_right(folder):
    module = registry.load(registry.find("task", "./review.py"))
    assert doctest.testmod(module) == (0, 1)


@pytest.mark.parametrize(
    "kind, example, builtin",
    [
        ("optimizer", "one_sided.py", "mezo"),
        ("task", "review.py", "sst2"),
        ("task", "valley.py", "quadratic"),
        ("optimizer", "heavy_ball.py", "gd"),
    ],
)
def test_the_examples_say_what_the_bundled_files_say(folder, kind, example, builtin):
    ours, theirs = registry.find(kind, f"./{example}").info, registry.find(kind, builtin).info
    assert set(ours) >= set(theirs), "a key of INFO that the bundled files have is not in the example"


def test_the_commands_that_it_names_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", TEXT))
    assert named <= targets, named - targets
