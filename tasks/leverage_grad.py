"""Inversion of the leverage scores' gradient, planted: 1/2 |A_x^T sigma(x) + b|^2 (our reading of arXiv:2408.11267)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Leverage score gradient inversion",
    year=2024,
    paper="arXiv:2408.11267",
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
    limits=dict(instance=">=0", delta=">0", noise=">=0"),
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
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.leverage import leverage_grad

    knobs = Knobs(scale, instance, init=init, delta=delta)
    return Regression(setting, leverage_grad(knobs), scale=scale, precision=precision, noise=noise, crn=crn)
