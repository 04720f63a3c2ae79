"""Published numbers: results/published.csv, read, and said in our names for tasks, methods and models.

Standard library only: `zobench info` answers from here. The file keeps every value as its source prints it, with the
source and its quality; what a value means in this project is decided here, by the tables below.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from zobench.protocols import Protocol, protocol
from zobench.spec import EnvironmentUnmet, UsageError

PACKAGE = Path(__file__).resolve().parent
COLUMNS = (
    *("paper", "arxiv", "table", "model", "task", "method", "peft", "metric", "value", "std", "memory_gb", "note"),
    "source_quality",
)
SCORES = ("accuracy", "f1", "f1a", "macro_f1")  # percent; other metrics are memory and time
MAIN_METRIC = dict(squad="f1", drop="f1")  # of the other tasks: accuracy

OPT = "SST2 RTE CB BoolQ WSC WIC MultiRC COPA ReCoRD SQuAD DROP"
TASKS: dict[str, tuple[str, dict[str, int]]] = {
    **{name: (name.lower(), {}) for name in OPT.split()},
    "SQuAD": ("squad", {"version": 1}),
    **{
        f"{name}-k{k}": (f"kshot_{name.lower()}", {"k": k})
        for name in ("SST2", "SST5", "SNLI", "MNLI", "RTE", "TREC")
        for k in (16, 512)
    },
}
# Classification tasks whose number of training rows is not printed: in the range of the task, beside no run.
UNSIZED = {name: f"kshot_{name.lower()}" for name in ("SST5", "SNLI", "MNLI", "TREC")}
UNSIZED_TABLES = {("MeZO", "Table 11"): {name: f"kshot_{name.lower()}" for name in ("SST2", "RTE", *UNSIZED)}}
NO_TASK = {
    **dict.fromkeys(("Avg", "Avg5", "Avg6", "Avg9", "average over tasks"), "a printed average"),
    "unspecified": "memory or time without a task",
    "GLUE fine-tuning (task not given in the script)": "memory without a task",
    "MNIST": "an image task",
}

# The tests of granularity: a mean over runs of an accuracy on N rows is a multiple of 1 / (N runs).
ROWS_TESTED = dict(sst2=872, rte=277, cb=56, wsc=104, copa=100, wic=638)

MODELS = {
    "roberta-large": "FacebookAI/roberta-large",
    "gpt2-xl (1.6B)": "openai-community/gpt2-xl",
    "LLaMA-7b": "huggyllama/llama-7b",
    "LLaMA2-7b": "meta-llama/Llama-2-7b-hf",
    "mistralai/Mistral-7B": "mistralai/Mistral-7B-v0.1",
    "Mistral-7B-v0.1": "mistralai/Mistral-7B-v0.1",
}

PAPERS = {
    "MeZO-GV / MeZO-Greedy (Prior-Informed ZO, v1; retitled Steering the Noise in v2)": "MeZO-GV",
    "ZO-LLM (Revisiting ZO, ICML 2024)": "ZO-LLM",
    "S2P / VS2P": "S2P",
}

ADAPTERS = {
    "full": ("none",),
    "none": ("none",),
    "head": ("none",),
    "lora": ("lora[alpha=16,r=8]",),
    "prefix": ("prefix[tokens=5]",),
    "prompt": ("prompt[tokens=10]",),
    "full-or-prefix": ("none", "prefix[tokens=5]"),
}


@dataclass(frozen=True)
class Method:
    """A published method as an optimizer or baseline of ours, with the options that make it that method."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    order: str = "zeroth"  # zeroth | first | none: nothing is trained step by step
    steps: int | None = None  # where the name of the method says them
    template: str | None = None  # of the task, where only that one will do
    objective: str = "loss"  # loss | score: minus the metric, without gradient

    def is_plain(self, name: str) -> bool:
        """Whether it is the method called `name` here, and no variant of it."""
        return self.name == name and not self.options and self.template is None and self.objective == "loss"


