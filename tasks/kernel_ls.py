"""Attention-kernel least squares, planted: 1/2 |K x - b|^2, K = exp(t (A A^T - 1)) (Song et al., arXiv:2308.14304)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Attention-kernel regression, least squares",
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
    scale_budgets=dict(standard="forwards=20000", large="forwards=50000"),
    batch_size=1,
    select="last",
    curve="log",
    rates=("gradient", "two-point", "adaptive"),
    limits=dict(instance=">=0", delta=">0", t=">0", ridge=">=0", noise=">=0"),
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
    t: float = 4.0,
    ridge: float = 0.0,
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.kernel import kernel_ls

    knobs = Knobs(scale, instance, init=init, delta=delta)
    return Regression(
        setting, kernel_ls(knobs, t=t, ridge=ridge), scale=scale, precision=precision, noise=noise, crn=crn
    )
