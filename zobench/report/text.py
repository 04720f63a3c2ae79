"""How numbers and names are written, alike in Markdown and in the terminal."""

from __future__ import annotations

from zobench.report.stats import Interval
from zobench.report.tables import Row, Section, option_text

NONE = "–"
HEADERS = (
    *("rank", "optimizer", "score [95 %]", "n", "forwards", "backwards", "ms/step", "step s", "memory ×", "peak MiB"),
    *("state bytes", "cost to 1e-1 / 1e-3", "probe", "failed", "marks"),
)
PERCENT = ("accuracy", "f1", "em", "exact_match", "mcc", "matthews", "pearson", "spearman")  # fractions, shown x 100

RULES = """\
Runs are compared only under equal conditions: one table per task and options, model, adapter, precision, budget, batch,
split and data. The score is the mean over runs (seeds, data seeds, instances) with its 95 % Student t interval; n is
the number of runs that gave a number. Where the scale is log, it is the geometric mean, with the interval of log10.
One optimizer is better than another when its interval lies wholly on the better side of the other's. The rank is an
interval: 1 + the number of optimizers that are better, to the number that are not worse; optimizers that cannot be told
apart share ranks. A single run has no interval and cannot be told from any other. Where runs failed, the interval is
open at its worse end, because the missing number could have been as bad as any (not so for interrupted runs).
Costs are medians over the runs that gave a number: forwards and backwards in batches, time inside the optimizer's step
without warm-up and evaluation (comparable on equal hardware only), memory as a multiple of the same model's inference
on the same batch. A learning rate shown as `task` is the rate that the task publishes. Cost to 1e-3: forwards, a backward
counted twice, at the first evaluation whose relative gap was 1e-3 or less (median; a run that never came there counts as
infinite). Lines marked `ref` are shown beside the optimizers, never ranked with them. On regressions they know the structure of
the problem or its derivatives, and work on the exact float64 loss, whatever noise, batch or precision the optimizers see. On
language tasks they are what takes no steps (zero-shot, in-context learning, a linear probe), in every table of their task and
model."""


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
    parts += [c["model"] + (f"@{c['revision'][:12]}" if c["revision"] else "")] if c["model"] else []
    parts += [c["adapter"]] if c["adapter"] != "none" else []
    parts += [c["dtype"], c["budget"], f"batch {c['batch_size']}"]
    return parts + ([f"{c['score']} score"] + (["PARTIAL DATA"] if section.partial else []))


def facts(section: Section) -> list[str]:
    """What stands under a title: metric, data, hardware."""
    data = section.conditions["data"]
    return [
        f"{section.metric}, {section.better} is better" + (", log scale" if section.scale == "log" else ""),
        f"data {data if len(data) <= 60 else data[:24] + '…'}",
        f"hardware {'; '.join(section.hardware) or 'not recorded'}",
    ]


def cells(row: Row, section: Section) -> list[str]:
    """One text per header."""
    return [
        "ref" if row.reference else rank(row.rank),
        row.label,
        score(row.score, section),
        str(row.n),
        number(row.forwards),
        number(row.backwards),
        number(row.ms_per_step),
        number(row.step_seconds),
        NONE if row.memory_ratio is None else f"{row.memory_ratio:.2f}",
        NONE if row.peak_bytes is None else f"{row.peak_bytes / 2**20:,.1f}",
        number(row.state_bytes),
        " / ".join(number(row.hitting.get(target)) for target in ("1e-1", "1e-3")) if row.hitting else NONE,
        row.probe_mode or NONE,
        ", ".join(f"{count} {status}" for status, count in row.failures.items()),
        ", ".join(row.marks),
    ]


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


def score(interval: Interval | None, section: Section) -> str:
    if interval is None:
        return NONE
    mean = value(interval.mean, section)
    if interval.low is None or interval.high is None:
        return mean
    return f"{mean} [{value(interval.low, section)}, {value(interval.high, section)}]"


def value(x: float, section: Section) -> str:
    if section.scale == "log":
        return f"{x:.1e}"
    return f"{100 * x:.1f}" if section.metric in PERCENT else f"{x:.4g}"


def number(x: float | None) -> str:
    """Three digits, all of them above 100."""
    if x is None:
        return NONE
    if abs(x) >= 100:
        return f"{x:,.0f}"
    return str(int(x)) if x == int(x) else f"{x:.3g}"
