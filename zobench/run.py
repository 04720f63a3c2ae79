"""Job -> RunRecord: the one loop, first- and zeroth-order alike. Also the door for notebooks: `zobench.run(...)`.

Whatever happens to a run, it ends as a row: ok, diverged, oom, timeout, error or interrupted, with a reason. A user's
mistake (a `ZobenchError`) is not a run: it is raised.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zobench import checkpoint, plan, record, registry
from zobench.core import fidelity
from zobench.core.perturb import warm_up
from zobench.core.trace import Trace, digest
from zobench.core.zeroth_order import Diverged, Live, Replay, ZerothOrder
from zobench.environment import describe
from zobench.meters import Counter, Memory, Stopwatch, nbytes, rss_bytes, state_tensors, synchronise
from zobench.record import RunRecord, json_text
from zobench.spec import EnvironmentUnmet, Job, Setting, UsageError, ZobenchError

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


@dataclass
class State:
    """What a progress display may show."""

    job: Job
    total: int = 1
    number: int = 1
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


class Interrupted(Exception):
    """Ctrl-C or SIGTERM arrived; raised between two steps."""


def run(
    task: str | Sequence[str],
    optimizer: str | Sequence[str],
    *,
    store: str | Path | None = None,
    device: str = "auto",
    timeout: float | None = None,
    overwrite: str = "only-missing",
    save: str | Path | None = None,
    **request: Any,
) -> list[RunRecord]:
    """Run every combination and return its records: `zobench.run("softmax_l2", "mezo", seeds="3", budget="small")`.

    task, optimizer: names, paths to .py files, with options as on the command line (`"mezo[lr=1e-6]"`).
    request: the other fields of `plan.Request`: model, adapter, dtype, seeds, data_seed, budget, batch_size, score, data_dir ...
    """
    listed = lambda value: [value] if isinstance(value, str) else list(value)  # noqa: E731
    asked = plan.Request(
        listed(task), listed(optimizer), **{k: str(v) if k == "seeds" else v for k, v in request.items()}
    )
    place = Place(
        Path(store) if store else plan.default_store(), device, timeout, overwrite, Path(save) if save else None
    )
    return [row for row, _ in execute(plan.jobs(asked, fingerprint), place)]


class _Door(types.ModuleType):
    """`zobench.run` is this module and, called, the function: the file is named for what it does, and so is the door."""

    def __call__(self, *args: Any, **kwargs: Any) -> list[RunRecord]:
        return run(*args, **kwargs)


sys.modules[__name__].__class__ = _Door


def fingerprint(entry: registry.Entry, data_dir: str | None) -> str:
    """What the rows of a task hash to, or the hub commit they come from."""
    from zobench.problems.data import locate

    return locate(entry.info, Path(data_dir) if data_dir else None).fingerprint


def execute(jobs: Sequence[Job], place: Place, reporter: Reporter | None = None) -> Iterator[tuple[RunRecord, bool]]:
    """Run the jobs in order and store each; yields (record, whether it was found done). Stops after an interrupted one."""
    reporter = reporter or Reporter()
    device = resolve_device(place.device)
    record.check_writable(place.store)
    for number, job in enumerate(jobs, 1):
        made = plan.provenance(job)
        done = _done(job, made, place)
        if done is not None:
            reporter.end(done[0], done[1], reused=True)
            if place.save is not None:
                _save_again(done[0], _directory(place.save, job, len(jobs)), device)
            yield done[0], True
            continue
        row, path = Run(job, made, place, device, reporter, State(job, len(jobs), number)).execute(len(jobs))
        reporter.end(row, path, reused=False)
        yield row, False
        if row.status == "interrupted":
            return


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one; a device that is not there is an EnvironmentUnmet."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r}: write cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device {name!r}: zobench runs on cpu and cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EnvironmentUnmet(
            f"device {name}: this machine has {torch.cuda.device_count()} CUDA devices; try --device cpu"
        )
    return device


def build(job: Job, device: torch.device) -> Any:
    """The job's problem, its model on the device."""
    task = registry.find("task", job.task_path or job.task)
    setting = Setting(
        model=job.model,
        revision=job.revision,
        adapter=job.adapter,
        dtype=job.dtype,
        device=str(device),
        seed=job.seed,
        data_seed=job.data_seed,
        batch_size=job.batch_size,
        score=job.score,
        data=job.data,
        data_dir=Path(job.data_dir) if job.data_dir else None,
    )
    return registry.load(task).build(setting, **job.task_options)


