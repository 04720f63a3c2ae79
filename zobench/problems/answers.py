"""Token F1 and exact match of a generated answer, as in SQuAD (Rajpurkar et al., 2016) with MeZO's edge cases."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

NO_ANSWER = ("CANNOTANSWER", "no answer")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces.

    >>> normalise("The  U.S. Army!")
    'us army'
    """
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1.0 if the prediction equals a gold answer after normalisation, else 0.0."""
    return float(any(normalise(prediction) == normalise(gold) for gold in golds))


def token_f1(prediction: str, golds: Sequence[str]) -> float:
    """Best F1 over the gold answers; with an answer that stands for none, exact match with it. 0 without overlap."""
    if golds[0] in NO_ANSWER:
        return float(normalise(prediction) == normalise(golds[0]))
    return max(_f1(normalise(prediction).split(), normalise(gold).split()) for gold in golds)


def _f1(prediction: list[str], gold: list[str]) -> float:
    shared = sum((Counter(prediction) & Counter(gold)).values())
    if shared == 0:  # also when both are empty: MeZO's rule, unlike SQuAD 2.0's
        return 0.0
    precision, recall = shared / len(prediction), shared / len(gold)
    return 2 * precision * recall / (precision + recall)
