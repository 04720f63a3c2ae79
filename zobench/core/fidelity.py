"""What rounding does to a method: do probes and updates arrive in the weights as they were meant?

Measured on slices, on copies, beside the run: nothing of it enters the trajectory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zobench.core.perturb import Direction, perturb
from zobench.core.zeroth_order import ZerothOrder

TENSORS, ELEMENTS = 16, 1 << 16  # how much is looked at: the first elements of evenly spread tensors


@torch.no_grad()
def measure(optimizer: ZerothOrder) -> dict[str, float | None]:
    """The fidelity columns, from the last step's first probe and its update.

    probe_cosine, probe_unmoved: the probe in the parameters' dtype against the probe as meant (float64).
    lost_updates: share of weights that the update should have moved and did not; update_gain: the move's projection on the
    intended one, over its size (1 is exact). restore_drift: ||w after probing - w|| / ||w||; 0 where probes never write.
    """
    tensors = optimizer.tensors
    numbers = sorted({round(i * (len(tensors) - 1) / max(TENSORS - 1, 1)) for i in range(TENSORS)})
    slices = [tensors[i].data.reshape(-1)[:ELEMENTS] for i in numbers]
    meant, moved = _moves(slices, numbers, optimizer.last_probe, [1.0] * len(numbers))
    direction, scales = optimizer.last_write
    intended, written = _moves(slices, numbers, direction, [scales[min(i, len(scales) - 1)] for i in numbers])
    return {
        "restore_drift": _drift(slices, numbers, optimizer) if optimizer.evaluator.mode == "inplace" else 0.0,
        "probe_cosine": _ratio(meant @ moved, meant.norm() * moved.norm()),
        "probe_unmoved": _unmoved(meant, moved),
        "lost_updates": _unmoved(intended, written),
        "update_gain": _ratio(intended @ written, intended @ intended),
    }


def _moves(
    slices: list[Tensor], numbers: list[int], direction: Direction, scales: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """(meant, arrived): the change of the weights in exact arithmetic, and after rounding to their dtype."""
    meant, arrived = [], []
    for wide in (True, False):
        base = [w.double() if wide else w for w in slices]
        out = [torch.empty_like(w) for w in base]
        perturb(base, out, direction, index=numbers, scale=scales)
        (meant if wide else arrived).extend(o.double() - w.double() for o, w in zip(out, slices, strict=True))
    return torch.cat(meant), torch.cat(arrived)


def _drift(slices: list[Tensor], numbers: list[int], optimizer: ZerothOrder) -> float | None:
    """There and back again on a copy: what mode `inplace` leaves behind."""
    there, back = ([torch.empty_like(w) for w in slices] for _ in range(2))
    perturb(slices, there, optimizer.last_probe, index=numbers)
    perturb(there, back, -optimizer.last_probe, index=numbers)
    change = torch.cat([b.double() - w.double() for b, w in zip(back, slices, strict=True)])
    return _ratio(change.norm(), torch.cat(slices).double().norm())


def _unmoved(meant: Tensor, moved: Tensor) -> float | None:
    return _ratio(((moved == 0) & (meant != 0)).sum(), (meant != 0).sum())


def _ratio(a: Tensor, b: Tensor) -> float | None:
    return float(a) / float(b) if float(b) else None
