"""Job -> RunRecord: the one loop, first- and zeroth-order alike. Also the door for notebooks: `zobench.run(...)`.

Whatever happens to a run, it ends as a row: ok, diverged, oom, timeout, error or interrupted, with a reason. A user's
mistake (a `ZobenchError`) is not a run: it is raised.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from zobench import lockstep, plan, record, registry, resume
from zobench.build import Baseline, Finished, Names, make_optimizer, make_problem, resolve_device, trained
from zobench.core import fidelity
from zobench.core.perturb import warm_up
from zobench.core.trace import digest
from zobench.core.zeroth_order import Diverged, ZerothOrder
from zobench.environment import describe
from zobench.keeper import Keeper
from zobench.meters import (
    Counter,
    FlopRates,
    Flops,
    Gpu,
    Memory,
    Stopwatch,
    hitting_times,
    nbytes,
    rss_bytes,
    state_tensors,
)
from zobench.record import RunRecord, json_text
from zobench.spec import EnvironmentUnmet, Job, UsageError, ZobenchError

WARM_UP = 2  # steps that are not timed: first touches, coverage checks, the memory tracker
POINTS = 100  # of the training curve
LOG_EVALUATIONS = 60  # where a task asks for a curve on a logarithmic axis


@dataclass(frozen=True)
class Place:
    """Where and how, not what: nothing here changes a number of the result."""

    store: Path = field(default_factory=plan.default_store)
    device: str = "auto"
    timeout: float | None = None  # seconds
    overwrite: str = "only-missing"  # only-missing | always
    save: Path | None = None
    lockstep: bool = True  # many seeds of one cell may be computed together


@dataclass
class State:
    """What a progress display may show."""

    job: Job
    total: int = 1
    number: int = 1
    runs: int = 1  # that are computed together
    step: int = 0
    progress: float = 0.0
    loss: float = math.nan
    metrics: dict[str, float] = field(default_factory=dict)
    forwards: int = 0
    seconds: float = 0.0
    memory: int | None = None


class Reporter:
    """Told what happens; the command line draws it, a notebook ignores it."""

    def begin(self, state: State) -> None: ...
    def update(self, state: State) -> None: ...
    def note(self, text: str) -> None: ...
    def end(self, row: RunRecord, path: Path | None, reused: bool) -> None: ...


class Timeout(Exception):
    """The run's wall-clock limit has passed."""

    status = "timeout"


class Interrupted(Exception):
    """Ctrl-C or SIGTERM arrived; raised between two steps, or two batches of an evaluation."""

    status = "interrupted"


def run(
    task: str | Sequence[str],
    optimizer: str | Sequence[str],
    *,
    store: str | Path | None = None,
    device: str = "auto",
    timeout: float | str | None = None,
    overwrite: str = "only-missing",
    save: str | Path | None = None,
    **request: Any,
) -> list[RunRecord]:
    """Run every combination and return its records: `zobench.run("softmax_l2", "mezo", seeds="3", budget="small")`.

    task, optimizer: names, paths to .py files, with options as on the command line (`"mezo[lr=1e-6]"`).
    request: the other fields of `plan.Request`: model, adapter, dtype, seeds, data_seed, budget, batch_size, score, data_dir ...
    """
    place = Place(
        store=Path(store) if store else plan.default_store(),
        device=device,
        timeout=plan.duration(str(timeout)) if timeout is not None else None,
        overwrite=overwrite,
        save=Path(save) if save else None,
    )
    if overwrite not in ("only-missing", "always"):
        raise UsageError(f"overwrite {overwrite!r}: choose only-missing or always")
    return [row for row, _ in execute(plan.jobs(plan.request(task, optimizer, **request), Names()), place)]


class _Door(types.ModuleType):
    """`zobench.run` is this module and, called, the function: the file is named for what it does, and so is the door."""

    def __call__(self, *args: Any, **kwargs: Any) -> list[RunRecord]:
        return run(*args, **kwargs)


