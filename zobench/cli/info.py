"""`zobench info`: everything about one entry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from zobench import catalog, registry

if TYPE_CHECKING:
    pass

from zobench.cli.common import json_option, plain_text


@click.command()
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
            click.echo(f"{key}: {plain_text(value)}")
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
