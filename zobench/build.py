"""Names -> live objects: the device, the problem with its model, the optimizer on its parameters."""

from __future__ import annotations

import inspect
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zobench import foreign, registry
from zobench.core.info import cost, evaluate, rate
from zobench.core.zeroth_order import ZerothOrder
from zobench.spec import EnvironmentUnmet, Job, Setting, UsageError

TRIAL = 1000  # steps over which the cost of one is averaged, where a schedule ends with the budget


class Names:
    """What data and models are called in a cell: by content where they are local, by commit where they are on the hub."""

    def data(self, entry: registry.Entry, data_dir: str | None) -> str:
        from zobench.problems.data import locate

        return locate(entry.info, Path(data_dir) if data_dir else None).fingerprint

    def model(self, model: str, revision: str | None) -> tuple[str, str | None, str | None]:
        from zobench.models.identity import identify

        return identify(model, revision)


class OfflineNames(Names):
    """For a plan that must not touch the network: local things are named as ever, the hub's stay unresolved."""

    def data(self, entry: registry.Entry, data_dir: str | None) -> str:
        try:
            with _offline():
                return super().data(entry, data_dir)
        except EnvironmentUnmet:
            if data_dir or "hub" not in entry.info:
                raise
            return f"hub:{entry.info['hub']['id']}@unresolved"

    def model(self, model: str, revision: str | None) -> tuple[str, str | None, str | None]:
        try:
            with _offline():
                return super().model(model, revision)
        except EnvironmentUnmet:
            return model, revision or "unresolved", None


@contextmanager
def _offline() -> Iterator[None]:
    """The hub's library reads the environment once, at its import: what it read then is changed, too."""
    name, before = "HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE")
    loaded = sys.modules.get("huggingface_hub.constants")
    was = loaded.HF_HUB_OFFLINE if loaded else (before or "").upper() in ("1", "ON", "YES", "TRUE")
    os.environ[name] = "1"
    if loaded:
        loaded.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        os.environ.pop(name, None) if before is None else os.environ.update({name: before})
        if loaded := sys.modules.get("huggingface_hub.constants"):
            loaded.HF_HUB_OFFLINE = was  # type: ignore[attr-defined]


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


def make_problem(job: Job, device: torch.device) -> Any:
    """The job's problem, its model on the device. torch's generator starts at the job's seed, for tasks that use it."""
    torch.manual_seed(job.seed)
    task = registry.find("task", job.task_path or job.task)
    setting = Setting(
        model=job.model_path or job.model,
        revision=None if job.model_path else job.revision,
        adapter=job.adapter,
        dtype=job.dtype,
        device=str(device),
        seed=job.seed,
        data_seed=job.data_seed,
        batch_size=job.batch_size,
        score=job.score,
        data=job.data,
        data_dir=Path(job.data_dir) if job.data_dir else None,
        quantised=job.quantised,
    )
    return registry.load(task).build(setting, **job.task_options)


class Finished(Exception):
    """A reference line has no further iterate: it has converged, or it was one solve."""


class Baseline:
    """A baseline in the place of an optimizer."""

    def __init__(self, problem: Any) -> None:
        self.problem = problem
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Any, Any] = {}

    def step(self, closure: Any = None) -> float:
        """A loss; raises Finished where there is nothing more to do."""
        raise NotImplementedError

    def counts(self, forwards: int, backwards: int) -> tuple[int, int]:
        """(forwards, backwards) that it asked for; given are those that the model counted."""
        return forwards, backwards


class Preparation(Baseline):
    """What is done to a language task before it is evaluated, in no step: `prepare(problem)`."""

    def __init__(self, problem: Any, prepare: Callable[[], None]) -> None:
        super().__init__(problem)
        self.prepare = prepare

    def step(self, closure: Any = None) -> float:
        """Prepare the problem, and raise Finished."""
        del closure
        self.prepare()
        raise Finished


