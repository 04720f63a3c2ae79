"""WNLI: does a sentence with a pronoun filled in follow from the text? (Levesque et al., KR 2012, as in GLUE)

form=prompt asks with LM-BFF's prompt at a mask, or a causal model with the one MeZO has for RTE;
form=head puts a new head on the model.
The masked prompt is RTE's too. Answering 0 always is right in 40 of the 71 test rows.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="WNLI pronouns",
    year=2012,
    paper="KR 2012; GLUE: arXiv:1804.07461; prompts: arXiv:2012.15723, arXiv:2305.17333",
    suite="glue",
    kind="glue",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="wnli", folder="glue/wnli"),
    sizes=dict(train=635, validation=71),
    fields=dict(sentence1="text", sentence2="text", label=(0, 1)),
    names=("not_entailment", "entailment"),  # of the labels
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    **{"try": "random:roberta-nano"},
)
PROMPT = "*cls**sent-_0*?*mask*,*+sentl_1**sep+*"
WORDS = ("No", "Yes")


def example(row: dict) -> tuple[tuple[str, str], int]:
    """The two texts; their label, 1 where the second follows.

    >>> example({"sentence1": "Tom saw Sam. He waved.", "sentence2": "Tom waved.", "label": 0})
    (('Tom saw Sam. He waved.', 'Tom waved.'), 0)
    """
    return (row["sentence1"], row["sentence2"]), row["label"]


def question(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt of a causal model, candidates, index of the right one, prompt for calibration.

    >>> row = {"sentence1": "Tom saw Sam. He waved.", "sentence2": "Tom waved.", "label": 0}
    >>> prompt, candidates, gold, _ = question(row)
    >>> prompt + candidates[gold]
    'Tom saw Sam. He waved.\\nDoes this mean that "Tom waved." is true? Yes or No?\\nNo'
    """
    prompt = f'{row["sentence1"]}\nDoes this mean that "{row["sentence2"]}" is true? Yes or No?\n'
    return prompt, ["No", "Yes"], row["label"], ""


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.glue import glue_problem

    return glue_problem(
        setting, INFO, example, question, prompt=PROMPT, words=WORDS, caps=(240, None), limit=256, **shared
    )
