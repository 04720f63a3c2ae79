"""Bigram language model with a known loss floor: sum_i pi_i CE(P_i, softmax(U V^T)_i) (after arXiv:2502.05790)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Bigram language model",
    year=2025,
    paper="arXiv:2502.05790",
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
    limits=dict(instance=">=0", delta=">0", batch=">=0", noise=">=0"),
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
    full: bool = False,
    batch: int = 0,
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.low_rank import bigram

    knobs = Knobs(scale, instance, init=init, delta=delta)
    return Regression(
        setting, bigram(knobs, full=full), scale=scale, precision=precision, noise=noise, crn=crn, batch=batch
    )
