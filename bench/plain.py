"""Candidate scoring as in the released code (princeton-nlp/MeZO): what problems/scoring.py is measured against.

In training each candidate is a row of its own, padded on the left to a multiple of 8, and the logits of all positions are
made; in evaluation there is one forward per candidate, without a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from zobench.problems.text import Tokens, pad_rows


def log_likelihoods(model: nn.Module, rows: Sequence[Tokens], pad: int) -> list[Tensor]:
    """Of each row, the log-likelihoods of its option tokens."""
    inputs = pad_rows([row.ids for row in rows], pad, "cpu")
    logits = model(
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        position_ids=inputs.position_ids,
        use_cache=False,
    ).logits
    every = logits[:, :-1].log_softmax(-1).gather(2, inputs.input_ids[:, 1:, None])[..., 0]
    return [values[-row.option :] for values, row in zip(every, rows, strict=True)]


def loss(model: nn.Module, encoded: Sequence[Any], pad: int, kind: str) -> Tensor:
    """The training loss of examples (sequences, right ones), `kind` as in INFO["loss"]."""
    if kind == "tokens":
        return -torch.cat(log_likelihoods(model, [s[right[0]] for s, right in encoded], pad)).mean()
    found = iter(log_likelihoods(model, [s for sequences, _ in encoded for s in sequences], pad))
    logits = torch.stack([torch.stack([next(found).mean() for _ in sequences]) for sequences, _ in encoded])
    return cross_entropy(logits, torch.tensor([right[0] for _, right in encoded]))


@torch.no_grad()
def accuracy(model: nn.Module, encoded: Sequence[Any], pad: int) -> float:
    """One forward per candidate."""
    right = 0
    for sequences, golds in encoded:
        means = [float(log_likelihoods(model, [s], pad)[0].mean()) for s in sequences]
        right += int(np.argmax(means)) in golds
    return right / len(encoded)


def cached(model: Any, encoded: Sequence[Any]) -> Tensor:
    """The loss over candidates of one token, prompt first and candidates from its cache: two forwards for an example."""
    losses = []
    for sequences, right in encoded:
        ids = torch.tensor([sequences[0].ids[:-1]])
        prompt = model(input_ids=ids[:, :-1], use_cache=True)
        logits = model(input_ids=ids[:, -1:], past_key_values=prompt.past_key_values, use_cache=True).logits[0, -1]
        labels = torch.tensor([s.ids[-1] for s in sequences])
        losses.append(cross_entropy(logits.log_softmax(-1)[labels][None], torch.tensor(right[:1])))
    return torch.stack(losses).mean()
