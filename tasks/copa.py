"""COPA: which of two clauses is the cause, or the effect? (Roemmele et al., AAAI Spring Symposium 2011)

template=empty is the ablation of ZO-LLM (arXiv:2402.11592): no conjunction between the clauses.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="Choice of Plausible Alternatives",
    year=2011,
    paper="AAAI Spring Symposium 2011; SuperGLUE: arXiv:1905.00537; prompt: arXiv:2305.17333",
    suite="opt",
    kind="choice",
    loss="tokens",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=("Copa", "COPA"),
    needs=("model",),
    hub=dict(
        id="aps/super_glue",
        config="copa",
        folder="super_glue/copa",
        fallbacks=(dict(revision="refs/convert/parquet"), dict(id="hgissbkh/super_glue")),
    ),
    sizes=dict(train=400, validation=100),
    fields=dict(premise="text", choice1="text", choice2="text", question=("cause", "effect"), label=(0, 1)),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(template=("prompt", "empty")),
)


def example(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt, candidates, index of the right one, prompt for calibration.

    >>> row = {"choice1": "The sun was rising.", "choice2": "I cut the grass.", "question": "cause", "label": 0}
    >>> example(row | {"premise": "My body cast a shadow over the grass."})
    ('My body cast a shadow over the grass because ', ['the sun was rising.', 'I cut the grass.'], 0, 'because ')
    """
    word = "so" if row["question"] == "effect" else "because"
    return f"{stem(row)} {word} ", choices(row), row["label"], f"{word} "


def bare(row: dict) -> tuple[str, list[str], int, str]:
    """Without the conjunction.

    >>> row = {"choice1": "The sun was rising.", "choice2": "The grass was cut.", "question": "cause", "label": 0}
    >>> bare(row | {"premise": "My body cast a shadow over the grass."})
    ('My body cast a shadow over the grass ', ['the sun was rising.', 'the grass was cut.'], 0, '')
    """
    return f"{stem(row)} ", choices(row), row["label"], ""


def stem(row: dict) -> str:
    return row["premise"].rstrip().removesuffix(".")


def choices(row: dict) -> list[str]:
    """Both clauses, their first words in lower case unless it is I."""
    firsts = (row[name].split(" ", 1) for name in ("choice1", "choice2"))
    return [" ".join([word if word == "I" else word.lower(), *rest]) for word, *rest in firsts]


def build(setting: Setting, *, template: str = "prompt", num_dev: int = 100, **shared: Any) -> Problem:
    from zobench.problems.choice import ChoiceProblem

    form = example if template == "prompt" else bare
    return ChoiceProblem(setting, INFO, form, template=template, num_dev=num_dev, **shared)
