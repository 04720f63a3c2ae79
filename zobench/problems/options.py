"""Options that tasks of one kind share: their defaults, limits and choices. A task's file may set another default.

Standard library only: listing and planning read it. A task takes them by `**shared` in the signature of its `build`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIZES = dict(num_train=1000, num_dev=500, num_eval=1000)
SCORING = dict(bos_mode="mezo", loss_dtype="float32")

SHARED: dict[str, dict[str, Any]] = {
    "choice": dict(**SIZES, objective="loss", calibration="none", **SCORING),
    "generation": dict(**SIZES, objective="loss", max_new_tokens=50, **SCORING),
    "kshot": dict(k=16, split=13, num_eval=1000, objective="loss", template="prompt", **SCORING),
    # max_length: of a masked prompt or a head; 0 is the protocol's, 128 tokens (256 for the masked prompts of MNLI, RTE, WNLI)
    "glue": dict(
        form="prompt",
        head="random",
        rows="drawn",
        max_length=0,
        **SIZES,
        objective="loss",
        calibration="none",
        **SCORING,
    ),
    "spans": dict(
        head="random",
        rows="drawn",
        **SIZES,
        objective="loss",
        max_length=384,
        doc_stride=128,
        n_best=20,
        max_answer=30,
    ),
}
LIMITS = dict(
    num_train=">0",
    num_dev=">0",
    num_eval=">0",
    max_new_tokens=">0",
    k=">0",
    split=">=0",
    max_length=">=16",
    doc_stride=">0",
    n_best=">0",
    max_answer=">0",
)
CHOICES: dict[str, tuple[str, ...]] = dict(
    bos_mode=("mezo", "hf"),
    loss_dtype=("float32", "model"),
    calibration=("none", "sfc", "icl_sfc"),
    form=("prompt", "head"),
    head=("random", "probe", "checkpoint"),
    rows=("drawn", "first"),
)
OTHER: dict[str, dict[str, tuple[str, ...]]] = dict(spans=dict(head=("random", "checkpoint")))
ACCURACY, F1 = ("loss", "accuracy"), ("loss", "f1")
OBJECTIVES = dict(choice=ACCURACY, generation=F1, kshot=ACCURACY, glue=ACCURACY, spans=F1)
DIFFERENTIABLE = ("loss",)  # the objectives that have a gradient


def bounds(kind: str, known: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """(limits, choices) of those options of a task of this kind that it has."""
    choices = CHOICES | {"objective": OBJECTIVES.get(kind, DIFFERENTIABLE)} | OTHER.get(kind, {})
    if kind not in SHARED:
        return {}, {}
    limits = LIMITS | ({"max_length": ">=0"} if kind == "glue" else {})
    return {k: v for k, v in limits.items() if k in known}, {k: v for k, v in choices.items() if k in known}


def chosen(info: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """INFO as these options have it: `by` = dict(OPTION={VALUE: dict(...)}) says which keys a value replaces, whole.

    >>> chosen(dict(hub="one", by=dict(version={2: dict(hub="two")})), dict(version=2))["hub"]
    'two'
    """
    found = dict(info)
    for option, values in info.get("by", {}).items():
        found |= values.get(options.get(option), {})
    return found
