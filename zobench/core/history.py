"""Moments without memory: past estimates are kept as numbers (draw, slope) and drawn again where they are needed.

A momentum over the last h steps costs h draws per element and no state (Malladi et al., 2023, arXiv 2305.17333, appendix B).
"""

from __future__ import annotations

from typing import Any

from zobench.core.perturb import Direction, Seeded, Term


def remember(opt: Any, estimate: Direction, length: int) -> None:
    """Append this step's estimate to the optimizer's history, of which the last `length` are kept."""
    packed = [_pack(term) for term in estimate.terms]
    opt.memory["history"] = [*opt.memory.get("history", []), packed][-length:]


def recall(opt: Any) -> list[Direction]:
    """The remembered estimates, the newest first."""
    packed = opt.memory.get("history", [])
    return [Direction(tuple(_unpack(opt, term) for term in terms)) for terms in reversed(packed)]


def moment(estimates: list[Direction], beta: float) -> Direction:
    """sum_k (1 - beta) beta^age estimate_k: the running mean that starts at zero, cut off at the history's end."""
    total = Direction()
    for age, estimate in enumerate(estimates):
        total += (1 - beta) * beta**age * estimate
    return total


def _pack(term: Term) -> list[Any]:
    if not isinstance(term.source, Seeded) or term.factors:
        raise ValueError("moments can be recomputed from plain noise only: use moments=stored with this law or guide")
    source = term.source
    blocks = None if term.blocks is None else sorted(term.blocks)
    return [source.law, source.draw, source.stream, float(term.coefficient), blocks]


def _unpack(opt: Any, packed: list[Any]) -> Term:
    law, draw, stream, coefficient, blocks = packed
    return Term(Seeded(law, draw, opt.seed, stream), coefficient, None if blocks is None else frozenset(blocks))
