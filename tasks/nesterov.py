"""Nesterov's worst function: 1/8 (x_1^2 + sum (x_i - x_(i+1))^2 + x_k^2) - x_1/4, or strongly convex"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Nesterov's function",
    year=2020,
    paper="arXiv:1902.03591",
    suite="synthetic",
    kind="regression",
    metric="relative_gap",
    better="lower",
    scale="log",
    version=1,
    aliases=(),
    needs=(),
    budget="forwards=4000",
    scale_budgets=dict(standard="forwards=100000", large="forwards=50000"),
    batch_size=1,
    select="last",
    curve="log",
    rates=("gradient", "two-point", "adaptive"),
    limits=dict(instance=">=0", delta=">0", mu=">=0", noise=">=0"),
    choices=dict(
        scale=("tiny", "standard", "large"),
        init=("auto", "zero", "near"),
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
    mu: float = 0.0,
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.classic import nesterov

    knobs = Knobs(scale, instance, init=init, delta=delta)
    return Regression(setting, nesterov(knobs, strong=mu), scale=scale, precision=precision, noise=noise, crn=crn)
