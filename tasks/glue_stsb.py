"""STS-B: how much alike do two sentences mean, from 0 to 5? (Cer et al., arXiv:1708.00055)

form=prompt asks with LM-BFF's prompt at a mask, or a causal model with a prompt of ours;
form=head puts a new head on the model.
A prompt's score is 5 times the probability of Yes against No; its loss is the divergence from score / 5. A head is a regression.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="STS-B similarity",
    year=2017,
    paper="SemEval-2017, arXiv:1708.00055; GLUE: arXiv:1804.07461; prompts: arXiv:2012.15723, arXiv:2305.17333",
    suite="glue",
    kind="glue",
    loss="candidates",
    metric="pearson",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="stsb", folder="glue/stsb"),
    sizes=dict(train=5749, validation=1500),
    fields=dict(sentence1="text", sentence2="text", label="0..5"),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(objective=("loss", "pearson")),
    **{"try": "random:roberta-nano"},
)
PROMPT = "*cls**sent_0**mask*,*+sentl_1**sep+*"
WORDS = ("No", "Yes")


def example(row: dict) -> tuple[tuple[str, str], float]:
    """The two sentences; their score.

    >>> example({"sentence1": "He left.", "sentence2": "He went away.", "label": 4.2})
    (('He left.', 'He went away.'), 4.2)
    """
    return (row["sentence1"], row["sentence2"]), row["label"]


def question(row: dict) -> tuple[str, list[str], float, str]:
    """Prompt of a causal model, candidates, the score, prompt for calibration.

    >>> question({"sentence1": "He left.", "sentence2": "He went away.", "label": 4.2})
    ('He left.\\nHe went away.\\nDo these two sentences mean the same thing? Yes or No?\\n', ['No', 'Yes'], 4.2, '')
    """
    prompt = f"{row['sentence1']}\n{row['sentence2']}\nDo these two sentences mean the same thing? Yes or No?\n"
    return prompt, ["No", "Yes"], row["label"], ""


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.glue import glue_problem

    return glue_problem(setting, INFO, example, question, prompt=PROMPT, words=WORDS, labels=1, top=5.0, **shared)
