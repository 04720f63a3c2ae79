"""Rows of your own, each with accepted answers to generate: {"prompt": text, "answers": [texts]}

Training appends the first answer, a space before it and a newline behind; an answer ends at its first newline.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="Own rows with answers",
    year=2026,
    paper="protocol: arXiv:2305.17333",
    suite="own",
    kind="generation",
    loss="tokens",
    metric="f1",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    fields=dict(prompt="text", answers="texts"),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
)


def example(row: dict) -> tuple[str, list[str]]:
    """Prompt, accepted answers.

    >>> example({"prompt": "Question: Who sings?\\nAnswer:", "answers": ["Nora", "Nora Lind"]})
    ('Question: Who sings?\\nAnswer:', ['Nora', 'Nora Lind'])
    """
    return row["prompt"], row["answers"]


def build(setting: Setting, *, place: str, **shared: Any) -> Problem:
    from pathlib import Path

    from zobench.problems.generation import GenerationProblem
    from zobench.problems.options import SIZES
    from zobench.problems.own.rows import Draw

    sizes = {name: shared.pop(name, default) for name, default in SIZES.items()}
    sampling = Draw(Path(place).is_file(), **sizes)
    problem = GenerationProblem(setting, INFO | dict(place=place), example, sampling=sampling, template="own", **shared)
    sampling.facts = problem.facts
    return problem