class ReferenceLine(Baseline):
    """A baseline of regressions: each `step` writes its next iterate into the model."""

    def __init__(self, problem: Any, iterates: Iterator[torch.Tensor]) -> None:
        super().__init__(problem)
        self.iterates = iterates

    def step(self, closure: Any = None) -> float:
        """The loss at the next iterate, out of band; raises Finished where there is none."""
        del closure
        try:
            x = next(self.iterates)
        except StopIteration:
            raise Finished from None
        return self.problem.place(x)

    def counts(self, forwards: int, backwards: int) -> tuple[int, int]:
        """Those of the objective's oracle."""
        del forwards, backwards
        return self.problem.oracle.forwards, self.problem.oracle.backwards


def make_baseline(entry: registry.Entry, job: Job, problem: Any) -> Baseline:
    """The baseline on this problem; UsageError where it does not serve it."""
    if entry.builder == "prepare":
        prepare = registry.load(entry).prepare
        return Preparation(problem, lambda: prepare(problem, seed=job.seed, **job.optimizer_options))
    if not hasattr(problem, "oracle"):
        raise UsageError(f"{entry.name} is a reference line for the synthetic tasks; {job.task} is none")
    problem.oracle.counts.clear()
    return ReferenceLine(
        problem, registry.load(entry).solve(problem, problem.oracle.start(), seed=job.seed, **job.optimizer_options)
    )


def make_optimizer(
    job: Job, problem: Any, named: list[tuple[str, nn.Parameter]] | None = None, seed: int | None = None
) -> tuple[Any, dict[str, Any], str | None]:
    """(optimizer, its parameters as used, where the lr came from).

    named, seed: parameters and seed in the place of the model's and the job's, for a zeroth-order optimizer.
    """
    entry = registry.find("optimizer", job.optimizer_path or job.optimizer)
    options, source = dict(job.optimizer_options), "default"
    if entry.kind == "baseline":
        return make_baseline(entry, job, problem), options, None
    if options.get("lr") == "task":
        d = sum(p.numel() for _, p in trained(problem.model))
        options["lr"], source = rate(entry.info, options, problem.rates, d), "task"
    elif options.get("lr") != entry.options.get("lr"):
        source = "given"
    if ends_with_run(entry, options):
        options["total_steps"] = total_steps(job, entry.info, options)
    if entry.foreign:
        return foreign.make(entry, [p for _, p in trained(problem.model)], options), options, source
    cls = registry.optimizer_class(entry)
    try:
        if issubclass(cls, ZerothOrder):
            optimizer = cls(named or problem.model, **options, seed=job.seed if seed is None else seed)
        else:
            given = {"seed": job.seed} if "seed" in inspect.signature(cls).parameters else {}
            optimizer = cls(trained(problem.model), **options, **given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"optimizer {entry.name}: {error}") from error
    return optimizer, options, source


def ends_with_run(entry: registry.Entry, options: Mapping[str, Any]) -> bool:
    """Whether it has a schedule that ends with the run: `total_steps` is 0, and the formula `ends` of INFO, if any, holds."""
    known = {**entry.common, **entry.options, **options}
    return known.get("total_steps") == 0 and bool(evaluate(entry.info.get("ends", "1"), known))


def total_steps(job: Job, info: Mapping[str, Any], options: Mapping[str, Any]) -> int:
    """How many steps the budget allows, for a method whose schedule ends with it."""
    if job.budget.kind == "steps":
        return int(job.budget.amount)
    if job.budget.kind in ("time", "flops"):
        raise UsageError("its schedule ends with the run: give a budget in steps or forwards, or total_steps=N")
    trial = {**options, "total_steps": TRIAL}  # the cost of a step may follow the schedule
    mean = sum(cost(info, trial, t).equivalents for t in range(TRIAL)) / TRIAL
    return max(math.ceil(job.budget.amount / mean), 1)


def trained(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]
