"""Our runs beside the published values of the same task, model, method and adapter.

No two numbers here are said to be comparable: what is known to differ between the two protocols is spelled out, what is
not known of the published one is named, and the source with its quality stands beside every value.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zobench import published
from zobench.published import Published
from zobench.record import Problem, json_text, plain
from zobench.report.read import COLUMNS, load, rows
from zobench.report.stats import Interval, mean_interval
from zobench.report.tables import CONDITIONS, LEARNED, learn, newest, option_text
from zobench.report.view import View
from zobench.spec import NothingMeasured

EXTRA = ("metrics", "num_train", "facts")
POOLED = ("instance", "split")  # options of a task over which runs are averaged: a k-shot result is a mean over splits
SAID = (*POOLED, "objective", "bos_mode", "loss_dtype", "template")  # and options that are compared by themselves
LATE = dict(schedule="constant")  # options that a record leaves out where they have this value
SECOND_HAND = ("second-hand", "quoted")
HEAD_TUNED = ("copa", "record", "squad", "drop")  # where MeZO's row LP is another method (arXiv:2305.17333, table 16)
SELECTED = {
    "loss": "the weights of the lowest validation loss",
    "metric": "the weights best on validation",
    "last": "the last weights",
}

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """One published value beside a group of ours; numbers in percent."""

    published: Published
    metric: str
    ours: Interval | None  # None: no run of the group gave this metric
    n: int
    difference: float | None  # ours less published
    differences: list[str]  # in protocol, in words
    unknown: list[str]  # of the published value


@dataclass(frozen=True)
class Group:
    """Runs of ours that differ in seed, data seed or split alone, and the published values beside them."""

    task: str  # label
    model: str
    optimizer: str  # label
    adapter: str
    partial: bool
    protocol: list[str]
    failures: dict[str, int]
    cells: list[str]
    claims: list[Claim]


@dataclass(frozen=True)
class Claims:
    """Groups with a counterpart, and how many runs have none."""

    groups: list[Group]
    unmatched_runs: int
    unmatched_groups: int
    problems: list[Problem]

    def to_json(self) -> dict[str, Any]:
        """Plain values that any JSON writer takes; nan and inf are strings."""
        groups = [
            plain(asdict(group))
            | {"claims": [plain(asdict(c)) | {"published": plain(c.published.to_json())} for c in group.claims]}
            for group in self.groups
        ]
        unmatched = {"runs": self.unmatched_runs, "groups": self.unmatched_groups}
        problems = [{"path": str(p.path), "why": p.why} for p in self.problems]
        return {"groups": groups, "unmatched": unmatched, "problems": problems}


def claims(
    stores: list[Path],
    *,
    tasks: Iterable[str] | None = None,
    optimizers: Iterable[str] | None = None,
    path: Path | None = None,
    view: View | None = None,
) -> Claims:
    """Every group of runs in the stores with its published counterparts; NothingMeasured where there is none.

    path: of the published numbers; by default the project's own. view: which runs.
    """
    frame, problems = load(stores, tasks, optimizers, (*COLUMNS, *EXTRA))
    records = learn(newest([r for r in rows(frame) if view is None or view.admits(r)]))
    values: dict[str | None, list[Published]] = {}
    for row in published.load(path):
        if row.is_score:
            values.setdefault(row.our_task, []).append(row)
    grouped: dict[str, list[Record]] = {}
    for record in records:
        grouped.setdefault(_key(record), []).append(record)
    found = [
        (_group(records, values.get(records[0]["task"], [])), len(records)) for _, records in sorted(grouped.items())
    ]
    matched = [group for group, _ in found if group.claims]
    without = [n for group, n in found if not group.claims]
    if not matched:
        count = f"{sum(without)} run{'' if sum(without) == 1 else 's'}"
        raise NothingMeasured(
            f"{count} in {', '.join(map(str, stores))}, and no published value of the same task, model, method and "
            "adapter; `zobench info sst2` shows what is published on a task"
        )
    matched.sort(key=lambda g: (g.partial, g.task, g.model, g.adapter, g.optimizer, g.cells))
    return Claims(matched, sum(without), len(without), problems)


def _key(record: Record) -> str:
    options = {k: v for k, v in json.loads(record["task_options"]).items() if k not in POOLED}
    names = [record[name] for name in (*CONDITIONS, *LEARNED, "optimizer", "optimizer_options", "schedule")]
    return json_text([names, options])


def _group(records: list[Record], values: list[Published]) -> Group:
    own = Own(records)
    return Group(
        task=own.task,
        model=own.first["model"] or "",
        optimizer=own.optimizer,
        adapter=own.first["adapter"],
        partial=own.partial,
        protocol=list(own.protocol()),
        failures=dict(sorted(Counter(r["status"] for r in records if r["status"] != "ok").items())),
        cells=sorted(r["cell"] for r in records),
        claims=[_claim(own, value) for value in values if matches(own, value)],
    )


class Own:
    """What a group of ours is: read once from its records, of which the first stands for what they share."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records
        self.done = [r for r in records if r["status"] == "ok" and r["value"] is not None] or records[:1]
        self.first = self.done[0]
        self.task_options: dict[str, Any] = json.loads(self.first["task_options"])
        self.options: dict[str, Any] = json.loads(self.first["optimizer_options"])
        self.options |= json.loads(self.first["parameters"] or "{}")
        self.facts: dict[str, Any] = json.loads(self.first["facts"] or "{}")
        self.adapter, _, self.quantised = self.first["adapter"].partition(" on ")  # `lora[alpha=16,r=8] on 4bit`
        self.partial = bool(self.first["partial_data"])
        self.rows = tuple(self.first[name] for name in ("num_train", "num_dev", "num_test"))
        splits = {json.loads(r["task_options"]).get("split") for r in self.done}
        self.splits = len(splits - {None})  # 0 where the task has none
        self.steps = _middle(r["steps"] for r in self.done)
        self.forwards = _middle(_spent(r) for r in self.done)

    @property
    def task(self) -> str:
        """The label of the task, without what is pooled."""
        changed = [text for text in self.changed if text.partition("=")[0] not in POOLED]
        return self.first["task"] + (f"[{','.join(changed)}]" if changed else "")

    @property
    def changed(self) -> list[str]:
        """`name=value` of the task's options that differ from their defaults, as the task's label has them."""
        inside = (self.first["task_label"] or "").removeprefix(self.first["task"])
        return [part for part in inside.strip("[]").split(",") if "=" in part]

    @property
    def optimizer(self) -> str:
        """With every option as used."""
        texts = ",".join(f"{k}={option_text(v)}" for k, v in sorted(self.options.items()))
        return self.first["optimizer"] + (f"[{texts}]" if texts else "")

    def scores(self, metric: str) -> list[float]:
        """The finite values of a metric on the scored split, in percent."""
        found = []
        for r in self.records:
            value = r["value"] if r["metric"] == metric else json.loads(r["metrics"] or "{}").get(metric)
            if r["status"] == "ok" and isinstance(value, (int, float)) and math.isfinite(value):
                found.append(100 * value)
        return found

    def protocol(self) -> Iterator[str]:
        """How ours was made, in few words."""
        yield self.first["dtype"] + (f", base weights in {self.quantised}" if self.quantised else "")
        if self.steps:
            yield f"{self.steps:,} steps, {self.forwards or 0:,} forwards (a backward counts 2)"
            yield f"batch {self.first['batch_size']}"
        if all(n is not None for n in self.rows):
            yield "train/dev/test rows {}/{}/{}".format(*self.rows)
        if self.first["score"] != "test":
            yield f"{self.first['score']} score"


