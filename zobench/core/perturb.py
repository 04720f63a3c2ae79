"""Directions, and the two ways in which they meet the weights: `perturb` (out = base + c z) and `materialise`.

A direction is a linear combination of terms that have not been computed yet: seeded noise, dense states, the weights
themselves. Noise is drawn where it is used, block by block, and never stored. For float32, bfloat16 and float16 weights
the combination is computed in float32, for float64 in float64, term by term from the left, with one rounding at the write.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zobench.core import philox

LAWS = tuple(philox.LAWS)  # a law's place in this list is its number in the kernels
CHUNK = 1 << 20  # elements that the general path holds in scratch at a time

# What a term may be multiplied by: a number per tensor, a tensor per tensor (elementwise), or a function of (elements of w,
# number of the tensor, which of its elements they are) that gives as many numbers: a mask, say.
Factor = Sequence[float] | Sequence[Tensor] | Callable[[Tensor, int, slice], Tensor]


@dataclass(frozen=True, slots=True)
class Seeded:
    """Noise named by numbers: the law and the (draw, seed, stream) of its generator. Standardised: unit variance."""

    law: str
    draw: int
    seed: int | tuple[int, ...]  # a tuple: the same draw of many runs, one seed each
    stream: int = philox.DIRECTION


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A stored direction: one tensor per parameter; None where the term is confined to others."""

    tensors: Sequence[Tensor | None]


@dataclass(frozen=True, slots=True, eq=False)
class Factored:
    """A direction of low rank: left (m, r) @ right (r, n) for each matrix of m * n elements; None for other tensors."""

    left: Sequence[Tensor | None]
    right: Sequence[Tensor | None]


