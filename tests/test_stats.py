"""Each statistic agrees with an independent calculation, keeps its symmetries, and claims no more than it can."""

from __future__ import annotations

import itertools
import math
import statistics
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from arch.bootstrap import IIDBootstrap
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.nonparametric import rank_compare_2indep
from statsmodels.stats.power import TTestIndPower, TTestPower
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from zobench.report import stats
from zobench.report.stats import (
    Interval,
    Sample,
    apart_from,
    benjamini_hochberg,
    compare,
    cost_interval,
    data_profile,
    data_profile_area,
    expected_best,
    holm,
    iqm,
    mean_interval,
    median_cost,
    performance_profile,
    profile_area,
    rank_intervals,
    score_interval,
    score_intervals,
    seeds_needed,
    suite_interval,
    suite_rank_intervals,
    superiority,
    told_apart,
)

FIVE = [0.91, 0.93, 0.90, 0.94, 0.92]
EIGHTHS = st.integers(-800, 800).map(lambda i: i / 8)  # sums and products of these are exact


def sample(*values, failed=0):
    """Runs that differ in their seeds alone."""
    return Sample(dict(enumerate(values)), failed)


def over(values, seeds=1, failed=0):
    """Runs over problems; values: one row per problem, one column per seed."""
    values = np.asarray(values, dtype=float).reshape(-1, seeds)
    units = {(seed, problem): float(v) for (problem, seed), v in np.ndenumerate(values)}
    return Sample(units, failed, {unit: unit[1] for unit in units})


def bounds(interval):
    return interval.low, interval.high


def test_scipy_stats_is_not_imported():
    code = "import sys, zobench.report.stats; print('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


# ---- scores ----


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_iqm_is_the_trimmed_mean_of_scipy(values):
    assert iqm(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25), rel=1e-12, abs=1e-9)


def test_iqm_by_hand():
    assert iqm([1, 2, 3, 400]) == 2.5
    assert iqm([7, 1, 400]) == 136
    assert iqm([0.1] * 7) == 0.1
    assert math.isnan(iqm([]))
    assert iqm([math.inf, 1, 2, 3, 4, 5, 6, -math.inf]) == 3.5


def test_t_interval_by_hand():
    # t(0.975, 4 degrees of freedom) = 2.776445 (printed tables)
    margin = 2.776445 * statistics.stdev(FIVE) / math.sqrt(5)
    got = mean_interval(FIVE)
    assert (got.center, got.low, got.high) == pytest.approx((0.92, 0.92 - margin, 0.92 + margin), rel=1e-6)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12))
