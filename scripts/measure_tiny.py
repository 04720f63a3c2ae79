"""Measure the tiny model on the toy tasks over five seeds, and write the figures into its model card.

    python scripts/measure_tiny.py      # about half an hour on two cores
    python scripts/measure_tiny.py --model DIR --methods zero-shot mezo --seeds 100     # another model: printed only

A run is `zobench run` at the task's default budget and published rates; a seed is data seed and direction seed together.
Runs go side by side, two at a time, one thread each. Figures are kept in build/tiny.jsonl as they come, so that an
interrupted measurement goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

from zobench import registry
from zobench.models.identity import directory_digest
from zobench.models.shapes import TINY
from zobench.problems.world import TASKS, UNSEEN

KEPT = Path(__file__).resolve().parents[1] / "build" / "tiny.jsonl"
FAMILY = {"mezo": "two-point", "adam": "adaptive"}
SEEDS = (0, 1, 2, 3, 4)
METHODS = ("zero-shot", "mezo", "adam", "zero-shot, no prompt", "mezo, no prompt")
HEADS = ("zero-shot", "MeZO", "Adam", "zero-shot, no prompt", "MeZO, no prompt")

CARD = """# tiny

A causal language model that was pretrained in minutes, on text that a seeded generator makes, so that zeroth- and
first-order fine-tuning can be shown, tested and compared without a network, a GPU or a download. It knows a few hundred
words of a small world (`zobench/problems/world.py`) and nothing else: it is of no use for any other purpose.

| | |
|---|---|
| shape | OPT, {layers} layers of width {width}, {heads} heads, feed-forward {ffn}, {positions} positions, tied embeddings |
| parameters | {parameters:,}; float16 on disk ({size:.2f} MiB), float32 when loaded |
| tokenizer | byte-level BPE of the same text, {vocabulary} entries |
| pretraining | `python scripts/pretrain_tiny.py`: {steps} steps, {took} on {machine} |
| digest | `sha256:{digest}` |
| licence | that of the project |

`make tiny` pretrains and measures again. On the same machine and versions it gives the same digest, elsewhere figures
within 2 points of those below.

## Figures

Five seeds, of data and directions together; mean over seeds, then each seed. Per cent on 500 test rows, accuracy or (qa) F1,
at the best of five validations; each task at its default budget and at the rates that it publishes, which were chosen on
other seeds. A share of the rows needs what the text never tells:
{unseen}.

{table}

Without the prompt nothing stands between the text and the answer: see `template=empty` of each task.

Seconds inside the optimizer's steps of the five runs of MeZO with the prompt, one thread each, two runs side by side. Where
other work disturbed them, the fastest says what the machine can do.

{times}