@dataclass(frozen=True, slots=True, eq=False)
class Squared:
    """The elementwise square of a direction: a term of a second moment that is never stored."""

    direction: Direction


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The weights themselves, minus an anchor (one tensor per parameter) where there is one."""

    anchor: Sequence[Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Term:
    source: Seeded | Dense | Factored | Squared | Weights
    coefficient: float | np.ndarray = 1.0  # an array (S,): one for each of many runs
    blocks: frozenset[int] | None = None  # the tensors it is confined to; None means all
    factors: tuple[Factor, ...] = ()

    def at(self, i: int) -> Any:
        """The number in front of this term on tensor i; an array for many runs."""
        if self.blocks is not None and i not in self.blocks:
            return 0.0
        value = self.coefficient
        for factor in self.factors:
            number = None if callable(factor) else factor[i]
            if isinstance(number, (int, float)):
                value = value * number  # not in place: it may be an array that others hold
        return value

    def elementwise(self) -> list[Factor]:
        return [f for f in self.factors if callable(f) or isinstance(f[0], Tensor)]


@dataclass(frozen=True, slots=True)
class Direction:
    """A linear combination of terms; `2 * z1 - z2`, `z.only({0, 3})` and `z.scaled(factor)` give new ones."""

    terms: tuple[Term, ...] = ()

    __array_ufunc__ = None  # an array times a direction is for the direction to compute

    def __mul__(self, number: float | np.ndarray) -> Direction:
        number = number if isinstance(number, np.ndarray) else float(number)
        return Direction(tuple(replace(t, coefficient=t.coefficient * number) for t in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Direction:
        return self * -1.0

    def __add__(self, other: Direction) -> Direction:
        """The sum, with like seeded terms merged, so that `-eps z` after `+eps z` is one draw and exactly nothing."""
        terms = list(self.terms)
        for new in other.terms:
            same = [k for k, t in enumerate(terms) if _alike(t, new)]
            if same:
                old = terms[same[0]]
                terms[same[0]] = replace(old, coefficient=old.coefficient + new.coefficient)
            else:
                terms.append(new)
        return Direction(tuple(t for t in terms if np.any(t.coefficient)))

    def __sub__(self, other: Direction) -> Direction:
        return self + (-other)

    def __bool__(self) -> bool:
        return bool(self.terms)

    def only(self, blocks: Sequence[int] | frozenset[int]) -> Direction:
        """The same direction on the tensors with these indices, zero elsewhere."""
        kept = frozenset(blocks)
        return Direction(tuple(replace(t, blocks=kept if t.blocks is None else t.blocks & kept) for t in self.terms))

    def scaled(self, factor: Factor) -> Direction:
        """Multiplied by a number per tensor, a tensor per tensor (elementwise), or a function of the weights (a mask)."""
        return Direction(tuple(replace(t, factors=(*t.factors, factor)) for t in self.terms))

    @property
    def of_weights(self) -> bool:
        """Whether it may be another direction where the weights are others."""
        return any(isinstance(t.source, Weights) or any(map(callable, t.factors)) for t in self.terms)

    @property
    def fused(self) -> bool:
        """Whether every term is plain noise, which the kernels draw and add in one pass."""
        return all(isinstance(t.source, Seeded) and not t.elementwise() for t in self.terms)


def _alike(a: Term, b: Term) -> bool:
    return (
        isinstance(a.source, Seeded)
        and a.source == b.source
        and a.blocks == b.blocks
        and not a.factors
        and not b.factors
    )


def seeded(law: str, draw: int, seed: int | tuple[int, ...], stream: int = philox.DIRECTION) -> Direction:
    if law not in LAWS:
        raise ValueError(f"unknown law {law!r}: choose from {', '.join(LAWS)}")
    return Direction((Term(Seeded(law, draw, seed, stream)),))


def dense(tensors: Sequence[Tensor | None]) -> Direction:
    """A stored direction; where a tensor is None it is zero."""
    missing = any(t is None for t in tensors)
    blocks = frozenset(i for i, t in enumerate(tensors) if t is not None) if missing else None
    return Direction((Term(Dense(tensors), blocks=blocks),))


def factored(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> Direction:
    """left[i] (m, r) @ right[i] (r, n) on every tensor i that has both, nothing on the others."""
    pairs = zip(left, right, strict=True)
    blocks = frozenset(i for i, (a, b) in enumerate(pairs) if a is not None and b is not None)
    return Direction((Term(Factored(left, right), blocks=blocks),))


def squared(direction: Direction) -> Direction:
    """The elementwise square of a direction, as a direction."""
    return Direction((Term(Squared(direction)),))


def weights(anchor: Sequence[Tensor] | None = None) -> Direction:
    return Direction((Term(Weights(anchor)),))


# --- the backends ---

_reference_only = False


@contextlib.contextmanager
def reference() -> Iterator[None]:
    """Inside, the plain torch backend serves the CPU too: for tests, and where numba is not to be trusted."""
    global _reference_only
    before, _reference_only = _reference_only, True
    try:
        yield
    finally:
        _reference_only = before


def using_reference() -> bool:
    """Whether `reference()` is in force."""
    return _reference_only


def computing_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _combine_reference(base, out, index, offset, laws, draws, seeds, streams, coefs, rows=None) -> None:
    """The same operations in plain torch, on any device."""
    terms = len(laws)
    for t, (b, o) in enumerate(zip(base, out, strict=True)):
        wide = computing_dtype(b.dtype)
        whole = o if o.is_contiguous() else torch.empty(o.shape, dtype=o.dtype, device=o.device)
        flat, target, n = b.reshape(-1), whole.view(-1), b.numel()
        for lo in range(0, n, CHUNK):
            hi, total = min(lo + CHUNK, n), None
            for k in range(terms):
                where = (seeds[k], draws[k], index[t], streams[k])
                if rows is None:
                    z = philox.LAWS[LAWS[laws[k]]](*where, hi - lo, offset[t] + lo, b.device)
                else:
                    at = torch.arange(lo, hi, device=b.device)
                    z = philox.elements(LAWS[laws[k]], *where, rows[at // b.shape[1]] * b.shape[1] + at % b.shape[1])
                value = z.to(wide) * coefs[t * terms + k]  # two operations: torch.add(alpha=) may contract
                total = value if total is None else total + value
            target[lo:hi] = (flat[lo:hi].to(wide) + total).to(b.dtype)
        if whole is not o:
            o.copy_(whole)


def _combine_numba(base, out, index, offset, laws, draws, seeds, streams, coefs, rows=None) -> None:
    import numpy as np

    from zobench.core import kernels

    numbers = np.asarray([laws, draws, seeds, streams], np.int64)
    table = np.asarray(coefs, np.float64).reshape(len(base), len(laws))
    if rows is not None:
        (b,), (o,), width = base, out, base[0].shape[1]
        step = width * b.element_size()
        places = np.arange(len(rows), dtype=np.int64) * step
        size, repeat = np.full(len(rows), width, np.int64), np.zeros(len(rows), np.int64)
        at = rows.cpu().numpy().astype(np.int64) * width
        pieces = (b.data_ptr() + places, o.data_ptr() + places, size, at, repeat + index[0])
        kernels.combine(b.dtype, *pieces, *numbers, np.broadcast_to(table, (len(rows), len(laws))).copy())
        return
    for dtype in dict.fromkeys(b.dtype for b in base):
        chosen = [t for t, b in enumerate(base) if b.dtype == dtype]
        pieces = np.asarray(
            [[base[t].data_ptr(), out[t].data_ptr(), base[t].numel(), offset[t], index[t]] for t in chosen], np.int64
        ).T.copy()
        kernels.combine(dtype, *pieces, *numbers, table[chosen])


@torch.library.custom_op("zobench::combine", mutates_args=("out",))
def combine_op(
    base: Sequence[Tensor], out: Sequence[Tensor], index: Sequence[int], offset: Sequence[int], laws: Sequence[int],
    draws: Sequence[int], seeds: Sequence[int], streams: Sequence[int], coefs: Sequence[float],
) -> None:  # fmt: skip
    """out[t] = base[t] + sum_k coefs[t, k] z_k: the tensors may be slices that begin at element offset[t]."""
    _combine_reference(base, out, index, offset, laws, draws, seeds, streams, coefs)


@combine_op.register_kernel("cpu")
def _combine_cpu(base, out, index, offset, laws, draws, seeds, streams, coefs):
    plain = all(b.is_contiguous() and o.is_contiguous() for b, o in zip(base, out, strict=True))
    backend = _combine_reference if _reference_only or not plain else _combine_numba
    backend(base, out, index, offset, laws, draws, seeds, streams, coefs)


@torch.library.custom_op("zobench::combine_rows", mutates_args=("out",))
def combine_rows_op(
    base: Tensor, out: Tensor, rows: Tensor, index: int, laws: Sequence[int], draws: Sequence[int],
    seeds: Sequence[int], streams: Sequence[int], coefs: Sequence[float],
) -> None:  # fmt: skip
    """out (R, D) = base (R, D) + noise of the rows numbered `rows` (R,) of the table that is tensor `index`."""
    _combine_reference([base], [out], [index], [0], laws, draws, seeds, streams, coefs, rows)


@combine_rows_op.register_kernel("cpu")
def _combine_rows_cpu(base, out, rows, index, laws, draws, seeds, streams, coefs):
    backend = _combine_reference if _reference_only else _combine_numba
    backend([base], [out], [index], [0], laws, draws, seeds, streams, coefs, rows)


@combine_op.register_fake
def _(base, out, index, offset, laws, draws, seeds, streams, coefs):
    return None


@combine_rows_op.register_fake
def _(base, out, rows, index, laws, draws, seeds, streams, coefs):
    return None


# --- the primitives ---


def _eager(tensor: Tensor) -> bool:
    """Whether the CPU backend may be called without the dispatcher, which costs more than a small tensor's noise."""
    return (
        tensor.device.type == "cpu" and not torch.compiler.is_compiling() and not torch._C._len_torch_dispatch_stack()
    )


