"""Language models and their heads: from the hub, from a directory, or with the project's own random weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zobench.models.identity import check_directory, check_random, looks_local
from zobench.models.quantise import keep_gradients, quantisation
from zobench.models.shapes import MASKED, RANDOM, TINY
from zobench.models.vocabulary import BUNDLED, bundled_tokenizer, masked_tokenizer
from zobench.spec import EnvironmentUnmet, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER = BUNDLED

# kind -> (transformers' Auto class, what it gives a model)
KINDS = {
    "causal": ("AutoModelForCausalLM", "language-model head"),
    "masked": ("AutoModelForMaskedLM", "masked-language-model head"),
    "classification": ("AutoModelForSequenceClassification", "sequence-classification head"),
    "spans": ("AutoModelForQuestionAnswering", "question-answering head"),
}
# positions begin behind the padding's
COUNTED_PAST_PADDING = (
    "camembert",
    "data2vec-text",
    "esm",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)
HEADS = ("random", "checkpoint", "probe")
WAY_OUT = "random:opt-nano or random:roberta-nano, which need neither"


def load_model(
    name: str,
    *,
    kind: str = "causal",
    labels: int = 0,
    head: str = "random",
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    quantised: str = "none",
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A language model on `device` in `dtype`, in eval mode, and its tokenizer.

    Args:
        name: a hub id, a directory with `config.json` and safetensors, `tiny`, which is the bundled one (a directory of
            that name is `./tiny`), or `random:NAME` with NAME in `RANDOM`, whose weights are a function of `seed` alone.
        kind: which of `KINDS`; "classification" has `labels` outputs (1: a regression), "spans" a start and an end score.
        head: "random", drawn by `draw_weights` whatever the checkpoint has; "probe", the same until a problem fits it;
            "checkpoint", its own. Of kinds "classification" and "spans" only. A pretrained model's `zobench_new` lists the
            parameters that were drawn.
        revision: of a hub model.
        seed: in [0, 2**32), of all weights that are drawn.
        quantised: "none", "8bit" or "4bit": the linear layers of the base model, through bitsandbytes.

    Raises:
        UsageError: an unknown random model, a directory that cannot be read, a model of another kind, a missing head.
        EnvironmentUnmet: the hub does not answer, or does not have the model, or a package is missing.
    """
    config = configuration(name, revision)
    _check_kind(name, config, kind)
    if kind == "classification":
        config.num_labels = labels
    if name.startswith("random:"):
        if head == "checkpoint" and kind in ("classification", "spans"):
            raise UsageError(f"model {name}: its weights are random, so it has no head of its own; use head=random")
        tokenizer = masked_tokenizer() if config.model_type in MASKED else bundled_tokenizer()
        model = _random_model(config, kind, seed, dtype, device, quantised)
    else:
        model, tokenizer = _pretrained(name, config, kind, head, revision, seed, dtype, device, quantised)
    if quantised != "none":
        keep_gradients(model)
    if kind == "classification":
        _set_padding(model, tokenizer)
    return model.eval(), tokenizer


def is_masked(name: str, revision: str | None = None) -> bool:
    """Whether a model is a masked one (it reads in both directions and has a mask to fill in), by its configuration alone.

    Raises as `load_model` does.
    """
    return _fills_masks(configuration(name, revision))


def _fills_masks(config: PreTrainedConfig) -> bool:
    classes = config.architectures or []
    if any(c.endswith("ForMaskedLM") for c in classes):
        return True
    if getattr(config, "is_decoder", False) or any(c.endswith(("ForCausalLM", "LMHeadModel")) for c in classes):
        return False
    return not config.is_encoder_decoder and type(config) in _auto("masked")._model_mapping


def head_parameters(model: nn.Module) -> list[str]:
    """Names of the parameters outside the base model, as `named_parameters` of `model` (or of its peft wrapper) has them.

    The output layer of a language model is one of them unless it is the embedding too.
    """
    whole: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    inside = {id(p) for p in whole.base_model.parameters()}
    outside = {id(p) for p in whole.parameters()} - inside
    return [n for n, p in model.named_parameters() if id(p) in outside and ".original_module." not in n]


def max_tokens(config: PreTrainedConfig) -> int | None:
    """The longest text that a model takes, in tokens; None where its configuration sets no limit."""
    limit = getattr(config, "max_position_embeddings", None)
    if limit and config.model_type in COUNTED_PAST_PADDING:
        limit -= int(config.pad_token_id or 0) + 1
    return limit


# --- configurations ---------------------------------------------------------------------------------------------------


