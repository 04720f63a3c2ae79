"""DROP: a question that takes counting, sorting or sums over a paragraph (Dua et al., arXiv:1903.00161)

`f1` is SQuAD's over the answer's spans, as published with MeZO; the official one is `drop_official_f1`.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="DROP discrete reasoning",
    year=2019,
    paper="arXiv:1903.00161; prompt: arXiv:2305.17333",
    suite="opt",
    kind="generation",
    loss="tokens",
    metric="f1",
    better="higher",
    scale="linear",
    version=1,
    aliases=("DROP",),
    needs=("model",),
    hub=dict(
        id="ucinlp/drop",
        folder="drop",
    ),
    sizes=dict(train=77400, validation=9535),
    fields=dict(passage="text", question="text", answers_spans="spans"),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
)


def example(row: dict) -> tuple[str, list[str], dict]:
    """Prompt, accepted answers (training appends the first one), and the answer in parts for the official metric.

    >>> row = {"passage": "He kicked 3 goals.", "question": "How many goals?"}
    >>> example(row | {"answers_spans": {"spans": ["3"], "types": ["number"]}})[:2]
    ('Passage: He kicked 3 goals.\\nQuestion: How many goals?\\nAnswer:', ['3'])
    """
    answers = row["answers_spans"]
    return f"Passage: {row['passage']}\nQuestion: {row['question'].strip()}\nAnswer:", list(answers["spans"]), answers


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.generation import GenerationProblem

    return GenerationProblem(setting, INFO, example, metrics="drop", **shared)
