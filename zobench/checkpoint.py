"""The state of a run that no trace can rebuild: weights, optimizer state, random state. safetensors, never pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

LIMIT = 1 << 30  # bytes; above, a run is not kept and a larger budget starts anew


def path_of(store: Path, lineage: str) -> Path:
    return store / "checkpoints" / f"{lineage[:16]}.safetensors"


def save(
    path: Path,
    weights: list[tuple[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    kept: list[Tensor] | None,
    about: dict[str, Any],
) -> bool:
    """Write atomically; False where the state is larger than LIMIT. `about`: JSON values that `load` gives back."""
    tensors = {f"weights.{name}": p.detach() for name, p in weights}
    if kept is not None:
        tensors |= {f"kept.{name}": k for (name, _), k in zip(weights, kept, strict=True)}
    skeleton = _unpack(optimizer.state_dict(), tensors, "optimizer")
    tensors["random"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    tensors = {name: t.contiguous().cpu().clone() for name, t in tensors.items()}
    if sum(t.numel() * t.element_size() for t in tensors.values()) > LIMIT:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, {"about": json.dumps(about), "optimizer": json.dumps(skeleton)})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def about(path: Path) -> dict[str, Any]:
    """What the checkpoint says of itself; empty where there is none or it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["about"])
    except Exception:
        return {}


def load(path: Path, weights: list[tuple[str, Tensor]], optimizer: torch.optim.Optimizer) -> list[Tensor] | None:
    """Put weights, optimizer and random state back; returns the kept weights where they were others."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        skeleton = json.loads(file.metadata()["optimizer"])
    with torch.no_grad():
        for name, p in weights:
            p.data.copy_(tensors[f"weights.{name}"])
    optimizer.load_state_dict(_pack(skeleton, tensors))
    torch.set_rng_state(tensors["random"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    kept = [tensors.get(f"kept.{name}") for name, _ in weights]
    return None if any(k is None for k in kept) else kept  # type: ignore[return-value]


def _unpack(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """Move the tensors of a nested state into `tensors`, leaving their names."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[k, _unpack(v, tensors, f"{name}.{k}")] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_unpack(v, tensors, f"{name}.{i}") for i, v in enumerate(value)]}
    return {"value": value}


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {k: _pack(v, tensors) for k, v in content}
    if kind in ("list", "tuple"):
        return (tuple if kind == "tuple" else list)(_pack(v, tensors) for v in content)
    return content
