"""What `zobench regress` starts with another checkout's code: it runs jobs, or times steps, as it is told.

Started as a script, from this checkout, with PYTHONPATH naming the other: so it may use only what older ones have, too.
One JSON object a line: orders come in on stdin, answers go out on stdout; what a library prints goes to stderr.

    {"do": "run", "requests": [...], "store": DIR, "device": D, "timeout": s, "workers": n}
        -> {"row": [number, total]} for each, then {"cells": [[cell, ...] | null for each request], "refused": {number: why}}
    {"do": "prepare", "request": {...}, "device": D, "steps": n} -> {"cell": ..., "seconds": of a step}
    {"do": "steps", "steps": n}                                  -> {"seconds": of a step}
    {"do": "live", "steps": n}                                   -> {"bytes": [held in tensors after each step]}

On CPU `seconds` are wall-clock less the time in which the thread could have run and waited for a core, where Linux counts
that (/proc/thread-self/schedstat): work of others on the machine is not ours. Sleeping is.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def waited() -> int:
    """Nanoseconds in which this thread was ready and no core was free; 0 where the system does not count them."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def clock() -> int:
    """Nanoseconds of wall-clock less those of waiting, both of one moment: between the two nobody took the core."""
    while True:
        before, now = waited(), time.perf_counter_ns()
        if waited() == before:
            return now - before


def plan(request: dict[str, Any]) -> list[Any]:
    """The jobs of a request, as this checkout plans them."""
    from zobench import plan
    from zobench.build import Names

    tasks, optimizers = request["tasks"], request["optimizers"]
    rest = {k: v for k, v in request.items() if k not in ("tasks", "optimizers")}
    return plan.jobs(plan.request(tasks, optimizers, **rest), Names())


def run(order: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """Run every request and store the rows."""
    from zobench.run import Place, execute
    from zobench.spec import UsageError, ZobenchError

    planned: list[list[Any] | None] = []
    refused: dict[str, str] = {}
    for number, request in enumerate(order["requests"]):
        try:
            planned.append(plan(request))
        except UsageError as error:
            planned.append(None)
            refused[str(number)] = str(error)
    jobs = [job for found in planned for job in found or ()]
    place = Place(store=Path(order["store"]), device=order["device"], timeout=order["timeout"], overwrite="always")
    rows: Any
    if order["workers"] > 1 and len(jobs) > 1:
        from zobench.launch import local
        from zobench.run import Reporter

        rows = local.execute(jobs, place, Reporter(), order["workers"])
    else:
        rows = execute(jobs, place)
    try:
        for number, _ in enumerate(rows, 1):
            tell(row=[number, len(jobs)])
    except ZobenchError as error:
        return {"error": str(error), "code": error.code}
    return {"cells": [None if found is None else [job.cell for job in found] for found in planned], "refused": refused}


class Steps:
    """One job, prepared: its steps are taken when they are asked for."""

    def __init__(self, request: dict[str, Any], device: str) -> None:
        from zobench import registry
        from zobench.build import make_optimizer, make_problem, resolve_device

        (self.job,) = plan(request)[:1]
        self.device = resolve_device(device)
        self.problem = make_problem(self.job, self.device)
        self.optimizer = make_optimizer(self.job, self.problem)[0]
        info = registry.find("optimizer", self.job.optimizer_path or self.job.optimizer).info
        self.problem.model.train(info.get("mode", "train") == "train")
        self.done = 0

    def closure(self, batch: Any) -> Callable[..., Any]:
        """As the loop's (zobench/run.py), without its counting."""
        import torch

        parts = {None: batch}

        def loss(batch: Any = None) -> Any:
            if torch.is_grad_enabled():
                self.optimizer.zero_grad(set_to_none=True)
            if batch not in parts:
                parts[batch] = self.problem.batch(self.done, batch)
            value = self.problem.loss(parts[batch])
            if value.requires_grad:
                value.backward()
            return value

        return loss

    def step(self) -> None:
        self.optimizer.step(self.closure(self.problem.batch(self.done)))
        self.done += 1

    def now(self) -> int:
        """Nanoseconds; on a GPU plain wall-clock, because it works on while the process waits."""
        return clock() if self.device.type == "cpu" else time.perf_counter_ns()

    def timed(self, steps: int) -> float:
        """Seconds of one of `steps` steps; batches are made before the clock starts, garbage is collected before it."""
        from zobench.meters import synchronise

        batches = [self.problem.batch(self.done + i) for i in range(steps)]
        gc.collect()
        gc.disable()
        try:
            synchronise(self.device)
            before = self.now()
            for batch in batches:
                self.optimizer.step(self.closure(batch))
                self.done += 1
            synchronise(self.device)
            spent = (self.now() - before) / 1e9
        finally:
            gc.enable()
        return spent / steps

    def live(self, steps: int) -> list[int]:
        """Bytes that tensors hold after each step: on CUDA the allocator's, on CPU of storages made since the first."""
        import torch

        from zobench.meters import StorageTracker

        found = []
        tracker = StorageTracker()
        for _ in range(steps):
            if self.device.type == "cuda":
                self.step()
            else:
                with tracker:
                    self.step()
            gc.collect()
            found.append(torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else tracker.total)
        return found


def obey(order: dict[str, Any], held: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """The answer to one order."""
    if order["do"] == "run":
        return run(order, tell)
    if order["do"] == "prepare":
        gc.unfreeze()
        held.clear()  # the last job's memory goes first
        gc.collect()
        steps = held["steps"] = Steps(order["request"], order["device"])
        for _ in range(order["steps"]):
            steps.step()
        gc.collect()
        gc.freeze()  # what is there by now stays: collecting between blocks looks at the new alone
        return {"cell": steps.job.cell, "seconds": sorted(steps.timed(2) for _ in range(3))[1]}
    if order["do"] == "steps":
        return {"seconds": held["steps"].timed(order["steps"])}
    return {"bytes": held["steps"].live(order["steps"])}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    import zobench

    tell(zobench=zobench.__file__)
    held: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            tell(**obey(json.loads(line), held, tell))
        except BrokenPipeError:
            return
        except Exception as error:
            if os.environ.get("ZOBENCH_DEBUG"):
                raise
            tell(error=f"{type(error).__name__}: {error}", code=getattr(error, "code", 1))


if __name__ == "__main__":
    main()
