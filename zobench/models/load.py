"""Causal language models: from the hub, from a directory, or with the project's own random weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from zobench.models.identity import check_directory, check_random, looks_local
from zobench.models.shapes import RANDOM, TINY
from zobench.spec import EnvironmentUnmet, UsageError

if TYPE_CHECKING:
    from transformers import OPTConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER = Path(__file__).parent / "bpe"


def load_causal_lm(
    name: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    seed: int = 0,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model on `device` in `dtype`, in eval mode, and its tokenizer.

    `name` is a hub id, a directory with `config.json` and safetensors, `tiny`, which is the bundled one (a directory of
    that name is `./tiny`), or `random:NAME` with NAME in `RANDOM`, whose weights are a function of `seed` in [0, 2**32)
    alone. `revision` and `seed` are unused where they have no meaning.

    Raises:
        UsageError: an unknown random model, or a directory that cannot be read.
        EnvironmentUnmet: the hub does not answer, or does not have the model.
    """
    if name.startswith("random:"):
        return random_opt(name.removeprefix("random:"), seed=seed, dtype=dtype, device=device)
    if name == "tiny":
        name, revision = str(TINY), None
    if looks_local(name):
        check_directory(Path(name).expanduser())
        name = str(Path(name).expanduser())
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # its bar would tear ours, in every worker too
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            name,
            revision=revision or "main",
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise EnvironmentUnmet(
            f"model {name!r} could not be loaded ({first_line(error)}); give a directory written by save_pretrained, "
            "a hub id with a network connection, or random:opt-125m, which needs neither"
        ) from error
    return model.to(device).eval(), tokenizer


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def random_opt(
    name: str, *, seed: int, dtype: str = "float32", device: str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """An OPT of the named shape with weights drawn by `draw_weights`, and the bundled tokenizer."""
    from transformers import AutoTokenizer, OPTForCausalLM

    with torch.device("meta"):  # skips torch's own initialisation, which would cost more than ours
        model = OPTForCausalLM(opt_config(name))
    model = model.to(getattr(torch, dtype)).to_empty(device=device)
    model.tie_weights()  # to_empty gives the two names of the embedding two storages
    draw_weights(model, seed=seed, std=model.config.init_std)
    return model.eval(), AutoTokenizer.from_pretrained(TOKENIZER)


def opt_config(name: str) -> OPTConfig:
    """The configuration of a random model; its special ids are those of the bundled tokenizer."""
    check_random(name)
    from transformers import OPTConfig

    return OPTConfig(**RANDOM[name], bos_token_id=0, pad_token_id=1, eos_token_id=2)


@torch.no_grad()
def draw_weights(model: nn.Module, *, seed: int, std: float) -> None:
    """Set every parameter: weights N(0, std^2), padding row and biases 0, norm gains 1.

    The numbers depend on the seed and on the parameter's place in `named_parameters()` only, whatever the device; a
    lower precision has them rounded once.
    """
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed {seed}: must lie in [0, 2**32)")
    places = {p: i for i, (_, p) in enumerate(model.named_parameters())}
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            place = places.pop(p, None)
            if place is None:
                continue  # tied and set already: the output layer that is the embedding
            if isinstance(module, nn.LayerNorm) or name == "bias":
                p.fill_(1.0 if name == "weight" else 0.0)
            else:
                fill_normal(p, std, seed, place)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx] = 0.0


def fill_normal(p: torch.Tensor, std: float, seed: int, index: int) -> None:
    """p = std * z, z the gaussian of tensor `index` in the stream of initial weights."""
    from zobench.core import philox
    from zobench.core.perturb import perturb, seeded

    p.zero_()
    perturb([p], [p], seeded("gaussian", 0, seed, philox.WEIGHTS), index=[index], scale=std)