def test_t_interval_is_scipys(values):
    if statistics.pstdev(values) < 1e-6:
        return  # scipy answers nan where all values are equal
    got = mean_interval(values)
    want = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert bounds(got) == pytest.approx((want.low, want.high), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("interval", [mean_interval, lambda x, scale: score_interval(x, None, scale)])
def test_log_scale_is_the_geometric_mean(interval):
    values = [1e-3, 1e-4, 1e-5]
    got, inner = interval(values, "log"), interval([-3, -4, -5], "linear")
    assert got.center == pytest.approx(scipy.stats.gmean(values))
    assert (math.log10(got.low), math.log10(got.high)) == pytest.approx(bounds(inner))
    assert interval([1e-3, 0.0], "log") == interval([1e-3, 1e-28], "log")  # rounding, not perfection
    assert interval([1e-300, 1e300], "log").high == math.inf
    assert interval([1e-3], "log") == Interval(pytest.approx(1e-3))


def stretched(values, level=0.95):
    """The definition: all n ** n resamples, their quantiles, and the stretch."""
    n = len(values)
    draws = np.sort(scipy.stats.trim_mean(list(itertools.product(values, repeat=n)), 0.25, axis=1))
    beyond = int(len(draws) * (1 - level) / 2)
    center = scipy.stats.trim_mean(values, 0.25)
    factor = scipy.stats.t.ppf((1 + level) / 2, n - 1) / scipy.stats.norm.ppf((1 + level) / 2)
    low, high = draws[beyond], draws[-1 - beyond]
    return center - factor * (center - low), center + factor * (high - center)


@pytest.mark.parametrize("n", [4, 5, 6])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_score_interval_is_every_resample_stretched(n, level):
    values = np.random.default_rng(n).lognormal(size=n)
    assert bounds(score_interval(values, level=level)) == pytest.approx(stretched(values, level), rel=1e-9)


@pytest.mark.parametrize("n", [2, 3])
def test_score_interval_of_two_or_three_is_the_corrected_standard_error(n):
    values = [0.3, 0.7, 0.1][:n]
    error = statistics.pstdev(statistics.fmean(d) for d in itertools.product(values, repeat=n)) * math.sqrt(n / (n - 1))
    arm = scipy.stats.t.ppf(0.975, n - 1) * error
    mean = statistics.fmean(values)
    assert bounds(score_interval(values)) == pytest.approx((mean - arm, mean + arm))
    assert bounds(score_interval(values)) == pytest.approx(bounds(mean_interval(values)))


def test_score_interval_of_many_runs_is_the_percentile_bootstrap():
    values = np.random.default_rng(0).gamma(2.0, size=300)
    got = score_interval(values)
    trim = lambda x, axis=-1: scipy.stats.trim_mean(x, 0.25, axis=axis)  # noqa: E731
    arch = IIDBootstrap(values, seed=1).conf_int(trim, 5000, method="percentile").ravel()
    scipys = scipy.stats.bootstrap((values,), trim, n_resamples=5000, method="percentile", rng=2).confidence_interval
    for want in (arch, (scipys.low, scipys.high)):
        assert bounds(got) == pytest.approx(tuple(want), abs=0.08 * (want[1] - want[0]))


def test_strata_are_rliables_bootstrap():
    """rliable: runs x tasks, resampled within each task; the interquartile mean of all of them."""
    rng = np.random.default_rng(3)
    scores = rng.normal([0.0, 1.0, 5.0], [1.0, 0.5, 2.0], (120, 3))
    draws = []
    for _ in range(4000):
        picked = np.stack([column[rng.integers(0, 120, 120)] for column in scores.T], axis=1)
        draws.append(scipy.stats.trim_mean(picked, 0.25, axis=None))
    want = np.percentile(draws, [2.5, 97.5])
    got = score_interval(scores.ravel(), ["a", "b", "c"] * 120)
    assert got.center == pytest.approx(scipy.stats.trim_mean(scores, 0.25, axis=None))
    assert bounds(got) == pytest.approx(tuple(want), abs=0.08 * (want[1] - want[0]))
    assert got.high - got.low < 0.7 * np.diff(bounds(score_interval(scores.ravel())))[0]


def test_what_differs_only_between_strata_is_known():
    assert score_interval([1, 1, 2, 2, 9, 9], list("aabbcc")) == Interval(3.5, 3.5, 3.5)
    wide = score_interval([1, 2, 9, 1, 2, 9])
    assert wide.low < 1.5 and wide.high > 5
    # a stratum of one run says nothing of how it varies
    assert score_interval([1, 1, 2, 2, 9], list("aabbc")) == score_interval([1, 1, 2, 2, 9])
    with pytest.raises(ValueError, match="one stratum per value"):
        score_interval([1, 2, 3], ["a", "b"])


def test_strata_of_two_by_hand():
    """Values 0, 1 in one stratum and 2, 4 in another: all 16 resamples, Satterthwaite's degrees of freedom."""
    draws = sorted(
        statistics.fmean(sorted((*a, *b))[1:3])
        for a in itertools.product((0, 1), repeat=2)
        for b in itertools.product((2, 4), repeat=2)
    )
    freedom = (2 * 0.5 + 2 * 2) ** 2 / ((2 * 0.5) ** 2 + (2 * 2) ** 2)  # sum n v squared over sum (n v)^2 / (n - 1)
    factor = scipy.stats.t.ppf(0.975, freedom) / scipy.stats.norm.ppf(0.975) * math.sqrt(4 / 2)
    want = 1.5 - factor * (1.5 - draws[0]), 1.5 + factor * (draws[-1] - 1.5)
    assert bounds(score_interval([2, 0, 4, 1], list("baba"))) == pytest.approx(want)


ROWS = st.lists(
    st.tuples(st.lists(EIGHTHS, min_size=1, max_size=12), st.sampled_from([None, 1, 2, 3])), min_size=1, max_size=12
)


def with_strata(values, count):
    return values, None if count is None else [i % count for i in range(len(values))]


@settings(max_examples=25, deadline=None)
@given(ROWS, st.sampled_from([1, 5000, stats.BLOCK]))
def test_many_rows_have_the_bits_of_one(rows, block):
    samples = [with_strata(*row) for row in rows]
    single = [score_interval(*one) for one in samples]
    kept, stats.BLOCK = stats.BLOCK, block
    try:
        assert score_intervals(samples) == single
    finally:
        stats.BLOCK = kept


@settings(max_examples=40, deadline=None)
@given(st.lists(EIGHTHS, min_size=1, max_size=12), st.sampled_from([None, 1, 2, 3]), st.randoms())
def test_score_interval_keeps_its_symmetries(values, count, random):
    values, strata = with_strata(values, count)
    got = score_interval(values, strata)
    order = list(range(len(values)))
    random.shuffle(order)
    assert score_interval([values[i] for i in order], strata and [strata[i] for i in order]) == got
    numbers = [got.center, *(b for b in bounds(got) if b is not None)]
    assert numbers[1:] == sorted(numbers[1:]) and (len(numbers) == 1 or numbers[1] <= numbers[0] <= numbers[2])
    scaled = score_interval([4 * v for v in values], strata)
    assert [scaled.center, *(b for b in bounds(scaled) if b is not None)] == [4 * x for x in numbers]
    mirrored = score_interval([-v for v in values], strata)
    turned = [mirrored.center, *(b for b in bounds(mirrored)[::-1] if b is not None)]
    assert turned == pytest.approx([-x for x in numbers], rel=1e-9, abs=1e-9)


def test_one_run_has_no_interval_and_equal_runs_a_point():
    assert score_interval([0.5]) == mean_interval([0.5]) == Interval(0.5)
    assert score_interval([0.1] * 3) == score_interval([0.1] * 9) == Interval(0.1, 0.1, 0.1)
    assert score_interval([0.1] * 4, list("aabb")) == Interval(0.1, 0.1, 0.1)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 9])
