"""SQuAD, extractive: mark the answer in the paragraph with a start and an end (Rajpurkar et al., arXiv:1606.05250)

version=2 adds questions without an answer in the paragraph (arXiv:1806.03822).
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="SQuAD, extractive",
    year=2016,
    paper="arXiv:1606.05250; protocol: transformers, run_qa",
    suite="squad",
    kind="spans",
    loss="spans",
    metric="f1",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(
        id="rajpurkar/squad",
        config="plain_text",
        folder="squad",
    ),
    sizes=dict(train=87599, validation=10570),
    fields=dict(context="text", question="text", answers="answers"),
    by=dict(
        version={
            2: dict(
                title="SQuAD 2.0, extractive",
                year=2018,
                paper="arXiv:1806.03822; protocol: transformers, run_qa",
                hub=dict(id="rajpurkar/squad_v2", config="squad_v2", folder="squad_v2"),
                sizes=dict(train=130319, validation=11873),
                fields=dict(context="text", question="text", answers="answers?"),
            )
        }
    ),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(version=(1, 2)),
)


def example(row: dict) -> tuple[str, str, tuple[str, ...], int]:
    """Question, context, accepted answers, and where in the context the first one begins, which trains.

    >>> row = {"context": "They came from Norway.", "question": " Where from?"}
    >>> example(row | {"answers": {"text": ["Norway", "from Norway"], "answer_start": [15, 10]}})
    ('Where from?', 'They came from Norway.', ('Norway', 'from Norway'), 15)
    >>> example(row | {"answers": {"text": [], "answer_start": []}})[2:]
    ((), 0)
    """
    texts = tuple(row["answers"]["text"])
    start = row["answers"]["answer_start"][0] if texts else 0
    return row["question"].lstrip(), row["context"], texts, start  # leading spaces would be tokens of their own


def build(setting: Setting, *, version: int = 1, **shared: Any) -> Problem:
    from zobench.problems.options import chosen
    from zobench.problems.spans import Example, SpanProblem

    info = chosen(INFO, dict(version=version))
    return SpanProblem(setting, info, lambda row: Example(*example(row)), version=version, **shared)
