"""Rows of head against rows of a baseline or of base, by the rules of a gate: what moved, what is missing, what it means.

Pure: rows go in, findings come out. An outcome is one of

    equal       within the rule                     improved    beyond it, to the better: said, and no failure
    noted       beyond it, where the rule or the user only wants it said
    unknown     the other side has no such number (an older schema)
    unsure      it cannot be told: base differs from itself, or the noise hides the tolerance
    new         a cell that the other side never had
    regressed   beyond the rule                                                             exit code 3
    failed      a run of head that ended without a result, where the other has one          exit code 4
    vanished    a cell of the other side that was not measured, or only with other settings  exit code 5
    unreadable  a file of the baseline that could not be read                               exit code 5
    unmet       base could not do its part                                                  exit code 6

Of several, the code that counts is the first of 3, 4, 5, 6: what the change did comes before what the gate could not do.
Where nothing at all was compared, the code is 5.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zobench import record
from zobench.gate import LEAK, METRICS, RUN, TIME, Metric, Rule
from zobench.record import Problem, RunRecord, Unreadable
from zobench.report.slowdown import Verdict

CODES = {"regressed": 3, "failed": 4, "vanished": 5, "unreadable": 5, "unmet": 6}
COMPARED = ("equal", "improved", "noted", "unsure", "regressed", "failed")
OUTCOMES = (*CODES, "unsure", "unknown", "new", "noted", "improved", "equal")  # the gravest first
REPEATABLE = ("ok", "diverged")  # ends whose numbers are the same the next time
LIGHT = ("cell", "attempt", "status", "reason", "job", "partial_data", "environment")  # what finds a standing row
# What makes two cells the same question; the other names and numbers of a cell are its settings.
QUESTION = (
    *("task", "optimizer", "model", "adapter", "dtype", "seed", "data_seed", "budget", "batch_size", "score"),
    "quantised",
)


@dataclass(frozen=True)
class Finding:
    """What one gate says of one cell. before, after: as the rows have them, JSON values; None where there is none."""

    cell: str
    label: str
    gate: str
    against: str  # baseline | base
    outcome: str
    before: Any = None
    after: Any = None
    note: str = ""


@dataclass(frozen=True)
class Side:
    """What head is compared with: its rows by cell, and all that its store has, to find what changed its settings."""

    rows: Mapping[str, RunRecord]
    jobs: Mapping[str, Mapping[str, Any]]  # cell -> its names and numbers
    problems: Sequence[Problem] = ()


@dataclass(frozen=True)
class Report:
    """Everything that was found."""

    suite: str
    against: Mapping[str, str]  # baseline, base -> what each was called
    cells: int
    findings: Sequence[Finding]
    verdicts: Sequence[Verdict] = ()

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(f.outcome for f in self.findings)
        return {outcome: found[outcome] for outcome in OUTCOMES if found[outcome]}

    @property
    def compared(self) -> bool:
        """Whether any number was set beside another."""
        return any(f.outcome in COMPARED for f in self.findings)

    @property
    def code(self) -> int:
        """The exit code."""
        if not self.compared:
            return CODES["vanished"] if not self.counts.get("unmet") else CODES["unmet"]
        return min((CODES[f.outcome] for f in self.findings if f.outcome in CODES), default=0)

    def moved(self) -> list[Finding]:
        """What is not equal, the gravest first."""
        found = [f for f in self.findings if f.outcome != "equal"]
        return sorted(found, key=lambda f: OUTCOMES.index(f.outcome))

    def to_json(self) -> dict[str, Any]:
        return record.plain(
            {
                "suite": self.suite,
                "against": dict(self.against),
                "cells": self.cells,
                "code": self.code,
                "counts": self.counts,
                "moved": [vars(f) for f in self.moved()],
                "timing": [vars(v) for v in self.verdicts],
            }
        )


# --- reading ----------------------------------------------------------------------------------------------------------


def load(stores: Iterable[Path], cells: Iterable[str]) -> Side:
    """The standing rows of these cells in the stores, whole; the files that cannot be read are problems, by name."""
    light: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for store in stores:
        found, bad = record.scan(store, LIGHT)
        light += found
        problems += bad
    wanted, rows, jobs = set(cells), {}, {}
    for row in record.standing(light):
        jobs[row["cell"]] = json.loads(row["job"])
        if row["cell"] in wanted:
            try:
                rows[row["cell"]] = record.read(Path(row["path"]))
            except Unreadable as error:
                problems.append(Problem(Path(row["path"]), str(error)))
    return Side(rows, jobs, problems)


# --- one metric of one row --------------------------------------------------------------------------------------------


def observed(row: RunRecord, name: str) -> Any:
    """The value of a metric in a row, a plain JSON value; None where it does not apply or was not measured."""
    if name == "shapes":
        return json.loads(row.trace_header).get("parameters") if row.trace_header else None
    if name == "loss":
        held = row.kind == "regression" and row.dtype == "float64" and row.metrics is not None
        return json.loads(row.metrics or "{}").get("loss") if held else None
    if name == "train_loss":
        return next((p["loss"] for p in reversed(row.curve or []) if p["loss"] is not None), None)
    if name == "value" and row.kind == "regression":
        return None  # a gap near nothing is rounding; its loss is held
    return getattr(row, name)


def _start(row: RunRecord) -> float:
    """The loss at the start, by which a floor is measured; 0 where the curve has none."""
    for point in row.curve or []:
        losses = [point["loss"], json.loads(point["metrics"] or "{}").get("loss")]
        for loss in losses:
            if loss is not None:
                return abs(float(loss))
    return 0.0


def within(before: Any, after: Any, rule: Rule, start: float) -> bool:
    """Whether the two are equal, by the rule; nan is nan."""
    if isinstance(before, (int, float)) and isinstance(after, (int, float)):
        if before == after or (math.isnan(before) and math.isnan(after)):
            return True
        return abs(after - before) <= max(rule.rtol * abs(before), rule.floor * start)
    return _bits(before) == _bits(after)


def _bits(value: Any) -> Any:
    """Lists of numbers by their bytes: nan equals nan there, 0.0 and -0.0 differ."""
    numbers = isinstance(value, list) and value and all(isinstance(v, (int, float)) for v in value)
    return np.asarray(value, float).tobytes() if numbers else value


# --- rows against rows ------------------------------------------------------------------------------------------------


def compare(
    head: Mapping[str, RunRecord],
    before: Side,
    labels: Mapping[str, str],
    rules: Mapping[str, Rule],
    against: str,
    same_machine: bool = False,
) -> list[Finding]:
    """The findings of every planned cell.

    Args:
        head: rows by cell, as they were measured.
        labels: every cell that was to be measured, with what people call it.
        same_machine: whether both sides were measured here, so that metrics which hang on the machine count, too.
    """
    found = [
        Finding("", problem.path.name, RUN, against, "unreadable", note=f"{problem.path}: {problem.why}")
        for problem in before.problems
    ]
    for cell, label in labels.items():
        old, new = before.rows.get(cell), head.get(cell)
        finding = Finding(cell, label, RUN, against, "equal")
        if old is None:
            found.append(_missing(finding, before, labels, new))
        elif new is None:
            found.append(replace(finding, outcome="vanished", note="it was not measured"))
        else:
            found += _metrics(finding, old, new, rules, same_machine)
    return found


def _missing(finding: Finding, before: Side, labels: Mapping[str, str], new: RunRecord | None) -> Finding:
    """A cell that the other side has not: new, or one of which the settings have changed."""
    if new is None:
        return replace(finding, outcome="vanished", note="it was not measured, here or there")
    job = json.loads(new.job)
    old = [j for cell, j in before.jobs.items() if cell not in labels and _question(j) == _question(job)]
    if not old:
        return replace(finding, outcome="new", after=new.status, note=f"{_named(finding)} has no such run")
    changes = min((_changes(j, job) for j in old), key=lambda c: (len(c), c))
    note = f"{_named(finding)} has it with other settings: {'; '.join(changes)}"
    return replace(finding, outcome="vanished", after=new.status, note=note)


def _named(finding: Finding) -> str:
    return "the baseline" if finding.against == "baseline" else finding.against


def _question(job: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(job.get(name) for name in QUESTION)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`lr 0.1 -> 0.2`, of every name in which two jobs differ."""
    private = ("task_path", "optimizer_path", "model_path", "data_dir")
    flat = [
        {k: v for k, v in job.items() if not isinstance(v, dict) and k not in private}
        | {k: v for name in ("task_options", "optimizer_options") for k, v in job.get(name, {}).items()}
        for job in (old, new)
    ]
    names = sorted(flat[0].keys() | flat[1].keys())
    return [
        f"{k} {flat[0].get(k, 'absent')} -> {flat[1].get(k, 'absent')}"
        for k in names
        if flat[0].get(k) != flat[1].get(k)
    ]


