"""RTE of GLUE: does one text follow from another? (Dagan et al., MLCW 2005)

form=prompt asks with LM-BFF's prompt at a mask, or a causal model with MeZO's;
form=head puts a new head on the model.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="RTE textual entailment, GLUE",
    year=2005,
    paper="MLCW 2005; GLUE: arXiv:1804.07461; prompts: arXiv:2012.15723, arXiv:2305.17333",
    suite="glue",
    kind="glue",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="rte", folder="glue/rte"),
    sizes=dict(train=2490, validation=277),
    fields=dict(sentence1="text", sentence2="text", label=(0, 1)),
    names=("entailment", "not_entailment"),  # of the labels
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    **{"try": "random:roberta-nano"},
)
PROMPT = "*cls**sent-_0*?*mask*,*+sentl_1**sep+*"
WORDS = ("Yes", "No")


def example(row: dict) -> tuple[tuple[str, str], int]:
    """The two texts; their label, 0 where the second follows.

    >>> example({"sentence1": "Dana Reeve has died.", "sentence2": "Reeve had an accident.", "label": 1})
    (('Dana Reeve has died.', 'Reeve had an accident.'), 1)
    """
    return (row["sentence1"], row["sentence2"]), row["label"]


def question(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt of a causal model, candidates, index of the right one, prompt for calibration.

    >>> row = {"sentence1": "Dana Reeve has died.", "sentence2": "Reeve had an accident.", "label": 1}
    >>> prompt, candidates, gold, _ = question(row)
    >>> prompt + candidates[gold]
    'Dana Reeve has died.\\nDoes this mean that "Reeve had an accident." is true? Yes or No?\\nNo'
    """
    prompt = f'{row["sentence1"]}\nDoes this mean that "{row["sentence2"]}" is true? Yes or No?\n'
    return prompt, ["Yes", "No"], row["label"], ""


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.glue import glue_problem

    return glue_problem(
        setting, INFO, example, question, prompt=PROMPT, words=WORDS, caps=(240, None), limit=256, **shared
    )
