"""Intervals agree with an independent calculation and cover as often as they say; ranks claim no more than they can."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from zobench.report.stats import Interval, mean_interval, rank_intervals

FIVE = [0.91, 0.93, 0.90, 0.94, 0.92]


def test_t_interval_by_hand():
    # t(0.975, 4 degrees of freedom) = 2.776445 (printed tables)
    margin = 2.776445 * statistics.stdev(FIVE) / math.sqrt(5)
    got = mean_interval(FIVE)
    assert (got.mean, got.low, got.high) == pytest.approx((0.92, 0.92 - margin, 0.92 + margin), rel=1e-6)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12))
def test_t_interval_is_scipys(values):
    if statistics.pstdev(values) < 1e-6:
        return  # scipy answers nan where all values are equal
    got = mean_interval(values)
    want = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((want.low, want.high), rel=1e-9, abs=1e-9)


def test_log_scale_is_the_geometric_mean():
    values = [1e-3, 1e-4, 1e-5]
    got, inner = mean_interval(values, "log"), mean_interval([-3, -4, -5])
    assert got.mean == pytest.approx(scipy.stats.gmean(values))
    assert (math.log10(got.low), math.log10(got.high)) == pytest.approx((inner.low, inner.high))
    assert mean_interval([1e-3, 0.0], "log") == mean_interval([1e-3, 1e-32], "log")  # rounding, not perfection
    assert mean_interval([1e-300, 1e300], "log").high == math.inf


def test_a_mean_that_overflows_is_apart_from_nobody():
    huge = mean_interval([1.7e308, 1.7e308, 1.0])
    assert huge.mean == math.inf
    assert rank_intervals([huge, Interval(1, 0, 2)], "higher") == [(1, 2), (1, 2)]


def test_one_run_has_no_interval_and_equal_runs_a_point():
    assert mean_interval([0.5]) == Interval(0.5)
    assert mean_interval([1e-3], "log") == Interval(pytest.approx(1e-3))
    assert mean_interval([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_coverage(n):
    rng, trials = np.random.default_rng(n), 2000
    intervals = [mean_interval(rng.normal(3.0, 2.0, n)) for _ in range(trials)]
    covered = sum(i.low <= 3.0 <= i.high for i in intervals) / trials
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / trials))


def test_ranks():
    a, b, c = Interval(0.9, 0.88, 0.92), Interval(0.85, 0.82, 0.89), Interval(0.5, 0.4, 0.6)
    assert rank_intervals([a, b, c], "higher") == [(1, 2), (1, 2), (3, 3)]
    assert rank_intervals([a, b, c], "lower") == [(2, 3), (2, 3), (1, 1)]
    assert rank_intervals([a], "higher") == [(1, 1)]


def test_touching_intervals_are_not_apart():
    assert rank_intervals([Interval(3, 2, 4), Interval(1, 0, 2)], "higher") == [(1, 2), (1, 2)]


def test_a_single_run_is_apart_from_nobody():
    assert rank_intervals([Interval(0.9), Interval(0.5, 0.49, 0.51)], "higher") == [(1, 2), (1, 2)]


@pytest.mark.parametrize(("better", "sign"), [("higher", 1), ("lower", -1)])
def test_failed_runs_open_the_worse_end(better, sign):
    good, bad = (Interval(sign * m, sign * m - 0.1, sign * m + 0.1) for m in (5, 1))
    assert rank_intervals([good, bad], better, [True, False]) == [(1, 2), (1, 2)]
    assert rank_intervals([good, bad], better, [False, True]) == [(1, 1), (2, 2)]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.3), st.booleans()), min_size=1, max_size=8))
def test_rank_intervals_are_consistent(rows):
    intervals = [Interval(mean, mean - margin, mean + margin) for mean, margin, _ in rows]
    ranks = rank_intervals(intervals, "higher", [failed for *_, failed in rows])
    assert all(1 <= low <= high <= len(rows) for low, high in ranks)
    order = sorted(range(len(rows)), key=lambda i: -intervals[i].mean)
    # the order of the means is one that the ranks allow
    if not any(failed for *_, failed in rows):
        assert all(ranks[i][0] <= place + 1 <= ranks[i][1] for place, i in enumerate(order))
