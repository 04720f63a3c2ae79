"""How numbers and names are written, alike in Markdown, in the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from zobench.report.stats import FLOOR, Interval
from zobench.report.summary import Standing, Summary
from zobench.report.tables import PERCENT, Board, Row, Section, option_text
from zobench.report.view import AXES

NONE = "–"
TINY = 1e-8  # of a cost: it was met at the start
HEADERS = (
    *("rank", "optimizer", "to target", "score [95 %]", "n", "forwards", "backwards", "seconds", "ms/step", "memory ×"),
    *("peak MiB", "state ×", "FLOPs", "joules", "cost to 1e-1 / 1e-3", "fidelity", "trials", "failed", "marks"),
)
ALWAYS = ("rank", "optimizer", "score [95 %]", "n", "forwards", "seconds", "memory ×", "state ×", "fidelity")
LEFT = ("optimizer", "order", "fidelity", "failed", "marks")  # text; numbers are set to the right
SUMMARY_HEADERS = (
    *(
        "rank",
        "optimizer",
        "order",
        "score [95 %]",
        "n",
        "profile",
        "forwards",
        "seconds",
        "memory ×",
        "state ×",
        "fidelity",
    ),
    *("failed", "marks"),
)

BETTER = """\
**Better** means told apart by a test of the means: two optimizers of one table differ with a two-sided p below 0.05
after Holm's correction for all comparisons of the row in question (Welch's t test over seeds; over pairs of runs where
the rows vary over instances or splits; over tasks, the differences within each task). The rank is an interval from the
row's own comparisons, and holds its true rank at 95 %: 1 + the number of optimizers that are better, to the number that
are not worse. A single run cannot be told from any other, and an optimizer with failed runs is never better than
another, because the missing number could have been as bad as any (an interrupted run says nothing about it)."""

RULES = """\
Runs are compared only under equal conditions: one table per task and options, model, adapter, precision, budget, batch,
split and data. The score is the interquartile mean over runs (seeds, data seeds, instances; the mean where they are
fewer than four) with its 95 % bootstrap interval, widened for few runs so that it covers; on a log scale both are taken
of log10, and what is below 1e-28 counts as 1e-28: the problem is solved, the rest is rounding. n is the number of runs
that gave a number.

Costs are medians over the runs that gave a number: forwards and backwards in batches, seconds inside the optimizer's
step without warm-up and evaluation (comparable on equal hardware only; with warm-up under `--budget`), memory as a
multiple of the same model's inference on the same batch, state between steps as a multiple of the weights, FLOPs of
matrix products. Fidelity is what rounding left of what the optimizer meant: `exact`, or the cosine of the probe, the
share of weights that a probe did not move, the share of updates lost, their gain, and the drift by probing alone. A
learning rate shown as `task` is the rate that the task publishes. Cost to 1e-3: forward-equivalents (a backward counts
2) at the first evaluation whose relative gap was 1e-3 or less (median; a run that never came there counts as infinite).
Trials is how many settings were tried on validation before the one shown; a mark says where it lies on the edge of what
was tried.

Lines marked `ref` are shown beside the optimizers, never ranked with them. On regressions they know the structure of
the problem or its derivatives, and work on the exact float64 loss, whatever noise, batch or precision the optimizers
see. On language tasks they are what takes no steps (zero-shot, in-context learning, a linear probe), in every table of
their task and model."""

SUITES = """\
Over the tasks of a suite the score is the interquartile mean over tasks and runs, every task with the same weight; its
interval is a bootstrap stratified by task where tasks were run several times. Where an optimizer has several settings
in a task's table, the one best on validation stands for it, those without failed runs first. One that lacks a task, or
has no finished run of it, is not ranked. Profile is the area, from 1 to 4 times the least cost, under its performance
profile (Dolan and Moré 2002): a problem is solved where 90 % of the way from the start to the best value that anybody
validated is made, on a log scale in decades. 1 is the quickest everywhere, 0 is nothing within four times the cost of
the quickest; a failed run counts as infinite."""

BEST = """\
By what each run would have ended with on validation within so many forward-equivalents: the best score, and who is not
told apart from it (+n: so many more). Tables of single runs are left out, for nothing in them can be told apart."""


def clean(text: object) -> str:
    """One line without control characters, terminal escapes or marks that reorder text."""
    return "".join(c if c.isprintable() else " " for c in str(text)).strip()


def title(section: Section) -> list[str]:
    """The parts of a section's title, most important first."""
    c = section.conditions
    options = ",".join(f"{k}={option_text(v)}" for k, v in sorted(section.task_options.items()))
    task = section.task_label or (f"{c['task']}[{options}]" if options else c["task"])
    parts = [f"{c['suite']} / {task}" if c["suite"] else task]
    parts += [f"version {c['task_version']}"] if c["task_version"] != 1 else []
    parts += _model(c)
    parts += [c["dtype"], c["budget"], f"batch {c['batch_size']}"]
    return parts + ([f"{c['score']} score"] + (["PARTIAL DATA"] if section.partial else []))


