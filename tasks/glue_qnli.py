"""QNLI: does a sentence answer a question? (Rajpurkar et al., arXiv:1606.05250, as in GLUE)

form=prompt asks with LM-BFF's prompt at a mask, or a causal model with a prompt of ours;
form=head puts a new head on the model.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="QNLI question answering",
    year=2018,
    paper="made from SQuAD, arXiv:1606.05250; GLUE: arXiv:1804.07461; prompts: arXiv:2012.15723, arXiv:2305.17333",
    suite="glue",
    kind="glue",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="qnli", folder="glue/qnli"),
    sizes=dict(train=104743, validation=5463),
    fields=dict(question="text", sentence="text", label=(0, 1)),
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
    """Question and sentence; their label, 0 where the one answers the other.

    >>> example({"question": "Who ran?", "sentence": "Tom ran home.", "label": 0})
    (('Who ran?', 'Tom ran home.'), 0)
    """
    return (row["question"], row["sentence"]), row["label"]


def question(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt of a causal model, candidates, index of the right one, prompt for calibration.

    >>> question({"question": "Who ran?", "sentence": "Tom ran home.", "label": 0})
    ('Tom ran home.\\nDoes this answer the question "Who ran?"? Yes or No?\\n', ['Yes', 'No'], 0, '')
    """
    prompt = f'{row["sentence"]}\nDoes this answer the question "{row["question"]}"? Yes or No?\n'
    return prompt, ["Yes", "No"], row["label"], ""


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.glue import glue_problem

    return glue_problem(setting, INFO, example, question, prompt=PROMPT, words=WORDS, **shared)
