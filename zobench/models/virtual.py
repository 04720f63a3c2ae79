"""Virtual tokens in front of a text: a prefix of keys and values in every layer, or a prompt of input embeddings.

Both act inside the model, through transformers' interface for attention functions, so that a model looks the same from
outside: masks, positions, caches, `logits_to_keep` and outputs are the text's alone, padded on either side, in training and in
generation, for decoders and for encoders, whose own attention would ignore a cache.

Text positions are moved by the number n of virtual tokens, as peft does: the text begins at position n, so that a prefix
started from the activations of real tokens gives a decoder exactly what these tokens in front of the text would give.
MeZO's code leaves the text at position 0 while it trains.

Sources: prefix, Li & Liang (arXiv:2101.00190), without re-parametrisation and started from real activations as Malladi et al.
(arXiv:2305.17333); prompt, Lester et al. (arXiv:2104.08691).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from zobench.core import philox
from zobench.spec import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PREFIX = ("prefix_keys", "prefix_values")
NAME = "zobench_virtual_tokens"  # of the attention function


@dataclass(frozen=True)
class Layout:
    """How the module names of a family end."""

    attention: str
    position: str  # the module that turns positions into something: a table, or rotations


_ROPE = Layout(".self_attn", ".rotary_emb")
_BERT = Layout(".attention.self", ".position_embeddings")
LAYOUTS = {
    "opt": Layout(".self_attn", ".embed_positions"),
    "gpt2": Layout(".attn", ".wpe"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _ROPE),
    **dict.fromkeys(("bert", "roberta", "xlm-roberta"), _BERT),
    "distilbert": Layout(".attention", ".position_embeddings"),
}
ENCODERS = ("bert", "roberta", "xlm-roberta", "distilbert")


def add_prefix(model: PreTrainedModel, ids: Tensor, dtype: torch.dtype) -> None:
    """Give every attention `prefix_keys` and `prefix_values`, (n, heads * width) in `dtype`: what the tokens `ids` have there.

    ids: (n,) int64. A decoder's are those of the tokens alone, from left to right, an encoder's of a text of these tokens.
    """
    attentions = prepare(model)
    found = activations(model, ids, attentions)
    for attention, (key, value) in zip(attentions, found, strict=True):
        attention.prefix_keys = nn.Parameter(flat(key).to(dtype))
        attention.prefix_values = nn.Parameter(flat(value).to(dtype))
    _shift(model, Shift(len(ids)))


def add_prompt(model: PreTrainedModel, ids: Tensor, dtype: torch.dtype) -> None:
    """Give the `stack` a `prompt`, an embedding (n, width) in `dtype` started from the rows `ids` of its input embeddings."""
    attentions = prepare(model)
    table = model.get_input_embeddings()
    with torch.no_grad():
        start = table(ids).to(dtype)
    base = stack(model)
    base.prompt = nn.Embedding(*start.shape, _weight=start, device=start.device)
    if model.config.model_type in ENCODERS:
        base.register_forward_pre_hook(append_prompt, with_kwargs=True)
        base.register_forward_hook(strip_prompt)
        return
    shift = Shift(len(ids))
    _shift(model, shift)
    run = Run(shift, attentions)
    base.register_forward_pre_hook(run.before)
    base.register_forward_hook(run.after, always_call=True)


def stack(model: PreTrainedModel) -> Any:
    """The module that turns input ids into hidden states; OPT's language model calls it past its base model."""
    return getattr(model.base_model, "decoder", model.base_model)


def prefixes(model: PreTrainedModel) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Keys and values of each layer."""
    return [(a.prefix_keys, a.prefix_values) for a in _attentions(model)]  # type: ignore[misc]


@contextmanager
def taken_out(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model has no prefix and no prompt among its weights, and must not be run."""
    held = [(a, name, getattr(a, name)) for a in _attentions(model) for name in PREFIX if hasattr(a, name)]
    held += [(stack(model), "prompt", stack(model).prompt)] if hasattr(stack(model), "prompt") else []
    for owner, name, _ in held:
        delattr(owner, name)
    try:
        yield
    finally:
        for owner, name, value in held:
            setattr(owner, name, value)


