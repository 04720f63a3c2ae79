"""Rows of your own, each with candidates to choose from: {"prompt": text, "candidates": [texts], "label": number}

The label is the number of the right candidate, counted from 0, or a list of such numbers. A candidate stands right
behind its prompt, so that one of them needs the space between the two words. train_on=candidates is cross-entropy
over them, for short labels; train_on=gold is the likelihood of the right one's tokens, for long continuations. A text
`calibration` in a row is its prompt for calibration=sfc.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="Own rows with candidates",
    year=2026,
    paper="protocol: arXiv:2305.17333",
    suite="own",
    kind="choice",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=(),
    needs=("model",),
    fields=dict(prompt="text", candidates="texts"),
    by=dict(train_on={"gold": dict(loss="tokens")}),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(train_on=("candidates", "gold")),
)


def example(row: dict) -> tuple:
    """Prompt, candidates, indices of the right ones, and the prompt for calibration where there is one.

    >>> example({"prompt": "The sky is", "candidates": [" red", " blue"], "label": 1})
    ('The sky is', [' red', ' blue'], [1])
    """
    label, candidates = row["label"], row["candidates"]
    gold = label if isinstance(label, list) else [label]
    whole = all(isinstance(place, int) and not isinstance(place, bool) for place in gold)
    if not gold or not whole or not all(0 <= place < len(candidates) for place in gold):
        raise ValueError(f"label {label!r}: write the number of the right one of {len(candidates)} candidates, from 0")
    if len(candidates) < 2:
        raise ValueError("candidates: one alone leaves nothing to choose")
    texts = [candidate.rstrip(" ") for candidate in candidates]  # no prompt's end is read with its spaces
    if again := next((text for i, text in enumerate(texts) if text in texts[:i]), None):
        raise ValueError(f"candidates: {again!r} is there twice, and cannot be told from itself")
    if len(set(gold)) == len(candidates):
        raise ValueError(f"label {label!r}: all candidates are right, which leaves nothing to choose")
    calibration = row.get("calibration")  # a Parquet file has a null where a row has none
    if calibration is None:
        return row["prompt"], candidates, gold
    if not isinstance(calibration, str):
        raise ValueError(f"calibration {calibration!r}: write a text")
    return row["prompt"], candidates, gold, calibration


def build(setting: Setting, *, place: str, train_on: str = "candidates", **shared: Any) -> Problem:
    from pathlib import Path

    from zobench.problems.choice import ChoiceProblem
    from zobench.problems.options import SIZES, chosen
    from zobench.problems.own.rows import Draw

    info = chosen(INFO | dict(place=place), dict(train_on=train_on))
    sizes = {name: shared.pop(name, default) for name, default in SIZES.items()}
    sampling = Draw(Path(place).is_file(), **sizes)
    problem = ChoiceProblem(setting, info, example, sampling=sampling, template="own", **shared)
    sampling.facts = problem.facts
    return problem
