"""Quadratic with a chosen spectrum: 1/2 (x - x*)^T H (x - x*) up to a constant, H = V diag(s) V^T"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Quadratic",
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
    limits=dict(instance=">=0", kappa=">=1", delta=">0", noise=">=0"),
    choices=dict(
        scale=("tiny", "standard", "large"),
        spectrum=("geom", "step", "power"),
        init=("auto", "zero", "near"),
        precision=("auto", "float64", "float32", "bfloat16", "float16"),
    ),
)


def build(
    setting: Setting,
    *,
    scale: str = "tiny",
    instance: int = 0,
    kappa: float = 100.0,
    spectrum: str = "geom",
    init: str = "auto",
    delta: float = 0.5,
    sparse: bool = False,
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.classic import quadratic

    knobs = Knobs(scale, instance, kappa=kappa, spectrum=spectrum, init=init, delta=delta)
    return Regression(setting, quadratic(knobs, sparse=sparse), scale=scale, precision=precision, noise=noise, crn=crn)
