"""Toy COPA: which of two clauses is the cause, or the effect? In the form of COPA, for the tiny model"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="Toy COPA",
    year=2026,
    paper="ours; prompt: arXiv:2305.17333",
    suite="toy",
    kind="choice",
    loss="tokens",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    model="tiny",  # what runs where no model is asked for
    world="copa",  # whose rows zobench/problems/world.py makes
    sizes=dict(train=2000, validation=1000),
    budget="forwards=2000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=("gradient", "two-point", "adaptive"),
    # of the tiny model, found with a data seed that the card does not show
    step_rates={"gradient": 3e-2, "two-point": 3e-4, "adaptive": 5e-4},
    choices=dict(template=("prompt", "empty")),
    late=("objective", "calibration"),  # stored results keep their cells
)


def example(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt, candidates, index of the right one, prompt for calibration: the form of COPA.

    >>> row = {"choice1": "She lit a fire.", "choice2": "She took a nap.", "label": 1}
    >>> example(row | {"premise": "Anna was tired.", "question": "effect"})
    ('Anna was tired so ', ['she lit a fire.', 'she took a nap.'], 1, 'so ')
    >>> example(row | {"premise": "Anna was tired.", "question": "cause"})[0]
    'Anna was tired because '
    """
    word = "so" if row["question"] == "effect" else "because"
    return f"{stem(row)} {word} ", choices(row), row["label"], f"{word} "


def bare(row: dict) -> tuple[str, list[str], int, str]:
    """The same without the conjunction.

    >>> row = {"choice1": "She lit a fire.", "choice2": "She took a nap.", "label": 1}
    >>> bare(row | {"premise": "Anna was tired.", "question": "effect"})
    ('Anna was tired ', ['she lit a fire.', 'she took a nap.'], 1, '')
    """
    return f"{stem(row)} ", choices(row), row["label"], ""


def stem(row: dict) -> str:
    return row["premise"].rstrip().removesuffix(".")


def choices(row: dict) -> list[str]:
    return [text[0].lower() + text[1:] for text in (row["choice1"], row["choice2"])]


def build(
    setting: Setting,
    *,
    num_dev: int = 300,
    num_eval: int = 500,
    template: str = "prompt",
    **shared: Any,
) -> Problem:
    from zobench.problems.choice import ChoiceProblem

    form = example if template == "prompt" else bare
    sizes = dict(num_dev=num_dev, num_eval=num_eval)
    return ChoiceProblem(setting, INFO, form, template=template, **sizes, **shared)
