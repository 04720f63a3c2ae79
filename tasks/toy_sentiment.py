"""Toy sentiment: is a review of the small world positive? In the form of SST-2, for the tiny model"""

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
    limits=dict(num_train=">0", num_dev=">0", num_eval=">0"),
    choices=dict(template=("prompt", "empty"), bos_mode=("mezo", "hf"), loss_dtype=("float32", "model")),
)


def example(row: dict) -> tuple[str, list[str], int]:
    """Prompt, candidates, index of the right one: the form of SST-2.

    >>> example({"sentence": "The film was dull but the end was superb.", "label": 1})
    ('The film was dull but the end was superb. It was', [' terrible', ' great'], 1)
    """
    return f"{row['sentence'].strip()} It was", [" terrible", " great"], row["label"]


def bare(row: dict) -> tuple[str, list[str], int]:
    """The same without the prompt: nothing between the review and the label word.

    >>> bare({"sentence": "The film was dull.", "label": 0})
    ('The film was dull.', [' terrible', ' great'], 0)
    """
    return row["sentence"].strip(), [" terrible", " great"], row["label"]


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
