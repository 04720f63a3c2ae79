"""Many seeds of one cell in lockstep: jobs that differ in their seed alone, computed together by `core.many`.

Each run ends as a row of its own, with its own trace, curve and weights; only seconds are shares of a common clock, and
`lockstep` says of how many runs. Losses are those of a run alone up to the rounding of batched products.
"""

from __future__ import annotations

import contextlib
import math
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zobench import registry
from zobench.build import make_optimizer
from zobench.core.info import evaluate
from zobench.core.many import ManySeeds
from zobench.core.trace import Trace, digest
from zobench.core.zeroth_order import Diverged, ZerothOrder
from zobench.meters import Stopwatch, hitting_times, rss_bytes
from zobench.record import json_text
from zobench.resume import read_metrics
from zobench.spec import Job

if TYPE_CHECKING:
    from zobench.run import Run

LEAST = 8  # runs below which each is run alone, on a clock of its own


def groups(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """The jobs in order, those that may share a lockstep together, every other alone."""
    for shared, part in groupby(jobs, key=lambda job: replace(job, seed=0).cell):
        del shared
        group = list(part)
        if len(group) >= LEAST and serves(group[0]):
            yield group
        else:
            yield from ([job] for job in group)


def serves(job: Job) -> bool:
    """Whether runs of this job can share a lockstep: a regression, an elementwise optimizer, a budget in steps or forwards."""
    task = registry.find("task", job.task_path or job.task)
    entry = registry.find("optimizer", job.optimizer_path or job.optimizer)
    if (
        task.info.get("kind") != "regression"
        or task.info.get("select") != "last"
        or job.budget.kind in ("time", "flops")
    ):
        return False
    if entry.kind != "optimizer" or entry.info.get("order") != "zeroth":
        return False
    if evaluate(entry.info.get("batches", "1"), {**entry.common, **entry.options, **job.optimizer_options}) > 1:
        return False  # a step of several minibatches
    cls = registry.optimizer_class(entry)
    return issubclass(cls, ZerothOrder) and cls.elementwise and cls.observe is ZerothOrder.observe


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    """A team of threads costs more than a small problem takes, and waits for a core where others work too."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Lockstep:
    """S runs from one problem to S rows. `runs` are prepared by their first, whose problem and measurements serve all."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs, self.leader = list(runs), runs[0]
        self.steps, self.forwards = 0, 0
        self.evaluated, self.finished = -1, False
        self.losses: list[np.ndarray] = []
        self.failed: dict[int, tuple[int, str]] = {}  # run -> (steps it had done, why it diverged)

    def prepare(self) -> None:
        """Build the problem, measure one step alone (memory, fidelity), and stack the start."""
        leader = self.leader
        leader.prepare()
        problem: Any = leader.problem
        start = {name: p.detach().clone() for name, p in leader.weights}
        with contextlib.suppress(Diverged):  # then its seed diverges at once, and the others may not
            leader.measure_step()
        with torch.no_grad():
            for name, p in leader.weights:
                p.copy_(start[name])
        self.problem = problem
        self.many = ManySeeds(start, self._optimizer, [run.job.seed for run in self.runs])
        self.rates = [group["lr"] for group in self.many.optimizers[0].param_groups]
        self.clock = Stopwatch(leader.device)
        self.curves: list[list[dict[str, Any]]] = [[] for _ in self.runs]
        self.events: list[list[Any]] = []
        assert leader.counter is not None
        leader.counter.close()  # from here on nothing calls the model
        leader.steps = 0
        for run in self.runs[1:]:
            run.take_over(leader)

    def _optimizer(self, named: list[tuple[str, torch.nn.Parameter]], seed: int) -> ZerothOrder:
        return make_optimizer(self.leader.job, self.leader.problem, named, seed)[0]

    def train(self, check_stop: Callable[[], None]) -> None:
        """Step until the budget is spent; raises what `check_stop` raises, between two steps."""
        with _threads(1 if self.problem.small else torch.get_num_threads()):
            self._train(check_stop)

    def _train(self, check_stop: Callable[[], None]) -> None:
        thresholds = self.leader.thresholds
        threshold = next(thresholds)
        self._evaluate()
        while True:
            progress = min(self.leader.job.budget.spent(self.steps, self.forwards, 0, self.clock.seconds), 1.0)
            if progress >= threshold and self.steps > self.evaluated:
                self._evaluate()
            while progress >= threshold and threshold < 1.0:
                threshold = next(thresholds)
            if progress >= 1.0 or len(self.failed) == len(self.runs):
                if self.steps > self.evaluated:
                    self._evaluate()
                return
            check_stop()
            self._step(progress)

    def _step(self, progress: float) -> None:
        many, optimizer = self.many, self.many.optimizers[0]
        if self.leader.job.schedule == "linear":
            for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * (1.0 - progress)
        self.events += [[self.steps, "group", *change] for change in optimizer.changed_groups()]
        self.leader.gpu.begin()
        with self.clock:
            batch = self.problem.batches(self.steps, many.seeds)
            losses = many.step(lambda stack: self.problem.values(stack, batch))
        self.steps = self.leader.steps = self.steps + 1
        self.leader.gpu.look()
        self.forwards += many.counts[-1]
        self.losses.append(losses)
        for s in np.flatnonzero(~np.isfinite(losses)):
            many.stopped.setdefault(int(s), f"step {self.steps}: the loss is {losses[s]}")
        for s, reason in many.stopped.items():
            self.failed.setdefault(s, (self.steps - 1, reason))  # that step did not happen
        state = self.leader.state
        state.step, state.forwards, state.loss = self.steps, self.forwards * len(self.runs), float(np.median(losses))
        state.progress, state.seconds = progress, self.clock.seconds
        self.leader.reporter.update(state)

    def _evaluate(self) -> None:
        """A point on every curve, off the clock."""
        self.leader.gpu.pause()
        with self.leader.eval_clock:
            found = self.problem.scores_many(self.many.stack)
        self.evaluated = self.steps
        mean = np.mean(self.losses, 0) if self.losses else [None] * len(self.runs)
        self.losses = []
        seconds = self.clock.seconds / len(self.runs)
        for curve, metrics, loss in zip(self.curves, found, mean, strict=True):
            curve.append(
                dict(
                    step=self.steps, forwards=self.forwards, backwards=0, seconds=seconds,
                    loss=None if loss is None else float(loss), metrics=json_text(metrics),
                )
            )  # fmt: skip
        self.found = found
        metric = self.leader.metric
        self.leader.state.metrics = {f"median {metric}": float(np.median([m[metric] for m in found]))}

    def finish(self, status: str = "ok", reason: str | None = None) -> None:
        """Fill every row; `status` is that of the runs that have not diverged."""
        self.leader.gpu.pause()
        self.leader.gpu.close()
        values = np.array(self.many.values) if self.many.values else np.empty((0, len(self.runs)))
        for s, run in enumerate(self.runs):
            run.row.status, run.row.reason = status, reason
            self._account(s, run, values[:, s])
            if s in self.failed:
                run.row.status, run.row.reason = "diverged", self.failed[s][1]
            else:
                self._conclude(s, run)
        self.finished = True

    def _account(self, s: int, run: Run, values: np.ndarray) -> None:
        """What it cost and the trace, however it ended."""
        row, share, many = run.row, len(self.runs), self.many
        steps, _ = self.failed.get(s, (self.steps, ""))
        row.steps, row.timed_steps = steps, steps
        row.forwards, row.backwards = sum(many.counts[: steps + 1]), 0  # a step that failed was paid for
        row.tokens = row.eval_forwards = row.state_bytes = 0
        rates, gpu = self.leader.flops.rates, self.leader.gpu
        if rates is not None:
            row.flops, row.flop_rates = rates.total(steps, row.forwards, 0), json_text(rates.to_json())
        row.energy_joules, row.process_bytes = None if gpu.joules is None else gpu.joules / share, gpu.bytes
        row.step_seconds, row.warmup_seconds = self.clock.seconds / share, 0.0
        row.eval_seconds = self.leader.eval_clock.seconds / share
        row.total_seconds = (time.perf_counter() - self.leader.clock_began) / share
        row.lockstep, row.probe_mode, row.rss_bytes = share, "lockstep", rss_bytes()
        row.curve = [point for point in self.curves[s] if point["step"] <= steps]
        row.hitting = json_text(hitting_times(row.curve, run.metric))
        events = [event for event in self.events if event[0] < steps]
        events += [[p["step"], "observe", read_metrics(p)] for p in row.curve]
        events.sort(key=lambda event: (event[0], event[1] != "observe"))
        counts = many.counts[:steps]
        header = self.leader.optimizer.trace.header | {"seed": run.job.seed}
        trace = Trace(header, array("d", values[: sum(counts)]), array("i", counts), events)
        for name, value in trace.to_columns().items():
            setattr(row, name, value)

    def _conclude(self, s: int, run: Run) -> None:
        """The last weights and, where the run is whole, its result."""
        row, metrics = run.row, self.found[s]
        row.kept_step, row.test_looks = self.steps, 0
        row.final_digest = digest([(name, stacked[s]) for name, stacked in self.many.stack.items()])
        if self.evaluated < self.steps:
            return  # stopped on the way: the last validation was of other weights
        row.validation, row.validation_metrics = metrics[run.metric], json_text(metrics)
        if row.status == "ok":
            row.value, row.metrics = metrics[run.metric], json_text(metrics)
            if not math.isfinite(row.value):
                row.status, row.reason = "diverged", f"the final {run.metric} is {row.value}"
