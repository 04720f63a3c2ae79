"""`zobench report` from the shell: a thousand runs with nothing prepared, and many from the index of their store with 1 % new.

ZOBENCH_BENCH_RUNS=100000 makes the second one as large as its goal says (about 2.5 GB under the directory for temporary
files, and several minutes to make). ZOBENCH_BENCH_STORE names a store that bench/make_store.py has made already.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from make_store import make
from side_by_side import context, goal, save

from zobench.report import index

RUNS = int(os.environ.get("ZOBENCH_BENCH_RUNS", "10000"))
LARGE = 100_000  # runs of the goals of the second benchmark
ROUNDS = 3


def report(store: Path) -> tuple[float, float]:
    """Seconds from start to exit, and the peak of the process's memory in GB."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "zobench", "report", str(store)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return time.perf_counter() - begin, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def forget(store: Path) -> None:
    shutil.rmtree(store / index.FOLDER, ignore_errors=True)


@pytest.fixture(scope="module")
def lines():
    return []


def test_a_thousand_runs_cold(benchmark, tmp_path, lines):
    make(tmp_path, 1000)
    found = []
    benchmark.pedantic(lambda: found.append(report(tmp_path)), setup=lambda: forget(tmp_path), rounds=ROUNDS)
    seconds = spread([seconds for seconds, _ in found])
    lines.append(goal("report 1,000 runs, cold", "seconds, start of Python included, no index", seconds, "<=", 4.0))
    save("report", lines)


def test_many_runs_warm_and_one_percent_new(benchmark, tmp_path, lines):
    store = Path(os.environ.get("ZOBENCH_BENCH_STORE") or tmp_path)
    if not any(store.glob("*.parquet")):
        make(store, RUNS)
        time.sleep(index.TICK / 1e9 + 1)  # files of the last tick have no entry
    runs = sum(1 for _ in store.glob("*.parquet"))
    new, found = runs // 100, []
    forget(store)
    cold, cold_memory = report(store)

    def add() -> None:
        make(store, new, first=runs + new * len(found))

    benchmark.pedantic(lambda: found.append(report(store)), setup=add, rounds=ROUNDS)
    seconds, memory = (spread([pair[i] for pair in found]) for i in range(2))
    size = sum(path.stat().st_size for path in (store / index.FOLDER).iterdir())
    name = f"report {runs:,} runs"
    what = "seconds, from the index and 1 % new files, curves included"
    if runs >= LARGE:
        lines.append(goal(f"{name}, warm", what, seconds, "<=", 20.0))
        lines.append(goal(f"{name}, warm, memory", "peak of the process in GB", memory, "<=", 2.0))
    else:
        lines.append(context(f"{name}, warm", what, seconds))
        lines.append(context(f"{name}, warm, memory", "peak of the process in GB", memory))
    lines.append(context(f"{name}, cold", "seconds, no index", spread([cold])))
    save("report", lines, runs=runs, new=new, index_bytes=size, cold_gigabytes=cold_memory)
