"""Matrix factorisation: 1/2 |U V^T - M|_F^2, M of low rank; f* exact for every rank fitted (after arXiv:2502.05790)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Matrix factorisation",
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
    limits=dict(instance=">=0", delta=">0", rank=">=0", noise=">=0"),
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
    rank: int = 0,
    full: bool = False,
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.low_rank import matfac

    knobs = Knobs(scale, instance, init=init, delta=delta)
    return Regression(
        setting, matfac(knobs, rank=rank, full=full), scale=scale, precision=precision, noise=noise, crn=crn
    )
