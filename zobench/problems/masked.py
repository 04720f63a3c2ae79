"""Label words at a mask, with the prompts of LM-BFF (Gao et al., arXiv:2012.15723; MeZO's RoBERTa tasks, arXiv:2305.17333).

A template is LM-BFF's own text, `*cls**sent_0*_It_was*mask*.*sep+*`: what stands between asterisks is a piece, `_` is a space.

    cls, sep+        the tokens that open and close a sequence
    mask             the token whose place the label word takes
    sent_0           sentence 0
    sent-_0          sentence 0 without its last character
    +sent_0          sentence 0, a space before it
    +sentl_1         sentence 1, its first character in lower case, a space before it
    anything else    a literal; one character is looked up in the vocabulary, so it has no space before it

Every piece becomes tokens by itself, without special ones. Too long a sequence loses its tail; the mask must survive.

A causal model has no mask: its last token predicts the label word. Its sequence is the same without mask, the literal behind the
mask and the closing token, opens with BOS, and loses tokens behind BOS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from zobench.models.adapters import virtual_tokens
from zobench.models.load import configuration, is_masked, max_tokens
from zobench.problems.language import LanguageProblem
from zobench.problems.metrics import of_labels, of_scores
from zobench.problems.probing import inputs_of
from zobench.problems.scoring import batches, evaluating, forward_parameters, gathered
from zobench.problems.text import Padded, bos_id, pad_rows
from zobench.spec import Setting, UsageError

# What a task's function returns: its sentences, and the index of the label word or, for a graded task, the score.
Example = tuple[Sequence[str], float]
LEAST = 5  # tokens: a pair of sentences has four special ones


class Prompt(NamedTuple):
    """A prompted example: the logits at token `place` predict its label word."""

    ids: list[int]
    place: int
    gold: float


class Batch(NamedTuple):
    """B prompted examples."""

    inputs: Padded  # padded on the right
    column: Tensor  # (B,) int64: the places, counted from the right, so tokens that an adapter puts in front do not shift them
    gold: Tensor  # (B,) int64 labels, or float32 shares of the second word
    tokens: int  # without padding


class Template:
    """A template read: pieces of a sequence, for one tokenizer.

    Args:
        text: LM-BFF's template.
        tokenizer: transformers' tokenizer; must have a mask, unless `causal`.
        caps: the most tokens of sentence 0 and of the others; None for no limit.
        max_length: of the whole sequence.
        bos: of a causal model: the id that opens the sequence, or None.
        model: its name, for errors.

    Raises:
        UsageError: a literal of one character is not in the vocabulary, or the tokenizer lacks a special token.
    """

    def __init__(
        self,
        text: str,
        tokenizer: Any,
        *,
        caps: tuple[int | None, int | None] = (None, None),
        max_length: int = 128,
        causal: bool = False,
        bos: int | None = None,
        model: str = "",
    ) -> None:
        self.tokenizer, self.caps, self.max_length, self.causal = tokenizer, caps, max_length, causal
        self.parts = [part for part in text.split("*") if part]
        if causal:
            mask = self.parts.index("mask")
            self.parts = self.parts[:mask] + [p for p in self.parts[mask + 2 :] if p != "sep+"]
            self.special: dict[str, list[int]] = {"cls": [] if bos is None else [bos]}
        else:
            ids = dict(cls=tokenizer.cls_token_id, mask=tokenizer.mask_token_id, **{"sep+": tokenizer.sep_token_id})
            for name, i in ids.items():
                if i is None and name in self.parts:
                    raise UsageError(
                        f"model {model or tokenizer.name_or_path}: its tokenizer has no {name.strip('+')} token, which "
                        "the prompt needs; take a model whose tokenizer has one"
                    )
            self.special = {name: [i] for name, i in ids.items()}
        for part in self.parts:
            if len(part) == 1 and tokenizer.convert_tokens_to_ids(part) in (None, tokenizer.unk_token_id):
                raise UsageError(f"the prompt has {part!r}, which this model's vocabulary lacks as a token of its own")

    def ids(self, sentences: Sequence[str]) -> tuple[list[int], int]:
        """The sequence, and the place that predicts the label word.

        Raises:
            ValueError: the mask lies beyond `max_length`.
        """
        found: list[int] = []
        mask = 0
        for part in self.parts:
            mask = len(found) if part == "mask" else mask
            found += self._piece(part, sentences)
        if self.causal:
            opening = len(self.special["cls"])
            found = found[:opening] + found[max(opening, len(found) - self.max_length + opening) :]
            return found, len(found) - 1
        if mask >= self.max_length:
            kept = f"the mask is token {mask + 1} of {len(found)}, and {self.max_length} are kept"
            raise ValueError(f"too long a text: {kept}; shorten it or leave the row out")
        return found[: self.max_length], mask

    def _piece(self, part: str, sentences: Sequence[str]) -> list[int]:
        if part in self.special:
            return self.special[part]
        kind, _, number = part.partition("_")
        if kind not in SENTENCES:
            literal = part.replace("_", " ")
            return [self.tokenizer.convert_tokens_to_ids(literal)] if len(literal) == 1 else self._tokens(literal)
        return self._tokens(SENTENCES[kind](sentences[int(number)]))[: self.caps[int(number) > 0]]

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


SENTENCES: dict[str, Callable[[str], str]] = {
    "sent": lambda text: text,
    "sent-": lambda text: text[:-1],
    "+sent": lambda text: " " + text,
    "+sentl": lambda text: " " + lower_first(text),
}


def lengths(setting: Setting, asked: int) -> tuple[int, int | None]:
    """The longest sequence, at most `asked` tokens, and the positions that virtual tokens leave (None: no limit). Read from
    the model's configuration alone: an adapter that leaves none cannot be made.

    Raises:
        UsageError: the adapter's virtual tokens leave no position for a text.
    """
    positions = max_tokens(configuration(setting.model, setting.revision)) if setting.model else None
    virtual = virtual_tokens(setting.adapter)
    if positions is None:
        return asked, None
    if positions - virtual < LEAST:
        raise UsageError(
            f"adapter {setting.adapter}: model {setting.model} has {positions} positions, and {virtual} virtual tokens "
            f"leave too few for a text; write tokens=N of at most {positions - LEAST}"
        )
    return min(asked, positions - virtual), positions - virtual


def word_ids(tokenizer: Any, words: Sequence[str], model: str) -> list[int]:
    """The token of each label word, a space before it.

    Raises:
        UsageError: a word is not one token, or is not in the vocabulary.
    """
    found = []
    for word in words:
        ids = tokenizer(" " + word, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            pieces = " ".join(map(repr, tokenizer.convert_ids_to_tokens(ids)))
            name = type(tokenizer).__name__
            raise UsageError(
                f"label word {word!r} is {pieces or 'nothing'} to the tokenizer of {model} ({name}), not one token; "
                "take a model that knows the word, such as roberta-large or random:roberta-nano"
            )
        found.append(ids[0])
    return found


def label_loss(logits: Tensor, gold: Tensor) -> Tensor:
    """() nats, mean over rows: cross-entropy with labels (B,) int64, or the divergence KL([1 - p, p] || softmax) from shares
    p (B,) of floating point, of the second of two words.
    """
    if not gold.is_floating_point():
        return cross_entropy(logits, gold)
    p = gold.to(logits.dtype)
    return kl_div(logits.log_softmax(1), torch.stack([1 - p, p], 1), reduction="batchmean")


def outcome(logits: np.ndarray, gold: np.ndarray, top: float, main: str) -> dict[str, float]:
    """Metrics and loss of (N, W) logits: of the word with the highest, the first of equals, or for a graded task (`top` > 0) of
    `top` times the probability of the second word. gold: (N,) labels, or scores from 0 to `top`.
    """
    values = torch.from_numpy(logits)
    if top:
        scores = top * values.softmax(1)[:, 1].numpy()
        return of_scores(scores, gold) | {"loss": float(label_loss(values, torch.from_numpy(gold / top)))}
    labels = gold.astype(np.int64)
    return of_labels(logits.argmax(1), labels, main) | {"loss": float(label_loss(values, torch.from_numpy(labels)))}


class MaskedProblem(LanguageProblem):
    """Classification by the logits of label words where the mask is; a causal model predicts them behind its last token.

    Loss, in nats: cross-entropy with the label words' logits; for a graded task the divergence from [1 - p, p], p = score / top,
    over two words. The objective "accuracy" is minus the batch's accuracy, "pearson" minus its correlation.

    Args:
        example: row -> (sentences, index of the label word, or score).
        prompt: the template's text.
        words: the label words; for a graded task the low one and the high one.
        caps, max_length: `Template`.
        top: the highest score of a graded task; 0 for labels.
        bos_mode: `text.bos_id`, of causal models.
        loss_dtype: "float32" computes the loss in at least float32 whatever the model's dtype; "model" in the model's.
    """

    def __init__(
        self,
        setting: Setting,
        info: Mapping[str, Any],
        example: Callable[[Mapping[str, Any]], Example],
        *,
        prompt: str,
        words: Sequence[str],
        caps: tuple[int | None, int | None] = (None, None),
        max_length: int = 128,
        top: float = 0.0,
        bos_mode: str = "mezo",
        loss_dtype: str = "float32",
        **options: Any,
    ) -> None:
        masked = setting.model is not None and is_masked(setting.model, setting.revision)
        self.kind = "masked" if masked else "causal"
        max_length, room = lengths(setting, max_length)
        super().__init__(setting, info, example, **{"template": "prompt", **options})
        self.top, self.loss_dtype = top, loss_dtype
        self.pad_rows = partial(pad_rows, side="right", most=room)
        bos = None if masked else bos_id(self.tokenizer, self.config.model_type, bos_mode)
        reading: dict[str, Any] = dict(caps=caps, max_length=max_length, causal=not masked, bos=bos)
        self.template = Template(prompt, self.tokenizer, **reading, model=str(setting.model))
        self.words = torch.tensor(word_ids(self.tokenizer, words, str(setting.model)), device=setting.device)
        self.pad = self.tokenizer.pad_token_id or 0
        self.accepted = forward_parameters(self.model) - self._counted()
        self.facts.update(max_length=max_length, loss_dtype=loss_dtype, words=list(words))

    def _counted(self) -> set[str]:
        """Arguments that the model makes itself: a masked model's positions, which may begin at an offset (RoBERTa, MPNet);
        padding on the right does not shift them.
        """
        counts = any(hasattr(m, "create_position_ids_from_input_ids") for m in self.model.modules())
        return {"position_ids"} if counts or self.kind == "masked" else set()

    def check(self, example: Example) -> None:
        sentences, gold = example
        if not self.top and not 0 <= gold < len(self.words):
            raise IndexError(f"label {gold} of {len(self.words)} label words")
        # A token has at least a byte, and templates have fewer than 16 tokens of their own: most rows need no look.
        if sum(len(s.encode()) for s in sentences) + 16 > self.template.max_length:
            self.template.ids(sentences)

    def encode(self, example: Example) -> Prompt:
        return Prompt(*self.template.ids(example[0]), example[1])

    def length(self, encoded: Prompt) -> int:
        return len(encoded.ids)

    def collate(self, encoded: list[Prompt]) -> Batch:
        inputs = self.pad_rows([p.ids for p in encoded], self.pad, self.setting.device)
        width = inputs.input_ids.shape[1]
        first = inputs.attention_mask.cumsum(1).eq(0).sum(1)  # of each row, past padding on the left
        gold = [p.gold / self.top for p in encoded] if self.top else [int(p.gold) for p in encoded]
        place = torch.tensor([p.place for p in encoded]).to(first.device, non_blocking=True)
        target = torch.tensor(gold).to(first.device, non_blocking=True)
        return Batch(inputs, first + place - width, target, tokens=sum(len(p.ids) for p in encoded))

    def logits(self, batch: Batch) -> Tensor:
        """(B, words): the logits of the label words. One forward of the model; no other position has logits made."""
        inputs = batch.inputs
        arguments: dict[str, Any] = dict(
            attention_mask=inputs.attention_mask, position_ids=inputs.position_ids, use_cache=False
        )
        arguments = {name: value for name, value in arguments.items() if name in self.accepted}
        rows = torch.arange(len(batch.column), device=batch.column.device)
        with gathered(self.model, rows, batch.column) as ran:
            logits = self.model(input_ids=inputs.input_ids, **arguments).logits
        logits = (logits[0] if ran else logits[rows, batch.column])[:, self.words]
        wide = torch.promote_types(logits.dtype, torch.float32)
        return logits.to(wide) if self.loss_dtype == "float32" else logits

    def likelihood(self, batch: Batch) -> Tensor:
        """() float32 (float64 for a float64 model), nats. One forward of the model."""
        value = label_loss(self.logits(batch), batch.gold)
        return value.to(torch.promote_types(value.dtype, torch.float32))

    def score(self, batch: Batch) -> float:
        """Accuracy, or for a graded task Pearson's correlation; nan where the loss is not finite. One forward of the model."""
        found = self._outcome(self.logits(batch), batch.gold.double().cpu().numpy() * (self.top or 1.0))
        return found["pearson" if self.top else "accuracy"] if math.isfinite(found["loss"]) else math.nan

    def measure(self, examples: list[Example]) -> dict[str, float]:
        """Metrics of `metrics.of_labels` or `metrics.of_scores`, and loss (nats, as in training)."""
        encoded = [self.encode(example) for example in examples]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids), reverse=True)
        logits = torch.empty(len(encoded), len(self.words), dtype=torch.float64)
        for part in batches([len(encoded[i].ids) for i in order]):
            logits[order[part]] = self.logits(self.collate([encoded[i] for i in order[part]])).double().cpu()
        return self._outcome(logits, np.array([p.gold for p in encoded], dtype=np.float64))

    def output_layer(self) -> nn.Linear:
        """The layer that makes the logits, a row per token."""
        return self.model.get_output_embeddings()  # type: ignore  # a peft wrapper passes it on

    def classes(self, examples: Sequence[Example]) -> np.ndarray:
        """(N,) the tokens of the right label words: rows of the output layer."""
        return self.words.cpu().numpy()[[int(example[1]) for example in examples]]

    def features(self, examples: Sequence[Example]) -> np.ndarray:
        """(N, H) float64: what the output layer reads where it predicts the label words."""
        encoded = [self.encode(example) for example in examples]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids), reverse=True)
        states: list[np.ndarray] = [np.empty(0)] * len(encoded)
        with evaluating(self.model), inputs_of(self.output_layer()) as seen:
            for part in batches([len(encoded[i].ids) for i in order]):
                self.logits(self.collate([encoded[i] for i in order[part]]))
                rows = seen.pop()[0].to("cpu", torch.float64).numpy()  # (B, H): the output layer sees no other place
                for i, row in zip(order[part], rows, strict=True):
                    states[i] = row
        return np.stack(states)

    def _outcome(self, logits: Tensor, gold: np.ndarray) -> dict[str, float]:
        return outcome(logits.detach().double().cpu().numpy(), gold, self.top, self.info["metric"])
