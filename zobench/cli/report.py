"""`zobench report`: the board of one or more stores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    pass

from zobench.cli.common import check_stores, give, json_option, many


@click.command()
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
    check_stores(places)
    if claimed:
        _report_claimed(places, tasks or None, optimizers or None, output, as_json)
        return
    board = make_board(places, tasks=tasks or None, optimizers=optimizers or None)
    give(board, markdown, show, output, as_json)


def _report_claimed(
    places: list[Path], tasks: list[str] | None, optimizers: list[str] | None, output: str | None, as_json: bool
) -> None:
    from zobench.report.claimed import claims
    from zobench.report.claimed_text import markdown, show

    found = claims(places, tasks=tasks, optimizers=optimizers)
    give(found, markdown, show, output, as_json)
