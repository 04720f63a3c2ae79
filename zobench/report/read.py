"""Stores to one table: a row per cell, with what failed beside it."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from zobench.record import Problem, scan, standing
from zobench.spec import NothingMeasured

COLUMNS = (
    *(
        "cell",
        "provenance",
        "attempt",
        "status",
        "reason",
        "task",
        "task_version",
        "task_options",
        "task_label",
        "suite",
        "kind",
    ),
    *("optimizer", "optimizer_options", "parameters", "lr_source", "order", "replay_class", "model", "revision"),
    *("adapter", "dtype", "seed", "data_seed", "budget", "batch_size", "schedule", "score", "data", "partial_data"),
    *("metric", "better", "scale", "value", "validation", "steps", "forwards", "backwards", "step_seconds"),
    *("timed_steps", "peak_bytes", "inference_bytes", "state_bytes", "probe_mode", "start_digest", "environment"),
    *("hitting", "lockstep"),
)


def load(
    stores: Iterable[Path],
    tasks: Iterable[str] | None = None,
    optimizers: Iterable[str] | None = None,
    columns: Iterable[str] = COLUMNS,
) -> tuple[pd.DataFrame, list[Problem]]:
    """The standing row of every cell in the stores, and the files that were skipped.

    Columns are `columns`, `path`, `attempts` and `failures` (see `record.standing`), dtype object: None stays None.
    `tasks` and `optimizers` are names or patterns (`kshot_*`). Raises NothingMeasured where no row is left.
    """
    stores, columns = list(stores), tuple(columns)
    rows, problems = [], []
    for store in stores:
        found, skipped = scan(store, columns)
        rows += found
        problems += skipped
    if not rows:
        places = ", ".join(map(str, stores)) or "no store"
        skipped = f" ({len(problems)} files were skipped)" if problems else ""
        raise NothingMeasured(f"no results in {places}{skipped}; make some: zobench run -t TASK -O OPTIMIZER")
    kept = [row for row in rows if _matches(row["task"], tasks) and _matches(row["optimizer"], optimizers)]
    if not kept:
        asked = ", ".join([*(tasks or []), *(optimizers or [])])
        have = ", ".join(sorted({row["task"] for row in rows})), ", ".join(sorted({row["optimizer"] for row in rows}))
        raise NothingMeasured(f"no results for {asked}; there are tasks {have[0]} and optimizers {have[1]}")
    return pd.DataFrame(standing(kept), dtype=object), problems


def _matches(name: str, patterns: Iterable[str] | None) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)
