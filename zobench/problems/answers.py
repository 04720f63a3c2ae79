"""How an answer is compared with the accepted ones: token F1 and exact match of SQuAD, as MeZO has them and as officially; DROP.

Every function takes and gives plain Python; scores are fractions in [0, 1].
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NO_ANSWER = ("CANNOTANSWER", "no answer")
PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces.

    >>> normalise("The  U.S. Army!")
    'us army'
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1.0 if the prediction equals a gold answer after normalisation, else 0.0."""
    return float(any(normalise(prediction) == normalise(gold) for gold in golds))


def overlap(prediction: str, gold: str) -> float:
    """F1 of the words of two texts, each word as often as it occurs; 0 without overlap, also where both have no word."""
    found, wanted = normalise(prediction).split(), normalise(gold).split()
    shared = sum((Counter(found) & Counter(wanted)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(found), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def token_f1(prediction: str, golds: Sequence[str]) -> float:
    """Best F1 over the gold answers; with a first one that stands for no answer, exact match with it (MeZO's rule)."""
    if golds[0] in NO_ANSWER:
        return float(normalise(prediction) == normalise(golds[0]))
    return max(overlap(prediction, gold) for gold in golds)


# --- metrics over a split -------------------------------------------------------------------------------------------------


def squad(answers: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, float]:
    """f1, em: means of `token_f1` and `exact_match`."""
    return {
        "f1": float(np.mean([token_f1(a, g) for a, g in zip(answers, golds, strict=True)])),
        "em": float(np.mean([exact_match(a, g) for a, g in zip(answers, golds, strict=True)])),
    }


def squad_v2(answers: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, float]:
    """As `squad`, with has_answer_f1, has_answer_em, no_answer_f1, no_answer_em where there are such questions.

    A question without an answer has a first gold that stands for none ("no answer").
    """
    scores = [(token_f1(a, g), exact_match(a, g)) for a, g in zip(answers, golds, strict=True)]
    return by_answer(scores, [g[0] not in NO_ANSWER for g in golds])


def squad_official(answers: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, float]:
    """f1, em as SQuAD 1.1's own script has them (Rajpurkar et al., arXiv:1606.05250): no answer stands for none."""
    return {
        "f1": float(np.mean([max(overlap(a, gold) for gold in g) for a, g in zip(answers, golds, strict=True)])),
        "em": float(np.mean([exact_match(a, g) for a, g in zip(answers, golds, strict=True)])),
    }


def squad_v2_official(answers: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, float]:
    """Overall, has_answer_ and no_answer_ f1, em as SQuAD 2.0's own script has them (arXiv:1806.03822).

    golds: of each question, empty where it has no answer. The empty prediction stands for no answer; where either side
    has no word, both scores are 1 if neither has one, else 0.
    """
    scores = []
    for answer, accepted in zip(answers, golds, strict=True):
        words = [gold for gold in accepted if normalise(gold)] or [""]
        f1 = max(overlap(answer, gold) if normalise(gold) else float(not normalise(answer)) for gold in words)
        scores.append((f1, exact_match(answer, words)))
    return by_answer(scores, [len(g) > 0 for g in golds])


def by_answer(scores: Sequence[tuple[float, float]], answerable: Sequence[bool]) -> dict[str, float]:
    """Means of (F1, EM) over all questions, over those with an answer, and over those without; no key for none."""
    parts = {"": range(len(scores))}
    parts["has_answer_"] = [i for i in parts[""] if answerable[i]]
    parts["no_answer_"] = [i for i in parts[""] if not answerable[i]]
    found = {}
    for prefix, part in parts.items():
        if part:
            f1, em = np.mean([scores[i] for i in part], axis=0)
            found |= {f"{prefix}f1": float(f1), f"{prefix}em": float(em)}
    return found


# --- DROP's own metric (Dua et al., arXiv:1903.00161; AllenNLP's drop_eval) -----------------------------------------------


def drop(answers: Sequence[str], spans: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """drop_official_f1, drop_official_em: the best over the annotators of each question.

    spans: `answers_spans` of the hub's rows. A generated answer is one span, whatever commas it has.
    """
    best = [
        np.max([drop_scores([answer], gold) for gold in annotators(given["spans"], given["types"])], axis=0)
        for answer, given in zip(answers, spans, strict=True)
    ]
    f1, em = np.mean(best, axis=0)
    return {"drop_official_f1": float(f1), "drop_official_em": float(em)}


def annotators(spans: Sequence[str], types: Sequence[str]) -> list[list[str]]:
    """The answers of a row of the hub, one list of spans an annotator.

    The hub wrote the spans of all annotators behind each other: one annotator in `train`, those of `validated_answers` in
    `validation`. A number or a date is a whole answer. Spans belong together until one comes again, which no annotator
    gives twice. Annotators who share no span thus read as one with several; nothing in the row tells them apart.

    >>> annotators(["Bears", "Colts", "Bears", "Colts"], ["span"] * 4)
    [['Bears', 'Colts'], ['Bears', 'Colts']]
    >>> annotators(["4", "3"], ["number", "number"])
    [['4'], ['3']]
    """
    found: list[list[str]] = []
    together = False
    for span, kind in zip(spans, types, strict=True):
        if together and kind == "span" and span not in found[-1]:
            found[-1].append(span)
        else:
            found.append([span])
        together = kind == "span"
    return found


def drop_scores(prediction: Sequence[str], gold: Sequence[str]) -> tuple[float, float]:
    """(F1, EM) of the spans of one answer with those of one annotator.

    Spans are paired one to one so that the sum of their F1 is greatest; a pair that disagrees in its numbers has none.
    F1 is the mean over the longer side, rounded to two digits as officially. A gold answer without text scores 0.
    """
    if not gold[0].strip():
        return 0.0, 0.0
    from scipy.optimize import linear_sum_assignment

    found, wanted = [drop_normalise(s) for s in prediction], [drop_normalise(s) for s in gold]
    pairs = np.array([[_bag_f1(set(f.split()), set(w.split())) for f in found] for w in wanted])
    total = pairs[linear_sum_assignment(pairs, maximize=True)].sum()
    same = set(found) == set(wanted) and len(found) == len(wanted)
    return round(float(total) / max(pairs.shape), 2), float(same)


def drop_normalise(text: str) -> str:
    """Words split at spaces and hyphens, lower case, without punctuation and articles; numbers as floats.

    >>> drop_normalise("The 78-yard pass, $12")
    '78.0 yard pass 12.0'
    """
    words = (_drop_word(word) for word in re.split("[ -]", text.lower()))
    return " ".join(word for word in words if word)


def _drop_word(word: str) -> str:
    if _number(word) is None:
        word = word.translate(PUNCTUATION)
    number = _number(word)
    return str(number) if number is not None else " ".join(ARTICLES.sub(" ", word).split())


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _bag_f1(prediction: set[str], gold: set[str]) -> float:
    numbers = {word for word in gold if _number(word) is not None}
    if numbers and not numbers & prediction:
        return 0.0
    shared = len(prediction & gold)
    precision = shared / len(prediction) if prediction else 1.0
    recall = shared / len(gold) if gold else 1.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