def _combine(base, out, *numbers) -> None:
    (_combine_cpu if _eager(base[0]) else combine_op)(base, out, *numbers)


def _numbers(direction: Direction) -> tuple[list[int], list[int], list[int], list[int]]:
    sources = [t.source for t in direction.terms if isinstance(t.source, Seeded)]
    return (
        [LAWS.index(s.law) for s in sources],
        [s.draw for s in sources],
        [s.seed for s in sources],  # pyright: ignore[reportReturnType]  # no tuples here: those are for core.many
        [s.stream for s in sources],
    )


def perturb(
    base: Sequence[Tensor],
    out: Sequence[Tensor],
    direction: Direction,
    *,
    index: Sequence[int] | None = None,
    offset: Sequence[int] | None = None,
    scale: Sequence[float] | float = 1.0,
) -> None:
    """out[t] = base[t] + scale[t] * direction; `out` may be `base` itself.

    index: the number of each tensor among the parameters (default 0, 1, ...); offset: where a slice begins in it.
    """
    index = range(len(base)) if index is None else index
    offset = [0] * len(base) if offset is None else offset
    scales = [scale] * len(base) if isinstance(scale, (int, float)) else scale
    coefs = [[s * term.at(i) for term in direction.terms] for i, s in zip(index, scales, strict=True)]
    moved = [t for t, row in enumerate(coefs) if any(row)]
    for t in set(range(len(base))) - set(moved):
        if base[t].data_ptr() != out[t].data_ptr():
            out[t].copy_(base[t])
    if not moved:
        return
    if direction.fused:
        # Only terms that a tensor has are drawn for it: a direction may hold a draw for every block
        alike: dict[tuple[bool, ...], list[int]] = {}
        for t in moved:
            alike.setdefault(tuple(c != 0 for c in coefs[t]), []).append(t)
        for used, chosen in alike.items():
            part = direction if all(used) else Direction(tuple(itertools.compress(direction.terms, used)))
            pick = lambda values, chosen=chosen: [values[t] for t in chosen]  # noqa: E731
            flat = [c for t in chosen for c in itertools.compress(coefs[t], used)]
            _combine(pick(base), pick(out), pick(index), pick(offset), *_numbers(part), flat)
        return
    for t in moved:
        _combine_general(base[t], out[t], direction, coefs[t], index[t], offset[t])