def test_huge_and_tiny_values_neither_raise_nor_pass_for_certain(n):
    many = n // 4 + 1  # more than are trimmed
    huge = score_interval([1.7e308] * many + [1.0] * (n - many))
    assert math.isfinite(huge.center) and huge.low < 1 and huge.high > 1e307
    assert mean_interval([1.7e308, 1.7e308, 1.0]).center == math.inf
    values = np.arange(1, n + 1)
    tiny, normal = score_interval(values * 2.0**-1000), score_interval(values)
    assert [tiny.center, *bounds(tiny)] == [x * 2.0**-1000 for x in (normal.center, *bounds(normal))]
    for bad in (math.nan, math.inf):
        assert bounds(score_interval([bad, *values])) == (None, None)


def test_equal_accuracies_are_known_to_their_resolution():
    # 0.9 three times of 100 examples: t(0.975, 2) = 4.302653, rounding deviates by 0.01 / sqrt(12)
    arm = 4.302653 * 0.01 / math.sqrt(12) / math.sqrt(3)
    got = score_interval([0.9] * 3, resolution=0.01)
    assert bounds(got) == pytest.approx((0.9 - arm, 0.9 + arm))
    wide = [0.9, 0.8, 0.95, 0.7, 0.85]
    assert score_interval(wide, resolution=0.001) == score_interval(wide)
    assert score_interval([1.0] * 4, scale="log", resolution=0.01).high == pytest.approx(
        10 ** (scipy.stats.t.ppf(0.975, 3) * 0.01 / math.log(10) / math.sqrt(48))
    )
    each = score_intervals([([0.9] * 3, None), (wide, None), ([0.9] * 3, None)], resolution=[0.01, 0.001, 0.0])
    assert each == [got, score_interval(wide), Interval(0.9, 0.9, 0.9)]


def test_a_higher_level_is_wider():
    for n in (3, 5, 30):
        x = np.random.default_rng(n).normal(size=n)
        narrow, wide = score_interval(x, level=0.8), score_interval(x, level=0.99)
        assert wide.low < narrow.low < narrow.high < wide.high


# ---- pairs ----

RUNS = st.lists(EIGHTHS, min_size=2, max_size=8)


@settings(deadline=None)
@given(RUNS, RUNS)
def test_independent_rows_are_welchs_test(x, y):
    if len(set(x)) == 1 and len(set(y)) == 1:
        return
    got = compare(sample(*x), sample(*y), "higher")
    want = CompareMeans(DescrStatsW(x), DescrStatsW(y))
    assert not got.paired and got.n == (len(x), len(y))
    assert got.p == pytest.approx(want.ttest_ind(usevar="unequal")[1], rel=1e-9)
    assert bounds(got.difference) == pytest.approx(want.tconfint_diff(usevar="unequal"), rel=1e-9, abs=1e-9)
    assert got.difference.center == pytest.approx(statistics.fmean(x) - statistics.fmean(y), abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=2, max_size=8))
def test_rows_over_problems_are_the_test_of_pairs(pairs):
    x, y = zip(*pairs, strict=True)
    got = compare(over(x), over(y), "lower")
    assert got.paired and got.n == (len(x), len(x))
    gaps = np.subtract(x, y)
    if np.ptp(gaps) == 0:
        assert got.p == (1.0 if gaps[0] == 0 else 0.0)
        return
    want = scipy.stats.ttest_rel(x, y)
    assert got.p == pytest.approx(want.pvalue, rel=1e-9)
    interval = want.confidence_interval()
    assert bounds(got.difference) == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-9)


