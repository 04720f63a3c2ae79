"""The regression suite covers what there is, its results are committed, and this machine gets the same numbers."""

import json
import tomllib
from pathlib import Path

import pytest

from zobench import plan, record, registry
from zobench.build import Names, OfflineNames
from zobench.run import Place, execute

ROOT = Path(__file__).parents[1]
JOBS = [job for request in plan.suite("regress") for job in plan.jobs(request, Names())]
SYNTHETIC = [job for job in JOBS if job.model is None]
COUNTERS = (
    "status",
    "steps",
    "forwards",
    "backwards",
    "state_bytes",
    "weight_bytes",
    "parameters_count",
    "trace_counts",
)


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


def test_this_machine_gets_the_committed_numbers(committed, tmp_path):
    """What is comparable between machines: counters exactly, float64 losses to rtol 1e-6. Each task with each optimizer once."""
    chosen = [job for job in SYNTHETIC if job.seed == 0]
    assert len(chosen) > 50
    for row, _ in execute(chosen, Place(store=tmp_path, device="cpu")):
        expected = record.read(committed[row.cell])
        for name in COUNTERS:
            assert getattr(row, name) == getattr(expected, name), (row.task, row.optimizer, name)
        assert shapes(row) == shapes(expected)
        mine, theirs = (json.loads(r.metrics)["loss"] for r in (row, expected))
        floor = 1e-14 * abs(json.loads(expected.curve[0]["metrics"])["loss"])  # where a solver is done to rounding
        assert mine == pytest.approx(theirs, rel=1e-6, abs=floor), (row.task, row.optimizer)


def shapes(row):
    return json.loads(row.trace_header)["parameters"] if row.trace_header else None
