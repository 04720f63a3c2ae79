"""A base model in 8 or 4 bits, through bitsandbytes (`pip install zobench[quantised]`)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from zobench.spec import QUANTISED, EnvironmentUnmet, UsageError


def quantisation(kind: str, dtype: str, device: str, kept: Callable[[], list[str]]) -> dict[str, Any]:
    """Arguments of `from_pretrained` for `kind` of QUANTISED; none for "none".

    "8bit" is LLM.int8() (Dettmers et al., arXiv:2208.07339), "4bit" NF4 (arXiv:2305.14314), computed in `dtype`.
    kept: modules that stay in `dtype`, asked for only where something is quantised.
    """
    if kind not in QUANTISED:
        raise UsageError(f"quantise {kind!r}: choose from {', '.join(QUANTISED)}")
    if kind == "none":
        return {}
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says at every layer that it rounds
    try:
        import accelerate  # noqa: F401
        import bitsandbytes  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise EnvironmentUnmet(f"a {kind} model needs {error.name}: pip install zobench[quantised]") from error
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_8bit=kind == "8bit",
        load_in_4bit=kind == "4bit",
        llm_int8_skip_modules=kept(),
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    return {"quantization_config": config, "device_map": {"": device}}


def keep_gradients(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights at the first evaluation on a CPU: its packed layers pass no gradient on."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