def matches(own: Own, value: Published) -> bool:
    """Whether a published value has the task, model, method and adapter of a group of ours."""
    method, first = value.our_method, own.first
    if method is None or value.task_options is None or first["model"] is None:
        return False
    objective = "loss" if own.task_options.get("objective", "loss") == "loss" else "score"
    return (
        value.our_task == first["task"]
        and all(own.task_options.get(k) == v for k, v in value.task_options.items())
        and same_model(first["model"], value.our_model)
        and method.name == first["optimizer"]
        and method.objective == objective
        and method.template in (None, own.task_options.get("template"))
        and all(own.options.get(k, LATE.get(k)) == v for k, v in method.options.items())
        and _name(own.adapter) in {_name(text) for text in value.adapters}
    )


def same_model(ours: str, theirs: str) -> bool:
    """Hub ids are compared whole, a local directory by its name with the last part of the id; case is ignored.

    >>> same_model("local:OPT-13B", "facebook/opt-13b"), same_model("someone/opt-13b", "facebook/opt-13b")
    (True, False)
    """
    if ours.startswith("local:"):
        return ours.removeprefix("local:").lower() == theirs.rpartition("/")[2].lower()
    return published.MODELS.get(ours, ours).lower() == theirs.lower()


def _claim(own: Own, value: Published) -> Claim:
    scores = own.scores(value.metric)
    ours = mean_interval(scores) if scores else None
    said, unknown = differences(own, value, len(scores))
    return Claim(
        published=value,
        metric=value.metric,
        ours=ours,
        n=len(scores),
        difference=ours.center - value.value if ours and value.value is not None else None,
        differences=said,
        unknown=unknown,
    )


# --- what differs ---


