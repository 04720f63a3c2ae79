"""`zobench sweep`: tune on validation, then test; its plan with estimates."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    pass

from zobench.cli.common import Amount, execute, json_option, names_option, table


@click.command()
@click.option(
    "--suite", "suite_name", metavar="NAME", help="A suite, one of its tables (opt11:zo-llm), or a TOML file."
)
@names_option(
    "-t",
    "--task",
    "--tasks",
    "tasks",
    help="Only these of the suite (wildcards allowed); without a suite, what to tune on.",
)
@names_option(
    "-O",
    "--optimizer",
    "--optimizers",
    "optimizers",
    help="In the place of the suite's. Options in brackets are fixed; a list is the grid: 'mezo[lr=[1e-6,1e-7]]'.",
)
@names_option("--adapter", "adapters", help="Only these of the suite.")
@click.option("-m", "--model", metavar="ID", help="In the place of the suite's.")
@click.option("--revision", metavar="REV", help="Revision of a hub model.")
@click.option("--trials", type=int, metavar="N", help="At most N points of each grid, spread evenly over it.")
@click.option(
    "--budget",
    metavar="B",
    help="In the place of the suite's: steps=N, forwards=N, flops=X, time=30m, smoke, small, full.",
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

        def watched(jobs: Any) -> Any:
            with Display(len(jobs), quiet=quiet) as display:
                for answer in execute(jobs, place, display, workers) if jobs else ():
                    yield answer
                    if heard:
                        raise KeyboardInterrupt

        try:
            rows = tune.run(studies, names, watched, store)
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
    table(shown, False)
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
