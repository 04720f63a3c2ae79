"""GLUE (Wang et al., arXiv:1804.07461) in its forms: prompts for masked and for causal models, or a head without a prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zobench.models.load import is_masked
from zobench.problems import choice
from zobench.problems.choice import Batch, ChoiceProblem, Encoded, golds
from zobench.problems.heads import HeadProblem
from zobench.problems.language import LanguageProblem
from zobench.problems.masked import Example, MaskedProblem, label_loss, outcome
from zobench.problems.text import Tokens
from zobench.spec import Setting, UsageError

# What a causal prompt is made of: prompt, candidates, index of the right one or the score, calibration prompt.
Question = tuple[str, Sequence[str], float, str]


class LabelChoice(ChoiceProblem):
    """`ChoiceProblem` over the same candidates in every row, with GLUE's metrics and, for a graded task, STS-B's loss.

    Args:
        top: the highest score of a graded task with the candidates (low, high), 0 for labels. The prediction is `top`
            times the second entry of the softmax over the mean log-likelihoods, the loss the divergence from [1 - p, p],
            p = score / top.
    """

    def __init__(
        self,
        setting: Setting,
        info: Mapping[str, Any],
        example: Callable[[Mapping[str, Any]], choice.Example],
        *,
        top: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(setting, info, example, **options)
        self.top = top
        if top and self.calibration != "none":
            raise UsageError("calibration changes which candidate wins; a graded task has no winner")

    def check(self, example: choice.Example) -> None:
        if not self.top:
            super().check(example)

    def encode(self, example: choice.Example, before: str = "") -> Any:
        if not self.top:
            return super().encode(example, before)
        return self.sequences(example[0], example[1], before), example[2]

    def demonstration(self, example: choice.Example) -> str:
        if not self.top:
            return super().demonstration(example)
        return (example[0] + example[1][int(example[2] >= self.top / 2)]).strip()  # pyright: ignore[reportOperatorIssue]

    def collate(self, encoded: list[Any]) -> Batch:
        if not self.top:
            return super().collate(encoded)
        batch = super().collate([(sequences, [0]) for sequences, _ in encoded])
        return batch._replace(gold=torch.tensor([s / self.top for _, s in encoded], device=self.scorer.device))

    def likelihood(self, batch: Batch) -> Tensor:
        """() float32 (float64 for a float64 model), nats. One forward of the model."""
        if not self.top:
            return super().likelihood(batch)
        value = label_loss(self._logits(batch, self.scorer(batch.options)), batch.gold)
        return value.to(torch.promote_types(value.dtype, torch.float32))

    def score(self, batch: Batch) -> float:
        """Accuracy, or for a graded task Pearson's correlation; nan where the loss is not finite. One forward of the model."""
        if not self.top:
            return super().score(batch)
        logits = self._logits(batch, self.scorer(batch.options)).double().cpu().numpy()
        gold = batch.gold.double().cpu().numpy() * self.top
        found = outcome(logits, gold, self.top, self.info["metric"])
        return found["pearson"] if math.isfinite(found["loss"]) else math.nan

    def measure(self, examples: list[choice.Example], before: Sequence[str] = ()) -> dict[str, float]:
        """Metrics of `masked.outcome` and loss (nats, as in training)."""
        before = before or [""] * len(examples)
        encoded: list[Encoded] = [self.encode(e, text) for e, text in zip(examples, before, strict=True)]
        flat: list[Tokens] = [s for sequences, _ in encoded for s in sequences]
        shape, sums = (len(encoded), -1), self.scorer.sums(flat)
        means = (sums / [s.option for s in flat]).reshape(shape)
        gold = np.array([e[2] if self.top else golds(e)[0] for e in examples], dtype=np.float64)
        found = outcome(means, gold, self.top, self.info["metric"])
        if self.calibration == "none":
            return found
        values = (sums - self._prior(examples, before)).reshape(shape)
        return outcome(values, gold, self.top, self.info["metric"]) | {"loss": found["loss"]}


LIMIT = 128  # tokens


def glue_problem(
    setting: Setting,
    info: Mapping[str, Any],
    sentences: Callable[[Mapping[str, Any]], Example],
    question: Callable[[Mapping[str, Any]], Question],
    *,
    prompt: str,
    words: Sequence[str],
    order: Sequence[int] = (),
    caps: tuple[int | None, int | None] = (None, None),
    limit: int = LIMIT,
    max_length: int = 0,
    labels: int = 2,
    top: float = 0.0,
    form: str = "prompt",
    head: str = "random",
    calibration: str = "none",
    bos_mode: str = "mezo",
    **options: Any,
) -> LanguageProblem:
    """A task of GLUE in the form asked for.

    Args:
        sentences: row -> (sentences, label or score): of a head and of a masked prompt.
        question: row -> prompt, candidates, label or score, calibration prompt: of a causal model.
        prompt, words, caps: of a masked prompt (`masked.MaskedProblem`).
        limit: the protocol's length of a masked prompt; a head reads 128 tokens. `max_length` is another one for both.
        order: the label of each word, where words are not in the order of labels.
        labels: outputs of a head; 1 for a score.
        top: the highest score; 0 for labels.

    Raises:
        UsageError: an option that this form of the task, or this kind of model, does not have.
    """
    if setting.model is None:
        raise UsageError("this task needs a model; give one with -m, for example random:roberta-nano")
    masked = is_masked(setting.model, setting.revision)
    if form == "head" or masked:
        where = "a head" if form == "head" else "a masked model"
        refuse(f"{where} has no candidates to calibrate; leave it out", calibration=(calibration, "none"))
        refuse(f"{where} opens its sequences as its tokenizer does; leave it out", bos_mode=(bos_mode, "mezo"))
    if form == "head":
        return HeadProblem(
            setting, info, sentences, labels=labels, head=head, max_length=max_length or LIMIT, **options
        )
    refuse("a prompt has no head of its own; write form=head, or leave it out", head=(head, "random"))
    if not masked:
        refuse("a causal prompt reads what the model can", max_length=(max_length, 0))
        own = dict(top=top, calibration=calibration, bos_mode=bos_mode, template="prompt")
        return LabelChoice(setting, info, question, **own, **options)
    places = list(order) or list(range(len(words)))

    def example(row: Mapping[str, Any]) -> Example:
        texts, gold = sentences(row)
        return texts, gold if top else places.index(int(gold))

    return MaskedProblem(
        setting,
        info,
        example,
        prompt=prompt,
        words=words,
        caps=caps,
        max_length=max_length or limit,
        top=top,
        **options,
    )


def refuse(reason: str, **given: tuple[Any, Any]) -> None:
    """UsageError where an option has another value than the one that is left alone."""
    for name, (value, default) in given.items():
        if value != default:
            raise UsageError(f"{name}={value}: {reason}")