def random_tokens(vocabulary: int, n: int, seed: int) -> Tensor:
    """(n,) int64, uniform in [0, vocabulary): the second draw of the stream of initial weights."""
    return (philox.uniform(seed, 1, 0, philox.WEIGHTS, n).double() * vocabulary).long()


# --- attention --------------------------------------------------------------------------------------------------------


def prepare(model: PreTrainedModel) -> list[nn.Module]:
    """Make a model run `attend`; its attention modules in the order of its layers."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if model.config.model_type not in LAYOUTS:
        raise UsageError(
            f"virtual tokens are for models of type {', '.join(LAYOUTS)}, not {model.config.model_type}; take lora"
        )
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return _attentions(model)


def _attentions(model: PreTrainedModel) -> list[nn.Module]:
    return _ending(model, LAYOUTS[model.config.model_type].attention)


def _ending(model: PreTrainedModel, suffix: str) -> list[nn.Module]:
    return [module for name, module in model.base_model.named_modules() if ("." + name).endswith(suffix)]


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> Any:
    """transformers' attention by torch's kernel, with the module's virtual keys and values before the text's.

    query: (B, heads, T, d); key, value: (B, key heads, S, d); attention_mask: None or (B, 1, T, S), bool or to be added.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if "seen" in module.__dict__:
        module.seen.append((key, value))  # type: ignore[union-attr]
    virtual = _virtual(module, key)
    if virtual is not None:
        attention_mask = widen(module, virtual[0].shape[2], query.shape[2], key, attention_mask)
        key, value = (torch.cat([v.to(t.dtype), t], dim=2) for v, t in zip(virtual, (key, value), strict=True))
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def _virtual(module: nn.Module, key: Tensor) -> tuple[Tensor, Tensor] | None:
    """Keys and values (B, key heads, n, d) that go before the text's."""
    batch, heads, _, width = key.shape
    if "computed" in module.__dict__:
        k, v = module.computed  # type: ignore[misc]
    elif hasattr(module, "prefix_keys"):
        k, v = (p.view(-1, heads, width).transpose(0, 1)[None] for p in (module.prefix_keys, module.prefix_values))  # type: ignore[union-attr]
    else:
        return None
    return k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1)


def widen(module: nn.Module, n: int, queries: int, key: Tensor, mask: Tensor | None) -> Tensor | None:
    """A mask with n more columns in front, which every query sees. None stands for a causal or for no mask."""
    keys = key.shape[2]
    if mask is not None:
        return pad(mask, (n, 0), value=mask.dtype == torch.bool)
    if queries == 1 or not getattr(module, "is_causal", True):
        return None
    return torch.ones(queries, n + keys, dtype=torch.bool, device=key.device).tril(n + keys - queries)[None, None]


