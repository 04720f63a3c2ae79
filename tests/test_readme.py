"""What the README shows is what the program does."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from zobench.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.partition("#")[0].strip(" $") for line in re.findall(r"^\$ zobench .*$", README, re.MULTILINE)]


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_parse(command):
    """Parsed by click as typed: an option that does not exist, or a missing argument, is an error here."""
    name, *args = shlex.split(command)[1:]
    with main.commands[name].make_context(name, args) as context:
        assert context.params


def test_its_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    space: dict = {}
    exec(compile(code, "README.md", "exec"), space)
    assert len(space["rows"]) == 6 and space["loss"] > 0


def test_it_names_every_task_and_optimizer():
    from zobench import registry

    for kind in ("task", "optimizer"):
        assert all(f"`{name}`" in README for name in registry.entries(kind))


def test_exit_codes_agree_with_help():
    shown = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    codes = dict(re.findall(r"(\d+) ([a-z ]+?)[,.]", shown[shown.index("Exit codes") :]))
    assert len(codes) == 8 and all(f"{code} {what}" in " ".join(README.split()) for code, what in codes.items())


def test_the_page_of_the_regressions_is_current_and_explains_every_knob():
    import runpy

    from zobench import registry
    from zobench.problems.knobs import KNOBS

    root = Path(__file__).parents[1]
    script = runpy.run_path(str(root / "scripts" / "document_regressions.py"))
    assert (root / "docs" / "regressions.md").read_text(encoding="utf-8") == script["page"]()
    options = {k for e in registry.entries("task").values() if e.info["suite"] == "synthetic" for k in e.options}
    assert options == set(KNOBS)
    shown = CliRunner().invoke(main, ["info", "attention"]).output
    assert "X = Q K^T" in shown and KNOBS["delta"] in shown


def test_the_page_and_the_list_of_the_language_tasks_are_current():
    import runpy

    root = Path(__file__).parents[1]
    script = runpy.run_path(str(root / "scripts" / "document_tasks.py"))
    page = (root / "docs" / "tasks.md").read_text(encoding="utf-8")
    assert page == script["page"]() and script["readme"](README) == README
    assert all(f"`{entry.name}`" in page for suite in script["SUITES"] for entry in script["members"](suite))
