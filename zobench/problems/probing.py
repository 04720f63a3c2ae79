"""Linear probes: what a layer reads as features, and a logistic regression that becomes rows of that layer.

Malladi et al., arXiv:2305.17333, as their code does it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from zobench.core.zeroth_order import Diverged
from zobench.spec import UsageError

STRENGTHS = np.logspace(-4, 4, 10)  # scikit-learn's own ten values of C


class Probe(NamedTuple):
    """A classifier softmax(W x + b) over K classes."""

    classes: np.ndarray  # (K,) int64, ascending
    weight: np.ndarray  # (K, H) float64
    bias: np.ndarray | None  # (K,) float64
    facts: dict[str, float]


@contextmanager
def inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, the list takes the input of each call of the layer, as its last hook left it."""
    seen: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0].detach()))
    try:
        yield seen
    finally:
        handle.remove()


def untie(model: Any, layer: nn.Linear) -> None:
    """Give the output layer weights of its own, where it shares those of the input embedding, and say so in the config."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if layer.weight is base.get_input_embeddings().weight:
        for name, p in list(layer.named_parameters(recurse=False)):  # RoBERTa's bias has two names, by the same setting
            setattr(layer, name, nn.Parameter(p.detach().clone()))
        base.config.tie_word_embeddings = False


def fit(
    features: np.ndarray, labels: np.ndarray, *, bias: bool, early_stopping: bool = False, more: str = "num_train"
) -> Probe:
    """Multinomial logistic regression, its L2 strength by cross-validated accuracy (scikit-learn's LogisticRegressionCV).

    Two classes get -w/2 and w/2, w being what scikit-learn calls `coef_` under `multi_class="multinomial"`. Versions without
    that argument fit the logistic loss of w' = 2w instead, whose penalty at strength 2C is that of w at C.

    Args:
        features: (n, H).
        labels: (n,) integers.
        bias: whether to fit an intercept.
        early_stopping: at most 1000 iterations to a tolerance of 0.01, instead of 5000 to 1e-4.
        more: the option of the task that gives more rows, for errors.

    Raises:
        UsageError: there is nothing to tell apart, or too few rows for five folds.
        Diverged: a feature is not finite.
    """
    from sklearn.linear_model import LogisticRegressionCV

    if not np.isfinite(features).all():
        raise Diverged("the model's hidden states are not finite")
    found = np.unique(labels)
    if len(found) < 2:
        raise UsageError(f"a probe needs training rows of at least two labels; take more of them ({more})")
    options: dict[str, Any] = dict(max_iter=1000, tol=0.01) if early_stopping else dict(max_iter=5000, tol=1e-4)
    known = inspect.signature(LogisticRegressionCV).parameters
    halves = 1.0
    if "multi_class" in known:
        options["multi_class"] = "multinomial"
    elif len(found) == 2:
        halves = 2.0
    if "use_legacy_attributes" in known:
        options |= dict(use_legacy_attributes=False, l1_ratios=(0,))
    model = LogisticRegressionCV(
        Cs=halves * STRENGTHS, scoring="accuracy", fit_intercept=bias, random_state=0, **options
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rare labels and unfinished folds: `facts` tells of the final fit
        try:
            model.fit(np.asarray(features, dtype=np.float64), labels)
        except ValueError as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise UsageError(
                f"no probe fits {len(labels)} features of {len(found)} labels ({reason}); take more rows ({more})"
            ) from error
    weight, intercept = model.coef_ / halves, model.intercept_ / halves
    if len(weight) == 1:
        weight, intercept = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-intercept / 2, intercept / 2])
    facts = dict(probe_c=float(np.ravel(model.C_)[0]) / halves, probe_features=len(labels), probe_labels=len(found))
    return Probe(model.classes_, weight, intercept if bias else None, facts)


@torch.no_grad()
def write(layer: nn.Linear, probe: Probe) -> None:
    """Put each class's weights into the row of the layer that has its number; the other rows stay."""
    rows = torch.as_tensor(probe.classes, device=layer.weight.device)
    layer.weight[rows] = torch.as_tensor(probe.weight).to(layer.weight)
    if probe.bias is not None:
        layer.bias[rows] = torch.as_tensor(probe.bias).to(layer.bias)
