"""What a run will take, told before it: steps, forwards, seconds, peak memory. Estimates; each says how it was made.

Time. A forward pass on a batch is 2 x (weights in matrix products) x (tokens read) operations, 4 x layers x width x (length of a
row) x tokens for attention, and 2 x vocabulary x width for each position whose logits are wanted. What an optimizer asks for
comes from its INFO (core.info); a backward counts two forwards. A zeroth-order step also draws a number per trained weight and
probe. Both rates are measured on this device in well under a second, once per process, or given. Validation is counted;
loading a model is not.

Memory. The weights, what a forward without gradients holds at its widest, the optimizer's state (its INFO) and, for a
zeroth-order method, the buffer of the probe: the largest module's weights. With gradients: those of the trained weights, and
the activations kept for the backward pass, as counted by Korthikanti et al. (arXiv:2205.05198) without the attention scores.

Tokens. `ROWS` has what each task's batches read, in tokens of the bundled vocabulary of 2,048; of a larger one it takes
fewer: 0.7 of them (MultiRC: 572, where MeZO's authors count about 400).

Where the store has runs of the same task, model, adapter, precision, batch and kind of device, their seconds per forward and
their peak stand in for the formulas.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zobench import record, registry
from zobench.build import ends_with_run, resolve_device, total_steps
from zobench.core import info as formulas
from zobench.core.blocks import blocks
from zobench.environment import describe
from zobench.registry import Entry
from zobench.spec import Job, Setting, UsageError, ZobenchError

SHARE = 0.7  # tokens of a vocabulary of 30,000 and more, by those of the bundled one
# Of a large matrix product's speed, that a model's forward reaches; measured: 0.43 on SST-2, 0.56 on BoolQ (OPT-125M, one
# core), and a zeroth-order step costs more than its forwards.
EFFICIENCY = 0.45
BENCHMARK = 0.2  # seconds of each measurement
WIDEST = (
    10  # tensors of (tokens, width) that a forward holds at once: in a feed-forward block, one and two of 4 x width
)
KEPT = 17  # numbers of (tokens, width) that a layer keeps for its backward pass: 34 bytes in half precision
GENERATED_ROWS = 64  # of a batch of generation


class Rows(NamedTuple):
    """What a batch of 16 rows reads, by row, in tokens of the bundled vocabulary."""

    cells: float  # padding included
    most: float  # the same in the largest batch
    length: float  # of a row as the model is given it, several sequences perhaps
    logits: float  # positions whose logits are wanted
    evaluated: float  # cells to evaluate one example, all its candidates


# Printed by scripts/measure_rows.py from real rows of each dataset.
ROWS: dict[str, Rows] = {
    "boolq": Rows(291.2, 292.5, 492, 1.0, 280.8),
    "cb": Rows(153.5, 170.5, 273, 1.0, 135.0),
    "copa": Rows(29.6, 35.0, 35, 9.8, 30.6),
    "drop": Rows(609.9, 750.0, 1163, 5.2, 609.9),
    "glue_cola": Rows(27.5, 35.0, 41, 6.0, 26.2),
    "glue_cola[form=head]": Rows(33.2, 64.0, 33, 1.0, 33.2),
    "glue_mnli": Rows(92.9, 117.5, 156, 1.0, 85.2),
    "glue_mnli[form=head]": Rows(116.0, 128.0, 116, 1.0, 116.0),
    "glue_mrpc": Rows(152.0, 176.0, 164, 1.0, 162.5),
    "glue_mrpc[form=head]": Rows(127.8, 128.0, 128, 1.0, 127.8),
    "glue_qnli": Rows(121.8, 144.0, 171, 1.0, 108.5),
    "glue_qnli[form=head]": Rows(126.8, 128.0, 127, 1.0, 126.8),
    "glue_qqp": Rows(78.6, 91.0, 112, 1.0, 65.6),
    "glue_qqp[form=head]": Rows(91.2, 128.0, 91, 1.0, 91.2),
    "glue_rte": Rows(157.7, 201.0, 318, 1.0, 144.0),
    "glue_rte[form=head]": Rows(128.0, 128.0, 128, 1.0, 128.0),
    "glue_sst2": Rows(24.0, 32.5, 59, 1.0, 22.5),
    "glue_sst2[form=head]": Rows(58.8, 104.0, 59, 1.0, 58.8),
    "glue_stsb": Rows(74.2, 93.5, 137, 1.0, 66.5),
    "glue_stsb[form=head]": Rows(114.5, 128.0, 114, 1.0, 114.5),
    "glue_wnli": Rows(76.9, 88.0, 122, 1.0, 66.5),
    "glue_wnli[form=head]": Rows(102.0, 128.0, 102, 1.0, 102.0),
    "kshot_mnli": Rows(133.3, 224.0, 133, 1.0, 133.3),
    "kshot_rte": Rows(255.2, 256.0, 255, 1.0, 255.2),
    "kshot_snli": Rows(69.4, 120.0, 69, 1.0, 69.4),
    "kshot_sst2": Rows(60.4, 80.0, 60, 1.0, 60.4),
    "kshot_sst5": Rows(80.5, 120.0, 80, 1.0, 80.5),
    "kshot_trec": Rows(47.8, 80.0, 48, 1.0, 47.8),
    "multirc": Rows(646.2, 786.0, 1002, 1.0, 425.8),
    "record": Rows(560.0, 560.0, 560, 48.6, 926.4),
    "rte": Rows(159.9, 188.0, 317, 1.0, 137.5),
    "squad": Rows(417.8, 558.0, 656, 8.5, 417.8),
    "squad_extractive": Rows(529.2, 648.0, 384, 1.0, 529.2),
    "sst2": Rows(24.0, 32.5, 59, 1.0, 22.5),
    "wic": Rows(74.9, 88.0, 81, 1.0, 61.9),
    "winogrande": Rows(49.7, 56.0, 52, 11.0, 60.8),
    "wsc": Rows(75.2, 88.0, 136, 1.0, 63.2),
}


@dataclass(frozen=True)
class Machine:
    """Where it is to run. None: not known."""

    device: str
    flops: float  # multiplications and additions in a second, of a forward pass
    draws: float  # random numbers in a second
    memory: int | None  # bytes
    how: str


@dataclass(frozen=True)
class Shape:
    """What the estimate needs of a model; weights are counted, not loaded."""

    trained: tuple[formulas.Shape, ...]
    weights: int  # bytes
    products: int  # weights that meet every token in a matrix product
    largest: int  # bytes of the largest module's own weights
    width: int
    layers: int
    vocabulary: int


@dataclass(frozen=True)
class Estimate:
    """None: not known, and `why` says what was missing."""

    steps: int | None = None
    forwards: int | None = None  # in training, of one batch
    backwards: int | None = None  # jvps included
    seconds: float | None = None
    peak_bytes: int | None = None
    how: str = ""

    def fits(self, machine: Machine) -> bool | None:
        if self.peak_bytes is None or machine.memory is None:
            return None
        return self.peak_bytes <= machine.memory


# --- the machine ------------------------------------------------------------------------------------------------------


def machine(
    device: str = "auto", dtype: str = "float32", flops: float | None = None, memory: int | None = None
) -> Machine:
    """This machine, measured; or one of which `flops` (in a second) and `memory` (bytes) are given."""
    where = resolve_device(device)
    if memory is None and flops is None:
        memory = _memory(where)
    if flops is not None:
        return Machine(str(where), flops, math.inf, memory, f"{flops:.3g} operations/s, given")
    measured, draws = _measured(str(where), dtype)
    return Machine(
        str(where), EFFICIENCY * measured, draws, memory, f"{EFFICIENCY * measured:.3g} operations/s, measured"
    )


def _memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


@cache
def _measured(device: str, dtype: str) -> tuple[float, float]:
    """(operations, random numbers) in a second: a matrix product, and a perturbation of 4 M numbers."""
    from zobench.core.perturb import perturb, seeded

    where = torch.device(device)
    n, rows = (4096, 4096) if where.type == "cuda" else (768, 256)
    a, b = (torch.ones(*shape, dtype=getattr(torch, dtype), device=where) for shape in ((rows, n), (n, 4 * n)))
    product = _often(lambda: a @ b, where)
    base, z = torch.zeros(2**22, device=where), seeded("gaussian", 0, 0)
    return 2.0 * rows * n * 4 * n / product, base.numel() / _often(lambda: perturb([base], [base], z), where)


def _often(body: Any, device: torch.device) -> float:
    """The least seconds of one call."""
    body()
    least, until = math.inf, time.perf_counter() + BENCHMARK
    while True:
        began = time.perf_counter()
        body()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        least = min(least, time.perf_counter() - began)
        if time.perf_counter() > until:
            return least


# --- the model --------------------------------------------------------------------------------------------------------


@cache
def shape(model: str, revision: str | None, kind: str, adapter: str, dtype: str) -> Shape:
    """Counted on a model without storage. UsageError, EnvironmentUnmet: its configuration is not known here."""
    config = _configuration(model, revision)
    named = _tensors(config, kind)
    itemsize = getattr(torch, dtype).itemsize
    vocabulary = int(getattr(config, "vocab_size", 0))
    width = int(getattr(config, "hidden_size", 0) or getattr(config, "n_embd", 0) or getattr(config, "dim", 0))
    layers = int(
        getattr(config, "num_hidden_layers", 0) or getattr(config, "n_layer", 0) or getattr(config, "n_layers", 0)
    )
    numel = {name: math.prod(dims) for name, dims in named.items()}
    products = sum(n for name, n in numel.items() if len(named[name]) == 2 and not _table(name))
    trained, added = _trained(named, adapter, config, itemsize)
    modules: dict[str, int] = {}
    for name in (s.name for s in trained):
        if name in numel and not _table(name):
            modules[name.rpartition(".")[0]] = modules.get(name.rpartition(".")[0], 0) + numel[name] * itemsize
    weights = sum(numel.values()) * itemsize + added
    return Shape(tuple(trained), weights, products, max(modules.values(), default=0), width, layers, vocabulary)


def _table(name: str) -> bool:
    """Whether a tensor is looked up, or makes logits where they are wanted: no product with every token."""
    words = (
        "embed",
        "wte",
        "wpe",
        "lm_head",
        "decoder.weight",
        "vocab_projector",
        "score.",
        "classifier.",
        "qa_outputs",
    )
    return any(word in name for word in words)


def _configuration(model: str, revision: str | None) -> Any:
    """Of random models, of known ones of the hub, and of what lies on this disk; the network is not asked."""
    from zobench.build import _offline
    from zobench.models.load import configuration
    from zobench.models.shapes import known

    found = known(model)
    if found is not None:
        from transformers import AutoConfig

        return AutoConfig.for_model(**found)
    with _offline():
        return configuration(model, None if revision == "unresolved" else revision)


def _tensors(config: Any, kind: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights. Layers are alike: two are made, and the others counted after the second."""
    from zobench.models.load import _auto

    key = next(k for k in ("num_hidden_layers", "n_layer", "n_layers") if hasattr(config, k))
    layers = getattr(config, key)
    setattr(config, key, min(layers, 2))
    if hasattr(config, "layer_types") and config.layer_types:
        config.layer_types = list(config.layer_types)[:2]
    with torch.device("meta"):
        model = _auto(kind).from_config(config)
    setattr(config, key, layers)
    found: dict[str, tuple[int, ...]] = {}
    for name, p in model.named_parameters():
        found[name] = tuple(p.shape)
    for number in range(2, layers):
        last = {name.replace(".1.", f".{number}.", 1): dims for name, dims in found.items() if ".1." in name}
        found |= last
    return found


