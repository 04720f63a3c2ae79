"""MRPC: do two sentences of the news mean the same? (Dolan and Brockett, IWP 2005)

form=prompt asks with LM-BFF's prompt at a mask, or a causal model with a prompt of ours;
form=head puts a new head on the model.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="MRPC paraphrases",
    year=2005,
    paper="IWP 2005; GLUE: arXiv:1804.07461; prompts: arXiv:2012.15723, arXiv:2305.17333",
    suite="glue",
    kind="glue",
    loss="candidates",
    metric="f1",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="mrpc", folder="glue/mrpc"),
    sizes=dict(train=3668, validation=408),
    fields=dict(sentence1="text", sentence2="text", label=(0, 1)),
    names=("not_equivalent", "equivalent"),  # of the labels
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    **{"try": "random:roberta-nano"},
)
PROMPT = "*cls**sent_0**mask*,*+sentl_1**sep+*"
WORDS = ("No", "Yes")


def example(row: dict) -> tuple[tuple[str, str], int]:
    """The two sentences; their label.

    >>> example({"sentence1": "He left.", "sentence2": "He went away.", "label": 1})
    (('He left.', 'He went away.'), 1)
    """
    return (row["sentence1"], row["sentence2"]), row["label"]


def question(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt of a causal model, candidates, index of the right one, prompt for calibration.

    >>> question({"sentence1": "He left.", "sentence2": "He went away.", "label": 1})
    ('He left.\\nHe went away.\\nDo these two sentences mean the same thing? Yes or No?\\n', ['No', 'Yes'], 1, '')
    """
    prompt = f"{row['sentence1']}\n{row['sentence2']}\nDo these two sentences mean the same thing? Yes or No?\n"
    return prompt, ["No", "Yes"], row["label"], ""


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.glue import glue_problem

    return glue_problem(setting, INFO, example, question, prompt=PROMPT, words=WORDS, **shared)
