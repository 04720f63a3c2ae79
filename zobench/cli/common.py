"""What the commands share: errors as one line and an exit code, types of options, tables, files."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import math
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from zobench import registry

File = tuple[Path, str]  # to write, and its form: md, json ...
# For terminals that cannot write what reports are written in.
ASCII = {"–": "-", "−": "-", "—": "-", "×": "x", "·": "|", "…": ".", "≤": "<", "≥": ">", "“": '"', "”": '"'}


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Something of the same width for each character that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(ASCII.get(c, "?") for c in error.object[error.start : error.end]), error.end


codecs.register_error("zobench", _replaced)


class Commands(click.Group):
    """Turns what a user can cause into one line and an exit code; `zobench -t ... -O ...` means `run`."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a name or a sign that the terminal lacks must not end a command
                stream.reconfigure(errors="zobench")
        return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)  # which prints the help
        except BrokenPipeError:
            _forsake()
            raise click.exceptions.Exit(0) from None

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
            ignore_ctrl_c()
            click.echo("zobench: interrupted", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            _forsake()
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


def _forsake() -> None:
    """The reader of stdout has left: the interpreter must not complain of what it could not write."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def ignore_ctrl_c() -> None:
    """While the interpreter ends: another one would take the exit code, and everything is stored."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)


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


def names_option(*names: str, help: str) -> Any:
    """A repeatable option of names or patterns."""
    return click.option(*names, multiple=True, callback=many, metavar="NAME", help=help)


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
        if not place.exists():  # one file is a store, too
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


def written(names: Iterable[str], endings: Sequence[str] = ("md", "json"), default: str | None = None) -> list[File]:
    """The files that -o names and the form of each, by its ending or else `default`; a file named twice is one."""
    found: dict[Path, File] = {}
    for name in names:
        ending = Path(name).suffix.removeprefix(".").lower()
        form = {"markdown": "md", "htm": "html"}.get(ending, ending)
        form = form if form in endings else default
        if form not in endings:
            known = [f".{e}" for e in endings]
            raise click.UsageError(f"output {name}: end it in {', '.join(known[:-1])} or {known[-1]}")
        found.setdefault(Path(name).resolve(), (Path(name), form))
    return list(found.values())


def give(
    answer: Any, markdown: Callable[[Any], str], show: Callable[[Any, Any], None], files: Iterable[File], as_json: bool
) -> None:
    """A report in the forms that were asked for: files, JSON, or a table."""
    warn(answer.problems)
    files = list(files)
    for path, form in files:
        write_text(path, markdown(answer) if form == "md" else json.dumps(answer.to_json(), indent=2) + "\n")
        click.echo(f"wrote {path}", err=True)
    if as_json:
        click.echo(json.dumps(answer.to_json(), indent=2))
    elif not files:
        show(answer, screen())


def screen(**options: Any) -> Any:
    """A rich console on stdout whose reader may leave, as that of any other output."""
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:  # rich would exit 1
            raise BrokenPipeError

    return Screen(**options)


def warn(problems: Iterable[Any]) -> None:
    for problem in problems:
        word = "contradictory" if problem.kind == "duplicate" else "skipped"
        click.echo(f"zobench: {word} {problem.path}: {problem.why}", err=True)


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
