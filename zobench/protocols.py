"""How published numbers were made, as far as it is known: precision, budget, batch, search, rows, seeds, selection.

Standard library only. What a rule does not state is None: not known. Sources: the papers and their released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Rows to train on, to select on and to test on in MeZO's code (large_models/, seed 0) and in what was built on it.
ROWS: dict[str, tuple[int, int, int]] = dict(
    sst2=(1000, 500, 872),
    rte=(1000, 500, 277),
    cb=(150, 100, 56),
    boolq=(1000, 500, 1000),
    wsc=(54, 500, 104),
    wic=(1000, 500, 638),
    multirc=(1000, 500, 1000),
    copa=(300, 100, 100),
    record=(1000, 500, 1000),
    squad=(1000, 500, 1000),
    drop=(1000, 500, 1000),
)
# AIM-ZO tests on the whole validation splits; of SQuAD's, on 1,000 rows.
VALIDATION = {task: sizes[2] for task, sizes in ROWS.items()} | dict(boolq=3270, multirc=4848, record=10000, drop=9535)
# Classes and test rows of the k-shot suite (LM-BFF's generator; test sets are capped at 1,000 rows).
SHOTS: dict[str, tuple[int, int]] = dict(
    kshot_sst2=(2, 872),
    kshot_sst5=(5, 1000),
    kshot_snli=(3, 1000),
    kshot_mnli=(3, 1000),
    kshot_rte=(2, 277),
    kshot_trec=(6, 500),
)
TEMPLATES = dict(boolq="v2", record="gpt3") | dict.fromkeys(("sst2", "rte", "copa", *SHOTS), "prompt")  # in MeZO's code
LONG = ("squad", "drop")  # tasks that the papers tune with one rate more


@dataclass(frozen=True)
class Protocol:
    """What is known of the making of one published value; None is not known."""

    dtype: str | None = None  # of the weights
    loss_dtype: str | None = None  # of the log-likelihoods
    steps: int | None = None
    forwards: int | None = None  # batch forwards of the training
    batch: int | None = None
    eps: float | None = None
    rates: tuple[float, ...] | None = None  # learning rates tried
    trials: int | None = None  # settings tried, the winner chosen on the dev rows
    seeds: int | None = None  # runs behind the value; 1 also where it cannot vary
    select: str | None = None  # loss | metric | last: which weights are tested
    train: int | None = None
    dev: int | None = None
    test: int | None = None
    shots: int | None = None  # demonstrations in the context
    template: str | None = None  # option of that name of the task, where it has one
    bos: str | None = None  # OPT's first token: mezo (id 0) | hf (id 2)
    remarks: tuple[str, ...] = ()  # what no number says


OPT = dict(suite=("opt",))
KSHOT = dict(suite=("kshot",))
ZO, FO = dict(order=("zeroth",)), dict(order=("first",))
TWO_POINT = ("MeZO", "MeZO n-SPSA q=1", "MeZO-Adam", "MeZO baseline", "SubZero", "LOZO", "HiZOO")
MEZO = ("MeZO", "MeZO (objective=CE)")
MEZO_MAIN = dict(paper=("MeZO",), table=("Table 1", "Table 2", "Table 3", "Table 20"))
MEZO_KSHOT = dict(paper=("MeZO",), table=("Table 3", "Table 18 (k=16)", "Table 18 (k=512)", "Table 19", "Table 21"))
ABLATIONS = ("Table 5", "Table 6", "Table 8", "Table 9", "Table 10")
COPIED = dict(paper=("MeZO-GV",), table=("Table V",), peft=("full", "none"))
MEZO_CODE = ("MeZO", "MeZO-GV", "LOZO", "SubZero", "SubZero+", "GRZO")  # share its task code and its sizes

# (what has to hold of a value, what is then known of it): every rule that holds adds to those before it.
RULES: tuple[tuple[Mapping[str, tuple[str, ...]], Mapping[str, Any]], ...] = (
    (dict(paper=MEZO_CODE), dict(bos="mezo")),
    (dict(paper=("MeZO", "MeZO-GV"), method=("ICL",)), dict(shots=32)),
    # MeZO (2305.17333), Tables 15 and 16
    (MEZO_MAIN | OPT, dict(dtype="float16", loss_dtype="float16", seeds=1, select="loss")),
    (MEZO_MAIN | OPT | ZO, dict(steps=20000, batch=16, trials=2)),
    (MEZO_MAIN | OPT | ZO | dict(task=LONG), dict(trials=3)),
    (MEZO_MAIN | OPT | ZO | dict(peft=("full",)), dict(eps=1e-3, rates=(1e-6, 1e-7))),
    (MEZO_MAIN | OPT | ZO | dict(peft=("lora",)), dict(eps=1e-2, rates=(1e-4, 5e-5))),
    (MEZO_MAIN | OPT | ZO | dict(peft=("prefix",)), dict(eps=1e-1, rates=(1e-2, 1e-3))),
    (MEZO_MAIN | OPT | ZO | dict(peft=("full",), task=LONG), dict(rates=(1e-6, 5e-7, 1e-7))),
    (MEZO_MAIN | OPT | ZO | dict(peft=("lora",), task=LONG), dict(rates=(1e-4, 5e-5, 1e-5))),
    (MEZO_MAIN | OPT | ZO | dict(peft=("prefix",), task=LONG), dict(rates=(5e-2, 1e-2, 5e-3))),
    (MEZO_MAIN | OPT | ZO | dict(model=("facebook/opt-30b", "facebook/opt-66b")), dict(select="last")),
    (MEZO_MAIN | OPT | dict(objective=("score",)), dict(trials=3, select="last", rates=None)),
    (MEZO_MAIN | OPT | dict(objective=("score",), peft=("full",)), dict(rates=(1e-6, 5e-6, 1e-5))),
    (MEZO_MAIN | OPT | dict(objective=("score",), peft=("prefix",)), dict(rates=(1e-1, 5e-2, 1e-2))),
    (
        MEZO_MAIN | OPT | FO,
        dict(
            dtype="float32",
            loss_dtype=None,
            steps=625,
            batch=8,
            trials=3,
            remarks=("float16 autocast, linear schedule, gradient norm clipped at 1",),
        ),
    ),
    (MEZO_KSHOT | KSHOT, dict(seeds=5, select="metric")),
    (MEZO_KSHOT | KSHOT | ZO, dict(steps=100_000, batch=64, trials=3)),
    (MEZO_KSHOT | KSHOT | ZO | dict(peft=("full", "lora")), dict(eps=1e-3)),
    (MEZO_KSHOT | KSHOT | dict(peft=("full",), method=MEZO), dict(rates=(1e-7, 1e-6, 1e-5))),
    (MEZO_KSHOT | KSHOT | ZO | dict(peft=("lora",)), dict(rates=(1e-5, 5e-5, 1e-4))),
    (MEZO_KSHOT | KSHOT | ZO | dict(peft=("prefix",)), dict(eps=1e-1, rates=(1e-2, 5e-3, 1e-3))),
    (MEZO_KSHOT | dict(method=("MeZO-Adam",)), dict(trials=5, rates=None)),
    (MEZO_KSHOT | dict(method=("MeZO-Adam",), peft=("full",)), dict(rates=(1e-6, 1e-5, 1e-4, 5e-4, 1e-3))),
    (MEZO_KSHOT | KSHOT | FO, dict(steps=1000, remarks=("batch and rate searched on dev, linear schedule",))),
    (MEZO_KSHOT | dict(order=("none",)), dict(seeds=None)),
    (dict(paper=("MeZO",), table=ABLATIONS), dict(forwards=10_000, trials=24, remarks=("an ablation",))),
    (dict(paper=("MeZO",), table=("Table 5",)), dict(seeds=5)),
    (dict(paper=("MeZO",), method=("MeZO without prompt",)), dict(template="none")),
    # MeZO-GV and MeZO-Greedy (2601.04710v1)
    (dict(paper=("MeZO-GV",)), dict(dtype="float16", loss_dtype="float16", seeds=3)),
    (dict(paper=("MeZO-GV",)) | ZO, dict(batch=16, trials=3)),
    (dict(paper=("MeZO-GV",), method=TWO_POINT), dict(steps=20000)),
    (dict(paper=("MeZO-GV",), task=("record",)), dict(template="promptsource")),
    (
        COPIED | dict(method=("Zero-shot", "ICL", "FT", "MeZO")),
        dict(seeds=1, select="loss", remarks=("copied from MeZO's Table 1",)),
    ),
    (COPIED | dict(method=("MeZO",)), dict(trials=2, eps=1e-3)),
    (COPIED | dict(method=("MeZO",), task=LONG), dict(trials=3)),
    (COPIED | dict(method=("FT",)), dict(dtype="float32", loss_dtype=None, steps=625, batch=8, trials=3)),
    (COPIED | dict(method=("Zero-shot", "ICL", "FT", "MeZO"), task=("record",)), dict(template="gpt3")),
    (
        dict(paper=("MeZO-GV",), table=("Table V",), method=("ZO-AdaMU", "HiZOO", "SubZero")),
        dict(seeds=None, remarks=("quoted there from the method's own paper",)),
    ),
    (
        dict(paper=("MeZO-GV",), table=("Table IX",), model=("facebook/opt-13b",), peft=("lora",)),
        dict(remarks=("the row is probably mislabelled, see its note",)),
    ),
    # others
    (dict(paper=("LOZO",)) | ZO, dict(steps=20000, batch=16)),
    (dict(paper=("SubZero+",)) | ZO, dict(forwards=40_000, trials=3, select="loss")),
    (dict(paper=("SubZero",), table=("table in notes (number not given)",)), dict(remarks=("the task is inferred",))),
    (dict(paper=("BSZO",)) | ZO, dict(batch=16, steps=20000, eps=1e-4)),
    (dict(paper=("BSZO",)), dict(remarks=("early stopping, the first rows of the train split",))),
    (dict(paper=("BSZO",), table=("Table 1",)), dict(seeds=5)),
    (dict(paper=("BSZO",), precision=("fp32",)), dict(dtype="float32")),
    (dict(paper=("BSZO",), precision=("fp16",)), dict(dtype="float16")),
    (dict(paper=("BSZO",), precision=("bf16",)), dict(dtype="bfloat16")),
    (dict(paper=("AIM-ZO",)), dict(dtype="bfloat16")),
    (dict(paper=("AIM-ZO",)) | ZO, dict(forwards=40_000)),
    (dict(paper=("AIM-ZO",), table=("Table 1",)) | ZO, dict(remarks=("most values are of 3 seeds",))),
    (dict(paper=("AIM-ZO",), table=("Table 29",)), dict(seeds=3)),
    (dict(paper=("AIM-ZO",), table=("Table 2",), model=("Qwen/Qwen3-8B-Base",)), dict(seeds=3)),
    (dict(paper=("AIM-ZO",), table=("Table 28",)), dict(seeds=5)),
    (dict(paper=("GRZO",)), dict(batch=16)),
    (dict(paper=("GRZO",)) | ZO, dict(steps=20000, eps=1e-3)),
    (dict(paper=("1.5-SPSA",)), dict(remarks=("fewer than 300 steps with very large batches",))),
    (dict(paper=("DeComFL",)), dict(remarks=("federated",))),
    (dict(paper=("ZO-LLM",)), dict(bos="hf")),
    (dict(method=("Zero-shot",)), dict(seeds=1)),  # the same prompts on the same rows: nothing varies
)


def protocol(facts: Mapping[str, str], shots: int | None = None) -> Protocol:
    """What is known of a value with these `facts` (paper, table, model, task, suite, method, order, peft ...)."""
    known: dict[str, Any] = dict(_rows(facts, shots))
    if facts["paper"] in MEZO_CODE:
        known["template"] = TEMPLATES.get(facts["task"])
    remarks: list[str] = []
    for conditions, adds in RULES:
        if all(facts.get(name) in allowed for name, allowed in conditions.items()):
            remarks += adds.get("remarks", ())
            known |= {name: value for name, value in adds.items() if name != "remarks"}
    if facts["order"] == "none":  # nothing is trained
        for name in ("steps", "forwards", "batch", "eps", "rates", "trials", "select", "train", "dev"):
            known[name] = None
    return Protocol(**known, remarks=tuple(remarks))


def _rows(facts: Mapping[str, str], shots: int | None) -> dict[str, int]:
    task, paper = facts["task"], facts["paper"]
    if task in SHOTS and shots is not None and paper == "MeZO":
        classes, test = SHOTS[task]
        whole = not (task == "kshot_trec" and shots > 43)  # a rare class has too few rows
        return dict(test=test) | (dict(train=classes * shots, dev=classes * shots) if whole else {})
    if paper == "AIM-ZO" and task in VALIDATION:
        return dict(test=VALIDATION[task])
    if task in ROWS and paper in MEZO_CODE and facts["model"] != "roberta-large":
        return dict(zip(("train", "dev", "test"), ROWS[task], strict=True))
    return {}
