"""Adapters: a few trained matrices beside a frozen model, through peft (`pip install zobench[peft]`)."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import torch

from zobench.models.load import fill_normal
from zobench.spec import EnvironmentUnmet, UsageError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

LORA = {"r": 8, "alpha": 16}  # the values of the MeZO paper
TARGETS = ["q_proj", "v_proj"]


def add_adapter(model: PreTrainedModel, text: str, *, seed: int) -> nn.Module:
    """Wrap `model` as `text` says: `none`, `lora` or `lora[r=8,alpha=16]`. The model itself is frozen.

    LoRA (Hu et al., arXiv:2106.09685): W + (alpha / r) B A on the query and value projections, B = 0.
    """
    if text == "none":
        return model
    name, options = parse(text)
    if name != "lora":
        raise UsageError(f"no adapter {name!r}; there are none, lora[r=8,alpha=16]")
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise EnvironmentUnmet(f"adapter {text!r} needs peft: pip install zobench[peft]") from error
    missing = [t for t in TARGETS if not any(n.endswith("." + t) for n, _ in model.named_modules())]
    if missing:
        raise UsageError(f"adapter lora: the model has no module named {' or '.join(missing)}")
    config = LoraConfig(
        r=options["r"], lora_alpha=options["alpha"], target_modules=TARGETS, lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    draw_lora(adapted, seed=seed)
    return adapted.eval()


def parse(text: str) -> tuple[str, dict[str, int]]:
    """Read `lora[r=4]` -> ("lora", {"r": 4, "alpha": 16})."""
    match = re.fullmatch(r"\s*(\w+)\s*(?:\[(.*)\])?\s*", text)
    if not match:
        raise UsageError(f"adapter {text!r}: write none, lora or lora[r=8,alpha=16]")
    options = dict(LORA)
    for item in filter(None, (match[2] or "").split(",")):
        key, _, value = (part.strip() for part in item.partition("="))
        if key not in LORA or not value.isdigit() or int(value) == 0:
            raise UsageError(f"adapter {text!r}: options are positive whole r and alpha, not {item.strip()!r}")
        options[key] = int(value)
    return match[1], options


@torch.no_grad()
def draw_lora(model: nn.Module, *, seed: int) -> None:
    """Draw A and zero B with the project's generator, so that a stranger can rebuild them from the seed.

    A ~ N(0, 1 / (3 * inputs)): the variance of peft's kaiming_uniform_(a=sqrt(5)), uniform on +-1/sqrt(inputs).
    Tensors are numbered among the trainable parameters.
    """
    trainable = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    for index, (name, p) in enumerate(trainable):
        if ".lora_A." in name:  # (r, inputs)
            fill_normal(p, 1.0 / math.sqrt(3 * p.shape[1]), seed, index)
        else:
            p.zero_()
