"""What the commands share: errors as one line and an exit code, types of options, tables, files."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from zobench import registry


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


def given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def width(used: int) -> int | None:
    """Columns for a table on a terminal, or where COLUMNS says so; None where a pipe takes whole lines."""
    if not os.environ.get("COLUMNS") and not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns - used


def first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def check_stores(places: Iterable[Path]) -> None:
    from zobench.spec import NothingMeasured

    for place in places:
        if not place.is_dir():
            raise NothingMeasured(f"there is no store {place}; `zobench run -t softmax_l2 -O mezo` makes one")


def write_text(path: Path, text: str) -> None:
    from zobench.spec import EnvironmentUnmet

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise EnvironmentUnmet(f"cannot write {path}: {error.strerror}") from error


def give(
    answer: Any, markdown: Callable[[Any], str], show: Callable[[Any, Any], None], output: str | None, as_json: bool
) -> None:
    """A report in the form that was asked for: a file, JSON, or a table."""
    warn(answer.problems)
    if output:
        write_text(Path(output), markdown(answer))
        click.echo(f"wrote {output}", err=True)
    if as_json:
        click.echo(json.dumps(answer.to_json(), indent=2))
    elif not output:
        from rich.console import Console

        show(answer, Console())


def warn(problems: Iterable[Any]) -> None:
    for problem in problems:
        click.echo(f"zobench: skipped {problem.path}: {problem.why}", err=True)


def table(rows: list[dict[str, Any]], as_json: bool, indent: str = "") -> None:
    """Aligned columns without a library: listing must answer at once."""
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo(f"{indent}nothing", err=True)
        return
    text: Callable[[Any], str] = lambda v: plain_text(v) if v is not None else "-"  # noqa: E731
    if len(rows[0]) > 3:  # two or three columns explain themselves
        rows = [{k: k for k in rows[0]}, *rows]
    widths = {k: max(len(text(r[k])) for r in rows) for k in rows[0]}
    for row in rows:
        click.echo(indent + "  ".join(text(v).ljust(widths[k]) for k, v in row.items()).rstrip())


def plain_text(value: Any, inside: bool = False) -> str:
    if isinstance(value, dict):
        text = ", ".join(f"{k}={plain_text(v, True)}" for k, v in value.items())
        return f"({text})" if inside else text
    return ", ".join(plain_text(v, True) for v in value) if isinstance(value, (list, tuple)) else str(value)


def execute(jobs: list[Any], place: Any, display: Any, workers: int) -> Any:
    """Run jobs in order here, or side by side in workers; yields (row, found done)."""
    if workers > 1 and len(jobs) > 1:
        from zobench.launch import local

        return local.execute(jobs, place, display, workers)
    from zobench import run

    return run.execute(jobs, place, display)