def test_log_scale_compares_logarithms():
    x, y = [1e-3, 2e-3, 5e-3], [1e-5, 4e-5, 1e-40]
    got = compare(sample(*x), sample(*y), "lower", "log")
    want = scipy.stats.ttest_ind(np.log10(x), np.log10([*y[:2], 1e-28]), equal_var=False)
    assert got.p == pytest.approx(want.pvalue)
    assert got.difference.center == pytest.approx(np.log10(x).mean() - np.log10([*y[:2], 1e-28]).mean())


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(EIGHTHS, EIGHTHS), min_size=1, max_size=6),
    st.booleans(),
    st.sampled_from(["higher", "lower"]),
    st.sampled_from([0.0, 1.0]),
    st.tuples(st.integers(0, 1), st.integers(0, 1)),
    st.sampled_from([None, 0.0, 30.0]),
)
def test_compare_mirrors(pairs, problems, better, resolution, failed, margin):
    x, y = zip(*pairs, strict=True)
    a, b = (
        over(x, failed=failed[0]) if problems else sample(*x, failed=failed[0]),
        over(y, failed=failed[1]) if problems else sample(*y, failed=failed[1]),
    )
    one, other = (compare(*ab, better, resolution=resolution, margin=margin) for ab in ((a, b), (b, a)))
    assert one.p == other.p and one.n == other.n[::-1] and one.paired == other.paired
    assert other.verdict == {"better": "worse", "worse": "better"}.get(one.verdict, one.verdict)
    assert other.difference.center == -one.difference.center
    assert (one.effect is None) == (other.effect is None) and (one.effect or 0) == -(other.effect or 0)
    assert other.superiority.center == pytest.approx(1 - one.superiority.center)
    assert bounds(other.superiority) == pytest.approx((1 - one.superiority.high, 1 - one.superiority.low))
    # what is better when higher is worse when lower
    turned = compare(a, b, "lower" if better == "higher" else "higher", resolution=resolution, margin=margin)
    if not any(failed):
        assert turned.verdict == other.verdict


@settings(deadline=None, max_examples=30)
@given(st.lists(EIGHTHS, min_size=2, max_size=6), st.lists(EIGHTHS, min_size=2, max_size=6), st.randoms())
def test_compare_does_not_depend_on_order_or_scale(x, y, random):
    want = compare(sample(*x), sample(*y), "higher")
    random.shuffle(x)
    assert compare(sample(*x), sample(*y), "higher") == want
    scaled = compare(sample(*[v * 2**40 for v in x]), sample(*[v * 2**40 for v in y]), "higher")
    assert (scaled.p, scaled.effect, scaled.superiority) == (want.p, want.effect, want.superiority)


def test_better_depends_on_the_direction():
    high, low = sample(0.9, 0.91, 0.92), sample(0.5, 0.51, 0.52)
    assert compare(high, low, "higher").verdict == compare(low, high, "lower").verdict == "better"
    assert compare(low, high, "higher").verdict == compare(high, low, "lower").verdict == "worse"
    assert compare(high, low, "higher").effect > 0 > compare(high, low, "lower").effect
    with pytest.raises(ValueError, match="higher or lower"):
        compare(high, low, "max")


def test_one_run_is_told_apart_from_nobody():
    got = compare(sample(0.9), sample(0.1, 0.11, 0.1), "higher")
    assert (got.p, got.verdict, bounds(got.difference), got.effect) == (None, "undecided", (None, None), None)
    assert compare(over([0.9]), over([0.1]), "higher").p is None
    nothing = compare(sample(), sample(0.1, 0.2), "higher")
    assert (nothing.difference, nothing.p, nothing.superiority, nothing.verdict) == (None, None, None, "undecided")


def test_identical_runs_are_certain_only_without_a_resolution():
    a, b = sample(0.9, 0.9, 0.9), sample(0.8, 0.8, 0.8)
    assert (compare(a, b, "higher").p, compare(a, b, "higher").verdict) == (0.0, "better")
    assert (compare(a, a, "higher").p, compare(a, a, "higher").verdict) == (1.0, "undecided")
    # a difference of one step of 0.1: t = 0.1 / (0.1 / sqrt(12) * sqrt(2 / 3)) = sqrt(18) with 4 degrees of freedom
    want = 2 * scipy.stats.t.sf(math.sqrt(18), 4)
    assert compare(a, b, "higher", resolution=0.1).p == pytest.approx(want)
    # pairs: both are rounded, so the deviation is 0.1 / sqrt(6), with 2 degrees of freedom
    pairs = compare(over([0.9, 0.8, 0.7]), over([0.8, 0.7, 0.6]), "higher", resolution=0.1)
    assert pairs.p == pytest.approx(2 * scipy.stats.t.sf(math.sqrt(18), 2))
    # what varies more than that is not touched
    x, y = sample(0.9, 0.5, 0.7), sample(0.2, 0.6, 0.1)
    assert compare(x, y, "higher", resolution=0.1).p == compare(x, y, "higher").p
    # rounding of float64 is no difference
    third = sample(*[0.1 + 0.2] * 3)
    assert compare(third, sample(0.3, 0.3, 0.3), "higher").p == 1.0


