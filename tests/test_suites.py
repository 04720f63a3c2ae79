"""The suites of the papers: their grids and budgets are the printed ones, the format refuses mistakes, older suites stand."""

from pathlib import Path

import pytest

from zobench import plan, record, suite
from zobench.build import Names, OfflineNames
from zobench.spec import UsageError

RESULTS = Path(__file__).parents[1] / "results"
OPT = ["sst2", "rte", "cb", "boolq", "wsc", "wic", "multirc", "copa", "record", "squad", "drop"]
LONG = ("squad", "drop")


def powers(first, last):
    return tuple(float(f"1e-{i}") for i in range(first, last + 1))


E3, e3 = (1e-2, 1e-3, 1e-4), (1e-3, 1e-4, 1e-5)
FOUR, SIX, TWO = (5e-3, 1e-4, 5e-5, 1e-5), (5e-3, 1e-3, 5e-4, 1e-4, 5e-5, 1e-5), (1e-2, 1e-3)


def row(name, task, optimizer, adapter="none", **given):
    (found,) = suite.rows(name, tasks=[task], optimizers=[optimizer], adapters=[adapter], given=given)
    return found


def tuned(found, *keys):
    """The values of these settings, one or several; None where the optimizer keeps its default."""
    values = {**{k: (v,) for k, v in found.settings.items()}, **found.grid}
    return tuple(values.get(key) for key in keys)


