"""A large store for benchmarks: plausible runs, made from a few committed ones in which names and numbers are changed.

python bench/make_store.py DIRECTORY COUNT [FIRST]
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import random
import sys
from pathlib import Path

from zobench import record
from zobench.record import RunRecord, json_text

RESULTS = Path(__file__).parents[1] / "results"
TEMPLATES = 12
SEEDS, RATES, OPTIMIZERS, POINTS = 5, 20, 50, 100
PART = 500


def templates() -> list[RunRecord]:
    """Finished runs with a curve, of different tasks, evenly from the committed results."""
    found: dict[str, RunRecord] = {}
    for path in sorted(RESULTS.glob("*.parquet"))[::7]:
        run = record.read(path)
        if run.status == "ok" and run.curve and any(point["metrics"] for point in run.curve):
            found.setdefault(run.task, run)
        if len(found) == TEMPLATES:
            break
    return list(found.values())


def variant(models: list[RunRecord], number: int) -> RunRecord:
    """Run `number` of a grid of tasks, optimizers, learning rates and seeds; one in fifty failed."""
    draw = random.Random(number)
    rest, seed = divmod(number, SEEDS)
    rest, rate = divmod(rest, RATES)
    task, optimizer = divmod(rest, OPTIMIZERS)
    model = models[task % len(models)]
    names = dict(optimizer=f"method-{optimizer:02}", task=f"{model.task}-{task // len(models)}", seed=seed)
    options = json_text({"eps": 1e-3, "lr": round(1e-6 * 1.5**rate, 12)})
    cell = hashlib.sha256(json_text([*names.values(), options]).encode()).hexdigest()
    failed = draw.random() < 0.02
    factor = draw.uniform(0.5, 1.0) * (0.9 + 0.1 * optimizer / OPTIMIZERS)
    changed = names | dict(
        cell=cell,
        lineage=cell,
        attempt=1,
        optimizer_options=options,
        parameters=options,
        task_label=names["task"],
        status="diverged" if failed else "ok",
        reason="the loss is not finite" if failed else None,
        value=None if failed or model.value is None else model.value * factor,
        validation=None if failed or model.validation is None else model.validation * factor,
        step_seconds=draw.uniform(1, 9),
        total_seconds=draw.uniform(10, 20),
        final_digest=hashlib.sha256(cell.encode()).hexdigest(),
        environment=json_text(json.loads(model.environment or "{}") | {"started": f"2026-01-01T00:00:{number:09}Z"}),
        curve=_curve(model, factor, draw),
        trace_values=None,  # by far the longest column, which no report reads
        trace_counts=None,
        trace_events=None,
    )
    return dataclasses.replace(model, **changed)


def _curve(model: RunRecord, factor: float, draw: random.Random) -> list[dict]:
    """A hundred evaluated points, the ranked metric of each shaken a little."""
    evaluated = [point for point in model.curve or [] if point["metrics"]]
    points = []
    for i in range(POINTS):
        point = evaluated[i * len(evaluated) // POINTS]
        metrics = json.loads(point["metrics"])
        value = metrics.get(model.metric)
        if isinstance(value, float):
            metrics[model.metric] = value * factor * draw.uniform(0.95, 1.05)
        points.append(point | dict(step=i * 20, forwards=i * 40, seconds=i * 0.1 * factor, metrics=json_text(metrics)))
    return points


def fill(job: tuple[str, int, int]) -> None:
    """Write the runs from `first` to before `last`, without the care for power cuts that real runs get."""
    store, first, last = job
    models = templates()
    for number in range(first, last):
        run = variant(models, number)
        (Path(store) / record.file_name(run)).write_bytes(record._encode(run))


def make(store: Path, count: int, first: int = 0, processes: int = 2) -> None:
    """Add runs `first` to `first + count` of the grid to a store."""
    store.mkdir(parents=True, exist_ok=True)
    if count <= PART or processes == 1:
        fill((str(store), first, first + count))
        return
    parts = [(str(store), a, min(a + PART, first + count)) for a in range(first, first + count, PART)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(fill, parts, chunksize=-(-len(parts) // (4 * processes)))


if __name__ == "__main__":
    make(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