Measured by `python scripts/measure_tiny.py` on {machine}; {versions}.
"""


class Figure(NamedTuple):
    """One run: per cent on the test rows, the seconds inside its steps."""

    task: str
    method: str
    seed: int
    value: float
    seconds: float
    of: str  # digest of the model, task with budget and rates: what makes an old figure this one


class Cell(NamedTuple):
    """What is to be measured."""

    model: str
    task: str
    method: str
    seed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny", help="a directory: its figures are printed, no card is written")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument(
        "--card", action="store_true", help="write the card from the figures that are there; run nothing"
    )
    asked = parser.parse_args()
    cells = [Cell(asked.model, t, m, s) for s in asked.seeds for m in asked.methods for t in asked.tasks]
    whole = (asked.model, *map(tuple, (asked.seeds, asked.methods, asked.tasks))) == ("tiny", SEEDS, METHODS, TASKS)
    if not asked.card:
        measure_all(cells)
    known = kept()
    figures = [known[cell] for cell in cells if cell in known]
    table, times = figures_table(figures), times_table(figures)
    print(table, times, sep="\n\n")
    if whole:
        (TINY / "README.md").write_text(card(table, times), encoding="utf-8")


def kept() -> dict[Cell, Figure]:
    """The figures of former runs that would come out again: of this model, at these budgets and rates."""
    lines = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    known = {Cell(*cell): Figure(*figure) for cell, figure in map(json.loads, lines)}
    return {cell: figure for cell, figure in known.items() if figure.of == identity(cell)}


def measure_all(cells: Sequence[Cell]) -> None:
    """Measure and keep what is not kept. A new process for each run: the time of one must not depend on the last."""
    known = kept()
    left = [cell for cell in cells if cell not in known]
    KEPT.parent.mkdir(exist_ok=True)
    with get_context("spawn").Pool(2, maxtasksperchild=1) as pool, open(KEPT, "a", encoding="utf-8") as file:
        for cell, figure in pool.imap_unordered(measure, left):
            file.write(json.dumps([cell, figure]) + "\n")
            file.flush()
            print(
                f"{cell.task}, {cell.method}, seed {cell.seed}: {figure.value:.1f}, {figure.seconds:.0f} s", flush=True
            )


def identity(cell: Cell) -> str:
    info, name = registry.find("task", f"toy_{cell.task}").info, cell.method.partition(", ")[0]
    digest = directory_digest(TINY if cell.model == "tiny" else Path(cell.model))
    if name == "zero-shot":
        return f"{digest} {info['version']}"
    return f"{digest} {info['version']} {info['budget']} {info['step_rates'][FAMILY[name]]}"


def measure(cell: Cell) -> tuple[Cell, Figure]:
    name, _, without = cell.method.partition(", ")
    options = dict(template="empty") if without else {}
    if name == "zero-shot":
        value = zero_shot(cell.model, f"toy_{cell.task}", cell.seed, options)
        return cell, Figure(cell.task, cell.method, cell.seed, 100 * value, 0.0, identity(cell))
    import zobench

    spec = f"toy_{cell.task}" + "".join(f"[{key}={value}]" for key, value in options.items())
    seeds = dict(seeds=f"{cell.seed},", data_seed=cell.seed)
    with tempfile.TemporaryDirectory() as store:
        (row,) = zobench.run(spec, name, store=store, model=cell.model, device="cpu", **seeds)
    if row.status != "ok":
        raise SystemExit(f"{spec}, {name}, seed {cell.seed}: {row.status} ({row.reason})")
    seconds = row.step_seconds + row.warmup_seconds
    return cell, Figure(cell.task, cell.method, cell.seed, 100 * row.value, seconds, identity(cell))


def zero_shot(model: str, task: str, seed: int, options: dict[str, str]) -> float:
    """The metric on the test rows before any training, a fraction."""
    import torch

    from zobench.spec import Setting

    torch.set_num_threads(1)
    entry = registry.find("task", task)
    problem = registry.load(entry).build(Setting(model=model, data_seed=seed), **options)
    return problem.evaluate("test")[entry.info["metric"]]


def figures_table(figures: Sequence[Figure]) -> str:
    lines = ["| task | " + " | ".join(HEADS) + " |", "|---" * (len(HEADS) + 1) + "|"]
    for task in TASKS:
        row = [f"toy-{task}"]
        for method in METHODS:
            values = [f.value for f in sorted(figures, key=lambda f: f.seed) if (f.task, f.method) == (task, method)]
            row.append(f"{statistics.mean(values):.1f} ({', '.join(f'{v:.1f}' for v in values)})" if values else "")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def times_table(figures: Sequence[Figure]) -> str:
    lines = ["| task | budget | fastest | median |", "|---|---|---|---|"]
    for task in TASKS:
        seconds = [f.seconds for f in figures if (f.task, f.method) == (task, "mezo")]
        if seconds:
            budget = registry.find("task", f"toy_{task}").info["budget"]
            lines.append(f"| toy-{task} | {budget} | {min(seconds):.0f} | {statistics.median(seconds):.0f} |")
    return "\n".join(lines)


def card(table: str, times: str) -> str:
    import torch
    import transformers
    from pretrain_tiny import STEPS, TOOK

    digest, took = directory_digest(TINY), json.loads(TOOK.read_text(encoding="utf-8")) if TOOK.exists() else {}
    model = transformers.AutoModelForCausalLM.from_pretrained(TINY)
    config = model.config
    return CARD.format(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        ffn=config.ffn_dim,
        positions=config.max_position_embeddings,
        parameters=sum(p.numel() for p in model.parameters()),
        size=(TINY / "model.safetensors").stat().st_size / 2**20,
        vocabulary=config.vocab_size,
        steps=STEPS,
        took=f"{took['minutes']} minutes" if took.get("digest") == digest else "its time was not taken,",
        machine=machine(),
        digest=digest,
        unseen=", ".join(f"{share:.0%} of {task}" for task, share in UNSEEN.items()).replace(
            "of entailment", "of the negated hypotheses of entailment"
        ),
        table=table,
        times=times,
        versions=f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}",
    )


def machine() -> str:
    """Cores and instruction set: what the figures may depend on, and nothing that names a machine."""
    import torch

    return f"{os.cpu_count()} CPU cores, {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    main()