METHODS = {
    "Zero-shot": Method("zero-shot", order="none"),
    "ICL": Method("icl", order="none"),
    "LP": Method("linear-probe", order="none"),
    "FT": Method("adam", order="first"),
    "FT prefix real-activation init": Method("adam", order="first"),
    "FO-Adam": Method("adam", order="first"),
    "FO-LoRA": Method("adam", order="first"),
    "FO-SGD": Method("sgd", order="first"),
    "MeZO": Method("mezo"),
    "MeZO 10k": Method("mezo", steps=10_000),
    "MeZO 20k": Method("mezo", steps=20_000),
    "MeZO baseline": Method("mezo"),
    "MeZO with prompt": Method("mezo"),
    "MeZO without prompt": Method("mezo", template="none"),
    "MeZO n=1 constant": Method("mezo"),
    "MeZO n=4 constant": Method("mezo-nspsa", dict(n=4, schedule="constant")),
    "MeZO n=16 constant": Method("mezo-nspsa", dict(n=16, schedule="constant")),
    "MeZO n=4 linear": Method("mezo-nspsa", dict(n=4, schedule="linear")),
    "MeZO n=16 linear": Method("mezo-nspsa", dict(n=16, schedule="linear")),
    "MeZO n-SPSA q=1": Method("mezo"),
    "MeZO n-SPSA q=2": Method("mezo-nspsa", dict(n=2, schedule="constant")),
    "MeZO n-SPSA q=3": Method("mezo-nspsa", dict(n=3, schedule="constant")),
    "MeZO (objective=CE)": Method("mezo"),
    "MeZO (objective=accuracy/F1)": Method("mezo", objective="score"),
    "SPSA two-point 20K steps": Method("mezo", steps=20_000),
    "One-point 20K steps": Method("mezo-onepoint", steps=20_000),
    "One-point 40K steps": Method("mezo-onepoint", steps=40_000),
    "MeZO var-gradnorm recompute=no zo-estimate=yes": Method("mezo-var", dict(scale="gradient", recompute=0)),
    "MeZO var-paramnorm recompute=no": Method("mezo-var", dict(scale="parameter", recompute=0)),
    "MeZO-Adam": Method("mezo-adam"),
    "MeZO-SVRG": Method("mezo-svrg"),
    "MeZO-GV": Method("mezo-gv"),
    "MeZO-GV 10k": Method("mezo-gv", steps=10_000),
    "MeZO-Greedy": Method("mezo-greedy"),
    "ZO-AdaMU": Method("zo-adamu"),
    "HiZOO": Method("hizoo"),
    "SubZero": Method("subzero"),
    "LOZO": Method("lozo"),
    **{
        f"LOZO r={rank} nu={interval}": Method("lozo", dict(rank=rank, interval=interval))
        for rank, intervals in {1: (50, 100), 2: (1, 50, 100, 200, 500), 4: (50, 100), 8: (50, 100)}.items()
        for interval in intervals
    },
    "FZOO": Method("fzoo"),
    "QuZO": Method("quzo"),
    "Sparse-MeZO": Method("sparse-mezo"),
    "ZO-Muon": Method("zo-muon"),
    "VS2P": Method("vs2p"),
    "STP'": Method("stp"),
}
OTHERS = (
    *("AIM-ZO", "CurvZO", "AGZO", "BSZO", "BSZO-B", "GRZO", "LOZO-GRZO", "Sparse-GRZO", "QuZO-GRZO", "S-RGF", "BBTv2"),
    *("SubZero-GV", "SubZero+", "SubZero+/SGD", "SubZero+/Adam", "DeComFL P=5", "DeComFL P=10", "1.5-SPSA", "LP-MeZO"),
)
MEASURED = (  # memory or time, not scores
    *("Zero-shot / MeZO", "Inference and MeZO", "Backpropagation", "Forward auto-differentiation (JAX)"),
    *("MeZO bsz=16", "MeZO bsz=8", "FT bsz=8", "Sparse-MeZO efficient", "Sparse-MeZO vanilla"),
    *("FT [1xA100-80GB]", "FT [2xA100]", "FT [4xA100]", "FT [8xA100]"),
    *(f"Inference / MeZO [{machine}]" for machine in ("1xA100-80GB", "2xA100", "4xA100", "8xA100")),
)
# In the range of a task, beside no run of ours.
NO_METHOD = {
    **dict.fromkeys(OTHERS, "no optimizer here is this method"),
    **dict.fromkeys(MEASURED, "memory or time"),
    "1SPSA": "how many directions a step takes is not printed",
    "MeZO-GV q=2": "what q counts is not printed",
    "MeZO-GV q=3": "what q counts is not printed",
    "FT prefix random init": "a prefix that starts from noise",
    "MeZO var-gradnorm recompute=no zo-estimate=no": "true gradient norms",
    "MeZO var-gradnorm recompute=yes zo-estimate=yes": "how often it was measured again is not printed",
    "MeZO var-paramnorm recompute=yes": "how often it was measured again is not printed",
    "MeZO estimate of normalized gradient": "another estimate",
}


