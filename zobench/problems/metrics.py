"""Metrics of label and score predictions, with the edge cases of GLUE (Wang et al., arXiv:1804.07461)."""

from __future__ import annotations

import numpy as np


def of_labels(predicted: np.ndarray, gold: np.ndarray, main: str = "accuracy") -> dict[str, float]:
    """accuracy and, where it is another one, the main metric: "f1" of label 1, or "mcc", Matthews' correlation.

    predicted, gold: (N,) integers. f1 is 0 where it is not defined. mcc, in [-1, 1], is 0 where a row or column of the
    confusion matrix is empty.
    """
    from sklearn.metrics import f1_score, matthews_corrcoef

    found = {"accuracy": float(np.mean(predicted == gold))}
    if main == "f1":
        found["f1"] = float(f1_score(gold, predicted, pos_label=1, zero_division=0.0))  # pyright: ignore[reportArgumentType]
    if main == "mcc":
        full = len(set(gold.tolist())) > 1 < len(set(predicted.tolist()))
        found["mcc"] = float(matthews_corrcoef(gold, predicted)) if full else 0.0
    return found


def of_scores(predicted: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """pearson and spearman, in [-1, 1]. predicted, gold: (N,) numbers.

    A correlation that is not defined (constant or non-finite numbers, fewer than two rows) is 0, and `undefined` is 1.
    """
    from scipy.stats import pearsonr, spearmanr

    fine = len(gold) > 1 and all(np.isfinite(v).all() and np.ptp(v) > 0 for v in (predicted, gold))
    values = [float(np.asarray(f(predicted, gold))[0]) for f in (pearsonr, spearmanr)] if fine else [np.nan]
    if not np.isfinite(values).all():
        return {"pearson": 0.0, "spearman": 0.0, "undefined": 1.0}
    return {"pearson": values[0], "spearman": values[1]}
