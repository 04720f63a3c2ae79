"""Intervals cover as often as they say, tests reject as seldom as they say: counted on values whose law is known.

The marked ones repeat more often and look at more laws.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from scipy.special import ndtr

from zobench.report import stats
from zobench.report.stats import (
    Sample,
    compare,
    cost_interval,
    mean_interval,
    rank_intervals,
    score_intervals,
    seeds_needed,
    suite_rank_intervals,
    superiority,
)

STEP = {"accuracy": 1 / 250, "coarse": 1 / 250}  # between two possible values
LAWS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": lambda rng, shape: rng.normal(3.0, 2.0, shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape),
    "lognormal": lambda rng, shape: rng.lognormal(0.0, 1.0, shape),
    "beta": lambda rng, shape: rng.beta(18.0, 1.5, shape),  # accuracies near 1
    "uniform": lambda rng, shape: rng.random(shape),
    "accuracy": lambda rng, shape: rng.binomial(250, 0.9, shape) / 250,
    "coarse": lambda rng, shape: np.round(rng.normal(0.9, 0.004, shape) * 250) / 250,  # one step is one deviation
}


def slack(rate: float, trials: int) -> float:
    """Four standard errors of a rate that was counted."""
    return 4 * math.sqrt(rate * (1 - rate) / trials)


def true_center(law: str, n: int) -> float:
    """The interquartile mean of the law, by a million values; the mean for fewer than four runs, which is what they have."""
    values = np.sort(LAWS[law](np.random.default_rng(99), (2_000_000,)))
    quarter = len(values) // 4
    return float(values.mean() if n < 4 else values[quarter:-quarter].mean())


def coverage(law: str, n: int, trials: int, seed: int = 1) -> float:
    values = LAWS[law](np.random.default_rng([seed, n]), (trials, n))
    truth = true_center(law, n)
    found = score_intervals([(x, None) for x in values], resolution=STEP.get(law, 0.0))
    return float(np.mean([i.low <= truth <= i.high for i in found]))


@pytest.mark.parametrize("n", [3, 4, 5, 8, 10, 30])
def test_score_interval_covers_normal_values(n):
    trials = 4000 if n < 10 else 1500
    assert 0.94 - slack(0.95, trials) <= coverage("normal", n, trials) <= 0.97 + slack(0.97, trials)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 60])
def test_score_interval_covers_normal_values_in_many_tables(n):
    assert 0.94 <= coverage("normal", n, 6000) <= 0.975


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 4, 5, 10, 30])
@pytest.mark.parametrize("law", ["t3", "lognormal", "beta", "uniform", "accuracy", "coarse"])
def test_score_interval_covers_other_values(law, n):
    few = {("lognormal", 2): 0.86, ("lognormal", 3): 0.82}  # the mean of a skewed law, which a log scale would cure
    assert coverage(law, n, 4000) >= few.get((law, n), 0.91) - 0.01


def test_the_percentile_interval_alone_would_not():
    """Why the correction: of three runs it covers 3 in 4 for 19 in 20."""
    values = LAWS["normal"](np.random.default_rng(1), (1000, 3))
    draws = values[:, stats._resamples((3,))[0]].mean(axis=2)
    low, high = stats._percentiles(draws, stats._resamples((3,))[1], 0.95)
    assert np.mean((low <= 3) & (high >= 3)) == pytest.approx(0.75, abs=slack(0.75, 1000))


def strata_coverage(strata: int, runs: int, between: float, trials: int) -> float:
    rng = np.random.default_rng([strata, runs])
    effects = between * np.linspace(-1, 1, strata)
    many = np.sort((effects + rng.normal(size=(500_000, strata))).ravel())
    truth = many[len(many) // 4 : -len(many) // 4].mean()
    labels = list(range(strata)) * runs
    values = (effects + rng.normal(size=(trials, runs, strata))).reshape(trials, -1)
    found = score_intervals([(x, labels) for x in values])
    return float(np.mean([i.low <= truth <= i.high for i in found]))


@pytest.mark.parametrize(("strata", "runs", "between"), [(2, 3, 0.0), (3, 3, 3.0), (5, 2, 1.0), (10, 3, 3.0)])
def test_stratified_interval_covers(strata, runs, between):
    assert 0.94 - slack(0.94, 300) <= strata_coverage(strata, runs, between, 300) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("between", [0.0, 3.0])
@pytest.mark.parametrize(("strata", "runs"), [(2, 2), (2, 3), (3, 3), (5, 3), (10, 2), (3, 10)])
def test_stratified_interval_covers_in_many_tables(strata, runs, between):
    assert 0.92 <= strata_coverage(strata, runs, between, 1000) <= 0.99


@pytest.mark.parametrize("n", [2, 3, 5])
def test_mean_interval_covers(n):
    rng, trials = np.random.default_rng(n), 2000
    covered = (
        sum(i.low <= 3 <= i.high for i in (mean_interval(rng.normal(3.0, 2.0, n)) for _ in range(trials))) / trials
    )
    assert covered == pytest.approx(0.95, abs=slack(0.95, trials))


# ---- tests of pairs ----


def tables(values: np.ndarray, problems: bool) -> list[Sample]:
    """One row per line of values."""
    units = range(values.shape[1])
    return [Sample(dict(zip(units, x, strict=True)), 0, {u: u for u in units} if problems else None) for x in values]


def rejected(values: np.ndarray, problems: bool, resolution: float = 0.0) -> float:
    """How often rows 0 and 1, 2 and 3 ... are told apart at 5 %, uncorrected."""
    rows = tables(values, problems)
    pairs = [compare_p(rows[i], rows[i + 1], resolution) for i in range(0, len(rows), 2)]
    return float(np.mean(np.array(pairs) <= 0.05))


def compare_p(a: Sample, b: Sample, resolution: float) -> float:
    return float(stats._tests([a, b], "higher", "linear", resolution).p[0])


@pytest.mark.parametrize("problems", [False, True])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_tests_hold_their_size(problems, n):
    values = np.random.default_rng([n, problems]).normal(size=(3000, n))
    if problems:  # hard and easy ones
        values += 100 * np.arange(n)
    assert rejected(values, problems) <= 0.05 + slack(0.05, 1500)


def test_the_test_of_pairs_is_exact():
    values = np.random.default_rng(0).normal(size=(5000, 4))
    assert rejected(values, True) == pytest.approx(0.05, abs=slack(0.05, 2500))


@pytest.mark.parametrize("deviation", [0.2, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_tests_of_rounded_accuracies_hold_their_size(n, deviation):
    """Values that are whole steps of their resolution: three equal ones by chance are no certainty."""
    values = np.round(np.random.default_rng([n, 7]).normal(0.3, deviation, (2000, n)))
    assert rejected(values, False, resolution=1.0) <= 0.05 + slack(0.05, 1000)
    assert rejected(values, True, resolution=1.0) <= 0.05 + slack(0.05, 1000)


def test_without_the_floor_rounding_would_be_taken_for_certainty():
    """Three of one value against three of its neighbour happen once in 32 tables where both are as likely."""
    rows = tables(np.random.default_rng(1).integers(0, 2, (4000, 3)).astype(float), False)
    p = np.array([[compare_p(rows[i], rows[i + 1], r) for r in (0.0, 1.0)] for i in range(0, 4000, 2)])
    assert np.mean(p[:, 0] == 0) == pytest.approx(1 / 32, abs=slack(1 / 32, 2000))
    assert p[:, 1].min() > 0.01


def apart(rows: int, n: int, problems: bool, trials: int) -> float:
    """How often a given one of equal rows gets a rank interval short of all ranks."""
    rng, wrong = np.random.default_rng([rows, n, problems]), 0
    for _ in range(trials):
        wrong += rank_intervals(tables(rng.normal(size=(rows, n)), problems), "higher")[0] != (1, rows)
    return wrong / trials


@pytest.mark.parametrize(("rows", "n", "problems"), [(3, 3, False), (10, 5, False), (10, 5, True), (40, 3, False)])
def test_a_row_equal_to_all_is_told_apart_in_one_table_of_twenty(rows, n, problems):
    assert apart(rows, n, problems, 500) <= 0.05 + slack(0.05, 500)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "n", "problems"), [(2, 3, False), (5, 5, True), (20, 3, False), (50, 10, True)])
def test_a_row_equal_to_all_is_told_apart_in_one_table_of_twenty_in_many_tables(rows, n, problems):
    assert apart(rows, n, problems, 2000) <= 0.05 + slack(0.05, 2000)


def test_each_rank_interval_holds_its_true_rank():
    """Rows with and without real differences, and several that are truly equal: those share the ranks between them."""
    means = np.array([0, 0, 0, 1, 1.5, 4, 4, 9, 9.5, 30])
    best = 1 + (means[:, None] > means).sum(axis=0)
    worst = len(means) - (means[:, None] < means).sum(axis=0)
    rng, held, trials, told = np.random.default_rng(8), np.zeros(len(means)), 500, 0
    for _ in range(trials):
        ranks = np.array(rank_intervals(tables(rng.normal(means[:, None], 1, (10, 5)), False), "higher"))
        held += (ranks[:, 0] <= best) & (ranks[:, 1] >= worst)
        told += int(ranks[9, 1] == 1)
    assert (held / trials).min() >= 0.95 - slack(0.95, trials)
    assert told / trials > 0.95  # and they are not all (1, 10)


@pytest.mark.parametrize(("tasks", "n"), [(3, 3), (5, 2), (2, 10)])
def test_suites_of_equal_rows_are_told_apart_in_one_of_twenty(tasks, n):
    """Fixed tasks, far apart and unequally noisy: the size of the test of two rows over all of them."""
    rng, trials, wrong = np.random.default_rng([tasks, n, 3]), 2000, 0
    levels, spreads = rng.normal(0, 50, tasks), rng.uniform(0.5, 2, tasks)
    for _ in range(trials):
        x = rng.normal(levels[None, :, None], spreads[None, :, None], (2, tasks, n))
        rows = [[Sample(dict(enumerate(values))) for values in row] for row in x]
        wrong += suite_rank_intervals(rows, "higher")[0] != (1, 2)
    assert 0.01 <= wrong / trials <= 0.05 + slack(0.05, trials)


@pytest.mark.parametrize(("n", "m", "shift"), [(3, 3, 0.0), (3, 5, 1.0), (5, 5, 1.0), (10, 10, 0.0), (30, 30, 0.5)])
def test_superiority_covers(n, m, shift):
    rng, trials, truth = np.random.default_rng([n, m]), 250, ndtr(shift / math.sqrt(2))
    found = [
        superiority(
            Sample(dict(enumerate(rng.normal(shift, 1, n)))), Sample(dict(enumerate(rng.normal(0, 1, m)))), "higher"
        )
        for _ in range(trials)
    ]
    assert np.mean([i.low <= truth <= i.high for i in found]) >= 0.95 - slack(0.95, trials)


@pytest.mark.slow
@pytest.mark.parametrize(("runs", "problems"), [(1, 20), (3, 3), (3, 10), (5, 5)])
@pytest.mark.parametrize("shift", [0.0, 1.0, 2.5])
def test_superiority_over_problems_covers(runs, problems, shift):
    rng, trials, truth = np.random.default_rng([runs, problems]), 400, ndtr(shift / math.sqrt(2))
    place = {(s, p): p for s in range(runs) for p in range(problems)}
    held = 0
    for _ in range(trials):
        a = Sample({u: rng.normal(shift + p) for u, p in place.items()}, 0, place)
        b = Sample({u: rng.normal(p) for u, p in place.items()}, 0, place)
        found = superiority(a, b, "higher")
        held += found.low <= truth <= found.high
    assert held / trials >= 0.94 - slack(0.94, trials)


def test_the_interval_of_the_difference_covers():
    rng, trials = np.random.default_rng(2), 800
    found = [
        compare(
            Sample(dict(enumerate(rng.normal(1, 3, 4)))), Sample(dict(enumerate(rng.normal(0, 1, 6)))), "higher"
        ).difference
        for _ in range(trials)
    ]
    assert np.mean([i.low <= 1 <= i.high for i in found]) == pytest.approx(0.95, abs=slack(0.95, trials) + 0.01)


@pytest.mark.parametrize("problems", [False, True])
def test_seeds_needed_have_the_power(problems):
    """With that many runs the difference is told apart as often as was asked, with two fewer less often."""
    values = scipy.stats.norm.ppf((np.arange(1, 41) - 0.5) / 40)  # of 40 runs, for a deviation that is known well
    values /= values.std(ddof=1)
    a, b = tables(np.array([values + 1, 0 * values if problems else values]), problems)
    n = seeds_needed(a, b, "higher", power=0.8)
    rng, trials = np.random.default_rng(n), 1500

    def power(runs: int) -> float:
        drawn = rng.normal(size=(2 * trials, runs))
        drawn[::2] += 1.0
        if problems:
            drawn[1::2] = 0.0
        return rejected(drawn, problems)

    assert power(n) == pytest.approx(0.8, abs=0.04 + slack(0.8, trials))
    assert power(max(2, n // 2)) < 0.75


def test_cost_intervals_cover_with_failed_runs():
    rng, trials = np.random.default_rng(4), 2000
    for n in (6, 9, 20):
        costs = rng.exponential(size=(trials, n))
        costs[costs > 1.5] = math.inf
        held = np.mean([i.low <= math.log(2) <= i.high for i in map(cost_interval, costs)])
        assert held >= 0.95 - slack(0.95, trials)
