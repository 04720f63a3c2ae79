"""Zero-shot: the weights as they are loaded, evaluated."""

from __future__ import annotations

from typing import Any

INFO = dict(
    title="Zero-shot",
    year=2020,
    paper="Brown et al., arXiv:2005.14165; protocol: Malladi et al., arXiv:2305.17333",
    order="reference",
    family="reference",
    kinds=("choice", "generation", "kshot", "glue", "spans"),
    limits=dict(),
    choices=dict(),
    aliases=(),
    notes="Nothing is trained. A head or an adapter that is new is evaluated as it starts. Where neither they nor the model's "
    "weights are drawn from the seed, all seeds are one run, which is planned once, as seed 0.",
    random=False,
)


def prepare(problem: Any, *, seed: int = 0) -> None:
    """Leave the problem as it is built."""
    del problem, seed
