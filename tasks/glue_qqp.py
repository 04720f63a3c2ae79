"""QQP: do two questions ask the same? (Iyer et al., Quora Question Pairs, 2017)

form=prompt asks with LM-BFF's prompt at a mask, or a causal model with a prompt of ours;
form=head puts a new head on the model.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="QQP duplicate questions",
    year=2017,
    paper="Quora, 2017; GLUE: arXiv:1804.07461; prompts: arXiv:2012.15723, arXiv:2305.17333",
    suite="glue",
    kind="glue",
    loss="candidates",
    metric="f1",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="qqp", folder="glue/qqp"),
    sizes=dict(train=363846, validation=40430),
    fields=dict(question1="text", question2="string", label=(0, 1)),
    names=("not_duplicate", "duplicate"),  # of the labels
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
    """The two questions; their label.

    >>> example({"question1": "Who is he?", "question2": "What is his name?", "label": 1})
    (('Who is he?', 'What is his name?'), 1)
    """
    return (row["question1"], row["question2"]), row["label"]


def question(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt of a causal model, candidates, index of the right one, prompt for calibration.

    >>> question({"question1": "Who is he?", "question2": "What is his name?", "label": 1})
    ('Who is he?\\nWhat is his name?\\nAre these two questions asking the same thing? Yes or No?\\n', ['No', 'Yes'], 1, '')
    """
    prompt = f"{row['question1']}\n{row['question2']}\nAre these two questions asking the same thing? Yes or No?\n"
    return prompt, ["No", "Yes"], row["label"], ""


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.glue import glue_problem

    return glue_problem(setting, INFO, example, question, prompt=PROMPT, words=WORDS, **shared)
