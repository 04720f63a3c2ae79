"""One layer of attention, planted: 1/2n |softmax(A X A^T) A Y - B|^2 in X and Y (Gao et al., arXiv:2309.07418)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="Attention regression",
    year=2023,
    paper="arXiv:2309.07418",
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
    limits=dict(
        instance=">=0", tau=">0", rank=">=0", sequences=">=1", delta=">0", label_noise=">=0", noise=">=0", batch=">=0"
    ),
    choices=dict(
        scale=("tiny", "standard", "large"),
        variant=("full", "x", "qk"),
        init=("auto", "near", "cold"),
        precision=("auto", "float64", "float32", "bfloat16", "float16"),
    ),
)


def build(
    setting: Setting,
    *,
    scale: str = "tiny",
    instance: int = 0,
    tau: float = 1.0,
    variant: str = "full",
    rank: int = 0,
    sequences: int = 1,
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
    from zobench.problems.sheets.attention import attention

    knobs = Knobs(scale, instance, tau, init=init, delta=delta, label_noise=label_noise)
    return Regression(
        setting,
        attention(knobs, variant=variant, rank=rank, sequences=sequences),
        scale=scale,
        precision=precision,
        noise=noise,
        crn=crn,
        batch=batch,
    )