def _metrics(
    finding: Finding, old: RunRecord, new: RunRecord, rules: Mapping[str, Rule], same_machine: bool
) -> list[Finding]:
    names = [n for n, m in METRICS.items() if (m.everywhere or same_machine) and rules[n].how != "off"]
    found = []
    if "status" in names:
        found.append(_status(replace(finding, gate="status", before=old.status, after=new.status), new))
    if old.status != new.status or new.status not in REPEATABLE:
        return found
    start = _start(old)
    for name in names:
        if name != "status":
            before, after = observed(old, name), observed(new, name)
            if before is not None or after is not None:
                one = replace(finding, gate=name, before=before, after=after)
                found.append(_judge(one, METRICS[name], rules[name], start, new.better or "higher"))
    return found


def _status(finding: Finding, new: RunRecord) -> Finding:
    if finding.before == finding.after:
        return finding
    if finding.after == "ok":
        return replace(finding, outcome="improved")
    return replace(finding, outcome="failed", note=new.reason or "no reason recorded")


def _judge(finding: Finding, metric: Metric, rule: Rule, start: float, better: str) -> Finding:
    before, after = finding.before, finding.after
    if before is None:
        return replace(finding, outcome="unknown", note=f"{_named(finding)} has none")
    if after is None:
        return replace(finding, outcome="regressed", note="it is no longer measured")
    if within(before, after, rule, start):
        return finding
    wanted = better if finding.gate == "value" else metric.better
    outcome = "regressed"
    if rule.how == "note":
        outcome = "noted"
    elif wanted and (after < before) == (wanted == "lower"):
        outcome = "improved"
    return replace(finding, outcome=outcome, note=difference(before, after))


