"""What a run is: names and numbers (`Job`), what a task is told (`Setting`), what it gives back (`Problem`).

Standard library only: this file is read by commands that must answer before torch could be imported.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

DTYPES = ("float32", "float64", "bfloat16", "float16")
DTYPE_ALIASES = {"fp32": "float32", "fp64": "float64", "bf16": "bfloat16", "fp16": "float16"}
TIERS = {"smoke": "forwards=200", "small": "forwards=4000", "full": "forwards=40000"}
ADAPTERS: dict[str, dict[str, Any]] = {  # name -> options; the values of the MeZO paper, prompt: of ZO-LLM's
    "none": {},
    "lora": {"r": 8, "alpha": 16},
    "prefix": {"tokens": 5, "init": "real"},
    "prompt": {"tokens": 10},
}
ADAPTER_CHOICES = {
    "init": ("real", "random")
}  # of its options that are words; a default one is not in the canonical text
QUANTISED = ("none", "8bit", "4bit")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class ZobenchError(Exception):
    """A mistake that one line explains; `code` is the exit code of the command line."""

    code = 1


class UsageError(ZobenchError):
    """An argument that cannot be right: a name, a value, a combination."""

    code = 2


class MismatchError(ZobenchError):
    """Something that had to be equal is not: a replayed digest, a regressed number."""

    code = 3


class RunsFailed(ZobenchError):
    """The command did its work, but some runs ended without a result."""

    code = 4


class NothingMeasured(ZobenchError):
    """There is no result to show or to compare with."""

    code = 5


class EnvironmentUnmet(ZobenchError):
    """The machine lacks something: data, a model, a device, room on the disk, a package."""

    code = 6


@dataclass(frozen=True)
class Budget:
    """How much a run may spend: `steps`, `forwards` (forward-equivalents: a backward counts 2), `flops` or `time` (seconds)."""

    kind: str
    amount: float

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `steps=2000`, `forwards=4000`, `flops=1e15`, `time=30m`, or a tier: smoke, small, full."""
        kind, _, amount = TIERS.get(text, text).partition("=")
        if kind not in ("steps", "forwards", "flops", "time"):
            known = ", ".join(TIERS)
            raise UsageError(f"budget {text!r}: write steps=N, forwards=N, flops=N or time=30m, or a tier ({known})")
        unit = SECONDS.get(amount[-1:], 0.0) if kind == "time" else 0.0
        try:
            value = float(amount[:-1]) * unit if unit else float(amount)
        except ValueError:
            raise UsageError(f"budget {text!r}: {amount!r} is not an amount; write for example {kind}=2000") from None
        if not 0 < value < float("inf") or (kind != "time" and value != int(value)):
            raise UsageError(f"budget {text!r}: the amount must be positive" + ("" if kind == "time" else " and whole"))
        return cls(kind, value if kind == "time" else int(value))

    def __str__(self) -> str:
        return f"{self.kind}={self.amount:g}s" if self.kind == "time" else f"{self.kind}={int(self.amount)}"

    def spent(self, steps: int, forwards: int, backwards: int, seconds: float, flops: int = 0) -> float:
        """The fraction of the budget used, 1.0 when it is gone."""
        used = {"steps": steps, "forwards": forwards + 2 * backwards, "flops": flops, "time": seconds}[self.kind]
        return used / self.amount


