"""A larger budget continues a finished, interrupted or timed-out run of the same lineage instead of repeating it.

A zeroth-order run is taken up from its trace: its steps are replayed without a forward pass, validations it already made
at the same steps are read back, and what it cost counts: the result is that of one undisturbed run. A first-order run is
taken up from its checkpoint, as is a hybrid; it keeps the validations of the shorter run, at that run's steps, and the best
of them.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zobench import checkpoint, record, registry
from zobench.build import ends_with_run
from zobench.core.trace import Trace
from zobench.core.zeroth_order import Live, Replay, ZerothOrder
from zobench.keeper import Keeper, Named, copies, put
from zobench.record import RunRecord
from zobench.spec import Job

STATUSES = ("ok", "interrupted", "timeout")
COLUMNS = (
    "cell",
    "lineage",
    "provenance",
    "status",
    "steps",
    "forwards",
    "backwards",
    "tokens",
    "flops",
    "step_seconds",
    "warmup_seconds",
)


@dataclass
class Prefix:
    """The run that is continued. `replayed`: its steps pass through the loop again, read back from the trace."""

    row: RunRecord
    path: Path
    replayed: bool
    cumulated: list[int] | None = None
    groups: dict[int, list[list[Any]]] | None = None

    def set_groups(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """The group values with which it took this step."""
        if self.groups is None:
            self.groups = {}
            for at, kind, *change in json.loads(self.row.trace_events or "[]"):
                if kind == "group":
                    self.groups.setdefault(at, []).append(change)
        for number, key, value in self.groups.get(step, ()):
            optimizer.param_groups[number][key] = value

    @property
    def steps(self) -> int:
        return self.row.steps or 0

    def spent(self, step: int) -> tuple[int, int, float]:
        """(forwards, backwards, seconds) that it had paid at this step, shared out over the probe values of its trace."""
        if self.cumulated is None:
            counts = self.row.trace_counts or [1] * self.steps
            self.cumulated = [0, *itertools.accumulate(counts)]
        share = self.cumulated[min(step, self.steps)] / max(self.cumulated[-1], 1)
        seconds = (self.row.step_seconds or 0.0) + (self.row.warmup_seconds or 0.0)
        return round((self.row.forwards or 0) * share), round((self.row.backwards or 0) * share), seconds * share

    def metrics(self, step: int) -> dict[str, float] | None:
        """What it measured at this very step."""
        for point in self.row.curve or []:
            if point["step"] == step and point["metrics"] is not None:
                return read_metrics(point)
        return None


def read_metrics(point: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in json.loads(point["metrics"]).items()}


def take_up(job: Job, row: RunRecord, store: Path, optimizer: torch.optim.Optimizer, keeper: Keeper) -> Prefix | None:
    """The longest usable attempt, with optimizer and weights set up to go on from it; None to start anew.

    `row` is the row of the new run: code and start weights must be those of the old one.
    """
    rows, _ = record.scan(store, COLUMNS)
    usable = [r for r in rows if _usable(r, job, row, optimizer)]
    for found in sorted(usable, key=lambda r: -r["steps"]):
        path = Path(found["path"])
        old = record.read(path)
        if isinstance(optimizer, ZerothOrder) and row.replay_class != "none":
            if old.start_digest == row.start_digest and old.trace_header and old.trace_counts:
                assert old.trace_values is not None
                assert old.trace_events is not None
                trace = Trace.from_columns(old.trace_header, old.trace_values, old.trace_counts, old.trace_events)
                optimizer.driver = Replay(trace)
                return Prefix(old, path, replayed=True)
        elif checkpoint.about(checkpoint.path_of(store, job.lineage)).get("run") == path.name:
            _restore(checkpoint.load(checkpoint.path_of(store, job.lineage), keeper.weights, optimizer), old, keeper)
            return Prefix(old, path, replayed=False)
    return None


def _usable(found: dict[str, Any], job: Job, row: RunRecord, optimizer: torch.optim.Optimizer) -> bool:
    if found["lineage"] != job.lineage or found["provenance"] != row.provenance or found["status"] not in STATUSES:
        return False
    if not found["steps"]:
        return False
    listens = getattr(type(optimizer), "observe", ZerothOrder.observe) is not ZerothOrder.observe
    entry = registry.find("optimizer", job.optimizer_path or job.optimizer)
    adapts = listens or ends_with_run(entry, job.optimizer_options)
    if (adapts or job.schedule != "constant") and found["cell"] != job.cell:
        # rates, a schedule, or what the method observes, depend on the whole budget: with another one it is another run
        return False
    if found["cell"] == job.cell and found["status"] != "ok":
        return True  # also where its budget is spent: it was stopped in its last evaluations
    if job.budget.kind == "flops" and (found["tokens"] or found["flops"] is None):
        return False  # how long each of its batches was is not known, and with it when each fraction was spent
    seconds = (found["step_seconds"] or 0.0) + (found["warmup_seconds"] or 0.0)
    spent = found["steps"], found["forwards"] or 0, found["backwards"] or 0, seconds, found["flops"] or 0
    return job.budget.spent(*spent) < 1.0


def _restore(kept: list[torch.Tensor] | None, old: RunRecord, keeper: Keeper) -> None:
    for point in old.curve or []:
        if point["metrics"] is not None:
            keeper.offer(point["step"], read_metrics(point), kept)


def go_live(optimizer: ZerothOrder) -> None:
    """The prefix has been replayed: from here on probes are evaluated."""
    if isinstance(optimizer.driver, Replay):
        optimizer.driver = Live()


def save_checkpoint(
    store: Path, job: Job, run: str, weights: Named, optimizer: torch.optim.Optimizer, last: list[torch.Tensor] | None
) -> bool:
    """Write what a larger budget needs, where no trace can give it; `last`: the last weights, if others were kept."""
    path = checkpoint.path_of(store, job.lineage)
    if last is None:
        return checkpoint.save(path, weights, optimizer, None, {"run": run})
    kept = copies(weights)
    put(weights, last)
    try:
        return checkpoint.save(path, weights, optimizer, kept, {"run": run})
    finally:
        put(weights, kept)
