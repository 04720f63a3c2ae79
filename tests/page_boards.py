"""Boards made by hand for the page: names, numbers and curves as a test wants them, without a store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from zobench.published import Published
from zobench.report.claimed import Claim, Claims, Group
from zobench.report.curves import POINT_DTYPE, Curve
from zobench.report.stats import Interval
from zobench.report.tables import Board, Row, Run, Section
from zobench.report.view import View

HOSTILE = (
    "<img src=x onerror=\"window.hacked='img'\">",
    "</script><script>window.hacked='script'</script>",
    "javascript:window.hacked='link'",
    "--><svg/onload=window.hacked='svg'>",
    "{{ 7 * 7 }} {% raw %}",
    "&lt;b&gt; \u2028 \u2029 ' \" `",
    "abc\u202edcba\u2066 \u200b end",
    "long-" + "x" * 900,
)


def run(seed: int, value: float | None, name: str = "", **overrides: Any) -> Run:
    """Run `seed` of the row `name`."""
    values: dict[str, Any] = dict(
        cell=hashlib.sha256(f"{name} {seed}".encode()).hexdigest(),
        seed=seed,
        data_seed=0,
        instance=None,
        status="diverged" if value is None else "ok",
        reason="the loss is nan at step 3" if value is None else None,
        value=value,
        validation=value,
        replay_class="exact",
        spent=None,
        points=None,
    )
    return Run(**values | overrides)


def points(values: Sequence[float], every: int = 10) -> np.ndarray:
    """Validations after 0, every, 2 every ... forwards."""
    found = [(i * every // 2, i * every, 0, 0.25 * i * every, value) for i, value in enumerate(values)]
    return np.array(found, dtype=POINT_DTYPE)


def curve(center: Sequence[float], width: float | None = None, seconds: Sequence[float] | None = None) -> Curve:
    """A learning curve with the same distance to both ends of its interval; none where width is None."""
    y = np.asarray(center, dtype=float)
    cost = 10.0 * np.arange(len(y))
    band = np.full(len(y), np.nan) if width is None else np.full(len(y), width)
    return Curve(
        cost=cost,
        steps=cost / 2,
        seconds=0.25 * cost if seconds is None else np.asarray(seconds, dtype=float),
        flops=1e9 * cost,
        joules=np.full(len(y), np.nan),
        center=y,
        low=y - band,
        high=y + band,
        kept=y,
        n=np.full(len(y), 3),
        runs=3,
    )


def row(name: str, rank: tuple[int, int] | None, score: Interval | None, **overrides: Any) -> Row:
    """A row of three runs; its costs are overrides."""
    center = score.center if score else None
    values: dict[str, Any] = dict(
        label=f"{name}[lr=1e-3]",
        full_label=f"{name}[eps=1e-3,lr=1e-3]",
        optimizer=name,
        options={"lr": 1e-3, "eps": 1e-3},
        rank=rank,
        score=score,
        spent=None,
        validation=center,
        n=3 if score else 0,
        forwards=2000.0,
        backwards=0.0,
        cost=2000.0,
        ms_per_step=5.0,
        step_seconds=10.0,
        total_seconds=12.0,
        memory_ratio=1.1,
        peak_bytes=2.0**20,
        inference_bytes=2.0**19,
        process_bytes=None,
        state_bytes=0.0,
        weight_bytes=2.0**18,
        flops=None,
        energy_joules=None,
        probe_mode="stream",
        order="reference" if overrides.get("reference") else "zeroth",
        fidelity={"probe_cosine": 0.999},
        hitting={},
        reference=False,
        failures={} if score else {"diverged": 3},
        marks=[],
        runs=[run(seed, center, name) for seed in range(3)],
    )
    return Row(**values | overrides)


def section(task: str, rows: list[Row], **overrides: Any) -> Section:
    """Accuracies on the whole data, unless overrides say otherwise; `suite` is one of them."""
    suite = overrides.pop("suite", "toy")
    conditions = dict(
        suite=suite,
        task=task,
        task_version=1,
        model="random:tiny",
        revision=None,
        adapter="none",
        dtype="float32",
        budget="forwards=2000",
        batch_size=16,
        score="test",
        data="generated",
    )
    values: dict[str, Any] = dict(
        conditions=conditions,
        task_options={},
        task_label=None,
        partial=False,
        metric="accuracy",
        better="higher",
        scale="linear",
        hardware=["2-core test"],
        rows=rows,
    )
    return Section(**values | overrides)


def small_board() -> Board:
    """Two suites, five tables: costs and ranks chosen so that the answer depends on both limits."""
    mib = 2.0**20

    def lineup(best: float) -> list[Row]:
        return [
            row(
                "adam",
                (1, 2),
                Interval(best, best - 0.02, best + 0.02),
                step_seconds=100.0,
                peak_bytes=400 * mib,
                memory_ratio=4.0,
                backwards=500.0,
                curve=curve(np.linspace(0.5, best, 21), 0.02),
            ),
            row(
                "galore",
                (1, 3),
                Interval(best - 0.01, best - 0.05, best + 0.03),
                step_seconds=200.0,
                peak_bytes=200 * mib,
                memory_ratio=2.0,
                curve=curve(np.linspace(0.5, best - 0.01, 21), 0.04),
            ),
            row(
                "mezo",
                (2, 4),
                Interval(best - 0.06, best - 0.1, best - 0.03),
                step_seconds=30.0,
                peak_bytes=100 * mib,
                memory_ratio=1.0,
                marks=["2 of 3 runs"],
                curve=curve(np.linspace(0.5, best - 0.06, 21), 0.03),
            ),
            row(
                "mezo-adam",
                (4, 4),
                Interval(best - 0.2),
                n=1,
                step_seconds=40.0,
                peak_bytes=110 * mib,
                memory_ratio=1.1,
                failures={"diverged": 2},
                runs=[run(0, best - 0.2, "mezo-adam"), run(1, None, "mezo-adam"), run(2, None, "mezo-adam")],
            ),
            row("fails", None, None, step_seconds=None, peak_bytes=None, memory_ratio=None),
            row("zero-shot", None, Interval(0.6), reference=True, step_seconds=1e-3, peak_bytes=90 * mib),
        ]

    gaps = [
        row("sgd", (1, 1), Interval(1e-9, 1e-10, 1e-8), step_seconds=0.5, peak_bytes=4096.0, memory_ratio=1.2),
        row("mezo", (2, 2), Interval(1e-4, 1e-5, 1e-3), step_seconds=2.0, peak_bytes=2048.0, memory_ratio=1.0),
    ]
    return Board(
        sections=[
            section("sentiment", lineup(0.9)),
            section("entailment", lineup(0.8)),
            section("softmax", gaps, suite="synthetic", metric="relative_gap", better="lower", scale="log"),
            section("lonely", [row("mezo", (1, 1), Interval(0.5, 0.4, 0.6))]),
            section("sentiment", lineup(0.99), partial=True),
        ],
        problems=[],
    )


def scaled_board(memory: float, time: float) -> Board:
    """The small board with its bytes and seconds multiplied."""
    board = small_board()

    def times(x: float | None, factor: float) -> float | None:
        return None if x is None else x * factor

    sections = [
        replace(
            s,
            rows=[
                replace(
                    r,
                    peak_bytes=times(r.peak_bytes, memory),
                    step_seconds=times(r.step_seconds, time),
                    curve=r.curve and replace(r.curve, seconds=time * r.curve.seconds),
                )
                for r in s.rows
            ],
        )
        for s in board.sections
    ]
    return Board(sections, [])


def stopped_board() -> Board:
    """One task and three optimizers: what fits into 8 GiB and some hours, whole or cut.

    `quick` takes an hour and scores 80 %. `long` takes four: it validated 70, 86, 85 and 92 % after each, kept what was
    best, and scored 90 %. `wide` scores 95 % in an hour; its tensors take 6 GiB, its process 20.
    """
    hours = 3600 * np.arange(5.0)
    learned = curve([0.5, 0.7, 0.86, 0.85, 0.92], seconds=hours)
    learned = replace(learned, kept=np.array([0.5, 0.7, 0.86, 0.86, 0.92]))
    gib = 2.0**30
    rows = [
        row("wide", (1, 1), Interval(0.95), step_seconds=3600.0, peak_bytes=6 * gib, process_bytes=20 * gib),
        row("long", (2, 2), Interval(0.9), step_seconds=4 * 3600.0, peak_bytes=7 * gib, curve=learned),
        row("quick", (3, 3), Interval(0.8), step_seconds=3600.0, peak_bytes=5 * gib, process_bytes=4 * gib),
    ]
    return Board([section("sentiment", rows)], [])


def cost_board() -> Board:
    """Ranked by memory: the cheapest row, which is the worst, comes first."""
    rows = [
        row("cheap", (1, 1), Interval(0.88449), peak_bytes=2.0**20, spent=2.0**20, step_seconds=1.2348),
        row("dear", (2, 2), Interval(0.9), peak_bytes=2.0**22, spent=2.0**22),
    ]
    return Board([section("sentiment", rows)], [], view=View(rank_by="memory"))


def hostile_board() -> Board:
    """Every text that a result may bring is markup, or tries to be."""
    tables = []
    for i, evil in enumerate(HOSTILE):
        rows = [
            row(
                other,
                (1, len(HOSTILE)),
                Interval(0.9 - 0.01 * j, 0.8, 0.95),
                label=f"{other}[lr=1]",
                full_label=other,
                marks=[evil],
                probe_mode=evil,
                failures={evil: 1},
                runs=[
                    run(0, 0.9, other, instance=evil, replay_class=evil),
                    run(1, None, other, status=evil, reason=evil),
                ],
                curve=curve([0.5, 0.7, 0.9], 0.1),
            )
            for j, other in enumerate(HOSTILE)
        ]
        tables.append(section(evil, rows, suite=evil, metric=evil, task_label=evil, hardware=[evil], notes=[evil]))
        tables[i].conditions["model"] = evil
    return Board(sections=tables, problems=[])


def large_board(runs: int = 5000, seeds: int = 3, tables: int = 30, size: int = 40) -> Board:
    """Many runs, each row with a curve of its own noise and a clock that does not run evenly."""
    draw = np.random.RandomState(0)
    sections = []
    per_table = runs // (seeds * tables)
    for t in range(tables):
        log = t % 2 == 0
        rows = []
        for i in range(per_table + (t < runs // seeds - per_table * tables)):
            name = f"optimizer-{i}"
            fall = np.sort(draw.rand(size))[::-1]
            center = 10 ** (-8 * (1 - fall)) if log else 1 - 0.5 * fall
            value = float(center[-1])
            clock = np.cumsum(draw.rand(size))
            rows.append(
                row(
                    name,
                    (i + 1, i + 10),
                    Interval(value, value * 0.9, value * 1.1),
                    n=seeds,
                    step_seconds=float(clock[-1]),
                    ms_per_step=float(draw.rand()),
                    total_seconds=float(draw.rand() * 100),
                    memory_ratio=1 + float(draw.rand()),
                    peak_bytes=float(draw.randint(1, 10**9)),
                    flops=float(draw.rand() * 1e15),
                    energy_joules=float(draw.rand() * 1e3),
                    state_bytes=float(draw.randint(10**6)),
                    fidelity={"probe_cosine": float(draw.rand()), "update_gain": float(draw.rand())},
                    runs=[run(s, value * (1 + 0.1 * draw.rand()), f"{t} {i}") for s in range(seeds)],
                    curve=curve(center, 0.05 * value, clock),
                )
            )
        scale = dict(metric="relative_gap", better="lower", scale="log") if log else {}
        sections.append(section(f"task_{t}", rows, suite=f"suite {t % 3}", **scale))
    return Board(sections=sections, problems=[])


def small_claims() -> Claims:
    """Two published values beside one group of ours."""

    def claim(printed: str, ours: Interval) -> Claim:
        value = Published(
            paper="A paper",
            arxiv="2305.17333",
            table="Table 1",
            model="facebook/opt-13b",
            task="SST-2",
            method="MeZO",
            peft="none",
            metric="accuracy",
            value=float(printed),
            std=None,
            memory_gb=None,
            note=HOSTILE[0],
            source_quality="paper text",
            printed=printed,
            line=2,
        )
        difference = ours.center - float(printed)
        return Claim(value, "accuracy", ours, 3, difference, ["steps 2,000, published 20,000", HOSTILE[1]], ["eps"])

    ours = Interval(90.0, 88.0, 92.0)
    group = Group(
        task="sst2",
        model="facebook/opt-13b",
        optimizer="mezo[lr=1e-6]",
        adapter="none",
        partial=False,
        protocol=["bfloat16", "2,000 steps"],
        failures={},
        cells=["ab" * 32],
        claims=[claim("91.4", ours), claim("88.2", ours)],
    )
    return Claims([group], unmatched_runs=4, unmatched_groups=2, problems=[])
