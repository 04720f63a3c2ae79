"""Scores with intervals, tests of pairs, ranks, profiles: the numbers behind a table. The unit is one run.

Values on a log scale (losses that span decades) are handled as log10 and shown back. Resamples are fixed by `SEED` and by
the numbers of runs alone: the same values give the same bits, in whatever order and beside whatever other rows.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, gammaln, nctdtr, ndtri, stdtr, stdtrit

LEVEL = 0.95
FLOOR = 1e-28  # of values on a log scale: a relative gap below is rounding, the problem is solved
RESAMPLES = 2000  # of a bootstrap; where no more than this many are different, all of them are taken
SEED = 2111  # of the resamples
MOST_SEEDS = 10_000  # `seeds_needed` looks no further
ROUNDING = 8 * np.finfo(float).eps  # relative: smaller differences and deviations of float64 values are none
BLOCK = 4_000_000  # numbers held at once

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Values = Sequence[float] | Floats


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval, in units of the metric; low and high are None where there is none (one run)."""

    center: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Sample:
    """The runs of one row. A unit names a run: any hashable, such as (seed, data seed, instance).

    values: what each run gave, in units of the metric; one that is not finite counts as a failed run.
    failed: runs that gave no number through the optimizer's fault.
    problems: what each unit ran (instance, data seed, split); None: all ran the same.
    """

    values: Mapping[Any, float]
    failed: int = 0
    problems: Mapping[Any, Hashable] | None = None


@dataclass(frozen=True)
class Comparison:
    """Row a against row b; see `compare`.

    difference: of the means, a - b, in units of the metric; on a log scale of the mean log10 (log10 of a ratio).
    p: two-sided; None with fewer than two runs a side (two pairs); 1 where the side that looks better has failed runs.
    effect: positive where a is better; standard deviations between the means, Hedges' g, or d_z of the pairs where
    `paired`; None where nothing varies. superiority: the chance that a run of a is better than one of b, ties half.
    n: runs of a and of b; where `paired`, both are the number of pairs. verdict on a: better | worse | same | undecided.
    """

    difference: Interval | None
    p: float | None
    effect: float | None
    superiority: Interval | None
    n: tuple[int, int]
    paired: bool
    verdict: str


# ---- scores ----