@dataclass(frozen=True)
class Published:
    """One line of the file. The first fields are its columns; `value` and `std` are in percent for a score."""

    paper: str
    arxiv: str
    table: str
    model: str
    task: str
    method: str
    peft: str
    metric: str
    value: float | None
    std: float | None
    memory_gb: float | None
    note: str
    source_quality: str
    printed: str = ""  # the value, digit by digit
    line: int = 0

    @property
    def source(self) -> str:
        """The paper in few letters."""
        return PAPERS.get(self.paper, self.paper)

    @property
    def is_score(self) -> bool:
        """A score on a task, not memory, time or an average."""
        return self.metric in SCORES and self.value is not None and self.our_task is not None

    @property
    def our_task(self) -> str | None:
        """Name of the task here; None for averages, images and what names no task."""
        return self._unsized.get(self.task) or TASKS.get(self.task, (None,))[0]

    @property
    def task_options(self) -> dict[str, int] | None:
        """Options of the task that the value is for; None where they are not known."""
        return TASKS[self.task][1] if self.task in TASKS and self.task not in self._unsized else None

    @property
    def _unsized(self) -> Mapping[str, str]:
        return UNSIZED_TABLES.get((self.source, self.table), UNSIZED)

    @property
    def our_method(self) -> Method | None:
        """None where no optimizer or baseline here is the method."""
        return METHODS.get(self.method)

    @property
    def our_model(self) -> str:
        """Hub id, where there is one."""
        return MODELS.get(self.model, self.model)

    @property
    def adapters(self) -> tuple[str, ...]:
        """Texts of the adapters that the value may come from."""
        return ADAPTERS.get(self.peft, ())

    @property
    def protocol(self) -> Protocol:
        """How the value was made."""
        task, method = self.our_task or "", self.our_method
        precision = re.search(r"precision (\w+)", self.note)
        facts = dict(
            paper=self.source,
            table=self.table,
            model=self.model,
            task=task,
            suite="kshot" if task.startswith("kshot_") else "opt",
            method=self.method,
            peft=self.peft,
            order=method.order if method else "zeroth",
            objective=method.objective if method else "loss",
            precision=precision[1] if precision else "",
        )
        return protocol(facts, (self.task_options or {}).get("k"))

    @property
    def off_grid(self) -> str:
        """Empty, or why the value cannot be an accuracy on the rows of the task: `no k/277`."""
        rows, runs = ROWS_TESTED.get(self.our_task or ""), self.protocol.seeds
        if rows is None or runs is None or self.value is None or self.metric != "accuracy":
            return ""
        if on_grid(self.printed, rows * runs):
            return ""
        return f"no k/{rows}" + (f" averaged over {runs} runs" if runs > 1 else "")

    def to_json(self) -> dict[str, Any]:
        """The columns, and what they mean here."""
        method = self.our_method
        return asdict(self) | {
            "source": self.source,
            "our_task": self.our_task,
            "our_task_options": self.task_options,
            "our_model": self.our_model,
            "our_optimizer": method.name if method else None,
            "our_optimizer_options": dict(method.options) if method else None,
            "our_adapters": list(self.adapters),
            "unmatched": "" if method else NO_METHOD.get(self.method, "not in the table of methods"),
            "off_grid": self.off_grid,
            "protocol": asdict(self.protocol),
        }


def on_grid(printed: str, rows: int) -> bool:
    """Whether a percentage, as printed, is k/rows for a whole k.

    >>> on_grid("63.5", 104), on_grid("63.4", 104)
    (True, False)
    """
    half = 0.5 * 10.0 ** -len(printed.partition(".")[2]) + 1e-9
    nearest = 100 * round(float(printed) * rows / 100) / rows
    return abs(nearest - float(printed)) <= half


# --- the file ---


def default_path() -> Path:
    """results/published.csv beside the package in a checkout, published.csv inside it in an installed wheel."""
    beside = PACKAGE.parent / "results" / "published.csv"
    return beside if beside.is_file() else PACKAGE / "published.csv"


