"""Stores to one table: a row per cell, with what failed beside it."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zobench.record import Problem, contradictions, standing
from zobench.report import index
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
    *("hitting", "lockstep", "lineage", "kept_step", "num_dev", "num_test", "total_seconds", "weight_bytes"),
    *("process_bytes", "flops", "energy_joules"),
    *("restore_drift", "probe_cosine", "probe_unmoved", "lost_updates", "update_gain"),
)


# What tells runs of one cell apart, and which of them stands.
IDENTITY = (
    *("cell", "provenance", "attempt", "status", "reason", "partial_data", "budget", "value", "validation"),
    *("steps", "step_seconds", "total_seconds", "final_digest", "environment"),
)


def load(
    stores: Iterable[Path],
    tasks: Iterable[str] | None = None,
    optimizers: Iterable[str] | None = None,
    columns: Iterable[str] = COLUMNS,
) -> tuple[pd.DataFrame, list[Problem]]:
    """The standing row of every cell in the stores, and what is wrong with files: skipped ones, and contradictory ones.

    Columns are `columns` (of `index.COLUMNS`: the light ones of a record, and `points`), `path`, `attempts` and `failures`
    (see `record.standing`), dtype object: None stays None. `tasks` and `optimizers` are names or patterns (`kshot_*`).
    Raises NothingMeasured where no row is left.
    """
    stores, columns = list(stores), tuple(columns)
    wanted = tuple(dict.fromkeys((*columns, *IDENTITY, "task", "optimizer")))
    frames, problems = [], []
    for store in stores:
        frame, skipped = index.scan(store, wanted)
        frames.append(frame)
        problems += skipped
    if not sum(map(len, frames)):
        raise NothingMeasured(_nothing(stores, problems))
    rows = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    matched = _matches(rows["task"], tasks) & _matches(rows["optimizer"], optimizers)
    if not matched.any():
        asked = ", ".join([*(tasks or []), *(optimizers or [])])
        have = ", ".join(sorted(set(rows["task"]))), ", ".join(sorted(set(rows["optimizer"])))
        raise NothingMeasured(f"no results for {asked}; there are tasks {have[0]} and optimizers {have[1]}")
    kept = rows if matched.all() else rows[matched].reset_index(drop=True)
    table, contradictory = _standing(kept)
    return pd.DataFrame(table[[*columns, "path", "attempts", "failures"]]), problems + contradictory


def _nothing(stores: list[Path], problems: list[Problem]) -> str:
    places = ", ".join(map(str, stores)) or "no store"
    skipped = ""
    if problems:
        count = "1 file was" if len(problems) == 1 else f"{len(problems)} files were"
        skipped = f" ({count} skipped: {problems[0].path}: {problems[0].why}{' ...' if len(problems) > 1 else ''})"
    return f"no results in {places}{skipped}; make some: zobench run -t TASK -O OPTIMIZER"


def _matches(names: pd.Series, patterns: Iterable[str] | None) -> np.ndarray:
    if patterns is None:
        return np.full(len(names), True)
    patterns = tuple(patterns)
    wanted = {name for name in set(names) if any(fnmatchcase(name, pattern) for pattern in patterns)}
    return names.isin(wanted).to_numpy(bool)


def _standing(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[Problem]]:
    """As `record.standing`, which need only see the cells that have several rows; and the contradictions among those."""
    several = rows["cell"].duplicated(keep=False).to_numpy()
    found = rows.loc[several, [*IDENTITY, "path"]]
    records = [dict(zip(found.columns, values, strict=True)) for values in zip(*(found[c] for c in found), strict=True)]
    position = dict(zip(found["path"], found.index, strict=True))
    chosen = standing(records)
    alone = np.flatnonzero(~several)
    places = np.concatenate([alone, np.array([position[row["path"]] for row in chosen], int)])
    attempts = _objects([1] * len(alone) + [row["attempts"] for row in chosen])
    failures = _objects([[] for _ in alone] + [row["failures"] for row in chosen])
    order = np.argsort(rows["cell"].to_numpy(object)[places], kind="stable")
    table = rows.iloc[places[order]].reset_index(drop=True)
    return table.assign(attempts=attempts[order], failures=failures[order]), contradictions(records)


def _objects(values: list[Any]) -> np.ndarray:
    """An array of the very objects: numpy would make a table of lists of one length."""
    array = np.empty(len(values), object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries; of columns of objects, which need none of the boxing of `to_dict`."""
    names = [str(name) for name in frame.columns]
    columns = [frame[name].to_numpy(dtype=object) for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
