"""Linear probing: a logistic regression on the last hidden states, in the place of rows of the output layer."""

from __future__ import annotations

from typing import Any

from zobench.problems import probing
from zobench.problems.causal import CausalProblem
from zobench.problems.heads import HeadProblem
from zobench.problems.masked import MaskedProblem
from zobench.spec import UsageError

INFO = dict(
    title="Linear probing",
    year=2023,
    paper="Kumar et al., arXiv:2202.10054; protocol: Malladi et al., arXiv:2305.17333",
    order="reference",
    family="reference",
    kinds=("choice", "generation", "kshot", "glue"),
    limits=dict(),
    choices=dict(),
    aliases=("lp", "linear-probing"),
    notes="scikit-learn's LogisticRegressionCV; early_stopping: 1000 iterations to 1e-2 instead of 5000 to 1e-4. An output "
    "layer that shares the input embedding is untied first. Classes are the tokens of the right answers, so a task with many "
    "different ones takes long; for COPA, ReCoRD, SQuAD and DROP the paper's row LP is a head tuned by Adam instead.",
    random=False,
)


def prepare(problem: Any, *, seed: int = 0, early_stopping: bool = False) -> None:
    """Fit the probe on the training rows and write it into the output layer.

    Features are what the output layer reads where it predicts the right answer, classes the rows of the layer that score
    it: tokens or label words. An intercept is fitted where the layer has a bias. A classification head is fitted as it is
    under head=probe (`heads.HeadProblem.probe`).
    """
    del seed
    if isinstance(problem, HeadProblem):
        if early_stopping:
            raise UsageError("early_stopping is for prompts; leave it out where the task has a head")
        problem.probe()
        return
    if not isinstance(problem, CausalProblem | MaskedProblem):
        raise UsageError("this task has no output layer whose rows are labels; zero-shot serves it")
    if getattr(problem, "top", 0):
        raise UsageError("scores are no labels; for a graded task take form=head or zero-shot")
    examples, layer = problem.examples("train"), problem.output_layer()
    features = problem.features(examples)
    probing.untie(problem.model, layer)
    bias = layer.bias is not None
    options: dict[str, Any] = dict(bias=bias, early_stopping=early_stopping, more=problem.more)
    probe = probing.fit(features, problem.classes(examples), **options)
    probing.write(layer, probe)
    problem.facts.update(probe.facts)