def same(given, expected):
    assert len(given) == len(expected)
    for a, b in zip(given, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert sorted(a) == pytest.approx(sorted(b), rel=1e-12)


# --- MeZO's tables 15 and 16 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", OPT)
@pytest.mark.parametrize(
    "adapter, short, long, eps",
    [
        ("none", (1e-6, 1e-7), (1e-6, 5e-7, 1e-7), 1e-3),
        ("prefix", (1e-2, 1e-3), (5e-2, 1e-2, 5e-3), 1e-1),
        ("lora", (1e-4, 5e-5), (1e-4, 5e-5, 1e-5), 1e-2),
    ],
)
def test_mezo_on_opt(task, adapter, short, long, eps):
    found = row("opt11", task, "mezo", adapter)
    same(tuned(found, "lr", "eps"), (long if task in LONG else short, (eps,)))
    assert (found.settings["batch_size"], found.settings["evaluations"]) == (16, 5)
    request = found.request()
    assert (request.dtype, request.schedule, request.model) == ("float16", "constant", "facebook/opt-13b")


def test_fine_tuning_on_opt():
    found = row("opt11", "sst2", "adam")
    same(tuned(found, "lr"), ((1e-5, 5e-5, 8e-5),))
    request = found.request()
    assert (request.budget, request.batch_size, request.schedule) == ("steps=625", 8, "linear")
    assert (request.dtype, request.evaluations) == ("float32", 5)


@pytest.mark.parametrize("adapter, lr", [("none", (1e-6, 5e-6, 1e-5)), ("prefix", (1e-1, 5e-2, 1e-2))])
def test_the_objective_without_a_gradient(adapter, lr):
    same(tuned(row("opt11:nondiff", "squad", "mezo", adapter), "lr"), (lr,))


KSHOT = [
    ("mezo", "none", 16, (1e-7, 1e-6, 1e-5), (64,), (1e-3,), None),
    ("mezo", "prefix", 16, (1e-2, 5e-3, 1e-3), (64,), (1e-1,), None),
    ("mezo", "lora", 512, (1e-5, 5e-5, 1e-4), (64,), (1e-3,), (0.1,)),
    ("mezo-adam", "none", 16, (1e-6, 1e-5, 1e-4, 5e-4, 1e-3), (64,), (1e-3,), None),
    ("adam", "none", 16, (1e-5, 3e-5, 5e-5), (2, 4, 8), None, None),
    ("adam", "none", 512, (1e-5, 3e-5, 5e-5), (8, 16, 32), None, None),
    ("sgd", "none", 16, (1e-4, 5e-4, 1e-3, 5e-3, 1e-2), (2, 4, 8), None, None),
    ("sgd", "none", 512, (1e-4, 5e-4, 1e-3, 5e-3, 1e-2), (8, 16, 32), None, None),
    ("adam", "prefix", 16, (1e-2, 3e-2, 5e-2), (8, 16, 32), None, None),
    ("adam", "lora", 512, (1e-4, 3e-4, 5e-4), (4, 8, 16), None, None),
]


@pytest.mark.parametrize("optimizer, adapter, k, lr, batch, eps, decay", KSHOT)
def test_roberta(optimizer, adapter, k, lr, batch, eps, decay):
    found = row("roberta-kshot", f"kshot_trec[k={k}]", optimizer, adapter)
    same(tuned(found, "lr", "batch_size", "eps", "weight_decay"), (lr, batch, eps, decay))
    assert found.settings["evaluations"] == 10
    assert found.settings["budget"] == ("steps=1000" if optimizer in ("adam", "sgd") else "forwards=200000")


def test_roberta_has_six_tasks_two_sizes_and_five_splits():
    found = suite.rows("roberta-kshot", optimizers=["mezo"], adapters=["none"])
    tasks = [task for one in found for task in one.tasks]
    names = [f"kshot_{t}" for t in ("sst2", "sst5", "snli", "mnli", "rte", "trec")]
    splits = (13, 21, 42, 87, 100)
    assert tasks == [f"{n}[k={k},split={s}]" for n in names for k in (16, 512) for s in splits]
    assert all(len(one.tasks) == 5 for one in found)  # one setting for all splits


# --- the grids of others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer, adapter, keys, values",
    [
        ("mezo-gv", "none", ("lr", "eps", "candidates"), ((1e-7, 2e-7, 3e-7, 5e-7), (1e-3,), (2, 4))),
        ("mezo-gv", "lora", ("lr", "eps"), ((3e-5, 5e-5, 1e-4), (1e-2,))),
        ("mezo-gv", "prefix", ("lr", "eps"), ((1e-3, 5e-3, 1e-2), (1e-1,))),
        ("subzero", "none", ("lr", "rank", "interval"), ((1e-7, 2e-7, 5e-7), (32, 64), (500, 1000, 2000))),
        ("subzero", "lora", ("lr", "rank", "interval"), ((3e-5, 5e-5, 1e-4), (8, 16), (500, 1000, 2000))),
        ("subzero", "prefix", ("lr", "eps", "rank"), ((1e-3, 5e-3, 1e-2), (1e-1,), (8, 16))),
        ("sgd", "none", ("lr",), ((1e-4, 1e-3, 5e-3),)),
        ("lozo", "none", ("lr", "eps", "rank", "interval"), ((1e-6, 1e-7), (1e-3, 1e-4), (1, 2, 4), (50, 100))),
        ("hizoo", "none", ("lr", "eps", "smooth"), ((1e-6,), (1e-3,), (1e-8,))),
        ("fzoo", "none", ("lr", "eps", "n"), ((5e-5,), (1e-4,), (8,))),
        ("stp", "none", ("lr",), ((1e-3, 1e-2, 1e-1),)),  # no table: its own file's
        ("torch:NAdam", "none", ("lr",), ((1e-5, 5e-5, 8e-5),)),  # no grid anywhere: its order's
    ],
)
def test_other_methods_on_opt(optimizer, adapter, keys, values):
    same(tuned(row("opt11", "wsc", optimizer, adapter), *keys), values)


