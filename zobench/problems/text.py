"""Token ids as MeZO's code makes them: stripping, BOS, option lengths, truncation, left padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from zobench.spec import EnvironmentUnmet, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONTEXT = 2048  # tokens, where the model allows as many
MULTIPLE = 8  # padded lengths are multiples of it
BOS_MODES = ("mezo", "hf")


class Tokens(NamedTuple):
    """A token sequence whose last `option` tokens are the ones that are scored."""

    ids: list[int]
    option: int


def bos_id(tokenizer: PreTrainedTokenizerBase, model_type: str, mode: str) -> int | None:
    """The id that opens every sequence, or None for a tokenizer without BOS.

    MeZO forces id 0 (`<s>`) on OPT, whose own tokenizer opens with `</s>` (id 2): mode "hf".
    """
    if mode not in BOS_MODES:
        raise UsageError(f"bos_mode {mode!r}: choose from {', '.join(BOS_MODES)}")
    if mode == "mezo" and model_type == "opt":
        return 0
    found = tokenizer.bos_token_id
    return None if found is None else int(found)  # pyright: ignore[reportArgumentType]  # typed for every special token


class Encoder:
    """Texts to ids. `max_length` counts BOS; longer sequences lose tokens at their start, behind BOS. `truncated` counts them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, bos: int | None, max_length: int) -> None:
        if max_length < 2:
            raise UsageError(f"max_length {max_length}: a sequence needs at least 2 tokens")
        self.tokenizer, self.bos, self.max_length = tokenizer, bos, max_length
        self.truncated = 0
        self._known: tuple[str, list[int]] = ("", [])  # the prompt that was tokenised last: candidates share it

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def prompt(self, prompt: str, before: str = "") -> list[int]:
        """Ids of a prompt alone. `before` are demonstrations with the separator that closes them."""
        return self._close(before + prompt.strip(" "))

    def option(self, prompt: str, full: str, before: str = "") -> Tokens:
        """Ids of `full`, which is prompt and option. Only spaces are stripped: a final newline is a token.

        Raises:
            EnvironmentUnmet: the option has no token of its own, none to its left, or more than the context holds.
        """
        prompt, full = prompt.strip(" "), full.strip(" ")
        if prompt != self._known[0]:
            self._known = prompt, self.ids(prompt)
        whole = self.ids(full)
        option = len(whole) - len(self._known[1])
        if option < 1:
            raise EnvironmentUnmet(f"{full[-40:]!r} adds no token to its prompt; this tokenizer cannot score it")
        ids = self._cut(self.ids((before + full).lstrip()) if before or full != full.lstrip() else whole)
        if option < len(ids):
            return Tokens(ids, option)
        if option > self.max_length - (self.bos is not None):
            raise EnvironmentUnmet(
                f"{full[-40:]!r} ends in {option} tokens to score, and {self.max_length} are the context"
            )
        raise EnvironmentUnmet(f"{full[:40]!r} begins with what is scored, and this tokenizer puts no BOS in front")

    def _close(self, text: str) -> list[int]:
        return self._cut(self.ids(text.lstrip()))

    def _cut(self, ids: list[int]) -> list[int]:
        room = self.max_length - (self.bos is not None)
        self.truncated += len(ids) > room
        return ids[-room:] if self.bos is None else [self.bos, *ids[-room:]]


class Padded(NamedTuple):
    """Rows of equal length, as a model takes them."""

    input_ids: Tensor  # (R, T) int64
    attention_mask: Tensor  # (R, T) int64, 0 on padding; or (R, 1, T, T), what is added to the scores of attention
    position_ids: Tensor  # (R, T) int64, 0 at each sequence's first token


def pad_rows(
    rows: Sequence[Sequence[int]],
    pad: int,
    device: torch.device | str,
    extra: int = 0,
    side: str = "left",
    most: int | None = None,
) -> Padded:
    """Pad rows to the longest, rounded up to a multiple of 8 where `most` columns allow it (the positions that a model has),
    with `extra` more columns (for tests of padding).
    """
    longest = max(map(len, rows))
    width = -(-longest // MULTIPLE) * MULTIPLE
    width = (width if most is None else max(longest, min(width, most))) + extra
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.int64)
    for i, row in enumerate(rows):
        begin = width - len(row) if side == "left" else 0
        ids[i, begin : begin + len(row)] = torch.tensor(row)
        mask[i, begin : begin + len(row)] = 1
    positions = (mask.cumsum(1) - 1).clamp_(min=0)
    return Padded(*(t.to(device, non_blocking=True) for t in (ids, mask, positions)))