def iqm(values: ArrayLike) -> float:
    """The interquartile mean: of what is left without the n // 4 lowest and the n // 4 highest; nan without values.

    As in rliable and scipy.stats.trim_mean(values, 0.25): of fewer than four values it is the mean.
    """
    x = np.sort(np.asarray(values, dtype=float).ravel())
    if not len(x):
        return math.nan
    with np.errstate(all="ignore"):
        kept = x[len(x) // 4 : len(x) - len(x) // 4]
        shifted = float(kept[0] + _row_mean(kept - kept[0]))  # exact where all are equal
        return shifted if math.isfinite(shifted) else float(np.sum(kept / len(kept)))


def mean_interval(values: Values, scale: str = "linear", level: float = LEVEL) -> Interval:
    """The t interval of the mean of finite values (at least one); on log10, shown back, for scale "log".

    On a log scale values below FLOOR count as FLOOR: their digits are rounding, and zero has no logarithm.
    """
    x = _scaled(np.asarray(values, dtype=float), scale)
    with np.errstate(over="ignore", invalid="ignore"):  # diverged but finite: the mean may overflow
        mean = float(x.mean())
        if len(x) == 1:
            return _shown(mean, None, None, scale)
        margin = float(stdtrit(len(x) - 1, (1 + level) / 2) * x.std(ddof=1) / math.sqrt(len(x)))
    return _shown(mean, mean - margin, mean + margin, scale)


def score_interval(
    values: Values,
    strata: Sequence[Hashable] | None = None,
    scale: str = "linear",
    level: float = LEVEL,
    resolution: float = 0.0,
) -> Interval:
    """The interquartile mean of the runs and its stratified bootstrap interval, corrected for few runs.

    values: finite, at least one. strata: the problem of each run (an instance, say); runs are resampled within them
    (Agarwal et al., arXiv:2108.13264, Section 4.2). Where a stratum has a single run, nothing tells how it varies, and
    the strata are not used. A value that is not finite leaves no interval.

    The percentile interval of few runs is too short: it covers 75 % for 95 % with three. So its two arms are stretched by
    Student's t over the normal quantile, and with several strata by sqrt(N / (N - S)) for N runs in S strata, because
    resampled deviations are short by that (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, Section 12.5;
    Hesterberg, The American Statistician 69(4), 2015, Section 5.3, whose wider percentiles end at the extreme values, too
    short for three runs). Degrees of freedom: N - 1, or Satterthwaite's for the strata's variances. Both factors tend to
    1 as the runs grow. Two or three runs have Student's t interval of the mean: the bootstrap's standard error,
    corrected, times t.

    resolution: as for `compare`; the arms are at least what rounding alone gives, t * resolution / sqrt(12 N). Without it
    equal values have a point for their interval.

    Measured at 95 % (tests/test_stats_simulation.py), for n from 2 to 30: normal values 95 to 97 %, Student's t with 3
    degrees of freedom 95 to 97 %, skewed accuracies near 1 92 to 96 %, coarse ones with their resolution 94 % and more,
    log-normal values 94 to 97 % from four runs (with two and three, where it is the mean, 89 and 84 %: use the log scale).
    In 2 to 10 strata of 2 to 10 runs, normal: 94 to 98 %.
    """
    return score_intervals([(values, strata)], scale, level, resolution)[0]


def score_intervals(
    samples: Sequence[tuple[Values, Sequence[Hashable] | None]],
    scale: str = "linear",
    level: float = LEVEL,
    resolution: ArrayLike = 0.0,
) -> list[Interval]:
    """`score_interval` of each (values, strata), to the same bits, many rows at a time; resolution: one, or one each."""
    steps = np.broadcast_to(np.asarray(resolution, dtype=float), len(samples))
    found: list[Interval | None] = [None] * len(samples)
    alike: dict[tuple[int, ...], list[tuple[int, Floats]]] = {}
    for place, (values, strata) in enumerate(samples):
        x = _scaled(np.asarray(values, dtype=float), scale)
        if len(x) > 1 and np.isfinite(x).all():
            sizes, x = _in_strata(x, strata)
            alike.setdefault(sizes, []).append((place, x))
        else:
            found[place] = _shown(iqm(x), None, None, scale)
    for sizes, rows in alike.items():
        for part in _parts(rows, max(1, BLOCK // (RESAMPLES * sum(sizes)))):
            places = [place for place, _ in part]
            low, center, high = _bounds(np.array([x for _, x in part]), sizes, level)
            rounding = _rounding(center, steps[places], scale) / math.sqrt(sum(sizes))
            arm = stdtrit(sum(sizes) - 1, (1 + level) / 2) * rounding
            low, high = np.minimum(low, center - arm), np.maximum(high, center + arm)
            for place, *bounds in zip(places, center.tolist(), low.tolist(), high.tolist(), strict=True):
                found[place] = _shown(*bounds, scale)
    return [interval for interval in found if interval is not None]


def _scaled(x: Floats, scale: str) -> Floats:
    return np.log10(np.maximum(x, FLOOR)) if scale == "log" else x


def _shown(center: float, low: float | None, high: float | None, scale: str) -> Interval:
    if scale != "log":
        return Interval(center, low, high)
    return Interval(_power10(center), None if low is None else _power10(low), None if high is None else _power10(high))


def _rounding(center: Floats, resolution: ArrayLike, scale: str) -> Floats:
    """The standard deviation that rounding to multiples of `resolution` alone gives, on the scale."""
    step = np.broadcast_to(np.asarray(resolution, dtype=float), center.shape)
    if scale == "log":
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            step = np.where(step > 0, step / (math.log(10) * np.power(10.0, center)), 0.0)
    return step / math.sqrt(12)


def _power10(exponent: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.power(10.0, exponent))


def _parts(rows: list[Any], size: int) -> Iterator[list[Any]]:
    return (rows[i : i + size] for i in range(0, len(rows), size))


def _in_strata(x: Floats, strata: Sequence[Hashable] | None) -> tuple[tuple[int, ...], Floats]:
    """The sizes of the strata, and the values one stratum after the other, each sorted."""
    places: dict[Hashable, list[int]] = {}
    if strata is not None:
        for i, stratum in enumerate(strata):
            places.setdefault(stratum, []).append(i)
        if len(strata) != len(x):
            raise ValueError(f"{len(x)} values in {len(strata)} strata: give one stratum per value")
    if len(places) < 2 or min(map(len, places.values())) < 2:
        return (len(x),), np.sort(x)
    parts = [np.sort(x[places[stratum]]) for stratum in sorted(places, key=repr)]
    return tuple(map(len, parts)), np.concatenate(parts)


def _bounds(x: Floats, sizes: tuple[int, ...], level: float) -> tuple[Floats, Floats, Floats]:
    """(low, center, high) of rows (rows, N) of values ordered as by `_in_strata`; nothing may overflow on the way."""
    n = x.shape[1]
    unit = np.ldexp(1.0, np.frexp(np.abs(x).max(axis=1))[1] - 1)[:, None]
    x = x / unit
    first = x.min(axis=1)
    x = x - first[:, None]  # so that equal values give a point, exactly
    center = _trimmed_mean(np.sort(x, axis=1))
    if n < 4:
        margin = stdtrit(n - 1, (1 + level) / 2) * np.sqrt(_variance(x) / n)
        below = above = margin
    else:
        indices, weights = _resamples(sizes)
        draws = _drawn(x, indices) if len(sizes) == 1 else _trimmed_mean(np.sort(x[:, indices], axis=2))
        low, high = _percentiles(draws, weights, level)
        stretch = _stretch(x, sizes, level)
        below, above = stretch * np.maximum(center - low, 0), stretch * np.maximum(high - center, 0)
    center = center + first
    with np.errstate(over="ignore"):
        low, center, high = (v * unit[:, 0] for v in (center - below, center, center + above))
    return low, center, high


def _row_mean(x: Floats) -> Floats:
    """Of the last axis, added in order: the bits do not depend on how many rows there are."""
    total = x[..., 0].copy()
    for j in range(1, x.shape[-1]):
        total += x[..., j]
    return total / x.shape[-1]


def _variance(x: Floats) -> Floats:
    n = x.shape[-1]
    return _row_mean((x - _row_mean(x)[..., None]) ** 2) * n / (n - 1)


def _trimmed_mean(x: Floats) -> Floats:
    """The interquartile mean of the last axis, which is sorted."""
    n = x.shape[-1]
    return _row_mean(x[..., n // 4 : n - n // 4])


def _drawn(x: Floats, indices: Ints) -> Floats:
    """`_trimmed_mean` of sorted rows (rows, n) at sorted indices (resamples, n): a weighted sum of the columns."""
    n = x.shape[1]
    kept = indices[:, n // 4 : n - n // 4]
    total = np.zeros((len(x), len(indices)))
    for j in range(n):
        share = (kept == j).sum(axis=1) / kept.shape[1]
        total += x[:, j, None] * share
    return total


@functools.cache
def _resamples(sizes: tuple[int, ...]) -> tuple[Ints, Ints]:
    """Indices (resamples, N) drawn with replacement within strata that follow one another, and how often each comes.

    All that are different where those are few, else RESAMPLES random ones, half of them the mirror image of the others:
    the values with their signs changed have the same interval, with its sign changed.
    """
    starts = np.cumsum([0, *sizes[:-1]])
    if math.prod(math.comb(2 * n - 1, n) for n in sizes) <= RESAMPLES:
        each = [[(np.array(c), _ways(c)) for c in itertools.combinations_with_replacement(range(n), n)] for n in sizes]
        combined = [tuple(zip(*parts, strict=True)) for parts in itertools.product(*each)]
        indices = [np.concatenate([i + s for i, s in zip(found, starts, strict=True)]) for found, _ in combined]
        return np.array(indices), np.array([math.prod(ways) for _, ways in combined])
    rng = np.random.default_rng([SEED, *sizes])
    parts = [np.sort(rng.integers(0, n, (RESAMPLES // 2, n)), axis=1) for n in sizes]
    parts = [np.concatenate([p, n - 1 - p[:, ::-1]]) + s for p, n, s in zip(parts, sizes, starts, strict=True)]
    return np.concatenate(parts, axis=1), np.ones(RESAMPLES, dtype=np.int64)


def _ways(drawn: tuple[int, ...]) -> int:
    """In how many orders a resample can come."""
    return math.factorial(len(drawn)) // math.prod(math.factorial(drawn.count(i)) for i in set(drawn))


def _percentiles(draws: Floats, weights: Ints, level: float) -> tuple[Floats, Floats]:
    """The ends of the middle `level` of weighted draws (rows, resamples): at most (1 - level) / 2 lies beyond each."""
    outside = (1 - level) / 2 * weights.sum()
    order = np.argsort(draws, axis=1, kind="stable")
    draws, weights = np.take_along_axis(draws, order, axis=1), weights[order]
    until = np.cumsum(weights, axis=1)
    low = (until <= outside).sum(axis=1)
    high = draws.shape[1] - 1 - (until[:, -1:] - until + weights <= outside).sum(axis=1)
    rows = np.arange(len(draws))
    return draws[rows, low], draws[rows, high]


def _stretch(x: Floats, sizes: tuple[int, ...], level: float) -> Floats:
    normal, n = ndtri((1 + level) / 2), x.shape[1]
    if len(sizes) == 1:
        return np.full(len(x), stdtrit(n - 1, (1 + level) / 2) / normal)
    ends = np.cumsum(sizes)
    parts = np.array([m * _variance(x[:, e - m : e]) for m, e in zip(sizes, ends, strict=True)])
    total, spare = parts.sum(axis=0), np.array(sizes)[:, None] - 1
    share = parts / np.where(total > 0, total, 1)
    freedom = np.where(total > 0, 1 / np.where(total > 0, (share**2 / spare).sum(axis=0), 1), 1)  # Satterthwaite
    return stdtrit(freedom, (1 + level) / 2) / normal * math.sqrt(n / (n - len(sizes)))


# ---- pairs ----


def compare(
    a: Sample,
    b: Sample,
    better: str,
    scale: str = "linear",
    resolution: float = 0.0,
    *,
    margin: float | None = None,
    level: float = LEVEL,
) -> Comparison:
    """Row a against row b; better: higher | lower.

    Where the rows differ in seeds alone, Welch's t test of the means. Where problems vary within or between the rows, a
    t test of pairs: runs of the same unit, or, where more problems than units are shared, the means on each shared
    problem. On log10 for scale "log". Pairs speak of these problems, not of others like them.

    resolution: the step between two possible values (1 / number of test examples, for an accuracy). Rounding to it alone
    has a standard deviation of resolution / sqrt(12), and less is not believed: three equal accuracies are no certainty.
    Without it, rows whose runs are identical within each and different between them are told apart for certain.

    Verdict: better or worse where p <= 1 - level. One that has failed runs is never better: they could have been as bad
    as any. "same" needs evidence too: the whole interval of the difference within margin (in units of the metric; on a
    log scale in decades), which overrules a difference that is significant and smaller than that. All else is undecided.
    """
    pair = _tests([a, b], better, scale, resolution)
    difference = _difference(pair, level)
    p = None if math.isnan(pair.p[0]) else float(pair.p[0])
    gain = float(pair.difference[0]) * _sign(better)
    verdict = "undecided"
    if margin is not None and not any(_failures(s) for s in (a, b)) and _within(difference, margin):
        verdict = "same"
    elif p is not None and p <= 1 - level and gain != 0:
        verdict = "better" if gain > 0 else "worse"
    return Comparison(
        difference=difference,
        p=p,
        effect=_effect(pair, better),
        superiority=superiority(a, b, better, level),
        n=(int(pair.n_a[0]), int(pair.n_b[0])),
        paired=bool(pair.paired[0]),
        verdict=verdict,
    )


def _sign(better: str) -> int:
    if better not in ("higher", "lower"):
        raise ValueError(f"better is {better!r}: higher or lower")
    return 1 if better == "higher" else -1


def _failures(sample: Sample) -> int:
    return sample.failed + sum(not math.isfinite(v) for v in sample.values.values())


def _within(difference: Interval | None, margin: float) -> bool:
    if difference is None or difference.low is None or difference.high is None:
        return False
    return -margin <= difference.low and difference.high <= margin


@dataclass(frozen=True)
class _Tests:
    """One test for each pair of rows, a before b: arrays (pairs,); nan where there are too few runs for it."""

    a: Ints
    b: Ints
    paired: NDArray[np.bool_]
    n_a: Ints
    n_b: Ints
    difference: Floats
    error: Floats  # standard error of the difference
    freedom: Floats
    deviation: Floats  # standard deviation: pooled, or of the pairs' differences
    deviation_a: Floats
    deviation_b: Floats
    p: Floats


def _tests(samples: Sequence[Sample], better: str, scale: str, resolution: float, first: int | None = None) -> _Tests:
    """`compare`'s test of every pair of rows; neither overflow nor underflow makes a difference certain.

    first: only of this row with each other one.
    """
    x, by_problem, problems = _aligned(samples, scale)
    n, mean, deviation = _moments(np.sort(x, axis=1))
    floor = _rounding(mean, resolution, scale)
    deviation = np.where(n > 1, np.maximum(deviation, floor), math.nan)
    a, b = np.triu_indices(len(samples), 1) if first is None else _with_each(first, len(samples))
    count, most = problems.sum(axis=1), BLOCK // problems.shape[1] + 1
    parts = [slice(i, i + most) for i in range(0, len(a), most)]
    shared = np.concatenate([(problems[a[s]] & problems[b[s]]).sum(axis=1) for s in parts] or [np.zeros(0, dtype=int)])
    paired = count[a] + count[b] - shared > 1
    with np.errstate(all="ignore"):
        n_a, n_b = n[a], n[b]
        numbers = _welch(mean[a] - mean[b], deviation[a], deviation[b], n_a, n_b)
        if paired.any():
            pairs, gap, spread = _pairs(x, by_problem, a, b, paired)
            spread = np.where(pairs > 1, np.maximum(spread, np.hypot(floor[a], floor[b])), math.nan)
            ours = gap, spread / np.sqrt(pairs), pairs - 1, spread
            numbers = tuple(np.where(paired, mine, other) for mine, other in zip(ours, numbers, strict=True))
            n_a, n_b = np.where(paired, pairs, n_a), np.where(paired, pairs, n_b)
        difference, error, freedom, spread = numbers
        # float64 values that should be equal differ by their rounding
        size = np.maximum(np.abs(mean[a]), np.abs(mean[b]))
        rounding = ROUNDING * (np.maximum(size, 1) if scale == "log" else size)
        difference, error, spread = (np.where(np.abs(v) <= rounding, 0.0, v) for v in (difference, error, spread))
        p = 2 * stdtr(freedom, -np.abs(difference / error))
    p = np.where(error == 0, np.where(difference == 0, 1.0, 0.0), p)
    failed = np.array([_failures(s) > 0 for s in samples], dtype=bool)
    doubted = np.where(difference * _sign(better) > 0, failed[a], failed[b] & (difference != 0))  # of the better side
    p = np.where(np.isfinite(difference) & np.isfinite(error) & ~doubted, p, 1.0)
    p = np.where((n_a > 1) & (n_b > 1), p, math.nan)
    return _Tests(a, b, paired, n_a, n_b, difference, error, freedom, spread, deviation[a], deviation[b], p)


def _with_each(first: int, n: int) -> tuple[Ints, Ints]:
    others = np.delete(np.arange(n), first)
    return np.full(len(others), first), others


def _welch(gap: Floats, spread_a: Floats, spread_b: Floats, n_a: Ints, n_b: Ints) -> tuple[Floats, ...]:
    """Difference, its standard error and degrees of freedom (Welch, Biometrika 34, 1947), pooled standard deviation."""
    error_a, error_b = spread_a / np.sqrt(n_a), spread_b / np.sqrt(n_b)
    error = np.hypot(error_a, error_b)
    share_a, share_b = (np.where(error > 0, e / error, math.sqrt(0.5)) for e in (error_a, error_b))
    freedom = 1 / (share_a**4 / (n_a - 1) + share_b**4 / (n_b - 1))
    weight_a, weight_b = (np.sqrt((n - 1) / (n_a + n_b - 2)) for n in (n_a, n_b))
    return gap, error, freedom, np.hypot(weight_a * spread_a, weight_b * spread_b)


def _aligned(samples: Sequence[Sample], scale: str) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Values (rows, units) and their means (rows, problems), nan where there is none; which rows ran which problems."""
    units = sorted({u for s in samples for u in s.values}, key=repr)
    places = {u: i for i, u in enumerate(units)}
    x = np.full((len(samples), max(1, len(units))), math.nan)
    labels: dict[Hashable, int] = {}
    ran = np.full(x.shape, -1)
    for row, sample in enumerate(samples):
        for unit, value in sample.values.items():
            if math.isfinite(value):
                x[row, places[unit]] = value
                problem = None if sample.problems is None else sample.problems[unit]
                ran[row, places[unit]] = labels.setdefault(problem, len(labels))
    x = _scaled(x, scale)
    by_problem = np.full((len(samples), max(1, len(labels))), math.nan)
    for problem in range(len(labels)):
        by_problem[:, problem] = _moments(np.where(ran == problem, x, math.nan))[1]
    return x, by_problem, ~np.isnan(by_problem)


def _moments(x: Floats) -> tuple[Ints, Floats, Floats]:
    """How many values, their mean and standard deviation (nan of fewer than two) along the last axis, without nan."""
    known = ~np.isnan(x)
    n = known.sum(axis=-1)
    with np.errstate(all="ignore"):
        mean = np.where(known, x / n[..., None], 0).sum(axis=-1)  # sums of values near the largest float overflow
        away = np.where(known, np.abs(x - mean[..., None]), 0)
        most = away.max(axis=-1)
        ratios = away / np.where(most > 0, most, 1)[..., None]
        deviation = most * np.sqrt((ratios**2).sum(axis=-1) / (n - 1))
    return n, np.where(n > 0, mean, math.nan), np.where(n > 1, deviation, math.nan)


def _pairs(x: Floats, by_problem: Floats, a: Ints, b: Ints, wanted: NDArray[np.bool_]) -> tuple[Ints, Floats, Floats]:
    """Number, mean and deviation of the differences of each pair of rows: by unit, or by problem where that gives more."""
    n, mean, deviation = np.zeros(len(a), dtype=np.int64), np.full(len(a), math.nan), np.full(len(a), math.nan)
    places = np.flatnonzero(wanted)
    for part in _parts(places.tolist(), max(1, BLOCK // x.shape[1])):
        by_unit = _moments(x[a[part]] - x[b[part]])
        means = _moments(by_problem[a[part]] - by_problem[b[part]])
        fewer = by_unit[0] < means[0]
        n[part], mean[part], deviation[part] = (np.where(fewer, m, u) for u, m in zip(by_unit, means, strict=True))
    return n, mean, deviation


def _difference(pair: _Tests, level: float) -> Interval | None:
    center, error = float(pair.difference[0]), float(pair.error[0])
    if math.isnan(center):
        return None
    if not (math.isfinite(center) and math.isfinite(error)):
        return Interval(center)
    with np.errstate(over="ignore"):
        arm = float(stdtrit(pair.freedom[0], (1 + level) / 2) * error) if error else 0.0
    return Interval(center, center - arm, center + arm)


def _effect(pair: _Tests, better: str) -> float | None:
    """Hedges' g (Hedges, Journal of Educational Statistics 6(2), 1981, with the exact factor), or d_z with the same factor."""
    freedom = int(pair.n_a[0] - 1 if pair.paired[0] else pair.n_a[0] + pair.n_b[0] - 2)
    deviation, difference = float(pair.deviation[0]), float(pair.difference[0])
    if not (deviation > 0 and math.isfinite(deviation) and math.isfinite(difference)):
        return None
    if freedom < 2:  # the factor is 0 / 0: one degree of freedom has no finite mean
        return None
    factor = math.exp(gammaln(freedom / 2) - gammaln((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    return _sign(better) * factor * difference / deviation


def superiority(a: Sample, b: Sample, better: str, level: float = LEVEL) -> Interval | None:
    """The probability of improvement: that a run of a is better than a run of b on the same problem, ties half.

    The mean over the shared problems of Mann-Whitney's U / (n m) (Agarwal et al., arXiv:2108.13264, Section 4.3), of the
    runs that finished; None where no problem is shared. The interval is the percentile bootstrap stratified by row and
    problem, and nowhere shorter than Newcombe's (Statistics in Medicine 25(4), 2006, 559-573, method 5) with Student's t:
    rows that do not overlap have resamples that are all alike, and three runs each do not prove that. For several
    problems his variance at the mean is divided by their number, which is its largest, taken where all are alike.
    """
    ours, theirs = _by_problem(a), _by_problem(b)
    shared = sorted(ours.keys() & theirs.keys(), key=repr)
    if not shared:
        return None
    counts = np.array([(len(ours[problem]), len(theirs[problem])) for problem in shared])
    total, draws = 0.0, np.zeros(2 * RESAMPLES)
    for i, problem in enumerate(shared):
        x, y = ours[problem][:, None], theirs[problem]
        wins = ((x > y) - 1.0 * (x < y)) * _sign(better) / 2 + 0.5
        total += float(wins.mean())
        draws += _resampled_wins(wins, i)
    center = total / len(shared)
    ends = _percentiles(draws[None] / len(shared), np.ones(len(draws), dtype=np.int64), level)
    low, high = (float(end[0]) for end in ends)
    return Interval(
        center,
        min(low, _least_superiority(center, counts, level)),
        max(high, 1 - _least_superiority(1 - center, counts, level)),
    )


def _by_problem(sample: Sample) -> dict[Hashable, Floats]:
    found: dict[Hashable, list[float]] = {}
    for unit, value in sample.values.items():
        if math.isfinite(value):
            found.setdefault(None if sample.problems is None else sample.problems[unit], []).append(value)
    return {problem: np.sort(values) for problem, values in found.items()}


def _resampled_wins(wins: Floats, stratum: int) -> Floats:
    """The mean of wins (n, m) in 2 * RESAMPLES resamples of rows and columns; the same for the transpose."""
    n, m = wins.shape
    found = [
        np.einsum("rn,nm,rm->r", _counts(n, stratum, first), wins, _counts(m, stratum, 1 - first)) / (n * m)
        for first in (0, 1)
    ]
    return np.concatenate(found)


@functools.lru_cache(maxsize=256)
def _counts(n: int, stratum: int, side: int) -> Floats:
    """How often each of n runs is drawn (RESAMPLES, n)."""
    rng = np.random.default_rng([SEED, n, stratum, side])
    return rng.multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(float)


def _least_superiority(center: float, counts: Ints, level: float) -> float:
    """The lower end of Newcombe's interval for the mean of U / (n m) over problems with runs (problems, 2)."""
    freedom = int(counts.sum()) - len(counts) - 1
    if freedom < 1:
        return 0.0
    width = float(stdtrit(freedom, (1 + level) / 2)) / len(counts)
    more = counts.sum(axis=1) / 2 - 1
    product = counts.prod(axis=1)

    def too_low(theta: float) -> bool:
        variance = theta * (1 - theta) * (1 + more * ((1 - theta) / (2 - theta) + theta / (1 + theta))) / product
        return center - theta > width * math.sqrt(float(variance.sum()))

    low, high = 0.0, center
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if too_low(middle) else (low, middle)
    return low


def seeds_needed(
    a: Sample,
    b: Sample,
    better: str,
    scale: str = "linear",
    power: float = 0.8,
    alpha: float = 1 - LEVEL,
    resolution: float = 0.0,
) -> int | None:
    """How many runs a side (pairs, where paired) would tell a and b apart, were what is seen now true.

    The smallest n at which `compare`'s test, two-sided at alpha, has this power for the difference and the deviations
    seen (noncentral t). In total, not beyond those there are. None where the difference is 0, where a side has fewer than
    two runs, or beyond MOST_SEEDS. A difference seen in few runs is itself uncertain, and so is this number.
    """
    pair = _tests([a, b], better, scale, resolution)
    difference, paired = abs(float(pair.difference[0])), bool(pair.paired[0])
    sides = pair.deviation[:1] if paired else np.array([pair.deviation_a[0], pair.deviation_b[0]])
    spread = math.hypot(*sides.tolist())
    if not (math.isfinite(difference) and math.isfinite(spread)) or difference == 0:
        return None
    if pair.error[0] == 0 or spread == 0:
        return 2
    effect = difference / spread
    shares = (sides / spread) ** 2
    per_run = 1 / float((shares**2).sum())  # Welch's degrees of freedom, over n - 1

    def enough(n: int) -> bool:
        return _power(effect * math.sqrt(n), per_run * (n - 1), alpha) >= power

    if not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _power(shift: float, freedom: float, alpha: float) -> float:
    """Of a two-sided t test at the noncentrality `shift`."""
    bound = stdtrit(freedom, 1 - alpha / 2)
    # scipy answers nan where the probability is too small to hold
    below, above = np.nan_to_num([nctdtr(freedom, shift, -bound), nctdtr(freedom, shift, bound)])
    return float(1 - above + below)


# ---- many pairs ----


def holm(p: ArrayLike) -> Floats:
    """Adjusted p values: rejecting those at most alpha keeps the chance of any false one to alpha (Holm, 1979).

    nan is no test: it stays nan and is not counted.
    """
    return _adjusted(p, lambda ordered: np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1)))


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """Adjusted p values: rejecting those at most q keeps the expected share of false ones to q (1995).

    For independent tests or positively dependent ones. nan is no test: it stays nan and is not counted.
    """
    return _adjusted(
        p,
        lambda ordered: np.minimum.accumulate((ordered * len(ordered) / np.arange(1, len(ordered) + 1))[::-1])[::-1],
    )


def _adjusted(p: ArrayLike, rule: Callable[[Floats], Floats]) -> Floats:
    p = np.asarray(p, dtype=float)
    found = np.full(p.shape, math.nan)
    tests = np.flatnonzero(~np.isnan(p))
    if len(tests):
        order = tests[np.argsort(p[tests], kind="stable")]
        found[order] = np.minimum(rule(p[order]), 1.0)
    return found


def told_apart(
    samples: Sequence[Sample], better: str, scale: str = "linear", resolution: float = 0.0, level: float = LEVEL
) -> NDArray[np.int8]:
    """(rows, rows): 1 where the row is better than the column's, -1 where it is worse, 0 where they are not told apart.

    By `compare`'s tests of the row against every other, corrected by Holm over these. Another row's comparisons are a
    family of their own, so [i, j] may be 0 where [j, i] is not.
    """
    tests = _tests(samples, better, scale, resolution)
    return _apart(len(samples), tests.a, tests.b, tests.p, tests.difference * _sign(better), level)


def apart_from(
    samples: Sequence[Sample],
    first: int,
    better: str,
    scale: str = "linear",
    resolution: float = 0.0,
    level: float = LEVEL,
) -> NDArray[np.int8]:
    """The row of `told_apart` of one row alone: (rows,), 0 at its own place."""
    tests = _tests(samples, better, scale, resolution, first)
    found = np.zeros(len(samples), dtype=np.int8)
    apart = holm(tests.p) <= 1 - level
    found[tests.b] = np.where(apart, np.sign(np.nan_to_num(tests.difference * _sign(better))), 0)
    return found


def _apart(n: int, a: Ints, b: Ints, tested: Floats, gains: Floats, level: float) -> NDArray[np.int8]:
    p, gain = np.full((n, n), math.nan), np.zeros((n, n))  # [i, j]: of row i against row j
    p[a, b] = p[b, a] = tested
    gain[a, b], gain[b, a] = gains, -gains
    adjusted = np.array([holm(row) for row in p]).reshape(n, n)
    return np.where(adjusted <= 1 - level, np.sign(np.nan_to_num(gain)), 0).astype(np.int8)


def rank_intervals(
    samples: Sequence[Sample], better: str, scale: str = "linear", resolution: float = 0.0, level: float = LEVEL
) -> list[tuple[int, int]]:
    """The ranks that each row could have: from 1 + how many are better, to the number of rows less how many are worse.

    Better and worse: as `told_apart`, so that the row's interval holds its true rank with the probability `level`, as its
    score's interval does its score (the marginal confidence sets of Mogstad, Romano, Shaikh, Wilhelm, Review of Economic
    Studies 91(1), 2024, 476-518, from tests of pairs). It is no statement about all rows at once. A row of one run could
    have any rank.
    """
    return _ranks(told_apart(samples, better, scale, resolution, level))


def _ranks(apart: NDArray[np.int8]) -> list[tuple[int, int]]:
    n = len(apart)
    above, below = (apart < 0).sum(axis=1), (apart > 0).sum(axis=1)
    return [(1 + int(better), n - int(worse)) for better, worse in zip(above, below, strict=True)]


# ---- several tasks ----


def suite_interval(tasks: Sequence[Values], scale: str = "linear", resolution: float = 0.0) -> Interval:
    """The interquartile mean over tasks and runs, every task with the same weight, and its interval.

    tasks: the finite values of each task's runs, at least one. With equal numbers of runs it is `score_interval` with the
    tasks as strata. With unequal ones each run counts 1 / n of its task, so that a task does not weigh more for having
    been run more often, nor less because some of its runs failed. No interval where a task has a single run and others
    have more.
    """
    sizes = [len(values) for values in tasks]
    pooled = [value for values in tasks for value in values]
    strata = [task for task, n in enumerate(sizes) for _ in range(n)]
    if len(set(sizes)) == 1:
        return score_interval(pooled, strata, scale, resolution=resolution)
    x = [np.sort(_scaled(np.asarray(values, dtype=float), scale)) for values in tasks]
    copies = np.repeat([math.lcm(*sizes) // n for n in sizes], sizes)
    flat = np.concatenate(x)
    center = float(_trimmed_mean(np.sort(np.repeat(flat, copies))[None])[0])
    if min(sizes) < 2 or not np.isfinite(flat).all():
        return _shown(center, None, None, scale)
    indices, weights = _resamples(tuple(sizes))
    draws = np.concatenate(
        [_trimmed_mean(np.sort(np.repeat(flat[part], copies, axis=1), axis=1)) for part in np.array_split(indices, 16)]
    )
    low, high = _percentiles(draws[None], weights, LEVEL)
    stretch = float(_stretch(flat[None], tuple(sizes), LEVEL)[0])
    return _shown(
        center, center - stretch * (center - float(low[0])), center + stretch * (float(high[0]) - center), scale
    )


def suite_rank_intervals(
    rows: Sequence[Sequence[Sample]], better: str, scale: str = "linear", resolution: float = 0.0, level: float = LEVEL
) -> list[tuple[int, int]]:
    """`rank_intervals` of rows over the same tasks: rows[i][t] are the runs of row i on task t.

    The tasks are these and no sample of others: the difference of two rows is the mean over tasks of the differences of
    their means, its variance the sum of the runs' variances within tasks, its degrees of freedom Satterthwaite's. Where
    a task has a single run, the tasks are the pairs of a t test instead.
    """
    moments = [[_moments_of(sample, scale, resolution) for sample in row] for row in rows]
    n, mean, variance = (np.array([[m[k] for m in row] for row in moments], dtype=float) for k in range(3))
    a, b = np.triu_indices(len(rows), 1)
    tasks = n.shape[1] if n.ndim == 2 else 0
    difference = (mean[a] - mean[b]).mean(axis=1) if len(a) else np.zeros(0)
    with np.errstate(all="ignore"):
        if len(a) and (n < 2).any():
            error2 = (mean[a] - mean[b]).var(axis=1, ddof=1) / tasks if tasks > 1 else np.full(len(a), math.nan)
            freedom = np.full(len(a), max(tasks - 1, 1), dtype=float)
        else:
            parts = variance / n / max(tasks, 1) ** 2
            error2 = parts[a].sum(axis=1) + parts[b].sum(axis=1) if len(a) else np.zeros(0)
            spare = (parts**2 / (n - 1)).sum(axis=1) if len(rows) else np.zeros(0)
            freedom = np.where(error2 > 0, error2**2 / (spare[a] + spare[b]), 1.0) if len(a) else np.zeros(0)
        t = np.where(difference == 0, 0.0, np.abs(difference) / np.sqrt(error2))
        p = np.where(np.isnan(t), math.nan, 2 * stdtr(np.where(np.isfinite(freedom), freedom, 1.0), -t))
    gain = difference * _sign(better)
    failed = np.array([sum(_failures(sample) for sample in row) for row in rows])
    if len(a):
        p = np.where(((gain > 0) & (failed[a] > 0)) | ((gain < 0) & (failed[b] > 0)), 1.0, p)
    return _ranks(_apart(len(rows), a, b, p, gain, level))


def _moments_of(sample: Sample, scale: str, resolution: float) -> tuple[int, float, float]:
    """Number, mean and variance of the runs, on the scale; the variance not below that of rounding."""
    x = np.array([v for v in sample.values.values() if math.isfinite(v)], dtype=float)
    n, mean, deviation = (m[0] for m in _moments(_scaled(x, scale)[None] if len(x) else np.full((1, 1), math.nan)))
    floor = _rounding(np.array([mean]), resolution, scale)[0]
    return int(n), float(mean), float(max(deviation, floor) ** 2) if n > 1 else math.nan


# ---- many problems ----


def performance_profile(costs: ArrayLike, taus: ArrayLike) -> Floats:
    """The share of problems (rows, taus) that each row solves within tau times the least cost of any row.

    costs: (rows, problems), positive, inf where not solved; nan counts as not solved. taus: ratios of at least 1. Dolan
    and More, Mathematical Programming 91, 2002, 201-213. A problem that no row solves counts for none.
    """
    return _shares(_ratios(costs), taus)


def data_profile(costs: ArrayLike, sizes: ArrayLike, alphas: ArrayLike) -> Floats:
    """The share of problems (rows, alphas) that each row solves within alpha times (size + 1).

    costs: as for `performance_profile`, in evaluations; sizes: (problems,) numbers of parameters, so that alpha counts
    simplex gradients. More and Wild, SIAM Journal on Optimization 20(1), 2009, 172-191.
    """
    return _shares(_solved(costs) / (np.asarray(sizes, dtype=float) + 1), alphas)


def profile_area(costs: ArrayLike, limit: float = 4.0) -> Floats:
    """The area (rows,) under each row's performance profile from 1 to limit, over that width: 1 is best at everything.

    Exact, without a grid. The limit is that of AlgoPerf's score (Dahl et al., arXiv:2306.07179, Section 4.2).
    """
    if not limit > 1:
        raise ValueError(f"limit is {limit}: a profile begins at 1, so give a larger one")
    return (np.maximum(limit - _ratios(costs), 0) / (limit - 1)).mean(axis=1)


def data_profile_area(costs: ArrayLike, sizes: ArrayLike, limit: float) -> Floats:
    """The area (rows,) under each row's data profile from 0 to limit, over that width; exact."""
    if not limit > 0:
        raise ValueError(f"limit is {limit}: a data profile begins at 0, so give a larger one")
    needed = _solved(costs) / (np.asarray(sizes, dtype=float) + 1)
    return (np.maximum(limit - needed, 0) / limit).mean(axis=1)


def _solved(costs: ArrayLike) -> Floats:
    found = np.array(costs, dtype=float, ndmin=2)
    found[np.isnan(found)] = math.inf
    if (found < 0).any():
        raise ValueError("a cost is negative: costs are counts or times, inf where a problem was not solved")
    return found


def _ratios(costs: ArrayLike) -> Floats:
    found = _solved(costs)
    least = found.min(axis=0)
    with np.errstate(all="ignore"):
        ratios = np.where(found == least, 1.0, found / least)
    return np.where(np.isfinite(found), ratios, math.inf)


def _shares(needed: Floats, limits: ArrayLike) -> Floats:
    limits = np.asarray(limits, dtype=float).ravel()
    return np.array([np.searchsorted(np.sort(row), limits, side="right") for row in needed]) / needed.shape[1]


def expected_best(values: Values, better: str, ks: Sequence[int]) -> Floats:
    """The expected best of k of the n trials, drawn without replacement: (len(ks),), nan where k > n.

    values: validation values of random trials; one that is not finite is a failed trial, worse than any number, so the
    expectation is infinite while all k could have failed. The question is Dodge et al.'s (arXiv:1909.03004, eq. 3); this
    answer is the unbiased one (Tang et al., ACL 2020, Showing Your Work Doesn't Always Work, Section 4).
    """
    x = np.asarray(values, dtype=float) * _sign(better)
    x = np.sort(np.where(np.isfinite(x), x, -math.inf))
    n = len(x)
    found = np.full(len(ks), math.nan)
    for place, k in enumerate(ks):
        if 1 <= k <= n:
            best = x[k - 1 :]  # the i-th smallest of n is the best of C(i - 1, k - 1) of the C(n, k) draws
            ways = [math.comb(i, k - 1) / math.comb(n, k) for i in range(k - 1, n)]
            found[place] = math.fsum(b * w for b, w in zip(best.tolist(), ways, strict=True)) * _sign(better)
    return found


def median_cost(costs: ArrayLike) -> float:
    """The median of what runs needed, inf for those that never got there; nan without runs.

    inf where half or more never did: of an even number, the larger of the two in the middle when that is inf.
    """
    x = np.asarray(costs, dtype=float).ravel()
    x = np.where(np.isnan(x), math.inf, x)
    return float(np.median(x)) if len(x) else math.nan


def cost_interval(costs: ArrayLike, level: float = LEVEL) -> Interval:
    """`median_cost` and its interval, between two of the costs: exact for any distribution, and for runs that failed.

    Ends are the order statistics by the binomial distribution (Conover, Practical Nonparametric Statistics, Section 3.2).
    95 % needs six runs; with fewer there is no interval.
    """
    x = np.asarray(costs, dtype=float).ravel()
    x = np.sort(np.where(np.isnan(x), math.inf, x))
    n, center = len(x), median_cost(x)
    beyond = [float(bdtr(i, n, 0.5)) <= (1 - level) / 2 for i in range(n)]  # at most i of n below the median
    depth = sum(beyond)  # how many values may be left out at each end
    if not depth:
        return Interval(center)
    return Interval(center, float(x[depth - 1]), float(x[n - depth]))
