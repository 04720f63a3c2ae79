"""Relaxed smoothness: sum (cosh(a_i x_i) - 1), a_i from 1 to 10; curvature grows like the loss (arXiv:2402.01621)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Sum of hyperbolic cosines",
    year=2024,
    paper="arXiv:2402.01621",
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
    limits=dict(noise=">=0"),
    choices=dict(
        scale=("tiny", "standard", "large"),
        precision=("auto", "float64", "float32", "bfloat16", "float16"),
    ),
)


def build(
    setting: Setting,
    *,
    scale: str = "tiny",
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.classic import cosh_sum

    knobs = Knobs(scale)
    return Regression(setting, cosh_sum(knobs), scale=scale, precision=precision, noise=noise, crn=crn)
