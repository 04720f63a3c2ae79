"""Softmax regression of many rows, planted: 1/2n |softmax(A1 X A2^T) - B|^2 (Gao et al., arXiv:2307.02419)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Softmax regression of many rows, squared loss",
    year=2023,
    paper="arXiv:2307.02419",
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
    limits=dict(instance=">=0", tau=">0", delta=">0", label_noise=">=0", noise=">=0", batch=">=0"),
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
    tau: float = 1.0,
    init: str = "auto",
    delta: float = 0.5,
    label_noise: float = 0.0,
    noise: float = 0.0,
    crn: bool = False,
    batch: int = 0,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.rows import rows_l2

    knobs = Knobs(scale, instance, tau, init=init, delta=delta, label_noise=label_noise)
    return Regression(setting, rows_l2(knobs), scale=scale, precision=precision, noise=noise, crn=crn, batch=batch)
