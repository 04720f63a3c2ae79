"""Choosing settings: every point of a grid as a trial scored on validation, the best one then scored on test.

The test rows are not read by a trial. The best has the best metric on validation; ties go to the lower validation loss, then
to the earlier point. Where several tasks share a setting (the splits of a k-shot task), it is the mean over them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zobench import plan, record, registry, suite
from zobench.record import RunRecord
from zobench.spec import Job, UsageError


@dataclass
class Study:
    """One row of a suite: its points, and what they came to."""

    row: suite.Row
    points: list[dict[str, Any]]
    trials: list[list[Job]]  # of each point; empty where there is nothing to choose
    chosen: int | None = None
    final: list[Job] = field(default_factory=list)
    edge: list[str] = field(default_factory=list)  # options whose chosen value is the largest or smallest of its grid

    @property
    def name(self) -> str:
        """What it tunes, in one line; the tasks that share the setting together."""
        entry, options = _task(self.row.tasks[0])
        shared = [_task(task)[1] for task in self.row.tasks]
        kept = {k: v for k, v in options.items() if all(other.get(k) == v for other in shared)}
        return f"{suite.text(entry, kept)} {self.row.optimizer} {self.row.adapter}"

    @property
    def setting(self) -> dict[str, Any]:
        """The chosen point, one value of each grid."""
        return {} if self.chosen is None else self.points[self.chosen]


def _task(text: str) -> tuple[str, dict[str, Any]]:
    return registry.parse(text)


def study(row: suite.Row, names: plan.Names, trials: int | None = None) -> Study:
    """The study of a row. trials: at most so many points of its grid, spread evenly over it.

    Its trials have the first of the seeds that the chosen setting is run with.
    """
    points = spread(row.points(), trials)
    first = str(plan.seeds(str(row.asked.get("seeds", "0")))[0])
    asked = dict(score="validation", seeds=f"{first},")
    jobs = [plan.jobs(row.request(point, **asked), names) for point in points] if len(points) > 1 else []
    made = Study(row, points, jobs)
    if len(points) == 1:
        choose(made, 0, names)
    return made


def spread(points: Sequence[dict[str, Any]], most: int | None) -> list[dict[str, Any]]:
    """At most so many, the first and the last among them; one alone is the first.

    >>> spread([dict(lr=lr) for lr in (1, 2, 3, 4, 5)], 3)
    [{'lr': 1}, {'lr': 3}, {'lr': 5}]
    """
    if most is not None and most < 1:
        raise UsageError(f"trials {most}: must be at least 1")
    if most is None or len(points) <= most:
        return list(points)
    if most == 1:
        return [points[0]]
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def choose(made: Study, number: int, names: plan.Names) -> None:
    """Take this point: the runs that are scored on the suite's split, and which values lie at an end of their grid."""
    made.chosen = number
    made.final = plan.jobs(made.row.request(made.points[number]), names)
    for key, value in made.points[number].items():
        values = {point[key] for point in made.points}
        if len(values) > 1 and not isinstance(value, str) and value in (min(values), max(values)):
            made.edge.append(
                f"{key}={value} is the {'smallest' if value == min(values) else 'largest'} of {len(values)}"
            )


def best(made: Study, rows: Mapping[str, RunRecord]) -> int | None:
    """The number of the best point by its trials' rows, by cell; None where every one failed."""
    ranked = [(_quality([rows.get(job.cell) for job in jobs]), number) for number, jobs in enumerate(made.trials)]
    finite = [pair for pair in ranked if pair[0][0] < math.inf]
    return min(finite)[1] if finite else None


def _quality(rows: Sequence[RunRecord | None]) -> tuple[float, float]:
    """Lower is better: the mean metric, its sign turned where higher is better, then the mean loss; inf where one failed."""
    if any(row is None or row.status != "ok" or row.value is None for row in rows):
        return math.inf, math.inf
    done = [row for row in rows if row is not None]
    value = sum(row.value or 0.0 for row in done) / len(done)
    losses = [json.loads(row.validation_metrics or "{}").get("loss", math.inf) for row in done]
    loss = sum(float(x) for x in losses) / len(losses)
    signed = value if done[0].better == "lower" else -value
    return (math.inf if math.isnan(signed) else signed), (math.inf if math.isnan(loss) else loss)


def diverged(jobs: Iterable[Job], store: Path) -> dict[str, RunRecord]:
    """cell -> row of those trials that have diverged in this store with this code: what would happen again."""
    if not store.is_dir():
        return {}
    rows, _ = record.scan(store, ("cell", "provenance", "status", "attempt"))
    last: dict[str, Any] = {}
    for row in sorted(rows, key=lambda r: r["attempt"]):
        last[row["cell"]] = row
    found = {}
    for job in jobs:
        row = last.get(job.cell)
        if row is not None and row["status"] == "diverged" and row["provenance"] == plan.provenance(job):
            found[job.cell] = record.read(Path(row["path"]))
    return found


Run = Callable[[Sequence[Job]], Iterable[tuple[RunRecord, bool]]]


def run(
    studies: Sequence[Study], names: plan.Names, execute: Run, store: Path, again: bool = False
) -> dict[str, RunRecord]:
    """All trials, the choices, then all chosen settings; returns cell -> row. Stops after an interrupted run.

    again: diverged trials of the store are repeated, too.
    """
    trials = _distinct(job for one in studies for jobs in one.trials for job in jobs)
    rows = {} if again else diverged(trials, store)
    if _stopped(rows, execute([job for job in trials if job.cell not in rows])):
        return rows
    for one in studies:
        if one.chosen is None and (number := best(one, rows)) is not None:
            choose(one, number, names)
    _stopped(rows, execute(_distinct(job for one in studies for job in one.final)))
    return rows


def _distinct(jobs: Iterable[Job]) -> list[Job]:
    return list({job.cell: job for job in jobs}.values())


def _stopped(rows: dict[str, RunRecord], answers: Iterable[tuple[RunRecord, bool]]) -> bool:
    """Collect the rows; whether one was interrupted."""
    stopped = False
    for row, _ in answers:
        rows[row.cell] = row
        stopped = stopped or row.status == "interrupted"
    return stopped
