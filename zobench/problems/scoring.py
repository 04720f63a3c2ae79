"""Log-likelihood of option tokens, with no more tokens read and no more logits made than it takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zobench.models.virtual import NAME as VIRTUAL
from zobench.problems.packing import cut, lay_out
from zobench.problems.text import CONTEXT, Padded, Tokens
from zobench.spec import UsageError

LOSS_DTYPES = ("float32", "model")
EVALUATION_TOKENS = 16_384  # per batch
EVALUATION_ROWS = 64  # per batch of generation
EVALUATION_LOGITS = 1024  # positions per batch: bounds the logits, (positions, vocabulary)
# Decoders that take a mask over pairs of tokens and explicit positions: checked against single sequences in the tests.
PACKABLE = frozenset(
    "cohere exaone4 falcon gemma gemma2 gemma3_text glm gpt2 gpt_bigcode gpt_neox gptj granite helium llama mistral olmo olmo2 "
    "opt phi phi3 qwen2 qwen3 smollm3 stablelm starcoder2".split()
)


@dataclass(frozen=True)
class Options:
    """C options over S distinct inputs, laid out in R rows. The last token of a sequence is never an input, so labels of
    one token share one. Logits are wanted at N cells; an option of fewer than K tokens stands at the right.
    """

    inputs: Padded  # R rows
    row: Tensor  # (N,) int64
    column: Tensor  # (N,) int64, counted from the right, -1 the last
    at: Tensor  # (C, K) int64: which of the N cells predicts each token
    target: Tensor  # (C, K) int64: option tokens
    mask: Tensor  # (C, K) bool: False left of a short option
    tokens: int  # that one forward reads, without padding; counted here, where it costs no synchronisation


def by_input(sequences: Sequence[Tokens]) -> dict[tuple[int, ...], list[int]]:
    """Input -> numbers of the sequences that share it."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, sequence in enumerate(sequences):
        groups.setdefault(tuple(sequence.ids[:-1]), []).append(number)
    return groups


def pack(
    sequences: Sequence[Tokens],
    pad: int,
    device: torch.device | str,
    extra: int = 0,
    dtype: torch.dtype | None = None,
    side: str = "left",
) -> Options:
    """Tensors for `Scorer`, options in the order of `sequences`. dtype: `Scorer.packs`; None gives each input its row.

    extra, side: more padding, and where it stands; for tests.
    """
    groups = by_input(sequences)
    forest = lay_out(list(groups), pad, device, dtype=dtype, extra=extra, side=side)
    width, (_, total) = max(s.option for s in sequences), forest.inputs.input_ids.shape
    cells: dict[tuple[int, int], int] = {}
    at = np.zeros((len(sequences), width), dtype=np.int64)
    for place, numbers in enumerate(groups.values()):
        row, columns = int(forest.row[place]), forest.columns[place] - total
        for number in numbers:
            option = sequences[number].option
            for k, column in enumerate(columns[-option:].tolist(), width - option):
                at[number, k] = cells.setdefault((row, column), len(cells))
    target = [[0] * (width - s.option) + s.ids[-s.option :] for s in sequences]
    mask = [[False] * (width - s.option) + [True] * s.option for s in sequences]
    rows, columns = zip(*cells, strict=True)
    tensors = (
        torch.tensor(rows),
        torch.tensor(columns),
        torch.from_numpy(at),
        torch.tensor(target),
        torch.tensor(mask),
    )
    return Options(forest.inputs, *(t.to(device, non_blocking=True) for t in tensors), tokens=forest.tokens)


def forward_parameters(model: nn.Module) -> frozenset[str]:
    """Names of the arguments of a model's forward, looking through a peft wrapper, which passes them on."""
    return frozenset(inspect.signature(unwrapped(model).forward).parameters)


