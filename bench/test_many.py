"""Sixty-four seeds of one cell in lockstep against the same seeds one after the other, each from the request to its rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from side_by_side import goal, interleave, save

from zobench import plan
from zobench.build import Names
from zobench.run import Place, execute

SEEDS, BUDGET, ROUNDS = "0-63", "forwards=1000", 3
LEAST = {"tiny": 10.0, "standard": 3.0, "standard,precision=float32": 8.0}


def contender(task: str, store: Path, lockstep: bool) -> Callable[[], None]:
    jobs = plan.jobs(plan.Request([task], ["mezo"], budget=BUDGET, seeds=SEEDS), Names())

    def run() -> None:
        shutil.rmtree(store, ignore_errors=True)
        rows = [row for row, _ in execute(jobs, Place(store=store, device="cpu", lockstep=lockstep))]
        assert len(rows) == 64 and {row.status for row in rows} == {"ok"}
        assert {row.lockstep for row in rows} == ({64} if lockstep else {None})

    return run


@pytest.fixture(scope="module")
def lines():
    return []


@pytest.mark.parametrize("scale", LEAST)
def test_many_seeds(benchmark, tmp_path, lines, scale):
    """Ratio of seconds; both contenders build their problem, validate 60 times and write 64 files."""
    task = f"softmax_l2[scale={scale}]"
    timed = interleave(
        benchmark,
        {
            "alone": contender(task, tmp_path / "alone", False),
            "lockstep": contender(task, tmp_path / "together", True),
        },
        rounds=ROUNDS,
    )
    what = f"{task}, mezo, {BUDGET}: 64 seeds one after the other take so many times longer"
    lines.append(goal(f"64 seeds in lockstep, {scale}", what, timed.ratio("alone", "lockstep"), ">=", LEAST[scale]))
    save("many", lines, timed)