def make_optimizer(job: Job, problem: Any) -> tuple[torch.optim.Optimizer, dict[str, Any], str]:
    """(optimizer, its parameters as used, where the lr came from)."""
    entry = registry.find("optimizer", job.optimizer_path or job.optimizer)
    options, source = dict(job.optimizer_options), "default"
    if options.get("lr") == "task":
        options["lr"], source = float(problem.rates[entry.info["family"]]), "task"
    elif options.get("lr") != entry.options.get("lr"):
        source = "given"
    cls = registry.optimizer_class(entry)
    try:
        if issubclass(cls, ZerothOrder):
            optimizer = cls(problem.model, **options, seed=job.seed)
        else:
            named = [(n, p) for n, p in problem.model.named_parameters() if p.requires_grad]
            optimizer = cls(named, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"optimizer {entry.name}: {error}") from error
    return optimizer, options, source


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _done(job: Job, made: str, place: Place) -> tuple[RunRecord, Path] | None:
    """The standing attempt of this cell, where the same code made it."""
    if place.overwrite == "always":
        return None
    same = [r for r in record.attempts(place.store, job.cell) if r["status"] == "ok" and r["provenance"] == made]
    if not same:
        return None
    path = Path(max(same, key=lambda r: r["attempt"])["path"])
    return record.read(path), path


def _directory(save: Path, job: Job, jobs: int) -> Path:
    return save if jobs == 1 else save / job.cell[:16]


def _save_again(row: RunRecord, directory: Path, device: torch.device) -> None:
    from zobench import replay

    replay.rebuild(row, device).save(directory)


