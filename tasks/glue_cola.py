"""CoLA: is a sentence acceptable English? (Warstadt et al., arXiv:1805.12471)

form=prompt asks with LM-BFF's prompt at a mask, or a causal model with a prompt of ours;
form=head puts a new head on the model.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="CoLA acceptability",
    year=2019,
    paper="TACL 2019, arXiv:1805.12471; GLUE: arXiv:1804.07461; prompts: arXiv:2012.15723, arXiv:2305.17333",
    suite="glue",
    kind="glue",
    loss="candidates",
    metric="mcc",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="cola", folder="glue/cola"),
    sizes=dict(train=8551, validation=1043),
    fields=dict(sentence="text", label=(0, 1)),
    names=("unacceptable", "acceptable"),  # of the labels
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    **{"try": "random:roberta-nano"},
)
PROMPT = "*cls**sent_0*_This_is*mask*.*sep+*"
WORDS = ("incorrect", "correct")


def example(row: dict) -> tuple[tuple[str], int]:
    """The sentence; its label.

    >>> example({"sentence": "They drank the pub.", "label": 0})
    (('They drank the pub.',), 0)
    """
    return (row["sentence"],), row["label"]


def question(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt of a causal model, candidates, index of the right one, prompt for calibration.

    >>> question({"sentence": "They drank the pub.", "label": 0})
    ('They drank the pub. This is', [' incorrect', ' correct'], 0, ' This is')
    """
    return f"{row['sentence'].strip()} This is", [" incorrect", " correct"], row["label"], " This is"


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.glue import glue_problem

    return glue_problem(setting, INFO, example, question, prompt=PROMPT, words=WORDS, **shared)
