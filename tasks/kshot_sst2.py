"""SST-2, k-shot: is a snippet of a film review positive? (Socher et al., EMNLP 2013)

k rows of each label train, k more validate; splits 13, 21, 42, 87 and 100 are the papers'.
template=none is the ablation without a prompt.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="SST-2 sentiment, k-shot",
    year=2013,
    paper="EMNLP 2013; prompt: arXiv:2012.15723; protocol: arXiv:2305.17333",
    suite="kshot",
    kind="kshot",
    loss="label words",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="sst2", folder="glue/sst2"),
    sizes=dict(train=67349, validation=872),
    fields=dict(sentence="text", label=(0, 1)),
    budget="forwards=200000",
    batch_size=64,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(template=("prompt", "none")),
    **{"try": "random:roberta-nano"},
)
PROMPT = "*cls**sent_0*_It_was*mask*.*sep+*"
WORDS = ("terrible", "great")


def example(row: dict) -> tuple[tuple[str], int]:
    """The sentence; the index of the label word.

    >>> example({"sentence": "a gorgeous , witty film ", "label": 1})
    (('a gorgeous , witty film ',), 1)
    """
    return (row["sentence"],), row["label"]


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.kshot import kshot_problem

    return kshot_problem(setting, INFO, example, prompt=PROMPT, words=WORDS, **shared)
