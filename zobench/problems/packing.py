"""Token sequences into rows: what sequences have in common is read once, and short ones share a row.

Candidates of an example share its prompt, so a batch is a forest: a sequence is a path from a root. Every tree becomes
a part of a row; a token attends to its ancestors alone and has its depth as its position, so that each sequence is read
as if it stood by itself. Where a model cannot be told so, each distinct sequence is a row of its own, padded on the left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from zobench.problems.text import MULTIPLE, Padded, pad_rows

GAIN = 0.9  # of the cells of plain rows: packed rows must need fewer to be worth their mask


@dataclass
class Tree:
    """Sequences that begin alike. Node i has a token, a depth; `paths` are the nodes of each sequence, in order."""

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    paths: dict[int, list[int]] = field(default_factory=dict)  # number of the sequence -> its nodes
    last: tuple[int, ...] = ()  # the sequence added last
    shared: dict[int, int] = field(default_factory=dict)  # number of the sequence -> how many nodes it found there

    def add(self, number: int, ids: tuple[int, ...], shared: int) -> None:
        """A sequence that has its first `shared` tokens in common with the one added last."""
        begin = len(self.tokens)
        before = self.paths[next(reversed(self.paths))][:shared] if shared else []
        self.paths[number] = before + list(range(begin, begin + len(ids) - shared))
        self.tokens += ids[shared:]
        self.depths += range(shared, len(ids))
        self.shared[number], self.last = shared, ids

    def __len__(self) -> int:
        return len(self.tokens)


class Forest(NamedTuple):
    """R rows of T cells; token i of sequence s stands in row `row[s]`, column `columns[s][i]`."""

    inputs: Padded
    row: np.ndarray  # (S,) the row of each sequence
    columns: list[np.ndarray]  # of each sequence, in order
    tokens: int  # that one forward reads, without padding


def grow(inputs: Sequence[tuple[int, ...]], share: bool) -> list[Tree]:
    """Trees of distinct sequences. With `share`, one that has half of its tokens in common with another joins its tree."""
    trees: list[Tree] = []
    for number in sorted(range(len(inputs)), key=inputs.__getitem__):
        ids = inputs[number]
        shared = common(trees[-1].last, ids) if share and trees else 0
        if 2 * shared < len(ids) or not shared:
            trees.append(Tree())
            shared = 0
        trees[-1].add(number, ids, shared)
    return trees


def common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many leading tokens two sequences share."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def lay_out(
    inputs: Sequence[tuple[int, ...]],
    pad: int,
    device: torch.device | str,
    *,
    dtype: torch.dtype | None = None,
    extra: int = 0,
    side: str = "left",
) -> Forest:
    """Rows of distinct sequences. dtype: of the model, where it takes a mask over pairs of tokens; None where it does not.

    extra: columns of padding beyond what is needed; side: of the padding of plain rows, left or right. For tests.
    """
    plain = len(inputs) * rounded(max(map(len, inputs)))
    if dtype is not None:
        trees = sorted(grow(inputs, share=True), key=len, reverse=True)
        width = rounded(len(trees[0]))
        rows = fill(trees, width)
        if len(rows) * width < GAIN * plain:
            return packed(rows, width + extra, len(inputs), pad, device, dtype)
    padded = pad_rows(inputs, pad, device, extra, side)
    width = padded.input_ids.shape[1]
    columns = [np.arange(len(ids)) + (width - len(ids) if side == "left" else 0) for ids in inputs]
    return Forest(padded, np.arange(len(inputs)), columns, sum(map(len, inputs)))


def rounded(width: int) -> int:
    return -(-width // MULTIPLE) * MULTIPLE


def fill(trees: Sequence[Tree], width: int) -> list[list[Tree]]:
    """Rows of at most `width` tokens: each tree, longest first, goes to the first row that has room."""
    rows: list[list[Tree]] = []
    room: list[int] = []
    for tree in trees:
        place = next((i for i, left in enumerate(room) if left >= len(tree)), None)
        if place is None:
            place = len(rows)
            rows.append([])
            room.append(width)
        rows[place].append(tree)
        room[place] -= len(tree)
    return rows


def packed(
    rows: list[list[Tree]], width: int, sequences: int, pad: int, device: torch.device | str, dtype: torch.dtype
) -> Forest:
    """The cells and the mask of trees in rows."""
    ids = np.full((len(rows), width), pad)
    positions = np.zeros((len(rows), width), dtype=np.int64)
    seen = np.zeros((len(rows), width, width), dtype=bool)
    seen[:, np.arange(width), np.arange(width)] = True  # padding sees itself: a row of nothing would be NaN
    row, columns = np.zeros(sequences, dtype=np.int64), [np.empty(0, dtype=np.int64)] * sequences
    for r, trees in enumerate(rows):
        begin = 0
        for tree in trees:
            ids[r, begin : begin + len(tree)] = tree.tokens
            positions[r, begin : begin + len(tree)] = tree.depths
            for number, path in tree.paths.items():
                cells = np.asarray(path) + begin
                row[number], columns[number] = r, cells
                own = tree.shared[number]  # the nodes before it have been drawn with the sequence they came with
                seen[r][np.ix_(cells[own:], cells)] = np.tri(len(cells) - own, len(cells), own, dtype=bool)
            begin += len(tree)
    mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(torch.from_numpy(~seen), torch.finfo(dtype).min)
    tensors = (torch.from_numpy(ids), mask[:, None], torch.from_numpy(positions))
    inputs = Padded(*(t.to(device, non_blocking=True) for t in tensors))
    return Forest(inputs, row, columns, sum(len(tree) for trees in rows for tree in trees))


def cut(
    numbers: Sequence[int], lengths: Sequence[int], wanted: Sequence[int], tokens: int, positions: int
) -> list[list[int]]:
    """Batches of consecutive numbers within the limits on tokens and on scored positions; one number always fits."""
    found: list[list[int]] = []
    size = kept = 0
    for number in numbers:
        size, kept = size + lengths[number], kept + wanted[number]
        if not found or size > tokens or kept > positions:
            found.append([])
            size, kept = lengths[number], wanted[number]
        found[-1].append(number)
    return found
