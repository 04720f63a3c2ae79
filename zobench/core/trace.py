"""What a run leaves behind so that anybody can rebuild its weights: the probe values, in order, and what changed.

Header: format, run seed, law, the list of trained parameters, the digest of the start weights. Per step: the values the
driver sent (float64), each group value that changed, each observation. 16 KB per 1,000 steps of a two-point method.
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

FORMAT = "zobench-trace/1"


@dataclass
class Trace:
    header: dict[str, Any]
    values: array = field(default_factory=lambda: array("d"))  # every probe value, step after step
    counts: array = field(default_factory=lambda: array("i"))  # how many of them each step took
    events: list[list[Any]] = field(
        default_factory=list
    )  # [step, "group", group, key, value] | [step, "observe", metrics]

    @property
    def steps(self) -> int:
        return len(self.counts)

    def to_columns(self) -> dict[str, Any]:
        return {
            "trace_header": json.dumps(self.header, sort_keys=True),
            "trace_values": list(self.values),
            "trace_counts": list(self.counts),
            "trace_events": json.dumps(_plain(self.events), allow_nan=False),
        }

    @classmethod
    def from_columns(cls, header: str, values: Sequence[float], counts: Sequence[int], events: str) -> Trace:
        parsed = json.loads(header)
        if parsed.get("format") != FORMAT:
            raise ValueError(f"trace format {parsed.get('format')!r}: this version reads {FORMAT}")
        return cls(parsed, array("d", values), array("i", counts), json.loads(events))


def _plain(value: Any) -> Any:
    """JSON has no inf and nan: they become texts, which float() reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def parameter_list(named: Iterable[tuple[str, Tensor]]) -> list[list[Any]]:
    """[name, shape, dtype] of each trained tensor, in the order that numbers them."""
    return [[name, list(p.shape), str(p.dtype).removeprefix("torch.")] for name, p in named]


def _tensor_digest(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy()).digest() if flat.numel() else hashlib.sha256().digest()


def digest(named: Iterable[tuple[str, Tensor]]) -> str:
    """sha256 over names, shapes, dtypes and bytes: two models with equal digests have bit-equal weights."""
    pairs = list(named)
    with ThreadPoolExecutor(max(torch.get_num_threads(), 1)) as pool:  # hashlib releases the GIL
        digests = list(pool.map(_tensor_digest, [p for _, p in pairs]))
    whole = hashlib.sha256(json.dumps(parameter_list(pairs)).encode())
    for part in digests:
        whole.update(part)
    return whole.hexdigest()