def configuration(name: str, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of a model as `load_model` takes it; a fresh object, which a caller may change."""
    from transformers import AutoConfig

    if name.startswith("random:"):
        return random_config(name.removeprefix("random:"))
    path = _place(name)
    with _explained(name):
        return AutoConfig.from_pretrained(path, revision=_revision(name, revision), trust_remote_code=False)


def random_config(name: str) -> PreTrainedConfig:
    """The configuration of a random model; its special ids are those of the bundled tokenizer."""
    check_random(name)
    from transformers import AutoConfig

    return AutoConfig.for_model(**RANDOM[name], bos_token_id=0, pad_token_id=1, eos_token_id=2)


def _place(name: str) -> str:
    """A hub id, or the directory that a name means, which is there and complete."""
    if name == "tiny":
        return str(TINY)
    if looks_local(name):
        check_directory(Path(name).expanduser())
        return str(Path(name).expanduser())
    return name


def _revision(name: str, revision: str | None) -> str:
    return "main" if name == "tiny" or not revision else revision


@cache
def _auto(kind: str) -> Any:
    import transformers

    return getattr(transformers, KINDS[kind][0])


def _check_kind(name: str, config: PreTrainedConfig, kind: str) -> None:
    if kind not in KINDS:
        raise UsageError(f"kind {kind!r}: choose from {', '.join(KINDS)}")
    masked = _fills_masks(config)
    if kind == "causal" and masked:
        raise UsageError(
            f"model {name} is a masked language model and cannot score a text from left to right; it is for kshot_*, "
            "glue_* and squad_extractive; this task takes a causal one, such as random:opt-nano"
        )
    if kind == "masked" and not masked:
        raise UsageError(
            f"model {name} is not a masked language model and cannot fill in a label word; a causal one is for sst2 and "
            "the other tasks of candidates and answers; this task takes a masked one, such as random:roberta-nano"
        )
    if type(config) not in _auto(kind)._model_mapping:
        raise UsageError(f"model {name}: transformers has no {KINDS[kind][1]} for models of type {config.model_type}")


def _set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """One padding for both: a head on a causal model reads the last token that is not its configuration's padding.

    The tokenizer's; else the configuration's, the end of a text, or the unknown token.
    """
    if tokenizer.pad_token_id is None:
        known = model.config.pad_token_id
        named = tokenizer.convert_ids_to_tokens(known) if known is not None and 0 <= known < len(tokenizer) else None
        tokenizer.pad_token = named or tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None and not _fills_masks(model.config):
        raise UsageError(
            "the model's tokenizer has no padding token, and no token to take for it; set tokenizer.pad_token and save it"
        )
    if tokenizer.pad_token_id is not None and model.config.model_type not in COUNTED_PAST_PADDING:
        model.config.pad_token_id = tokenizer.pad_token_id


# --- pretrained weights -----------------------------------------------------------------------------------------------


def _pretrained(
    name: str,
    config: PreTrainedConfig,
    kind: str,
    head: str,
    revision: str | None,
    seed: int,
    dtype: str,
    device: str,
    quantised: str,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoTokenizer

    if head not in HEADS:
        raise UsageError(f"head {head!r}: choose from {', '.join(HEADS)}")
    path, revision = _place(name), _revision(name, revision)
    extra = quantisation(quantised, dtype, device, lambda: _kept(config, kind))
    renamed = _renamed(config, kind)
    with _explained(name), _whole(path, revision), _quiet():
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
        model, info = _auto(kind).from_pretrained(
            path,
            config=config,
            revision=revision,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=kind in ("classification", "spans"),
            output_loading_info=True,
            key_mapping=renamed,
            **extra,
        )
    if renamed:  # or save_pretrained would give the weights their old names, which no class with this head reads
        vars(model).pop("_weight_conversions", None)
    if not extra:
        model = model.to(device)
    drawn = _to_draw(name, model, kind, head, {*info["missing_keys"], *(m[0] for m in info["mismatched_keys"])})
    draw_weights(model, seed=seed, std=initial_std(config), only=drawn)
    model.zobench_new = [n for n, _ in model.named_parameters() if n in drawn]
    return model, tokenizer


def _renamed(config: PreTrainedConfig, kind: str) -> dict[str, str] | None:
    """Weights of a language model that the class with this head has under another name (Llama's, for question answering)."""
    here, there = (_auto(k)._model_mapping.get(type(config), None) for k in (kind, "causal"))
    if here is None or there is None or here.base_model_prefix == there.base_model_prefix:
        return None
    return {rf"^{there.base_model_prefix}\.": f"{here.base_model_prefix}."}


def _to_draw(name: str, model: PreTrainedModel, kind: str, head: str, absent: set[str]) -> set[str]:
    """Names of the parameters that a checkpoint without `absent` leaves to be drawn."""
    heads = set(head_parameters(model)) if kind in ("classification", "spans") else set()
    # A pooler stands between an encoder and a head; checkpoints of language models do not have it.
    lost = sorted(n for n in absent - heads if not (heads and ".pooler." in n))
    if lost:
        raise UsageError(f"model {name}: {len(lost)} weights are not in its files or of another size, first {lost[0]}")
    if head == "checkpoint" and absent & heads:
        raise UsageError(
            f"model {name} has no {KINDS[kind][1]} of this size ({sorted(absent & heads)[0]}); use head=random"
        )
    return absent if head == "checkpoint" else absent | heads


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What a library says at length, in one line with a way out."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise EnvironmentUnmet(
            f"model {name!r} could not be loaded ({first_line(error)}); give a directory written by save_pretrained, "
            f"a hub id with a network connection, or {WAY_OUT}"
        ) from error


@contextmanager
def _whole(path: str, revision: str) -> Iterator[None]:
    """A file of weights that cannot be read is named; the library that reads it does not say which it is."""
    from safetensors import SafetensorError, safe_open

    try:
        yield
    except SafetensorError as error:
        from huggingface_hub import snapshot_download

        there = Path(path).is_dir()
        folder = Path(path if there else snapshot_download(path, revision=revision, local_files_only=True))
        for file in sorted(folder.glob("*.safetensors")):
            try:
                with safe_open(file, framework="pt"):
                    pass
            except SafetensorError as found:
                again = "write or copy it" if there else f"delete {folder} and run"
                raise EnvironmentUnmet(f"{file} is not whole ({first_line(found)}); {again} again") from error
        raise EnvironmentUnmet(f"model {path!r}: its weights cannot be read ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """No bar, which would tear ours, in every worker too, and no report of the weights that are drawn afterwards."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


# --- random weights ---------------------------------------------------------------------------------------------------


def _random_model(
    config: PreTrainedConfig, kind: str, seed: int, dtype: str, device: str, quantised: str
) -> PreTrainedModel:
    extra = quantisation(quantised, dtype, device, lambda: _kept(config, kind))
    with torch.device("meta"):  # skips torch's own initialisation, which would cost more than ours
        model = _auto(kind).from_config(config)
    weights = model.to(getattr(torch, dtype)).to_empty(device=device)
    weights.tie_weights()  # to_empty gives the two names of the embedding two storages
    draw_weights(weights, seed=seed, std=initial_std(config))
    with _quiet():  # what is no parameter, such as the table of positions, transformers makes when it loads
        model = type(model).from_pretrained(
            None, config=config, state_dict=dict(weights.named_parameters()), dtype=getattr(torch, dtype), **extra
        )
    return model if extra else model.to(device)


def _kept(config: PreTrainedConfig, kind: str) -> list[str]:
    """Modules that stay in full precision when the rest is quantised: the head, and the pooler before it."""
    with torch.device("meta"):
        model = _auto(kind).from_config(config)
    names = {name for name, _ in model.named_children()} - {model.base_model_prefix}
    return sorted(names | {"lm_head", "pooler"})


def initial_std(config: PreTrainedConfig) -> float:
    """The standard deviation with which the architecture draws its weights."""
    return getattr(config, "init_std", None) or config.initializer_range


@torch.no_grad()
def draw_weights(model: nn.Module, *, seed: int, std: float, only: Iterable[str] | None = None) -> None:
    """Set every parameter, or those named in `only`: weights N(0, std^2), padding row and biases 0, norm gains 1.

    The numbers depend on the seed and on the parameter's place in `named_parameters()` only, whatever the device; a
    lower precision has them rounded once.
    """
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed {seed}: must lie in [0, 2**32)")
    wanted = None if only is None else set(only)
    places = {p: i for i, (n, p) in enumerate(model.named_parameters()) if wanted is None or n in wanted}
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            place = places.pop(p, None)
            if place is None:
                continue  # tied and set already: the output layer that is the embedding
            if p.ndim == 1:  # a bias, or the gain of a layer norm or RMS norm
                p.fill_(1.0 if name == "weight" else 0.0)
            else:
                fill_normal(p, std, seed, place)
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                p[module.padding_idx] = 0.0


def fill_normal(p: torch.Tensor, std: float, seed: int, index: int) -> None:
    """p = std * z, z the gaussian of tensor `index` in the stream of initial weights."""
    from zobench.core import philox
    from zobench.core.perturb import perturb, seeded

    p.zero_()
    perturb([p], [p], seeded("gaussian", 0, seed, philox.WEIGHTS), index=[index], scale=std)
