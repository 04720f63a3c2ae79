"""Toy question answering: say what a person owns, eats, ...; in the form of SQuAD, for the tiny model"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="Toy question answering",
    year=2026,
    paper="ours; prompt: arXiv:2305.17333",
    suite="toy",
    kind="generation",
    loss="tokens",
    metric="f1",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    model="tiny",  # what runs where no model is asked for
    world="qa",  # whose rows zobench/problems/world.py makes
    sizes=dict(train=2000, validation=1000),
    budget="forwards=1200",
    batch_size=16,
    select="best",
    curve="linear",
    rates=("gradient", "two-point", "adaptive"),
    # of the tiny model, found with a data seed that the card does not show
    step_rates={"gradient": 3e-2, "two-point": 1e-4, "adaptive": 5e-4},
    choices=dict(template=("prompt", "empty")),
    late=("objective",),  # stored results keep their cells
)


def example(row: dict) -> tuple[str, list[str]]:
    """Prompt, accepted answers: the form of SQuAD. Training appends an answer, a space before it, a newline behind.

    >>> row = {"title": "News", "context": "Ben lives in Rome.", "question": "Where does Ben live?"}
    >>> example(row | {"answers": {"text": ["Rome"]}})
    ('Title: News\\nContext: Ben lives in Rome.\\nQuestion: Where does Ben live?\\nAnswer:', ['Rome'])
    """
    question = row["question"].strip()
    prompt = f"Title: {row['title']}\nContext: {row['context']}\nQuestion: {question}\nAnswer:"
    return prompt, list(row["answers"]["text"])


def bare(row: dict) -> tuple[str, list[str]]:
    """The same without the prompt: context and question on two lines.

    >>> row = {"title": "News", "context": "Ben lives in Rome.", "question": "Where does Ben live?"}
    >>> bare(row | {"answers": {"text": ["Rome"]}})
    ('Ben lives in Rome.\\nWhere does Ben live?\\n', ['Rome'])
    """
    return f"{row['context']}\n{row['question'].strip()}\n", list(row["answers"]["text"])


def build(
    setting: Setting,
    *,
    num_dev: int = 300,
    num_eval: int = 500,
    max_new_tokens: int = 12,
    template: str = "prompt",
    **shared: Any,
) -> Problem:
    from zobench.problems.generation import GenerationProblem

    form = example if template == "prompt" else bare
    sizes = dict(num_dev=num_dev, num_eval=num_eval)
    return GenerationProblem(setting, INFO, form, template=template, max_new_tokens=max_new_tokens, **sizes, **shared)