sys.modules[__name__].__class__ = _Door


def execute(
    jobs: Sequence[Job], place: Place, reporter: Reporter | None = None, *, number: int = 1, total: int | None = None
) -> Iterator[tuple[RunRecord, bool]]:
    """Run the jobs in order and store each; yields (record, whether it was found done). Stops after an interrupted one.

    A Ctrl-C between two jobs interrupts the one that would run next; where none is left it is raised at the end.

    number, total: of the first job and of all, where these are a part of more.
    """
    stop: list[str] = []
    said = False  # by a row
    with _signals(stop):
        for row, found in _execute(jobs, place, reporter or Reporter(), stop, number, total):
            said = said or row.status == "interrupted"
            yield row, found
        if stop and not said:
            raise KeyboardInterrupt


def _execute(
    jobs: Sequence[Job], place: Place, reporter: Reporter, stop: list[str], number: int, total: int | None
) -> Iterator[tuple[RunRecord, bool]]:
    device = resolve_device(place.device)
    record.check_writable(place.store)
    if place.save is not None:
        _make_directory(place.save)  # before hours of training, not after
    number, total = number - 1, total or len(jobs)
    for group in lockstep.groups(jobs) if place.lockstep else ([job] for job in jobs):
        together = _together(group, place, device, reporter, State(group[0], total, number + 1), stop)
        for job in group:
            number += 1
            save = place.save if place.save is None or len(jobs) == 1 else place.save / job.cell[:16]
            made = plan.provenance(job)
            found = together.get(job.cell)
            done = _done(job, made, place, device) if found is None else None
            if found is not None and found[0].status == "ok" and save is not None:
                _save_again(found[0], save, device)
            if done is not None:
                if save is not None:
                    _save_again(done[0], save, device)
            elif found is None:
                found = Run(job, made, place, device, reporter, State(job, total, number), save, stop).execute()
            row, path = done or found  # type: ignore[misc]
            reporter.end(row, path, reused=done is not None)
            yield row, done is not None
            if row.status == "interrupted" and job.cell not in together:
                return
        if any(row.status == "interrupted" for row, _ in together.values()):
            return


def _together(
    group: Sequence[Job], place: Place, device: torch.device, reporter: Reporter, state: State, stop: list[str]
) -> dict[str, tuple[RunRecord, Path]]:
    """cell -> (row, path) of those runs of a group that were computed in lockstep: the new ones, where there are enough.

    A run that is done is found done; one that was begun alone goes on alone. What a lockstep left unfinished is
    computed again, from the start: that is quicker, and ends in the same bits as if nothing had happened.
    """
    if len(group) < lockstep.LEAST:
        return {}
    fresh = [job for job in group if _done(job, plan.provenance(job), place, device) is None]
    if place.overwrite != "always":
        rows, _ = record.scan(place.store, ("lineage", "lockstep"))
        alone = {r["lineage"] for r in rows if r["lockstep"] is None}
        fresh = [job for job in fresh if job.lineage not in alone]
    if len(fresh) < lockstep.LEAST:
        return {}
    state.runs = len(fresh)
    runs = [Run(job, plan.provenance(job), place, device, reporter, state, None, stop) for job in fresh]
    _in_lockstep(runs)
    return {run.job.cell: (run.row, record.write(run.row, place.store)) for run in runs}


def failed(job: Job, place: Place, status: str, reason: str) -> tuple[RunRecord, Path]:
    """Store the row of a run whose process died."""
    row = Run(job, plan.provenance(job), place, resolve_device(place.device), Reporter(), State(job), None, []).row
    row.status, row.reason = status, reason
    return row, record.write(row, place.store)


