"""Question answering by greedy generation; training on the answer's tokens (Malladi et al., arXiv:2305.17333)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from zobench.problems.answers import drop, squad, squad_v2, token_f1
from zobench.problems.causal import CausalProblem
from zobench.problems.scoring import Options, batches
from zobench.problems.text import CONTEXT, Tokens, pad_rows
from zobench.spec import Setting, UsageError

# What a task's prompt function returns: prompt, accepted answers (the first trains), and what else its metrics look at.
Example = tuple[str, Sequence[str]] | tuple[str, Sequence[str], Any]
METRICS = ("squad", "squad_v2", "drop")


class Question(NamedTuple):
    """A training example: its target, and what its greedy answer is measured with."""

    target: Tokens  # prompt and first answer
    prompt: list[int]
    answers: Sequence[str]


class GenerationProblem(CausalProblem):
    """Loss: minus the log-likelihood of the first answer's tokens and the newline after it, mean over the batch's.

    The objective "f1" is minus the mean token F1 of greedy answers.

    Args:
        metrics: "squad": f1 and em; "squad_v2": the same for questions with and without an answer, too, the accepted
            answer of the latter being "no answer"; "drop": f1, em and the official ones (`answers.drop`), for which an
            example's third part is the row's `answers_spans`.
    """

    def __init__(
        self,
        setting: Setting,
        info: Mapping[str, Any],
        example: Callable[[Mapping[str, Any]], Example],
        *,
        max_new_tokens: int = 50,
        metrics: str = "squad",
        **options: Any,
    ) -> None:
        if max_new_tokens > CONTEXT - 2:
            raise UsageError(f"max_new_tokens={max_new_tokens} leaves no room for a prompt in {CONTEXT} tokens")
        super().__init__(setting, info, example, reserve=max_new_tokens, **options)
        if metrics not in METRICS:
            raise UsageError(f"metrics {metrics!r}: choose from {', '.join(METRICS)}")
        self.max_new_tokens, self.metrics = max_new_tokens, metrics
        self.facts["max_new_tokens"] = max_new_tokens
        # The newline closes every training target. By its last token: sentencepiece puts a space before it.
        newline = self.encoder.ids("\n")
        if not newline:
            raise UsageError("the tokenizer has no token for a newline, by which generation would stop")
        self.stops = list(dict.fromkeys(i for i in (newline[-1], self.tokenizer.eos_token_id) if i is not None))

    def check(self, example: Example) -> None:
        if not example[1]:
            raise IndexError("no accepted answer")

    def encode(self, example: Example) -> Question:
        return Question(self.target(example), self.encoder.prompt(example[0]), example[1])

    def target(self, example: Example, before: str = "") -> Tokens:
        """Prompt and first answer, whose tokens train."""
        prompt, first = example[0], example[1][0]
        return self.encoder.option(prompt, f"{prompt} {first}\n", before)

    def demonstration(self, example: Example) -> str:
        return f"{example[0]} {example[1][0]}\n".strip()

    def length(self, encoded: Question) -> int:
        return len(encoded.target.ids)

    def collate(self, encoded: list[Question]) -> Options | list[Question]:
        if self.objective != "loss":
            return encoded
        return self.scorer.pack([question.target for question in encoded])

    def likelihood(self, batch: Options) -> Tensor:
        """() float32 (float64 for a float64 model), nats per token. One forward of the model."""
        value = -self.scorer(batch).sum() / batch.mask.sum()
        return value.to(torch.promote_types(value.dtype, torch.float32))

    def score(self, batch: list[Question]) -> float:
        """Mean token F1 of greedy answers, generated as one batch."""
        answers = self.generate([question.prompt for question in batch], one_batch=True)
        return float(np.mean([token_f1(a, q.answers) for a, q in zip(answers, batch, strict=True)]))

    def measure(self, examples: list[Example], before: Sequence[str] = ()) -> dict[str, float]:
        """What `compare` finds of greedy answers, and loss (nats per token of the first answers)."""
        before = before or [""] * len(examples)
        targets = [self.target(example, text) for example, text in zip(examples, before, strict=True)]
        loss = -self.scorer.sums(targets).sum() / sum(t.option for t in targets)
        prompts = [self.encoder.prompt(example[0], text) for example, text in zip(examples, before, strict=True)]
        return self.compare(self.generate(prompts), examples) | {"loss": float(loss)}

    def compare(self, answers: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        """f1, em and what else `metrics` names, over answers; each a fraction."""
        golds = [example[1] for example in examples]
        if self.metrics == "squad_v2":
            return squad_v2(answers, golds)
        official = drop(answers, [example[2] for example in examples]) if self.metrics == "drop" else {}  # pyright: ignore
        return squad(answers, golds) | official

    def generate(self, prompts: Sequence[list[int]], one_batch: bool = False) -> list[str]:
        """Greedy answers to prompts in tokens, without the stop token and surrounding white space; batched by length."""
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
        answers = [""] * len(prompts)
        lengths = [len(prompts[i]) + self.max_new_tokens for i in order]
        for part in [slice(None)] if one_batch else batches(lengths):
            for i, ids in zip(order[part], self._greedy([prompts[i] for i in order[part]]), strict=True):
                answers[i] = str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()
        return answers

    def _greedy(self, rows: list[list[int]]) -> list[list[int]]:
        """The new tokens of each row, up to its first stop token."""
        from transformers import GenerationConfig

        inputs = pad_rows(rows, self.scorer.pad, self.scorer.device)
        config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self.stops,
            pad_token_id=self.scorer.pad,
        )
        # The mask is passed: without it, left padding would be read as text (the original code omits it).
        with own_settings_aside(self.model), without_reminder():
            output = self.model.generate(
                input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, generation_config=config
            )
        return [until(new, self.stops) for new in output[:, inputs.input_ids.shape[1] :].tolist()]


def until(ids: list[int], stops: Sequence[int]) -> list[int]:
    """What precedes the first stop token; rows that end early are filled up with padding behind theirs."""
    return ids[: next((place for place, i in enumerate(ids) if i in stops), len(ids))]


@contextmanager
def without_reminder() -> Iterator[None]:
    """Without transformers' reminder that a batch is wider than the model's context: prompt and answer fit, and what is
    beyond is padding."""
    logger = logging.getLogger("transformers.generation.stopping_criteria")

    def other(entry: logging.LogRecord) -> bool:
        return "friendly reminder" not in entry.getMessage()

    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


@contextmanager
def own_settings_aside(model: nn.Module) -> Iterator[None]:
    """Without a checkpoint's own generation settings: `generate` takes from them what it is not told, such as a repetition
    penalty, suppressed tokens or a cache of another kind, and then it is not greedy decoding any more."""
    from transformers import GenerationConfig

    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # pyright: ignore
    kept, base.generation_config = base.generation_config, GenerationConfig()
    try:
        yield
    finally:
        base.generation_config = kept
