"""BoolQ: a yes/no question about a passage (Clark et al., arXiv:1905.10044)

template=v2 is the prompt that MeZO's results rest on; template=v0, without the newline, is what ZO-LLM (arXiv:2402.11592) runs.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="BoolQ yes/no questions",
    year=2019,
    paper="arXiv:1905.10044; prompt: arXiv:2305.17333",
    suite="opt",
    kind="choice",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=("BoolQ",),
    needs=("model",),
    hub=dict(
        id="google/boolq",
        folder="boolq",
        fallbacks=(
            dict(
                id="aps/super_glue",
                config="boolq",
                folder="super_glue/boolq",
                rename=dict(label="answer"),
                values=dict(answer={0: False, 1: True}),
                comparable=False,
                why="passages begin with their titles",
            ),
        ),
    ),
    sizes=dict(train=9427, validation=3270),
    fields=dict(passage="text", question="text", answer="bool"),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(template=("v2", "v0")),
)


def parts(row: dict) -> tuple[str, int]:
    """Passage and question; whether `Yes` (0) or `No` (1) is right."""
    question = row["question"] if row["question"].endswith("?") else row["question"] + "?"
    return f"{row['passage']} {question[0].upper()}{question[1:]}", 0 if row["answer"] else 1


def example(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt, candidates, index of the right one, prompt for calibration.

    >>> row = {"passage": "Ethanol fuel is ethyl alcohol.", "question": "is ethanol a fuel", "answer": True}
    >>> example(row)
    ('Ethanol fuel is ethyl alcohol. Is ethanol a fuel?\\n', ['Yes', 'No'], 0, '')
    """
    text, gold = parts(row)
    return f"{text}\n", ["Yes", "No"], gold, ""


def one_line(row: dict) -> tuple[str, list[str], int, str]:
    """The same with a space before the answer in place of the newline.

    >>> row = {"passage": "Ethanol fuel is ethyl alcohol.", "question": "is ethanol a fuel", "answer": True}
    >>> one_line(row)
    ('Ethanol fuel is ethyl alcohol. Is ethanol a fuel?', [' Yes', ' No'], 0, '')
    """
    text, gold = parts(row)
    return text, [" Yes", " No"], gold, ""


def build(setting: Setting, *, template: str = "v2", **shared: Any) -> Problem:
    from zobench.problems.choice import ChoiceProblem

    return ChoiceProblem(setting, INFO, example if template == "v2" else one_line, template=template, **shared)