def _in_lockstep(runs: Sequence[Run]) -> None:
    """Fill the rows of all runs; what stops their lockstep stops them all."""
    leader, shared = runs[0], lockstep.Lockstep(runs)

    def body() -> None:
        shared.prepare()
        try:
            shared.train(leader.check_stop)
        except (Timeout, Interrupted) as stopped:
            shared.finish(stopped.status, str(stopped))
            return
        shared.finish()

    leader.guard(body)
    if not shared.finished:
        for run in runs:
            run.row.status, run.row.reason = leader.row.status, leader.row.reason


def _done(job: Job, made: str, place: Place, device: torch.device) -> tuple[RunRecord, Path] | None:
    """The standing attempt of this cell, where the same code made it on the same class of hardware."""
    if place.overwrite == "always":
        return None
    here = describe(device, 0.0)["hardware"]
    fits = lambda r: r["status"] == "ok" and r["provenance"] == made and _hardware(r["environment"]) == here  # noqa: E731
    same = [r for r in record.attempts(place.store, job.cell) if fits(r)]
    if not same:
        return None
    path = Path(max(same, key=lambda r: r["attempt"])["path"])
    return record.read(path), path


def _hardware(environment: str | None) -> str | None:
    return json.loads(environment or "{}").get("hardware")


def _save_again(row: RunRecord, directory: Path, device: torch.device) -> None:
    """The weights of a run that was found done, rebuilt from its trace."""
    from zobench import replay

    if row.replay_class == "none":
        raise UsageError(
            f"this run is done and {row.optimizer} leaves no trace to rebuild its weights from; add --overwrite always"
        )
    _save(replay.rebuild(row, device), directory)