class Run:
    """One job from its problem to its row."""

    def __init__(self, job: Job, made: str, place: Place, device: torch.device, reporter: Reporter, state: State):
        self.job, self.place, self.device, self.reporter, self.state = job, place, device, reporter, state
        task = registry.find("task", job.task_path or job.task)
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
            adapter=job.adapter,
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
        self.metric, self.sign = self.row.metric or "loss", -1.0 if self.row.better == "lower" else 1.0
        self.steps, self.losses = 0, []
        self.curve: list[dict[str, Any]] = []
        self.kept: list[Tensor] | None = None  # a copy of the best weights, where they are not the last
        self.best: tuple[float, float] | None = None
        self.kept_step = 0
        self.validation: dict[str, float] = {}
        self.counter: Counter | None = None
        self.prefix: record.RunRecord | None = None  # a shorter run of the same lineage that this one continues
        self.stop: list[str] = []

    # --- the shell: whatever happens becomes a status

    def execute(self, jobs: int) -> tuple[RunRecord, Path]:
        try:
            with _signals(self.stop):
                self._prepare()
                try:
                    self._train()
                except (Timeout, Interrupted) as error:
                    self._end("timeout" if isinstance(error, Timeout) else "interrupted", str(error))
                self._finish()
        except ZobenchError:
            raise
        except Diverged as error:
            self._end("diverged", str(error))
        except KeyboardInterrupt:
            self._end("interrupted", "stopped by Ctrl-C in the middle of a step")
        except Exception as error:
            self._end("oom" if _out_of_memory(error) else "error", f"{type(error).__name__}: {error}")
            if os.environ.get("ZOBENCH_DEBUG"):
                raise
        self._account()
        path = record.write(self.row, self.place.store)
        if self.row.status in ("ok", "interrupted", "timeout"):
            self._checkpoint(path)
        if self.row.status == "ok" and self.place.save is not None:
            self._save(_directory(self.place.save, self.job, jobs))
        return self.row, path

    def _end(self, status: str, reason: str) -> None:
        lines = reason.strip().splitlines() or [status]
        self.row.status, self.row.reason = status, lines[0][:500]

    # --- before the first step

    def _prepare(self) -> None:
        job, row = self.job, self.row
        self.reporter.begin(self.state)
        torch.manual_seed(job.seed)
        self.problem = build(job, self.device)
        self.model: nn.Module = self.problem.model
        self.weights = trained(self.model)
        if not self.weights:
            raise UsageError("nothing to train: every parameter of the model is frozen")
        self.optimizer, parameters, row.lr_source = make_optimizer(job, self.problem)
        row.parameters = json_text(parameters)
        row.parameters_count = sum(p.numel() for _, p in self.weights)
        row.weight_bytes = nbytes(self.model.parameters())
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.trace: Trace | None = None
        if isinstance(self.optimizer, ZerothOrder):
            warm_up()
            self.trace = self.optimizer.record()
            row.start_digest = self.trace.header["start"]
        else:
            row.start_digest = digest(self.weights)
        self.counter = Counter(self.model)
        self.memory = Memory(self.device, self.model)
        self.step_clock, self.warm_clock, self.eval_clock = (Stopwatch(self.device) for _ in range(3))
        self._continue()
        self._measure_inference()
        self.model.train(row.mode == "train")
        self.thresholds = self._thresholds()
        if self.info.get("curve") == "log" and self.steps == 0:
            self._evaluate()

    def _measure_inference(self) -> None:
        assert self.counter is not None
        batch = self.problem.batch(0)
        self._facts()
        self.model.eval()
        with self.counter.uncounted(), torch.no_grad(), self.memory.of_inference(_tensors(batch)):
            self.problem.loss(batch)

    def _facts(self) -> None:
        facts, row = self.problem.facts, self.row
        row.partial_data = bool(facts.get("partial_data", False))
        row.num_train, row.num_dev, row.num_test = (facts.get(k) for k in ("num_train", "num_dev", "num_test"))

    def _thresholds(self) -> Iterator[float]:
        """Fractions of the budget at which to validate; the last is its end."""
        if self.info.get("curve") == "log":
            return iter([10 ** (-4 * (1 - i / LOG_EVALUATIONS)) for i in range(1, LOG_EVALUATIONS)] + [1.0])
        n = self.job.evaluations
        return iter([i / n for i in range(1, n)] + [1.0])

    # --- the loop

    def _train(self) -> None:
        threshold, point = next(self.thresholds), 0
        while True:
            progress = self._progress()
            if progress >= threshold:
                if progress < 1.0 or self.steps > self._evaluated_step():
                    self._evaluate()
                while progress >= threshold and threshold < 1.0:
                    threshold = next(self.thresholds)
            if progress >= 1.0:
                return
            self._step(progress)
            if int(progress * POINTS) > point:
                point = int(progress * POINTS)
                self._point()
            self._check_stop()

    def _evaluated_step(self) -> int:
        return self.curve[-1]["step"] if self.curve and self.curve[-1]["metrics"] is not None else -1

    def _step(self, progress: float) -> None:
        replaying = self._replaying()
        batch = None if replaying else self.problem.batch(self.steps)
        if self.job.schedule == "linear":
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * (1.0 - progress)
        closure = self._closure(batch)
        if replaying:
            loss = _number(self.optimizer.step(closure))  # type: ignore[arg-type]
        else:
            loss = self._timed_step(closure, batch)
        self.steps += 1
        if not math.isfinite(loss):
            raise Diverged(f"step {self.steps}: the loss is {loss}")
        self.losses.append(loss)
        self.state.loss = loss
        if self.steps == WARM_UP and isinstance(self.optimizer, ZerothOrder):
            self._measure_fidelity()
        self._show()

    def _timed_step(self, closure: Callable[..., Tensor], batch: Any) -> float:
        live = self.steps - (self.prefix.steps or 0 if self.prefix else 0)
        warming = live < WARM_UP
        with self.warm_clock if warming else self.step_clock:
            if warming or self.device.type == "cuda":
                gradients = [p.grad for _, p in self.weights if p.grad is not None]
                with self.memory.of_step([*_tensors(batch), *state_tensors(self.optimizer), *gradients]):
                    return _number(self.optimizer.step(closure))  # type: ignore[arg-type]
            return _number(self.optimizer.step(closure))  # type: ignore[arg-type]

    def _closure(self, batch: Any) -> Callable[..., Tensor]:
        """One closure for both worlds: torch calls it with gradients on, a zeroth-order step with gradients off."""
        assert self.counter is not None
        counter = self.counter

        def closure(batch: Any = batch) -> Tensor:
            if torch.is_grad_enabled():
                self.optimizer.zero_grad(set_to_none=True)
            loss = self.problem.loss(batch)
            if loss.requires_grad:
                counter.watch(loss)
                loss.backward()
            return loss

        return closure

    def _progress(self) -> float:
        counter = self.counter
        assert counter is not None
        forwards, backwards, seconds = (
            counter.forwards,
            counter.backwards,
            self.step_clock.seconds + self.warm_clock.seconds,
        )
        if self._replaying() and self.prefix is not None:  # the prefix has paid already; share it out evenly
            share = self.steps / max(self.prefix.steps or 1, 1)
            forwards, backwards = (
                round((self.prefix.forwards or 0) * share),
                round((self.prefix.backwards or 0) * share),
            )
            seconds = ((self.prefix.step_seconds or 0.0) + (self.prefix.warmup_seconds or 0.0)) * share
        self.state.progress = min(self.job.budget.spent(self.steps, forwards, backwards, seconds), 1.0)
        return self.state.progress

    def _check_stop(self) -> None:
        if self.stop:
            raise Interrupted(f"stopped by {self.stop[0]} after {self.steps} steps")
        if self.place.timeout is not None and time.perf_counter() - self.clock_began > self.place.timeout:
            raise Timeout(f"the limit of {self.place.timeout:g} s had passed after {self.steps} steps")

    # --- validation

    def _evaluate(self) -> None:
        """Validate, off the clock; keep the weights where they are the best so far."""
        assert self.counter is not None
        known = self._known_metrics()
        if known is None:
            with self.counter.evaluation(), self.eval_clock:
                known = self.problem.evaluate("validation")
            self.model.train(self.row.mode == "train")
        if isinstance(self.optimizer, ZerothOrder):
            self.optimizer.observe(known)
        self._point(known)
        self.state.metrics = known
        score = self.sign * known[self.metric]
        ranked = (score if not math.isnan(score) else -math.inf, -known.get("loss", 0.0))
        last = self.info.get("select", "best") == "last"
        if last or self.best is None or ranked > self.best:  # ties go to the lower loss, then to the earlier step
            self.best, self.kept_step, self.validation = ranked, self.steps, known
            self.kept = None if last else [p.detach().to("cpu", copy=True) for _, p in self.weights]

    def _known_metrics(self) -> dict[str, float] | None:
        """What a continued run measured at this very step."""
        import json

        if self._replaying() and self.prefix is not None:
            for point in self.prefix.curve or []:
                if point["step"] == self.steps and point["metrics"] is not None:
                    return {k: float(v) for k, v in json.loads(point["metrics"]).items()}
        return None

    def _point(self, metrics: dict[str, float] | None = None) -> None:
        assert self.counter is not None
        recent, self.losses = self.losses, []
        if metrics is None and not recent:
            return
        if metrics is None and self.curve and self.curve[-1]["step"] == self.steps:
            return
        self.curve.append(
            {
                "step": self.steps,
                "forwards": self.counter.forwards,
                "backwards": self.counter.backwards,
                "seconds": self.step_clock.seconds + self.warm_clock.seconds,
                "loss": sum(recent) / len(recent) if recent else None,
                "metrics": None if metrics is None else json_text(metrics),
            }
        )

    def _show(self) -> None:
        assert self.counter is not None
        state = self.state
        state.step, state.forwards, state.memory = self.steps, self.counter.forwards, self.memory.peak
        state.seconds = self.step_clock.seconds + self.warm_clock.seconds
        self.reporter.update(state)

    def _measure_fidelity(self) -> None:
        assert isinstance(self.optimizer, ZerothOrder)
        for name, value in fidelity.measure(self.optimizer).items():
            setattr(self.row, name, value)

    # --- after the last step

    def _finish(self) -> None:
        """The kept weights, their digest, and the one look at the test rows."""
        assert self.counter is not None
        row, stopped = self.row, self.row.status != "ok"
        self.last_weights: list[Tensor] | None = None
        if self.best is None:
            self.kept_step = self.steps
        if self.kept is not None and self.kept_step != self.steps:
            self.last_weights = [p.detach().to("cpu", copy=True) for _, p in self.weights]
            with torch.no_grad():
                for (_, p), kept in zip(self.weights, self.kept, strict=True):
                    p.data.copy_(kept)
        elif stopped:
            self.kept_step = self.steps
        row.kept_step, row.final_digest = self.kept_step, digest(self.weights)
        if self.validation:
            row.validation, row.validation_metrics = self.validation[self.metric], json_text(self.validation)
        row.test_looks = 0
        if stopped:
            return
        scored = self.validation
        if self.job.score == "test" and self.row.kind != "regression":
            with self.counter.evaluation(), self.eval_clock:
                scored = self.problem.evaluate("test")
            row.test_looks = 1
        row.value, row.metrics = scored[self.metric], json_text(scored)
        if not math.isfinite(row.value):
            raise Diverged(f"the final {self.metric} is {row.value}")

    def _account(self) -> None:
        """The columns that exist however the run ended."""
        row, before = self.row, self.prefix
        row.total_seconds = time.perf_counter() - self.clock_began
        row.rss_bytes = rss_bytes()
        if self.counter is None:
            return
        self.counter.close()
        if self.losses:
            self._point()
        row.steps, row.curve = self.steps, self.curve
        row.forwards, row.backwards, row.tokens = self.counter.forwards, self.counter.backwards, self.counter.tokens
        row.eval_forwards = self.counter.eval_forwards
        row.step_seconds, row.warmup_seconds = self.step_clock.seconds, self.warm_clock.seconds
        row.eval_seconds = self.eval_clock.seconds
        done_before = (before.timed_steps or 0) if before else 0
        row.timed_steps = done_before + max(self.steps - ((before.steps or 0) if before else 0) - WARM_UP, 0)
        if before:
            row.total_seconds += before.total_seconds or 0.0
        memory = self.memory
        row.inference_bytes, row.reserved_bytes = memory.inference, memory.reserved
        row.peak_bytes = max(filter(None, (memory.peak, before.peak_bytes if before else None)), default=None)
        row.state_bytes = nbytes(state_tensors(self.optimizer))
        if isinstance(self.optimizer, ZerothOrder):
            row.probe_mode = self.optimizer.evaluator.mode
            assert self.trace is not None
            for name, value in self.trace.to_columns().items():
                setattr(row, name, value)

    def _save(self, directory: Path) -> None:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self.problem.save(directory)
        except OSError as error:
            raise EnvironmentUnmet(
                f"the run is stored, but its weights could not be saved to {directory}: {error.strerror}"
            ) from error
        self.reporter.note(f"weights saved to {directory}")

    # --- continuing a shorter run

    def _continue(self) -> None:
        """Take up the longest attempt of this lineage that the same code made and this budget has not outspent."""
        if self.place.overwrite == "always":
            return
        rows, _ = record.scan(
            self.place.store,
            (
                "lineage",
                "provenance",
                "status",
                "steps",
                "forwards",
                "backwards",
                "step_seconds",
                "warmup_seconds",
                "environment",
            ),
        )
        usable = [r for r in rows if self._usable(r)]
        for found in sorted(usable, key=lambda r: -(r["steps"] or 0)):
            path = Path(found["path"])
            row = record.read(path)
            if self._take_up(row, path):
                self.prefix, self.row.continued_from = row, path.name
                self.reporter.note(f"continuing {path.name} ({row.status}) from step {row.steps}")
                return

    def _usable(self, r: dict[str, Any]) -> bool:
        same = r["lineage"] == self.job.lineage and r["provenance"] == self.row.provenance
        if not same or r["status"] not in ("ok", "interrupted", "timeout") or not r["steps"]:
            return False
        if self.job.schedule != "constant" and r["status"] == "ok":
            return False  # the schedule depends on the whole budget: a longer run is another run
        seconds = (r["step_seconds"] or 0.0) + (r["warmup_seconds"] or 0.0)
        return self.job.budget.spent(r["steps"], r["forwards"] or 0, r["backwards"] or 0, seconds) < 1.0

    def _take_up(self, row: RunRecord, path: Path) -> bool:
        assert self.counter is not None
        if isinstance(self.optimizer, ZerothOrder):
            if self.row.replay_class == "none" or row.start_digest != self.row.start_digest or not row.trace_values:
                return False
            if self.job.schedule != "constant" and row.budget != self.row.budget:
                return False
            assert row.trace_header is not None and row.trace_counts is not None and row.trace_events is not None
            self.optimizer.driver = Replay(
                Trace.from_columns(row.trace_header, row.trace_values, row.trace_counts, row.trace_events)
            )
            self._pay(row)
            return True
        saved = checkpoint.path_of(self.place.store, self.job.lineage)
        if checkpoint.about(saved).get("run") != path.name:
            return False
        kept = checkpoint.load(saved, self.weights, self.optimizer)
        self._pay(row)
        self.steps, self.curve = row.steps or 0, [dict(p) for p in row.curve or []]
        self._restore_best(kept)
        return True

    def _pay(self, row: RunRecord) -> None:
        """What the prefix cost counts for this run too."""
        assert self.counter is not None
        self.counter.forwards, self.counter.backwards = row.forwards or 0, row.backwards or 0
        self.counter.tokens, self.counter.eval_forwards = row.tokens or 0, row.eval_forwards or 0
        self.step_clock.seconds, self.warm_clock.seconds = row.step_seconds or 0.0, row.warmup_seconds or 0.0
        self.eval_clock.seconds = row.eval_seconds or 0.0

    def _restore_best(self, kept: list[Tensor] | None) -> None:
        import json

        for point in self.curve:
            if point["metrics"] is not None:
                known = {k: float(v) for k, v in json.loads(point["metrics"]).items()}
                ranked = (self.sign * known[self.metric], -known.get("loss", 0.0))
                if self.best is None or ranked > self.best:
                    self.best, self.kept_step, self.validation = ranked, point["step"], known
        if self.best is not None and self.info.get("select", "best") == "best":
            self.kept = kept or [p.detach().to("cpu", copy=True) for _, p in self.weights]

    def _replaying(self) -> bool:
        if self.prefix is None or not isinstance(self.optimizer, ZerothOrder):
            return False
        if self.steps < (self.prefix.steps or 0):
            return True
        if isinstance(self.optimizer.driver, Replay):
            self.optimizer.driver = Live()
        return False

    def _checkpoint(self, path: Path) -> None:
        """What a larger budget needs to go on, where a trace cannot give it."""
        if isinstance(self.optimizer, ZerothOrder):
            return
        kept = None
        if self.last_weights is not None:
            kept = [p.detach().to("cpu", copy=True) for _, p in self.weights]
            with torch.no_grad():
                for (_, p), last in zip(self.weights, self.last_weights, strict=True):
                    p.data.copy_(last)
        try:
            checkpoint.save(
                checkpoint.path_of(self.place.store, self.job.lineage),
                self.weights,
                self.optimizer,
                kept,
                {"run": path.name},
            )
        except OSError as error:
            self.reporter.note(f"no checkpoint: {error.strerror}; the result is stored")
        finally:
            if kept is not None:
                with torch.no_grad():
                    for (_, p), best in zip(self.weights, kept, strict=True):
                        p.data.copy_(best)


def _number(loss: Any) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _tensors(value: Any) -> list[Tensor]:
    from torch.utils._pytree import tree_leaves

    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _out_of_memory(error: Exception) -> bool:
    text = str(error)
    return (
        isinstance(error, (MemoryError, torch.OutOfMemoryError))
        or "out of memory" in text
        or "not enough memory" in text
        or "can't allocate memory" in text
    )


@contextmanager
def _signals(stop: list[str]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks the loop to stop after this step; the second stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: Any) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.append(signal.Signals(number).name.replace("SIGINT", "Ctrl-C"))

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = [
    "Place",
    "Reporter",
    "State",
    "build",
    "execute",
    "fingerprint",
    "make_optimizer",
    "run",
    "synchronise",
    "trained",
]
