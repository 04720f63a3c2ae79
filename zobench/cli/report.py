"""`zobench report`: the board of one or more stores, as a table, Markdown, a page, JSON, CSV or figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from zobench import registry
from zobench.cli.common import (
    File,
    OneOf,
    check_stores,
    give,
    json_option,
    names_option,
    screen,
    warn,
    write_text,
    written,
)

FORMATS = ("table", "md", "html", "json", "csv")
AXES = ("accuracy", "time", "forwards", "flops", "memory", "energy")


@click.command()
@click.argument("stores", nargs=-1, metavar="[STORE]...")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="FILE",
    help="Write a file; its ending says what: .md, .html (a page that needs nothing else), .json, .csv. Repeatable.",
)
@click.option("--format", "form", type=OneOf(FORMATS), help="What to print, or what to write where no ending says it.")
@click.option("--figures", metavar="DIR", help="Write the figures of the page as SVG (zobench[plot]).")
@click.option(
    "--rank-by", type=OneOf(AXES), default="accuracy", show_default=True, help="Rank by the score, or by what it costs."
)
@click.option("--budget", metavar="B", help="Judge each run by what it had validated within: forwards=N, time=30m ...")
@click.option(
    "--target", type=float, metavar="X", help="The validation score whose cost is ranked. Default: each table's own."
)
@names_option("-t", "--task", "--tasks", "tasks", help="Only these tasks (wildcards allowed).")
@names_option("-O", "--optimizer", "--optimizers", "optimizers", help="Only these optimizers.")
@names_option("--suite", "suites", help="Only tasks of these suites.")
@names_option("-m", "--model", "models", help="Only these models.")
@names_option("--adapter", "adapters", help="Only these adapters.")
@names_option("--dtype", "dtypes", help="Only these precisions: float32, bfloat16 ...")
@click.option("--claimed", is_flag=True, help="Set the runs beside published values, with what differs between them.")
@json_option
def report(
    stores: tuple[str, ...], outputs: tuple[str, ...], form: str | None, figures: str | None, rank_by: str,
    budget: str | None, target: float | None, tasks: list[str], optimizers: list[str], suites: list[str],
    models: list[str], adapters: list[str], dtypes: list[str], claimed: bool, as_json: bool,
) -> None:  # fmt: skip
    """Rank the runs of one or more stores (default: ./zobench-runs): a table here, or files with -o.

    \b
    zobench report -o leaderboard.md -o board.html     for people: a page and a table
    zobench report --rank-by forwards --target 0.9     who needs the fewest forwards to 0.9
    zobench report --budget time=10m                   who leads after ten minutes
    """
    from zobench import plan
    from zobench.report.view import View
    from zobench.spec import Budget

    places = [Path(s) for s in stores] or [plan.default_store()]
    check_stores(places)
    form = "json" if as_json else form
    default = None if form == "table" else form
    if claimed:
        files = written(outputs, default=default if default in ("md", "json") else None)
        _claimed(places, tasks or None, optimizers or None, files, form == "json")
        return
    writers = written(outputs, FORMATS[1:], default)
    view = View(
        task=_names("task", tasks),
        suite=tuple(suites),
        optimizer=_names("optimizer", optimizers),
        model=tuple(models),
        adapter=tuple(adapters),
        dtype=tuple(dtypes),
        rank_by=rank_by,
        budget=Budget.parse(budget) if budget else None,
        target=target,
    )
    _report(places, view, writers, form, Path(figures) if figures else None)


def _names(kind: str, names: list[str]) -> tuple[str, ...]:
    """Names as results have them: `toy-qa` is stored as toy_qa; what is no entry here is taken as it is."""
    known = {
        spelling.replace("-", "_"): entry.name
        for entry in registry.entries(kind).values()
        for spelling in (*entry.aliases, entry.name)
    }
    return tuple(known.get(name.replace("-", "_"), name) for name in names)


def _report(
    places: list[Path], view: Any, writers: list[tuple[Path, str]], form: str | None, figures: Path | None
) -> None:
    from zobench.report.tables import board as make_board

    forms = {f for _, f in writers} | ({form} if form else set())
    board = make_board(places, view=view, points="md" in forms, curves=bool(forms & {"html", "json"} or figures))
    warn(board.problems)
    texts: dict[str, str] = {}
    for path, wanted in writers:
        if wanted not in texts:
            texts[wanted] = _text(wanted, board, places)
        write_text(path, texts[wanted])
        click.echo(f"wrote {path}", err=True)
    if figures:
        _figures(board, figures)
    if writers or (figures and not form):
        return
    if form in (None, "table"):
        from zobench.report.terminal import show

        show(board, screen())
    else:
        click.echo(_text(str(form), board, places), nl=form not in ("csv",))


def _text(form: str, board: Any, places: list[Path]) -> str:
    if form == "json":
        return json.dumps(board.to_json(), indent=2)
    if form == "csv":
        from zobench.report.flat import csv_text

        return csv_text(board)
    claims = _claims(places, board.view)
    if form == "html":
        from zobench.report.page import page
        from zobench.report.summary import summaries

        return page(board, claims, summaries(board))
    from zobench.report.claimed_text import inside
    from zobench.report.leaderboard import markdown

    return markdown(board, inside(claims))


def _claims(places: list[Path], view: Any) -> Any:
    """The claims about what the board shows; None where nothing published is like it."""
    from zobench.report.claimed import claims
    from zobench.spec import NothingMeasured

    try:
        return claims(places, tasks=view.task or None, optimizers=view.optimizer or None, view=view)
    except NothingMeasured:
        return None


def _figures(board: Any, directory: Path) -> None:
    from zobench.report.figures import write

    for path in write(board, directory):
        click.echo(f"wrote {path}", err=True)


def _claimed(
    places: list[Path], tasks: list[str] | None, optimizers: list[str] | None, files: list[File], as_json: bool
) -> None:
    from zobench.report.claimed import claims
    from zobench.report.claimed_text import markdown, show

    give(claims(places, tasks=tasks, optimizers=optimizers), markdown, show, files, as_json)