def differences(own: Own, value: Published, n: int) -> tuple[list[str], list[str]]:
    """(what is known to differ, in words; what is not known of the published value)."""
    known = value.protocol
    said, unknown = list(_data(own, value)), []

    def compare(what: str, ours: Any, theirs: Any) -> None:
        if theirs is None:
            unknown.append(what)
        elif ours is not None and ours != theirs:
            said.append(f"{what} {_text(ours)}, published {_text(theirs)}")

    compare("precision", own.first["dtype"], known.dtype)
    if known.loss_dtype is not None:
        mine = own.first["dtype"] if own.task_options.get("loss_dtype") == "model" else "float32"
        compare("log-likelihoods in", mine, known.loss_dtype)
    order = value.our_method.order if value.our_method else "zeroth"
    if value.our_method is not None and order != "none":
        steps = value.our_method.steps or known.steps
        if steps is None and known.forwards is not None:
            compare("forwards", own.forwards, known.forwards)
        else:
            compare("steps", own.steps, steps)
        compare("batch size", own.first["batch_size"], known.batch)
        if "eps" in own.options and order == "zeroth":
            compare("eps", own.options["eps"], known.eps)
        said += _search(own, known.trials, known.rates, unknown)
        said += _selection(own, known.select, unknown)
        compare("train rows", own.rows[0], known.train)
        compare("dev rows", own.rows[1], known.dev)
    compare("test rows", own.rows[2], known.test)
    if "template" in own.task_options:
        compare("template", own.task_options["template"], known.template)
    if "shots" in own.options:
        compare("demonstrations", own.options["shots"], known.shots)
    if n and value.method != "Zero-shot":
        compare(*(("number of splits", own.splits) if own.splits else ("number of runs", n)), known.seeds)
    said += _setting(own, value)
    said += [f"published: {', '.join(known.remarks)}"] if known.remarks else []
    if any(word in value.source_quality for word in SECOND_HAND):
        said.append(f"the published number is {value.source_quality}")
    if value.off_grid:
        said.append(f"the published number is doubtful: {value.off_grid}")
    return said, unknown


def _data(own: Own, value: Published) -> Iterator[str]:
    """What makes two numbers of other data."""
    if own.partial:
        yield "PARTIAL DATA here: not the rows behind any published number"
    if own.facts.get("not_comparable"):
        yield f"other rows here: {own.facts['not_comparable']}"
    if own.first["score"] != "test":
        yield f"ours is measured on the {own.first['score']} rows"
    if own.first["metric"] != value.metric and not own.scores(value.metric):
        yield f"our runs have {own.first['metric']}, not {value.metric}"


def _search(own: Own, trials: int | None, rates: tuple[float, ...] | None, unknown: list[str]) -> Iterator[str]:
    """How the learning rate came about, and whether it is one of the published `rates`."""
    if trials is None:
        unknown.append("search for hyper-parameters")
    source = own.first["lr_source"]
    rate = f"lr {_text(own.options.get('lr'))} ({source or 'given'})" if "lr" in own.options else "options as given"
    lr = own.options.get("lr")
    if rates and isinstance(lr, int | float) and not any(math.isclose(lr, theirs) for theirs in rates):
        yield f"lr {_text(lr)} is none of the published {', '.join(map(_text, rates))}"
    if trials is not None:
        yield f"{rate}, no search on record; published the best of {trials} settings on dev rows"


def _selection(own: Own, select: str | None, unknown: list[str]) -> Iterator[str]:
    """Which weights were tested; ours are those best on validation."""
    if select is None:
        unknown.append("selection of weights")
    elif select != "metric" and not (select == "last" and own.first["kept_step"] == own.first["steps"]):
        yield f"tested here {SELECTED['metric']} (step {_text(own.first['kept_step'])}), published {SELECTED[select]}"


def _setting(own: Own, value: Published) -> Iterator[str]:
    """Model, adapter, prompt and options."""
    first = own.first
    if first["model"].startswith("local:"):
        yield f"the model is a local directory of that name, for {value.our_model}"
    if own.quantised:
        yield f"base weights in {own.quantised} here"
    if own.adapter not in value.adapters:
        yield f"adapter {own.adapter}, the papers' {' or '.join(value.adapters)}"
    bos = own.task_options.get("bos_mode")
    if value.protocol.bos is not None and bos not in (None, value.protocol.bos) and "/opt-" in value.our_model:
        yield f"bos_mode {bos}, published {value.protocol.bos}"
    if value.method == "LP" and first["task"] in HEAD_TUNED:
        yield "logistic regression on the answers' tokens here, published an output layer tuned by Adam"
    changed = [text for text in own.changed if text.partition("=")[0] not in (*SAID, *(value.task_options or {}))]
    if changed:
        yield f"task with {', '.join(changed)} (not the default)"
    if first["optimizer"].startswith("mezo") and own.options.get("law", "gaussian") != "gaussian":
        yield f"directions {own.options['law']}, published gaussian"
    if first["schedule"] != "constant":
        yield f"{first['schedule']} schedule of the learning rate here"


def _name(adapter: str) -> str:
    return adapter.partition("[")[0]


def _text(value: Any) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return option_text(value)


def _spent(record: Record) -> int | None:
    return None if record["forwards"] is None else record["forwards"] + 2 * (record["backwards"] or 0)


def _middle(values: Iterable[int | None]) -> int | None:
    known = sorted(v for v in values if v is not None)
    return known[len(known) // 2] if known else None