def test_resolution_on_a_log_scale_is_relative():
    # 0.01 of 0.1 is 0.0434 decades, of 10 a hundredth of that
    a, b = sample(0.1, 0.1, 0.1), sample(10.0, 10.0, 10.0)
    steps = [0.01 / 0.1 / math.log(10) / math.sqrt(12), 0.01 / 10 / math.log(10) / math.sqrt(12)]
    want = scipy.stats.ttest_ind_from_stats(-1, steps[0], 3, 1, steps[1], 3, equal_var=False).pvalue
    assert compare(a, b, "lower", "log", resolution=0.01).p == pytest.approx(want)


@pytest.mark.parametrize("made", [sample, lambda *v, failed=0: over(v, failed=failed)])
def test_failed_runs_never_make_a_row_better(made):
    good, bad = (0.9, 0.91, 0.93), (0.5, 0.51, 0.52)
    assert compare(made(*good, failed=1), made(*bad), "higher").verdict == "undecided"
    assert compare(made(*good, failed=1), made(*bad), "higher").p == 1.0
    assert compare(made(*good), made(*bad, failed=2), "higher").verdict == "better"
    assert compare(made(*bad, failed=2), made(*good), "higher").verdict == "worse"
    assert compare(made(*good, failed=1), made(*good, failed=1), "higher", margin=1.0).verdict == "undecided"
    lost = compare(made(*good, math.nan), made(*bad, math.inf), "higher")  # both failed
    assert (lost.verdict, lost.p, lost.n) == ("undecided", 1.0, (3, 3))


def test_problems_that_are_not_shared_are_not_compared():
    # by problem the second row is worse everywhere; it ran only the easy one often
    a = Sample({(0, p): float(p) for p in range(5)}, 0, {(0, p): p for p in range(5)})
    b = Sample({(s, 4): 3.0 + s / 100 for s in range(5)}, 0, {(s, 4): 4 for s in range(5)})
    assert compare(b, a, "higher").p is None
    assert compare(a, over([9.0]), "higher").n == (1, 1)
    # other seeds on the same problems: pairs of means
    c, d = over([[1, 2], [3, 4], [7, 5]], 2), over([[2, 2], [4, 5], [6, 9]], 2)
    d = Sample({(s + 10, p): v for (s, p), v in d.values.items()}, 0, {(s + 10, p): p for s, p in d.values})
    got = compare(c, d, "higher")
    assert (got.paired, got.n) == (True, (3, 3))
    assert got.p == pytest.approx(scipy.stats.ttest_rel([1.5, 3.5, 6], [2, 4.5, 7.5]).pvalue)
    # one run more on one side: the pairs that are there
    e = over([1, 3, 7, 8])
    f = Sample({(0, p): v for p, v in enumerate([2.0, 5.0, 6.0])}, 0, {(0, p): p for p in range(3)})
    assert compare(e, f, "higher").p == pytest.approx(scipy.stats.ttest_rel([1, 3, 7], [2, 5, 6]).pvalue)


def test_values_of_any_size_do_not_raise():
    for values in ([1.7e308, -1.7e308], [1e200, 2e200], [1e-320, 2e-320], [0.0, 0.0]):
        for other in ([1.0, 2.0], [-1.7e308, -1.7e308], [0.0, 1e-300]):
            for made in (sample, lambda *v: over(v)):
                for scale in ("linear", "log"):
                    got = compare(made(*values), made(*other), "higher", scale, margin=1.0)
                    assert got.p is None or 0 <= got.p <= 1
                    rank_intervals([made(*values), made(*other)], "lower", scale, 0.1)
                    seeds_needed(made(*values), made(*other), "lower", scale)
    # squares of these overflow and underflow; the test does not
    for size in (2.0**900, 2.0**-900):
        got = compare(sample(1 * size, 2 * size), sample(5 * size, 7 * size), "higher")
        assert got.p == compare(sample(1.0, 2.0), sample(5.0, 7.0), "higher").p


def test_same_needs_evidence():
    a, b = sample(0.900, 0.902, 0.901, 0.899), sample(0.901, 0.900, 0.902, 0.900)
    assert compare(a, b, "higher").verdict == "undecided"
    assert compare(a, b, "higher", margin=0.01).verdict == "same"
    assert compare(a, b, "higher", margin=0.0001).verdict == "undecided"
    assert compare(sample(0.9, 0.8), sample(0.9, 0.8), "higher", margin=0.01).verdict == "undecided"  # too few to say
    # a difference that is certain and does not matter
    c, d = sample(0.9, 0.9, 0.9), sample(0.901, 0.901, 0.901)
    assert compare(c, d, "higher").verdict == "worse"
    assert compare(c, d, "higher", margin=0.01).verdict == "same"


