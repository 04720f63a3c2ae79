"""Cells side by side on this machine: a few spawned workers, each with its share of the cores, reused from cell to cell.

A worker that dies takes nothing with it: its cell becomes a row with the reason, and another worker goes on. Ctrl-C asks
every worker to stop after its step; what is done stays done.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from zobench import lockstep
from zobench.record import RunRecord
from zobench.run import Place, Reporter, State, failed
from zobench.spec import Job, ZobenchError

EVERY = 0.2  # seconds between two updates of a worker's progress
Answer = tuple[RunRecord, bool]  # the row, and whether it was found done


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def execute(jobs: Sequence[Job], place: Place, reporter: Reporter, workers: int) -> Iterator[Answer]:
    """As `run.execute`, with several workers: yields every row when it is done, in whatever order they finish."""
    groups = list(lockstep.groups(jobs)) if place.lockstep else [[job] for job in jobs]
    pool = Pool(min(workers, len(groups)), place, reporter, len(jobs))
    said = False  # by a row
    try:
        for row, found in pool.run(groups):
            said = said or row.status == "interrupted"
            yield row, found
    finally:
        pool.close()
    if pool.stopping and not said:
        raise KeyboardInterrupt


@dataclass
class Worker:
    process: Any
    pipe: Connection
    group: list[Job] | None = None  # what it is computing
    done: int = 0  # rows of the group that it has sent


class Pool:
    """Workers and the pipes to them."""

    def __init__(self, size: int, place: Place, reporter: Reporter, total: int):
        self.place, self.reporter, self.total = place, reporter, total
        self.threads = max(1, cores() // size)
        self.context = mp.get_context("spawn")
        self.stopping = False
        self.mistake: ZobenchError | None = None
        self.workers = [self._start() for _ in range(size)]

    def _start(self) -> Worker:
        ours, theirs = self.context.Pipe()
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(self.threads)  # read when the libraries load, in the child
        try:
            process = self.context.Process(target=_work, args=(theirs, self.place, self.total), daemon=True)
            process.start()
        finally:
            os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
        theirs.close()
        return Worker(process, ours)

    def run(self, groups: Sequence[list[Job]]) -> Iterator[Answer]:
        waiting, number = deque(groups), 1
        before = self._listen()
        try:
            while True:
                for worker in self.workers:
                    if worker.group is None and waiting and not self.stopping and self.mistake is None:
                        worker.group, worker.done = waiting.popleft(), 0
                        self._hand_over(worker, number)
                        number += len(worker.group)
                busy = [worker for worker in self.workers if worker.group is not None]
                if not busy:
                    if self.mistake is not None:
                        raise self.mistake  # when what was being computed beside it is done
                    return
                for ready in wait([w.pipe for w in busy], timeout=1.0):
                    yield from self._read(next(w for w in busy if w.pipe is ready), bool(waiting))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hand_over(self, worker: Worker, number: int) -> None:
        with contextlib.suppress(OSError):  # it has died since: its end of the pipe will say so when it is read
            worker.pipe.send((number, worker.group))

    def _listen(self) -> Any:
        def ask(number: int, frame: Any) -> None:
            self.stopping = True
            for worker in self.workers:
                if worker.group is not None and worker.process.is_alive():
                    worker.process.terminate()  # SIGTERM: the run stops after its step; a second one stops it at once

        return {n: signal.signal(n, ask) for n in (signal.SIGINT, signal.SIGTERM)}

    def _read(self, worker: Worker, more: bool) -> Iterator[Answer]:
        try:
            kind, *content = worker.pipe.recv()
        except (EOFError, OSError):
            yield from self._bury(worker, more)
            return
        if kind == "row":
            worker.done += 1
            row, path, reused = content
            self.reporter.end(row, path, reused)
            yield row, reused
        elif kind == "idle":
            worker.group = None
        elif kind == "mistake":
            self.mistake = self.mistake or content[0]
        else:
            getattr(self.reporter, kind)(*content)

    def _bury(self, worker: Worker, more: bool) -> Iterator[Answer]:
        """A worker has died: its unfinished cells are rows that say so, and another takes its place."""
        worker.process.join()
        group, code = worker.group or [], worker.process.exitcode
        why = (
            f"the worker was ended by {signal.Signals(-code).name}"
            if code < 0
            else f"the worker ended with code {code}"
        )
        for job in group[worker.done :]:
            row, path = failed(job, self.place, "interrupted" if self.stopping else "error", why)
            self.reporter.end(row, path, False)
            yield row, False
        if more and not self.stopping:
            self.workers[self.workers.index(worker)] = self._start()
        else:
            self.workers.remove(worker)

    def close(self) -> None:
        for worker in self.workers:
            if worker.group is not None:
                worker.process.terminate()
            worker.pipe.close()  # an idle worker ends when its pipe does
        for worker in self.workers:
            worker.process.join(timeout=10)
            if worker.process.is_alive():
                worker.process.kill()


class _Relay(Reporter):
    """Sends what a run reports to the parent, updates not too often."""

    def __init__(self, pipe: Connection):
        self.pipe, self.last, self.orphan = pipe, 0.0, False

    def send(self, *message: Any) -> None:
        """To the parent; where it is gone, the run is asked to stop, once, and ends as interrupted."""
        try:
            self.pipe.send(message)
        except OSError:
            if not self.orphan:
                self.orphan = True
                signal.raise_signal(signal.SIGTERM)

    def begin(self, state: State) -> None:
        self.send("begin", state)

    def update(self, state: State) -> None:
        import time

        if time.monotonic() - self.last > EVERY:
            self.last = time.monotonic()
            self.send("update", state)

    def note(self, text: str) -> None:
        self.send("note", text)

    def end(self, row: RunRecord, path: Any, reused: bool) -> None:
        self.send("row", row, path, reused)


def _work(pipe: Connection, place: Place, total: int) -> None:
    """A worker's life: groups of jobs come in, rows go out, until the pipe is closed."""
    from zobench.run import execute as run_here

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to everybody; the parent decides
    relay = _Relay(pipe)
    while True:
        try:
            number, group = pipe.recv()
            try:
                for _ in run_here(group, place, relay, number=number, total=total):
                    pass
            except ZobenchError as error:
                pipe.send(("mistake", error))
            pipe.send(("idle",))
        except (EOFError, OSError, KeyboardInterrupt):
            return
