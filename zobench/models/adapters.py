"""Adapters: a few trained numbers beside a frozen model. LoRA through peft (`pip install zobench[peft]`); prefixes and prompts
by `virtual`, saved in peft's format.

Where the model has a head for the task (classification, spans), the head is trained too, and so is what else its checkpoint
did not have, such as a pooler between a masked language model and the head.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zobench.models.load import fill_normal, head_parameters
from zobench.models.virtual import add_prefix, add_prompt, prefixes, random_tokens, stack, taken_out
from zobench.spec import ADAPTERS, SPEC, EnvironmentUnmet, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Query and value projections by model type; others as peft's table has them, which takes what the family allows (GPT-2 has
# one matrix for query, key and value).
QUERY_VALUE = {
    **dict.fromkeys(("opt", "llama", "mistral", "qwen2", "qwen3"), ("q_proj", "v_proj")),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta"), ("query", "value")),
    "distilbert": ("q_lin", "v_lin"),
}
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"  # peft's names
PEFT_OPENS = """A model (`base/`) and its virtual tokens. `peft.AutoPeftModelForCausalLM.from_pretrained` opens this directory.
"""
WE_OPEN = """A model (`base/`) and its virtual tokens. peft's classes do not open this directory; this does, inside it:

    from transformers import {kind}
    from zobench.models.adapters import load_virtual
    model = load_virtual({kind}.from_pretrained("base").eval(), ".")
"""


def add_adapter(model: PreTrainedModel, text: str, *, seed: int) -> nn.Module:
    """Adapt `model` as `text` says and freeze the rest but a head: `none`, or a name of `ADAPTERS` with its options.

    - `lora[r=8,alpha=16]` (Hu et al., arXiv:2106.09685): W + (alpha / r) B A on the query and value projections, B = 0;
    - `prefix[tokens=5]`: keys and values of virtual tokens in every layer, started from those of random tokens, or from
      N(0, 1) with `init=random` (Malladi et al., arXiv:2305.17333, table 17);
    - `prompt[tokens=10]`: input embeddings of virtual tokens, started from those of random tokens (`virtual`).

    Random tokens are uniform over the vocabulary. All numbers are a function of `seed`.
    """
    name, options = parse(text)
    if name == "none":
        return model
    model.requires_grad_(False)
    new = [model.get_parameter(n) for n in getattr(model, "zobench_new", ())]
    exact = torch.float32 if is_quantised(model) else model.dtype  # an adapter on whole-number weights is in float32
    if name == "lora":
        adapted: nn.Module = _add_lora(model, options, seed)
    else:
        ids = random_tokens(model.config.vocab_size, options["tokens"], seed).to(model.device)
        add = add_prompt if name == "prompt" else add_prefix
        add(model, ids, exact)
        adapted = model
        if options.get("init") == "random":
            for i, p in enumerate(p for pair in prefixes(model) for p in pair):
                fill_normal(p.data, 1.0, seed, i)
    if has_own_head(model):
        for head in head_parameters(adapted):
            adapted.get_parameter(head).requires_grad_(True)
        for p in new:
            p.requires_grad_(True)
    return adapted.eval()


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Read `lora[r=4]` -> ("lora", {"r": 4, "alpha": 16}); `plan.adapter` has checked what a user writes."""
    match = SPEC.match(text)
    if match is None or match["name"] not in ADAPTERS:
        raise UsageError(f"no adapter {text!r}; there are {', '.join(ADAPTERS)}")
    options: dict[str, Any] = dict(ADAPTERS[match["name"]])
    for item in filter(None, (match["options"] or "").split(",")):
        key, _, value = (part.strip() for part in item.partition("="))
        known = options.get(key)
        if isinstance(known, int) and value.isdigit() and int(value) > 0:
            options[key] = int(value)
        elif isinstance(known, str):
            options[key] = value
        else:
            raise UsageError(f"adapter {text!r}: {item.strip()!r} is none of its options, whole numbers from 1")
    return match["name"], options


def virtual_tokens(text: str) -> int:
    """By how many tokens an adapter shortens the longest text."""
    return int(parse(text)[1].get("tokens", 0))


def is_quantised(model: nn.Module) -> bool:
    return getattr(model, "quantization_method", None) is not None


def has_own_head(model: PreTrainedModel) -> bool:
    """Whether there is a head for a task, not the one that the model was pretrained with."""
    return type(model).__name__.endswith(("ForSequenceClassification", "ForQuestionAnswering"))


# --- LoRA -------------------------------------------------------------------------------------------------------------


def _peft(what: str) -> Any:
    try:
        import peft
    except ImportError as error:
        raise EnvironmentUnmet(f"adapter {what} needs peft: pip install zobench[peft]") from error
    return peft