def test_effects():
    x, y = [0.91, 0.93, 0.90, 0.94, 0.92], [0.88, 0.90, 0.89, 0.91, 0.87, 0.92]
    found = effectsize_smd(np.mean(x), np.std(x, ddof=1), 5, np.mean(y), np.std(y, ddof=1), 6)[0]
    assert compare(sample(*x), sample(*y), "higher").effect == pytest.approx(found, rel=2e-3)  # approximate factor
    # the factor for 2 degrees of freedom: gamma(1) / gamma(1 / 2) = 1 / sqrt(pi)
    gaps = [1.0, 2.0, 3.0]
    got = compare(over(gaps), over([0, 0, 0]), "lower").effect
    assert got == pytest.approx(-2.0 / math.sqrt(math.pi))


def rliables_improvement(x, y):
    """rliable.metrics.probability_of_improvement of runs x tasks, as its formula reads."""
    wins = [[(a > b) + 0.5 * (a == b) for a in x[:, t] for b in y[:, t]] for t in range(x.shape[1])]
    return statistics.fmean(statistics.fmean(w) for w in wins)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(*[st.integers(0, 5)] * 4), min_size=1, max_size=5))
def test_superiority_is_rliables_and_mann_whitneys(problems):
    x, y = np.array(problems, dtype=float)[:, :2], np.array(problems, dtype=float)[:, 2:]
    got = superiority(over(x, 2), over(y, 2), "higher")
    assert got.center == pytest.approx(rliables_improvement(x.T, y.T))
    u = scipy.stats.mannwhitneyu(x[0], y[0]).statistic / 4
    assert superiority(sample(*x[0]), sample(*y[0]), "higher").center == pytest.approx(u)
    assert 0 <= got.low <= got.center <= got.high <= 1


def test_superiority_of_many_runs_is_the_bootstrap():
    rng = np.random.default_rng(5)
    x, y = rng.normal(0.3, 1, 200), rng.normal(0, 3, 250)
    got = superiority(sample(*x), sample(*y), "higher")
    want = rank_compare_2indep(x, y)
    assert got.center == pytest.approx(want.prob1)
    assert bounds(got) == pytest.approx(want.conf_int(), abs=0.01)


def test_superiority_of_few_runs_is_not_certain():
    assert superiority(sample(1, 2, 3), sample(4, 5, 6), "higher").high > 0.5  # chance does this in one of ten
    assert superiority(sample(*range(9)), sample(*range(10, 19)), "higher").high < 0.3
    assert superiority(sample(1), sample(2), "higher") == Interval(0.0, 0.0, 1.0)
    assert superiority(over([1, 2]), Sample({5: 1.0}, 0, {5: "other"}), "higher") is None
    # one run per problem: a binomial proportion, whose interval Wilson gives
    wins = np.arange(400) % 4 > 0
    want = proportion_confint(300, 400, method="wilson")
    assert bounds(superiority(over(wins), over(np.full(400, 0.5)), "higher")) == pytest.approx(want, abs=1e-3)


@pytest.mark.parametrize(("effect", "power"), [(0.5, 0.8), (1.2, 0.8), (3.0, 0.9), (0.2, 0.5)])
def test_seeds_needed_is_statsmodels(effect, power):
    x = np.array([-1.0, 0.0, 1.0])  # of standard deviation 1
    got = seeds_needed(sample(*x + effect), sample(*x), "higher", power=power)
    want = TTestIndPower().solve_power(effect, alpha=0.05, power=power)
    assert got == math.ceil(want)
    pairs = seeds_needed(over(x + effect), over([0, 0, 0]), "higher", power=power)
    assert pairs == math.ceil(TTestPower().solve_power(effect, alpha=0.05, power=power))


def test_seeds_needed_where_there_is_no_answer():
    assert seeds_needed(sample(1, 2), sample(1, 2), "higher") is None
    assert seeds_needed(sample(1, 2), sample(5), "higher") is None
    assert seeds_needed(sample(1, 2), sample(1, 2.0001), "higher") is None  # more than anybody runs
    assert seeds_needed(sample(1, 1), sample(2, 2), "higher") == 2
    assert seeds_needed(sample(1, 1 + 1e-9), sample(2, 2), "higher") == 2
    assert seeds_needed(sample(1, 1), sample(2, 2), "higher", resolution=1.0) > 2


# ---- many pairs ----

PS = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@settings(max_examples=8, deadline=None)  # each call of the oracle collects all garbage
@given(PS)
def test_adjusted_p_values_are_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])


def test_what_was_not_tested_is_not_counted():
    assert holm([0.01, math.nan, 0.02]) == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)
    assert benjamini_hochberg([math.nan, 0.02, 0.01]) == pytest.approx([math.nan, 0.02, 0.02], nan_ok=True)
    assert len(holm([])) == 0 and np.isnan(holm([math.nan])).all()


