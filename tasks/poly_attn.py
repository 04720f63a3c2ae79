"""Polynomial attention as a classifier: mean log(1 + exp(-label logit)), weights |s|^beta (after arXiv:2310.20051)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Polynomial attention classification",
    year=2023,
    paper="arXiv:2310.20051",
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
    limits=dict(instance=">=0", beta=">=0", ridge=">=0", noise=">=0", batch=">=0"),
    choices=dict(
        scale=("tiny", "standard", "large"),
        precision=("auto", "float64", "float32", "bfloat16", "float16"),
    ),
)


def build(
    setting: Setting,
    *,
    scale: str = "tiny",
    instance: int = 0,
    beta: float = 4.0,
    ridge: float = 0.0,
    noise: float = 0.0,
    crn: bool = False,
    batch: int = 0,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.polynomial import poly_attn

    knobs = Knobs(scale, instance)
    return Regression(
        setting,
        poly_attn(knobs, beta=beta, ridge=ridge),
        scale=scale,
        precision=precision,
        noise=noise,
        crn=crn,
        batch=batch,
    )
