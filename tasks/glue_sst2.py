"""SST-2 of GLUE: is a snippet of a film review positive? (Socher et al., EMNLP 2013)

form=prompt asks with LM-BFF's prompt at a mask, or a causal model with MeZO's;
form=head puts a new head on the model.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="SST-2 sentiment, GLUE",
    year=2013,
    paper="EMNLP 2013; GLUE: arXiv:1804.07461; prompts: arXiv:2012.15723, arXiv:2305.17333",
    suite="glue",
    kind="glue",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="sst2", folder="glue/sst2"),
    sizes=dict(train=67349, validation=872),
    fields=dict(sentence="text", label=(0, 1)),
    names=("negative", "positive"),  # of the labels
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    **{"try": "random:roberta-nano"},
)
PROMPT = "*cls**sent_0*_It_was*mask*.*sep+*"
WORDS = ("terrible", "great")


def example(row: dict) -> tuple[tuple[str], int]:
    """The sentence; its label.

    >>> example({"sentence": "a gorgeous , witty film ", "label": 1})
    (('a gorgeous , witty film ',), 1)
    """
    return (row["sentence"],), row["label"]


def question(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt of a causal model, candidates, index of the right one, prompt for calibration.

    >>> question({"sentence": "a gorgeous , witty film ", "label": 1})
    ('a gorgeous , witty film It was', [' terrible', ' great'], 1, ' It was')
    """
    return f"{row['sentence'].strip()} It was", [" terrible", " great"], row["label"], " It was"


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.glue import glue_problem

    return glue_problem(setting, INFO, example, question, prompt=PROMPT, words=WORDS, **shared)
