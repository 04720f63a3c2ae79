"""What a reader asks of the board: which runs, cut at which budget, ranked by what."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from zobench.spec import Budget, UsageError

# What a board can be ranked by -> what that is, in words. All but accuracy are better when lower.
AXES = {
    "accuracy": "the score",
    "time": "seconds inside the optimizer's step until the target",
    "forwards": "forward-equivalents (a backward counts 2) until the target",
    "flops": "FLOPs until the target",
    "memory": "peak bytes of tensors while training",
    "energy": "joules until the target",
}
PATTERNS = ("task", "suite", "optimizer", "model", "adapter", "dtype")


@dataclass(frozen=True)
class View:
    """The whole board by the score, unless something else is asked.

    Patterns are names with wildcards; an empty tuple admits everything. budget: each run is judged by the best it had
    validated within it. target: the validation score whose cost is ranked; by default each table's own.
    """

    task: tuple[str, ...] = ()
    suite: tuple[str, ...] = ()
    optimizer: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    adapter: tuple[str, ...] = ()
    dtype: tuple[str, ...] = ()
    rank_by: str = "accuracy"
    budget: Budget | None = None
    target: float | None = None

    def __post_init__(self) -> None:
        if self.rank_by not in AXES:
            raise UsageError(f"rank by {self.rank_by!r}: choose {', '.join(AXES)}")
        if self.target is not None and not math.isfinite(self.target):
            raise UsageError(f"target {self.target}: write a number")
        if self.target is not None and not self.to_target:
            raise UsageError("a target is for --rank-by time, forwards, flops or energy")

    @property
    def to_target(self) -> bool:
        """Whether it ranks by the cost of a score, not by the score."""
        return self.rank_by not in ("accuracy", "memory")

    @property
    def points(self) -> bool:
        """Whether it needs the validated points of the runs."""
        return self.budget is not None or self.to_target

    def admits(self, record: Mapping[str, Any]) -> bool:
        """Whether a run is asked for."""
        return all(_matches(record[name], getattr(self, name)) for name in PATTERNS)

    def asked(self) -> str:
        """The patterns, as text."""
        return ", ".join(f"{name} {pattern}" for name in PATTERNS for pattern in getattr(self, name))


def _matches(name: str | None, patterns: Iterable[str]) -> bool:
    patterns = tuple(patterns)
    return not patterns or any(fnmatchcase(name or "none", pattern) for pattern in patterns)