def summary_title(summary: Summary) -> list[str]:
    c = summary.conditions
    parts = [f"{c['suite'] or 'own tasks'}, {len(summary.tasks)} tasks", *_model(c), c["dtype"], c["budget"]]
    return parts + [f"{c['score']} score"] + (["PARTIAL DATA"] if summary.partial else [])


def _model(conditions: Mapping[str, Any]) -> list[str]:
    c = conditions
    parts = [c["model"] + (f"@{c['revision'][:12]}" if c["revision"] else "")] if c["model"] else []
    return parts + ([c["adapter"]] if c["adapter"] != "none" else [])


def facts(section: Section, board: Board | None = None) -> list[str]:
    """What stands under a title: metric, data, hardware, and what the table is ranked by."""
    data = section.conditions["data"]
    found = [
        _metric([section.metric], section.better, section.scale),
        f"data {data if len(data) <= 60 else data[:24] + '…'}",
        f"hardware {'; '.join(section.hardware) or 'not recorded'}",
        *section.notes,
    ]
    axis = board.view.rank_by if board else "accuracy"
    if axis != "accuracy":
        found.append(f"ranked by {AXES[axis]}, lower is better")
    if section.target is not None:
        half = "" if board and board.view.target is not None else " (at least half of the optimizers come there)"
        found.append(f"target {value(section.target, section.metric, section.scale)} on validation{half}")
        found.append("a run that never comes there counts as ten times the largest cost")
    return found


def summary_facts(summary: Summary) -> list[str]:
    found = [_metric(summary.metrics, summary.better, summary.scale)]
    if summary.elsewhere:
        names = summary.elsewhere
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        found.append(f"with fewer than half of these tasks, and not shown: {shown}")
    return found


def headline(summary: Summary) -> str | None:
    """Who leads a suite, and which zeroth-order optimizer comes first: one line; None where nobody is ranked."""
    ranked = [s for s in summary.standings if s.rank is not None]
    zeroth = next((s for s in ranked if s.order == "zeroth"), None)
    if not ranked:
        return None
    parts = [_lead(ranked[0], summary)]
    if zeroth is not None and zeroth is not ranked[0]:
        parts.append(f"first of zeroth order {_lead(zeroth, summary)}")
    return "; ".join(parts)


def _lead(standing: Standing, summary: Summary) -> str:
    costs = [f"{number(standing.forwards)} forwards"] if standing.forwards is not None else []
    costs += [f"{standing.memory_ratio:.2f} times the memory of inference"] if standing.memory_ratio else []
    found = score(standing.score, summary.metrics[0], summary.scale)
    return f"{standing.optimizer} {found}, rank {rank(standing.rank)} of {len(summary.standings)}, {', '.join(costs)}"


def _metric(names: list[str], better: str, scale: str) -> str:
    return f"{', '.join(names)}, {better} is better" + (", log scale" if scale == "log" else "")


def cells(row: Row, section: Section) -> dict[str, str]:
    """A text for each of HEADERS."""
    texts = [
        "ref" if row.reference else rank(row.rank),
        row.label,
        _spent(row, section),
        score(row.score, section.metric, section.scale),
        str(row.n),
        number(row.forwards),
        number(row.backwards) if row.backwards else NONE,
        number(row.step_seconds),
        number(row.ms_per_step),
        NONE if row.memory_ratio is None else f"{row.memory_ratio:.2f}",
        NONE if row.peak_bytes is None else f"{row.peak_bytes / 2**20:,.1f}",
        NONE if row.state_bytes is None or not row.weight_bytes else number(row.state_bytes / row.weight_bytes),
        number(row.flops),
        number(row.energy_joules),
        " / ".join(number(row.hitting.get(target)) for target in ("1e-1", "1e-3")) if row.hitting else NONE,
        fidelity(row.fidelity),
        str(row.trials) if row.trials else NONE,
        failures(row.failures),
        ", ".join(row.marks),
    ]
    return dict(zip(HEADERS, texts, strict=True))


