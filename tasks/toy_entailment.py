"""Toy entailment: does a statement follow, contradict, or neither? In the form of CB, for the tiny model"""

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
    limits=dict(num_train=">0", num_dev=">0", num_eval=">0"),
    choices=dict(template=("prompt", "empty"), bos_mode=("mezo", "hf"), loss_dtype=("float32", "model")),
)


def example(row: dict) -> tuple[str, list[str], int]:
    """Prompt, candidates, index of the right one: the form of CB.

    >>> example({"premise": "Ben eats figs.", "hypothesis": "Ben eats fruit", "label": 0})
    ('Suppose Ben eats figs. Can we infer that "Ben eats fruit"? Yes, No, or Maybe?\\n', ['Yes', 'No', 'Maybe'], 0)
    """
    prompt = f'Suppose {row["premise"]} Can we infer that "{row["hypothesis"]}"? Yes, No, or Maybe?\n'
    return prompt, ["Yes", "No", "Maybe"], row["label"]


def bare(row: dict) -> tuple[str, list[str], int]:
    """The same without the prompt: premise and hypothesis on two lines.

    >>> bare({"premise": "Ben eats figs.", "hypothesis": "Ben eats fruit", "label": 0})
    ('Ben eats figs.\\n"Ben eats fruit"\\n', ['Yes', 'No', 'Maybe'], 0)
    """
    return f'{row["premise"]}\n"{row["hypothesis"]}"\n', ["Yes", "No", "Maybe"], row["label"]


def build(
    setting: Setting,
    *,
    num_train: int = 1000,
    num_dev: int = 300,
    num_eval: int = 500,
    template: str = "prompt",
    bos_mode: str = "mezo",
    loss_dtype: str = "float32",
) -> Problem:
    from zobench.problems.choice import ChoiceProblem

    return ChoiceProblem(
        setting,
        INFO | {"template": template},
        example if template == "prompt" else bare,
        num_train=num_train,
        num_dev=num_dev,
        num_eval=num_eval,
        bos_mode=bos_mode,
        loss_dtype=loss_dtype,
    )