def brute_ranks(samples, better, scale, resolution):
    """For each row, its comparisons one after the other, and Holm's steps: the smallest p against alpha / m, and so on."""
    n, ranks = len(samples), []
    for i in range(n):
        found = [compare(samples[i], other, better, scale, resolution) for j, other in enumerate(samples) if j != i]
        tests = sorted((c for c in found if c.p is not None), key=lambda c: c.p)
        low, high = 1, n
        for left, found in zip(range(len(tests), 0, -1), tests, strict=True):
            if found.p * left > 0.05:
                break
            ahead = (found.difference.center > 0) == (better == "higher")
            low, high = low + (not ahead), high - ahead
        ranks.append((low, high))
    return ranks


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4), st.integers(0, 1), st.booleans()), min_size=1, max_size=7),
    st.sampled_from(["higher", "lower"]),
    st.sampled_from(["linear", "log"]),
    st.sampled_from([0.0, 0.5]),
)
def test_rank_intervals_are_all_comparisons(rows, better, scale, resolution):
    samples = [
        (over if problems else lambda v, failed: sample(*v, failed=failed))(
            [5 + 10 * place + (k * place % 3) / 10 for k in range(n)], failed=failed
        )
        for place, n, failed, problems in rows
    ]
    got = rank_intervals(samples, better, scale, resolution)
    assert got == brute_ranks(samples, better, scale, resolution)
    assert all(1 <= low <= high <= len(rows) for low, high in got)


def test_ranks_by_hand():
    a, b, c = sample(0.90, 0.92, 0.91), sample(0.89, 0.92, 0.90), sample(0.5, 0.51, 0.52)
    assert rank_intervals([a, b, c], "higher") == [(1, 2), (1, 2), (3, 3)]
    assert rank_intervals([a, b, c], "lower") == [(2, 3), (2, 3), (1, 1)]
    assert rank_intervals([a], "higher") == [(1, 1)]
    assert rank_intervals([], "higher") == []
    assert rank_intervals([a, sample(0.1), c], "higher") == [(1, 2), (1, 3), (2, 3)]
    assert rank_intervals([Sample(a.values, 1), b, c], "higher") == [(1, 3), (1, 2), (2, 3)]
    assert rank_intervals([a, b, Sample(c.values, 1)], "higher") == [(1, 2), (1, 2), (3, 3)]


def test_more_rows_make_the_same_difference_less_certain():
    a, b = sample(0.90, 0.91, 0.92), sample(0.86, 0.87, 0.88)
    assert rank_intervals([a, b], "higher") == [(1, 1), (2, 2)]
    crowd = [sample(0.4 + i / 100, 0.9 + i / 90, 1.4 + i / 80) for i in range(30)]  # none is apart from any
    low, high = rank_intervals([a, b, *crowd], "higher")[0]
    assert (low, high) == (1, 32)


# ---- several tasks ----


def test_a_suite_with_equal_runs_is_the_stratified_score():
    tasks = [[0.9, 0.91, 0.95], [0.5, 0.52, 0.6]]
    strata = [0, 0, 0, 1, 1, 1]
    assert suite_interval(tasks) == score_interval([x for values in tasks for x in values], strata)


def test_every_task_of_a_suite_weighs_the_same():
    """Ten runs of an easy task and two of a hard one: as if the hard one had been run ten times with the same outcomes."""
    easy, hard = [0.95] * 10, [0.5, 0.6]
    same = suite_interval([easy, [0.5] * 5 + [0.6] * 5])
    assert suite_interval([easy, hard]).center == pytest.approx(same.center)
    assert suite_interval([easy, hard]).center == pytest.approx(iqm(easy + hard * 5))
    assert suite_interval([[0.95, 0.95], [0.1]]).low is None  # of one run nothing tells how it varies


def test_losing_runs_of_the_hard_task_does_not_lift_a_suite_above_its_tasks():
    whole, lost = suite_interval([[0.95] * 3, [0.55] * 3]), suite_interval([[0.95] * 3, [0.55] * 1])
    assert lost.center == pytest.approx(whole.center) == pytest.approx(0.75)


def suite_row(*tasks, failed=0):
    return [Sample(dict(enumerate(values)), failed if i == 0 else 0) for i, values in enumerate(tasks)]


def test_suite_ranks_test_the_mean_difference_within_tasks():
    """Tasks far apart, optimizers a little: pooled over tasks nothing could be told, within them it can."""
    good = suite_row((0.90, 0.91, 0.92), (0.30, 0.31, 0.32), (0.60, 0.61, 0.62))
    bad = suite_row((0.86, 0.87, 0.88), (0.26, 0.27, 0.28), (0.56, 0.57, 0.58))
    assert suite_rank_intervals([good, bad], "higher") == [(1, 1), (2, 2)]
    assert suite_rank_intervals([bad, good], "lower") == [(1, 1), (2, 2)]
    lost = suite_row((0.90, 0.91, 0.92), (0.30, 0.31, 0.32), (0.60, 0.61, 0.62), failed=1)
    assert suite_rank_intervals([lost, bad], "higher") == [(1, 2), (1, 2)]
    single = [suite_row((0.9,), (0.8,)), suite_row((0.1,), (0.2,))]
    assert suite_rank_intervals(single, "higher") == [(1, 2), (1, 2)]
    assert suite_rank_intervals([good], "higher") == [(1, 1)] and suite_rank_intervals([], "higher") == []


