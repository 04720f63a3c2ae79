"""The regression suite covers what there is, its results are committed, and this machine gets the same numbers."""

import tomllib
from collections import Counter
from pathlib import Path

import pytest

from zobench import plan, record, registry, suite
from zobench.build import Names, OfflineNames
from zobench.report import regress
from zobench.run import Place, execute

ROOT = Path(__file__).parents[1]
JOBS = [job for request in plan.suite("regress") for job in plan.jobs(request, Names())]
SYNTHETIC = [job for job in JOBS if job.model is None]


@pytest.fixture(scope="module")
def committed():
    rows, _ = record.scan(ROOT / "results", ("cell", "status", "attempt"))
    return {r["cell"]: r["path"] for r in sorted(rows, key=lambda r: r["attempt"]) if r["status"] == "ok"}


def test_it_covers_every_regression_toy_and_optimizer():
    tasks = {e.name for e in registry.entries("task").values() if e.info["suite"] in ("synthetic", "toy")}
    assert {job.task for job in JOBS} == tasks
    assert {job.optimizer for job in JOBS} >= set(registry.entries("optimizer"))


def test_the_suites_of_the_package_can_be_planned():
    for path in plan.suites_folder().glob("*.toml"):
        assert tomllib.loads(path.read_text(encoding="utf-8"))["run"]
        assert [job for request in plan.suite(path.stem) for job in plan.jobs(request, OfflineNames())]


def test_every_cell_has_its_result(committed):
    assert not [job.task for job in JOBS if job.cell not in committed]


def test_this_machine_gets_the_committed_numbers(tmp_path):
    """What is comparable between machines, by the gate of the suite. Each task with each optimizer once."""
    chosen = {job.cell: f"{job.task} {job.optimizer}" for job in SYNTHETIC if job.seed == 0}
    assert len(chosen) > 50
    jobs = [job for job in SYNTHETIC if job.cell in chosen]
    head = {row.cell: row for row, _ in execute(jobs, Place(store=tmp_path, device="cpu"))}
    rules = suite.read("regress").gate.rules
    found = regress.compare(head, regress.load([ROOT / "results"], chosen), chosen, rules, "baseline")
    assert not [f for f in found if f.outcome not in ("equal", "unknown")]
    held = Counter(f.gate for f in found if f.outcome == "equal")
    for gate in ("status", "steps", "forwards", "backwards", "state_bytes", "weight_bytes", "parameters_count", "loss"):
        assert held[gate] == len(chosen), gate
    assert held["shapes"] > 50 and held["trace_counts"] > 50
