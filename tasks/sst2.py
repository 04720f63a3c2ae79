"""SST-2: is a snippet of a film review positive? (Socher et al., EMNLP 2013)"""

from zobench.spec import Problem, Setting

INFO = dict(
    title="SST-2 sentiment",
    year=2013,
    paper="EMNLP 2013; prompt: arXiv:2305.17333",
    suite="opt",
    kind="choice",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=("SST2",),
    needs=("model",),
    hub=dict(id="nyu-mll/glue", config="sst2", folder="glue/sst2"),
    sizes=dict(train=67349, validation=872),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    limits=dict(num_train=">0", num_dev=">0", num_eval=">0"),
    choices=dict(bos_mode=("mezo", "hf"), loss_dtype=("float32", "model")),
)


def example(row: dict) -> tuple[str, list[str], int]:
    """Prompt, candidates, index of the right one.

    >>> example({"sentence": "a gorgeous , witty film ", "label": 1})
    ('a gorgeous , witty film It was', [' terrible', ' great'], 1)
    """
    return f"{row['sentence'].strip()} It was", [" terrible", " great"], row["label"]


def build(
    setting: Setting,
    *,
    num_train: int = 1000,
    num_dev: int = 500,
    num_eval: int = 1000,
    bos_mode: str = "mezo",
    loss_dtype: str = "float32",
) -> Problem:
    from zobench.problems.choice import ChoiceProblem

    return ChoiceProblem(
        setting,
        INFO,
        example,
        num_train=num_train,
        num_dev=num_dev,
        num_eval=num_eval,
        bos_mode=bos_mode,
        loss_dtype=loss_dtype,
    )
