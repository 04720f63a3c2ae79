"""Figures for papers: every one asked for is there, valid, the same on every machine, and shows the numbers of the board."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from records import record

from zobench import published
from zobench.record import json_text, write
from zobench.report import figures, palette
from zobench.report.claimed import Claim, Claims, Group
from zobench.report.stats import Interval
from zobench.report.tables import Board, board
from zobench.spec import EnvironmentUnmet, UsageError

pytest.importorskip("matplotlib")

HOSTILE = ("<script>alert(1)</script>", "$x_{$", 'a&b"]]>', "bell\x07 and \u202eback", "y" * 200)
SVG = "{http://www.w3.org/2000/svg}"


def curve(values: list[float], metric: str = "accuracy", factor: float = 1.0) -> list[dict]:
    """Validated at steps 0, 100, 200 ...; two forwards a step; a loss of training between."""
    found = []
    for i, value in enumerate(values):
        at = {"step": 100 * i, "forwards": 200 * i, "backwards": 0, "seconds": factor * i}
        found.append(at | {"loss": None, "metrics": json_text({metric: value, "loss": 1.0})})
        found.append(at | {"loss": 0.5, "metrics": None})
    return found


def store(path: Path, optimizers: tuple[str, ...], tasks: tuple[str, ...] = ("sst2",), seeds: int = 3) -> Path:
    rng = np.random.default_rng(0)
    for task in tasks:
        for k, name in enumerate(optimizers):
            for seed in range(seeds):
                values = [0.5, *np.sort(0.6 + 0.03 * k + 0.05 * rng.random(4)).round(6).tolist()]
                run = record(
                    task=task, task_label=task, optimizer=name, seed=seed, value=values[-1], curve=curve(values)
                )
                run.forwards, run.steps, run.kept_step = 800, 400, 400
                run.peak_bytes, run.step_seconds = (11 + k) * 2**20, 4.0 + k
                write(run, path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return board([store(tmp_path_factory.mktemp("store"), ("mezo", "adam"), ("sst2", "rte"))], curves=True)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Board:
    place = store(tmp_path_factory.mktemp("store"), HOSTILE, ("</text>&$t$", "sst2"))
    return board([place], curves=True)


def texts(path: Path) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.parse(path).iter(f"{SVG}text")]


# ---- what is there ----


def test_every_figure_is_there(made: Board, tmp_path: Path):
    paths = figures.write(made, tmp_path / "new" / "figures")
    assert all(path.is_file() for path in paths) and len(set(paths)) == len(paths)
    title = "random-tiny-float32-forwards-4000-batch-16-test-score.svg"
    suite = "opt-random-tiny-float32-forwards-4000-batch-16-test-score.svg"
    assert sorted(path.name for path in paths) == sorted(
        [
            *(f"{kind}-opt-{task}-{title}" for kind in ("learning", "cost") for task in ("rte", "sst2")),
            f"profile-{suite}",
            f"data-profile-{suite}",
        ]
    )
    for path in paths:
        tree = ElementTree.parse(path).getroot()
        assert tree.tag == f"{SVG}svg" and tree.get("width") == "237.6pt"  # 3.3 inches
        assert {"mezo", "adam"} <= set(texts(path))
        assert not any(node.tag in (f"{SVG}script", f"{SVG}image") for node in tree.iter())


def test_axes_say_what_they_show(made: Board, tmp_path: Path):
    found = {path.name.split("-opt")[0]: texts(path) for path in figures.write(made, tmp_path, width=6.9)}
    assert {"forwards (a backward counts 2)", "accuracy, % (higher is better)"} <= set(found["learning"])
    assert {"peak memory (× inference)", "time in steps (s)"} <= set(found["cost"])
    assert "forwards (a backward counts 2)" not in found["cost"]  # both spent the same
    assert {"cost, as a multiple of the cheapest", "problems solved (%)"} <= set(found["profile"])
    assert any("90 % of the way to the best; 6 problems" in text for text in found["profile"])
    assert "forwards (a backward counts 2)" in found["data-profile"]


def test_claims(made: Board, tmp_path: Path):
    value = next(row for row in published.load() if row.is_score and row.value is not None)
    claim = Claim(value, value.metric, Interval(90.0, 88.0, 92.0), 3, 1.0, [], [])
    alone = Claim(value, value.metric, None, 0, None, [], [])
    group = Group("sst2", "m", "mezo[lr=1e-6]", "none", True, [], {}, [], [claim, alone])
    paths = figures.write(made, tmp_path, claims=Claims([group], 0, 0, []))
    assert paths[-1].name == "claimed.svg"
    assert {"published (%)", "here (%)", "mezo"} <= set(texts(paths[-1]))
    none = Claims([Group("sst2", "m", "mezo", "none", False, [], {}, [], [alone])], 0, 0, [])
    assert "claimed.svg" not in [path.name for path in figures.write(made, tmp_path / "b", claims=none)]


def test_many_rows_are_grey_but_for_a_few(tmp_path: Path):
    names = ("mezo", "adam", *(f"other{i}" for i in range(20)))
    found = board([store(tmp_path / "store", names, seeds=1)], curves=True)
    (path,) = [p for p in figures.write(found, tmp_path / "f") if p.name.startswith("learning")]
    shown = set(texts(path)) & set(names)
    # the two that everybody compares with, though they are the worst, and the six best
    assert shown == {"mezo", "adam", *(f"other{i}" for i in range(14, 20))}
    assert path.read_text().count(f"stroke: {palette.REST.lower()}") == len(names) - len(shown)


# ---- what is in them ----


def scale(tree: ElementTree.Element, axis: str) -> tuple[float, float]:
    """(factor, offset) from pixels to data, from the ticks and the numbers written at them."""
    known = []
    for group in tree.iter(f"{SVG}g"):
        if re.fullmatch(f"{axis}tick_[0-9]+", group.get("id") or ""):
            (use,) = group.iter(f"{SVG}use")
            (text,) = group.iter(f"{SVG}text")
            known.append((float(use.get(axis) or "nan"), float("".join(text.itertext()))))
    pixels, numbers = np.array(known).T
    factor, offset = np.polyfit(pixels, numbers, 1)
    return float(factor), float(offset)


def test_the_paths_are_the_data(tmp_path: Path):
    """One run of 50, 80, 75 and 90 % after 0, 200, 400 and 600 forwards, as a step function."""
    run = record(value=0.9, curve=curve([0.5, 0.8, 0.75, 0.9]))
    run.forwards = 600
    write(run, tmp_path / "store")
    paths = figures.write(board([tmp_path / "store"], curves=True), tmp_path / "f")
    assert [path.name.split("-")[0] for path in paths] == ["learning"]  # one row has nothing to be compared with
    tree = ElementTree.parse(paths[0]).getroot()
    x, y = scale(tree, "x"), scale(tree, "y")
    tint = f"stroke: {palette.colour('mezo').lower()}"
    (line,) = [p for p in tree.iter(f"{SVG}path") if tint in (p.get("style") or "") and "1.1" in (p.get("style") or "")]
    corners = np.array([[float(v) for v in pair] for pair in re.findall(r"[ML] (\S+) (\S+)", line.get("d") or "")])
    shown = np.column_stack([corners[:, 0] * x[0] + x[1], corners[:, 1] * y[0] + y[1]])
    expected = [(0, 50), (200, 50), (200, 80), (400, 80), (400, 75), (600, 75), (600, 90)]
    np.testing.assert_allclose(shown, expected, atol=0.02)


def test_labels_are_apart_and_in_order():
    found = figures._apart([0.1, 0.5, 0.5, 0.5, 0.98], 0.1)
    assert found == [0.1, 0.4, 0.5, 0.6, 0.98]
    crowded = figures._apart([1.0] * 8, 0.08)
    assert crowded[-1] <= 1 and crowded[0] >= 0 and np.allclose(np.diff(crowded), 0.08)


# ---- what may come from a result ----


def test_hostile_names_stay_text(hostile: Board, tmp_path: Path):
    paths = figures.write(hostile, tmp_path)
    assert all(re.fullmatch(r"[a-z0-9-]{1,110}\.svg", path.name) for path in paths)
    shown = set()
    for path in paths:
        tree = ElementTree.parse(path).getroot()  # well-formed
        assert not any(node.tag.endswith("script") for node in tree.iter())
        shown |= set(texts(path))
    assert {"<script>alert(1)</scr…", "$x_{$", 'a&b"]]>', "bell  and  back", "y" * 21 + "…"} <= shown
    assert any("</text>&$t$" in text for text in shown)


def test_the_same_board_gives_the_same_bytes(tmp_path: Path):
    place = store(tmp_path / "store", (*HOSTILE[:3], "mezo"))
    code = (
        "import sys; from pathlib import Path; from zobench.report import figures, tables\n"
        "figures.write(tables.board([Path(sys.argv[1])], curves=True), Path(sys.argv[2]))"
    )
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "MPLCONFIGDIR": str(tmp_path / f"config{seed}")}
        (tmp_path / f"config{seed}").mkdir()
        # a user's own settings change nothing
        (tmp_path / f"config{seed}" / "matplotlibrc").write_text(f"font.size: {5 + int(seed)}\nsvg.fonttype: path\n")
        subprocess.run([sys.executable, "-c", code, place, tmp_path / seed], check=True, env=environment)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / seed).iterdir()} for seed in ("1", "2"))
    assert len(first) == 4 and first == second
    assert not any(b"dc:date" in payload or b"Matplotlib v" in payload for payload in first.values())


def test_letters_that_matplotlib_lacks(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    """The reader's own fonts have them: every text names some, none of which is measured or asked for here."""
    name = "零阶优化器" * 5
    found = board([store(tmp_path / "store", ("mezo", name))], curves=True)
    for path in figures.write(found, tmp_path / "f"):
        tree = ElementTree.parse(path)
        styles = [node.get("style") or "" for node in tree.iter(f"{SVG}text")]
        assert styles and all("'DejaVu Sans', 'Noto Sans'" in s and "CJK" in s and "sans-serif" in s for s in styles)
        assert "零阶优化器零阶优化器…" in texts(path)  # 21 columns, two a letter
    assert not recwarn.list


def test_names_of_files_are_unlike_each_other():
    taken: set[str] = set()
    assert [figures._slug(name, taken) for name in ("a/../b", "A b", "a-b", "é", "!")] == [
        "a-b",
        "a-b-2",
        "a-b-3",
        "figure",
        "figure-2",
    ]


# ---- what may be wrong ----


def test_without_matplotlib_one_line_says_what_to_do(made: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EnvironmentUnmet, match=re.escape("pip install 'zobench[plot]'")):
        figures.write(made, tmp_path)


def test_the_module_alone_needs_no_matplotlib():
    code = "import sys, zobench.report.figures; assert not any(m.startswith('matplotlib') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_directory_that_cannot_be_written(made: Board, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentUnmet, match="cannot write figures"):
        figures.write(made, tmp_path / "file")


def test_a_width_that_cannot_be_read(made: Board, tmp_path: Path):
    with pytest.raises(UsageError, match="one column"):
        figures.write(made, tmp_path, width=0.5)