def difference(before: Any, after: Any) -> str:
    """Where two lists part, how far two numbers are apart."""
    if isinstance(before, list) and isinstance(after, list):
        at = next((i for i, (x, y) in enumerate(zip(before, after, strict=False)) if _bits([x]) != _bits([y])), None)
        if at is None:
            return f"{len(before)} -> {len(after)} entries"
        return f"first at entry {at + 1}: {_short(before[at])} -> {_short(after[at])}"
    if isinstance(before, (int, float)) and isinstance(after, (int, float)) and before:
        return f"{100 * (after - before) / abs(before):+.3g} %"
    return ""


def _short(value: Any) -> str:
    return repr(value) if isinstance(value, float) else json.dumps(value)[:60]


# --- what only base and head can say ----------------------------------------------------------------------------------


def suspects(findings: Iterable[Finding]) -> list[str]:
    """Cells with a difference that may be chance: base is asked again for them before anybody is told."""
    doubtful = {f.cell: None for f in findings if f.outcome in ("regressed", "improved") and f.gate in METRICS}
    return list(doubtful)


def confirm(
    findings: Iterable[Finding], base: Side, again: Side, rules: Mapping[str, Rule], against: str = "base"
) -> list[Finding]:
    """The findings, unsure where base, run again, differs from itself in the same metric."""
    repeated = compare(again.rows, Side(base.rows, {}), dict.fromkeys(again.rows, ""), rules, against, True)
    unsteady = {(f.cell, f.gate): f for f in repeated if f.outcome != "equal"}
    found = []
    for f in findings:
        other = unsteady.get((f.cell, f.gate))
        doubt = other is not None and f.outcome in ("regressed", "improved") and f.gate in METRICS
        note = f"base differs from itself{': ' + other.note if other is not None and other.note else ''}"
        found.append(replace(f, outcome="unsure", note=note) if doubt else f)
    return found


def leak(label: str, base: Sequence[int], head: Sequence[int]) -> Finding:
    """Whether tensors stay alive in head that do not in base: growth of the later half of the steps, in bytes a step."""
    before, after = (growth(kept) for kept in (base, head))
    outcome = "regressed" if after > before else "improved" if after < before else "equal"
    note = "bytes in tensors that each step leaves behind" if outcome != "equal" else ""
    return Finding("", label, LEAK, "base", outcome, before, after, note)


def growth(kept: Sequence[int]) -> int:
    """Bytes a step over the later half, where what is kept grew at every step of it; else 0."""
    late = kept[len(kept) // 2 - 1 :]
    rises = [b - a for a, b in zip(late, late[1:], strict=False)]
    return sum(rises) // len(rises) if rises and min(rises) > 0 else 0


def timing(verdicts: Iterable[Verdict]) -> list[Finding]:
    """Findings of the verdicts on wall-clock; before and after in seconds of a step."""
    outcomes = {"slower": "regressed", "faster": "improved", "same": "equal", "cannot tell": "unsure"}
    return [
        Finding(
            *("", v.label, TIME, "base", outcomes[v.outcome]),
            v.seconds,
            v.seconds * (1 + v.change),
            f"{100 * v.change:+.1f} %, p {v.p:.2g}; detectable {100 * v.detectable:.2g} %",
        )
        for v in verdicts
    ]


def allow(findings: Iterable[Finding], gates: Sequence[str]) -> list[Finding]:
    """The findings; what these gates would fail is only noted."""
    return [
        replace(f, outcome="noted", note=f"{f.outcome}, allowed; {f.note}".rstrip("; "))
        if f.gate in gates and f.outcome in CODES and f.outcome != "unreadable"
        else f
        for f in findings
    ]
