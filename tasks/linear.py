"""Linear regression with noise that leaves x* optimal: 1/2n |A x - b|^2 (arXiv:2311.14823, classical part)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Linear regression",
    year=2023,
    paper="arXiv:2311.14823",
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
    limits=dict(instance=">=0", kappa=">=1", delta=">0", label_noise=">=0", batch=">=0", noise=">=0"),
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
    kappa: float = 10.0,
    spectrum: str = "geom",
    init: str = "auto",
    delta: float = 0.5,
    label_noise: float = 0.1,
    batch: int = 0,
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.linear import linear

    knobs = Knobs(scale, instance, kappa=kappa, spectrum=spectrum, init=init, delta=delta, label_noise=label_noise)
    return Regression(setting, linear(knobs), scale=scale, precision=precision, noise=noise, crn=crn, batch=batch)