@cache
def load(path: Path | None = None) -> tuple[Published, ...]:
    """Every line of the file, in its order. A line that cannot be read is a UsageError that names it."""
    path = path or default_path()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UsageError(f"{path}: the first line must be {','.join(COLUMNS)}")
            return tuple(_row(path, reader.line_num, cells) for cells in reader)
    except OSError as error:
        raise EnvironmentUnmet(f"cannot read the published numbers {path}: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error


def _row(path: Path, line: int, cells: Mapping[Any, Any]) -> Published:
    where = f"{path}, line {line}"
    if None in cells or None in cells.values():
        raise UsageError(f"{where}: must have {len(COLUMNS)} cells")
    numbers = {name: _number(f"{where}: {name}", cells[name]) for name in ("value", "std", "memory_gb")}
    for name in ("paper", "model", "task", "method", "peft", "metric", "source_quality"):
        if not cells[name]:
            raise UsageError(f"{where}: {name} is empty")
    if cells["peft"] not in ADAPTERS:
        raise UsageError(f"{where}: peft {cells['peft']!r} is none of {', '.join(ADAPTERS)}")
    if cells["metric"] in SCORES and not 0 <= (numbers["value"] or 0) <= 100:
        raise UsageError(f"{where}: {cells['metric']} {cells['value']} lies outside 0 .. 100 (scores are in percent)")
    if numbers["value"] is None and not cells["note"]:
        raise UsageError(f"{where}: a value that is blank needs a note that says why")
    return Published(**{name: numbers.get(name, cells[name]) for name in COLUMNS}, printed=cells["value"], line=line)


def _number(what: str, text: str) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise UsageError(f"{what} {text!r} is no number")
    return number


# --- the range of a task, for `zobench info` ---

MOST = 12  # models shown
SHOWN = (("zero-shot", "none", "zero-shot"), ("icl", "none", "ICL"), ("mezo", "full", "MeZO"), ("adam", "full", "FT"))


def of_task(task: str, options: Mapping[str, Any] | None = None, path: Path | None = None) -> list[Published]:
    """The scores published for a task of ours, those of other values of its `options` (k) left out."""
    rows = [row for row in load(path) if row.our_task == task and row.is_score]
    wanted = options or {}
    return [r for r in rows if all(wanted.get(k, v) == v for k, v in (r.task_options or {}).items())]


def published_range(rows: Iterable[Published]) -> list[str]:
    """Lines for a terminal: per model the values of the best known methods and the range of all; [] for no rows."""
    rows = list(rows)
    if not rows:
        return []
    main = MAIN_METRIC.get(rows[0].our_task or "", "accuracy")
    groups: dict[str, list[Published]] = {}
    for row in rows:
        if row.metric == main:
            groups.setdefault(_who(row), []).append(row)
    ordered = sorted(groups, key=lambda name: (-len(groups[name]), name))
    doubtful = sum(bool(row.off_grid) for row in rows)
    count = f"{_count(rows, 'value')} from {_papers(rows)}"
    lines = [f"published, {main} in percent ({count}; --json has them all):"]
    if doubtful:
        lines[0] = lines[0][:-2] + f"; {doubtful} of them marked ?: no k/N for any k and the task's N rows):"
    lines += [f"  {name}: {_summary(groups[name])}" for name in ordered[:MOST]]
    return lines + ([f"  and {len(ordered) - MOST} more models"] if len(ordered) > MOST else [])


def _who(row: Published) -> str:
    if row.task_options is None:
        return f"{row.our_model} (number of training rows not printed)"
    return row.our_model + (f", k={row.task_options['k']}" if "k" in row.task_options else "")


def _summary(rows: list[Published]) -> str:
    parts = []
    for name, peft, shown in SHOWN:
        chosen = [r for r in rows if r.peft == peft and r.our_method and r.our_method.is_plain(name)]
        if chosen:
            papers = _papers(chosen)
            parts.append(f"{shown} {_span(chosen)}" + (f" ({papers})" if papers != "1 paper" else ""))
    return "; ".join([*parts, f"all {_span(rows)} (n={len(rows)})"])


def _span(rows: list[Published]) -> str:
    low, high = min(rows, key=_value), max(rows, key=_value)
    ends = [low.printed + ("?" if low.off_grid else ""), high.printed + ("?" if high.off_grid else "")]
    return ends[0] if low.value == high.value else "..".join(ends)


def _value(row: Published) -> float:
    return row.value or 0.0


def _papers(rows: list[Published]) -> str:
    return _count({row.source for row in rows}, "paper")


def _count(things: Collection[Any], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"
