"""What was tried on validation before a setting was chosen: how many trials, at which values, and whether the chosen one
lies on the edge of them.

Trials are the runs scored on validation in the stores, and the lines of `<store>/tuning/*.csv`: columns task, optimizer, lr,
metric, value, status; factor (1: the task's own rate) and any of model, adapter, dtype, budget where they are known.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zobench.record import Problem, json_text, plain
from zobench.report import stats

CLOSE = 1e-9  # relative: values that were written out and read back are the same value
COLUMNS = ("task", "optimizer", "lr", "value", "status")  # that a CSV must have
# What a trial shares with the run that it was made for, besides the options of the task.
SHARED = ("task", "task_version", "model", "revision", "adapter", "dtype", "budget", "batch_size", "data")
NARROWING = ("model", "adapter", "dtype", "budget")  # of a CSV, where it has them
# What a CSV does not say of its metric, where no run tells.
HIGHER = ("accuracy", "f1", "em", "exact_match", "mcc", "matthews", "pearson", "spearman")
LOG = ("relative_gap",)

Record = Mapping[str, Any]
Conditions = tuple[Any, ...]


class _Run(Protocol):
    @property
    def cell(self) -> str: ...


class Row(Protocol):
    """What is needed of a row of the board."""

    @property
    def optimizer(self) -> str: ...
    @property
    def options(self) -> dict[str, Any]: ...
    @property
    def runs(self) -> Sequence[_Run]: ...


@dataclass(frozen=True)
class Setting:
    """One point of the grid: the options that were tried, and the mean of its trials on validation."""

    options: dict[str, Any]  # as used; a rate that the task set differently from run to run is "task"
    value: float | None  # None: at least one of its trials failed
    statuses: tuple[str, ...]  # of its trials
    task_rate: bool = False  # lr was left to the task


@dataclass(frozen=True)
class Tried:
    """What was tried of one optimizer under one set of conditions, and what the row that was asked for uses."""

    task: str
    optimizer: str
    model: str | None
    adapter: str | None
    budget: str | None  # None: the CSV does not say
    metric: str | None
    better: str
    scale: str
    settings: tuple[Setting, ...]
    sources: tuple[str, ...]  # files of trials; "runs" for those of a store
    used: Mapping[str, Any] = field(default_factory=dict)  # options of the row that was asked for

    @cached_property
    def grid(self) -> dict[str, list[Any]]:
        """Every option of which at least two values were tried, and those values, smallest first."""
        names = sorted({name for s in self.settings for name in s.options})
        tried = {name: _distinct(s.options[name] for s in self.settings if name in s.options) for name in names}
        return {name: values for name, values in tried.items() if len(values) > 1}

    @property
    def count(self) -> int:
        """How many settings were tried."""
        return len(self.settings)

    @property
    def failed(self) -> int:
        """Trials that gave no number."""
        return sum(status != "ok" for s in self.settings for status in s.statuses)

    @property
    def diverged(self) -> int:
        return sum(status == "diverged" for s in self.settings for status in s.statuses)

    def expected_best(self) -> list[float | None]:
        """The expected best validation value after 1, 2, ... count trials drawn at random from these (see stats).

        On log10 where the scale is log. A failed trial is worse than any other: None where one would have to be counted.
        """
        worst = math.inf if self.better == "lower" else -math.inf
        values = np.array([worst if s.value is None else s.value for s in self.settings])
        if self.scale == "log":
            values = np.log10(np.maximum(values, stats.FLOOR))
        found = np.asarray(stats.expected_best(values, self.better, range(1, len(values) + 1)), dtype=float)
        if self.scale == "log":
            found = np.power(10.0, found)
        return [float(x) if math.isfinite(x) else None for x in found]

    def setting(self, options: Mapping[str, Any]) -> Setting | None:
        """The setting that has these options: in what was varied, or in all where nothing was. None where not tried."""
        for s in self.settings:
            names = self.grid or s.options
            if all(_agree(name, options.get(name), s) for name in names if name in s.options):
                return s
        return None

    def to_json(self) -> dict[str, Any]:
        """Plain values; settings in the order of their options."""
        settings = [
            {"options": {k: s.options[k] for k in self.grid if k in s.options}, "value": s.value, "status": s.statuses}
            for s in self.settings
        ]
        about = {name: getattr(self, name) for name in ("task", "optimizer", "model", "adapter", "budget", "metric")}
        about |= {"better": self.better, "scale": self.scale, "trials": self.count, "sources": self.sources}
        counts = {"failed": self.failed, "diverged": self.diverged, "grid": self.grid, "settings": settings}
        return plain(about | counts | {"expected_best": self.expected_best()})


def edges(row: Row, tried: Tried) -> list[str]:
    """A mark for each option whose value lies at an end of what was tried; none where one value alone was."""
    options = {**row.options, **tried.used}
    here = tried.setting(options)
    marks = []
    for name, values in tried.grid.items() if here is not None else ():
        numbers = [v for v in values if _number(v)]
        value = here.options.get(name) if here is not None else None
        if len(numbers) < 2 or not _number(value):
            continue
        end = "smallest" if _same(value, numbers[0]) else "largest" if _same(value, numbers[-1]) else None
        marks += [f"{name} on the edge of its grid ({end} of {len(numbers)})"] if end else []
    return marks


def told(tried: Tried | None) -> str:
    """How a row was tuned, in words."""
    if tried is None or tried.count < 2:
        return "untuned: default"
    failed = f", {tried.failed} of them failed" if tried.failed else ""
    return f"best of {tried.count} trials on validation{failed}"


class Trials:
    """All trials of some stores; `of` finds those that a row came from."""

    def __init__(self, records: Iterable[Record], files: Iterable[_File] = ()) -> None:
        self._records: dict[str, Record] = {r["cell"]: r for r in records}
        self._stored = _stored(self._records.values())
        self._files = list(files)
        for file in self._files:
            file.learn(self._records.values())

    def of(self, section: object, row: Row) -> Tried | None:
        """The trials behind a row; None where it was not tuned: no trials, or none with its values.

        A row of trials was not chosen by them: None. section: where the row stands; its runs say all that matters.
        """
        records = [self._records[run.cell] for run in row.runs if run.cell in self._records]
        if not records or records[0]["score"] == "validation":
            return None
        first = records[0]
        _, stored = self._stored.get((_conditions(first), first["optimizer"]), (first, []))
        found = {"runs": stored} | {file.name: file.settings(first) for file in self._files}
        tried = replace(_tried(first, found), used=_used(records))
        known = tried.settings and tried.setting({**row.options, **tried.used}) is not None
        return tried if known else None

    def all(self) -> list[Tried]:
        """Every set of trials, in the order of task, optimizer and conditions."""
        found = [_tried(first, {"runs": settings}) for first, settings in self._stored.values()]
        found += [tried for file in self._files for tried in file.all()]
        return sorted(found, key=lambda t: json_text([t.task, t.optimizer, t.model, t.adapter, t.budget, t.sources]))

    def to_json(self) -> list[dict[str, Any]]:
        return [tried.to_json() for tried in self.all()]


def trials(stores: Iterable[Path], records: Iterable[Record]) -> tuple[Trials, list[Problem]]:
    """The trials among the records (rows of `read.load`, those scored on validation) and in the stores' CSV files.

    A file or a line that cannot be read is a Problem, never an error.
    """
    files: list[_File] = []
    problems: list[Problem] = []
    for store in stores:
        for path in sorted((store / "tuning").glob("*.csv")):
            file, problem = _read(path)
            files += [file] if file else []
            problems += [problem] if problem else []
    return Trials(records, files), problems


# ---- trials that are runs ----


def _stored(records: Iterable[Record]) -> dict[tuple[Conditions, str], tuple[Record, list[Setting]]]:
    """Of the runs scored on validation: a run of each group, and its settings."""
    groups: dict[tuple[Conditions, str], dict[str, list[Record]]] = {}
    for r in records:
        if r["score"] == "validation" and r["order"] != "reference" and r["status"] != "interrupted":
            settings = groups.setdefault((_conditions(r), r["optimizer"]), {})
            settings.setdefault(json_text([r["optimizer_options"], r["schedule"]]), []).append(r)
    found = {}
    for key, by_options in groups.items():
        rows = [group for _, group in sorted(by_options.items())]
        found[key] = rows[0][0], [_setting(group) for group in rows]
    return found


def _setting(records: Sequence[Record]) -> Setting:
    statuses = tuple(r["status"] for r in sorted(records, key=lambda r: r["cell"]))
    values = [r["value"] for r in records if r["status"] == "ok" and r["value"] is not None]
    whole = len(values) == len(records) and all(math.isfinite(v) for v in values)
    asked = _parsed(records[0]["optimizer_options"])
    options = {**asked, **_used(records), "schedule": records[0]["schedule"]}
    return Setting(options, math.fsum(values) / len(values) if whole else None, statuses, asked.get("lr") == "task")


def _used(records: Sequence[Record]) -> dict[str, Any]:
    """Options as used where all runs agree."""
    used = [_parsed(r["parameters"]) for r in records if r["parameters"]]
    agreed = {k: v for k, v in (used[0] if used else {}).items() if all(u.get(k) == v for u in used)}
    return agreed | {"schedule": records[0]["schedule"]}


def _conditions(record: Record) -> Conditions:
    return *(record[name] for name in SHARED), json_text(_task_options(record["task_options"]))


def _task_options(text: str) -> dict[str, Any]:
    return {k: v for k, v in _parsed(text).items() if k != "instance"}


@lru_cache(maxsize=4096)
def _parsed(text: str | None) -> dict[str, Any]:
    return json.loads(text or "{}")


def _tried(record: Record, found: Mapping[str, list[Setting]]) -> Tried:
    """The settings of several sources as one: what a CSV repeats of a store is one setting."""
    return Tried(
        task=record["task_label"] or record["task"],
        optimizer=record["optimizer"],
        model=record["model"],
        adapter=record["adapter"],
        budget=record["budget"],
        metric=record["metric"],
        better=record["better"] or "higher",
        scale=record["scale"] or "linear",
        settings=_merged([setting for settings in found.values() for setting in settings]),
        sources=tuple(name for name, settings in found.items() if settings),
    )


def _merged(settings: Sequence[Setting]) -> tuple[Setting, ...]:
    """In the order of their options; those that agree in all that was varied are one, the first standing."""
    names = sorted({name for s in settings for name in s.options})
    varied = [n for n in names if len(_distinct(s.options[n] for s in settings if n in s.options)) > 1]
    kept: list[Setting] = []
    for s in settings:
        twin = next((k for k in kept if all(_agree(n, s.options.get(n), k) for n in varied)), None)
        if twin is None:
            kept.append(s)
    return tuple(sorted(kept, key=lambda s: [_order(s.options.get(name)) for name in varied]))


# ---- trials in a CSV ----


@dataclass(frozen=True)
class _Line:
    optimizer: str
    metric: str | None
    narrowing: tuple[tuple[str, str], ...]
    setting: Setting


class _File:
    """The trials of one CSV, by task as it is written there."""

    def __init__(self, name: str, lines: Iterable[tuple[str, _Line]]) -> None:
        self.name = name
        self._lines: dict[tuple[str, str], list[_Line]] = {}
        for task, line in lines:
            self._lines.setdefault((_plain_task(task), line.optimizer), []).append(line)
        self._home: dict[str, set[Conditions]] = {}
        self._kinds: dict[str, Record] = {}  # a run of each task

    def learn(self, records: Iterable[Record]) -> None:
        """Which conditions the file speaks of, where it does not say: those under which a run was given one of its rates.

        Where no run was given one, there is nothing to go by, and it speaks of every run of the task.
        """
        for r in records:
            task = _plain_task(r["task_label"] or r["task"])
            lines = self._lines.get((task, r["optimizer"]))
            if not lines or r["score"] == "validation":
                continue
            self._kinds.setdefault(task, r)
            lr = _parsed(r["optimizer_options"]).get("lr")
            if any(not line.setting.task_rate and _same(lr, line.setting.options.get("lr")) for line in lines):
                self._home.setdefault(task, set()).add(_conditions(r))

    def settings(self, record: Record) -> list[Setting]:
        """What was tried of the record's optimizer under its conditions."""
        task = _plain_task(record["task_label"] or record["task"])
        lines = self._lines.get((task, record["optimizer"]), [])
        if not any(name == "budget" for line in lines for name, _ in line.narrowing):
            home = self._home.get(task)
            if home is not None and _conditions(record) not in home:
                return []
        return [line.setting for line in lines if all(str(record[name] or "") == v for name, v in line.narrowing)]

    def all(self) -> list[Tried]:
        found = []
        for (task, optimizer), lines in self._lines.items():
            for narrowing in sorted({line.narrowing for line in lines}):
                mine = [line for line in lines if line.narrowing == narrowing]
                found.append(self._described(task, optimizer, dict(narrowing), mine))
        return found

    def _described(self, task: str, optimizer: str, where: Mapping[str, str], lines: Sequence[_Line]) -> Tried:
        known = self._kinds.get(task, {})
        metric = lines[0].metric or known.get("metric")
        return Tried(
            task=task,
            optimizer=optimizer,
            model=where.get("model"),
            adapter=where.get("adapter"),
            budget=where.get("budget"),
            metric=metric,
            better=known.get("better") or ("higher" if metric in HIGHER else "lower"),
            scale=known.get("scale") or ("log" if metric in LOG else "linear"),
            settings=_merged([line.setting for line in lines]),
            sources=(self.name,),
        )


