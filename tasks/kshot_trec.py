"""TREC, k-shot: what kind of thing does a question ask for? (Li and Roth, COLING 2002)

k rows of each label train, k more validate; splits 13, 21, 42, 87 and 100 are the papers'.
template=none is the ablation without a prompt.
The abbreviations have 86 rows in all: with k = 512 they all train, and none validates.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="TREC question types, k-shot",
    year=2002,
    paper="COLING 2002; prompt: arXiv:2012.15723; protocol: arXiv:2305.17333",
    suite="kshot",
    kind="kshot",
    loss="label words",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="CogComp/trec", folder="trec", validation="test", fallbacks=(dict(revision="refs/convert/parquet"),)),
    sizes=dict(train=5452, validation=500),
    fields=dict(text="text", coarse_label=(0, 1, 2, 3, 4, 5)),
    budget="forwards=200000",
    batch_size=64,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(template=("prompt", "none")),
    **{"try": "random:roberta-nano"},
)
PROMPT = "*cls**mask*:*+sent_0**sep+*"
WORDS = ("Description", "Entity", "Expression", "Human", "Location", "Number")
PLACES = (2, 1, 0, 3, 4, 5)  # coarse labels -> label words: ABBR ENTY DESC HUM LOC NUM


def example(row: dict) -> tuple[tuple[str], int]:
    """The question; the index of the label word.

    >>> example({"text": "What does CPR stand for ?", "coarse_label": 0})
    (('What does CPR stand for ?',), 2)
    """
    return (row["text"],), PLACES[row["coarse_label"]]


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.kshot import kshot_problem

    return kshot_problem(
        setting, INFO, example, prompt=PROMPT, words=WORDS, caps=(110, None), label="coarse_label", **shared
    )
