"""Contenders timed in turn, so that whatever else the machine does falls on all of them alike.

A benchmark is one pytest-benchmark test whose round runs every contender once. Ratios are taken within a round and the
median over rounds is reported; seconds are kept beside them for context and mean nothing on another day.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from zobench.plan import versions

FOLDER = Path(__file__).parents[1] / "results" / "bench"
ROUNDS = int(os.environ.get("ZOBENCH_BENCH_ROUNDS", "9"))


class Rounds:
    """Seconds of every contender in every round."""

    def __init__(self, contenders: Mapping[str, Callable[[], Any]]):
        self.contenders = contenders
        self.seconds: dict[str, list[float]] = {name: [] for name in contenders}
        self.cpu: dict[str, list[float]] = {name: [] for name in contenders}  # of all threads of the process
        self.warm = False

    def __call__(self) -> None:
        names = list(self.contenders)
        shift = len(self.seconds[names[0]]) % len(names)  # each contender is first once in a while
        for name in names[shift:] + names[:shift]:
            begin, spent = time.perf_counter(), time.process_time()
            self.contenders[name]()
            if self.warm:
                self.seconds[name].append(time.perf_counter() - begin)
                self.cpu[name].append(time.process_time() - spent)
        self.warm = True

    def ratio(self, above: str, below: str) -> dict[str, float]:
        """Median, lowest and highest of above / below, each within one round; `cpu`: the same in CPU seconds.

        On a machine that does other work too, the CPU seconds are the steadier of the two.
        """
        values = [a / b for a, b in zip(self.seconds[above], self.seconds[below], strict=True)]
        cpu = statistics.median(a / b for a, b in zip(self.cpu[above], self.cpu[below], strict=True))
        return {"median": statistics.median(values), "lowest": min(values), "highest": max(values), "cpu": cpu}


def interleave(benchmark: Any, contenders: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> Rounds:
    """Run each contender once to warm up and `rounds` times for the record."""
    timed = Rounds(contenders)
    benchmark.pedantic(timed, rounds=rounds, iterations=1, warmup_rounds=1)
    return timed


def shown(value: dict[str, float]) -> str:
    cpu = f", in CPU seconds {value['cpu']:.3f}" if "cpu" in value else ""
    return f"{value['median']:.3f}{cpu}"


def goal(name: str, what: str, value: float | dict[str, float], relation: str, bound: float) -> dict[str, Any]:
    """One line of the table: what was measured against what, and the bound that it should keep."""
    spread = value if isinstance(value, dict) else {"median": value, "lowest": value, "highest": value}
    met = spread["median"] >= bound if relation == ">=" else spread["median"] <= bound
    print(f"\n  {name}: {shown(spread)}  (goal {relation} {bound:g}: {'met' if met else 'MISSED'})", flush=True)
    return dict(name=name, what=what, **spread, goal=f"{relation} {bound:g}", met=met)


def context(name: str, what: str, value: dict[str, float]) -> dict[str, Any]:
    """A line without a goal."""
    print(f"\n  {name}: {shown(value)}", flush=True)
    return dict(name=name, what=what, **value, goal=None, met=None)


def save(name: str, lines: list[dict[str, Any]], timed: Rounds | None = None, **facts: Any) -> None:
    """Write results/bench/NAME.json."""
    machine = dict(
        date=datetime.now(UTC).date().isoformat(),
        platform=platform.platform(terse=True),
        processor=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        torch_threads=torch.get_num_threads(),
        load_1min=round(os.getloadavg()[0], 2),
        versions=versions(),
    )
    seconds = {} if timed is None else {k: dict(wall=v, cpu=timed.cpu[k]) for k, v in timed.seconds.items()}
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(name=name, lines=lines, seconds=seconds, facts=facts, machine=machine), indent=1)
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
