"""RTE, k-shot: does one text follow from another? (Dagan et al., MLCW 2005; as in GLUE, Wang et al., arXiv:1804.07461)

k rows of each label train, k more validate; splits 13, 21, 42, 87 and 100 are the papers'.
template=none is the ablation without a prompt.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="RTE textual entailment, k-shot",
    year=2005,
    paper="MLCW 2005; GLUE: arXiv:1804.07461; prompt: arXiv:2012.15723; protocol: arXiv:2305.17333",
    suite="kshot",
    kind="kshot",
    loss="label words",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="rte", folder="glue/rte"),
    sizes=dict(train=2490, validation=277),
    fields=dict(sentence1="text", sentence2="text", label=(0, 1)),
    budget="forwards=200000",
    batch_size=64,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(template=("prompt", "none")),
    **{"try": "random:roberta-nano"},
)
PROMPT = "*cls**sent-_0*?*mask*,*+sentl_1**sep+*"
WORDS = ("Yes", "No")


def example(row: dict) -> tuple[tuple[str, str], int]:
    """The two texts; the index of the label word.

    >>> example({"sentence1": "Dana Reeve has died.", "sentence2": "Reeve had an accident.", "label": 1})
    (('Dana Reeve has died.', 'Reeve had an accident.'), 1)
    """
    return (row["sentence1"], row["sentence2"]), row["label"]


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.kshot import kshot_problem

    return kshot_problem(setting, INFO, example, prompt=PROMPT, words=WORDS, caps=(240, None), max_length=256, **shared)
