"""The layers of a model, read from its parameters' names: what block-wise methods take in turn.

Without names every tensor is a block of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

LEVELS = ("layer", "part", "linear")
NUMBERED = re.compile(r"^(.*?\.)?\d+(?=\.|$)")  # up to the first number: model.decoder.layers.3


def blocks(named: Sequence[tuple[str, Any]], level: str = "layer") -> list[list[int]]:
    """Lists of tensor numbers, in the order in which the blocks first appear; every tensor is in one.

    layer: what shares a prefix up to its first number (a transformer layer); all tensors before the first such layer are a
    block (the embedding) and all after it another (final norm, head). part: within a layer, by the next name (attention, MLP);
    linear: by module (a weight with its bias).
    """
    if level not in LEVELS:
        raise ValueError(f"unknown level {level!r}: choose from {', '.join(LEVELS)}")
    found: dict[Any, list[int]] = {}
    seen = False
    for i, (name, _) in enumerate(named):
        found.setdefault(_key(name, level, seen), []).append(i)
        seen = seen or bool(NUMBERED.match(name))
    return list(found.values())


def _key(name: str, level: str, seen: bool) -> Any:
    layer = NUMBERED.match(name)
    if layer is None:
        outside = "head" if seen else "embedding"
        return outside if level == "layer" else name.rpartition(".")[0] or name
    if level == "layer" or layer.end() == len(name):
        return layer.group()
    if level == "linear":
        return name.rpartition(".")[0]
    return layer.group() + "." + name[layer.end() + 1 :].split(".")[0]