def unwrapped(model: Any) -> nn.Module:
    """The model inside a peft wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def gathered(model: nn.Module, row: Tensor, column: Tensor) -> Iterator[list[bool]]:
    """Inside, the output layer sees the N hidden states at (row, column) alone: logits are (1, N, V).

    Yields a list that is empty until the output layer has run; a compiled model may never run the hook.
    """
    ran: list[bool] = []

    def gather(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        ran.append(True)
        return (arguments[0][row, column][None], *arguments[1:])

    layer = getattr(unwrapped(model), "get_output_embeddings", lambda: None)()
    handle = layer.register_forward_pre_hook(gather) if layer is not None else None
    try:
        yield ran
    finally:
        if handle is not None:
            handle.remove()


def stretches(config: Any) -> bool:
    """Whether rotary positions depend on the longest sequence of a batch."""
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = {scaling.get("rope_type"), scaling.get("type")} | {
        inner.get("rope_type") for inner in scaling.values() if isinstance(inner, dict)
    }
    return bool(kinds & {"longrope", "dynamic"})


class Scorer:
    """Token log-likelihoods of options under a causal language model.

    `loss_dtype` "float32" computes them in at least float32 whatever the model's dtype; "model" in the model's, as
    MeZO does in float16, where they are rounded to about 2^-11.
    """

    def __init__(self, model: nn.Module, pad: int, loss_dtype: str = "float32") -> None:
        if loss_dtype not in LOSS_DTYPES:
            raise UsageError(f"loss_dtype {loss_dtype!r}: choose from {', '.join(LOSS_DTYPES)}")
        self.model, self.pad, self.loss_dtype = model, pad, loss_dtype
        self.accepted = forward_parameters(model)
        self.packs = self._packs()

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _packs(self) -> torch.dtype | None:
        """The dtype of a mask over pairs of tokens, where the model takes one."""
        config = getattr(unwrapped(self.model), "config", None)
        window = getattr(config, "sliding_window", None)
        fits = window is None or window >= CONTEXT  # no sequence is longer than the window, which the mask would undo
        known = getattr(config, "model_type", None) in PACKABLE and "position_ids" in self.accepted and fits
        known = known and not getattr(config, "alibi", False) and not stretches(config)
        takes = getattr(config, "_attn_implementation", None) in ("sdpa", "eager", VIRTUAL)
        return self.model.dtype if known and takes else None  # type: ignore[return-value]

    def pack(self, sequences: Sequence[Tokens]) -> Options:
        """`pack` for this model."""
        return pack(sequences, self.pad, self.device, dtype=self.packs)

    def logits(self, options: Options) -> Tensor:
        """(N, V): logits at the cells that are wanted. One forward of the model."""
        inputs = options.inputs
        arguments: dict[str, Any] = dict(
            attention_mask=inputs.attention_mask, position_ids=inputs.position_ids, use_cache=False
        )
        arguments = {name: value for name, value in arguments.items() if name in self.accepted}
        with gathered(self.model, options.row, options.column) as ran:
            logits = self.model(input_ids=inputs.input_ids, **arguments).logits
        return logits[0] if ran else logits[options.row, options.column]

    def __call__(self, options: Options) -> Tensor:
        """(C, K) log-likelihoods in nats, 0 where the option has no token."""
        logits = self.logits(options)
        if self.loss_dtype == "float32":
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # (N, V)
        # gather minus logsumexp: log_softmax would write a second (N, V)
        total = logits.logsumexp(-1)[options.at]  # (C, K)
        chosen = logits[options.at, options.target]  # (C, K)
        return torch.where(options.mask, chosen - total, 0.0)

    def sums(self, sequences: Sequence[Tokens]) -> np.ndarray:
        """(C,) float64: the summed log-likelihood of each sequence's option, in nats, computed in batches."""
        result = np.empty(len(sequences))
        # by length, and alike ones together, whose beginnings are then read once
        order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i].ids) // 64, sequences[i].ids))
        lengths, wanted = [len(s.ids) for s in sequences], [s.option for s in sequences]
        for numbers in cut(order, lengths, wanted, EVALUATION_TOKENS, EVALUATION_LOGITS):
            options = self.pack([sequences[n] for n in numbers])
            result[numbers] = self(options).detach().double().sum(1).cpu().numpy()
        return result


def batches(lengths: Sequence[int]) -> Iterator[slice]:
    """Cut rows, longest first, into batches within the limits on tokens and rows; one row always fits."""
    start = 0
    while start < len(lengths):
        size = max(1, min(EVALUATION_ROWS, EVALUATION_TOKENS // max(lengths[start], 1)))
        yield slice(start, start + size)
        start += size


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; not inference mode, whose tensors an engine could not swap back."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
