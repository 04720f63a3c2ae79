"""SuperGLUE's official metrics that stand beside accuracy (Wang et al., arXiv:1905.00537). Each is a fraction.

Each function takes the examples of `choice.ChoiceProblem` and the numbers of the predicted candidates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from zobench.problems.answers import exact_match, token_f1
from zobench.problems.choice import WithRow


def macro_f1(examples: Sequence[WithRow], predictions: Sequence[int]) -> dict[str, float]:
    """CB: the mean of the labels' F1."""
    from sklearn.metrics import f1_score

    gold = [example[2] for example in examples]
    return {"macro_f1": float(f1_score(gold, predictions, average="macro", zero_division=0.0))}


def questions(examples: Sequence[WithRow], predictions: Sequence[int]) -> dict[str, float]:
    """MultiRC: `f1a`, the F1 of "the answer is right" over all answers, and `em`, questions with every answer judged rightly.

    Empty unless all rows of the whole split are there: a sample or a slice leaves questions without some of their answers.
    """
    from sklearn.metrics import f1_score

    if not all(example.whole for example in examples):
        return {}
    gold = [example[2] for example in examples]
    judged: dict[tuple[int, int], list[bool]] = defaultdict(list)
    for example, right, predicted in zip(examples, gold, predictions, strict=True):
        place = example.row["idx"]
        judged[place["paragraph"], place["question"]].append(predicted == right)
    return {
        "f1a": float(f1_score(gold, predictions, zero_division=0.0)),
        "em": float(np.mean([all(rights) for rights in judged.values()])),
    }


def entities(examples: Sequence[WithRow], predictions: Sequence[int]) -> dict[str, float]:
    """ReCoRD: token `f1` and `em` of the predicted entity against the best of the answers."""
    pairs = [(e.row["entities"][p], e.row["answers"]) for e, p in zip(examples, predictions, strict=True)]
    return {
        "f1": float(np.mean([token_f1(entity, answers) for entity, answers in pairs])),
        "em": float(np.mean([exact_match(entity, answers) for entity, answers in pairs])),
    }
