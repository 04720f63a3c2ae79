"""WiC: does a word mean the same in two sentences? (Pilehvar and Camacho-Collados, arXiv:1808.09121)"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="Word in Context",
    year=2019,
    paper="arXiv:1808.09121; SuperGLUE: arXiv:1905.00537; prompt: arXiv:2305.17333",
    suite="opt",
    kind="choice",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=("WIC", "WiC"),
    needs=("model",),
    hub=dict(
        id="aps/super_glue",
        config="wic",
        folder="super_glue/wic",
        fallbacks=(dict(revision="refs/convert/parquet"), dict(id="hgissbkh/super_glue")),
    ),
    sizes=dict(train=5428, validation=638),
    fields=dict(word="text", sentence1="text", sentence2="text", label=(0, 1)),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
)


def example(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt, candidates, index of the right one, prompt for calibration.

    >>> row = {"word": "place", "sentence1": "Come over to my place.", "sentence2": "No place for it.", "label": 0}
    >>> prompt, candidates, gold, _ = example(row)
    >>> print(prompt + candidates[gold])
    Does the word "place" have the same meaning in these two sentences? Yes, No?
    Come over to my place.
    No place for it.
    No
    """
    question = f'Does the word "{row["word"]}" have the same meaning in these two sentences? Yes, No?'
    return f"{question}\n{row['sentence1']}\n{row['sentence2']}\n", ["No", "Yes"], row["label"], ""


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.choice import ChoiceProblem

    return ChoiceProblem(setting, INFO, example, **shared)
