"""Base and head on one machine: the same worker script in both checkouts, each in processes of its own.

Wall-clock is compared by turns. A launch starts three processes, two of base and one of head; each prepares the same job;
a round asks each for one block of steps while the others wait. The second process of base shows what difference the same
code makes: between processes (addresses, caches) and from block to block. Who starts first, and who goes first in a round,
takes all orders equally often: on a busy machine the first process to start was seen to be 2 to 3 % slower for its life.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from zobench.checkout import Checkout
from zobench.gate import Timing
from zobench.plan import Request
from zobench.registry import PACKAGE
from zobench.spec import EnvironmentUnmet, ZobenchError

WARM_UP = 4  # steps before the first block
LIVE = 8  # steps over which memory that stays is followed
MOST_STEPS = 1000  # of a block
SEED = 20260131  # of the order of the turns
ORDERS = tuple(itertools.permutations(range(3)))
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class Refused(ZobenchError):
    """A worker's answer that it cannot; `by` is the checkout, `kind` the exit code that the mistake would have."""

    def __init__(self, text: str, by: Checkout, kind: int) -> None:
        super().__init__(text)
        self.by, self.kind = by, kind


class Worker:
    """A process with a checkout's code, waiting for orders."""

    def __init__(self, checkout: Checkout, single: bool = True) -> None:
        self.checkout = checkout
        path = os.pathsep.join(filter(None, (str(checkout.root), os.environ.get("PYTHONPATH", ""))))
        environment = os.environ | {"PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"} | (THREADS if single else {})
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(PACKAGE / "worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the parent, which ends it
        )

    def greet(self) -> None:
        """Wait until it is there, and make sure that it is the checkout's code, not an installed one."""
        found = Path(self._read()["zobench"]).resolve()
        if not found.is_relative_to(self.checkout.root / "zobench"):
            raise EnvironmentUnmet(
                f"{self.checkout.name}: python imports zobench from {found.parent}, not from {self.checkout.root}; "
                "unset PYTHONPATH, or reinstall with `make venv`"
            )

    def ask(self, tell: Callable[[dict[str, Any]], None] = lambda _: None, **order: Any) -> dict[str, Any]:
        """The answer to an order; what it says before that goes to `tell`. Raises Refused, EnvironmentUnmet."""
        assert self.process.stdin is not None
        try:
            print(json.dumps(order), file=self.process.stdin, flush=True)
        except OSError:
            raise self._dead() from None
        while "row" in (answer := self._read()):
            tell(answer)
        if "error" in answer:
            raise Refused(answer["error"], self.checkout, answer["code"])
        return answer

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise self._dead()
        return json.loads(line)

    def _dead(self) -> EnvironmentUnmet:
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().splitlines()
        why = said[-1][:300] if said else f"exit code {code}"
        return EnvironmentUnmet(f"{self.checkout.name} cannot be run: its process ended: {why}")

    def close(self) -> None:
        """End it, and what it started: they are a session of their own."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(OSError):
            self.process.stdin.close()
        for number, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=patience)
        self.process.stdout.close()
        self.errors.close()


@contextmanager
def workers(*checkouts: Checkout, single: bool = True) -> Iterator[list[Worker]]:
    """A process for each checkout; all are ended, whatever happens."""
    with ExitStack() as stack:
        started: list[Worker] = []
        for one in checkouts:
            started.append(Worker(one, single))
            stack.callback(started[-1].close)
        for worker in started:
            worker.greet()
        yield started


def plain(request: Request) -> dict[str, Any]:
    """A request for a checkout that may be older: what has its default is left out."""
    values = {f.name: (getattr(request, f.name), f.default) for f in fields(request)}
    return {name: value for name, (value, default) in values.items() if value != default}


@dataclass(frozen=True)
class Planned:
    """What a checkout made of the requests. cells: of each request, None where it was refused; refused: why."""

    cells: Sequence[Sequence[str] | None]
    refused: Mapping[int, str]


def run(
    checkout: Checkout,
    requests: Sequence[Request],
    store: Path,
    *,
    device: str = "auto",
    timeout: float | None = None,
    workers_: int = 1,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Planned:
    """Run the requests with the checkout's code, into the store.

    Raises EnvironmentUnmet where that code cannot be run; a request that it does not understand is refused, no more.
    """
    order = {"requests": [plain(r) for r in requests], "store": str(store), "device": device, "timeout": timeout}
    with workers(checkout, single=False) as (worker,):
        try:
            answer = worker.ask(lambda a: tell(*a["row"]), do="run", **order, workers=workers_)
        except Refused as error:
            raise EnvironmentUnmet(f"{checkout.name} cannot be run by this zobench: {error}") from None
    return Planned(answer["cells"], {int(k): v for k, v in answer["refused"].items()})


@dataclass
class Paired:
    """Seconds of a step, (launches, rounds) each, of base, of base again and of head; why, where there are none.

    kept: bytes that tensors held after each step, by base and by head.
    """

    request: Request
    base: list[list[float]] = field(default_factory=list)
    again: list[list[float]] = field(default_factory=list)
    head: list[list[float]] = field(default_factory=list)
    steps: int = 0  # of a block
    kept: tuple[list[int], list[int]] | None = None
    same_cell: bool = True
    refused: Refused | None = None

    @property
    def label(self) -> str:
        model = f" {self.request.model}" if self.request.model else ""
        return f"{self.request.tasks[0]} {self.request.optimizers[0]}{model}"


def keep(base: Checkout, head: Checkout, requests: Sequence[Request], device: str = "auto") -> list[Paired]:
    """What tensors hold after each of the first steps, in base and in head."""
    found = [Paired(request) for request in requests]
    with workers(base, head) as sides:
        for pair in found:
            order = {"do": "prepare", "request": plain(pair.request), "device": device, "steps": WARM_UP}
            try:
                made = [side.ask(**order)["cell"] for side in sides]
                pair.same_cell = made[0] == made[1]
                first, second = (side.ask(do="live", steps=LIVE)["bytes"] for side in sides)
                pair.kept = first, second
            except Refused as error:
                pair.refused = error
    return found


def measure(
    base: Checkout,
    head: Checkout,
    requests: Sequence[Request],
    timing: Timing,
    *,
    device: str = "auto",
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> list[Paired]:
    """The times of every request, launches x rounds blocks of each side; the numbers do not depend on what is seen."""
    found = [Paired(request) for request in requests]
    turns = random.Random(SEED)
    for launch in range(timing.launches):
        order = ORDERS[launch % len(ORDERS)]
        with workers(*((base, base, head)[role] for role in order)) as started:
            sides = dict(zip(order, started, strict=True))
            for number, pair in enumerate(found):
                if pair.refused is None:
                    _launch(pair, sides, timing, turns, device)
                tell(launch * len(found) + number + 1, timing.launches * len(found))
    return found


def _launch(pair: Paired, sides: Mapping[int, Worker], timing: Timing, turns: random.Random, device: str) -> None:
    """One launch of one request: prepare it on all sides, then the rounds. Sides: 0 is base, 1 base again, 2 head."""
    order = {"do": "prepare", "request": plain(pair.request), "device": device, "steps": WARM_UP}
    try:
        ready = {role: side.ask(**order) for role, side in sides.items()}
        pair.same_cell = ready[0]["cell"] == ready[2]["cell"]
        pair.steps = pair.steps or min(max(1, round(timing.seconds / ready[0]["seconds"])), MOST_STEPS)
        times: list[list[float]] = [[], [], []]
        orders = [ORDERS[n % len(ORDERS)] for n in range(timing.rounds)]
        for turn in turns.sample(orders, len(orders)):
            for side in turn:
                times[side].append(sides[side].ask(do="steps", steps=pair.steps)["seconds"])
    except Refused as error:
        pair.refused = error
        return
    for kept, new in zip((pair.base, pair.again, pair.head), times, strict=True):
        kept.append(new)
