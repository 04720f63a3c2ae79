"""`zobench prepare`: the rows of tasks, frozen for offline runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    pass

from zobench.cli.common import json_option, names_option


@click.command()
@names_option("-t", "--task", "--tasks", "tasks", help="Task; repeatable.")
@click.option("--suite", metavar="NAME", help="The tasks of a suite (a name, or a TOML file).")
@click.option("-m", "--model", metavar="ID", help="Fetch this model of the hub, too.")
@click.option("--revision", metavar="REV", help="Revision of the model.")
@click.option("--data", "data_dir", metavar="DIR", help="Freeze local rows (jsonl or parquet, hub field names).")
@click.option(
    "-o",
    "--output",
    "target",
    metavar="DIR",
    help="Where the rows go. Default: $ZOBENCH_DATA, or ~/.cache/zobench/data, where runs look by themselves.",
)
@click.option("--partial", is_flag=True, help="Accept fewer rows than the whole data have; reports rank them apart.")
@json_option
def prepare(
    tasks: list[str], suite: str | None, model: str | None, revision: str | None, data_dir: str | None,
    target: str | None, partial: bool, as_json: bool,
) -> None:  # fmt: skip
    """Download the rows of tasks, check and freeze them: every run after that is offline.

    Each row and the number of rows are checked. DIR gets one folder for each dataset and zobench-data.json, a list of what
    is frozen, with digests; a second prepare checks them. DIR may be copied to a machine without a network.
    """
    from zobench import plan
    from zobench import prepare as preparing
    from zobench.spec import UsageError, ZobenchError

    if tasks and suite:
        raise UsageError("a suite brings its tasks; give --suite or -t, not both")
    if suite:
        tasks = [str(task) for r in plan.suite(suite) for task in r.tasks]
    if not tasks and not model:
        raise UsageError(
            "name what to prepare: -t TASK, --suite NAME or -m MODEL; `zobench list tasks` shows the tasks"
        )
    place = Path(target).expanduser() if target else preparing.default_dir()
    answers: list[preparing.Answer] = []
    for answer in preparing.prepare(
        preparing.asked(tasks), place, Path(data_dir).expanduser() if data_dir else None, partial
    ):
        answers.append(_prepared(answer, as_json))
    if model:
        try:
            answer = preparing.fetch_model(model, revision)
        except ZobenchError as error:
            answer = preparing.Answer(model, "failed", str(error), code=error.code)
        answers.append(_prepared(answer, as_json))
    if as_json:
        click.echo(json.dumps([answer.to_json() for answer in answers], indent=2))
    if any(answer.state.startswith("frozen") and answer.tasks for answer in answers):
        found = place.resolve() == preparing.default_dir().resolve()
        use = "runs find them by themselves" if found else f"set ZOBENCH_DATA={place} or give --data {place}"
        click.echo(f"the rows are in {place}; {use}", err=True)
    preparing.check(answers)


def _prepared(answer: Any, as_json: bool) -> Any:
    """Show one answer as soon as there is one."""
    tasks = f" ({', '.join(answer.tasks)})" if answer.tasks and list(answer.tasks) != [answer.name] else ""
    if not as_json:
        click.echo(f"{answer.state}: {answer.name}{tasks}: {answer.text}", err=answer.state == "failed")
    return answer