def _trained(
    named: Mapping[str, tuple[int, ...]], text: str, config: Any, itemsize: int
) -> tuple[list[formulas.Shape], int]:
    """(the trained tensors, bytes that the adapter adds)."""
    from zobench.models.adapters import QUERY_VALUE, parse

    name, options = parse(text)
    if name == "none":
        return [formulas.Shape(n, dims, itemsize) for n, dims in named.items()], 0
    found: dict[str, tuple[int, ...]] = {}
    if name == "lora":
        targets = QUERY_VALUE.get(config.model_type, ("c_attn", "query_key_value"))
        for tensor, dims in named.items():
            if len(dims) == 2 and tensor.rpartition(".")[0].rpartition(".")[2] in targets:
                module = tensor.rpartition(".")[0]
                found[f"{module}.lora_A.default.weight"] = (options["r"], dims[1])
                found[f"{module}.lora_B.default.weight"] = (dims[0], options["r"])
    elif name == "prompt":
        found["prompt"] = (options["tokens"], config.hidden_size)
    else:
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        for layer in range(config.num_hidden_layers):
            for part in ("key", "value"):
                found[f"layers.{layer}.{part}_prefix"] = (options["tokens"], heads * size)
    shapes = [formulas.Shape(n, dims, itemsize) for n, dims in found.items()]
    return shapes, sum(math.prod(s.dims) * s.itemsize for s in shapes)


