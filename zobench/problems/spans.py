"""Extractive question answering: an answer is a span of the context, found by a head with a start and an end score.

As transformers' run_qa has it (examples/pytorch/question-answering; SQuAD 1.1: arXiv:1606.05250, 2.0: arXiv:1806.03822).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from zobench.problems.answers import squad_official, squad_v2_official
from zobench.problems.language import LanguageProblem
from zobench.problems.masked import lengths
from zobench.problems.scoring import batches, forward_parameters
from zobench.spec import Setting, UsageError


class Example(NamedTuple):
    """A question. `texts` are the accepted answers, none where the context has none; the first, at `start`, trains."""

    question: str
    context: str
    texts: tuple[str, ...]
    start: int  # character of the context at which the first answer begins


class Window(NamedTuple):
    """Question and a part of the context, as one sequence of T tokens."""

    ids: list[int]
    types: list[int]  # which text each token belongs to
    offsets: list[tuple[int, int] | None]  # the characters of the context that a token covers; None outside it
    null: int  # the token that stands for "no answer here"
    start: int  # of the answer's tokens; `null` where the window does not hold all of it
    end: int


class Question(NamedTuple):
    """An example and the windows over its context."""

    example: Example
    windows: list[Window]


class Batch(NamedTuple):
    """W windows, padded on the right."""

    inputs: dict[
        str, Tensor
    ]  # input_ids, attention_mask and, where the model tells texts apart, token_type_ids: (W, T)
    start: Tensor  # (W,) int64
    end: Tensor  # (W,) int64
    questions: list[Question]


class SpanProblem(LanguageProblem):
    """Loss: mean of the cross-entropies of the start and of the end position, over all windows of the batch's examples.

    Positions are those of a window's tokens; padding is left out, so the loss of a window does not hang on its batch.
    Where the answer is not wholly in a window, both targets are its null token: the CLS token, or BOS where there is
    none, or else the first token. In a model that reads from left to right that token sees nothing of the question, so
    its null score is the same for all of them.

    Prediction: of every window, the `n_best` highest starts with the `n_best` highest ends, without those that end before
    they start, have more than `max_answer` tokens or leave the context; the span of the highest sum of both scores
    wins. With version 2 the answer is empty where the null score, the least over the windows, is higher than that.

    The objective "f1" is minus the mean F1 of predicted answers.

    Args:
        version: of SQuAD; 2 has questions without an answer and reports both kinds.
        max_length: of a window, tokens; the context is cut, the question never.
        doc_stride: tokens that a window shares with the one before it.
    """

    kind = "spans"

    def __init__(
        self,
        setting: Setting,
        info: Mapping[str, Any],
        example: Callable[[Mapping[str, Any]], Example],
        *,
        version: int = 1,
        max_length: int = 384,
        doc_stride: int = 128,
        n_best: int = 20,
        max_answer: int = 30,
        **options: Any,
    ) -> None:
        if doc_stride >= max_length:
            raise UsageError(f"doc_stride={doc_stride}: windows of max_length={max_length} tokens cannot share so many")
        limit, _ = lengths(setting, max_length)
        super().__init__(setting, info, example, template="question, context", **options)
        if not self.tokenizer.is_fast:
            raise UsageError(
                f"model {setting.model}: its tokenizer is a slow one, which does not tell where its tokens stand in the text; "
                "choose a model with a fast one (a tokenizer.json)"
            )
        if max_length > limit:
            raise UsageError(f"model {setting.model} reads at most {limit} tokens; write the option max_length={limit}")
        self.version, self.max_length, self.doc_stride = version, max_length, doc_stride
        self.n_best, self.max_answer = n_best, max_answer
        self.accepted = forward_parameters(self.model)
        self.typed = "token_type_ids" in self.accepted and getattr(self.config, "type_vocab_size", 1) > 1
        self.facts.update(max_length=max_length, doc_stride=doc_stride, n_best=n_best, max_answer=max_answer)

    def check(self, example: Example) -> None:
        first = example.texts[0] if example.texts else ""
        if example.start < 0 or example.context[example.start :][: len(first)] != first:
            raise ValueError(f"the answer {first!r} is not at character {example.start} of the context")
        room = self.max_length - self.tokenizer.num_special_tokens_to_add(pair=True)
        room -= len(self.tokenizer(example.question, add_special_tokens=False, verbose=False)["input_ids"])
        if room <= self.doc_stride:
            raise ValueError(
                f"beside its question a window holds {room} tokens of the context, which must be more than doc_stride="
                f"{self.doc_stride}: raise max_length or lower doc_stride"
            )

    def encode(self, example: Example) -> Question:
        made = self.tokenizer(
            example.question,
            example.context,
            truncation="only_second",
            max_length=self.max_length,
            stride=self.doc_stride,
            return_overflowing_tokens=True,
        )
        windows = []
        for found in made.encodings or ():
            pairs = zip(found.offsets, found.sequence_ids, strict=True)
            offsets = [pair if part == 1 else None for pair, part in pairs]
            null = self._null(found.ids)
            start, end = locate(offsets, example) or (null, null)
            windows.append(Window(found.ids, found.type_ids, offsets, null, start, end))
        return Question(example, windows)

    def _null(self, ids: list[int]) -> int:
        for special in (self.tokenizer.cls_token_id, self.tokenizer.bos_token_id):
            if special is not None and special in ids:
                return ids.index(special)
        return 0

    def length(self, encoded: Question) -> int:
        return max(len(window.ids) for window in encoded.windows)

    def collate(self, encoded: list[Question]) -> Batch:
        windows = [window for question in encoded for window in question.windows]
        start, end = ([w.start for w in windows], [w.end for w in windows])
        device = self.setting.device
        return Batch(self.pad(windows), torch.tensor(start, device=device), torch.tensor(end, device=device), encoded)

    def pad(self, windows: Sequence[Window], extra: int = 0) -> dict[str, Tensor]:
        """The model's inputs, each (W, T): windows filled up to the longest, with `extra` more columns (for tests)."""
        width = max(len(window.ids) for window in windows) + extra
        fill = self.tokenizer.pad_token_id or 0
        found = {
            "input_ids": [w.ids + [fill] * (width - len(w.ids)) for w in windows],
            "attention_mask": [[1] * len(w.ids) + [0] * (width - len(w.ids)) for w in windows],
        }
        if self.typed:
            found["token_type_ids"] = [w.types + [0] * (width - len(w.ids)) for w in windows]
        return {name: torch.tensor(rows, device=self.setting.device) for name, rows in found.items()}

    def logits(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Start and end scores, each (W, T) in at least float32, -inf on padding. One forward of the model."""
        output = self.model(**inputs)
        padding = inputs["attention_mask"] == 0
        both = (output.start_logits, output.end_logits)
        start, end = (s.to(torch.promote_types(s.dtype, torch.float32)).masked_fill(padding, -torch.inf) for s in both)
        return start, end

    def likelihood(self, batch: Batch) -> Tensor:
        """() float32 (float64 for a float64 model), nats. One forward of the model."""
        start, end = self.logits(batch.inputs)
        return (cross_entropy(start, batch.start) + cross_entropy(end, batch.end)) / 2

    def score(self, batch: Batch) -> float:
        """Mean F1 of predicted answers; nan where the loss is not finite. One forward of the model."""
        start, end = self.logits(batch.inputs)
        if not math.isfinite(float(cross_entropy(start, batch.start) + cross_entropy(end, batch.end))):
            return math.nan
        scores = [s.double().cpu().numpy() for s in (start, end)]
        rows = list(zip(*scores, strict=True))
        return self.compare(self._answers(batch.questions, rows), batch.questions)["f1"]

    def measure(self, examples: list[Example]) -> dict[str, float]:
        """f1, em (official; with version 2 also has_answer_ and no_answer_) as fractions, and loss (nats, as in training)."""
        questions = [self.encode(example) for example in examples]
        windows = [window for question in questions for window in question.windows]
        rows = self.scores(windows)
        with np.errstate(invalid="ignore"):  # diverged weights score nan or inf, which the loss then shows
            losses = [_nats(s, w.start) + _nats(e, w.end) for (s, e), w in zip(rows, windows, strict=True)]
        found = self.compare(self._answers(questions, rows), questions)
        return found | {"loss": float(np.mean(losses)) / 2}

    def compare(self, answers: Sequence[str], questions: Sequence[Question]) -> dict[str, float]:
        """f1 and em of answers, as SQuAD's own scripts have them."""
        golds = [question.example.texts for question in questions]
        return squad_v2_official(answers, golds) if self.version == 2 else squad_official(answers, golds)

    def scores(self, windows: Sequence[Window]) -> list[tuple[np.ndarray, np.ndarray]]:
        """(T,) float64 start and end scores of each window, computed in batches by length."""
        order = sorted(range(len(windows)), key=lambda i: len(windows[i].ids), reverse=True)
        found: list[Any] = [None] * len(windows)
        for part in batches([len(windows[i].ids) for i in order]):
            start, end = self.logits(self.pad([windows[i] for i in order[part]]))
            rows = zip(start.double().cpu().numpy(), end.double().cpu().numpy(), strict=True)
            for i, (s, e) in zip(order[part], rows, strict=True):
                found[i] = (s[: len(windows[i].ids)], e[: len(windows[i].ids)])
        return found

    def _answers(self, questions: Sequence[Question], rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[str]:
        """Predicted answers; `rows` are the scores of all windows, in their order."""
        answers, place = [], 0
        for question in questions:
            count = len(question.windows)
            answers.append(self.predict(question, rows[place : place + count]))
            place += count
        return answers

    def predict(self, question: Question, rows: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
        """The answer by the start and end scores of each window; empty where there is no span to choose from."""
        best, text, null = -np.inf, "", np.inf
        for window, (start, end) in zip(question.windows, rows, strict=True):
            start, end = start[: len(window.ids)], end[: len(window.ids)]  # what follows is padding
            null = min(null, start[window.null] + end[window.null])
            for score, begin, stop in self._spans(window, start, end):
                if score > best and stop > begin:
                    best, text = score, question.example.context[begin:stop]
        return "" if self.version == 2 and null > best else text

    def _spans(self, window: Window, start: np.ndarray, end: np.ndarray) -> Iterator[tuple[float, int, int]]:
        """(score, first character, character behind the last) of the spans that may be answers, the highest starts first."""
        starts, ends = (np.argsort(-scores, kind="stable")[: self.n_best].tolist() for scores in (start, end))
        for i, j in itertools.product(starts, ends):
            first, last = window.offsets[i], window.offsets[j]
            if first is not None and last is not None and i <= j < i + self.max_answer:
                yield float(start[i] + end[j]), first[0], last[1]


def locate(offsets: Sequence[tuple[int, int] | None], example: Example) -> tuple[int, int] | None:
    """First and last token of the example's answer in a window, or None where the window does not hold all of it."""
    tokens = [i for i, pair in enumerate(offsets) if pair is not None]
    if not example.texts or not tokens:
        return None
    begin, stop = example.start, example.start + len(example.texts[0])
    first = [i for i in tokens if offsets[i][0] <= begin]  # pyright: ignore[reportOptionalSubscript]
    last = [i for i in tokens if offsets[i][1] >= stop]  # pyright: ignore[reportOptionalSubscript]
    return (first[-1], last[0]) if first and last else None


def _nats(scores: np.ndarray, place: int) -> float:
    """-log softmax at a place."""
    return float(np.logaddexp.reduce(scores) - scores[place])
