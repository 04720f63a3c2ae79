"""SST-5, k-shot: how positive is a sentence of a film review, of five degrees? (Socher et al., EMNLP 2013)

k rows of each label train, k more validate; splits 13, 21, 42, 87 and 100 are the papers'.
template=none is the ablation without a prompt.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="SST-5 sentiment, k-shot",
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
    hub=dict(id="SetFit/sst5", folder="sst5", validation="test"),
    sizes=dict(train=8544, validation=2210),
    fields=dict(text="text", label=(0, 1, 2, 3, 4)),
    budget="forwards=200000",
    batch_size=64,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(template=("prompt", "none")),
    **{"try": "random:roberta-nano"},
)
PROMPT = "*cls**sent_0*_It_was*mask*.*sep+*"
WORDS = ("terrible", "bad", "okay", "good", "great")


def example(row: dict) -> tuple[tuple[str], int]:
    """The sentence; the index of the label word.

    >>> example({"text": "a major waste ... generic .", "label": 0})
    (('a major waste ... generic .',), 0)
    """
    return (row["text"],), row["label"]


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.kshot import kshot_problem

    return kshot_problem(setting, INFO, example, prompt=PROMPT, words=WORDS, caps=(110, 20), **shared)
