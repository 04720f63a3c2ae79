"""`zobench test`: an optimizer held to the contract, and a small board beside it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zobench import registry

if TYPE_CHECKING:
    pass

from zobench.cli.common import execute, json_option, screen

RIVALS = ("sgd", "adam", "mezo")  # beside which `zobench test` places an optimizer
ARENA, ARENA_BUDGET = ("softmax_ce", "quadratic", "bigram"), "forwards=1000"


@click.command("test")
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
            rows = [row for row, _ in execute(jobs, Place(Path(folder), "cpu"), display, 1)]
        if any(row.status == "interrupted" for row in rows):
            raise KeyboardInterrupt
        board = make_board([Path(folder)])
    if not quiet:
        click.echo()
        show(board, screen())
    return board
