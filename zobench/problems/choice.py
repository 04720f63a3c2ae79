"""Candidate classification: the highest mean log-likelihood per token wins (Malladi et al., arXiv:2305.17333)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from zobench.problems.language import LanguageProblem
from zobench.problems.scoring import Options, pack
from zobench.problems.text import Tokens

# What a task's prompt function returns: prompt, candidate texts, index of the right one (the first of several trains).
Example = tuple[str, Sequence[str], int | Sequence[int]]


class Batch(NamedTuple):
    """B examples and their candidates, flattened to C options; with loss "tokens" only the right ones, C = B."""

    options: Options
    example: Tensor  # (C,) int64
    candidate: Tensor  # (C,) int64
    gold: Tensor  # (B,) int64

    @property
    def tokens(self) -> int:
        """Tokens that one forward reads, without padding."""
        return self.options.tokens


def golds(example: Example) -> list[int]:
    """Indices of the right candidates."""
    return [example[2]] if isinstance(example[2], int | np.integer) else list(example[2])


class ChoiceProblem(LanguageProblem):
    """Training loss by `info["loss"]`, in nats:

    - "candidates": cross-entropy with the candidates' mean log-likelihoods as logits, mean over examples;
    - "tokens": minus the log-likelihood of the right candidate's tokens, mean over all of them in the batch.
    """

    def check(self, example: Example) -> None:
        if not all(0 <= gold < len(example[1]) for gold in golds(example)):
            raise IndexError(f"label {example[2]} of {len(example[1])} candidates")

    def encode(self, example: Example) -> tuple[list[Tokens], int]:
        prompt, candidates, _ = example
        return [self.encoder.option(prompt, prompt + text) for text in candidates], golds(example)[0]

    def length(self, encoded: tuple[list[Tokens], int]) -> int:
        return max(len(sequence.ids) for sequence in encoded[0])

    def collate(self, encoded: list[tuple[list[Tokens], int]]) -> Batch:
        if self.info["loss"] == "tokens":
            encoded = [([sequences[gold]], 0) for sequences, gold in encoded]
        flat = [(i, j, s) for i, (sequences, _) in enumerate(encoded) for j, s in enumerate(sequences)]
        device = self.scorer.device
        options = pack([s for *_, s in flat], self.scorer.pad, device)
        numbers = ([i for i, *_ in flat], [j for _, j, _ in flat], [gold for _, gold in encoded])
        return Batch(options, *(torch.tensor(n, device=device) for n in numbers))

    def loss(self, batch: Batch) -> Tensor:
        """() float32 (float64 for a float64 model), nats. One forward of the model."""
        scores = self.scorer(batch.options)  # (C, K)
        mask = batch.options.mask
        if self.info["loss"] == "tokens":
            value = -scores.sum() / mask.sum()
        else:
            means = scores.sum(1) / mask.sum(1)  # (C,)
            shape = (len(batch.gold), int(batch.candidate.max()) + 1)
            logits = means.new_full(shape, -torch.inf).index_put((batch.example, batch.candidate), means)
            value = cross_entropy(logits, batch.gold)
        return value.to(torch.promote_types(value.dtype, torch.float32))

    def measure(self, examples: list[Example]) -> dict[str, float]:
        """accuracy (a fraction; ties go to the first candidate) and loss (nats, as in training)."""
        encoded = [self.encode(example) for example in examples]
        flat = [s for sequences, _ in encoded for s in sequences]
        sums = self.scorer.sums(flat)
        lengths = np.array([s.option for s in flat])
        cuts = np.cumsum([len(sequences) for sequences, _ in encoded])[:-1]
        means = np.split(sums / lengths, cuts)  # per example, (candidates,)
        right = [int(np.argmax(m)) in golds(e) for m, e in zip(means, examples, strict=True)]
        gold = [g for _, g in encoded]
        if self.info["loss"] == "tokens":
            places = np.concatenate([[0], cuts]) + gold
            loss = -sums[places].sum() / lengths[places].sum()
        else:
            with np.errstate(invalid="ignore"):  # diverged weights score nan or -inf, which the loss then shows
                loss = np.mean([np.logaddexp.reduce(m) - m[g] for m, g in zip(means, gold, strict=True)])
        return {"accuracy": float(np.mean(right)), "loss": float(loss)}
