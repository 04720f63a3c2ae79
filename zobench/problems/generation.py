"""Question answering by greedy generation; training on the answer's tokens (Malladi et al., arXiv:2305.17333)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zobench.problems.answers import exact_match, token_f1
from zobench.problems.language import LanguageProblem
from zobench.problems.scoring import Options, batches, pack
from zobench.problems.text import Tokens, pad_left
from zobench.spec import Setting, UsageError

# What a task's prompt function returns: prompt, accepted answers (the first trains).
Example = tuple[str, Sequence[str]]


class GenerationProblem(LanguageProblem):
    """Loss: minus the log-likelihood of the first answer's tokens and the newline after it, mean over the batch's."""

    def __init__(
        self,
        setting: Setting,
        info: Mapping[str, Any],
        example: Callable[[Mapping[str, Any]], Example],
        *,
        max_new_tokens: int = 50,
        **options: Any,
    ) -> None:
        super().__init__(setting, info, example, reserve=max_new_tokens, **options)
        self.max_new_tokens = max_new_tokens
        self.facts["max_new_tokens"] = max_new_tokens
        # The newline closes every training target. By its last token: sentencepiece puts a space before it.
        newline = self.encoder.ids("\n")
        if not newline:
            raise UsageError("the tokenizer has no token for a newline, by which generation would stop")
        self.stops = list(dict.fromkeys(i for i in (newline[-1], self.tokenizer.eos_token_id) if i is not None))

    def encode(self, example: Example) -> Tokens:
        prompt, answers = example
        return self.encoder.option(prompt, f"{prompt} {answers[0]}\n")

    def length(self, encoded: Tokens) -> int:
        return len(encoded.ids)

    def collate(self, encoded: list[Tokens]) -> Options:
        return pack(encoded, self.scorer.pad, self.scorer.device)

    def loss(self, batch: Options) -> Tensor:
        """() float32 (float64 for a float64 model), nats per token. One forward of the model."""
        value = -self.scorer(batch).sum() / batch.mask.sum()
        return value.to(torch.promote_types(value.dtype, torch.float32))

    def measure(self, examples: list[Example]) -> dict[str, float]:
        """f1 and em (fractions) of greedy answers, and loss (nats per token of the first answers)."""
        targets = [self.encode(example) for example in examples]
        loss = -self.scorer.sums(targets).sum() / sum(t.option for t in targets)
        answers = self.generate([prompt for prompt, _ in examples])
        golds = [accepted for _, accepted in examples]
        return {
            "f1": float(np.mean([token_f1(a, g) for a, g in zip(answers, golds, strict=True)])),
            "em": float(np.mean([exact_match(a, g) for a, g in zip(answers, golds, strict=True)])),
            "loss": float(loss),
        }

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """Greedy answers, batched by length, without the stop token and surrounding white space."""
        rows = [self.encoder.prompt(prompt) for prompt in prompts]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
        answers = [""] * len(rows)
        for part in batches([len(rows[i]) + self.max_new_tokens for i in order]):
            for i, ids in zip(order[part], self._greedy([rows[i] for i in order[part]]), strict=True):
                answers[i] = str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()
        return answers

    def _greedy(self, rows: list[list[int]]) -> list[list[int]]:
        """The new tokens of each row, up to its first stop token."""
        from transformers import GenerationConfig

        inputs = pad_left(rows, self.scorer.pad, self.scorer.device)
        config = GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=self.max_new_tokens,
            eos_token_id=self.stops,
            pad_token_id=self.scorer.pad,
        )
        # The mask is passed: without it, left padding would be read as text (the original code omits it).
        output = self.model.generate(
            input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, generation_config=config
        )
        return [until(new, self.stops) for new in output[:, inputs.input_ids.shape[1] :].tolist()]


def until(ids: list[int], stops: Sequence[int]) -> list[int]:
    """What precedes the first stop token; rows that end early are filled up with padding behind theirs."""
    return ids[: next((place for place, i in enumerate(ids) if i in stops), len(ids))]