def summary_cells(standing: Standing, summary: Summary) -> dict[str, str]:
    """A text for each of SUMMARY_HEADERS, and one for each task."""
    metric = summary.metrics[0]
    texts = [
        rank(standing.rank),
        standing.optimizer,
        standing.order or NONE,
        score(standing.score, metric, summary.scale),
        str(standing.n),
        NONE if standing.profile is None else f"{standing.profile:.2f}",
        number(standing.forwards),
        number(standing.seconds),
        NONE if standing.memory_ratio is None else f"{standing.memory_ratio:.2f}",
        number(standing.state_ratio),
        fidelity(standing.fidelity),
        failures(standing.failures),
        ", ".join(standing.marks),
    ]
    tasks = {
        name: "missing" if label is None else "failed" if s is None else value(s.center, metric, summary.scale)
        for name, s, label in zip(summary.tasks, standing.scores, standing.labels, strict=True)
    }
    return dict(zip(SUMMARY_HEADERS, texts, strict=True)) | tasks


def shown(headers: Iterable[str], rows: Iterable[Mapping[str, str]], always: Iterable[str] = ALWAYS) -> list[str]:
    """The headers under which at least one row says something."""
    rows = list(rows)
    return [name for name in headers if name in always or any(row[name] not in ("", NONE) for row in rows)]


def _spent(row: Row, section: Section) -> str:
    if row.spent is None or section.target is None:  # ranked by the score or by memory, which has columns of its own
        return NONE
    return number(row.spent if row.spent > TINY else 0.0) if math.isfinite(row.spent) else "never"


def fidelity(found: Mapping[str, float]) -> str:
    """What rounding changed; `exact` where it was measured and changed nothing that three digits show."""
    if not found:
        return NONE
    parts = []
    if found.get("probe_cosine", 1.0) < 0.9995:
        parts.append(f"cos {found['probe_cosine']:.3f}")
    for name, word in (("probe_unmoved", "unmoved"), ("lost_updates", "lost")):
        if found.get(name, 0.0) >= 0.005:
            parts.append(f"{word} {100 * found[name]:.0f} %")
    if abs(found.get("update_gain", 1.0) - 1.0) >= 0.005:
        parts.append(f"gain {found['update_gain']:.2f}")
    if found.get("restore_drift", 0.0) > 0.0:
        parts.append(f"drift {found['restore_drift']:.0e}")
    return ", ".join(parts) or "exact"


def failures(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in found.items())


def reasons(row: Row) -> list[str]:
    """One line per failed run: seed, status, reason."""
    return [
        f"seed {run.seed}: {run.status}: {clean(run.reason or 'no reason recorded')[:200]}"
        for run in row.runs
        if run.value is None
    ]


def rank(interval: tuple[int, int] | None) -> str:
    if interval is None:
        return NONE
    low, high = interval
    return str(low) if low == high else f"{low}–{high}"


def score(interval: Interval | None, metric: str, scale: str) -> str:
    if interval is None:
        return NONE
    center = value(interval.center, metric, scale)
    if interval.low is None or interval.high is None:
        return center
    return f"{center} [{value(interval.low, metric, scale)}, {value(interval.high, metric, scale)}]"


def value(x: float, metric: str, scale: str) -> str:
    if scale == "log":
        return f"≤{FLOOR:.0e}" if x <= FLOOR else f"{x:.1e}"
    return f"{100 * x:.1f}" if metric in PERCENT else f"{x:.4g}"


def number(x: float | None) -> str:
    """Three digits, all of them above 100; powers of ten above a million."""
    if x is None:
        return NONE
    if x == 0:
        return "0"
    if abs(x) >= 1e6:
        return f"{x:.3g}"
    if abs(x) >= 100:
        return f"{x:,.0f}"
    return str(int(x)) if x == int(x) else f"{x:.3g}"
