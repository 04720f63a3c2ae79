"""Softmax regression with a known optimum: a synthetic loss, seconds on a CPU (Deng et al., arXiv:2307.08352)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Softmax regression, squared loss",
    year=2023,
    paper="arXiv:2307.08352",
    suite="synthetic",
    kind="regression",
    metric="relative_gap",
    better="lower",
    scale="log",
    version=1,
    aliases=("softmax_regression",),
    needs=(),
    budget="forwards=4000",
    batch_size=1,
    select="last",
    curve="log",
    rates=("gradient", "two-point", "adaptive"),
    limits=dict(instance=">=0", tau=">0", kappa=">=1"),
    choices=dict(
        scale=("tiny", "standard", "large"),
        spectrum=("geom", "step", "power"),
        precision=("auto", "float64", "float32"),
    ),
)


def build(
    setting: Setting,
    *,
    instance: int = 0,
    scale: str = "tiny",
    tau: float = 1.0,
    kappa: float = 1.0,
    spectrum: str = "geom",
    precision: str = "auto",
) -> Problem:
    from zobench.problems.regression import SoftmaxRegression

    return SoftmaxRegression(
        setting, instance=instance, scale=scale, tau=tau, kappa=kappa, spectrum=spectrum, precision=precision
    )
