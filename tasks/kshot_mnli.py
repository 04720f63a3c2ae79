"""MNLI, k-shot: does a sentence follow from another, contradict it, or neither? (Williams et al., NAACL 2018)

k rows of each label train, k more validate, the matched set tests.
Splits 13, 21, 42, 87 and 100 are the papers'.
template=none is the ablation without a prompt.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="MNLI inference, k-shot",
    year=2018,
    paper="NAACL 2018, arXiv:1704.05426; prompt: arXiv:2012.15723; protocol: arXiv:2305.17333",
    suite="kshot",
    kind="kshot",
    loss="label words",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="mnli", folder="glue/mnli", validation="validation_matched"),
    sizes=dict(train=392702, validation=9815),
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

    return kshot_problem(setting, INFO, example, prompt=PROMPT, words=WORDS, caps=(240, None), max_length=256, **shared)