def perturb_rows(base: Tensor, rows: Tensor, direction: Direction, index: int) -> Tensor:
    """(R, D): the rows numbered `rows` (R,) of a table (V, D), perturbed; nothing else of the table is drawn."""
    picked = base[rows]
    coefs = [term.at(index) for term in direction.terms]
    if any(coefs):
        call = _combine_rows_cpu if _eager(base) else combine_rows_op
        call(picked, picked, rows, index, *_numbers(direction), coefs)
    return picked


def _combine_general(base: Tensor, out: Tensor, direction: Direction, coefs: list[float], i: int, offset: int) -> None:
    wide = computing_dtype(base.dtype)
    whole = out if out.is_contiguous() else torch.empty(out.shape, dtype=out.dtype, device=out.device)
    source, target = base.reshape(-1), whole.view(-1)
    for lo in range(0, source.numel(), CHUNK):
        hi = min(lo + CHUNK, source.numel())
        w = source[lo:hi].to(wide)
        total = _total(direction, coefs, w, i, slice(offset + lo, offset + hi))
        target[lo:hi] = (w + total).to(base.dtype)
    if whole is not out:
        out.copy_(whole)


def _total(direction: Direction, coefs: Sequence[float], w: Tensor, i: int, part: slice) -> Tensor:
    """The numbers of elements `part` of tensor i, whose weights are w, in the dtype of w."""
    total: Tensor | None = None
    for term, c in zip(direction.terms, coefs, strict=True):
        if c == 0.0:
            continue
        value = _values(term, w, i, part)
        for factor in term.elementwise():
            value = value * _elements(factor, w, i, part)
        value = value * c
        total = value if total is None else total + value
    return torch.zeros_like(w) if total is None else total


def elements(direction: Direction, w: Tensor, i: int, part: slice) -> Tensor:
    """Elements `part` of a direction on tensor i, whose weights there are w: for factors that are made of directions."""
    return _total(direction, [term.at(i) for term in direction.terms], w, i, part)


def _elements(factor: Factor, w: Tensor, i: int, part: slice) -> Tensor:
    """An elementwise factor on these elements of tensor i, in the dtype of w."""
    if callable(factor):
        return factor(w, i, part).to(w.dtype)
    chosen = factor[i]
    assert isinstance(chosen, Tensor)
    return chosen.reshape(-1)[part].to(w.dtype)


def _values(term: Term, w: Tensor, i: int, part: slice) -> Tensor:
    """A term on these elements of tensor i, before its coefficient, in the dtype of w."""
    match term.source:
        case Seeded():
            return noise(term.source, w, i, part)
        case Dense(tensors):
            stored = tensors[i]
            assert stored is not None  # the term is confined to the tensors that it has
            return stored.reshape(-1)[part].to(w.dtype)
        case Factored(left, right):
            a, b = left[i], right[i]
            assert a is not None and b is not None
            first, last = part.start // b.shape[1], -(-part.stop // b.shape[1])
            rows = (a[first:last].to(w.dtype) @ b.to(w.dtype)).reshape(-1)
            return rows[part.start - first * b.shape[1] :][: part.stop - part.start]
        case Squared(inner):
            value = _total(inner, [t.at(i) for t in inner.terms], w, i, part)
            return value * value
        case Weights(anchor):
            return w if anchor is None else w - anchor[i].reshape(-1)[part].to(w.dtype)


def noise(source: Seeded, w: Tensor, i: int, part: slice) -> Tensor:
    """Elements `part` of the seeded noise of tensor i, on the device and in the dtype of w."""
    z = torch.zeros(part.stop - part.start, dtype=torch.float32, device=w.device)
    _combine(
        [z], [z], [i], [part.start], [LAWS.index(source.law)], [source.draw], [source.seed], [source.stream], [1.0]
    )
    return z.to(w.dtype)


def materialise(direction: Direction, like: Tensor, i: int, out: Tensor | None = None) -> Tensor:
    """The direction on tensor i as numbers, shaped like the parameter, in the dtype in which it is computed."""
    wide = computing_dtype(like.dtype)
    z = torch.zeros(like.shape, dtype=wide, device=like.device) if out is None else out.zero_()
    if direction.fused:
        perturb([z], [z], direction, index=[i])
        return z
    source, target, coefs = like.detach().reshape(-1), z.view(-1), [term.at(i) for term in direction.terms]
    for lo in range(0, source.numel(), CHUNK):
        part = slice(lo, min(lo + CHUNK, source.numel()))
        target[part] = _total(direction, coefs, source[part].to(wide), i, part)
    return z


def warm_up() -> None:
    """Load the compiled kernels before the clock runs."""
    z = torch.zeros(4)
    perturb([z], [z], seeded("gaussian", 0, 0))
