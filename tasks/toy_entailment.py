"""Toy entailment: does a statement follow, contradict, or neither? In the form of CB, for the tiny model"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="Toy entailment",
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
    world="entailment",  # whose rows zobench/problems/world.py makes
    sizes=dict(train=2000, validation=1000),
    budget="forwards=1200",
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
    """Prompt, candidates, index of the right one, prompt for calibration: the form of CB.

    >>> example({"premise": "Ben eats figs.", "hypothesis": "Ben eats fruit", "label": 0})
    ('Suppose Ben eats figs. Can we infer that "Ben eats fruit"? Yes, No, or Maybe?\\n', ['Yes', 'No', 'Maybe'], 0, '')
    """
    prompt = f'Suppose {row["premise"]} Can we infer that "{row["hypothesis"]}"? Yes, No, or Maybe?\n'
    return prompt, ["Yes", "No", "Maybe"], row["label"], ""


def bare(row: dict) -> tuple[str, list[str], int, str]:
    """The same without the prompt: premise and hypothesis on two lines.

    >>> bare({"premise": "Ben eats figs.", "hypothesis": "Ben eats fruit", "label": 0})
    ('Ben eats figs.\\n"Ben eats fruit"\\n', ['Yes', 'No', 'Maybe'], 0, '')
    """
    return f'{row["premise"]}\n"{row["hypothesis"]}"\n', ["Yes", "No", "Maybe"], row["label"], ""


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
