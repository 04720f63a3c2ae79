"""Means, 95 % intervals and rank intervals over seeds.

The unit is the run. Values on a log scale (losses that span decades) are averaged as log10 and shown back: the
geometric mean and its interval. Student's t, because three to five seeds are the rule and a bootstrap of three values
is not an interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

LEVEL = 0.95
FLOOR = 1e-32  # of values on a log scale: gaps are computed in float64, relative to their start


@dataclass(frozen=True)
class Interval:
    """A mean and its interval, in units of the metric; low and high are None where there is none (one run)."""

    mean: float
    low: float | None = None
    high: float | None = None


def mean_interval(values: Sequence[float], scale: str = "linear", level: float = LEVEL) -> Interval:
    """The t interval of the mean of finite values (at least one); on log10, shown back, for scale "log".

    On a log scale values below FLOOR count as FLOOR: their digits are rounding, and zero has no logarithm.
    """
    x = np.asarray(values, dtype=float)
    if scale == "log":
        inner = mean_interval(np.log10(np.maximum(x, FLOOR)).tolist(), level=level)
        low, high = inner.low, inner.high
        return Interval(
            _power10(inner.mean), None if low is None else _power10(low), None if high is None else _power10(high)
        )
    with np.errstate(over="ignore", invalid="ignore"):  # diverged but finite: the mean may overflow
        mean = float(x.mean())
        if len(x) == 1:
            return Interval(mean)
        margin = float(stdtrit(len(x) - 1, (1 + level) / 2) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(mean, mean - margin, mean + margin)


def _power10(exponent: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.power(10.0, exponent))


def rank_intervals(
    intervals: Sequence[Interval], better: str, failed: Sequence[bool] | None = None
) -> list[tuple[int, int]]:
    """The ranks that each could have: from 1 + how many are wholly better, to the number not wholly worse.

    One is wholly better than another when their intervals do not even touch. Without an interval (one run) nothing
    can be told apart, from either side. Where `failed`, some runs gave no number, which could have been as bad as any:
    the interval is open at its worse end. Each interval holds at 95 % by itself; the ranks are not corrected for the
    number of comparisons.
    """
    failed = failed or [False] * len(intervals)
    bounds = [_goodness(i, better, f) for i, f in zip(intervals, failed, strict=True)]
    return [
        (1 + sum(worst > mine[1] for worst, _ in bounds), len(bounds) - sum(best < mine[0] for _, best in bounds))
        for mine in bounds
    ]


def _goodness(interval: Interval, better: str, failed: bool) -> tuple[float, float]:
    """(worst, best) on an axis where more is better."""
    if interval.low is None or interval.high is None:
        return -math.inf, math.inf
    low, high = (interval.low, interval.high) if better == "higher" else (-interval.high, -interval.low)
    return (-math.inf if failed else low), high
