"""Inversion of leverage scores, planted: 1/2 |sigma(x) - b|^2, slacks s = Ax - c (Li et al., arXiv:2404.13785)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Leverage score inversion",
    year=2024,
    paper="arXiv:2404.13785",
    suite="synthetic",
    kind="regression",
    metric="relative_gap",
    better="lower",
    scale="log",
    version=1,
    aliases=(),
    needs=(),
    budget="forwards=4000",
    scale_budgets=dict(standard="forwards=20000", large="forwards=50000"),
    batch_size=1,
    select="last",
    curve="log",
    rates=("gradient", "two-point", "adaptive"),
    limits=dict(instance=">=0", delta=">0", label_noise=">=0", noise=">=0"),
    choices=dict(
        scale=("tiny", "standard", "large"),
        init=("auto", "near"),
        precision=("auto", "float64", "float32", "bfloat16", "float16"),
    ),
)


def build(
    setting: Setting,
    *,
    scale: str = "tiny",
    instance: int = 0,
    init: str = "auto",
    delta: float = 0.5,
    label_noise: float = 0.0,
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.leverage import leverage

    knobs = Knobs(scale, instance, init=init, delta=delta, label_noise=label_noise)
    return Regression(setting, leverage(knobs), scale=scale, precision=precision, noise=noise, crn=crn)
