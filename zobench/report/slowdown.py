"""Is head slower than base? From blocks of steps that both took by turns (`zobench.paired`), with base twice.

A launch l has rounds r; b, a, h are the logarithms of the seconds of a step, of base, of base again and of head:

    a launch:  B, A, H   the lower quartile of its blocks, because a block in which the machine did something else is far
                         off in one direction, and never faster
    change     D[l] = H - (B + A) / 2    its center is the median over launches
    noise      N[l] = A - B              base again runs the same code: this is chance, from process to process

With independent processes of equal spread D has sqrt(3/4) of the spread of N, and the median over L launches sqrt(pi / 2 L)
of one. So the standard error of a change that is none is

    se = sqrt(3/4) sqrt(pi / 2 L) sqrt(mean of N[l]^2)                                        (L degrees of freedom)

and a slowdown is reported where two things hold: the pairs h - (b + a) / 2 of all blocks, by the exact sign-flip test of
their signed ranks (Wilcoxon), two-sided, Holm over the cells, have p <= level; and the center is above both log(1 +
tolerance) and t(1 - level / cells; L) se, which is as far as base itself gets from base. The smallest detectable effect is
what that second test, without the tolerance, finds with a chance of 80 %: where it is above the tolerance, a cell that
raises no alarm has shown nothing, and says so.

The number of launches and rounds is fixed beforehand: nobody looks before the end, so nothing is stopped when it suits.
Sources: paired blocks and levels of repetition, Kalibera and Jones, "Rigorous benchmarking in reasonable time" (ISMM 2013);
the bias of a process, Mytkowicz et al., "Producing wrong data without doing anything obviously wrong!" (ASPLOS 2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from zobench.report.stats import holm

POWER = 0.8
QUANTILE = 0.25
LARGE = 50.0  # a logarithm that stands for infinity


@dataclass(frozen=True)
class Verdict:
    """One cell. change, noise, threshold, detectable: relative, 0.2 is 20 % more time; p: adjusted for all cells.

    outcome: slower | faster | same | cannot tell.
    """

    label: str
    change: float
    p: float
    noise: float
    noise_p: float
    threshold: float
    detectable: float
    pairs: int
    seconds: float  # of a step of base, the median
    outcome: str


@dataclass(frozen=True)
class Times:
    """Seconds of a step, (launches, rounds) each, of base, base again and head."""

    label: str
    base: ArrayLike
    again: ArrayLike
    head: ArrayLike


def decide(samples: Sequence[Times], tolerance: float, level: float) -> list[Verdict]:
    """A verdict for each cell; the chance that any of them is a false alarm is at most `level`."""
    logs = [_logs(times) for times in samples]
    adjusted = holm([sign_flip(h - (b + a) / 2) for b, a, h in logs]) if logs else []
    cells = zip(samples, logs, adjusted, strict=True)
    return [_verdict(times, sides, float(p), tolerance, level, len(samples)) for times, sides, p in cells]


def _logs(times: Times) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    b, a, h = (np.log(np.asarray(t, float)) for t in (times.base, times.again, times.head))
    if not b.shape == a.shape == h.shape or b.ndim != 2 or b.size == 0:
        raise ValueError(f"{times.label}: times of {b.shape}, {a.shape}, {h.shape}; all must be (launches, rounds)")
    return b, a, h


def _verdict(
    times: Times, sides: tuple[np.ndarray, ...], p: float, tolerance: float, family: float, cells: int
) -> Verdict:
    b, a, h = sides
    level, launches = family / cells, len(b)
    B, A, H = (np.quantile(side, QUANTILE, axis=1) for side in sides)
    change, noise = float(np.median(H - (B + A) / 2)), A - B
    error = math.sqrt(0.75 * math.pi / 2 / launches * float(np.mean(noise**2)))
    shown = float(stdtrit(launches, 1 - level)) * error
    detectable = shown + float(stdtrit(launches, POWER)) * error
    if h.size < 1 - math.log2(level):  # of so few pairs no signs have a p as small as is asked for
        detectable = math.inf
    limit = math.log1p(tolerance)
    outcome = "cannot tell" if detectable > limit else "same"
    if abs(change) > max(limit, shown) and p <= family:
        outcome = "slower" if change > 0 else "faster"
    return Verdict(
        label=times.label,
        change=math.expm1(change),
        p=p,
        noise=math.expm1(float(np.median(noise))),
        noise_p=sign_flip(a - b),
        threshold=math.expm1(min(max(limit, shown), LARGE)),
        detectable=math.expm1(min(detectable, LARGE)),
        pairs=h.size,
        seconds=float(np.median(np.asarray(times.base, float))),
        outcome=outcome,
    )


def sign_flip(values: ArrayLike) -> float:
    """Two-sided p of the sum of signed ranks under all 2^n flips of signs, exactly; ties share a rank, zeros say nothing."""
    x = np.ravel(np.asarray(values, float))
    x = x[x != 0]
    if not len(x):
        return 1.0
    _, where, shares = np.unique(np.abs(x), return_inverse=True, return_counts=True)
    doubled = (2 * np.cumsum(shares) - shares + 1)[where]  # twice the rank, because a shared one may be a half
    chances = np.ones(1)
    for rank in doubled:  # the distribution of the sum of the positive ranks
        flipped = np.zeros(len(chances) + rank)
        flipped[: len(chances)] += chances / 2
        flipped[rank:] += chances / 2
        chances = flipped
    positive, total = int(doubled[x > 0].sum()), int(doubled.sum())
    far = abs(2 * positive - total)
    return min(1.0, float(chances[np.abs(2 * np.arange(total + 1) - total) >= far].sum()))
