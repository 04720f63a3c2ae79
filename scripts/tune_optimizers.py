"""Give every optimizer the same small tuning and write the suite `optimizers` with what each came out with.

    python scripts/tune_optimizers.py      # an hour and more on two cores; interrupted, it goes on where it stopped

Every registered optimizer, on every task of the suite, gets the same number of trials: its learning rate at the task's rate
times 0.03, 0.1, 0.3, 1 and 3 (on the toy 0.1 to 3), one tuning seed that the suite does not use, the suite's budget in
forwards, scored on validation. All trials stand in results/tuning/optimizers.csv. Then

    zobench run --suite optimizers -j 2 -o results && make report
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from zobench import plan, registry
from zobench.build import Names
from zobench.launch import local
from zobench.record import RunRecord
from zobench.run import Place, Reporter

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT / "build" / "tuning"
TRIALS = ROOT / "results" / "tuning" / "optimizers.csv"
SUITE = ROOT / "zobench" / "suites" / "optimizers.toml"
BUDGETS = {"softmax_ce": 2000, "resnet_softmax": 2000, "bigram": 2000, "toy_sentiment": 300}  # forwards
FACTORS = {task: (0.1, 0.3, 1.0, 3.0) if task == "toy_sentiment" else (0.03, 0.1, 0.3, 1.0, 3.0) for task in BUDGETS}
SEED = "1000-1000"

HEAD = """# Every optimizer on three regressions and a toy language task, at equal forwards, three seeds, at tuned learning rates.
# Each is the best of 5 trials (toy: 4) on another seed, chosen on validation; "edge": the smallest or largest of those was best.
# Written by scripts/tune_optimizers.py; all trials are in results/tuning/optimizers.csv.
"""


def main() -> None:
    trials: list[dict[str, object]] = []
    for task, budget in BUDGETS.items():
        names = list(registry.entries("optimizer"))
        first = {row.optimizer: row for row in run(task, [text(name) for name in names], budget)}
        rates = {name: json.loads(first[name].parameters or "{}").get("lr") for name in names}
        others = [text(n, lr=rates[n] * f) for n in names if rates[n] for f in FACTORS[task] if f != 1.0]
        rows = [*first.values(), *run(task, others, budget)]
        trials += [trial(row, rates) for row in rows]
    trials.sort(key=lambda t: (list(BUDGETS).index(str(t["task"])), str(t["optimizer"]), float(str(t["lr"] or "nan"))))
    write_trials(trials)
    write_suite(trials)


def text(name: str, **options: float) -> str:
    given = {key: float(f"{value:.3g}") for key, value in options.items()}
    return name + (f"[{','.join(f'{k}={v}' for k, v in given.items())}]" if given else "")


def run(task: str, optimizers: Sequence[str], budget: int) -> list[RunRecord]:
    """One trial each, in a store of their own; those that are there already are found."""
    often = 1 if task == "toy_sentiment" else 5  # a regression keeps its last weights
    common = dict(seeds=SEED, budget=f"forwards={budget}", evaluations=often, score="validation")
    request = plan.Request([task], list(optimizers), **common)
    place = Place(store=STORE, device="cpu", lockstep=False)
    rows = []
    for row, found in local.execute(plan.jobs(request, Names()), place, Reporter(), workers=local.cores()):
        rows.append(row)
        print(
            f"{task} {row.optimizer} {row.status} {row.value} {'(found)' if found else ''} {row.reason or ''}",
            flush=True,
        )
    return rows


def trial(row: RunRecord, rates: dict[str, float]) -> dict[str, object]:
    lr = json.loads(row.parameters or "{}").get("lr")
    factor = lr / rates[row.optimizer] if lr and rates[row.optimizer] else math.nan
    kept = {"factor": f"{factor:.3g}", "lr": lr, "metric": row.metric, "value": row.value, "status": row.status}
    return (
        {"task": row.task, "optimizer": row.optimizer, "budget": row.budget}
        | kept
        | {"better": row.better, "loss": loss_of(row)}
    )


def loss_of(row: RunRecord) -> float:
    return float(json.loads(row.validation_metrics or "{}").get("loss", math.inf))


def quality(one: dict[str, object]) -> tuple[float, float]:
    """Lower is better; a failed trial is worst."""
    value = float(str(one["value"])) if one["status"] == "ok" else math.nan
    signed = value if one["better"] == "lower" else -value
    return (math.inf if math.isnan(signed) else signed, float(str(one["loss"])))


def write_trials(trials: Iterable[dict[str, object]]) -> None:
    TRIALS.parent.mkdir(parents=True, exist_ok=True)
    columns = ("task", "optimizer", "budget", "factor", "lr", "metric", "value", "status")
    with TRIALS.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(trials)


def write_suite(trials: Sequence[dict[str, object]]) -> None:
    parts = [HEAD]
    for task, budget in BUDGETS.items():
        lines = []
        for name in registry.entries("optimizer"):
            mine = [t for t in trials if t["task"] == task and t["optimizer"] == name and t["lr"]]
            best = min(mine, key=quality)
            ends = (min(mine, key=rate_of), max(mine, key=rate_of))
            chosen = {} if best["factor"] == "1" else {"lr": rate_of(best)}
            lines.append(f'    "{text(name, **chosen)}",' + ("  # edge" if best in ends else ""))
        parts.append("\n".join(["[[run]]", f'tasks = ["{task}"]', "optimizers = [", *lines, "]"]))
        parts.append(f'seeds = "3"\nbudget = "forwards={budget}"\n')
    SUITE.write_text("\n".join(parts))


def rate_of(one: dict[str, object]) -> float:
    return float(str(one["lr"]))


if __name__ == "__main__":
    main()
