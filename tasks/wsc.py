"""WSC: does a pronoun refer to this name? (Levesque et al., KR 2012; as in SuperGLUE, Wang et al., arXiv:1905.00537)

wsc_split=mezo takes 500 of the 554 training rows to validate on and trains on 54, as the published runs do;
wsc_split=fixed validates on 100, unless num_dev is given, and trains on the others, 454.
"""

from typing import Any

from zobench.spec import Problem, Setting

INFO = dict(
    title="Winograd schemas",
    year=2012,
    paper="KR 2012; SuperGLUE: arXiv:1905.00537; prompt: arXiv:2305.17333",
    suite="opt",
    kind="choice",
    loss="candidates",
    metric="accuracy",
    better="higher",
    scale="linear",
    version=1,
    aliases=("WSC",),
    needs=("model",),
    hub=dict(
        id="aps/super_glue",
        config="wsc.fixed",
        folder="super_glue/wsc.fixed",
        fallbacks=(dict(revision="refs/convert/parquet"), dict(id="hgissbkh/super_glue")),
    ),
    sizes=dict(train=554, validation=104),
    fields=dict(text="text", span1_text="text", span2_text="text", label=(0, 1)),
    budget="forwards=40000",
    batch_size=16,
    select="best",
    curve="linear",
    rates=(),
    choices=dict(wsc_split=("mezo", "fixed")),
)


def example(row: dict) -> tuple[str, list[str], int, str]:
    """Prompt, candidates, index of the right one, prompt for calibration.

    >>> row = {"text": "Mark told Pete many lies about himself.", "span1_text": "Mark", "span2_text": "Himself", "label": 1}
    >>> prompt, candidates, gold, _ = example(row)
    >>> prompt.splitlines()[1]
    'In the previous sentence, does the pronoun "himself" refer to Mark? Yes or No?'
    >>> candidates[gold]
    'Yes'
    """
    question = f'does the pronoun "{row["span2_text"].lower()}" refer to {row["span1_text"]}? Yes or No?'
    return f"{row['text']}\nIn the previous sentence, {question}\n", ["No", "Yes"], row["label"], ""


def build(setting: Setting, *, wsc_split: str = "mezo", num_dev: int = 500, **shared: Any) -> Problem:
    from zobench.problems.choice import ChoiceProblem

    num_dev = 100 if wsc_split == "fixed" and num_dev == 500 else num_dev  # 500 is the default, not a wish
    return ChoiceProblem(setting, INFO, example, num_dev=num_dev, **shared)
