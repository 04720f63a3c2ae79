"""SQuAD: answer a question with words of a paragraph (Rajpurkar et al., arXiv:1606.05250)

version=2 adds questions without an answer in the paragraph (arXiv:1806.03822), to which `no answer` is right.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="SQuAD reading comprehension",
    year=2016,
    paper="arXiv:1606.05250; prompt: arXiv:2305.17333",
    suite="opt",
    kind="generation",
    loss="tokens",
    metric="f1",
    better="higher",
    scale="linear",
    version=1,
    aliases=("SQuAD",),
    needs=("model",),
    hub=dict(
        id="rajpurkar/squad",
        config="plain_text",
        folder="squad",
    ),
    sizes=dict(train=87599, validation=10570),
    fields=dict(title="text", context="text", question="text", answers="answers"),
    by=dict(
        version={
            2: dict(
                title="SQuAD 2.0 reading comprehension",
                year=2018,
                paper="arXiv:1806.03822",
                hub=dict(id="rajpurkar/squad_v2", config="squad_v2", folder="squad_v2"),
                sizes=dict(train=130319, validation=11873),
                fields=dict(title="text", context="text", question="text", answers="answers?"),
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


def example(row: dict) -> tuple[str, list[str]]:
    """Prompt, accepted answers; training appends the first one, a space before it and a newline behind.

    >>> row = {"title": "Norman", "context": "They came from Norway.", "question": " Where from? "}
    >>> example(row | {"answers": {"text": ["Norway", "norway"], "answer_start": [15, 15]}})
    ('Title: Norman\\nContext: They came from Norway.\\nQuestion: Where from?\\nAnswer:', ['Norway', 'norway'])
    >>> example(row | {"answers": {"text": [], "answer_start": []}})[1]
    ['no answer']
    """
    question = row["question"].strip()
    prompt = f"Title: {row['title']}\nContext: {row['context']}\nQuestion: {question}\nAnswer:"
    return prompt, list(row["answers"]["text"]) or ["no answer"]


def build(setting: Setting, *, version: int = 1, **shared: Any) -> Problem:
    from zobench.problems.generation import GenerationProblem
    from zobench.problems.options import chosen

    info, metrics = chosen(INFO, dict(version=version)), "squad" if version == 1 else "squad_v2"
    return GenerationProblem(setting, info, example, metrics=metrics, **shared)