COPA_13B, LLAMA, MISTRAL = "facebook/opt-13b", "meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-v0.1"
ZO_LLM = [  # task, model, optimizer, adapter, lr, eps
    ("copa", LLAMA, "mezo", "none", powers(5, 8), E3),
    ("copa", COPA_13B, "mezo", "none", powers(4, 8), (*E3, 1e-5)),
    ("copa", LLAMA, "mezo", "lora", FOUR, TWO),
    ("copa", COPA_13B, "mezo", "lora", SIX, TWO),
    ("copa", LLAMA, "mezo", "prompt", powers(4, 8), E3),
    ("copa", MISTRAL, "mezo", "prefix", powers(3, 7), E3),
    ("winogrande", COPA_13B, "mezo", "none", powers(4, 8), E3),
    ("winogrande", LLAMA, "mezo", "none", powers(5, 8), E3),
    ("winogrande", LLAMA, "zo-sgd-mmt", "none", powers(4, 8), e3),
    ("copa", COPA_13B, "zo-sgd-mmt", "none", powers(5, 8), E3),
    ("winogrande", LLAMA, "zo-sgd-mmt", "prefix", powers(3, 7), e3),
    ("copa", LLAMA, "zo-sgd-cons", "prefix", powers(3, 7), E3),
    ("copa", LLAMA, "zo-sgd-sign", "prompt", powers(4, 8), e3),
    ("winogrande", LLAMA, "zo-sgd-sign", "prompt", powers(3, 7), E3),
    ("winogrande", MISTRAL, "zo-adam", "lora", powers(4, 8), E3),
    ("copa", COPA_13B, "forward-grad", "none", (*powers(4, 8), 5e-6, 5e-7, 5e-8), None),
    ("winogrande", COPA_13B, "forward-grad", "none", (1e-5, 5e-6, 1e-6, 5e-7, 1e-7, 5e-8), None),
    ("copa", LLAMA, "sgd", "none", powers(4, 7), None),
    ("copa", COPA_13B, "sgd", "none", powers(4, 8), None),
    ("copa", COPA_13B, "adam", "none", (1e-6, 1e-7), None),
    ("winogrande", LLAMA, "adam", "none", powers(3, 7), None),
    ("copa", LLAMA, "adam", "lora", FOUR, None),
    ("winogrande", LLAMA, "adam", "lora", powers(2, 6), None),
    ("sst2", "facebook/opt-1.3b", "mezo", "none", powers(4, 8), e3),
    ("sst2", "facebook/opt-1.3b", "mezo", "prefix", (1e-2, 1e-3, 1e-4), (1e-1,)),
    ("sst2", "facebook/opt-1.3b", "zo-sgd-sign", "none", (1e-4, 1e-6, 1e-8), (1e-3, 1e-5)),
    ("sst2", "facebook/opt-1.3b", "zo-adam", "lora", (1e-4, 1e-5, 1e-6), (1e-2, 1e-3, 1e-4, 1e-5)),
    ("sst2", "facebook/opt-1.3b", "forward-grad", "lora", (5e-5, 1e-5, 5e-6, 1e-6, 5e-7, 1e-7), None),
    ("sst2", "facebook/opt-1.3b", "adam", "none", (1e-2, 1e-4, 1e-6), None),
]


@pytest.mark.parametrize("task, model, optimizer, adapter, lr, eps", ZO_LLM)
def test_zo_llm(task, model, optimizer, adapter, lr, eps):
    found = row("opt11:zo-llm", task, optimizer, adapter, model=model)
    same(tuned(found, "lr", "eps"), (lr, eps))


# --- sizes of the plans -----------------------------------------------------------------------------------------------


def test_mezo_on_opt_is_eleven_tasks_in_the_papers_order():
    found = suite.rows("opt11", optimizers=["mezo"], adapters=["none"])
    assert [one.tasks for one in found] == [(task,) for task in OPT]
    assert [len(one.points()) for one in found] == [2] * 9 + [3] * 2


def test_an_optimizer_that_no_table_names_stands_with_those_of_its_order():
    found = suite.rows("opt11", optimizers=["mezo-gv"])
    assert [(one.tasks[0], one.adapter.partition("[")[0]) for one in found] == [
        (task, adapter) for task in OPT for adapter in ("none", "lora", "prefix")
    ]
    assert {one.tasks[0] for one in suite.rows("opt11", optimizers=["linear-probe"])} == set(OPT[:7])


def test_what_is_given_is_not_tuned():
    found = row("opt11", "sst2", "mezo[lr=3e-7]", budget="steps=10")
    assert found.grid == {} and found.settings["lr"] == 3e-7
    assert found.request().budget == "steps=10"
    assert found.request().optimizers == ["mezo[eps=0.001,lr=3e-07]"]
    assert row("opt11", "sst2", "mezo[lr=[1,2,3]]").grid["lr"] == (1, 2, 3)


