"""SNLI, k-shot: does a sentence follow from another, contradict it, or neither? (Bowman et al., EMNLP 2015)

k rows of each label train, k more validate; splits 13, 21, 42, 87 and 100 are the papers'.
template=none is the ablation without a prompt.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="SNLI inference, k-shot",
    year=2015,
    paper="EMNLP 2015, arXiv:1508.05326; prompt: arXiv:2012.15723; protocol: arXiv:2305.17333",
    suite="kshot",
    kind="kshot",
    loss="label words",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="stanfordnlp/snli", config="plain_text", folder="snli", skip=dict(label=-1)),
    sizes=dict(train=549367, validation=9842),
    fields=dict(premise="text", hypothesis="text", label=(0, 1, 2)),
    budget="forwards=200000",
    batch_size=64,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(template=("prompt", "none")),
    **{"try": "random:roberta-nano"},
)
PROMPT = "*cls**sent-_0*?*mask*,*+sentl_1**sep+*"
WORDS = ("No", "Yes", "Maybe")


def example(row: dict) -> tuple[tuple[str, str], int]:
    """Premise and hypothesis; the index of the label word, which are in the order contradiction, entailment, neutral.

    >>> example({"premise": "A man sleeps.", "hypothesis": "He rests.", "label": 0})
    (('A man sleeps.', 'He rests.'), 1)
    """
    return (row["premise"], row["hypothesis"]), (1, 2, 0)[row["label"]]


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.kshot import kshot_problem

    return kshot_problem(setting, INFO, example, prompt=PROMPT, words=WORDS, max_length=256, **shared)
