"""A trace -> weights: rebuild what a run ended with, without one forward pass, and check it against the stored digest."""

from __future__ import annotations

from typing import Any

import torch

from zobench.build import make_optimizer, make_problem, trained
from zobench.core.trace import Trace, digest
from zobench.core.zeroth_order import ZerothOrder, replay
from zobench.record import RunRecord
from zobench.spec import Job, MismatchError, UsageError


def rebuild(row: RunRecord, device: torch.device | None = None) -> Any:
    """The problem of a stored run with its kept weights in place. No data is read and the model is never called, unless the
    run starts from a head that is fitted on its training rows (head=probe): it is fitted again.

    Raises UsageError where the run has no trace, MismatchError where start or final weights are not those of the run,
    EnvironmentUnmet where a head is fitted and its rows are gone.
    """
    if row.replay_class == "none" or not row.trace_header:
        raise UsageError(
            f"{row.optimizer} leaves no trace that rebuilds its weights (only methods without gradients do)"
        )
    if row.final_digest is None:
        raise UsageError(
            f"the run ended as {row.status} in the middle of a step: there are no final weights to rebuild"
        )
    assert row.trace_values is not None and row.trace_counts is not None and row.trace_events is not None
    job = Job.from_json(row.job)
    problem = make_problem(job, device or torch.device("cpu"))
    optimizer, _, _ = make_optimizer(job, problem)
    assert isinstance(optimizer, ZerothOrder)
    trace = Trace.from_columns(row.trace_header, row.trace_values, row.trace_counts, row.trace_events)
    try:
        replay(optimizer, trace, row.kept_step)
    except ValueError as error:
        raise MismatchError(f"cannot replay: {error}") from error
    found = digest(trained(problem.model))
    if found != row.final_digest:
        raise MismatchError(
            f"the replayed weights differ from the run's (digest {found[:16]}, stored {(row.final_digest or 'none')[:16]})"
        )
    return problem


def check_metrics(row: RunRecord, problem: Any) -> tuple[dict[str, float], float]:
    """(metrics measured again on the scored split, largest absolute difference to the stored ones)."""
    import json

    split = "test" if row.score == "test" else "validation"
    again = problem.evaluate(split)
    stored = {name: float(value) for name, value in json.loads(row.metrics or "{}").items()}
    return again, max((abs(again[name] - value) for name, value in stored.items()), default=0.0)
