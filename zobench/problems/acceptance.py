"""Which nonconvex instances can be solved: the gaps that gradient descent and Newton reached, from `acceptance.toml`.

An instance is hard where both ended above HARD. The table, written by scripts/acceptance.py, holds default knobs only.
"""

from __future__ import annotations

import functools
import math
import tomllib
from pathlib import Path

HARD = 1e-4  # relative gap


@functools.cache
def _table() -> dict[str, dict[str, dict[str, list[float]]]]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def gaps(name: str, scale: str, instance: int) -> dict[str, float]:
    """Method (gd, newton) -> relative gap that it reached; empty where nobody has measured."""
    rows = _table().get(name, {}).get(scale, {})
    return {method: values[instance] for method, values in rows.items() if instance < len(values)}


def best_gap(name: str, scale: str, instance: int) -> float | None:
    """The least relative gap found; None where nobody has measured."""
    return min(gaps(name, scale, instance).values(), default=None)


def hard(name: str, scale: str, instance: int) -> bool | None:
    """Whether both methods failed on the instance; None where nobody has measured, or gradient descent failed alone."""
    found = gaps(name, scale, instance)
    best = min(found.values(), default=math.inf)
    if best <= HARD:
        return False
    return True if all(gap < math.inf for gap in found.values()) and found else None
