"""Logistic regression: mean log(1 + exp(-y a^T x)) + lam/2 |x|^2, optimum by Newton"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Logistic regression",
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
    limits=dict(instance=">=0", tau=">0", kappa=">=1", delta=">0", lam=">0", batch=">=0", noise=">=0"),
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
    tau: float = 2.0,
    kappa: float = 1.0,
    spectrum: str = "geom",
    init: str = "auto",
    delta: float = 0.5,
    lam: float = 1e-3,
    batch: int = 0,
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.classic import logistic

    knobs = Knobs(scale, instance, tau=tau, kappa=kappa, spectrum=spectrum, init=init, delta=delta)
    return Regression(
        setting, logistic(knobs, lam=lam), scale=scale, precision=precision, noise=noise, crn=crn, batch=batch
    )
