"""Rescaled exponential regression, planted: 1/2n |u - <u, 1> b|^2, u = exp(Ax) (Gao et al., arXiv:2305.00660)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Rescaled exponential regression",
    year=2023,
    paper="arXiv:2305.00660",
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
    limits=dict(instance=">=0", tau=">0", kappa=">=1", delta=">0", noise=">=0"),
    choices=dict(
        scale=("tiny", "standard", "large"),
        spectrum=("geom", "step", "power"),
        function=("exp", "cosh"),
        init=("auto", "zero", "near"),
        precision=("auto", "float64", "float32", "bfloat16", "float16"),
    ),
)


def build(
    setting: Setting,
    *,
    scale: str = "tiny",
    instance: int = 0,
    tau: float = 1.0,
    kappa: float = 1.0,
    spectrum: str = "geom",
    function: str = "exp",
    init: str = "auto",
    delta: float = 0.5,
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.exponential import rescaled_exp

    knobs = Knobs(scale, instance, tau, kappa, spectrum, init, delta)
    return Regression(
        setting, rescaled_exp(knobs, function=function), scale=scale, precision=precision, noise=noise, crn=crn
    )
