"""WinoGrande: which of two nouns fills the gap? (Sakaguchi et al., arXiv:1907.10641; as in ZO-LLM, arXiv:2402.11592)"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="WinoGrande",
    year=2019,
    paper="arXiv:1907.10641; protocol: arXiv:2402.11592",
    suite="opt",
    kind="choice",
    loss="tokens",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=("WinoGrande",),
    needs=("model",),
    hub=dict(
        id="allenai/winogrande",
        config="winogrande_m",
        folder="winogrande",
        fallbacks=(dict(revision="refs/convert/parquet"), dict(id="coref-data/winogrande_raw")),
    ),
    sizes=dict(train=2558, validation=1267),
    fields=dict(sentence="text with _", option1="text", option2="text", answer=("1", "2")),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
)


def example(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt, candidates, index of the right one, prompt for calibration.

    >>> row = {"sentence": "The cup fell off the shelf as the _ was wet.", "option1": "cup", "option2": "shelf"}
    >>> example(row | {"answer": "2"})
    ('The cup fell off the shelf as the ', ['cup was wet.', 'shelf was wet.'], 1, '')
    """
    prompt, _, tail = row["sentence"].partition("_")
    return prompt, [row["option1"] + tail, row["option2"] + tail], ("1", "2").index(row["answer"]), ""


def build(setting: Setting, *, num_dev: int = 100, **shared: Any) -> Problem:
    from zobench.problems.choice import ChoiceProblem

    return ChoiceProblem(setting, INFO, example, num_dev=num_dev, **shared)
