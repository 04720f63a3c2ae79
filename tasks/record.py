"""ReCoRD: which entity fills the gap in a sentence about a news story? (Zhang et al., arXiv:1810.12885)

template=gpt3 lets every entity complete the sentence as one more highlight, as MeZO does; template=promptsource asks
for the entity, as the code of MeZO-GV does. Their numbers cannot be compared. `f1` and `em` are SuperGLUE's metrics.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="ReCoRD cloze reading",
    year=2018,
    paper="arXiv:1810.12885; SuperGLUE: arXiv:1905.00537; prompt: arXiv:2305.17333",
    suite="opt",
    kind="choice",
    loss="tokens",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=("ReCoRD",),
    needs=("model",),
    hub=dict(
        id="aps/super_glue",
        config="record",
        folder="super_glue/record",
        fallbacks=(dict(revision="refs/convert/parquet"), dict(id="hgissbkh/super_glue")),
    ),
    sizes=dict(train=100730, validation=10000),
    fields=dict(passage="text", query="text with @placeholder", entities="texts", answers="texts"),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(template=("gpt3", "promptsource")),
)


def example(row: dict) -> tuple[str, list[str], list[int], str]:
    """Prompt, candidates, indices of the right ones (the first answer's leads), prompt for calibration.

    >>> row = {"passage": "Paris is big.\\n@highlight\\nIt is in France", "query": "The capital is @placeholder."}
    >>> example(row | {"entities": ["France", "Paris"], "answers": ["Paris"]})
    ('Paris is big.\\n- It is in France\\n-', [' The capital is France.', ' The capital is Paris.'], [1], '-')
    """
    passage = row["passage"].replace("@highlight\n", "- ")
    filled = [" " + row["query"].replace("@placeholder", entity) for entity in row["entities"]]
    return f"{passage}\n-", filled, right(row), "-"


def asked(row: dict) -> tuple[str, list[str], list[int], str]:
    """The same as a question, the entities being the candidates.

    >>> row = {"passage": "Paris is big.", "query": "The capital is @placeholder."}
    >>> example, candidates, gold, calibration = asked(row | {"entities": ["France", "Paris"], "answers": ["Paris"]})
    >>> example
    'Paris is big.\\nThe capital is @placeholder.\\nQuestion: what is the "@placeholder"\\nAnswer:'
    >>> candidates, gold, calibration
    ([' France', ' Paris'], [1], 'Answer:')
    """
    prompt = f'{row["passage"]}\n{row["query"]}\nQuestion: what is the "@placeholder"\nAnswer:'
    return prompt, [f" {entity}" for entity in row["entities"]], right(row), "Answer:"


def right(row: dict) -> list[int]:
    """Places of the answers among the entities, in the order of the answers; an entity may be there twice."""
    places = [i for answer in row["answers"] for i, entity in enumerate(row["entities"]) if entity == answer]
    if not places:
        raise ValueError("none of the answers is among the entities")
    return places


def build(setting: Setting, *, template: str = "gpt3", **shared: Any) -> Problem:
    from zobench.problems.choice import ChoiceProblem
    from zobench.problems.superglue import entities

    form = example if template == "gpt3" else asked
    return ChoiceProblem(setting, INFO, form, template=template, extra=entities, **shared)
