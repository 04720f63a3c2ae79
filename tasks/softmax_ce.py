"""Softmax regression, cross-entropy, with a planted optimum: logsumexp(Ax) - <b, Ax>, convex (arXiv:2307.08352)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Softmax regression, cross-entropy",
    year=2023,
    paper="arXiv:2307.08352, arXiv:2304.10411",
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
    limits=dict(instance=">=0", tau=">0", kappa=">=1", delta=">0", mu=">0", noise=">=0"),
    choices=dict(
        scale=("tiny", "standard", "large", "paper"),
        spectrum=("geom", "step", "power"),
        init=("auto", "zero", "near"),
        reg=("none", "paper", "centred"),
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
    init: str = "auto",
    delta: float = 0.5,
    reg: str = "none",
    mu: float = 1.0,
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.softmax import softmax_ce

    knobs = Knobs(scale, instance, tau, kappa, spectrum, init, delta, reg, mu)
    return Regression(setting, softmax_ce(knobs), scale=scale, precision=precision, noise=noise, crn=crn)