def _read(path: Path) -> tuple[_File | None, Problem | None]:
    """The lines that can be read, and what is wrong with the first that cannot."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            return None, Problem(path, f"no list of trials: it lacks the column {missing[0]}")
        lines, wrong = [], []
        for row in rows:
            try:
                lines.append(_line(row))
            except ValueError as error:
                wrong.append(f"line {rows.line_num}: {error}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return None, Problem(path, f"no list of trials: {getattr(error, 'strerror', None) or error}")
    more = f" (and {len(wrong) - 1} lines more)" if len(wrong) > 1 else ""
    return _File(path.name, lines), Problem(path, f"{wrong[0]}{more}; its other lines count") if wrong else None


def _line(row: Mapping[str, str | None]) -> tuple[str, _Line]:
    """One trial; ValueError says what is wrong with it."""
    task, optimizer, status = (row[name] or "" for name in ("task", "optimizer", "status"))
    if not (task and optimizer and status):
        raise ValueError("task, optimizer and status must not be blank")
    lr = _amount("lr", row["lr"])
    if lr is not None and math.isinf(lr):
        raise ValueError(f"lr {row['lr']!r} is no rate")
    value = _amount("value", row["value"])
    factor = _amount("factor", row.get("factor"))
    fine = status == "ok" and value is not None and math.isfinite(value)
    options = {} if lr is None else {"lr": lr}
    setting = Setting(options, value if fine else None, (status,), factor == 1)
    narrowing = tuple((name, row[name] or "") for name in NARROWING if name in row)
    return task, _Line(optimizer, row.get("metric") or None, narrowing, setting)


def _amount(name: str, text: str | None) -> float | None:
    """A blank one is unknown; nan stands where nothing applies."""
    try:
        value = float(text) if text else math.nan
    except ValueError:
        raise ValueError(f"{name} {text!r} is no number") from None
    return None if math.isnan(value) else value


def _plain_task(text: str) -> str:
    """The task and its options in one spelling: sorted, without the instance."""
    name, _, inside = text.strip().partition("[")
    parts = sorted(part.replace(" ", "") for part in inside.removesuffix("]").split(",") if part.strip())
    kept = [part for part in parts if not part.startswith("instance=")]
    return name + (f"[{','.join(kept)}]" if kept else "")


# ---- values ----


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _same(a: Any, b: Any) -> bool:
    if _number(a) and _number(b):
        return a == b or math.isclose(a, b, rel_tol=CLOSE)
    return type(a) is type(b) and a == b


def _agree(name: str, value: Any, setting: Setting) -> bool:
    """Whether an option has this value in the setting; a rate left to the task is the same one wherever it was."""
    if name == "lr" and value == "task" and setting.task_rate:
        return True
    return _same(value, setting.options.get(name))


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Smallest first, words after numbers; values that are close are one."""
    found: list[Any] = []
    for value in sorted(values, key=_order):
        if not found or not _same(value, found[-1]):
            found.append(value)
    return found


def _order(value: Any) -> tuple[bool, float, str]:
    return (False, float(value), "") if _number(value) else (True, 0.0, json_text(value))
