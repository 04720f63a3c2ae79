"""Toy sentiment: is a review of the small world positive? In the form of SST-2, for the tiny model"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="Toy sentiment",
    year=2026,
    paper="ours; prompt: arXiv:2305.17333",
    suite="toy",
    kind="choice",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    model="tiny",  # what runs where no model is asked for
    world="sentiment",  # whose rows zobench/problems/world.py makes
    sizes=dict(train=2000, validation=1000),
    budget="forwards=1600",
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
    """Prompt, candidates, index of the right one, prompt for calibration: the form of SST-2.

    >>> example({"sentence": "The film was dull but the end was superb.", "label": 1})
    ('The film was dull but the end was superb. It was', [' terrible', ' great'], 1, ' It was')
    """
    return f"{row['sentence'].strip()} It was", [" terrible", " great"], row["label"], " It was"


def bare(row: dict) -> tuple[str, list[str], int, str]:
    """The same without the prompt: nothing between the review and the label word.

    >>> bare({"sentence": "The film was dull.", "label": 0})
    ('The film was dull.', [' terrible', ' great'], 0, '')
    """
    return row["sentence"].strip(), [" terrible", " great"], row["label"], ""


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