def _add_lora(model: PreTrainedModel, options: dict[str, int], seed: int) -> nn.Module:
    peft = _peft("lora")
    kind = model.config.model_type
    table = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    targets = QUERY_VALUE.get(kind) or table.get(kind)
    if not targets:
        raise UsageError(f"adapter lora: the query and value projections of models of type {kind} are not known")
    config = peft.LoraConfig(
        r=options["r"],
        lora_alpha=options["alpha"],
        target_modules=list(targets),
        lora_dropout=0.0,
        fan_in_fan_out=kind == "gpt2",  # its matrices are stored transposed
        task_type="CAUSAL_LM" if model.can_generate() else None,
    )
    adapted = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    draw_lora(adapted, seed=seed)
    return adapted


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


# --- on disk ----------------------------------------------------------------------------------------------------------


def save_adapted(model: Any, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write a model with or without an adapter, and its tokenizer, where they open with equal outputs.

    Without an adapter, and with LoRA, whose matrices are added to a copy of the weights: what from_pretrained opens. In bfloat16
    or float16 the sum is rounded once to that type, so the outputs agree to its precision only, and what is below half a unit
    in a weight's last place is lost. A prefix, a prompt, and LoRA on quantised weights, which would round it away: an adapter
    in peft's format with its model in `base/`. `peft.AutoPeftModelForCausalLM.from_pretrained` opens that of a causal model.
    That of a model with another head is opened by `load_virtual`: peft would look for the head beside the adapter, and its
    pooling would read a virtual token. The directory's README.md says so.
    """
    tokenizer.save_pretrained(directory)
    lora = hasattr(model, "merge_and_unload")
    if lora and not is_quantised(model.get_base_model()):
        copy.deepcopy(model).merge_and_unload().save_pretrained(directory)
    elif lora:
        base = Path(directory).resolve() / "base"
        copy.deepcopy(model).unload().save_pretrained(base)
        model.peft_config["default"].base_model_name_or_path = str(base)
        model.save_pretrained(directory)
    elif table(model) is not None:
        _save_virtual(model, Path(directory).resolve())
        tokenizer.save_pretrained(Path(directory) / "base")
    else:
        model.save_pretrained(directory)


def table(model: Any) -> torch.Tensor | None:
    """A prompt (tokens, width), or a prefix (tokens, layers * 2 * width) as peft lays it out; None without either."""
    if hasattr(stack(model), "prompt"):
        return stack(model).prompt.weight.detach()
    if not any("prefix_keys" in name for name, _ in model.named_parameters()):
        return None
    return torch.cat([p.detach() for pair in prefixes(model) for p in pair], dim=1)


def _save_virtual(model: Any, directory: Path) -> None:
    from safetensors.torch import save_file

    peft, values = _peft("prefix or prompt, to be saved,"), table(model)
    assert values is not None
    with taken_out(model):
        model.save_pretrained(directory / "base")
    tasks = {"ForSequenceClassification": "SEQ_CLS", "ForQuestionAnswering": "QUESTION_ANS"}
    task = next((task for end, task in tasks.items() if type(model).__name__.endswith(end)), None)
    config, prompt = model.config, hasattr(stack(model), "prompt")
    heads = config.num_attention_heads if prompt else getattr(config, "num_key_value_heads", config.num_attention_heads)
    layers = config.num_hidden_layers
    settings = dict(
        num_virtual_tokens=len(values),
        token_dim=values.shape[1] if prompt else values.shape[1] // (2 * layers),
        num_layers=layers,
        num_attention_heads=heads,
        num_transformer_submodules=1,
        task_type="CAUSAL_LM" if model.can_generate() else task,
        base_model_name_or_path=str(directory / "base"),
        inference_mode=True,
    )
    kind = peft.PromptTuningConfig if prompt else peft.PrefixTuningConfig
    kind(**settings).save_pretrained(directory)
    save_file({"prompt_embeddings": values.contiguous().cpu()}, directory / WEIGHTS)
    opened = PEFT_OPENS if model.can_generate() else WE_OPEN.format(kind=type(model).__name__)
    (directory / "README.md").write_text(opened, encoding="utf-8")


@torch.no_grad()
def load_virtual(model: PreTrainedModel, directory: Path) -> PreTrainedModel:
    """Give a model the prefix or the prompt that `save_adapted` wrote."""
    from safetensors.torch import load_file

    values = load_file(Path(directory) / WEIGHTS)["prompt_embeddings"].to(model.device)
    kind = json.loads((Path(directory) / CONFIG).read_text(encoding="utf-8"))["peft_type"]
    ids = torch.zeros(len(values), dtype=torch.long, device=model.device)
    if kind == "PROMPT_TUNING":
        add_prompt(model, ids, values.dtype)
        stack(model).prompt.weight.copy_(values)
        return model
    add_prefix(model, ids, values.dtype)
    places = [p for pair in prefixes(model) for p in pair]
    for p, part in zip(places, values.split([p.shape[1] for p in places], dim=1), strict=True):
        p.copy_(part)
    return model
