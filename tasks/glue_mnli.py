"""MNLI: does a sentence follow from another, contradict it, or neither? (Williams et al., arXiv:1704.05426)

form=prompt asks with LM-BFF's prompt at a mask, or a causal model with the one MeZO has for CB;
form=head puts a new head on the model.
validation=mismatched tests on genres that the training rows lack.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="MNLI inference",
    year=2018,
    paper="NAACL 2018, arXiv:1704.05426; GLUE: arXiv:1804.07461; prompts: arXiv:2012.15723, arXiv:2305.17333",
    suite="glue",
    kind="glue",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="mnli", folder="glue/mnli", validation="validation_matched"),
    sizes=dict(train=392702, validation=9815),
    fields=dict(premise="text", hypothesis="text", label=(0, 1, 2)),
    names=("entailment", "neutral", "contradiction"),  # of the labels
    by=dict(
        validation={
            "mismatched": dict(
                hub=dict(id="nyu-mll/glue", config="mnli", folder="glue/mnli", validation="validation_mismatched"),
                sizes=dict(train=392702, validation=9832),
            ),
        },
    ),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(validation=("matched", "mismatched")),
    **{"try": "random:roberta-nano"},
)
PROMPT = "*cls**sent-_0*?*mask*,*+sentl_1**sep+*"
WORDS = ("No", "Yes", "Maybe")
ORDER = (2, 0, 1)  # the labels that the words stand for: contradiction, entailment, neutral


def example(row: dict) -> tuple[tuple[str, str], int]:
    """Premise and hypothesis; their label: entailment, neutral or contradiction.

    >>> example({"premise": "It was complex.", "hypothesis": "it was complex", "label": 1})
    (('It was complex.', 'it was complex'), 1)
    """
    return (row["premise"], row["hypothesis"]), row["label"]


def question(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt of a causal model, candidates, index of the right one, prompt for calibration.

    >>> question({"premise": "It was complex.", "hypothesis": "it was complex", "label": 1})
    ('Suppose It was complex. Can we infer that "it was complex"? Yes, No, or Maybe?\\n', ['Yes', 'Maybe', 'No'], 1, '')
    """
    prompt = f'Suppose {row["premise"]} Can we infer that "{row["hypothesis"]}"? Yes, No, or Maybe?\n'
    return prompt, ["Yes", "Maybe", "No"], row["label"], ""


def build(setting: Setting, *, validation: str = "matched", **shared: Any) -> Problem:
    from zobench.problems.glue import glue_problem
    from zobench.problems.options import chosen

    return glue_problem(
        setting,
        chosen(INFO, dict(validation=validation)),
        example,
        question,
        prompt=PROMPT,
        words=WORDS,
        order=ORDER,
        caps=(240, None),
        limit=256,
        labels=3,
        **shared,
    )
