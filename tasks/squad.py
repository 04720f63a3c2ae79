"""SQuAD 1.1: answer a question with words of a paragraph (Rajpurkar et al., arXiv:1606.05250)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="SQuAD reading comprehension",
    year=2016,
    paper="arXiv:1606.05250; prompt: arXiv:2305.17333",
    suite="opt",
    kind="generation",
    loss="tokens",
    metric="f1",
    better="higher",
    scale="linear",
    version=1,
    aliases=("SQuAD",),
    needs=("model",),
    hub=dict(id="rajpurkar/squad", config="plain_text", folder="squad"),
    sizes=dict(train=87599, validation=10570),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    limits=dict(num_train=">0", num_dev=">0", num_eval=">0", max_new_tokens=">0"),
    choices=dict(bos_mode=("mezo", "hf"), loss_dtype=("float32", "model")),
)


def example(row: dict) -> tuple[str, list[str]]:
    """Prompt, accepted answers; training appends the first one, a space before it and a newline behind.

    >>> row = {"title": "Norman", "context": "They came from Norway.", "question": " Where from? "}
    >>> example(row | {"answers": {"text": ["Norway", "norway"], "answer_start": [15, 15]}})
    ('Title: Norman\\nContext: They came from Norway.\\nQuestion: Where from?\\nAnswer:', ['Norway', 'norway'])
    """
    question = row["question"].strip()
    prompt = f"Title: {row['title']}\nContext: {row['context']}\nQuestion: {question}\nAnswer:"
    return prompt, list(row["answers"]["text"])


def build(
    setting: Setting,
    *,
    num_train: int = 1000,
    num_dev: int = 500,
    num_eval: int = 1000,
    bos_mode: str = "mezo",
    loss_dtype: str = "float32",
    max_new_tokens: int = 50,
) -> Problem:
    from zobench.problems.generation import GenerationProblem

    return GenerationProblem(
        setting,
        INFO,
        example,
        num_train=num_train,
        num_dev=num_dev,
        num_eval=num_eval,
        bos_mode=bos_mode,
        loss_dtype=loss_dtype,
        max_new_tokens=max_new_tokens,
    )
