"""The page of 5,000 runs with curves: how large it is, how long it takes to write, and until a browser shows it."""

from __future__ import annotations

import shutil
import statistics

import pytest
from page_boards import large_board
from side_by_side import context, goal, save

from zobench.report.page import page

RUNS = 5000
ROUNDS = 5


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def first_paints(path, routes: list[str]) -> list[float]:
    """Seconds from the start of the navigation to the first painted text, by Chromium's own clock."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on the PATH")
    found = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for route in routes:
            context_ = browser.new_context()
            tab = context_.new_page()
            tab.goto(path.as_uri() + route)
            tab.wait_for_selector("main table")
            tab.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
            milliseconds = tab.evaluate(
                """Math.max(performance.getEntriesByName("first-contentful-paint")[0].startTime,
                   performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd)"""
            )  # the tables are there when the document is
            found.append(milliseconds / 1e3)
            context_.close()
        browser.close()
    return found


def test_page(benchmark, tmp_path):
    board = large_board(runs=RUNS)
    text = benchmark.pedantic(lambda: page(board), rounds=ROUNDS)
    path = tmp_path / "board.html"
    path.write_text(text, encoding="utf-8")
    lines = [
        goal(
            f"page of {RUNS:,} runs", "size in MB, curves and libraries included", len(text.encode()) / 1e6, "<=", 3.0
        ),
        context(f"page of {RUNS:,} runs, writing", "seconds", spread(benchmark.stats.stats.data)),
        goal(
            f"page of {RUNS:,} runs, first paint",
            "seconds in Chromium until text and tables are shown",
            spread(first_paints(path, ["#/"] * ROUNDS)),
            "<=",
            1.0,
        ),
    ]
    save("page", lines)
