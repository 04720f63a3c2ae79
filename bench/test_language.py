"""Candidate tasks: what sharing of prompts, packing and logits only where they are needed are worth, at equal scores.

ZOBENCH_DATA=DIR pytest bench/test_language.py      # rows of SST-2, BoolQ and COPA; without it a few of our own
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import plain
import pytest
import torch
from side_by_side import ROUNDS, context, goal, interleave, save

from zobench import registry
from zobench.optimizers import MeZO
from zobench.problems.scoring import evaluating
from zobench.spec import Setting

MODEL, BATCH, EVALUATED = "random:opt-125m", 16, 24
DATA = Path(os.environ.get("ZOBENCH_DATA") or Path(__file__).parents[1] / "tests" / "rows")
GOALS = {"sst2": 3, "boolq": 2, "copa": 2}


@pytest.fixture(scope="module", params=GOALS)
def problem(request) -> Any:
    entry = registry.find("task", request.param)
    setting = Setting(model=MODEL, data_dir=DATA, batch_size=BATCH)
    built = registry.load(entry).build(setting, num_train=40, num_dev=EVALUATED, num_eval=EVALUATED)
    built.model.eval()
    built.name = request.param
    return built


def encoded_batch(problem: Any) -> list[Any]:
    kept, problem.collate = problem.collate, lambda encoded: encoded
    try:
        return problem.batch(0)
    finally:
        problem.collate = kept


def test_step(benchmark, problem):
    """A MeZO step with either closure, the engine being the same."""
    encoded, batch, kind = encoded_batch(problem), problem.batch(0), problem.info["loss"]
    pad = problem.scorer.pad
    with torch.no_grad():
        torch.testing.assert_close(
            plain.loss(problem.model, encoded, pad, kind), problem.loss(batch), rtol=1e-4, atol=0
        )
    optimizer = MeZO(problem.model, lr=1e-9, seed=0)
    timed = interleave(
        benchmark,
        {
            "plain": lambda: optimizer.step(lambda: plain.loss(problem.model, encoded, pad, kind)),
            "ours": lambda: optimizer.step(lambda: problem.loss(batch)),
        },
    )
    what = f"{MODEL}, {BATCH} rows; plain: a row per candidate, padded, logits of all positions; same loss"
    line = goal(
        f"MeZO step on {problem.name}, plain / ours", what, timed.ratio("plain", "ours"), ">=", GOALS[problem.name]
    )
    save(f"language_step_{problem.name}", [line], timed, mode=optimizer.evaluator.mode, tokens=batch.tokens)


def test_evaluation(benchmark, problem):
    examples = problem.examples("validation")
    encoded = [problem.encode(example) for example in examples]
    with evaluating(problem.model):
        assert plain.accuracy(problem.model, encoded, problem.scorer.pad) == problem.measure(examples)["accuracy"]
        timed = interleave(
            benchmark,
            {
                "plain": lambda: plain.accuracy(problem.model, encoded, problem.scorer.pad),
                "ours": lambda: problem.measure(examples),
            },
            rounds=min(ROUNDS, 5),
        )
    what = f"{MODEL}, {len(examples)} rows; plain: one forward per candidate; same accuracy"
    line = goal(
        f"evaluation on {problem.name}, plain / ours", what, timed.ratio("plain", "ours"), ">=", GOALS[problem.name]
    )
    save(f"language_evaluation_{problem.name}", [line], timed)


def test_several_forwards_in_a_closure(benchmark, problem):
    """A closure that runs the model many times pays the noise each time in mode `stream`, once in mode `copy`."""
    if problem.name != "sst2":
        pytest.skip("shown once")
    encoded = encoded_batch(problem)[:4]
    steps = {mode: MeZO(problem.model, lr=1e-9, seed=0, mode=mode) for mode in ("stream", "copy")}
    chosen = MeZO(problem.model, lr=1e-9, seed=0)
    chosen.step(lambda: plain.cached(problem.model, encoded))
    assert chosen.evaluator.mode == "copy"
    timed = interleave(
        benchmark,
        {mode: lambda o=o: o.step(lambda: plain.cached(problem.model, encoded)) for mode, o in steps.items()},
        rounds=min(ROUNDS, 5),
    )
    what = (
        f"{MODEL}, 4 rows, prompts and candidates in two forwards each: 8 a closure; the engine chooses copy by itself"
    )
    line = context("closure of 8 forwards, mode stream / mode copy", what, timed.ratio("stream", "copy"))
    save("language_forwards", [line], timed)