def canonical(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, shortest floats that read back equal."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _private(default: Any = None) -> Any:
    return field(default=default, metadata={"identity": False})


def _later(default: Any) -> Any:
    """A field that came after the first results: at its default it is not in the identity, so that their cells stay."""
    return field(default=default, metadata={"identity": "changed"})


def _identifies(f: Field[Any], value: Any) -> bool:
    rule = f.metadata.get("identity", True)
    return value != f.default if rule == "changed" else rule


@dataclass(frozen=True)
class Job:
    """One run, as names and numbers: it crosses to a subprocess, a cluster or Parquet as text."""

    task: str
    task_version: int
    task_options: Mapping[str, Any]  # every option, defaults included
    optimizer: str
    optimizer_options: Mapping[str, Any]  # every option; lr is "task" where the task publishes the rate
    model: str | None  # hub id, random:NAME, or local:NAME for a directory
    revision: str | None  # commit on the hub, or a digest of the directory's files
    adapter: str
    dtype: str
    seed: int  # directions, batch order, initialisation
    data_seed: int  # which rows are train, dev and test
    budget: Budget
    batch_size: int
    schedule: str  # of the learning rate: constant | linear
    evaluations: int  # validations spread over the budget
    score: str  # validation | test
    data: str  # fingerprint: hub:<id>@<commit>, sha256:<hex> of the files, or "generated"
    task_path: str | None = _private()  # of a task given as a file
    optimizer_path: str | None = _private()
    model_path: str | None = _private()  # of a model given as a directory; its digest is the identity
    data_dir: str | None = _private()  # where local rows lie; the fingerprint is their identity
    quantised: str = _later("none")  # the base's weights: 8bit or 4bit

    def identity(self, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
        """The names and numbers that make the cell, as plain JSON values."""
        everything = {f: getattr(self, f.name) for f in fields(self) if f.name not in without}
        values = {f.name: value for f, value in everything.items() if _identifies(f, value)}
        if "budget" in values:
            values["budget"] = str(self.budget)
        return {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}

    @property
    def cell(self) -> str:
        """sha256 of the canonical JSON of the identity: reports group by it, commits are compared on it."""
        return sha256(canonical(self.identity()))

    @property
    def lineage(self) -> str:
        """The cell without its budget: a finished run of the same lineage can be continued."""
        return sha256(canonical(self.identity(without=("budget", "evaluations"))))

    def to_json(self) -> str:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return canonical(values | self.identity())

    @classmethod
    def from_json(cls, text: str) -> Job:
        values = json.loads(text)
        return cls(**values | {"budget": Budget.parse(values["budget"])})


@dataclass(frozen=True)
class Setting:
    """What a task is told when it is built, beside its own options."""

    model: str | None = None  # hub id, local directory or random:NAME; None for synthetic tasks
    revision: str | None = None
    adapter: str = "none"
    dtype: str = "float32"
    device: str = "cpu"
    seed: int = 0
    data_seed: int = 0
    batch_size: int = 16
    score: str = "test"  # "validation": the test rows must not even be read
    data: str = "generated"  # the fingerprint; a hub fingerprint names the commit to load
    data_dir: Path | None = None
    quantised: str = "none"  # the base's weights: none, 8bit or 4bit


class Problem(Protocol):
    """A task brought to life: one model, one loss, its batches and its evaluation."""

    @property
    def model(self) -> nn.Module:
        """On the setting's device, in the setting's dtype; its root call is what counts as a forward."""
        ...

    @property
    def rates(self) -> Mapping[str, float]:
        """Step rate by family of optimizer; empty where the task publishes none."""
        ...

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the row must say: num_train, num_dev, num_test, partial_data, precision ..."""
        ...

    def batch(self, step: int, part: int | str | None = None) -> Any:
        """The batch of this step: a pure function of step, part, seed and data seed.

        part: None is the step's own minibatch, k > 0 its k-th further one, drawn independently; "long" and "short" one of the
        rows above and at most the median length in tokens. Asked only of what a method asks for; a problem that has no
        such minibatch raises a UsageError.
        """
        ...

    def loss(self, batch: Any) -> Tensor:
        """() float32 or float64: the mean loss of the batch, in nats where it is a likelihood."""
        ...

    def evaluate(self, split: str) -> dict[str, float]:
        """Metrics of `validation` or `test`, by name; fractions, not percentages."""
        ...

    def save(self, directory: Path) -> None:
        """Write the weights (safetensors) and what `from_pretrained` needs."""
        ...


SPEC = re.compile(r"^\s*(?P<name>[^\[\]]+?)\s*(?:\[(?P<options>.*)\])?\s*$", re.DOTALL)
