"""`zobench regress`: did a change break a number? For continuous integration."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zobench.cli.common import execute, json_option, many, names_option, screen, write_text

if TYPE_CHECKING:
    from zobench.record import RunRecord
    from zobench.report.regress import Finding, Report, Side
    from zobench.report.slowdown import Verdict

WIDE = 170  # columns of a log that is no terminal
EXIT_CODES = """\
Exit codes: 0 no regression (improvements, new cells and what cannot be told are said); 3 a regression; 4 runs of this
checkout failed; 5 a cell of the baseline vanished or cannot be read, or nothing was compared; 6 base cannot be run. Of
several, the first of 3, 4, 5, 6."""


@click.command(epilog=EXIT_CODES)
@click.option(
    "--suite", "suite_name", default="regress", show_default=True, metavar="NAME", help="A suite, or a TOML file."
)
@click.option(
    "--baseline", "baselines", multiple=True, metavar="DIR", help="Stored results to compare with; repeatable."
)
@click.option("--base", metavar="REV|DIR", help="A revision, or another checkout, to run here and compare with.")
@click.option(
    "--timing", is_flag=True, help="Compare wall-clock, too: base and head by turns ([gate.timing] of the suite)."
)
@click.option("--update", is_flag=True, help="Add what moved or is new to the baseline, as new attempts, and say what.")
@names_option("-t", "--task", "--tasks", "tasks", help="Only these of the suite (wildcards allowed).")
@names_option("-O", "--optimizer", "--optimizers", "optimizers", help="Only these of the suite (wildcards allowed).")
@click.option(
    "--only", multiple=True, callback=many, metavar="GATE", help="Only these gates, such as forwards or loss."
)
@click.option(
    "--allow", multiple=True, callback=many, metavar="GATE", help="What these gates find is said and fails nothing."
)
@click.option("-o", "--output", "store", metavar="DIR", help="Where the runs of this checkout go. Default: nowhere.")
@click.option("--fresh", is_flag=True, help="Run again what -o DIR has done.")
@click.option("--device", default="auto", show_default=True, metavar="D", help="cpu, cuda, cuda:N.")
@click.option("--timeout", metavar="T", help="Wall-clock limit of each run, for example 30m.")
@click.option("-j", "--jobs", "workers", default=1, show_default=True, metavar="N", help="Cells side by side.")
@click.option("--junit", metavar="FILE", help="Write JUnit XML.")
@click.option("--summary", metavar="FILE", help="Append Markdown. Default: $GITHUB_STEP_SUMMARY, where it is set.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")
def regress(
    suite_name: str, baselines: tuple[str, ...], base: str | None, timing: bool, update: bool, tasks: list[str],
    optimizers: list[str], only: list[str], allow: list[str], store: str | None, fresh: bool, device: str,
    timeout: str | None, workers: int, junit: str | None, summary: str | None, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Run a suite and compare every number with a baseline, and with base on this machine.

    \b
    zobench regress --baseline results                         counters, bytes, shapes, float64 losses
    zobench regress --baseline results --base origin/main      and losses, memory, traces, base's code run here, too
    zobench regress --base HEAD~1 --timing                     and wall-clock, by turns

    What is held, and how closely, is the suite's [gate] table (zobench/gate.py).
    """
    from zobench import plan, suite
    from zobench.gate import GATES, LEAK, METRICS, TIME, Gate, Rule

    _check(baselines, base, timing, update, workers)
    for name in only:
        _known(name, GATES)
    for name in allow:
        _known(name, (*GATES, "run"))
    if only and set(only) <= ({TIME} if not timing else set()) | ({LEAK} if base is None else set()):
        raise click.UsageError(f"--only {','.join(only)}: {TIME} needs --timing, {LEAK} needs --base")
    read = suite.read(suite_name)
    if only:
        off = {name: Rule("off") for name in METRICS if name not in only}
        read = replace(read, gate=Gate({**read.gate.rules, **off}, read.gate.timing))
    requests = suite.requests(suite_name, tasks, optimizers)
    timed = suite.timed(read, tasks, optimizers)
    if timing and not timed:
        raise click.UsageError(f"suite {suite_name} times none of these; it needs a [[gate.timing.run]] table")
    work = Work(read, requests, timed, only, device, plan.duration(timeout) if timeout else None, workers, quiet, fresh)
    with _stoppable(), ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zobench-regress-")))
        report, rows = _gate(
            work, suite_name, baselines, base, timing, Path(store) if store else temporary / "head", temporary
        )
        if allow:
            from zobench.report.regress import allow as allowed

            report = replace(report, findings=allowed(report.findings, allow))
        _publish(report, junit, summary, as_json)
        if update:
            _update(report, rows, Path(baselines[0]))
            return
    click.get_current_context().exit(report.code)


