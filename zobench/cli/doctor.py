"""`zobench doctor`: what is there, what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    pass

from zobench.cli.common import json_option


@click.command()
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
