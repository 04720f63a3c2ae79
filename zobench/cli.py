"""The commands. stdout carries the answer, stderr everything else; heavy imports stay inside the commands."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zobench import catalog, registry

if TYPE_CHECKING:
    from zobench.record import RunRecord

FAMILIES = ("gradient", "two-point", "adaptive")
SUITES = ("opt", "kshot", "glue", "squad", "toy", "synthetic")  # the order in which tasks are listed
LISTS = ("tasks", "optimizers", "baselines", "suites", "models", "runs")
RIVALS = ("sgd", "adam", "mezo")  # beside which `zobench test` places an optimizer
ARENA, ARENA_BUDGET = ("softmax_ce", "quadratic", "bigram"), "forwards=1000"
FIRST = ("softmax_l2",), ("mezo",)  # what `zobench run` alone does
NEXT = """\
That was MeZO on a softmax regression: zobench run -t softmax_l2 -O mezo, stored and ready for `zobench report`. Next:
  zobench run -t softmax_l2 -O mezo,sgd,adam,newton --seeds 3    a race, with a reference line beside it
  zobench run -t toy-sentiment -O mezo,adam                      fine-tune the bundled pretrained language model
  zobench list                                                   tasks, optimizers; `zobench info NAME` explains one"""


class Commands(click.Group):
    """Turns what a user can cause into one line and an exit code; `zobench -t ... -O ...` means `run`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ("--help", "-h", "--version"):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            raise click.UsageError(f"unknown command {args[0]!r}{registry.did_you_mean(args[0], self.commands)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        from zobench.spec import ZobenchError

        if not os.environ.get("ZOBENCH_DEBUG"):
            warnings.filterwarnings("ignore", category=FutureWarning)  # between libraries: nothing a user could act on
        try:
            return super().invoke(ctx)
        except ZobenchError as error:
            click.echo(f"zobench: {error}", err=True)
            ctx.exit(error.code)
        except KeyboardInterrupt:
            click.echo("zobench: interrupted", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the reader has left; the interpreter must not complain
            ctx.exit(0)
        except (click.exceptions.Exit, click.Abort):
            raise
        except click.ClickException as error:
            click.echo(f"zobench: {error.format_message()} (-h shows the options)", err=True)
            ctx.exit(error.exit_code)
        except Exception as error:
            if os.environ.get("ZOBENCH_DEBUG"):
                raise
            click.echo(
                f"zobench: internal error: {type(error).__name__}: {error} (ZOBENCH_DEBUG=1 shows where)", err=True
            )
            ctx.exit(1)


class OneOf(click.Choice):
    """A choice whose refusal names the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value not in self.choices:
            near = registry.did_you_mean(str(value), self.choices)
            self.fail(f"{value!r} is not one of {', '.join(self.choices)}{near}", param, ctx)
        return super().convert(value, param, ctx)


class Amount(click.ParamType):
    """A finite number of at least 0."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            self.fail(f"{value!r} is no number of at least 0", param, ctx)
        return number


def many(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """Repeated or comma-separated; commas inside brackets belong to the name."""
    return [part.strip() for value in values for part in registry.split(value)]


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(None, "--version", package_name="zobench", message="zobench %(version)s")
def main() -> None:
    """Zeroth-order against first-order optimizers, measured: run, replay and rank.

    \b
    zobench run                                         a first small run, seconds
    zobench run -t toy-sentiment -O mezo,adam           the bundled pretrained model, fine-tuned
    zobench sweep --suite opt11 -O mezo,adam -n         a paper's table: tune, then test; here the plan
    zobench report                                      the leaderboard of ./zobench-runs
    zobench list optimizers                             what there is

    Exit codes: 0 fine, 1 internal error, 2 bad usage, 3 mismatch, 4 some runs failed, 5 nothing measured,
    6 environment unmet, 130 interrupted.
    """


@main.command()
@click.option(
    "-t",
    "--task",
    "--tasks",
    "tasks",
    multiple=True,
    callback=many,
    metavar="NAME",
    help="Task, or a .py file; repeatable. Options in brackets: sst2[num_train=500].",
)
@click.option(
    "-O",
    "--optimizer",
    "--optimizers",
    "optimizers",
    multiple=True,
    callback=many,
    metavar="NAME",
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
    help="steps=N, forwards=N (a backward counts 2), time=30m, or smoke, small, full. Default: the task's.",
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
        for row, found in _execute(jobs, place, display, workers):
            rows.append(row)
            reused.append(found)
            if not as_json:
                display.answer(_one_line(row, found))
    _answer_run(rows, reused, as_json, place.store)
    if first and not quiet:
        click.echo(NEXT, err=True)


def _execute(jobs: list[Any], place: Any, display: Any, workers: int) -> Any:
    if workers > 1 and len(jobs) > 1:
        from zobench.launch import local

        return local.execute(jobs, place, display, workers)
    from zobench.run import execute

    return execute(jobs, place, display)


def _requests(
    plan: Any, tasks: list[str], optimizers: list[str], suite: str | None, request: dict[str, Any]
) -> list[Any]:
    if suite is None:
        return [plan.Request(tasks, optimizers, **request)]
    if tasks:
        raise click.UsageError("a suite brings its tasks; give --suite or -t, not both")
    return plan.suite(suite, optimizers, {k: v for k, v in request.items() if _given(k)})


def _given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


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
    _table(rows, as_json)
    if not as_json:
        click.echo(f"{len(rows)} runs, {sum(r['done'] for r in rows)} of them done; nothing was started", err=True)


def _answer_run(rows: list[RunRecord], reused: list[bool], as_json: bool, store: Path) -> None:
    from zobench.spec import RunsFailed

    if as_json:
        click.echo(json.dumps([_summary(row, found) for row, found in zip(rows, reused, strict=True)], indent=2))
    if any(row.status == "interrupted" for row in rows):
        _ignore_ctrl_c()
        click.get_current_context().exit(130)
    failed = [row for row in rows if row.status != "ok"]
    if failed:
        raise RunsFailed(f"{len(failed)} of {len(rows)} runs failed; each is stored in {store} with its reason")


def _ignore_ctrl_c() -> None:
    """While the interpreter ends: another one would take the exit code, and everything is stored."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


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


@main.command()
@click.option(
    "--suite", "suite_name", metavar="NAME", help="A suite, one of its tables (opt11:zo-llm), or a TOML file."
)
@click.option(
    "-t",
    "--task",
    "--tasks",
    "tasks",
    multiple=True,
    callback=many,
    metavar="NAME",
    help="Only these of the suite (wildcards allowed); without a suite, what to tune on.",
)
@click.option(
    "-O",
    "--optimizer",
    "--optimizers",
    "optimizers",
    multiple=True,
    callback=many,
    metavar="NAME",
    help="In the place of the suite's. Options in brackets are fixed; a list is the grid: 'mezo[lr=[1e-6,1e-7]]'.",
)
@click.option("--adapter", "adapters", multiple=True, callback=many, metavar="NAME", help="Only these of the suite.")
@click.option("-m", "--model", metavar="ID", help="In the place of the suite's.")
@click.option("--revision", metavar="REV", help="Revision of a hub model.")
@click.option("--trials", type=int, metavar="N", help="At most N points of each grid, spread evenly over it.")
@click.option(
    "--budget", metavar="B", help="In the place of the suite's: steps=N, forwards=N, time=30m, smoke, small, full."
)
@click.option(
    "--seeds", metavar="S", help="Of the chosen setting, in the place of the suite's; the first is the trials'."
)
@click.option("-b", "--batch-size", type=int, metavar="N", help="Rows per batch, in the place of the suite's.")
@click.option("--evaluations", type=int, metavar="N", help="Validations spread over the budget.")
@click.option("--dtype", metavar="T", help="fp32, bf16, fp16, in the place of the suite's.")
@click.option("--device", default="auto", show_default=True, metavar="D", help="cpu, cuda, cuda:N.")
@click.option("--data", "data_dir", metavar="DIR", help="Local rows; default $ZOBENCH_DATA, then the hub.")
@click.option(
    "-o", "--output", "store", metavar="DIR", help="Where results go. Default: $ZOBENCH_STORE or ./zobench-runs."
)
@click.option("--timeout", metavar="T", help="Wall-clock limit of each run, for example 30m.")
@click.option("-j", "--jobs", "workers", default=1, show_default=True, metavar="N", help="Cells side by side.")
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan, with an estimate of time and memory, and stop.")
@click.option(
    "--device-flops", type=Amount(), metavar="X", help="For the estimate of another device: operations/s, 1e14."
)
@click.option("--device-memory", type=Amount(), metavar="GB", help="For the estimate of another device: its memory.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def sweep(
    suite_name: str | None, tasks: list[str], optimizers: list[str], adapters: list[str], trials: int | None,
    store: str | None, device: str, timeout: str | None, workers: int, dry_run: bool, device_flops: float | None,
    device_memory: float | None, as_json: bool, quiet: bool, **request: Any,
) -> None:  # fmt: skip
    """Tune on validation over the grids of a suite, then score what was chosen on test.

    Every point of a grid is a run whose test rows are not read; the best by validation is run with the suite's seeds. All
    trials stay in the store. Called again, what is done is found done; interrupted, it goes on.
    """
    from zobench import plan, suite, tune
    from zobench.build import Names, OfflineNames

    if workers < 1:
        raise click.UsageError(f"jobs {workers}: must be at least 1")
    if device_flops == 0:
        raise click.UsageError("device-flops 0: must be above 0")
    given = {k: v for k, v in request.items() if v is not None}
    if suite_name is None:
        if not tasks or not optimizers:
            raise click.UsageError(
                "name a suite (--suite), or what to tune (-t and -O); `zobench list suites` shows them"
            )
        table = {"run": [{"tasks": tasks, "optimizers": optimizers, "adapters": adapters or ["none"]}]}
        rows = suite.of(suite.load(Path("sweep"), table), given=given)
    else:
        rows = suite.rows(suite_name, tasks=tasks, optimizers=optimizers, adapters=adapters, given=given)
    names = OfflineNames() if dry_run else Names()
    studies = [tune.study(row, names, trials) for row in rows]
    place = Path(store) if store else plan.default_store()
    if dry_run:
        _sweep_plan(studies, place, device, device_flops, device_memory, as_json)
        return
    _sweep(studies, names, place, device, plan.duration(timeout) if timeout else None, workers, as_json, quiet)


def _sweep(
    studies: list[Any],
    names: Any,
    store: Path,
    device: str,
    timeout: float | None,
    workers: int,
    as_json: bool,
    quiet: bool,
) -> None:
    from zobench import tune
    from zobench.progress import Display
    from zobench.run import Place
    from zobench.spec import RunsFailed

    place = Place(store=store, device=device, timeout=timeout)
    with _interrupts() as heard:

        def execute(jobs: Any) -> Any:
            with Display(len(jobs), quiet=quiet) as display:
                for answer in _execute(jobs, place, display, workers) if jobs else ():
                    yield answer
                    if heard:
                        raise KeyboardInterrupt

        try:
            rows = tune.run(studies, names, execute, store)
            if any(row.status == "interrupted" for row in rows.values()):
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            click.echo("zobench: interrupted; the same command goes on", err=True)
            click.get_current_context().exit(130)
    answers = [_chosen(study, rows) for study in studies]
    if as_json:
        click.echo(json.dumps(answers, indent=2))
    else:
        for answer in answers:
            click.echo(_chosen_line(answer))
    bad = [answer for answer in answers if answer["failed"]]
    if bad:
        raise RunsFailed(
            f"{len(bad)} of {len(answers)} settings have no whole result; the runs are in {store} with reasons"
        )


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """What Ctrl-C says between two runs: noted, too, because what is raised in a finalizer is lost."""
    heard: list[int] = []

    def hear(number: int, frame: Any) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)


def _chosen(study: Any, rows: dict[str, Any]) -> dict[str, Any]:
    """What a study came to, as data."""
    from zobench.record import plain

    finals = [rows[job.cell] for job in study.final if job.cell in rows]
    done = [row for row in finals if row.status == "ok"]
    trials = [[rows[job.cell] for job in jobs if job.cell in rows] for jobs in study.trials]
    ok = [number for number, found in enumerate(trials) if found and all(row.status == "ok" for row in found)]
    values, validations = [row.value for row in done], [row.validation for row in done]
    mean = sum(values) / len(values) if values else None
    spread = None
    if mean is not None and len(values) > 1:
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return plain(
        {
            "study": study.name, "optimizer": study.row.optimizer, "adapter": study.row.adapter,
            "chosen": study.setting if study.chosen is not None else None, "settings": dict(study.row.settings),
            "edge": study.edge, "trials": len(trials), "trials_ok": len(ok),
            "metric": done[0].metric if done else None, "scale": done[0].scale if done else None, "test": mean,
            "std": spread, "runs": len(done), "of": len(study.final), "values": values, "validation": validations,
            "cells": [job.cell[:16] for job in study.final], "failed": study.chosen is None or len(done) < len(study.final),
        }
    )  # fmt: skip


def _chosen_line(answer: dict[str, Any]) -> str:
    if answer["chosen"] is None:
        return f"{answer['study']}: no setting chosen, {answer['trials_ok']} of {answer['trials']} trials finished"
    setting = ",".join(f"{k}={v}" for k, v in answer["chosen"].items())
    head = f"{answer['study']}" + (f" [{setting}]" if setting else "")
    if answer["test"] is None:
        return f"{head}: no run of the chosen setting finished"
    percent = answer["scale"] != "log"
    shown = (lambda v: f"{100 * v:.1f}") if percent else (lambda v: f"{v:.3e}")
    std = f" +- {shown(answer['std'])}" if answer["std"] is not None else ""
    trials = f"best of {answer['trials']} trials on validation" if answer["trials"] else "nothing to tune"
    edge = f"; edge: {', '.join(answer['edge'])}" if answer["edge"] else ""
    return f"{head}: {answer['metric']} {shown(answer['test'])}{std}  ({answer['runs']} of {answer['of']} runs; {trials}{edge})"


def _sweep_plan(
    studies: list[Any], store: Path, device: str, flops: float | None, memory: float | None, as_json: bool
) -> None:
    """The plan of a sweep: a line for each study, and totals."""
    from zobench import estimate, plan, record

    machines: dict[str, Any] = {}
    size = None if memory is None else int(memory * 1e9)
    seen = estimate.stored(store, device) if store.is_dir() and flops is None else {}
    scanned = record.scan(store, ("cell", "provenance", "status"))[0] if store.is_dir() else []
    done = {r["cell"]: r["provenance"] for r in scanned if r["status"] == "ok"}
    found: dict[str, Any] = {}
    lines, whole = [], {}
    for study in studies:
        trials = [job for jobs in study.trials for job in jobs]
        final = study.final or plan.jobs(study.row.request(study.points[0]), _offline_names())
        for job in (*trials, *final):
            if job.dtype not in machines:
                machines[job.dtype] = estimate.machine(device, job.dtype, flops, size)
            if job.cell not in found:
                found[job.cell] = estimate.estimate(job, machines[job.dtype], seen)
        whole |= {job.cell: job for job in (*trials, *final)}
        lines.append(_study_line(study, trials, final, found, machines, done))
    known = [found[cell] for cell in whole]
    where = next(iter(machines.values()))
    totals = {
        "runs": len(whole),
        "done": sum(done.get(cell) == plan.provenance(job) for cell, job in whole.items()) if done else 0,
        "forwards": sum(one.forwards or 0 for one in known),
        "backwards": sum(one.backwards or 0 for one in known),
        "seconds": sum(one.seconds or 0.0 for one in known),
        "unknown": sum(one.seconds is None for one in known),
        "why": sorted({one.how for one in known if one.seconds is None}),
        "do_not_fit": sum(found[cell].fits(where) is False for cell in whole),
        "device": where.device,
        "device_memory": where.memory,
        "speed": ", ".join(f"{dtype} {machine.how}" for dtype, machine in machines.items()),
    }
    if as_json:
        click.echo(json.dumps({"studies": lines, "totals": totals}, indent=2))
        return
    shown = [_shown(line) for line in lines]
    click.echo(f"{studies[0].row.asked.get('model') or 'the tasks own models'}:", err=True)
    _table(shown, False)
    _totals(totals)


def _offline_names() -> Any:
    from zobench.build import OfflineNames

    return OfflineNames()


def _study_line(
    study: Any,
    trials: list[Any],
    final: list[Any],
    found: dict[str, Any],
    machines: dict[str, Any],
    done: dict[str, str],
) -> dict[str, Any]:
    from zobench import plan

    jobs = list({job.cell: job for job in (*trials, *final)}.values())
    all_of = [found[job.cell] for job in jobs]
    seconds = [one.seconds for one in all_of]
    peaks = [one.peak_bytes for one in all_of if one.peak_bytes is not None]
    first = all_of[0]
    return {
        "task": study.name.split(" ")[0],
        "optimizer": study.row.optimizer,
        "adapter": study.row.adapter,
        "model": final[0].model,
        "dtype": final[0].dtype,
        "batch_size": sorted({job.batch_size for job in jobs}),
        "grid": {k: list(v) for k, v in study.row.grid.items()},
        "settings": dict(study.row.settings),
        "points": len(study.points) if study.trials else 0,
        "trials": len(trials),
        "seeds": sorted({job.seed for job in final}),
        "runs": len(final),
        "budget": str(final[0].budget),
        "steps": first.steps,
        "steps_most": max((one.steps or 0 for one in all_of), default=0),
        "forwards_per_run": first.forwards,
        "forwards": sum(one.forwards or 0 for one in all_of),
        "backwards": sum(one.backwards or 0 for one in all_of),
        "seconds": None if any(s is None for s in seconds) else sum(s for s in seconds if s is not None),
        "peak_bytes": max(peaks, default=None),
        "fits": None
        if not peaks
        else all(one.fits(machines[job.dtype]) is not False for one, job in zip(all_of, jobs, strict=True)),
        "done": sum(done.get(job.cell) == plan.provenance(job) for job in jobs) if done else 0,
        "how": first.how,
    }


def _shown(line: dict[str, Any]) -> dict[str, Any]:
    steps = "-" if not line["steps"] else f"{line['steps']:,}"
    if line["steps"] and line["steps_most"] > line["steps"]:
        steps += f"-{line['steps_most']:,}"
    calls = f"{line['forwards']:,}" + (f"+{line['backwards']:,}b" if line["backwards"] else "")
    peak = "unknown" if line["peak_bytes"] is None else _bytes(line["peak_bytes"])
    return {
        "task": line["task"],
        "optimizer": line["optimizer"],
        "adapter": line["adapter"],
        "trials": str(line["trials"]),
        "runs": f"{line['runs']}",
        "steps": steps,
        "forwards": calls if line["steps"] is not None else "unknown",
        "time": "unknown" if line["seconds"] is None else _hours(line["seconds"]),
        "peak": peak + (" DOES NOT FIT" if line["fits"] is False else ""),
    }


def _totals(totals: dict[str, Any]) -> None:
    unknown = f", {totals['unknown']} runs unknown" if totals["unknown"] else ""
    hours = _hours(totals["seconds"]) if totals["unknown"] < totals["runs"] else "time"
    click.echo(
        f"{totals['runs']} runs, {totals['done']} of them done; {totals['forwards']:,} forwards, "
        f"{totals['backwards']:,} backwards (b), {hours} on {totals['device']}{unknown}; nothing was started"
    )
    have = "" if totals["device_memory"] is None else f"; {_bytes(totals['device_memory'])} of memory"
    click.echo(
        f"estimates: {totals['speed']}{have}; `zobench sweep --help` and docs/suites.md say how they are made", err=True
    )
    for why in totals["why"]:
        click.echo(f"zobench: {why}", err=True)
    if totals["do_not_fit"]:
        click.echo(f"zobench: {totals['do_not_fit']} runs are estimated not to fit {totals['device']}", err=True)


def _bytes(amount: float) -> str:
    return f"{amount / 2**30:.1f} GiB" if amount >= 2**30 else f"{amount / 2**20:.0f} MiB"


def _hours(seconds: float) -> str:
    if seconds >= 172_800:
        return f"{seconds / 86_400:.1f} days"
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 3600
        else f"{seconds / 60:.1f} min"
        if seconds >= 60
        else f"{seconds:.0f} s"
    )


@main.command("list")
@click.argument("what", type=OneOf(LISTS), required=False)
@click.argument("pattern", required=False)
@click.option("-o", "--store", metavar="DIR", help="For runs: the store. Default: $ZOBENCH_STORE or ./zobench-runs.")
@click.option(
    "--order",
    type=OneOf((*catalog.ORDERS, *catalog.ORDERS.values(), "forward", "hybrid")),
    help="Optimizers of this order: zo is zeroth, fo is first.",
)
@click.option("--family", type=OneOf(FAMILIES), help="Optimizers of this family of step rates.")
@click.option("--replay", type=OneOf(tuple(catalog.REPLAYS)), help="Optimizers whose trace rebuilds a run so.")
@click.option("--max-state", type=Amount(), metavar="X", help="Optimizers that keep at most X copies of the weights.")
@click.option("--max-forwards", type=Amount(), metavar="N", help="At most N forwards a step (a backward counts 2).")
@click.option("--sort", type=OneOf(catalog.SORTS), default="name", show_default=True, help="Optimizers by this.")
@json_option
def list_(what: str | None, pattern: str | None, store: str | None, as_json: bool, **wanted: Any) -> None:
    """List tasks, optimizers, baselines, suites, models or runs (default: tasks and optimizers).

    PATTERN: a part of the name, or a suite of tasks. Optimizers show what a step costs and what they keep between steps.
    """
    chosen = [what] if what else ["tasks", "optimizers"]
    filters = [name for name in wanted if _given(name)]
    if filters and what != "optimizers":
        if what:
            raise click.UsageError(f"--{filters[0].replace('_', '-')} is for `zobench list optimizers`")
        what, chosen = "optimizers", ["optimizers"]
    found = {kind: [r for r in _listing(kind, store, wanted) if _matches(pattern, r)] for kind in chosen}
    if as_json:
        click.echo(json.dumps(found[what] if what else found, indent=2, default=list))
        return
    for kind, rows in found.items():
        if not what:
            click.echo(f"{kind}:")
        indent = "" if what else "  "
        shown = catalog.table(rows, _width(len(indent))) if kind == "optimizers" else rows
        _table(shown, False, indent)
        if kind == "optimizers" and rows:
            click.echo(f"{indent}{len(rows)} of them. {catalog.LEGEND}", err=True)


def _matches(pattern: str | None, row: dict[str, Any]) -> bool:
    names = (row["name"], row.get("suite") or "", *row.get("aliases", ()))
    return not pattern or any(pattern in name for name in names)


def _width(used: int) -> int | None:
    """Columns for a table on a terminal, or where COLUMNS says so; None where a pipe takes whole lines."""
    if not os.environ.get("COLUMNS") and not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns - used


def _listing(kind: str, store: str | None, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    if kind == "optimizers":
        return catalog.optimizers(**wanted)
    if kind in ("tasks", "baselines"):
        rows = [
            {"name": e.name, "suite": e.info.get("suite"), "about": _first_line(e.doc), "aliases": list(e.aliases)}
            for e in registry.entries(kind.removesuffix("s")).values()
        ]
        if kind == "tasks":
            return sorted(rows, key=lambda r: (SUITES.index(r["suite"]) if r["suite"] in SUITES else -1, r["name"]))
        return [{k: v for k, v in row.items() if k != "suite"} for row in rows]
    if kind == "suites":
        from zobench.plan import suites_folder

        return [{"name": p.stem, "about": _first_comment(p)} for p in sorted(suites_folder().glob("*.toml"))]
    if kind == "models":
        from zobench.models.shapes import ABOUT

        return [{"name": name, "about": about} for name, about in ABOUT.items()]
    return _runs(store)


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _runs(store: str | None) -> list[dict[str, Any]]:
    from zobench import plan, record

    place = Path(store) if store else plan.default_store()
    rows, problems = record.scan(
        place, ("cell", "attempt", "task", "optimizer", "seed", "budget", "status", "value", "metric", "reason")
    )
    _warn(problems)
    return [
        {"name": Path(r["path"]).stem} | {k: r[k] for k in ("task", "optimizer", "seed", "budget", "status", "metric")}
        | {"value": record.plain(r["value"]), "reason": r["reason"] or ""}
        for r in rows
    ]  # fmt: skip


@main.command()
@click.argument("name")
@json_option
def info(name: str, as_json: bool) -> None:
    """Everything about one task, optimizer or baseline: source, options with defaults, cost, step rates, data, and what
    has been published on a task.

    NAME may have options, for which cost and state are shown: 'lozo[rank=4]'. A .py file will do.
    """
    from zobench import published
    from zobench.spec import UsageError

    entry, given = _entry(name), registry.parse(name)[1]
    if any(isinstance(value, list) for value in given.values()):
        raise UsageError(f"{name}: give each option one value")
    if entry.kind == "optimizer":
        if as_json:
            click.echo(json.dumps(catalog.described(entry, given), indent=2, default=list))
        else:
            click.echo("\n".join(catalog.explain(entry, given)))
        return
    options = registry.resolve(entry, given)
    entry = registry.chosen(entry, options)
    facts = {"kind": entry.kind, "name": entry.name, "about": entry.doc, "options": options, **entry.info}
    rows = published.of_task(entry.name, given) if entry.kind == "task" and entry.builtin else []
    if as_json:
        facts |= {"published": [row.to_json() for row in rows]} if rows else {}
        click.echo(json.dumps(facts, indent=2, default=list))
        return
    click.echo(f"{entry.kind} {entry.name}: {entry.doc}")
    click.echo("options:")
    meanings, (limits, choices) = _meanings(entry), registry.bounds(entry)
    for key, value in {**entry.common, **options}.items():
        limit = limits.get(key) or choices.get(key, "")
        allowed = f"   ({limit if isinstance(limit, str) else ' | '.join(map(str, limit))})" if limit else ""
        click.echo(f"  {key} = {value}{allowed}" + (f"   {meanings[key]}" if key in meanings else ""))
    for key, value in entry.info.items():
        if key not in ("limits", "choices", "by", "title") and value not in ("", (), {}):
            click.echo(f"{key}: {_plain_text(value)}")
    for line in published.published_range(rows):
        click.echo(line)


def _meanings(entry: registry.Entry) -> dict[str, str]:
    """What the options of a regression mean; other entries say it in their docstrings."""
    if entry.info.get("kind") != "regression":
        return {}
    from zobench.problems.knobs import KNOBS

    return KNOBS


def _entry(name: str) -> registry.Entry:
    from zobench.spec import UsageError

    bare = registry.parse(name)[0]
    for kind in ("optimizer", "task"):
        try:
            return registry.find(kind, bare)
        except UsageError as error:
            other = bare.endswith(".py") and (
                "needs a class" in str(error) or kind == "task"
            )  # a task's file, or neither
            if "unknown" not in str(error) and not other:
                raise
    known = [n for kind in ("task", "optimizer", "baseline") for n in registry.entries(kind)]
    raise UsageError(
        f"no task or optimizer is called {bare!r}{registry.did_you_mean(bare, known)}; `zobench list` shows all"
    )


def _plain_text(value: Any, inside: bool = False) -> str:
    if isinstance(value, dict):
        text = ", ".join(f"{k}={_plain_text(v, True)}" for k, v in value.items())
        return f"({text})" if inside else text
    return ", ".join(_plain_text(v, True) for v in value) if isinstance(value, (list, tuple)) else str(value)


@main.command()
@click.argument("stores", nargs=-1, metavar="[STORE]...")
@click.option("-o", "--output", metavar="FILE", help="Write the leaderboard as Markdown.")
@click.option(
    "-t",
    "--task",
    "--tasks",
    "tasks",
    multiple=True,
    callback=many,
    metavar="NAME",
    help="Only these tasks (globs allowed).",
)
@click.option(
    "-O",
    "--optimizer",
    "--optimizers",
    "optimizers",
    multiple=True,
    callback=many,
    metavar="NAME",
    help="Only these optimizers.",
)
@click.option("--claimed", is_flag=True, help="Set the runs beside published values, with what differs between them.")
@json_option
def report(
    stores: tuple[str, ...], output: str | None, tasks: list[str], optimizers: list[str], claimed: bool, as_json: bool
) -> None:
    """Rank the runs of one or more stores: a table here, leaderboard.md with -o."""
    from zobench import plan
    from zobench.report.leaderboard import markdown
    from zobench.report.tables import board as make_board
    from zobench.report.terminal import show

    places = [Path(s) for s in stores] or [plan.default_store()]
    _check_stores(places)
    if claimed:
        _report_claimed(places, tasks or None, optimizers or None, output, as_json)
        return
    board = make_board(places, tasks=tasks or None, optimizers=optimizers or None)
    _give(board, markdown, show, output, as_json)


def _give(
    answer: Any, markdown: Callable[[Any], str], show: Callable[[Any, Any], None], output: str | None, as_json: bool
) -> None:
    """A report in the form that was asked for: a file, JSON, or a table."""
    _warn(answer.problems)
    if output:
        _write_text(Path(output), markdown(answer))
        click.echo(f"wrote {output}", err=True)
    if as_json:
        click.echo(json.dumps(answer.to_json(), indent=2))
    elif not output:
        from rich.console import Console

        show(answer, Console())


def _report_claimed(
    places: list[Path], tasks: list[str] | None, optimizers: list[str] | None, output: str | None, as_json: bool
) -> None:
    from zobench.report.claimed import claims
    from zobench.report.claimed_text import markdown, show

    found = claims(places, tasks=tasks, optimizers=optimizers)
    _give(found, markdown, show, output, as_json)


def _check_stores(places: Iterable[Path]) -> None:
    from zobench.spec import NothingMeasured

    for place in places:
        if not place.is_dir():
            raise NothingMeasured(f"there is no store {place}; `zobench run -t softmax_l2 -O mezo` makes one")


def _write_text(path: Path, text: str) -> None:
    from zobench.spec import EnvironmentUnmet

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise EnvironmentUnmet(f"cannot write {path}: {error.strerror}") from error


@main.command()
@click.argument("run", metavar="RUN")
@click.option("--store", metavar="DIR", help="Where to look for RUN. Default: $ZOBENCH_STORE or ./zobench-runs.")
@click.option("--evaluate", is_flag=True, help="Measure the metric again and compare it with the stored one.")
@click.option("-o", "--output", metavar="DIR", help="Save the rebuilt weights where from_pretrained opens them.")
@click.option(
    "--data",
    "data_dir",
    metavar="DIR",
    help="Local rows, for --evaluate and for a probed head. Default: where the run found them.",
)
@click.option("--device", default="cpu", show_default=True, metavar="D", help="cpu, cuda, cuda:N.")
@json_option
def replay(
    run: str, store: str | None, evaluate: bool, output: str | None, data_dir: str | None, device: str, as_json: bool
) -> None:
    """Rebuild a run's final weights from its trace, without a forward pass of training, and check their digest.

    RUN is a file, a file name, or the beginning of a cell as `zobench list runs` shows it.
    """
    import time

    from zobench import plan, record
    from zobench import replay as replaying
    from zobench.build import resolve_device
    from zobench.spec import MismatchError

    row = record.read(record.find(Path(store) if store else plan.default_store(), run))
    if data_dir:
        row.job = json.dumps(json.loads(row.job) | {"data_dir": data_dir})
    began = time.perf_counter()
    problem = replaying.rebuild(row, resolve_device(device))
    answer: dict[str, Any] = {
        "run": f"{row.cell[:16]}-{row.attempt}",
        "steps": row.kept_step,
        "digest": row.final_digest,
        "seconds": round(time.perf_counter() - began, 3),
    }
    if output:
        Path(output).mkdir(parents=True, exist_ok=True)
        problem.save(Path(output))
        answer["saved"] = output
    if evaluate:
        answer["metrics"], answer["difference"] = replaying.check_metrics(row, problem)
    needs = json.loads(row.facts or "{}").get("replay_needs")
    free = f"with {needs}" if needs else "no forward pass"
    if as_json:
        click.echo(json.dumps(record.plain(answer), indent=2))
    else:
        click.echo(
            f"{answer['run']}: {row.kept_step} steps replayed in {answer['seconds']} s, {free}; "
            f"the weights are the run's (digest {(row.final_digest or '')[:16]})"
        )
        if output:
            click.echo(f"saved to {output}")
        if evaluate:
            shown = ", ".join(f"{k} {v:.6g}" for k, v in answer["metrics"].items())
            click.echo(f"measured again: {shown} (largest difference to the stored values {answer['difference']:.3g})")
    if evaluate and answer["difference"] > 1e-6:
        raise MismatchError(f"the metrics differ from the stored ones by {answer['difference']:.3g}")


@main.command()
@click.option(
    "-t", "--task", "--tasks", "tasks", multiple=True, callback=many, metavar="NAME", help="Task; repeatable."
)
@click.option("--suite", metavar="NAME", help="The tasks of a suite (a name, or a TOML file).")
@click.option("-m", "--model", metavar="ID", help="Fetch this model of the hub, too.")
@click.option("--revision", metavar="REV", help="Revision of the model.")
@click.option("--data", "data_dir", metavar="DIR", help="Freeze local rows (jsonl or parquet, hub field names).")
@click.option(
    "-o",
    "--output",
    "target",
    metavar="DIR",
    help="Where the rows go. Default: $ZOBENCH_DATA, or ~/.cache/zobench/data, where runs look by themselves.",
)
@click.option("--partial", is_flag=True, help="Accept fewer rows than the whole data have; reports rank them apart.")
@json_option
def prepare(
    tasks: list[str], suite: str | None, model: str | None, revision: str | None, data_dir: str | None,
    target: str | None, partial: bool, as_json: bool,
) -> None:  # fmt: skip
    """Download the rows of tasks, check and freeze them: every run after that is offline.

    Each row and the number of rows are checked. DIR gets one folder for each dataset and zobench-data.json, a list of what
    is frozen, with digests; a second prepare checks them. DIR may be copied to a machine without a network.
    """
    from zobench import plan
    from zobench import prepare as preparing
    from zobench.spec import UsageError, ZobenchError

    if tasks and suite:
        raise UsageError("a suite brings its tasks; give --suite or -t, not both")
    if suite:
        tasks = [str(task) for r in plan.suite(suite) for task in r.tasks]
    if not tasks and not model:
        raise UsageError(
            "name what to prepare: -t TASK, --suite NAME or -m MODEL; `zobench list tasks` shows the tasks"
        )
    place = Path(target).expanduser() if target else preparing.default_dir()
    answers: list[preparing.Answer] = []
    for answer in preparing.prepare(
        preparing.asked(tasks), place, Path(data_dir).expanduser() if data_dir else None, partial
    ):
        answers.append(_prepared(answer, as_json))
    if model:
        try:
            answer = preparing.fetch_model(model, revision)
        except ZobenchError as error:
            answer = preparing.Answer(model, "failed", str(error), code=error.code)
        answers.append(_prepared(answer, as_json))
    if as_json:
        click.echo(json.dumps([answer.to_json() for answer in answers], indent=2))
    if any(answer.state.startswith("frozen") and answer.tasks for answer in answers):
        found = place.resolve() == preparing.default_dir().resolve()
        use = "runs find them by themselves" if found else f"set ZOBENCH_DATA={place} or give --data {place}"
        click.echo(f"the rows are in {place}; {use}", err=True)
    preparing.check(answers)


def _prepared(answer: Any, as_json: bool) -> Any:
    """Show one answer as soon as there is one."""
    tasks = f" ({', '.join(answer.tasks)})" if answer.tasks and list(answer.tasks) != [answer.name] else ""
    if not as_json:
        click.echo(f"{answer.state}: {answer.name}{tasks}: {answer.text}", err=answer.state == "failed")
    return answer


@main.command("test")
@click.argument("target", metavar="FILE")
@click.option("--board/--no-board", default=True, show_default=True, help="Place it on the tiny board, too.")
@json_option
def test_(target: str, board: bool, as_json: bool) -> None:
    """Hold an optimizer to the contract, then place it beside sgd, adam and mezo on three small tasks.

    FILE: ./mine.py, or the name of a registered one; with options, 'mezo[law=sphere]'. Under a minute. Exit code 3 where a
    check is broken.
    """
    from zobench import contract
    from zobench.spec import MismatchError

    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job, which may still be sent one
        signal.signal(signal.SIGINT, signal.default_int_handler)
    subject = _subject(contract, target)
    checks = []
    for name, found in contract.run(subject):
        about = (contract.CHECKS[name].__doc__ or "").splitlines()[0]
        checks.append({"check": name, "ok": found is None, "about": about, "found": found})
        if not as_json:
            click.echo(f"{'ok    ' if found is None else 'BROKEN'}  {name:<12}  {found or about}")
    broken = [check["check"] for check in checks if not check["ok"]]
    left = len(contract.CHECKS) - len(checks)
    placed = _place(subject, as_json) if board and not left else None
    if as_json:
        answer = {"optimizer": subject.text, "ok": not broken, "checks": checks, "not_run": left}
        click.echo(json.dumps(answer | {"board": placed.to_json() if placed else None}, indent=2))
    if broken:
        rest = f"; the other {left} rest on it and were not run" if left else ""
        raise MismatchError(
            f"{target}: {len(broken)} of {len(contract.CHECKS)} checks broken: {', '.join(broken)}{rest}"
        )
    if not as_json:
        click.echo(f"all {len(checks)} checks hold")


def _subject(contract: Any, target: str) -> Any:
    """What is to be tested; UsageError where it cannot be read or imported."""
    from zobench.spec import UsageError

    name, given = registry.parse(target)
    entry = registry.find("optimizer", name)
    if entry.kind != "optimizer":
        raise UsageError(f"{name} is a reference line; the contract is for optimizers")
    if entry.foreign:
        raise UsageError(
            f"{name} is another library's and runs as it is; the contract is for files of this project's form"
        )
    registry.resolve(entry, given)
    registry.optimizer_class(entry)
    return contract.Subject(entry, given=given)


def _place(subject: Any, quiet: bool) -> Any:
    """The board of the optimizer beside RIVALS on ARENA, from runs in a store that does not stay."""
    import tempfile

    from zobench import plan
    from zobench.build import Names
    from zobench.progress import Display
    from zobench.report.tables import board as make_board
    from zobench.report.terminal import show
    from zobench.run import Place

    rivals = [name for name in RIVALS if name != subject.text]
    jobs = plan.jobs(plan.Request(ARENA, [subject.text, *rivals], seeds="2", budget=ARENA_BUDGET), Names())
    with tempfile.TemporaryDirectory() as folder:
        with Display(len(jobs), quiet=quiet) as display:
            rows = [row for row, _ in _execute(jobs, Place(Path(folder), "cpu"), display, 1)]
        if any(row.status == "interrupted" for row in rows):
            raise KeyboardInterrupt
        board = make_board([Path(folder)])
    if not quiet:
        from rich.console import Console

        click.echo()
        show(board, Console())
    return board


@main.command()
@click.option("-o", "--store", metavar="DIR", help="The store to examine. Default: $ZOBENCH_STORE or ./zobench-runs.")
@click.option("--data", "data_dir", metavar="DIR", help="Local rows to look for. Default: $ZOBENCH_DATA.")
@json_option
def doctor(store: str | None, data_dir: str | None, as_json: bool) -> None:
    """Versions, devices, data and the store: what is there, what is missing, what to do."""
    from zobench import plan
    from zobench.doctor import examine
    from zobench.spec import EnvironmentUnmet

    checks = examine(Path(store) if store else plan.default_store(), data_dir)
    if as_json:
        click.echo(json.dumps([c.to_json() for c in checks], indent=2))
    else:
        for check in checks:
            click.echo(f"{check.state:<4}  {check.name}: {check.text}")
    bad = [c.name for c in checks if c.state == "FAIL"]
    if bad:
        raise EnvironmentUnmet(f"not in order: {', '.join(bad)}")


def _warn(problems: Iterable[Any]) -> None:
    for problem in problems:
        click.echo(f"zobench: skipped {problem.path}: {problem.why}", err=True)


def _table(rows: list[dict[str, Any]], as_json: bool, indent: str = "") -> None:
    """Aligned columns without a library: listing must answer at once."""
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo(f"{indent}nothing", err=True)
        return
    text: Callable[[Any], str] = lambda v: _plain_text(v) if v is not None else "-"  # noqa: E731
    if len(rows[0]) > 3:  # two or three columns explain themselves
        rows = [{k: k for k in rows[0]}, *rows]
    widths = {k: max(len(text(r[k])) for r in rows) for k in rows[0]}
    for row in rows:
        click.echo(indent + "  ".join(text(v).ljust(widths[k]) for k, v in row.items()).rstrip())


if __name__ == "__main__":
    main()