@dataclass(frozen=True)
class Work:
    """What was asked for, read."""

    suite: Any
    requests: Sequence[Any]
    timed: Sequence[Any]
    only: Sequence[str]
    device: str
    timeout: float | None
    workers: int
    quiet: bool
    fresh: bool
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> bool:
        """Whether any gate that was asked for looks at rows."""
        from zobench.gate import METRICS

        return not self.only or any(name in METRICS for name in self.only)


def _check(baselines: Sequence[str], base: str | None, timing: bool, update: bool, workers: int) -> None:
    if not baselines and base is None:
        raise click.UsageError("say what to compare with: --baseline DIR (stored results), --base REV, or both")
    if timing and base is None:
        raise click.UsageError("--timing needs --base: wall-clock is compared on one machine alone")
    if update and (base is not None or len(baselines) != 1):
        raise click.UsageError("--update writes to one --baseline, from this checkout alone; leave --base out")
    if workers < 1:
        raise click.UsageError(f"jobs {workers}: must be at least 1")


def _known(name: str, gates: Sequence[str]) -> None:
    from zobench.registry import did_you_mean

    if name not in gates:
        raise click.UsageError(f"unknown gate {name!r}{did_you_mean(name, gates)} (gates: {', '.join(gates)})")


# --- measuring --------------------------------------------------------------------------------------------------------


def _gate(
    work: Work, name: str, baselines: Sequence[str], base: str | None, timing: bool, store: Path, temporary: Path
) -> tuple[Report, dict[str, RunRecord]]:
    """Everything that was asked for, and the rows of this checkout."""
    from zobench import checkout, plan
    from zobench.build import Names
    from zobench.report.regress import Report, compare, load
    from zobench.spec import NothingMeasured

    requests = work.requests if work.rows else ()
    jobs = [(job, request) for request in requests for job in plan.jobs(request, Names())]
    if not jobs and work.rows:
        raise NothingMeasured(f"suite {name} has no such tasks and optimizers; leave -t or -O out")
    for job, request in jobs:
        seed = f" seed {job.seed}" if job.seed else ""
        work.labels[job.cell] = f"{request.tasks[0]} {request.optimizers[0]}{seed}"
    before = load([Path(place) for place in baselines], work.labels) if baselines else None
    _check_baseline(before, baselines, name)
    found: list[Finding] = []
    verdicts: list[Verdict] = []
    with ExitStack() as stack:
        other = stack.enter_context(checkout.checkout(base)) if base is not None else None
        rows = _head([job for job, _ in jobs], work, store) if jobs else {}
        if before is not None:
            found += compare(rows, before, work.labels, work.suite.gate.rules, "baseline")
        if other is not None:
            found += _against_base(other, rows, work, temporary) if jobs else []
            if not any(f.outcome == "unmet" for f in found):
                more, verdicts = _by_turns(other, work, timing)
                found += more
    against = {"baseline": ", ".join(baselines)} if baselines else {}
    against |= {"base": other.name} if other is not None else {}
    return Report(name, against, len(work.labels) or len(work.timed), found, verdicts), rows


def _check_baseline(before: Side | None, baselines: Sequence[str], suite: str) -> None:
    from zobench.spec import NothingMeasured

    for place in baselines:
        if not Path(place).exists():
            raise NothingMeasured(f"there is no baseline {place}; make one: zobench run --suite {suite} -o {place}")
    if before is not None and not before.jobs and not before.problems:
        places = ", ".join(baselines)
        raise NothingMeasured(
            f"the baseline {places} is empty; make one: zobench run --suite {suite} -o {baselines[0]}"
        )


def _head(jobs: list[Any], work: Work, store: Path) -> dict[str, RunRecord]:
    """This checkout's rows, by cell."""
    from zobench.progress import Display
    from zobench.run import Place

    place = Place(store, work.device, work.timeout, "always" if work.fresh else "only-missing")
    with Display(len(jobs), quiet=work.quiet) as display:
        rows = {row.cell: row for row, _ in execute(jobs, place, display, work.workers)}
    if any(row.status == "interrupted" for row in rows.values()):
        raise KeyboardInterrupt
    return rows


def _against_base(other: Any, rows: dict[str, RunRecord], work: Work, temporary: Path) -> list[Finding]:
    """Base's code, run here; what differs is run there again, because base may differ from itself."""
    from zobench import paired
    from zobench.report.regress import Finding, compare, confirm, load, suspects
    from zobench.spec import EnvironmentUnmet

    rules = work.suite.gate.rules
    given: dict[str, Any] = {"device": work.device, "timeout": work.timeout, "workers_": work.workers}
    try:
        with _bar(work, f"base {other.name}") as tell:
            planned = paired.run(other, work.requests, temporary / "base", **given, tell=tell)
        every = [cell for cells in planned.cells for cell in cells or ()]
        base = load([temporary / "base"], [*every, *work.labels])
        found = compare(rows, base, work.labels, rules, "base", same_machine=True)
        doubtful = set(suspects(found))
        asked = [r for r, cells in zip(work.requests, planned.cells, strict=True) if doubtful & set(cells or ())]
        if asked:
            with _bar(work, "base again, where it differs") as tell:
                paired.run(other, asked, temporary / "again", **given, tell=tell)
            found = confirm(found, base, load([temporary / "again"], doubtful), rules)
    except EnvironmentUnmet as error:
        return [Finding("", other.name, "run", "base", "unmet", note=str(error))]
    return found