def test_one_task_of_a_suite_is_welch():
    a, b, c = (0.90, 0.92, 0.91), (0.89, 0.90, 0.88), (0.5, 0.51, 0.58)
    rows = [suite_row(x) for x in (a, b, c)]
    assert suite_rank_intervals(rows, "higher") == rank_intervals([sample(*x) for x in (a, b, c)], "higher")


def test_told_apart_is_each_rows_own_family():
    a, b, c = sample(0.90, 0.92, 0.91), sample(0.89, 0.92, 0.90), sample(0.5, 0.51, 0.52)
    rows = [a, b, c]
    assert told_apart(rows, "higher").tolist() == [[0, 0, 1], [0, 0, 1], [-1, -1, 0]]
    for i, own in enumerate(told_apart(rows, "lower")):
        assert apart_from(rows, i, "lower").tolist() == own.tolist()


# ---- many problems ----

COSTS = st.lists(
    st.lists(st.integers(1, 9).map(float) | st.just(math.inf), min_size=3, max_size=3), min_size=1, max_size=5
)


@given(COSTS)
def test_profiles_are_counts(costs):
    taus = [1, 1.5, 2, 4, 100]
    table, sizes = np.array(costs), [1, 2, 5]
    best = [min(row[p] for row in costs) for p in range(3)]
    want = [[sum(row[p] < math.inf and row[p] <= tau * best[p] for p in range(3)) / 3 for tau in taus] for row in costs]
    assert performance_profile(table, taus).tolist() == want
    want = [[sum(row[p] / (sizes[p] + 1) <= tau for p in range(3)) / 3 for tau in taus] for row in costs]
    assert data_profile(table, sizes, taus).tolist() == want
    # the area is the limit of sums over a fine grid
    grid = np.linspace(1, 4, 30_001)
    sums = performance_profile(table, grid).mean(axis=1)
    assert profile_area(table, 4) == pytest.approx(sums, abs=1e-3)
    grid = np.linspace(0, 4, 30_001)
    assert data_profile_area(table, sizes, 4) == pytest.approx(data_profile(table, sizes, grid).mean(axis=1), abs=1e-3)


def test_profiles_by_hand():
    costs = [[1, 4, math.inf, 0], [2, 2, math.inf, 5], [math.nan, 3, math.inf, 0]]
    want = [[0.5, 0.75], [0.25, 0.5], [0.25, 0.5]]
    assert performance_profile(costs, [1, 2]).tolist() == want
    assert profile_area(costs).tolist() == pytest.approx([(1 + 2 / 3 + 0 + 1) / 4, (2 / 3 + 1) / 4, (2.5 / 3 + 1) / 4])
    with pytest.raises(ValueError, match="larger"):
        profile_area(costs, 1.0)
    with pytest.raises(ValueError, match="negative"):
        performance_profile([[-1.0]], [1])


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=7), st.sampled_from(["higher", "lower"]))
def test_expected_best_is_every_choice_of_trials(values, better):
    best = max if better == "higher" else min
    ks = range(1, len(values) + 1)
    want = [float(statistics.fmean(Fraction(best(draw)) for draw in itertools.combinations(values, k))) for k in ks]
    assert expected_best(values, better, ks) == pytest.approx(want)


def test_expected_best_with_failed_trials():
    got = expected_best([0.5, math.nan, 0.7, -math.inf], "higher", [1, 2, 3, 4, 5])
    assert got == pytest.approx([-math.inf, -math.inf, (0.7 * 3 + 0.5) / 4, 0.7, math.nan], nan_ok=True)
    assert expected_best([3.0, math.inf], "lower", [1, 2]).tolist() == [math.inf, 3.0]
    assert np.isnan(expected_best([], "lower", [1])).all()


def test_median_cost_where_some_never_got_there():
    assert median_cost([3, 1, 2]) == 2
    assert median_cost([3, 1, math.inf]) == 3
    assert median_cost([1, 3, math.inf, math.nan]) == math.inf
    assert median_cost([math.inf, math.inf]) == math.inf
    assert math.isnan(median_cost([]))


def test_cost_interval_is_the_table_of_order_statistics():
    # printed tables of the sign test: 95 % intervals of the median are x(1)..x(6) of 6, x(2)..x(9) of 10, x(6)..x(15) of 20
    for n, first, last in ((6, 1, 6), (10, 2, 9), (20, 6, 15)):
        assert cost_interval(range(1, n + 1)) == Interval((n + 1) / 2, first, last)
    assert cost_interval([1, 2, 3, 4, 5]) == Interval(3)
    assert cost_interval([1, 2, 3, 4, math.inf, math.inf]) == Interval(3.5, 1, math.inf)
    assert math.isnan(cost_interval([]).center)
