"""Log-likelihood of option tokens, with no more logits than it takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zobench.problems.text import Padded, Tokens, pad_left
from zobench.spec import UsageError

LOSS_DTYPES = ("float32", "model")
EVALUATION_TOKENS = 16_384  # per batch, padding included
EVALUATION_ROWS = 64  # per batch: bounds the logits, (rows, option tokens, vocabulary)


@dataclass(frozen=True)
class Options:
    """C options over R <= C inputs. The last token of a sequence is never an input, so labels of one token share one.

    Columns are the last K positions of the inputs; an option of fewer tokens stands at the right.
    """

    inputs: Padded  # R rows
    row: Tensor  # (C,) int64: the input of each option
    target: Tensor  # (C, K) int64: option tokens
    mask: Tensor  # (C, K) bool: False left of a short option
    tokens: int  # that one forward reads, without padding; counted here, where it costs no synchronisation


def by_input(sequences: Sequence[Tokens]) -> dict[tuple[int, ...], list[int]]:
    """Input row -> numbers of the sequences that share it."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, sequence in enumerate(sequences):
        groups.setdefault(tuple(sequence.ids[:-1]), []).append(number)
    return groups


def pack(sequences: Sequence[Tokens], pad: int, device: torch.device | str, extra: int = 0) -> Options:
    """Tensors for `Scorer`, options in the order of `sequences`."""
    groups = by_input(sequences)
    row = [0] * len(sequences)
    for place, numbers in enumerate(groups.values()):
        for number in numbers:
            row[number] = place
    width = max(s.option for s in sequences)
    target = torch.tensor([[0] * (width - s.option) + s.ids[-s.option :] for s in sequences])
    mask = torch.tensor([[False] * (width - s.option) + [True] * s.option for s in sequences])
    moved = (t.to(device, non_blocking=True) for t in (torch.tensor(row), target, mask))
    return Options(pad_left(list(groups), pad, device, extra), *moved, tokens=sum(map(len, groups)))


def forward_parameters(model: nn.Module) -> frozenset[str]:
    """Names of the arguments of a model's forward, looking through a peft wrapper, which passes them on."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return frozenset(inspect.signature(base.forward).parameters)


class Scorer:
    """Token log-likelihoods of options under a model.

    `loss_dtype` "float32" computes them in at least float32 whatever the model's dtype; "model" in the model's, as
    MeZO does in float16, where they are rounded to about 2^-11.
    """

    def __init__(self, model: nn.Module, pad: int, loss_dtype: str = "float32") -> None:
        if loss_dtype not in LOSS_DTYPES:
            raise UsageError(f"loss_dtype {loss_dtype!r}: choose from {', '.join(LOSS_DTYPES)}")
        self.model, self.pad, self.loss_dtype = model, pad, loss_dtype
        self.accepted = forward_parameters(model)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def logits(self, inputs: Padded, keep: int) -> Tensor:
        """(R, keep, V): logits at the last `keep` positions. One forward of the model."""
        arguments: dict[str, Any] = dict(
            attention_mask=inputs.attention_mask,
            position_ids=inputs.position_ids,
            logits_to_keep=keep,
            use_cache=False,
        )
        arguments = {name: value for name, value in arguments.items() if name in self.accepted}
        return self.model(input_ids=inputs.input_ids, **arguments).logits[:, -keep:]

    def __call__(self, options: Options) -> Tensor:
        """(C, K) log-likelihoods in nats, 0 where the option has no token."""
        width = options.target.shape[1]
        logits = self.logits(options.inputs, width)
        if self.loss_dtype == "float32":
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # (R, K, V)
        # gather minus logsumexp: log_softmax would write a second (R, K, V)
        total = logits.logsumexp(-1)[options.row]  # (C, K)
        columns = torch.arange(width, device=logits.device)
        chosen = logits[options.row[:, None], columns, options.target]  # (C, K)
        return torch.where(options.mask, chosen - total, 0.0)

    def sums(self, sequences: Sequence[Tokens]) -> np.ndarray:
        """(C,) float64: the summed log-likelihood of each sequence's option, in nats, computed in batches."""
        result = np.empty(len(sequences))
        groups = sorted(by_input(sequences).items(), key=lambda group: len(group[0]), reverse=True)
        for part in batches([len(key) for key, _ in groups]):
            numbers = [number for _, group in groups[part] for number in group]
            options = pack([sequences[n] for n in numbers], self.pad, self.device)
            result[numbers] = self(options).double().sum(1).cpu().numpy()
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
