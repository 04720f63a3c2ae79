"""In-context learning: right answers to other rows stand in front of each prompt (Brown et al., arXiv:2005.14165)."""

from __future__ import annotations

from typing import Any

import numpy as np

from zobench.problems.causal import CausalProblem
from zobench.problems.sampling import permutation
from zobench.spec import UsageError

INFO = dict(
    title="In-context learning",
    year=2020,
    paper="Brown et al., arXiv:2005.14165; protocol: Malladi et al., arXiv:2305.17333",
    order="reference",
    family="reference",
    kinds=("choice", "generation", "glue"),
    forms=("prompt",),
    limits=dict(shots=">0"),
    choices=dict(),
    aliases=("in-context", "in-context-learning"),
    notes="Each evaluated example has demonstrations of its own, drawn from the whole train split by the papers' rule; for "
    "validation the validation rows are left out, and where one file holds every split, so are the test rows, for both. "
    "Contexts that are too long lose their beginning.",
    random=False,
)

SEPARATOR = "\n\n"
SEEDS = 10_000  # of the draws of demonstrations


def prepare(problem: Any, *, seed: int = 0, shots: int = 32) -> None:
    """Put demonstrations in front of every example that is evaluated.

    Those of the i-th example are the first `shots` of `RandomState(s_i).permutation(rows of the train split)`, s =
    `RandomState(0).randint(0, 10000, examples)` (Malladi et al., arXiv:2305.17333), without those that are hidden
    (`sampling.Sample.hidden`); neither seed of the run changes them.
    """
    del seed
    if not isinstance(problem, CausalProblem):
        raise UsageError("demonstrations are read by a causal language model that answers a prompt; this task has none")
    splits = ["validation", "test"] if problem.setting.score == "test" else ["validation"]
    examples = {split: problem.examples(split) for split in splits}
    assert problem.drawn is not None
    source = problem.source()
    total = len(source.rows("train"))
    chosen = {split: draw(len(found), total, shots, problem.drawn.hidden(split)) for split, found in examples.items()}
    rows = np.unique(np.concatenate([np.ravel(numbers) for numbers in chosen.values()]))
    texts = dict(zip(rows.tolist(), problem.demonstrations(source, rows.tolist()), strict=True))
    for split, numbers in chosen.items():
        problem.before[split] = [context([texts[row] for row in shown]) for shown in numbers.tolist()]
    problem.facts["shots"] = shots


def draw(examples: int, total: int, shots: int, without: Any = ()) -> np.ndarray:
    """(examples, shots) numbers of the rows that each example is shown, of `total`, none of them in `without`."""
    if total - len(without) < shots:
        left = f" ({len(without)} more are set aside to evaluate on)" if len(without) else ""
        raise UsageError(
            f"shots={shots}, but the train split has {total - len(without)} rows to show{left}; ask for fewer"
        )
    seeds = np.random.RandomState(0).randint(0, SEEDS, examples)
    found = np.empty((examples, shots), dtype=np.int64)
    for i, seed in enumerate(seeds.tolist()):
        order = permutation(seed, total, total)
        found[i] = order[~np.isin(order, without)][:shots]
    return found


def context(demonstrations: list[str]) -> str:
    """What goes before a prompt: the demonstrations and the separator behind the last one.

    >>> context(["good film. It was great", "dull. It was terrible"])
    'good film. It was great\\n\\ndull. It was terrible\\n\\n'
    """
    return SEPARATOR.join(demonstrations).strip() + SEPARATOR