@torch.no_grad()
def activations(model: PreTrainedModel, ids: Tensor, attentions: list[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values (1, key heads, n, d) of each layer when the model reads `ids` and nothing else."""
    for attention in attentions:
        attention.seen = []  # type: ignore[assignment]
    try:
        model.base_model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None])
        return [attention.seen[0] for attention in attentions]  # type: ignore[index]
    finally:
        for attention in attentions:
            del attention.seen


def flat(heads: Tensor) -> Tensor:
    """(1, heads, n, d) -> (n, heads * d)."""
    return heads[0].transpose(0, 1).flatten(1).clone()


# --- positions --------------------------------------------------------------------------------------------------------


@dataclass
class Shift:
    """How far text positions are moved now."""

    by: int

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs.get("position_ids") is not None:
            return args, {**kwargs, "position_ids": kwargs["position_ids"] + self.by}
        *others, positions = args
        return (*others, positions + self.by), kwargs


def _shift(model: PreTrainedModel, shift: Shift) -> None:
    (module,) = _ending(model, LAYOUTS[model.config.model_type].position)
    module.register_forward_pre_hook(shift, with_kwargs=True)


# --- prompts ----------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """A decoder's prompt as keys and values: no token of it sees the text, so one short run serves all rows of a batch."""

    shift: Shift
    attentions: list[nn.Module]
    inside: bool = False

    def before(self, base: Any, args: tuple[Any, ...]) -> None:
        if self.inside:
            return
        moved, self.inside, self.shift.by = self.shift.by, True, 0
        for attention in self.attentions:
            attention.seen = []  # type: ignore[assignment]
        try:
            base(inputs_embeds=_prompt(base).to(base.get_input_embeddings().weight.dtype)[None], use_cache=False)
            for attention in self.attentions:
                attention.computed = attention.seen[0]  # type: ignore[index]
        finally:
            self.inside, self.shift.by = False, moved
            for attention in self.attentions:
                attention.__dict__.pop("seen", None)

    def after(self, *_: Any) -> None:
        if not self.inside:
            for attention in self.attentions:
                attention.__dict__.pop("computed", None)


def _prompt(base: Any) -> Tensor:
    """(n, width), read through the module that holds it."""
    return base.prompt(torch.arange(base.prompt.num_embeddings, device=base.prompt.weight.device))


def append_prompt(base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An encoder's inputs with the prompt behind the text, at the positions before it: the order of the rest is kept.

    An encoder knows order by positions alone, so that this is the prompt in front of the text.
    """
    given = inspect.signature(base.forward).bind_partial(*args, **kwargs).arguments
    given |= given.pop("kwargs", {})
    ids, embeds = given.pop("input_ids", None), given.pop("inputs_embeds", None)
    if embeds is None:
        embeds = base.get_input_embeddings()(ids)
    rows, length, _ = embeds.shape
    n, device = base.prompt.num_embeddings, embeds.device
    prompt = _prompt(base).to(embeds.dtype).expand(rows, -1, -1)
    mask = given.get("attention_mask")
    mask = torch.ones(rows, length, device=device, dtype=torch.long) if mask is None else mask
    first, positions = _positions(base, ids, rows, length, device, given.get("position_ids"))
    virtual = torch.arange(first, first + n, device=device).expand(rows, -1)
    given["inputs_embeds"] = torch.cat([embeds, prompt], dim=1)
    given["attention_mask"] = pad(mask, (0, n), value=1)
    given["position_ids"] = torch.cat([positions + n, virtual], dim=1)
    if given.get("token_type_ids") is not None:
        given["token_type_ids"] = pad(given["token_type_ids"], (0, n))
    return (), given


def _positions(
    base: Any, ids: Tensor | None, rows: int, length: int, device: torch.device, given: Tensor | None
) -> tuple[int, Tensor]:
    """(the first position there is, those of the text as the model would count them)."""
    count = getattr(base.embeddings, "create_position_ids_from_input_ids", None)
    first = 0 if count is None else base.embeddings.padding_idx + 1
    if given is not None:
        return first, given
    if count is not None and ids is not None:
        return first, count(ids, base.embeddings.padding_idx)
    return first, torch.arange(first, first + length, device=device).expand(rows, -1)


def strip_prompt(base: Any, args: tuple[Any, ...], output: Any) -> Any:
    """The outputs at the text's positions."""
    cut = partial(_without_last, base.prompt.num_embeddings)
    output.last_hidden_state = cut(output.last_hidden_state)
    if output.get("hidden_states") is not None:
        output.hidden_states = tuple(map(cut, output.hidden_states))
    return output


def _without_last(n: int, hidden: Tensor) -> Tensor:
    return hidden[:, : hidden.shape[1] - n]