# --- the task ---------------------------------------------------------------------------------------------------------


def rows_of(job: Job, scale: float) -> Rows | None:
    """What a row of the task reads, in the model's tokens; None where nobody knows."""
    entry = registry.find("task", job.task_path or job.task)
    name = entry.name + ("[form=head]" if job.task_options.get("form") == "head" else "")
    found = ROWS.get(name)
    if found is None and entry.info.get("kind") != "regression":
        found = _measured_rows(
            entry.name if entry.builtin else str(entry.path), _frozen(job.task_options), job.data_dir
        )
    return (
        None
        if found is None
        else Rows(*(round(v * scale, 1) for v in found[:3]), found.logits, found.evaluated * scale)
    )


def _frozen(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(options.items()))


@cache
def _measured_rows(name: str, options: tuple[tuple[str, Any], ...], data_dir: str | None) -> Rows | None:
    from zobench.build import _offline

    for masked in (False, True):
        try:
            with _offline():
                return measure_rows(registry.find("task", name), dict(options), masked, data_dir)
        except (ZobenchError, NotImplementedError):
            continue
    return None


def measure_rows(entry: Entry, options: Mapping[str, Any], masked: bool = False, data_dir: str | None = None) -> Rows:
    """Lay out batches of 16 rows of the task, and its first 64 validation rows, with the bundled vocabulary."""
    model = entry.info.get("model", "random:roberta-nano" if masked else "random:opt-nano")
    setting = Setting(model=model, score="validation", data_dir=Path(data_dir) if data_dir else None)
    problem = registry.load(entry).build(setting, **options)
    examples = len(problem.examples("train"))
    size = min(16, examples)
    count = -(-examples // 16)
    made = [problem.batch(step) for step in range(min(count, 32))][: max(examples // 16, 1)]
    sizes = [[ids.shape for ids in _ids(batch)] for batch in made]
    cells = [sum(math.prod(s) for s in shapes) / size for shapes in sizes]
    length = sum(s[1] for shapes in sizes for s in shapes) / sum(len(shapes) for shapes in sizes)
    wanted = [len(getattr(getattr(batch, "options", batch), "row", range(size))) for batch in made]
    mean = sum(cells) / len(cells)
    evaluated = _evaluated(problem, problem.examples("validation")[:64]) or mean
    logits = sum(wanted) / len(wanted) / size
    return Rows(*(round(v, 1) for v in (mean, max(cells), length, logits, evaluated)))


def _evaluated(problem: Any, examples: list[Any]) -> float | None:
    """Cells to score one example, where it has candidates."""
    if not hasattr(problem, "sequences"):
        return None
    packed = problem.scorer.pack([s for e in examples for s in problem.sequences(e[0], e[1])])
    return packed.inputs.input_ids.numel() / len(examples)


def _ids(value: Any) -> Iterable[torch.Tensor]:
    """Every tensor of token ids in a batch."""
    for key in ("input_ids", "inputs", "options"):
        inner = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
        if inner is not None:
            return [inner] if isinstance(inner, torch.Tensor) else _ids(inner)
    return [ids for part in value for ids in _ids(part)] if isinstance(value, (list, tuple)) else []


def train_rows(job: Job) -> int:
    """Rows to train on, as far as the task's options say: a batch is not larger."""
    entry = registry.find("task", job.task_path or job.task)
    options, sizes = job.task_options, registry.chosen(entry, job.task_options).info.get("sizes", {})
    if "k" in options:
        labels = max((len(v) for v in entry.info.get("fields", {}).values() if isinstance(v, tuple)), default=2)
        return options["k"] * labels
    return min(options.get("num_train", 1000), sizes.get("train", 10**9))


def _held_out(job: Job) -> tuple[int, int]:
    """(rows of one validation, rows of the test)."""
    entry = registry.find("task", job.task_path or job.task)
    sizes = registry.chosen(entry, job.task_options).info.get("sizes", {})
    test = min(job.task_options.get("num_eval", 1000), sizes.get("validation", 10**9))
    return train_rows(job) if "k" in job.task_options else job.task_options.get("num_dev", 500), test


# --- the run ----------------------------------------------------------------------------------------------------------


def counts(job: Job, parts: int = 1) -> tuple[int, int, int]:
    """(steps, forwards, backwards) of a job whose budget is in steps or forwards; parts: blocks of the model."""
    entry = registry.find("optimizer", job.optimizer_path or job.optimizer)
    if entry.builder == "prepare":
        return 0, 0, 0
    if job.budget.kind in ("time", "flops"):
        raise UsageError(f"a budget in {job.budget.kind} does not say how many steps")
    options = {**entry.common, **entry.options, **{k: v for k, v in job.optimizer_options.items() if v != "task"}}
    if ends_with_run(entry, options):
        options["total_steps"] = total_steps(job, entry.info, options)
    return _counts(entry.name, entry.path, job.budget.kind, job.budget.amount, tuple(sorted(options.items())), parts)


@cache
def _counts(
    name: str, path: Path, kind: str, amount: float, options: tuple[tuple[str, Any], ...], parts: int
) -> tuple[int, int, int]:
    entry, given = registry.find("optimizer", name if not name.startswith("file:") else str(path)), dict(options)
    texts = [str(entry.info.get(key, "0")) for key in ("forwards", "backwards", "jvps")]
    if not any(_changes(text) for text in texts):  # the same in every step
        one = formulas.cost(entry.info, given, 0, parts)
        steps = int(amount) if kind == "steps" else math.ceil(amount / max(one.equivalents, 1))
        return steps, steps * one.forwards, steps * (one.backwards + one.jvps)
    step = forwards = backwards = 0
    while (step if kind == "steps" else forwards + 2 * backwards) < amount:
        one = formulas.cost(entry.info, given, step, parts)
        step, forwards, backwards = step + 1, forwards + one.forwards, backwards + one.backwards + one.jvps
    return step, forwards, backwards


def _changes(text: str) -> bool:
    return re.search(r"\bt\b", text) is not None


def estimate(job: Job, where: Machine, seen: Mapping[tuple[Any, ...], Seen] | None = None) -> Estimate:
    """Of one job. seen: `stored`, runs whose numbers beat the formulas."""
    try:
        return _estimate(job, where, seen or {})
    except (ZobenchError, ValueError, ArithmeticError, KeyError, NameError, TypeError) as error:
        try:
            steps, forwards, backwards = counts(job)
        except (ZobenchError, ValueError, ArithmeticError, KeyError, NameError, TypeError):
            return Estimate(how=f"unknown: {error}")
        return Estimate(steps, forwards, backwards, how=f"unknown: {error}")


def _estimate(job: Job, where: Machine, seen: Mapping[tuple[Any, ...], Seen]) -> Estimate:
    if job.model is None:
        steps, forwards, backwards = counts(job)
        return Estimate(steps, forwards, backwards, how="unknown: not a language model")
    entry = registry.find("optimizer", job.optimizer_path or job.optimizer)
    model = shape(job.model_path or job.model, job.revision, model_kind(job), job.adapter, job.dtype)
    level = str({**entry.options, **job.optimizer_options}.get("level", "layer"))
    parts = len(blocks([(s.name, None) for s in model.trained], level)) if model.trained else 1
    steps, forwards, backwards = counts(job, parts)
    rows = rows_of(job, SHARE if model.vocabulary > 30_000 and not job.model.startswith("random:") else 1.0)
    if rows is None:
        return Estimate(steps, forwards, backwards, how="unknown: the task's rows are not here to be measured")
    batch = min(job.batch_size, train_rows(job))
    gradients = backwards > 0 and entry.info.get("order") != "forward"
    forward = operations(model, rows, batch)
    zeroth = entry.info.get("order") in ("zeroth", "forward", "hybrid")
    same, timed = seen.get(likeness(job, job.optimizer)), seen.get(likeness(job, zeroth))
    if timed is not None:
        unit, how = timed.unit, f"time as in run {timed.name}"
        noise = 0.0  # is in that time
    else:
        unit, how = forward / where.flops, "formulas"
        noise = (forwards + steps) * sum(math.prod(s.dims) for s in model.trained) / where.draws if zeroth else 0.0
    seconds = (forwards + 2 * backwards + evaluation(job, rows, batch, entry)) * unit + noise
    peak = memory(model, rows, batch, gradients, entry, job)
    if same is not None and same.peak:
        peak, how = same.peak, f"time and memory as in run {same.name}"
    return Estimate(steps, forwards, backwards, seconds, peak, how)


def model_kind(job: Job) -> str:
    """Of the model: zobench.models.load.KINDS."""
    kind = registry.find("task", job.task_path or job.task).info.get("kind")
    if kind == "spans":
        return "spans"
    if job.task_options.get("form") == "head" or (kind == "kshot" and job.task_options.get("template") == "none"):
        return "classification"
    from zobench.models.shapes import MASKED

    config = _configuration(job.model_path or job.model or "", job.revision)
    return "masked" if kind in ("kshot", "glue") and config.model_type in MASKED else "causal"


def operations(model: Shape, rows: Rows, batch: int) -> float:
    """Of a forward pass on a batch."""
    cells = rows.cells * batch
    attention = 4 * model.layers * model.width * rows.length * cells
    return 2 * model.products * cells + attention + 2 * model.vocabulary * model.width * rows.logits * batch


def evaluation(job: Job, rows: Rows, batch: int, entry: Entry) -> float:
    """All validations and the test of a run, in forwards of one training batch."""
    dev, test = _held_out(job)
    looks = 1 if entry.builder == "prepare" else job.evaluations
    examples = looks * dev + (test if job.score == "test" else 0)
    cells = rows.evaluated + (
        rows.cells + job.task_options["max_new_tokens"] if "max_new_tokens" in job.task_options else 0
    )
    shown = 1 + int(job.optimizer_options.get("shots", 0)) if entry.builder == "prepare" else 1
    return examples * cells * shown / (rows.cells * batch)


def memory(model: Shape, rows: Rows, batch: int, gradients: bool, entry: Entry, job: Job) -> int:
    """Peak bytes of tensors in a training step."""
    size = getattr(torch, job.dtype).itemsize
    if entry.builder == "prepare":
        batch = GENERATED_ROWS
    tokens = rows.most * batch
    known = {**entry.options, **entry.common, **job.optimizer_options}
    state = 0 if entry.builder == "prepare" else formulas.state_bytes(entry.info, known, model.trained)
    logits = model.vocabulary * rows.logits * batch * (size + 4)  # as they are, and exact for the loss
    mask = tokens * rows.length * size
    if not gradients:
        probe = model.largest if entry.info.get("order") in ("zeroth", "hybrid") else 0
        return int(model.weights + state + probe + WIDEST * tokens * model.width * size + logits + mask)
    trained = sum(math.prod(s.dims) * s.itemsize for s in model.trained)
    kept = model.layers * KEPT * tokens * model.width * size
    return int(model.weights + state + trained + kept + 2 * logits + mask)


# --- runs of the store ------------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """The newest stored run of a kind."""

    name: str
    unit: float  # seconds of a forward; a backward is two
    peak: int | None


def likeness(job: Job, what: str | bool) -> tuple[Any, ...]:
    """What a stored run must share; what: the optimizer, or whether it is a zeroth-order one."""
    options = tuple(sorted((k, str(v)) for k, v in job.task_options.items() if k != "split"))
    return (job.task, options, job.model, job.adapter, job.quantised, job.dtype, job.batch_size, what)


def stored(store: Path, device: str) -> dict[tuple[Any, ...], Seen]:
    """The newest finished runs on this kind of hardware by what they are like."""
    if not store.is_dir():
        return {}
    names = "cell status job environment order optimizer steps timed_steps step_seconds forwards backwards peak_bytes".split()
    here = describe(resolve_device(device), 0.0)["hardware"]
    found: dict[tuple[Any, ...], Seen] = {}
    rows = [(json.loads(row["environment"] or "{}"), row) for row in record.scan(store, (*names, "attempt"))[0]]
    for environment, row in sorted(rows, key=lambda pair: str(pair[0].get("started", ""))):
        asked = (row["forwards"] or 0) + 2 * (row["backwards"] or 0)
        if row["status"] != "ok" or environment.get("hardware") != here or not asked or not row["timed_steps"]:
            continue
        unit = row["step_seconds"] / row["timed_steps"] / (asked / row["steps"])
        job = Job.from_json(row["job"])
        one = Seen(f"{row['cell'][:16]}-{row['attempt']}", unit, row["peak_bytes"])
        zeroth = row["order"] in ("zeroth", "forward", "hybrid")
        found[likeness(job, zeroth)] = found[likeness(job, job.optimizer)] = one
    return found
