"""ReLU inside, softmax outside, planted: 1/2 |softmax(A2 relu(A1 x)) - b|^2 (Deng et al., arXiv:2308.08358)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="ReLU-softmax regression",
    year=2023,
    paper="arXiv:2308.08358",
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
    limits=dict(instance=">=0", tau=">0", kappa=">=1", delta=">0", label_noise=">=0", noise=">=0"),
    choices=dict(
        scale=("tiny", "standard", "large"),
        spectrum=("geom", "step", "power"),
        init=("auto", "near"),
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
    label_noise: float = 0.0,
    noise: float = 0.0,
    crn: bool = False,
    precision: str = "auto",
) -> Problem:
    from zobench.problems.planting import Knobs
    from zobench.problems.regression import Regression
    from zobench.problems.sheets.two_layer import relu_softmax

    knobs = Knobs(scale, instance, tau, kappa, spectrum, init, delta, label_noise=label_noise)
    return Regression(setting, relu_softmax(knobs), scale=scale, precision=precision, noise=noise, crn=crn)
