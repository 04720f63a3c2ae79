"""What a change is held to: the [gate] table of a suite. Standard library only.

    [gate]                                      a metric and its rule; a metric that is left out has the rule of METRICS
    forwards = "exact"                          equal, or the gate fails
    loss = {rtol = 1e-6, floor = 1e-14}         |after - before| <= max(rtol |before|, floor |loss at the start|)
    final_digest = "note"                       a difference is said and fails nothing
    inference_bytes = "off"                     not looked at

    [gate.timing]                               how wall-clock is compared; see `Timing`
    [[gate.timing.run]]                         what is timed: tasks, optimizers and the fields of plan.Request

Metrics of every machine (`everywhere`) are the same wherever the same code runs; the others are compared only between two
checkouts on one machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from zobench.registry import did_you_mean
from zobench.spec import UsageError

WORDS = ("exact", "note", "off")


@dataclass(frozen=True)
class Rule:
    """How closely a metric is held. how: within | note | off; rtol: relative; floor: relative to the loss at the start."""

    how: str = "within"
    rtol: float = 0.0
    floor: float = 0.0


@dataclass(frozen=True)
class Metric:
    """What can be held. better: lower | higher where a move in that direction is an improvement, "" where none is."""

    doc: str
    everywhere: bool
    rule: Rule = Rule()
    better: str = ""
    number: bool = True


METRICS = {
    "status": Metric("how the run ended", True, number=False),
    "steps": Metric("optimizer steps", True),
    "forwards": Metric("forward passes", True),
    "backwards": Metric("backward passes", True),
    "flops": Metric("floating-point operations", True, better="lower"),
    "state_bytes": Metric("state of the optimizer", True, better="lower"),
    "weight_bytes": Metric("all weights of the model", True),
    "parameters_count": Metric("trainable numbers", True),
    "shapes": Metric("name, shape and dtype of every trainable tensor", True, number=False),
    "trace_counts": Metric("probe values of each step", True, number=False),
    "loss": Metric("final loss of a float64 regression", True, Rule(rtol=1e-6, floor=1e-14)),
    "train_loss": Metric("mean training loss of the last part of the curve", False, Rule(rtol=1e-6, floor=1e-14)),
    "value": Metric("the ranked metric", False, Rule(rtol=1e-6, floor=1e-14)),
    "trace_values": Metric("every probe value, bit for bit", False, number=False),
    "final_digest": Metric("the kept weights, bit for bit", False, number=False),
    "peak_bytes": Metric("peak of tensor memory while training", False, better="lower"),
    "inference_bytes": Metric("peak of tensor memory of inference", False, better="lower"),
}
TIME, LEAK, RUN = "step_seconds", "leak_bytes", "run"  # gates beside the metrics
GATES = (*METRICS, TIME, LEAK)


@dataclass(frozen=True)
class Timing:
    """How wall-clock is compared. Nothing is decided before the last pair: the numbers are fixed beforehand.

    tolerance: a slowdown up to this fraction is none. level: probability of a false alarm over all cells together.
    launches: how often the processes are started anew. rounds: pairs in each. seconds: length of a block of steps.
    """

    tolerance: float = 0.10
    level: float = 0.01
    launches: int = 6
    rounds: int = 12
    seconds: float = 0.03
    runs: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Gate:
    """The rules of a suite, one for every metric."""

    rules: Mapping[str, Rule] = field(default_factory=lambda: {name: m.rule for name, m in METRICS.items()})
    timing: Timing = field(default_factory=Timing)


def parse(table: Any) -> Gate:
    """The gate of a [gate] table; UsageError for what means nothing."""
    if not isinstance(table, Mapping):
        raise UsageError("[gate] is a table: write [gate] on a line of its own")
    for name in table:
        if name != "timing" and name not in METRICS:
            raise UsageError(f"[gate]: unknown metric {name!r}{did_you_mean(name, (*METRICS, 'timing'))}")
    written = {name: _rule(name, rule) for name, rule in table.items() if name != "timing"}
    return Gate({**Gate().rules, **written}, _timing(table.get("timing", {})))


def _rule(name: str, rule: Any) -> Rule:
    if rule == "exact":
        return Rule()
    if rule in ("note", "off"):
        return Rule(rule)
    if isinstance(rule, str):
        raise UsageError(f"[gate] {name}: {rule!r} is none of {', '.join(WORDS)}{did_you_mean(rule, WORDS)}")
    if not isinstance(rule, Mapping) or not rule:
        raise UsageError(f'[gate] {name}: write "exact", "note", "off" or {{rtol = 1e-6}}')
    for key, value in rule.items():
        if key not in ("rtol", "floor"):
            raise UsageError(f"[gate] {name}: unknown key {key!r}{did_you_mean(key, ('rtol', 'floor'))}")
        if not _amount(value):
            raise UsageError(f"[gate] {name}: {key} = {value!r} must be a number of at least 0")
    if not METRICS[name].number:
        raise UsageError(f'[gate] {name} is no number and has no tolerance: write "exact", "note" or "off"')
    return Rule("within", **{key: float(value) for key, value in rule.items()})


def _timing(table: Any) -> Timing:
    if not isinstance(table, Mapping):
        raise UsageError("[gate.timing] is a table: write [gate.timing] on a line of its own")
    known = [f.name for f in fields(Timing) if f.name != "runs"]
    for key in table:
        if key != "run" and key not in known:
            raise UsageError(f"[gate.timing]: unknown key {key!r}{did_you_mean(key, (*known, 'run'))}")
    for key in ("tolerance", "level", "seconds"):
        if not _amount(table.get(key, 1)) or not table.get(key, 1) or (key == "level" and table.get(key, 0) >= 0.5):
            raise UsageError(f"[gate.timing] {key} = {table[key]!r}: write a positive number, such as {_shown(key)}")
    for key, least in (("launches", 2), ("rounds", 1)):
        value = table.get(key, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise UsageError(f"[gate.timing] {key} = {value!r}: must be a whole number of at least {least}")
    runs = table.get("run", [])
    if not isinstance(runs, list) or not all(isinstance(run, Mapping) for run in runs):
        raise UsageError("write [[gate.timing.run]] with two brackets: there may be several")
    return Timing(**{key: table[key] for key in known if key in table}, runs=tuple(runs))


def _shown(key: str) -> str:
    return f"{key} = {getattr(Timing(), key)}"


def _amount(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
