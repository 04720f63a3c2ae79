"""RTE: does one text follow from another? (Dagan et al., MLCW 2005; as in SuperGLUE, Wang et al., arXiv:1905.00537)

template=empty is the ablation of ZO-LLM (arXiv:2402.11592): the two texts without the question about them.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="RTE textual entailment",
    year=2005,
    paper="MLCW 2005; SuperGLUE: arXiv:1905.00537; prompt: arXiv:2305.17333",
    suite="opt",
    kind="choice",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=("RTE",),
    needs=("model",),
    hub=dict(
        id="aps/super_glue",
        config="rte",
        folder="super_glue/rte",
        fallbacks=(dict(revision="refs/convert/parquet"), dict(id="hgissbkh/super_glue")),
    ),
    sizes=dict(train=2490, validation=277),
    fields=dict(premise="text", hypothesis="text", label=(0, 1)),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(template=("prompt", "empty")),
)


def example(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt, candidates, index of the right one, prompt for calibration.

    >>> row = {"premise": "Dana Reeve has died.", "hypothesis": "Reeve had an accident.", "label": 1}
    >>> prompt, candidates, gold, _ = example(row)
    >>> prompt + candidates[gold]
    'Dana Reeve has died.\\nDoes this mean that "Reeve had an accident." is true? Yes or No?\\nNo'
    """
    prompt = f'{row["premise"]}\nDoes this mean that "{row["hypothesis"]}" is true? Yes or No?\n'
    return prompt, ["Yes", "No"], row["label"], ""


def bare(row: dict) -> tuple[str, list[str], int, str]:
    """Without the words of the prompt.

    >>> bare({"premise": "Dana Reeve has died.", "hypothesis": "Reeve had an accident.", "label": 1})
    ('Dana Reeve has died.\\n"Reeve had an accident."\\n', ['Yes', 'No'], 1, '')
    """
    return f'{row["premise"]}\n"{row["hypothesis"]}"\n', ["Yes", "No"], row["label"], ""


def build(setting: Setting, *, template: str = "prompt", **shared: Any) -> Problem:
    from zobench.problems.choice import ChoiceProblem

    return ChoiceProblem(setting, INFO, example if template == "prompt" else bare, template=template, **shared)
