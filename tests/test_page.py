"""The page without a browser: what is in the file, what may run in it, how large it is, and that its numbers come back."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from importlib.resources import files
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_boards import (
    HOSTILE,
    cost_board,
    curve,
    hostile_board,
    large_board,
    points,
    row,
    run,
    section,
    small_board,
    small_claims,
)

from zobench.report import curves as learning
from zobench.report.page import page
from zobench.report.page.data import CELL, LONGEST, digits, embedded, payload, section_id
from zobench.report.stats import FLOOR, Interval
from zobench.report.summary import summaries
from zobench.report.tables import Board, Row
from zobench.report.text import clean

HERE = Path(__file__).parent
VOID = ("meta", "link", "br", "input", "wbr", "img")


class Reader(HTMLParser):
    """The elements of a page: (name, attributes, text inside of scripts and styles)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style", "title"):
            self.found[-1][2].append(data)

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(text)) for name, attributes, text in self.found if name == tag]

    @property
    def shape(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Every element with its attributes, in order."""
        return [(name, tuple(attributes.items())) for name, attributes, _ in self.found]

    @property
    def data(self) -> Any:
        return next(json.loads(text) for attributes, text in self.of("script") if attributes.get("id") == "data")


def test_shell() -> None:
    text = page(small_board())
    reader = Reader(text)
    assert text.startswith("<!doctype html>")
    assert reader.open == []  # every element is closed
    assert reader.of("html")[0][0]["lang"] == "en"
    assert len(reader.of("main")) == len(reader.of("h1")) == len(reader.of("title")) == len(reader.of("nav")) == 1
    assert next(a for a, _ in reader.of("meta") if a.get("name") == "viewport")["content"] == (
        "width=device-width, initial-scale=1"
    )
    ids = [attributes["id"] for _, attributes, _ in reader.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "63 runs in 5 tables" in text  # 3 x 6 rows, 2 rows and 1 row of three runs


def test_only_named_scripts_run() -> None:
    """The policy holds exactly the digests of the scripts in the file, as the browser computes them."""
    reader = Reader(page(small_board()))
    policy = next(a for a, _ in reader.of("meta") if a.get("http-equiv") == "Content-Security-Policy")["content"] or ""
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert set(rules) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    assert (rules["style-src"], rules["img-src"]) == ("'unsafe-inline'", "data:")
    scripts = [text for attributes, text in reader.of("script") if attributes.get("id") != "data"]
    digests = {f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts}
    assert len(digests) == 3
    assert set(rules["script-src"].split()) == digests


def test_fetches_nothing() -> None:
    reader = Reader(page(hostile_board()))
    for name, attributes, _ in reader.found:
        assert not {"src", "srcset", "action", "background", "poster", "style"} & set(attributes), name
        assert not [key for key in attributes if key.startswith("on")]
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))
    style = "".join(text for _, text in reader.of("style"))
    assert "url(" not in style and "@import" not in style


def test_text_becomes_no_markup() -> None:
    """The hostile board has the same elements and attributes as a harmless one; its names are in the data, one line each."""
    hostile, harmless = Reader(page(hostile_board())), Reader(page(small_board()))
    assert hostile.shape == harmless.shape
    texts = hostile.data["texts"]
    for evil in HOSTILE:
        shown = clean(evil)
        assert (shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…") in texts
    assert not [text for text in texts if not text.isprintable()]


def test_embedded_ends_no_script() -> None:
    evil = {"x": "</script><!--<script>&amp;\u2028\u2029]]>"}
    text = embedded(evil)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == evil


def test_scripts_write_text_only() -> None:
    """None of our scripts has a way from a string to markup or code."""
    scripts = list(files("zobench.report.page").joinpath("js").iterdir())
    assert len(scripts) > 10
    ways = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|DOMParser|srcdoc|createContextual"
    )
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert not re.search(ways, text), script.name
        assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(", text), script.name


def test_every_script_is_in_the_page() -> None:
    here = files("zobench.report.page")
    text = page(small_board())
    for script in [*here.joinpath("js").iterdir(), here / "vendor" / "d3.min.js", here / "vendor" / "plot.min.js"]:
        assert script.read_text(encoding="utf-8") in text, script.name


def test_libraries_are_those_of_the_table() -> None:
    """The table beside them names the versions and licences of the files as they are."""
    vendor, text = files("zobench.report.page") / "vendor", page(small_board())
    listed = re.findall(r"^\| (\S+\.js) \| ([^,|]+), `[^`]+` \| (\S+) \|", (vendor / "README.md").read_text(), re.M)
    assert {name for name, _, _ in listed} == {f.name for f in vendor.iterdir() if f.name.endswith(".js")}
    for name, package, version in listed:
        head = (vendor / name).read_text(encoding="utf-8")[:200]
        assert f"v{version} Copyright" in head and package.rpartition("/")[2] in head.lower()
        licence = (vendor / f"{name.split('.')[0]}.LICENSE").read_text()
        assert "Permission to use, copy, modify, and/or distribute this software for any purpose" in licence
        assert escape(licence, quote=False).splitlines()[0] in text  # a page is a copy, and goes with its licence


def test_size_and_determinism() -> None:
    board = large_board(runs=5000)
    count = sum(len(r.runs) for s in board.sections for r in s.rows)
    assert count == 4998 and all(len(r.curve.cost) == 40 for s in board.sections for r in s.rows if r.curve)
    text = page(board)
    assert len(text.encode()) < 3_000_000
    curves = [c for s in Reader(text).data["sections"] for c in s["curves"]["rows"]]
    assert len(curves) == 1666 and all(c is not None for c in curves)


def test_size_of_single_seeds() -> None:
    """5,000 rows of one run each, the most that 5,000 runs can ask for."""
    assert len(page(large_board(runs=5000, seeds=1)).encode()) < 3_000_000


def test_same_bytes_in_another_process() -> None:
    """Neither the order of sets nor the clock gets into the file."""
    code = (
        "import hashlib, page_boards; from zobench.report.page import page; from zobench.report.summary import summaries;"
        "b = page_boards.small_board(); print(hashlib.sha256(page(b, None, summaries(b)).encode()).hexdigest())"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    "x, expected",
    [
        (0.12345678, 0.123457),
        (12345678.0, 12345700),
        (-9.9999996e-12, -1e-11),
        (2.0, 2),
        (0.0, 0),
        (1e300, 1e300),
        (math.inf, None),
        (math.nan, None),
        (None, None),
    ],
)
def test_digits(x: float | None, expected: float | None) -> None:
    assert digits(x) == expected


# ---- the numbers come back ----


def decoded(data: Any, section_: int, row_: int) -> dict[str, Any]:
    """A curve of the JSON, by the description in zobench/report/page/data.py."""
    curves = data["sections"][section_]["curves"]
    costs, steps, clock, flops, joules, levels, below, above, n, *kept = curves["rows"][row_]

    def value(level: float) -> float:
        return 10 ** (level / 1000) if curves["unit"] is None else level * curves["unit"]

    level = list(accumulate(levels))
    cost = np.array(list(accumulate(data["axes"][costs])))
    seconds = clock if len(clock) == len(cost) else np.interp(cost, [cost[0], cost[-1]], clock)
    return dict(
        cost=cost,
        steps=np.array(list(accumulate(data["axes"][steps]))),
        seconds=np.array(seconds),
        flops=flops * cost / cost[-1],
        joules=joules,
        center=np.array([value(x) for x in level]),
        low=None if below is None else np.array([value(x - d) for x, d in zip(level, below, strict=True)]),
        high=None if above is None else np.array([value(x + d) for x, d in zip(level, above, strict=True)]),
        n=n,
        kept=np.array([value(x + d) for x, d in zip(level, kept[0] if kept else [0] * len(level), strict=True)]),
    )


def of_curve(found: learning.Curve, scale: str) -> Any:
    metric = dict(metric="relative_gap", better="lower") if scale == "log" else {}
    table = section("t", [row("mezo", (1, 1), Interval(0.5), curve=found)], scale=scale, **metric)
    return decoded(json.loads(embedded(payload(Board([table], [])))), 0, 0)


def test_linear_curve_comes_back() -> None:
    """To 1e-4 of the scale's decade (accuracies between 0.1 and 1: 0.0001), that is half of it by rounding."""
    draw = np.random.RandomState(1)
    center = 0.5 + 0.4 * draw.rand(40)
    clock = np.cumsum(draw.rand(40))
    came = of_curve(curve(center, 0.05, clock), "linear")
    np.testing.assert_allclose(came["center"], center, atol=0.51e-4)
    np.testing.assert_allclose(came["low"], center - 0.05, atol=0.51e-4)
    np.testing.assert_allclose(came["high"], center + 0.05, atol=0.51e-4)
    np.testing.assert_array_equal(came["cost"], 10 * np.arange(40))
    np.testing.assert_array_equal(came["steps"], 5 * np.arange(40))
    np.testing.assert_allclose(came["seconds"], clock, rtol=5e-3)
    np.testing.assert_allclose(came["flops"], 1e10 * np.arange(40), rtol=1e-3)
    assert came["joules"] is None and came["n"] == 3


@pytest.mark.parametrize("scale, best", [("linear", np.fmax), ("log", np.fmin)])
def test_what_was_kept_comes_back(scale: str, best: np.ufunc) -> None:
    """Had the budget ended at a point, the runs would have ended with the best until then, not with the last."""
    center = 0.5 + 0.4 * np.random.RandomState(1).rand(40)
    kept = best.accumulate(center)
    came = of_curve(replace(curve(center), kept=kept), scale)
    np.testing.assert_allclose(came["kept"], kept, rtol=1.2e-3)
    np.testing.assert_allclose(came["center"], center, rtol=1.2e-3)


def test_numbers_are_rounded_once() -> None:
    """With three digits 1.2348 is 1.23, and 88.449 % is 88.4; by way of four they would be 1.24 and 88.5."""
    rows = json.loads(embedded(payload(cost_board())))["sections"][0]["rows"]
    assert rows["seconds"] == [1.2348, 10] and rows["score"] == [[0.88449], [0.9]]


def test_log_curve_comes_back() -> None:
    """To half a thousandth of a decade, 0.12 %, over 28 decades."""
    center = np.geomspace(1.0, FLOOR, 40)
    came = of_curve(curve(center), "log")
    np.testing.assert_allclose(came["center"], center, rtol=1.2e-3)
    assert came["low"] is None and came["high"] is None
    np.testing.assert_allclose(came["seconds"], 2.5 * np.arange(40))
    assert of_curve(curve([1.0, 0.0]), "log")["center"][-1] == pytest.approx(FLOOR)


def test_curves_are_thinned_only_when_many() -> None:
    few = payload(large_board(runs=300, tables=2, size=40))
    many = payload(large_board(runs=15000, tables=30, size=40))
    assert {len(c[5]) for s in few["sections"] for c in s["curves"]["rows"]} == {40}
    sizes = {len(c[5]) for s in many["sections"] for c in s["curves"]["rows"]}
    assert max(sizes) < 40 and min(sizes) >= 12
    whole, thin = large_board(runs=15000, tables=30).sections[0].rows[0].curve, many["sections"][0]["curves"]["rows"][0]
    assert whole is not None
    cost = list(accumulate(many["axes"][thin[0]]))
    assert cost[0] == whole.cost[0] and cost[-1] == whole.cost[-1]


def test_rows_and_runs() -> None:
    board = small_board()
    data = json.loads(embedded(payload(board)))
    table, texts = data["sections"][0], data["texts"]
    rows = table["rows"]
    assert [texts[i] for i in rows["optimizer"]] == ["adam", "galore", "mezo", "mezo-adam", "fails", "zero-shot"]
    assert rows["rank"] == [[1, 2], [1, 3], [2, 4], [4, 4], None, None]
    assert rows["score"] == [[0.9, 0.88, 0.92], [0.89, 0.85, 0.93], [0.84, 0.8, 0.87], [0.7], None, [0.6]]
    assert rows["seconds"] == [100, 200, 30, 40, None, 0.001]
    assert rows["reference"] == [None, None, None, None, None, 1]
    assert "flops" not in rows and "joules" not in rows  # no row has them
    assert rows["cost"][0] == 2000 and rows["cost"][1] is None  # 2,000 is not 2,000 + 2 x 500; the others follow
    cells, seeds, data_seeds, values, statuses, classes, reasons = table["runs"][3]  # no instances
    assert cells.split() == [r.cell[:CELL] for r in board.sections[0].rows[3].runs]
    assert (seeds, data_seeds, values) == ([0, 1, 2], 0, [0.7, None, None])
    assert [texts[i] for i in statuses] == ["ok", "diverged", "diverged"]
    assert [None if i is None else texts[i] for i in reasons] == [None, *["the loss is nan at step 3"] * 2]
    assert texts[classes] == "exact"
    assert [s["partial"] for s in data["sections"]] == [False] * 4 + [True]
    assert (data["sections"][0]["percent"], data["sections"][2]["percent"]) == (True, False)


def test_address_of_a_table_is_its_own() -> None:
    """It does not depend on what else is on the board, nor on the rows, but on every condition."""
    first = section("a", [row("mezo", (1, 1), Interval(0.5))])
    again = section("a", [row("adam", (1, 1), Interval(0.7))])
    other = section("a", [], hardware=[])
    other.conditions["budget"] = "forwards=4000"
    partial = section("a", [], partial=True)
    assert section_id(first) == section_id(again)
    assert len({section_id(s) for s in (first, other, partial)}) == 3
    assert re.fullmatch(r"img-src-x-onerror-window-hacked-img-[0-9a-f]{8}", section_id(section(HOSTILE[0], [])))


def test_performance_profile() -> None:
    """Two tasks, two optimizers. On the first, a meets the target after 10 forwards and b after 20; on the second only
    b does. So a solves 1/2 within any factor; b solves 1/2 within 1 and everything from 2 on.
    """

    def racer(name: str, values: list[list[float]]) -> list[Any]:
        return [
            row(name, (1, 2), Interval(0.9), runs=[run(0, v[-1], f"{name} {i}", points=points(v))])
            for i, v in enumerate(values)
        ]

    a = racer("a", [[0.1, 0.9, 0.9], [0.1, 0.1, 0.2]])
    b = racer("b", [[0.1, 0.1, 0.9], [0.1, 0.1, 0.9]])
    board = Board([section("one", [a[0], b[0]]), section("two", [a[1], b[1]])], [])
    data = json.loads(embedded(payload(board)))
    (profile,) = data["profiles"]
    shares = dict(zip([data["texts"][i] for i in profile["names"]], profile["shares"], strict=True))
    assert profile["taus"][0] == 1 and 2 in profile["taus"]
    assert set(shares["a"]) == {0.5}
    assert [s for t, s in zip(profile["taus"], shares["b"], strict=True) if t < 2] == [0.5] * profile["taus"].index(2)
    assert shares["b"][-1] == 1
    assert (profile["tasks"], profile["problems"], profile["left_out"]) == (2, 2, 0)


def test_profile_of_each_summary() -> None:
    """One chart for each model, adapter and budget; for an optimizer stands the setting that is best on validation.

    Validated after 0, 10, 20 and 30 forwards: mezo 50, 90, 95, 96 % at one rate, 50, 55, 60, 65 % at another, whose test
    score is higher; lozo 50, 60, 80, 95.5 %. Solved is 50 + 0.9 (96 - 50) = 91.4 %: mezo after 20, lozo after 30.
    """
    lines = {"slow": [0.5, 0.55, 0.6, 0.65], "fast": [0.5, 0.9, 0.95, 0.96], "lozo": [0.5, 0.6, 0.8, 0.955]}
    scores = {"slow": 0.9, "fast": 0.8, "lozo": 0.85}

    def lineup() -> list[Row]:
        return [
            row(
                "lozo" if name == "lozo" else "mezo",
                (1, 3),
                Interval(scores[name]),
                label=name,
                full_label=name,
                validation=values[-1],
                runs=[run(s, scores[name], name, points=points(values)) for s in range(3)],
            )
            for name, values in lines.items()
        ]

    tables = [section(task, lineup()) for task in ("a", "b")] + [section(task, lineup()) for task in ("a", "b")]
    for table in tables[2:]:
        table.conditions["adapter"] = "lora[r=8]"
    board = Board([*tables, section("a", lineup(), partial=True)], [])
    data = json.loads(embedded(payload(board, None, summaries(board))))
    texts = data["texts"]
    full = "random:tiny · float32 · forwards=2000 · batch 16 · test score"
    adapted = "random:tiny · lora[r=8] · float32 · forwards=2000 · batch 16 · test score"
    profiles = {texts[p["about"]]: p for p in data["profiles"]}
    assert set(profiles) == {full, adapted, f"{full} · PARTIAL DATA"} and len(data["profiles"]) == 3
    places = {section["id"]: i for i, section in enumerate(data["sections"])}
    found = {texts[s["about"]]: (s["profile"], [places[id_] for _, id_ in s["tasks"]]) for s in data["summaries"]}
    assert found == {
        full: (data["profiles"].index(profiles[full]), [0, 1]),
        adapted: (data["profiles"].index(profiles[adapted]), [2, 3]),
    }
    for profile in (profiles[full], profiles[adapted]):
        shares = dict(zip([texts[i] for i in profile["names"]], profile["shares"], strict=True))
        assert set(shares["mezo"]) == {1}
        assert shares["lozo"] == [float(t >= 1.5) for t in profile["taus"]]
        assert (profile["tasks"], profile["problems"], profile["left_out"]) == (2, 6, 0)


def test_claims_point_to_the_note_in_their_row() -> None:
    rules = payload(small_board(), small_claims())["claims"]["rules"]
    assert "numbered" not in rules and rules.endswith("Open its row and read the note before quoting a value.")


def test_an_empty_table_and_no_curves() -> None:
    """Rows that all failed, and runs whose points were not read: nothing is drawn, nothing breaks."""
    board = Board([section("t", [row("mezo", None, None)])], [])
    data = Reader(page(board)).data
    assert data["profiles"] == [] and data["sections"][0]["curves"]["rows"] == [None]
