"""The wheel is whole: built from the sdist, installed in an empty environment, run outside the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def check(command: list[str], **options) -> str:
    """stdout of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built as `python -m build` does: the sdist from the tree, the wheel from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    check([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)])
    assert len(list(out.glob("*.tar.gz"))) == 1
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The bin folder of an environment that holds nothing but the wheel.

    Dependencies are seen through a .pth file, because installing torch again takes minutes. Python does not follow
    .pth files found that way, so an editable install of this checkout stays out of sight.
    """
    folder = tmp_path_factory.mktemp("empty") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    places = {"base": str(folder), "platbase": str(folder)}
    python = Path(sysconfig.get_path("scripts", "venv", places)) / "python"
    check(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            str(wheel),
        ]
    )
    site = Path(sysconfig.get_path("purelib", "venv", places))
    ours = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (site / "dependencies.pth").write_text("\n".join(ours) + "\n")
    return python.parent


def environment() -> dict[str, str]:
    private = ("PYTHON", "ZOBENCH", "COVERAGE", "PYTEST")
    return {name: value for name, value in os.environ.items() if not name.startswith(private)}


def test_contents(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    sources = [p for p in (ROOT / "zobench").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    wanted = {str(p.relative_to(ROOT)) for p in sources}
    wanted |= {f"zobench/tasks/{p.name}" for p in (ROOT / "tasks").glob("*.py")} | {"zobench/published.csv"}
    files = {name for name in held if ".dist-info/" not in name}
    assert files == wanted
    assert any(name.endswith("licenses/LICENSE") for name in held)


def test_it_runs_outside_the_checkout(installed, tmp_path):
    run = dict(cwd=tmp_path, env=environment())
    where = check([str(installed / "python"), "-c", "import zobench; print(zobench.__file__)"], **run)
    assert Path(where.strip()).is_relative_to(installed.parent), where
    zobench = str(installed / "zobench")
    assert check([zobench, "--version"], **run).strip().startswith("zobench 0.")
    for what, name in (("tasks", "softmax_l2"), ("optimizers", "mezo"), ("suites", "demo")):
        listing = check([zobench, "list", what, "--json"], **run)
        assert f'"{name}"' in json.dumps(json.loads(listing)), listing
    assert "published, accuracy in percent" in check([zobench, "info", "sst2"], **run)
    check([zobench, "run", "-t", "softmax_l2", "-O", "mezo", "--budget", "steps=20", "-o", "store"], **run)
    assert len(list((tmp_path / "store").glob("*.parquet"))) == 1
    check([zobench, "report", "store", "-o", "board.md"], **run)
    assert "mezo" in (tmp_path / "board.md").read_text().lower()
