"""What choice and generation share: a causal language model, its token ids, and likelihoods of options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from zobench.models.adapters import virtual_tokens
from zobench.models.load import max_tokens
from zobench.problems.data import Source
from zobench.problems.language import LanguageProblem
from zobench.problems.packing import cut
from zobench.problems.probing import inputs_of
from zobench.problems.scoring import EVALUATION_LOGITS, EVALUATION_TOKENS, Scorer, evaluating
from zobench.problems.text import CONTEXT, Encoder, Tokens, bos_id
from zobench.spec import Setting, UsageError

LEAST = 2  # tokens of a prompt


class CausalProblem(LanguageProblem):
    """A task on a causal language model; `measure(examples, before)` and `demonstration(example)` come from subclasses.

    Args:
        bos_mode: `text.bos_id`.
        loss_dtype: `scoring.Scorer`.
        reserve: tokens of the context kept free for a generated answer.
    """

    def __init__(
        self,
        setting: Setting,
        info: Mapping[str, Any],
        example: Callable[[Mapping[str, Any]], Any],
        *,
        bos_mode: str = "mezo",
        loss_dtype: str = "float32",
        reserve: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(setting, info, example, **options)
        room = min(CONTEXT, max_tokens(self.config) or CONTEXT)
        self.context = room - virtual_tokens(setting.adapter)  # which stand in front of the text
        if self.context - reserve < LEAST:
            raise UsageError(
                f"the model reads {self.context} tokens, and {reserve} are for the answer; ask for fewer with max_new_tokens=N"
            )
        bos = bos_id(self.tokenizer, self.config.model_type, bos_mode)
        self.encoder = Encoder(self.tokenizer, bos, self.context - reserve)
        pad = self.tokenizer.pad_token_id
        self.scorer = Scorer(self.model, 0 if pad is None else pad, loss_dtype)
        self.facts.update(bos_mode=bos_mode, loss_dtype=loss_dtype, max_length=self.encoder.max_length)
        # Text that goes before the prompt of each example of a split: demonstrations, each closed by its separator.
        self.before: dict[str, Sequence[str]] = {}

    def demonstration(self, example: Any) -> str:
        """The whole text of an example with its right answer, as a prompt of another one shows it."""
        raise NotImplementedError

    def demonstrations(self, source: Source, rows: Sequence[int]) -> list[str]:
        """Rows of the train split, by their numbers, as demonstrations."""
        return [self.demonstration(example) for example in self._prompt(source, "train", np.asarray(rows))]

    def target(self, example: Any) -> Tokens:
        """Prompt and right answer, whose tokens a language-model loss trains."""
        raise NotImplementedError

    def output_layer(self) -> nn.Linear:
        """The layer that makes the logits, a row per token."""
        return self.model.get_output_embeddings()  # type: ignore  # a peft wrapper passes it on

    def classes(self, examples: Sequence[Any]) -> np.ndarray:
        """(n,) the tokens of the right answers, in the order of `features`: rows of the output layer."""
        targets = [self.target(example) for example in examples]
        return np.array([i for target in targets for i in target.ids[-target.option :]])

    def features(self, examples: Sequence[Any]) -> np.ndarray:
        """(n, H) float64: what the output layer reads where it predicts the tokens of the right answers."""
        targets = [self.target(example) for example in examples]
        order = sorted(range(len(targets)), key=lambda i: -len(targets[i].ids))
        lengths, wanted = [len(t.ids) for t in targets], [t.option for t in targets]
        states: list[np.ndarray] = [np.empty(0)] * len(targets)
        with evaluating(self.model), inputs_of(self.output_layer()) as seen:
            for numbers in cut(order, lengths, wanted, EVALUATION_TOKENS, EVALUATION_LOGITS):
                options = self.scorer.pack([targets[n] for n in numbers])
                self.scorer.logits(options)
                cells = seen.pop()[0]  # (N, H): the scorer hands the output layer no other positions
                rows = cells[options.at[options.mask]].to("cpu", torch.float64).numpy()
                parts = np.split(rows, np.cumsum([wanted[n] for n in numbers])[:-1])
                for n, part in zip(numbers, parts, strict=True):
                    states[n] = part
        return np.concatenate(states)

    def evaluate(self, split: str) -> dict[str, float]:
        examples, before = self.evaluated(split), self.encoder.truncated
        with evaluating(self.model), self.blaming(split):
            found = self.measure(examples, self.before.get(split, ()))
        self.facts[f"truncated_{split}"] = self.encoder.truncated - before  # sequences that lost their beginning
        return found

    def measure(self, examples: list[Any], before: Sequence[str] = ()) -> dict[str, float]:
        """Metrics over examples. before: the demonstrations of each; none where it is empty."""
        raise NotImplementedError