@pytest.mark.parametrize("name", [p.stem for p in plan.suites_folder().glob("*.toml")])
def test_every_suite_and_every_table_of_it_can_be_planned(name):
    parts = {run.get("name") for run in suite.read(name).runs}
    for part in parts:
        requests = plan.suite(f"{name}:{part}" if part else name)
        assert [job for request in requests for job in plan.jobs(request, OfflineNames())]


@pytest.mark.parametrize("name", ["core", "optimizers", "regress"])
def test_the_older_suites_plan_the_cells_whose_results_are_committed(name):
    rows, _ = record.scan(RESULTS, ("cell",))
    committed = {r["cell"] for r in rows}
    cells = {job.cell for request in plan.suite(name) for job in plan.jobs(request, Names())}
    assert cells <= committed


def test_run_takes_the_first_value_of_a_grid(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        '[default]\ntasks = ["toy_sentiment"]\n[[run]]\noptimizers = ["mezo", "adam"]\n'
        '[[tune]]\noptimizers = ["zeroth"]\nlr = [3e-4, 1e-4]\n[[tune]]\noptimizers = ["first"]\nbudget = "steps=7"\n'
    )
    mezo, adam = plan.suite(str(path))
    (job,) = plan.jobs(mezo, Names())
    assert job.optimizer_options["lr"] == 3e-4
    assert adam.budget == "steps=7"
    (only,) = plan.suite(str(path), ["sgd"])
    assert (only.optimizers, only.budget) == (["sgd"], "steps=7")  # the task publishes its rate


# --- the format -------------------------------------------------------------------------------------------------------

RUN = '[[run]]\ntasks = ["toy_sentiment"]\noptimizers = ["mezo"]\n'
WRONG = [
    ('[[tune]]\noptimizers = ["mezo"]\nlr = []\n', "the grid of lr is empty"),
    ('[[tune]]\noptimizers = ["mezo"]\nlearning_rate = [1]\n', "no option 'learning_rate'"),
    ('[[tune]]\noptimizers = ["zeroth"]\nepz = 1e-3\n', "did you mean eps?"),
    ('[[tune]]\noptimizers = ["mezo"]\nlr = [-1.0]\n', "lr must be >= 0"),
    ('[[tune]]\noptimizers = ["mzo"]\nlr = [1.0]\n', "did you mean mezo"),
    ('[[tune]]\noptimizers = "mezo"\nlr = [1.0]\n', "optimizers must be a list"),
    ("[tuning]\nlr = [1.0]\n", "unknown table tuning"),
    ("[default]\nsteps = 3\n[[tune]]\nlr = [1.0]\n", "unknown key 'steps'"),
]


@pytest.mark.parametrize("text, says", WRONG)
def test_a_mistake_is_named(tmp_path, text, says):
    path = tmp_path / "wrong.toml"
    path.write_text(RUN + text)
    with pytest.raises(UsageError, match=says) as raised:
        suite.rows(str(path))
    assert "wrong.toml" in str(raised.value)


def test_the_most_specific_table_wins(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        RUN.replace("toy_sentiment", "sst2").replace('"mezo"', '"mezo", "lozo", "stp", "adam"')
        + '[[tune]]\noptimizers = ["mezo"]\nlr = [1.0]\n'
        + '[[tune]]\noptimizers = ["two-point"]\nlr = [2.0]\nrank = [3, 4]\n'
        + '[[tune]]\noptimizers = ["*"]\nlr = [4.0]\nbatch_size = 2\n'
        + '[[tune]]\noptimizers = ["mezo"]\ntasks = ["sst*"]\nlr = [5.0]\n'
        + '[[tune]]\noptimizers = ["mezo"]\ntasks = ["rte"]\nlr = [6.0]\n'
    )
    mezo, lozo, stp, adam = suite.rows(str(path))
    assert mezo.settings == {"lr": 5.0, "batch_size": 2}
    assert lozo.grid["rank"] == (3, 4) and lozo.grid["lr"] == (1e-6, 1e-7)  # its own grid before its family's
    assert stp.grid["lr"] == (1e-3, 1e-2, 1e-1)
    assert (adam.settings, adam.grid) == ({"batch_size": 2}, {"lr": (1e-5, 5e-5, 8e-5)})