def _by_turns(other: Any, work: Work, timing: bool) -> tuple[list[Finding], list[Verdict]]:
    """Memory that stays and, where it is asked for, wall-clock, of the cells that the suite times."""
    from zobench import paired
    from zobench.checkout import HEAD
    from zobench.gate import LEAK, TIME
    from zobench.report import regress, slowdown
    from zobench.spec import EnvironmentUnmet

    found: list[Finding] = []
    verdicts: list[Verdict] = []
    wanted: Callable[[str], bool] = lambda gate: not work.only or gate in work.only  # noqa: E731
    rules = work.suite.gate.timing
    try:
        if work.timed and wanted(LEAK):
            for pair in paired.keep(other, HEAD, work.timed, work.device):
                found.append(regress.leak(pair.label, *pair.kept) if pair.kept else _refused(pair, LEAK))
        if timing and wanted(TIME):
            with _bar(work, "wall-clock, by turns") as tell:
                pairs = paired.measure(other, HEAD, work.timed, rules, device=work.device, tell=tell)
            found += [_refused(pair, TIME) for pair in pairs if pair.refused]
            times = [
                slowdown.Times(p.label + ("" if p.same_cell else " (settings differ)"), p.base, p.again, p.head)
                for p in pairs
                if not p.refused
            ]
            verdicts = slowdown.decide(times, rules.tolerance, rules.level)
            found += regress.timing(verdicts)
    except EnvironmentUnmet as error:
        found.append(regress.Finding("", other.name, TIME, "base", "unmet", note=str(error)))
    return found, verdicts


def _refused(pair: Any, gate: str) -> Finding:
    """Head's mistake is a failed run; what base does not know is new; else base cannot do its part."""
    from zobench.checkout import HEAD
    from zobench.report.regress import Finding
    from zobench.spec import UsageError

    mine = pair.refused.by is HEAD
    outcome = "failed" if mine else "new" if pair.refused.kind == UsageError.code else "unmet"
    note = f"{pair.refused.by.name}: {pair.refused}"
    return Finding("", pair.label, gate, "base", outcome, note=note)


# --- saying -----------------------------------------------------------------------------------------------------------


def _publish(report: Report, junit: str | None, summary: str | None, as_json: bool) -> None:
    from zobench.report import regress_text as text

    if junit:
        write_text(Path(junit), text.junit(report))
    if place := summary or os.environ.get("GITHUB_STEP_SUMMARY"):
        _append(Path(place), text.markdown(report))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in text.errors(report):
            click.echo(line, err=True)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        wide = None if os.environ.get("COLUMNS") or sys.stdout.isatty() else WIDE
        text.show(report, screen(width=wide))


def _append(path: Path, text: str) -> None:
    from zobench.spec import EnvironmentUnmet

    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise EnvironmentUnmet(f"cannot write {path}: {error.strerror}") from error


def _update(report: Report, rows: dict[str, RunRecord], store: Path) -> None:
    """New attempts in the baseline for every cell that moved; a failed run never takes a place."""
    from zobench import record
    from zobench.spec import NothingMeasured, RunsFailed

    moved = {f.cell for f in report.findings if f.outcome != "equal" and f.cell in rows}
    wanted = [rows[cell] for cell in sorted(moved) if rows[cell].status == "ok"]
    for row in wanted:
        record.write(replace(row, attempt=1, continued_from=None), store)
    click.echo(
        f"wrote {len(wanted)} new attempts to {store}; {report.cells - len(moved)} cells are as they were", err=True
    )
    failed = [f for f in report.findings if f.outcome == "failed"]
    if failed:
        raise RunsFailed(f"{len(failed)} runs failed and stay out of the baseline: {failed[0].label}: {failed[0].note}")
    bad = [f for f in report.findings if f.outcome == "unreadable"]
    if bad:
        raise NothingMeasured(
            f"{len(bad)} files of the baseline cannot be read, so the gate stays shut: {bad[0].label}"
        )


@contextmanager
def _bar(work: Work, title: str) -> Iterator[Callable[[int, int], None]]:
    """A line on stderr that moves, for work in other processes."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, quiet=work.quiet)
    console.print(title, markup=False, highlight=False)
    with Progress(console=console, transient=True, disable=work.quiet or not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM, with which CI ends a job, cleans up as Ctrl-C does; in a shell's background job, too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, stop) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
