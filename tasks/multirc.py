"""MultiRC: is this an answer to a question about a paragraph? (Khashabi et al., NAACL 2018)

SuperGLUE's own metrics, `f1a` over answers and `em` over questions, need every answer of a question: they are reported
where all rows of the whole split are evaluated (num_eval=4848), neither on the 1,000 drawn ones of the published
accuracies nor on a slice of the data.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="MultiRC reading comprehension",
    year=2018,
    paper="NAACL 2018; SuperGLUE: arXiv:1905.00537; prompt: arXiv:2305.17333",
    suite="opt",
    kind="choice",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=("MultiRC",),
    needs=("model",),
    hub=dict(
        id="aps/super_glue",
        config="multirc",
        folder="super_glue/multirc",
        fallbacks=(dict(revision="refs/convert/parquet"), dict(id="hgissbkh/super_glue")),
    ),
    sizes=dict(train=27243, validation=4848),
    fields={
        "paragraph": "text",
        "question": "text",
        "answer": "text",
        "label": (0, 1),
        "idx.paragraph": "number",
        "idx.question": "number",
    },
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
)


def example(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt, candidates, index of the right one, prompt for calibration.

    >>> row = {"paragraph": "Tom ran home.", "question": "Who ran?", "answer": "Tom", "label": 1}
    >>> prompt, candidates, gold, _ = example(row)
    >>> print(prompt + candidates[gold])
    Tom ran home.
    Question: Who ran?
    I found this answer "Tom". Is that correct? Yes or No?
    Yes
    """
    question = f'Question: {row["question"]}\nI found this answer "{row["answer"]}". Is that correct? Yes or No?'
    return f"{row['paragraph']}\n{question}\n", ["No", "Yes"], row["label"], ""


def build(setting: Setting, **shared: Any) -> Problem:
    from zobench.problems.choice import ChoiceProblem
    from zobench.problems.superglue import questions

    return ChoiceProblem(setting, INFO, example, extra=questions, **shared)
