"""`zobench list`: what there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zobench import catalog, registry

if TYPE_CHECKING:
    pass

from zobench.cli.common import Amount, OneOf, first_line, given, json_option, table, warn, width

FAMILIES = ("gradient", "two-point", "adaptive")
SUITES = ("opt", "kshot", "glue", "squad", "toy", "synthetic")  # the order in which tasks are listed
LISTS = ("tasks", "optimizers", "baselines", "suites", "models", "runs")


@click.command("list")
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
    filters = [name for name in wanted if given(name)]
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
        shown = catalog.table(rows, width(len(indent))) if kind == "optimizers" else rows
        table(shown, False, indent)
        if kind == "optimizers" and rows:
            click.echo(f"{indent}{len(rows)} of them. {catalog.LEGEND}", err=True)


def _matches(pattern: str | None, row: dict[str, Any]) -> bool:
    names = (row["name"], row.get("suite") or "", *row.get("aliases", ()))
    return not pattern or any(pattern in name for name in names)


def _listing(kind: str, store: str | None, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    if kind == "optimizers":
        return catalog.optimizers(**wanted)
    if kind in ("tasks", "baselines"):
        rows = [
            {"name": e.name, "suite": e.info.get("suite"), "about": first_line(e.doc), "aliases": list(e.aliases)}
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


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _runs(store: str | None) -> list[dict[str, Any]]:
    from zobench import plan, record

    place = Path(store) if store else plan.default_store()
    rows, problems = record.scan(
        place, ("cell", "attempt", "task", "optimizer", "seed", "budget", "status", "value", "metric", "reason")
    )
    warn(problems)
    return [
        {"name": Path(r["path"]).stem} | {k: r[k] for k in ("task", "optimizer", "seed", "budget", "status", "metric")}
        | {"value": record.plain(r["value"]), "reason": r["reason"] or ""}
        for r in rows
    ]  # fmt: skip
