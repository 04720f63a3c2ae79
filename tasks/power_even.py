"""Regression in an even matrix power, planted: 1/2 |(A^T A)^j x - b|^2 (Song et al., arXiv:2308.14304)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Matrix-power regression, even",
    year=2023,
    paper="arXiv:2308.14304",
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
    limits=dict(instance=">=0", kappa=">=1", delta=">0", j=">=1", noise=">=0"),
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
    kappa: float = 3.0,
    spectrum: str = "geom",
    init: str = "auto",
    delta: float = 0.5,
    j: int = 2,
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.power import power_even

    knobs = Knobs(scale, instance, kappa=kappa, spectrum=spectrum, init=init, delta=delta)
    return Regression(setting, power_even(knobs, j=j), scale=scale, precision=precision, noise=noise, crn=crn)
