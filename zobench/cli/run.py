"""`zobench run`: plan the cells, run them, say what came out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from zobench.record import RunRecord

from zobench.cli.common import execute, given, ignore_ctrl_c, json_option, names_option, table

FIRST = ("softmax_l2",), ("mezo",)  # what `zobench run` alone does
NEXT = """\
That was MeZO on a softmax regression: zobench run -t softmax_l2 -O mezo, stored and ready for `zobench report`. Next:
  zobench run -t softmax_l2 -O mezo,sgd,adam,newton --seeds 3    a race, with a reference line beside it
  zobench run -t toy-sentiment -O mezo,adam                      fine-tune the bundled pretrained language model
  zobench list                                                   tasks, optimizers; `zobench info NAME` explains one"""


@click.command()
@names_option(
    "-t",
    "--task",
    "--tasks",
    "tasks",
    help="Task, or a .py file; repeatable. Options in brackets: sst2[num_train=500].",
)
@names_option(
    "-O",
    "--optimizer",
    "--optimizers",
    "optimizers",
    help="Optimizer, or a .py file; repeatable. 'mezo[lr=1e-6,eps=1e-3]'; a list is a grid: 'mezo[lr=[1e-6,1e-7]]'.",
)
@click.option("--suite", metavar="NAME", help="Run a suite (a name, or a TOML file) instead of -t and -O.")
@click.option(
    "-m",
    "--model",
    metavar="ID",
    help="Hub id, local directory (safetensors), or random:NAME: opt-nano, roberta-nano, opt-125m ...; `zobench list models`.",
)
@click.option("--revision", metavar="REV", help="Revision of a hub model.")
@click.option(
    "--adapter",
    default="none",
    show_default=True,
    metavar="NAME",
    help="none, lora[r=8,alpha=16], prefix[tokens=5,init=real] or prompt[tokens=10].",
)
@click.option(
    "--quantise",
    "quantised",
    default="none",
    show_default=True,
    metavar="Q",
    help="none, 8bit or 4bit: the frozen weights under an adapter (zobench[quantised]).",
)
@click.option(
    "--budget",
    metavar="B",
    help="steps=N, forwards=N (a backward counts 2), flops=1e15, time=30m, or smoke, small, full. Default: the task's.",
)
@click.option(
    "--seeds",
    default="0",
    show_default=True,
    metavar="S",
    help="Directions, batch order, initialisation: 0, a count (3), a range (0-4) or a list (13,21).",
)
@click.option("--data-seed", default=0, show_default=True, metavar="N", help="Which rows are train, dev and test.")
@click.option("--dtype", metavar="T", help="fp32, bf16, fp16 (fp64 on regressions).")
@click.option("--device", default="auto", show_default=True, metavar="D", help="cpu, cuda, cuda:N.")
@click.option("-b", "--batch-size", type=int, metavar="N", help="Rows per batch. Default: the task's.")
@click.option(
    "--schedule",
    default="constant",
    show_default=True,
    metavar="S",
    help="Of the learning rate: constant or linear (to zero).",
)
@click.option("--evaluations", default=5, show_default=True, metavar="N", help="Validations spread over the budget.")
@click.option(
    "--score",
    default="test",
    show_default=True,
    metavar="SPLIT",
    help="test, or validation (the test rows are not read).",
)
@click.option(
    "--data",
    "data_dir",
    metavar="DIR",
    help="Local rows (jsonl or parquet, hub field names); default $ZOBENCH_DATA, then the hub.",
)
@click.option(
    "-o", "--output", "store", metavar="DIR", help="Where results go. Default: $ZOBENCH_STORE or ./zobench-runs."
)
@click.option(
    "--overwrite",
    type=click.Choice(["only-missing", "always"]),
    default="only-missing",
    show_default=True,
    help="A finished cell is found done, or run again as a new attempt.",
)
@click.option("--timeout", metavar="T", help="Wall-clock limit of each run, for example 30m.")
@click.option(
    "-j",
    "--jobs",
    "workers",
    default=1,
    show_default=True,
    metavar="N",
    help="Cells side by side, each with its share of the cores.",
)
@click.option(
    "--lockstep/--no-lockstep",
    default=True,
    show_default=True,
    help="Compute 8 or more seeds of a regression together: many times faster, on one clock.",
)
@click.option("--save", metavar="DIR", help="Save the final weights where from_pretrained opens them.")
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan and stop.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def run(
    tasks: list[str], optimizers: list[str], suite: str | None, store: str | None, device: str, overwrite: str,
    timeout: str | None, workers: int, lockstep: bool, save: str | None, dry_run: bool, as_json: bool, quiet: bool,
    **request: Any,
) -> None:  # fmt: skip
    """Run tasks with optimizers, measure, and store one Parquet file per run.

    Without a task, an optimizer and a suite: MeZO on a small softmax regression, and what else can be asked.
    """
    from zobench import plan

    if workers < 1:
        raise click.UsageError(f"jobs {workers}: must be at least 1")
    first = not tasks and not optimizers and suite is None
    if first:
        tasks, optimizers = list(FIRST[0]), list(FIRST[1])
    requests = _requests(plan, tasks, optimizers, suite, request)
    if dry_run:
        from zobench.build import OfflineNames

        _dry_run(plan, [job for r in requests for job in plan.jobs(r, OfflineNames())], store, as_json)
        return
    from zobench.build import Names
    from zobench.progress import Display
    from zobench.run import Place

    jobs = [job for r in requests for job in plan.jobs(r, Names())]
    place = Place(
        store=Path(store) if store else plan.default_store(),
        device=device,
        timeout=plan.duration(timeout) if timeout else None,
        overwrite=overwrite,
        save=Path(save) if save else None,
        lockstep=lockstep,
    )
    rows, reused = [], []
    with Display(len(jobs), quiet=quiet) as display:
        for row, found in execute(jobs, place, display, workers):
            rows.append(row)
            reused.append(found)
            if not as_json:
                display.answer(_one_line(row, found))
    _answer_run(rows, reused, as_json, place.store)
    if first and not quiet:
        click.echo(NEXT, err=True)


def _requests(
    plan: Any, tasks: list[str], optimizers: list[str], suite: str | None, request: dict[str, Any]
) -> list[Any]:
    if suite is None:
        return [plan.Request(tasks, optimizers, **request)]
    if tasks:
        raise click.UsageError("a suite brings its tasks; give --suite or -t, not both")
    return plan.suite(suite, optimizers, {k: v for k, v in request.items() if given(k)})


def _dry_run(plan: Any, jobs: list[Any], store: str | None, as_json: bool) -> None:
    from zobench import record

    place = Path(store) if store else plan.default_store()
    done = {
        r["cell"]: r["provenance"]
        for r in record.scan(place, ("cell", "provenance", "status"))[0]
        if r["status"] == "ok"
    }
    rows = [
        {
            "cell": job.cell[:16],
            "task": job.task,
            "optimizer": f"{job.optimizer}[{','.join(f'{k}={v}' for k, v in job.optimizer_options.items())}]",
            "model": job.model,
            "seed": job.seed,
            "budget": str(job.budget),
            "data": job.data[:40],
            "done": done.get(job.cell) == plan.provenance(job),
        }
        for job in jobs
    ]
    table(rows, as_json)
    if not as_json:
        click.echo(f"{len(rows)} runs, {sum(r['done'] for r in rows)} of them done; nothing was started", err=True)


def _answer_run(rows: list[RunRecord], reused: list[bool], as_json: bool, store: Path) -> None:
    from zobench.spec import RunsFailed

    if as_json:
        click.echo(json.dumps([_summary(row, found) for row, found in zip(rows, reused, strict=True)], indent=2))
    if any(row.status == "interrupted" for row in rows):
        ignore_ctrl_c()
        click.get_current_context().exit(130)
    failed = [row for row in rows if row.status != "ok"]
    if failed:
        raise RunsFailed(f"{len(failed)} of {len(rows)} runs failed; each is stored in {store} with its reason")


def _summary(row: RunRecord, found: bool) -> dict[str, Any]:
    from zobench.record import LIGHT, plain

    return plain({name: getattr(row, name) for name in LIGHT} | {"found_done": found})


def _one_line(row: RunRecord, found: bool) -> str:
    head = f"{row.cell[:16]}-{row.attempt}  {row.task} {row.optimizer} seed {row.seed}"
    if row.status != "ok":
        return f"{head}: {row.status} ({row.reason})"
    assert row.value is not None and row.step_seconds is not None and row.warmup_seconds is not None
    shown = f"{row.value:.3e}" if row.scale == "log" else f"{100 * row.value:.1f}"
    seconds = row.step_seconds + row.warmup_seconds
    cost = f"{row.steps} steps, {row.forwards} forwards, {row.backwards} backwards, {seconds:.1f} s"
    done = f" [done already, attempt {row.attempt}; --overwrite always runs it again]" if found else ""
    partial = " [partial-data]" if row.partial_data else ""
    return f"{head}: {row.metric} {shown}  ({cost}){partial}{done}"
