"""CB: does a speaker who says this hold a clause in it to be true? (de Marneffe et al., Sinn und Bedeutung 23, 2019)

`macro_f1`, the mean of the three labels' F1, is SuperGLUE's second metric.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="CommitmentBank entailment",
    year=2019,
    paper="Sinn und Bedeutung 23; SuperGLUE: arXiv:1905.00537; prompt: arXiv:2305.17333",
    suite="opt",
    kind="choice",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=("CB",),
    needs=("model",),
    hub=dict(
        id="aps/super_glue",
        config="cb",
        folder="super_glue/cb",
        fallbacks=(dict(revision="refs/convert/parquet"), dict(id="hgissbkh/super_glue")),
    ),
    sizes=dict(train=250, validation=56),
    fields=dict(premise="text", hypothesis="text", label=(0, 1, 2)),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
)


def example(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt, candidates, index of the right one, prompt for calibration.

    >>> row = {"premise": "It was complex. She knew it.", "hypothesis": "it was complex", "label": 2}
    >>> prompt, candidates, gold, _ = example(row)
    >>> prompt + candidates[gold]
    'Suppose It was complex. She knew it. Can we infer that "it was complex"? Yes, No, or Maybe?\\nMaybe'
    """
    prompt = f'Suppose {row["premise"]} Can we infer that "{row["hypothesis"]}"? Yes, No, or Maybe?\n'
    return prompt, ["Yes", "No", "Maybe"], row["label"], ""


def build(setting: Setting, *, num_dev: int = 100, **shared: Any) -> Problem:
    from zobench.problems.choice import ChoiceProblem
    from zobench.problems.superglue import macro_f1

    return ChoiceProblem(setting, INFO, example, num_dev=num_dev, extra=macro_f1, **shared)