class Run:
    """One job from its problem to its row."""

    def __init__(
        self,
        job: Job,
        made: str,
        place: Place,
        device: torch.device,
        reporter: Reporter,
        state: State,
        save: Path | None,
        stop: list[str],
    ):
        self.job, self.place, self.device, self.reporter, self.state = job, place, device, reporter, state
        self.save, self.stop = save, stop
        task = registry.chosen(registry.find("task", job.task_path or job.task), job.task_options)
        optimizer = registry.find("optimizer", job.optimizer_path or job.optimizer)
        self.info, self.about = task.info, optimizer.info
        self.began, self.clock_began = time.time(), time.perf_counter()
        self.row = RunRecord(
            cell=job.cell,
            lineage=job.lineage,
            provenance=made,
            status="ok",
            job=job.to_json(),
            task=job.task,
            task_version=job.task_version,
            task_options=json_text(job.task_options),
            task_label=registry.label(task, {k: v for k, v in job.task_options.items() if k != "instance"}),
            suite=self.info.get("suite"),
            kind=self.info.get("kind"),
            optimizer=job.optimizer,
            optimizer_options=json_text(job.optimizer_options),
            order=self.about.get("order"),
            family=self.about.get("family"),
            replay_class=self.about.get("replay", "none"),
            model=job.model,
            revision=job.revision,
            adapter=job.adapter if job.quantised == "none" else f"{job.adapter} on {job.quantised}",
            dtype=job.dtype,
            seed=job.seed,
            data_seed=job.data_seed,
            budget=str(job.budget),
            batch_size=job.batch_size,
            schedule=job.schedule,
            score=job.score,
            data=job.data,
            mode=self.about.get("mode", "train"),
            metric=self.info.get("metric"),
            better=self.info.get("better", "higher"),
            scale=self.info.get("scale", "linear"),
            environment=json_text(describe(device, self.began)),
        )
        self.metric = self.row.metric or "loss"
        self.optimizer: Any = None
        self.counter: Counter | None = None
        self.torn = False
        self.prefix: resume.Prefix | None = None  # a shorter run of the same lineage that this one continues
        self.last: list[Tensor] | None = None  # the last weights, where the kept ones are others
        self.steps, self.losses, self.curve = 0, [], []

    # --- the shell: whatever happens becomes a status ---

    def execute(self) -> tuple[RunRecord, Path]:
        """Run to the end and store the row, whatever it says."""
        self.guard(self._body)
        self._account()
        path = record.write(self.row, self.place.store)
        if self.row.status in resume.STATUSES and self._untraced() and self.steps and not self.torn:
            self._checkpoint(path)
        if self.row.status == "ok" and self.save is not None:
            _save(self.problem, self.save)
            self.reporter.note(f"weights saved to {self.save}")
        return self.row, path

    def _untraced(self) -> bool:
        """Whether no trace rebuilds its weights: a larger budget then continues from a checkpoint."""
        return self.row.replay_class == "none" and not isinstance(self.optimizer, Baseline)

    def guard(self, body: Callable[[], None]) -> None:
        """Call it; what it raises becomes the row's status, but for a user's mistake."""
        try:
            body()
        except ZobenchError as error:
            raise type(error)(f"{self.row.task_label} with {self.row.optimizer}: {error}") from error
        except (Timeout, Interrupted) as stopped:  # before the first step, or in the final evaluation
            self._end(stopped.status, str(stopped))
        except Diverged as error:
            self._end("diverged", str(error))
        except KeyboardInterrupt:
            self.torn = True  # a first-order step may be half written
            self._end("interrupted", "stopped by a second Ctrl-C, in the middle of a step")
        except (Exception, SystemExit) as error:
            if os.environ.get("ZOBENCH_DEBUG"):
                raise
            self._end("oom" if _out_of_memory(error) else "error", f"{type(error).__name__}: {error}")

    def _body(self) -> None:
        self.prepare()
        try:
            self._train()
        except (Timeout, Interrupted) as stopped:
            self._end(stopped.status, str(stopped))
        self._finish()

    def _end(self, status: str, reason: str) -> None:
        lines = reason.strip().splitlines() or [status]
        self.row.status, self.row.reason = status, lines[0][:500]

    # --- before the first step ---

    def prepare(self) -> None:
        """Problem, optimizer and meters; the start is evaluated where the curve is logarithmic."""
        job, row = self.job, self.row
        self.check_stop()
        self.reporter.begin(self.state)
        self.problem = make_problem(job, self.device)
        self.model: torch.nn.Module = self.problem.model
        self.weights = trained(self.model)
        if not self.weights:
            raise UsageError("nothing to train: every parameter of the model is frozen")
        self.optimizer, parameters, row.lr_source = make_optimizer(job, self.problem)
        row.parameters = json_text(parameters)
        row.parameters_count = sum(p.numel() for _, p in self.weights)
        row.weight_bytes = nbytes(self.model.parameters())
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.keeper = Keeper(self.weights, self.metric, row.better or "higher", self.info.get("select", "best"))
        if isinstance(self.optimizer, ZerothOrder):
            warm_up()
        if isinstance(self.optimizer, ZerothOrder) and row.replay_class != "none":
            row.start_digest = self.optimizer.record().header["start"]
        else:
            row.start_digest = digest(self.weights)
        self.counter = Counter(self.model, lambda: self.check_stop(", in an evaluation"))
        self.flops = Flops(self.counter)
        self.memory, self.gpu = Memory(self.device, self.model), Gpu(self.device)
        self.step_clock, self.warm_clock, self.eval_clock = (Stopwatch(self.device) for _ in range(3))
        self._continue()
        self._measure_inference()
        self.model.train(row.mode == "train")
        self.thresholds = self._thresholds()
        self.check_stop()
        if self.info.get("curve") == "log" and self.steps == 0:
            self._evaluate()

    def _continue(self) -> None:
        assert self.counter is not None
        if self.place.overwrite == "always":
            return
        self.prefix = resume.take_up(self.job, self.row, self.place.store, self.optimizer, self.keeper)
        if self.prefix is None:
            return
        old = self.prefix.row
        self.row.continued_from = self.prefix.path.name
        self.reporter.note(f"continuing {self.prefix.path.name} ({old.status}) from step {old.steps}")
        self.counter.forwards, self.counter.backwards = old.forwards or 0, (old.backwards or 0) - (old.jvps or 0)
        self.counter.tokens, self.counter.eval_forwards = old.tokens or 0, old.eval_forwards or 0
        self.step_clock.seconds, self.warm_clock.seconds = old.step_seconds or 0.0, old.warmup_seconds or 0.0
        self.eval_clock.seconds = old.eval_seconds or 0.0
        if old.flop_rates is not None:
            self.flops.rates = FlopRates(**json.loads(old.flop_rates))
        self.gpu.go_on(old.energy_joules, old.process_bytes, old.timed_steps or 0)
        if not self.prefix.replayed:
            self.steps, self.curve = self.prefix.steps, [dict(point) for point in old.curve or []]

    def _measure_inference(self) -> None:
        """The yardstick of every memory ratio, and the moment at which the rows are read."""
        assert self.counter is not None
        batch = self.problem.batch(0)
        facts, row = self.problem.facts, self.row
        row.partial_data = bool(facts.get("partial_data", False))
        row.num_train, row.num_dev, row.num_test = (facts.get(k) for k in ("num_train", "num_dev", "num_test"))
        row.facts = json_text(facts)
        self.model.eval()
        with self.counter.uncounted(), torch.no_grad(), self.memory.of_inference(_tensors(batch)):
            self.problem.loss(batch)

    def _thresholds(self) -> Iterator[float]:
        """Fractions of the budget at which to validate; the last is its end."""
        if self.info.get("curve") == "log":
            return iter([10 ** (-4 * (1 - i / LOG_EVALUATIONS)) for i in range(1, LOG_EVALUATIONS)] + [1.0])
        n = self.job.evaluations
        return iter([i / n for i in range(1, n)] + [1.0])

    def measure_step(self) -> None:
        """Memory and fidelity from steps that do not count, for a run that is then computed with others."""
        self.row.inference_bytes = self.memory.inference
        for step in range(WARM_UP):
            batch = self.problem.batch(step)
            with self.memory.of_step([*_tensors(batch), *state_tensors(self.optimizer)]), self._counting_flops():
                self.optimizer.step(self._closure(batch))
            self.row.peak_bytes = self.memory.peak
        self._measure_fidelity()

    def take_over(self, leader: Run) -> None:
        """The columns that this run shares with the one that was prepared for both."""
        shared = (
            "parameters lr_source parameters_count weight_bytes start_digest inference_bytes peak_bytes facts num_train"
        )
        fidelities = "restore_drift probe_cosine probe_unmoved lost_updates update_gain num_dev num_test partial_data"
        for name in (*shared.split(), *fidelities.split()):
            setattr(self.row, name, getattr(leader.row, name))

    def _measure_fidelity(self) -> None:
        for name, value in fidelity.measure(self.optimizer).items():
            setattr(self.row, name, value)

    # --- the loop ---

    def _train(self) -> None:
        threshold, point = next(self.thresholds), 0
        while True:
            progress = self._progress()
            due = progress >= threshold
            if self.prefix is not None and self.prefix.row.cell == self.job.cell and self._replaying():
                due = self.prefix.metrics(self.steps) is not None  # the very steps at which it was validated before
            if due or progress >= 1.0:
                if self.steps > self._evaluated_step():
                    self._evaluate()
                while progress >= threshold and threshold < 1.0:
                    threshold = next(self.thresholds)
            if progress >= 1.0:
                return
            self.check_stop()
            try:
                self._step(progress)
            except Finished:
                self._take_counts()  # its last look, too
                self.weights[:] = trained(self.model)  # a probe has a layer of its own now
                self.row.facts = json_text(self.problem.facts)
                if self.steps > self._evaluated_step():
                    self._evaluate()
                return
            if int(progress * POINTS) > point:
                point = int(progress * POINTS)
                self._point()

    def _evaluated_step(self) -> int:
        return max((p["step"] for p in self.curve if p["metrics"] is not None), default=-1)

    def _step(self, progress: float) -> None:
        if self._replaying() and self.prefix is not None:
            self.prefix.set_groups(self.steps, self.optimizer)  # the rates that were used, not those we would compute
        elif self.job.schedule == "linear":
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * (1.0 - progress)
        if self._replaying():
            loss = _number(self.optimizer.step(self._closure(None)))  # type: ignore[arg-type]
        else:
            loss = self._timed_step(self.problem.batch(self.steps))
        self.steps += 1
        self.gpu.look()
        if isinstance(self.optimizer, Baseline):
            self._take_counts()
        if not math.isfinite(loss):
            raise Diverged(f"step {self.steps}: the loss is {loss}")
        self.losses.append(loss)
        if self.steps == WARM_UP and isinstance(self.optimizer, ZerothOrder):
            self._measure_fidelity()
        self._show(loss)

    def _take_counts(self) -> None:
        assert self.counter is not None
        self.counter.forwards, self.counter.backwards = self.optimizer.counts(
            self.counter.forwards, self.counter.backwards
        )

    def _timed_step(self, batch: Any) -> float:
        # a reference line may be done in one step: it is timed from the first, its memory is not followed
        reference = isinstance(self.optimizer, Baseline)
        warming = self.steps - (self.prefix.steps if self.prefix else 0) < WARM_UP and not reference
        closure = self._closure(batch)
        if not warming:
            self.gpu.begin()
        with self.warm_clock if warming else self.step_clock:
            if warming or self.device.type == "cuda":
                for _, p in self.weights:
                    p.grad = None  # the closure would drop it; a measurement that knew of it would keep it alive
                with self.memory.of_step([*_tensors(batch), *state_tensors(self.optimizer)]), self._counting_flops():
                    return _number(self.optimizer.step(closure))  # type: ignore[arg-type]
            return _number(self.optimizer.step(closure))  # type: ignore[arg-type]

    def _counting_flops(self) -> AbstractContextManager[None]:
        """Around the first step of a run; one that goes on with another has that one's rates. Not for reference lines."""
        known = self.flops.rates is not None or isinstance(self.optimizer, Baseline)
        return nullcontext() if known else self.flops.of_step()

    def _closure(self, batch: Any) -> Callable[..., Tensor]:
        """One closure for both worlds: torch calls it with gradients on, a zeroth-order step with gradients off.

        A method may ask for further minibatches of the step by `batch=` (core/probes.py); each is read once.
        """
        assert self.counter is not None
        counter, parts = self.counter, {None: batch}

        def closure(batch: Any = None) -> Tensor:
            if torch.is_grad_enabled():
                self.optimizer.zero_grad(set_to_none=True)
            if batch not in parts:
                parts[batch] = self.problem.batch(self.steps, batch)
            loss = self.flops.part("forward", lambda: self.problem.loss(parts[batch]))
            if loss.requires_grad:
                counter.watch(loss)
                self.flops.part("backward", loss.backward)
            return loss

        return closure

    def _replaying(self) -> bool:
        if self.prefix is None or not self.prefix.replayed:
            return False
        if self.steps < self.prefix.steps:
            return True
        assert isinstance(self.optimizer, ZerothOrder)
        resume.go_live(self.optimizer)
        return False

    def _spent(self) -> tuple[int, int, float]:
        """(forwards, backwards, seconds in steps) up to this step."""
        assert self.counter is not None
        if self.prefix is not None and self._replaying():
            return self.prefix.spent(self.steps)
        backwards = self.counter.backwards + getattr(self.optimizer, "jvps", 0)  # a tangent costs as much as a backward
        return self.counter.forwards, backwards, self.step_clock.seconds + self.warm_clock.seconds

    def _progress(self) -> float:
        flops = self._flops() if self.job.budget.kind == "flops" else 0
        if flops is None and self.steps:
            why = (
                "a reference line's" if isinstance(self.optimizer, Baseline) else "the task has no matrix product, its"
            )
            raise UsageError(f"{why} FLOPs are not counted: give the budget in steps, forwards or time")
        self.state.progress = min(self.job.budget.spent(self.steps, *self._spent(), flops or 0), 1.0)
        return self.state.progress

    def _flops(self) -> int | None:
        """Up to this step; None where they are not known."""
        rates, counter = self.flops.rates, self.counter
        if rates is None or counter is None:
            return None
        forwards, backwards, _ = self._spent()
        length = Fraction(counter.tokens, max(counter.forwards, 1))
        return rates.total(self.steps, forwards, backwards - getattr(self.optimizer, "jvps", 0), length)

    def check_stop(self, where: str = "") -> None:
        if self.stop:
            raise Interrupted(f"stopped by {self.stop[0]} after {self.steps} steps{where}")
        if self.place.timeout is not None and time.perf_counter() - self.clock_began > self.place.timeout:
            raise Timeout(f"the limit of {self.place.timeout:g} s had passed after {self.steps} steps{where}")

    # --- validation and the curve ---

    def _evaluate(self) -> None:
        """Validate, off the clock; keep the weights where they are the best so far."""
        self.gpu.pause()
        assert self.counter is not None
        # a trace that was stopped in the final evaluation has a validation at its last step, too
        metrics = self.prefix.metrics(self.steps) if self.prefix is not None and self.prefix.replayed else None
        if metrics is None:
            with self.counter.evaluation(), self.eval_clock:
                metrics = self.problem.evaluate("validation")
            self.model.train(self.row.mode == "train")
        _check_finite(metrics, f"step {self.steps}: the validation")
        if hasattr(self.optimizer, "observe"):
            self.optimizer.observe(metrics)
        self._point(metrics)
        self.state.metrics = {self.metric: metrics[self.metric]}
        self.keeper.offer(self.steps, metrics)

    def _point(self, metrics: dict[str, float] | None = None) -> None:
        """A point of the curve: the mean loss since the last one, and metrics where they were measured."""
        recent, self.losses = self.losses, []
        if metrics is None and not recent:
            return
        forwards, backwards, seconds = self._spent()
        self.curve.append(
            {
                "step": self.steps,
                "forwards": forwards,
                "backwards": backwards,
                "seconds": seconds,
                "loss": sum(recent) / len(recent) if recent else None,
                "metrics": None if metrics is None else json_text(metrics),
            }
        )

    def _show(self, loss: float) -> None:
        state = self.state
        state.step, state.loss, state.memory = self.steps, loss, self.memory.peak
        state.forwards, _, state.seconds = self._spent()
        self.reporter.update(state)

    # --- after the last step ---

    def _finish(self) -> None:
        """The kept weights, their digest, and the one look at the test rows."""
        assert self.counter is not None
        row, keeper = self.row, self.keeper
        self.last = keeper.restore(self.steps)
        row.kept_step, row.final_digest, row.test_looks = keeper.step, keeper.digest(), 0
        if keeper.metrics:
            row.validation, row.validation_metrics = keeper.metrics[self.metric], json_text(keeper.metrics)
        if row.status != "ok":
            return
        scored = keeper.metrics
        if self.job.score == "test" and row.kind != "regression":
            with self.counter.evaluation(), self.eval_clock:
                scored = self.problem.evaluate("test")
            row.test_looks = 1
        row.facts = json_text(self.problem.facts)  # and what the evaluations found
        _check_finite(scored, "the final")
        row.value, row.metrics = scored[self.metric], json_text(scored)
        if not math.isfinite(row.value):
            raise Diverged(f"the final {self.metric} is {row.value}")

    def _account(self) -> None:
        """The columns that exist however the run ended."""
        row, old = self.row, self.prefix.row if self.prefix else None
        row.total_seconds = time.perf_counter() - self.clock_began + (old.total_seconds or 0.0 if old else 0.0)
        row.rss_bytes = rss_bytes()
        if self.counter is None:
            return
        self.counter.close()
        self.gpu.look()
        self.gpu.pause()
        self.gpu.close()
        self._point()
        row.steps, row.curve = self.steps, self.curve
        if self.info.get("curve") == "log":
            row.hitting = json_text(hitting_times(self.curve, self.metric))
        jvps = row.jvps = getattr(self.optimizer, "jvps", 0)
        row.forwards, row.backwards, row.tokens = (
            self.counter.forwards,
            self.counter.backwards + jvps,
            self.counter.tokens,
        )
        row.eval_forwards = self.counter.eval_forwards
        row.step_seconds, row.warmup_seconds = self.step_clock.seconds, self.warm_clock.seconds
        if self._replaying():  # stopped before it had caught up: it has paid for the steps it has
            row.forwards, row.backwards, row.step_seconds = self._spent()
            row.warmup_seconds = 0.0
        row.eval_seconds = self.eval_clock.seconds
        before = (min(old.timed_steps or 0, self.steps), min(old.steps or 0, self.steps)) if old else (0, 0)
        warm = 0 if isinstance(self.optimizer, Baseline) else WARM_UP
        row.timed_steps = before[0] + max(self.steps - before[1] - warm, 0)
        row.inference_bytes, row.reserved_bytes = self.memory.inference, self.memory.reserved
        peaks = [p for p in (self.memory.peak, old.peak_bytes if old else None) if p is not None]
        row.peak_bytes = max(peaks, default=None)
        row.state_bytes = nbytes(state_tensors(self.optimizer))
        if self.flops.rates is not None:
            row.flops, row.flop_rates = self._flops(), json_text(self.flops.rates.to_json())
        row.energy_joules, row.process_bytes = None if self._replaying() else self.gpu.joules, self.gpu.bytes
        diagnose = getattr(self.optimizer, "diagnostics", None)
        row.diagnostics = json_text(diagnose()) if diagnose else None
        if not isinstance(self.optimizer, ZerothOrder):
            return
        row.probe_mode = self.optimizer.evaluator.mode
        if self.optimizer.trace is not None:
            for name, value in self.optimizer.trace.to_columns().items():
                setattr(row, name, value)

    def _checkpoint(self, path: Path) -> None:
        try:
            resume.save_checkpoint(self.place.store, self.job, path.name, self.weights, self.optimizer, self.last)
        except Exception as error:  # a state that cannot be written must not cost a result
            self.reporter.note(f"no checkpoint for a larger budget ({error}); the result is stored")


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentUnmet(f"cannot save weights to {directory}: {error.strerror or error}") from error


def _save(problem: Any, directory: Path) -> None:
    _make_directory(directory)
    try:
        problem.save(directory)
    except Exception as error:  # safetensors has its own family of errors for a full disk
        raise EnvironmentUnmet(f"the run is stored, but its weights are not in {directory}: {error}") from error


def _check_finite(metrics: dict[str, float], what: str) -> None:
    """Scores that are not numbers would still have a first among equals, and with it an accuracy."""
    loss = metrics.get("loss", 0.0)
    if not math.isfinite(loss):
        raise Diverged(f"{what} loss is {loss}")


def _number(loss: Any) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _out_of_memory(error: Exception) -> bool:
    said = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(text in str(error) for text in said)


@contextmanager
def _signals(stop: list[str]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks the loop to stop after this step or batch; the second stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: Any) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.append(signal.Signals(number).name.replace("SIGINT", "Ctrl-C"))

    # a worker leaves Ctrl-C to its parent; a shell's background job, whose Ctrl-C is ignored too, may still be sent one
    worker = multiprocessing.parent_process() is not None
    heard = (signal.SIGTERM,) if worker else (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
