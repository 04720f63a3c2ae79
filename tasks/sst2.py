"""SST-2: is a snippet of a film review positive? (Socher et al., EMNLP 2013)

template=empty is the ablation of ZO-LLM (arXiv:2402.11592): no words between the snippet and the label word.
"""

from typing import Any

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
    hub=dict(
        id="nyu-mll/glue",
        config="sst2",
        folder="glue/sst2",
    ),
    sizes=dict(train=67349, validation=872),
    fields=dict(sentence="text", label=(0, 1)),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(template=("prompt", "empty")),
)


def example(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt, candidates, index of the right one, prompt for calibration.

    >>> example({"sentence": "a gorgeous , witty film ", "label": 1})
    ('a gorgeous , witty film It was', [' terrible', ' great'], 1, ' It was')
    """
    return f"{row['sentence'].strip()} It was", [" terrible", " great"], row["label"], " It was"


def bare(row: dict) -> tuple[str, list[str], int, str]:
    """Without the words of the prompt.

    >>> bare({"sentence": "a gorgeous , witty film ", "label": 1})
    ('a gorgeous , witty film ', ['terrible', 'great'], 1, '')
    """
    return f"{row['sentence'].strip()} ", ["terrible", "great"], row["label"], ""


def build(setting: Setting, *, template: str = "prompt", **shared: Any) -> Problem:
    from zobench.problems.choice import ChoiceProblem

    return ChoiceProblem(setting, INFO, example if template == "prompt" else bare, template=template, **shared)
