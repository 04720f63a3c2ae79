"""Curves are step functions of what was validated by then; budgets, targets, fronts and profiles follow from the points."""

from __future__ import annotations

import ast
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zobench.report import curves, palette, stats
from zobench.report.curves import POINT_DTYPE, cost_to_target, curve, pareto, race, sparkline, value_at

ROOT = Path(__file__).parent.parent


def points(*rows: tuple[float, ...]) -> np.ndarray:
    """(step, forwards, backwards, seconds, value) each."""
    return np.array(list(rows), dtype=POINT_DTYPE)


def run(found: np.ndarray, status: str = "ok", **columns: Any) -> dict[str, Any]:
    last = found[-1] if len(found) else np.zeros((), POINT_DTYPE)
    spent = {"forwards": int(last["forwards"]), "backwards": int(last["backwards"])}
    kept = {"kept_step": int(last["step"]), "kind": "regression", "better": "lower"}
    return {"points": found, "status": status} | spent | kept | columns


def at_costs(costs: list[int], values: list[float]) -> np.ndarray:
    return points(*((c // 2, c, 0, c / 10, v) for c, v in zip(costs, values, strict=True)))


# ---- the curve of a row ----


def test_two_runs_validated_at_other_costs_by_hand():
    made = curve([run(at_costs([2, 6], [8.0, 4.0])), run(at_costs([4, 6], [2.0, 1.0]))], "linear", "lower")
    assert made is not None
    assert made.cost.tolist() == [2, 4, 6]
    assert made.n.tolist() == [1, 2, 2]
    assert made.center.tolist() == [8, 5, 2.5]  # 8; (8 + 2) / 2; (4 + 1) / 2
    assert made.steps.tolist() == [1, 1.5, 3]
    assert np.allclose(made.seconds, [0.2, 0.3, 0.6])
    assert math.isnan(made.low[0]) and math.isnan(made.high[0])  # one run has no interval
    # Student's t of two values: mean ± 12.7062 * |difference| / 2
    assert made.low[1] == pytest.approx(5 - 12.7062 * 3, rel=1e-5) and made.high[2] == pytest.approx(
        2.5 + 12.7062 * 1.5
    )


def test_on_a_log_scale_the_center_is_geometric():
    made = curve([run(at_costs([2], [1e-2])), run(at_costs([2], [1e-6]))], "log", "lower")
    assert made is not None and made.center[0] == pytest.approx(1e-4) and made.kept[0] == pytest.approx(1e-4)


def test_a_failed_run_counts_up_to_its_end_and_is_counted():
    good = run(at_costs([2, 4, 6, 8], [4.0, 3.0, 2.0, 1.0]))
    bad = run(at_costs([2, 4], [8.0, 9.0]), status="diverged", forwards=7)  # went on after its last validation
    made = curve([good, bad], "linear", "lower")
    assert made is not None
    assert made.n.tolist() == [2, 2, 2, 1] and made.runs == 2
    assert made.center.tolist() == [6, 6, 5.5, 1]
    unknown = run(at_costs([2, 6], [8.0, 8.0]), status="error", forwards=None, backwards=None)  # died without a count
    made = curve([good, unknown], "linear", "lower")
    assert made is not None and made.n.tolist() == [2, 2, 2, 1]
    never = run(points(), status="oom", kept_step=None)
    made = curve([good, never], "linear", "lower")
    assert made is not None and made.n.tolist() == [1, 1, 1, 1] and made.runs == 2
    assert curve([never], "linear", "lower") is None and curve([], "linear", "lower") is None


def test_a_finished_run_keeps_its_last_value():
    made = curve([run(at_costs([2, 4], [4.0, 3.0])), run(at_costs([2, 5], [2.0, 1.0]))], "linear", "lower")
    assert made is not None and made.cost.tolist() == [2, 4, 5] and made.center.tolist() == [3, 2.5, 2]


def test_what_is_not_finite_does_not_count():
    made = curve([run(at_costs([2, 4], [1.0, math.inf])), run(at_costs([2, 4], [3.0, 5.0]))], "linear", "lower")
    assert made is not None and made.n.tolist() == [2, 1] and made.center.tolist() == [2, 5]


def test_kept_is_the_best_so_far_where_the_runner_keeps_the_best():
    found = at_costs([2, 4, 6], [0.7, 0.9, 0.8])
    best = curve([run(found, kind="choice", better="higher", kept_step=2)], "linear", "higher")
    last = curve([run(found, kind="choice", better="higher", kept_step=3)], "linear", "higher")
    assert best is not None and last is not None
    assert best.kept.tolist() == [0.7, 0.9, 0.9] and best.center.tolist() == [0.7, 0.9, 0.8]
    assert last.kept.tolist() == [0.7, 0.9, 0.8]


def test_backwards_cost_two_and_totals_are_shared_by_cost():
    found = points((1, 1, 1, 0.5, 2.0), (4, 4, 4, 2.0, 1.0))
    made = curve([run(found, flops=1200, energy_joules=6.0)], "linear", "lower")
    assert made is not None
    assert made.cost.tolist() == [3, 12] and made.flops.tolist() == [300, 1200] and made.joules.tolist() == [1.5, 6.0]
    bare = curve([run(found)], "linear", "lower")
    assert bare is not None and np.isnan(bare.flops).all()
    assert bare.to_json()["flops"] == [None, None] and bare.to_json()["n"] == [1, 1]
    json.dumps(bare.to_json(), allow_nan=False)


def test_the_grid_is_thinned_and_stays_logarithmic():
    costs = np.unique(np.round(np.geomspace(10, 1e6, 400)).astype(int)).tolist()
    made = curve([run(at_costs(costs, np.linspace(1, 2, len(costs)).tolist()))], "linear", "lower")
    assert made is not None and len(made.cost) == 40
    assert made.cost[0] == costs[0] and made.cost[-1] == costs[-1] and set(made.cost) <= set(costs)
    ratios = np.diff(np.log(made.cost[5:]))
    assert ratios.max() < 1.5 * ratios.min()
    few = curve([run(at_costs([1, 5, 9], [1.0, 2.0, 3.0]))], "linear", "lower", points=2)
    assert few is not None and few.cost.tolist() == [1, 9] and few.center.tolist() == [1, 3]


VALUES = st.one_of(st.floats(1e-9, 1e3), st.sampled_from([math.inf, math.nan, 0.0]))


@st.composite
def _runs(draw: st.DrawFn) -> list[dict[str, Any]]:
    made = []
    for seed in range(draw(st.integers(1, 6))):
        steps = sorted(draw(st.sets(st.integers(0, 30), max_size=8)))
        rows = [(s, 2 * s, s // 3, s * draw(st.floats(0.1, 2)), draw(VALUES)) for s in steps]
        status = draw(st.sampled_from(["ok", "ok", "diverged", "timeout"]))
        found = points(*sorted(rows, key=lambda r: r[:1]))
        more = draw(st.integers(0, 9))
        made.append(
            run(found, status, seed=seed, task_options=draw(st.sampled_from(['{"instance":0}', '{"instance":1}'])))
        )
        made[-1]["forwards"] += more if status != "ok" else 0
    return made


def _plain_iqm(values: list[float]) -> float:
    cut = len(values) // 4
    kept = sorted(values)[cut : len(values) - cut]
    return sum(kept) / len(kept)


@settings(max_examples=150, deadline=None)
@given(
    _runs(), st.sampled_from(["linear", "log"]), st.sampled_from(["best", "last"]), st.sampled_from(["higher", "lower"])
)
def test_against_brute_force(runs: list[dict[str, Any]], scale: str, select: str, better: str):
    if select == "best":
        runs = [r | {"kind": "choice", "kept_step": -1} for r in runs]
    made = curve([r | {"better": better} for r in runs], scale, better, points=1000)
    expected: dict[int, tuple[list[float], list[float], list[int]]] = {}
    for cost in sorted({int(p["forwards"] + 2 * p["backwards"]) for r in runs for p in r["points"]}):
        values, kept, steps = [], [], []
        for r in runs:
            seen = [p for p in r["points"] if p["forwards"] + 2 * p["backwards"] <= cost]
            if r["status"] != "ok" and cost > r["forwards"] + 2 * r["backwards"]:
                continue
            if seen and math.isfinite(seen[-1]["value"]):
                finite = [float(p["value"]) for p in seen if math.isfinite(p["value"])]
                values.append(finite[-1])
                kept.append(finite[-1] if select == "last" else (max if better == "higher" else min)(finite))
                steps.append(int(seen[-1]["step"]))
        if values:
            expected[cost] = values, kept, steps
    if not expected:
        assert made is None
        return
    assert made is not None and made.cost.tolist() == list(expected) and made.runs == len(runs)
    for j, (values, kept, steps) in enumerate(expected.values()):
        assert made.n[j] == len(values) and made.steps[j] == median(steps)
        assert made.center[j] == pytest.approx(_center(values, scale), rel=1e-9, abs=1e-300)
        assert made.kept[j] == pytest.approx(_center(kept, scale), rel=1e-9, abs=1e-300)
        assert math.isnan(made.low[j]) == (len(values) == 1)
        assert not made.low[j] > made.center[j] * (1 + 1e-12) and not made.high[j] < made.center[j] * (1 - 1e-12)


def _center(values: list[float], scale: str) -> float:
    if scale == "log":
        return 10 ** _plain_iqm([math.log10(max(v, 1e-28)) for v in values])
    return _plain_iqm(values)


@settings(max_examples=60, deadline=None)
@given(_runs(), st.integers(0, 60))
def test_nothing_comes_from_the_future(runs: list[dict[str, Any]], until: int):
    changed = []
    for r in runs:
        found = r["points"].copy()
        later = found["forwards"] + 2 * found["backwards"] > until
        found["value"][later] = np.where(np.isfinite(found["value"][later]), 777.0, found["value"][later])
        # what is kept is told by the kind of the task: the whole run may tell, which is no value
        changed.append(r | {"points": found, "kept_step": None})
    a = curve([r | {"kept_step": None} for r in runs], "linear", "lower", points=1000)
    b = curve(changed, "linear", "lower", points=1000)
    assert (a is None) == (b is None)
    if a is not None and b is not None:
        past = a.cost <= until
        for name in ("center", "low", "high", "n", "steps", "kept"):
            np.testing.assert_array_equal(getattr(a, name)[past], getattr(b, name)[past])


def test_many_rows_at_once_are_the_rows_one_by_one():
    rng = np.random.default_rng(0)
    rows = [
        [run(at_costs([2, 4, 8, 16], rng.random(4).tolist()), task_options=str(i % 2)) for i in range(n)]
        for n in (1, 3, 6)
    ]
    for together, records in zip(curves.curves(rows, "log", "lower"), rows, strict=True):
        alone = curve(records, "log", "lower")
        assert together is not None and alone is not None
        assert together.to_json() == alone.to_json()


def test_the_band_is_the_interval_of_the_score():
    values = [0.2, 0.5, 0.3, 0.9, 0.4, 0.6]
    made = curve([run(at_costs([2], [v]), task_options=str(i % 2)) for i, v in enumerate(values)], "log", "lower")
    score = stats.score_interval(values, strata=["a", "b"] * 3, scale="log")
    assert made is not None and (made.center[0], made.low[0], made.high[0]) == pytest.approx(
        (score.center, score.low, score.high), rel=1e-12
    )


# ---- which weights were kept ----


def test_what_was_kept_is_read_off_the_runs():
    dip = at_costs([2, 4, 6], [0.5, 0.9, 0.7])
    base = {"kind": "choice", "better": "higher"}
    assert curves.selection([run(dip, kept_step=2, **base)]) == "best"
    assert curves.selection([run(dip, kept_step=3, **base)]) == "last"
    rising = at_costs([2, 4], [0.5, 0.9])
    assert curves.selection([run(rising, kept_step=2, **base)]) == "best"  # both would do: as language tasks do
    assert curves.selection([run(at_costs([2, 4], [0.5, 0.1]), kept_step=2)]) == "last"  # as regressions do
    assert curves.selection([run(dip, status="diverged", kept_step=1, **base)]) == "best"


def test_what_was_kept_agrees_with_the_tasks_of_the_committed_results():
    from zobench.report.read import load

    frame, _ = load([ROOT / "results"], columns=("task", "kind", "better", "status", "kept_step", "points"))
    records = frame.to_dict("records")
    for task in sorted({r["task"] for r in records}):
        tree = ast.parse((ROOT / "tasks" / f"{task}.py").read_text())
        told = [k.value for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords if k.arg == "select"]
        select = ast.literal_eval(told[0]) if told else "best"
        assert curves.selection([r for r in records if r["task"] == task]) == select, task


def test_a_curve_ends_at_the_validated_values_of_the_committed_results():
    from zobench.report.read import load

    frame, _ = load([ROOT / "results"])
    records = [r for r in frame.to_dict("records") if r["status"] == "ok" and r["validation"] is not None]
    with_points, _ = load([ROOT / "results"], columns=("cell", "points"))
    found = dict(zip(with_points["cell"], with_points["points"], strict=True))
    for r in records[::7]:
        made = curve([r | {"points": found[r["cell"]]}], r["scale"], r["better"])
        assert made is not None
        assert made.kept[-1] == pytest.approx(max(r["validation"], 1e-28) if r["scale"] == "log" else r["validation"])


# ---- one run ----

FOUND = points((1, 2, 0, 0.5, 0.7), (2, 4, 1, 1.0, 0.9), (3, 6, 2, 1.5, 0.8))
RECORD = {"forwards": 6, "backwards": 2, "flops": 1000, "energy_joules": 20.0, "status": "ok"}


@pytest.mark.parametrize(
    ("axis", "limit", "best", "last"),
    [
        ("forwards", 1, None, None),
        ("forwards", 2, 0.7, 0.7),
        ("forwards", 5.9, 0.7, 0.7),  # 4 forwards and a backward cost 6
        ("forwards", 6, 0.9, 0.9),
        ("forwards", 10, 0.9, 0.8),
        ("steps", 2, 0.9, 0.9),
        ("time", 0.99, 0.7, 0.7),
        ("time", math.inf, 0.9, 0.8),
        ("flops", 599, 0.7, 0.7),  # 6 of 10 forward-equivalents: 600
        ("flops", 600, 0.9, 0.9),
        ("energy", 4, 0.7, 0.7),
        ("energy", 3.9, None, None),
    ],
)
def test_the_value_within_a_budget(axis: str, limit: float, best: float | None, last: float | None):
    assert value_at(FOUND, axis, limit, "higher", record=RECORD) == best
    assert value_at(FOUND, axis, limit, "higher", select="last", record=RECORD) == last


def test_the_value_within_a_budget_that_is_not_known():
    assert value_at(FOUND, "flops", 1e9, "higher") is None  # the record lacks the total: nothing was measured
    assert value_at(points(), "forwards", 1e9, "higher") is None
    assert value_at(FOUND, "forwards", 10, "lower") == 0.7
    assert value_at(points((1, 2, 0, 0.1, math.nan)), "forwards", 10, "lower") is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(0, 40), st.integers(0, 40))
def test_a_larger_budget_is_never_worse(values: list[float], a: int, b: int):
    found = at_costs([2 * (i + 1) for i in range(len(values))], values)
    small, large = (value_at(found, "forwards", limit, "higher") for limit in sorted((a, b)))
    assert small is None or (large is not None and large >= small)


def test_the_cost_to_a_target():
    met = cost_to_target(FOUND, 0.75, "higher", RECORD)
    assert met == {"cost": 6, "steps": 2, "seconds": 1.0, "flops": 600, "joules": 12}
    assert cost_to_target(FOUND, 0.7, "higher")["cost"] == 2  # as good as the target is enough
    assert all(math.isinf(c) for c in cost_to_target(FOUND, 0.91, "higher", RECORD).values())
    assert math.isnan(cost_to_target(FOUND, 0.91, "higher")["flops"])  # never, but at what cost is not known
    assert math.isnan(cost_to_target(points(), 0.5, "higher")["cost"])
    assert cost_to_target(FOUND, 0.75, "lower")["steps"] == 1
    assert math.isnan(cost_to_target(FOUND, 0.75, "higher")["flops"])
    for status in ("diverged", "oom", "timeout", "error", "not finite"):
        assert cost_to_target(FOUND, 0.75, "higher", RECORD | {"status": status})["cost"] == math.inf
    assert cost_to_target(FOUND, 0.75, "higher", RECORD | {"status": "interrupted"})["cost"] == 6
    assert cost_to_target(points((1, 2, 0, 0.1, math.nan)), 0.5, "lower")["cost"] == math.inf


# ---- fronts and lines of text ----


def test_the_front_by_hand():
    assert pareto([1, 2, 3, 2], [0.5, 0.9, 0.8, 0.9], "higher") == [0, 1, 3]  # equal points are both there
    assert pareto([1, 2, 3], [0.5, 0.5, 0.4], "lower") == [0, 2]
    assert pareto([1, math.nan, 0, 2], [0.5, 0.1, math.inf, 0.7], "lower") == [0]
    assert pareto([], [], "higher") == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25), st.sampled_from(["higher", "lower"]))
def test_the_front_is_what_nothing_beats(rows: list[tuple[int, int]], better: str):
    sign = 1 if better == "higher" else -1

    def beaten(a: tuple[int, int]) -> bool:
        return any(b[0] <= a[0] and sign * b[1] >= sign * a[1] and b != a for b in rows)

    front = pareto([c for c, _ in rows], [s for _, s in rows], better)
    assert sorted(front) == [i for i, row in enumerate(rows) if not beaten(row)]
    assert [rows[i][0] for i in front] == sorted(rows[i][0] for i in front)


def test_sparklines():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇██"
    assert sparkline([1, math.nan, 0]) == "█ ▁"
    assert sparkline([3, 3]) == "▅▅"  # no more low than high
    assert sparkline([1, 1e-4, 1e-8], "log") == "█▅▁"
    assert sparkline([]) == "" and sparkline([math.nan]) == " "
    assert len(sparkline(range(100))) == 12


# ---- problems ----


@dataclass
class FakeRun:
    seed: int
    points: np.ndarray | None
    status: str = "ok"
    data_seed: int = 0
    instance: Any = None


@dataclass
class FakeRow:
    optimizer: str
    runs: list[FakeRun]
    options: dict[str, Any] = field(default_factory=dict)
    reference: bool = False


@dataclass
class FakeSection:
    rows: list[FakeRow]
    better: str = "lower"
    scale: str = "log"


def test_targets_are_shares_of_the_way_from_the_start_to_the_best():
    fast, slow = at_costs([0, 10, 20], [1.0, 1e-3, 1e-4]), at_costs([0, 10, 40], [1.0, 1e-2, 1e-3])
    section = FakeSection(
        [
            FakeRow("fast", [FakeRun(0, fast)], {"lr": 0.1}),
            FakeRow("slow", [FakeRun(0, slow)]),
            FakeRow("newton", [FakeRun(0, at_costs([0, 2], [1.0, 1e-30]))], reference=True),
        ]
    )
    half = race([section], share=0.5)  # four decades from 1 to 1e-4: half the way is 1e-2
    assert half.optimizers == ["fast", "slow"] and half.costs.tolist() == [[10], [10]]
    assert half.targets == pytest.approx([1e-2])
    most = race([section], share=0.1)
    assert most.targets == pytest.approx([10**-3.6]) and most.costs.tolist() == [[20], [math.inf]]
    assert race([section], share=0.5, axis="steps").costs.tolist() == [[5], [5]]
    section.scale = "linear"
    assert race([section], share=0.1).targets == pytest.approx([1 - 0.9 * (1 - 1e-4)])


def test_the_start_is_zero_shot_where_no_run_validated_it():
    rows = [
        FakeRow("a", [FakeRun(0, at_costs([10, 20], [0.6, 0.9]))]),
        FakeRow("b", [FakeRun(0, at_costs([10, 20], [0.7, 0.8]))]),
    ]
    section = FakeSection(rows, "higher", "linear")
    assert race([section], share=0.5).targets == pytest.approx(
        [(0.65 + 0.9) / 2]
    )  # the median of the first validations
    section.rows.append(FakeRow("zero-shot", [FakeRun(0, at_costs([0], [0.5]))], reference=True))
    assert race([section], share=0.5).targets == pytest.approx([0.7])
    assert race([section], share=0.5).costs.tolist() == [[20], [10]]


def test_who_races_on_what():
    def solved(cost: int) -> np.ndarray:
        return at_costs([0, cost], [1.0, 1e-4])

    def section(*rows: FakeRow) -> FakeSection:
        return FakeSection(list(rows))

    a = section(
        FakeRow("x", [FakeRun(0, solved(10)), FakeRun(1, solved(20))], {"lr": 1}),
        FakeRow("x", [FakeRun(0, solved(90)), FakeRun(1, solved(90))], {"lr": 2}),  # not the first of its name
        FakeRow("y", [FakeRun(0, solved(30)), FakeRun(1, solved(40), status="diverged")]),
        FakeRow("z", [FakeRun(0, solved(30)), FakeRun(1, solved(2), status="interrupted")]),
        FakeRow("late", [FakeRun(0, solved(30)), FakeRun(1, None, status="interrupted")]),
    )
    b = section(FakeRow("y", [FakeRun(0, solved(6))]), FakeRow("x", [FakeRun(0, solved(8))], {"lr": 3}))
    b.rows.append(FakeRow("z", [FakeRun(0, solved(4))]))
    alone = section(FakeRow("x", [FakeRun(s, solved(5)) for s in range(3)]))
    stuck = section(FakeRow("x", [FakeRun(0, at_costs([0, 4], [1.0, 2.0]))]), FakeRow("y", [FakeRun(0, None)]))
    found = race([a, b, alone, stuck])
    assert found.problems == [(0, 0, 0, "None"), (0, 1, 0, "None"), (1, 0, 0, "None")]
    assert found.optimizers == ["x", "y", "z"] and found.left_out == ["late"]
    assert race([stuck]).problems == []  # nobody got beyond the start
    assert found.costs.tolist() == [[10, 20, 8], [30, math.inf, 6], [30, 2, 4]]
    profile = stats.performance_profile(found.costs, [1, 3, 10])
    # cheapest: 10, 2, 4; the ratios are x 1, 10, 2; y 3, inf, 1.5; z 3, 1, 1
    np.testing.assert_allclose(profile, np.array([[1, 2, 3], [0, 2, 2], [2, 3, 3]]) / 3)
    assert race([]).costs.shape == (0, 0)
    assert race([alone]).optimizers == []  # nobody to compare with


# ---- colours ----

BLINDNESS = {  # Machado, Oliveira and Fernandes, IEEE TVCG 15(6), 2009, Table 1, severity 1: on linear RGB
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def _lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _contrast(a: str, b: str) -> float:
    low, high = sorted(float(_linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("colours", "ground"), [(palette.LIGHT, "#ffffff"), (palette.DARK, "#14171a")])
def test_colours_stay_apart_for_the_colour_blind(colours: tuple[str, ...], ground: str):
    assert all(_contrast(c, ground) >= 3 for c in colours)
    for kind, matrix in BLINDNESS.items():
        seen = [_lab(np.array(matrix) @ _linear(c)) for c in colours]
        apart = min(float(np.linalg.norm(a - b)) for i, a in enumerate(seen) for b in seen[:i])
        assert apart > 9, kind  # 2.3 is a difference that can just be seen


def test_a_name_has_one_colour_and_lines_of_a_figure_differ():
    owners = [n for n, (_, dashes) in palette.FIXED.items() if dashes == 0]
    names = [*("i3s", "galore", "rmsprop", "adaptive", "adamw"), *owners]
    found = palette.styles(names)
    assert sorted(c for c, _ in found[5:]) == sorted(palette.LIGHT)  # theirs, though others are drawn before them
    assert [c for c, _ in found[5:]] == [palette.colour(n) for n in owners]
    assert len(set(found)) == len(names)
    few = palette.styles(["mezo", "mezo-momentum", "adam"])  # mezo-momentum shares mezo's blue, adam comes before it
    assert [c for c, _ in few] == [palette.colour("mezo"), palette.colour("sgd"), palette.colour("adam")]
    assert few[1][1] == palette.dash("mezo-momentum")
    assert palette.styles(["mezo"]) == [(palette.colour("mezo"), palette.dash("mezo"))]
    assert len({palette.FIXED[n] for n in palette.FIXED}) == len(palette.FIXED)
    assert palette.colour("anything <new>") in palette.LIGHT and palette.colour("adam", dark=True) in palette.DARK
