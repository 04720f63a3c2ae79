"""Candidate classification: the highest mean log-likelihood per token wins (Malladi et al., arXiv:2305.17333)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from zobench.problems.causal import CausalProblem
from zobench.problems.data import Source
from zobench.problems.scoring import Options
from zobench.problems.text import Tokens
from zobench.spec import Setting, UsageError

# What a task's prompt function returns: prompt, candidate texts, index of the right one (or of several; the first
# trains), and, where the task can be calibrated, the prompt that says nothing about the example.
Example = tuple[str, Sequence[str], int | Sequence[int]] | tuple[str, Sequence[str], int | Sequence[int], str]
Encoded = tuple[list[Tokens], list[int]]  # the candidates' sequences; which are right


class WithRow(tuple):
    """An example that keeps its row, for metrics that need more of it than the prompt."""

    row: Mapping[str, Any]
    whole: bool  # whether every row of its split of the data is among the examples


Extra = Callable[[Sequence[Any], Sequence[int]], dict[str, float]]  # (examples, predictions) -> metrics by name


class Batch(NamedTuple):
    """B examples and their candidates, flattened to C options; with loss "tokens" only the right ones, C = B."""

    options: Options
    example: Tensor  # (C,) int64
    candidate: Tensor  # (C,) int64
    gold: Tensor  # (B,) int64
    right: Tensor  # (C,) bool

    @property
    def tokens(self) -> int:
        """Tokens that one forward reads, without padding."""
        return self.options.tokens


def golds(example: Example) -> list[int]:
    """Indices of the right candidates."""
    return [example[2]] if isinstance(example[2], int | np.integer) else list(example[2])


class ChoiceProblem(CausalProblem):
    """Training loss by `info["loss"]`, in nats:

    - "candidates": cross-entropy with the candidates' mean log-likelihoods as logits, mean over examples;
    - "tokens": minus the log-likelihood of the right candidate's tokens, mean over all of them in the batch.

    `calibration` changes predictions, not training: "none" takes the highest mean log-likelihood; "sfc" the highest
    log p(candidate | prompt) - log p(candidate | calibration prompt) (Holtzman et al., arXiv:2104.08315), and "icl_sfc"
    keeps the demonstrations in front of the calibration prompt.

    Args:
        extra: further metrics of (examples, predicted candidates), fractions; the examples are `WithRow`.
    """

    def __init__(
        self,
        setting: Setting,
        info: Mapping[str, Any],
        example: Callable[[Mapping[str, Any]], Example],
        *,
        calibration: str = "none",
        extra: Extra | None = None,
        **options: Any,
    ) -> None:
        super().__init__(setting, info, example, **options)
        self.calibration, self.extra = calibration, extra
        self.facts["calibration"] = calibration
        if calibration != "none" and self.objective != "loss":
            raise UsageError("objective=accuracy trains on plain predictions; leave calibration out")
        if calibration != "none" and self.encoder.bos is None:
            raise UsageError(f"calibration={calibration} scores candidates behind BOS, which this tokenizer lacks")

    def check(self, example: Example) -> None:
        if not all(0 <= gold < len(example[1]) for gold in golds(example)):
            raise IndexError(f"label {example[2]} of {len(example[1])} candidates")
        if self.calibration != "none" and len(example) < 4:
            raise ValueError("the task has no prompt for calibration")

    def _prompt(self, source: Source, split: str, chosen: np.ndarray) -> list[Any]:
        found = super()._prompt(source, split, chosen)
        if self.extra is None:
            return found
        origin = "validation" if split == "test" else "train"
        rows = source.rows(origin)
        full = self.info["sizes"][origin] if "sizes" in self.info else len(rows)
        found = [WithRow(example) for example in found]
        for example, i in zip(found, map(int, chosen), strict=True):
            example.row, example.whole = rows[i], len(chosen) == len(rows) == full
        return found

    def encode(self, example: Example, before: str = "") -> Encoded:
        return self.sequences(example[0], example[1], before), golds(example)

    def sequences(self, prompt: str, candidates: Sequence[str], before: str = "") -> list[Tokens]:
        """Token ids of each candidate behind the prompt."""
        return [self.encoder.option(prompt, prompt + text, before) for text in candidates]

    def target(self, example: Example) -> Tokens:
        return self.sequences(example[0], [example[1][golds(example)[0]]])[0]

    def demonstration(self, example: Example) -> str:
        return (example[0] + example[1][golds(example)[0]]).strip()

    def length(self, encoded: Encoded) -> int:
        return max(len(sequence.ids) for sequence in encoded[0])

    def collate(self, encoded: list[Encoded]) -> Batch:
        if self.info["loss"] == "tokens" and self.objective == "loss":
            encoded = [([sequences[right[0]]], [0]) for sequences, right in encoded]
        flat = [(i, j, s, j in right) for i, (found, right) in enumerate(encoded) for j, s in enumerate(found)]
        device = self.scorer.device
        options = self.scorer.pack([s for _, _, s, _ in flat])
        columns = ([i for i, *_ in flat], [j for _, j, *_ in flat], [r[0] for _, r in encoded], [r for *_, r in flat])
        return Batch(options, *(torch.tensor(column, device=device) for column in columns))

    def likelihood(self, batch: Batch) -> Tensor:
        """() float32 (float64 for a float64 model), nats. One forward of the model."""
        scores = self.scorer(batch.options)  # (C, K)
        mask = batch.options.mask
        if self.info["loss"] == "tokens":
            value = -scores.sum() / mask.sum()
        else:
            value = cross_entropy(self._logits(batch, scores), batch.gold)
        return value.to(torch.promote_types(value.dtype, torch.float32))

    def _logits(self, batch: Batch, scores: Tensor) -> Tensor:
        """(B, candidates) mean log-likelihoods, -inf where an example has fewer candidates."""
        means = scores.sum(1) / batch.options.mask.sum(1)  # (C,)
        shape = (len(batch.gold), int(batch.candidate.max()) + 1)
        return means.new_full(shape, -torch.inf).index_put((batch.example, batch.candidate), means)

    def score(self, batch: Batch) -> float:
        """Accuracy, NaN where a score is. One forward of the model."""
        logits = self._logits(batch, self.scorer(batch.options))
        if logits.isnan().any():
            return math.nan
        right = torch.zeros_like(logits, dtype=torch.bool).index_put((batch.example, batch.candidate), batch.right)
        chosen = np.argmax(logits.double().cpu().numpy(), axis=1)  # the first of equals, which torch does not promise
        return float(right.cpu().numpy()[np.arange(len(chosen)), chosen].mean())

    def measure(self, examples: list[Example], before: Sequence[str] = ()) -> dict[str, float]:
        """accuracy (a fraction; ties go to the first candidate) and loss (nats, as in training)."""
        before = before or [""] * len(examples)
        encoded = [self.encode(example, text) for example, text in zip(examples, before, strict=True)]
        flat = [s for sequences, _ in encoded for s in sequences]
        sums = self.scorer.sums(flat)
        lengths = np.array([s.option for s in flat])
        cuts = np.cumsum([len(sequences) for sequences, _ in encoded])[:-1]
        means = np.split(sums / lengths, cuts)  # per example, (candidates,)
        values = means if self.calibration == "none" else np.split(sums - self._prior(examples, before), cuts)
        predictions = [int(np.argmax(v)) for v in values]
        right = [p in gold for p, (_, gold) in zip(predictions, encoded, strict=True)]
        gold = [g[0] for _, g in encoded]
        if self.info["loss"] == "tokens":
            places = np.concatenate([[0], cuts]) + gold
            loss = -sums[places].sum() / lengths[places].sum()
        else:
            with np.errstate(invalid="ignore"):  # diverged weights score nan or -inf, which the loss then shows
                loss = np.mean([np.logaddexp.reduce(m) - m[g] for m, g in zip(means, gold, strict=True)])
        further = {} if self.extra is None else self.extra(examples, predictions)
        return {"accuracy": float(np.mean(right)), "loss": float(loss)} | further

    def _prior(self, examples: list[Example], before: Sequence[str]) -> np.ndarray:
        """(C,) log-likelihoods of the candidates behind the calibration prompt, each distinct sequence scored once."""
        kept = before if self.calibration == "icl_sfc" else [""] * len(examples)
        flat = []
        for example, text in zip(examples, kept, strict=True):
            prompt = example[3] if len(example) == 4 else ""
            flat += self.sequences(prompt, example[1], text)
        keys = [(tuple(s.ids), s.option) for s in flat]
        distinct = {key: Tokens(list(key[0]), key[1]) for key in keys}
        values = dict(zip(distinct, self.scorer.sums(list(distinct.values())), strict=True))
        return np.array([values[key] for key in keys])
