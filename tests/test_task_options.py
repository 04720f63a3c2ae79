"""Options of language tasks are part of the cell, may change the dataset, and leave stored results their cells."""

import json
from pathlib import Path

import pytest

from zobench import plan, record, registry
from zobench.build import Names
from zobench.problems.options import chosen
from zobench.spec import Job, UsageError

RESULTS = Path(__file__).parents[1] / "results"
ROWS = str(Path(__file__).parent / "rows")
PAPERS = "SST2 RTE CB BoolQ WSC WIC MultiRC Copa COPA ReCoRD SQuAD DROP WinoGrande".split()


def job(task, **asked) -> Job:
    asked = dict(model="random:opt-nano", data_dir=ROWS) | asked
    return plan.jobs(plan.Request([task], ["mezo"], **asked), Names())[0]


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_names_are_found(name):
    assert registry.find("task", name).name == name.lower()


@pytest.mark.parametrize(
    "changed",
    "sst2[template=empty] rte[template=empty] copa[template=empty] boolq[template=v0] record[template=promptsource] "
    "wsc[wsc_split=fixed] sst2[bos_mode=hf] sst2[loss_dtype=model] sst2[calibration=sfc] sst2[objective=accuracy] "
    "squad[version=2] squad[objective=f1]".split(),
)
def test_every_option_makes_another_cell(changed):
    name, given = registry.parse(changed)
    plain, other = job(name), job(changed)
    assert plain.cell != other.cell
    for option, value in given.items():
        assert other.task_options[option] == value and option in plain.task_options


def test_the_version_of_squad_chooses_the_rows():
    one, two = job("squad"), job("squad[version=2]")
    assert one.data != two.data and one.data.startswith("sha256:")
    entry = registry.find("task", "squad")
    assert registry.chosen(entry, one.task_options).info["hub"]["id"] == "rajpurkar/squad"
    assert registry.chosen(entry, two.task_options).info["hub"]["id"] == "rajpurkar/squad_v2"
    with pytest.raises(UsageError, match="version must be one of 1, 2"):
        job("squad[version=3]")


def test_a_value_that_is_not_listed_changes_nothing():
    info = dict(hub="one", sizes=1, by=dict(version={2: dict(hub="two")}))
    assert chosen(info, dict(version=1)) == info
    assert chosen(info, dict(version=2)) == info | dict(hub="two")
    assert chosen(info, {}) == info


def test_the_defaults_are_the_papers():
    for name in ("cb", "copa", "winogrande"):
        assert job(name).task_options["num_dev"] == 100
    for name in ("sst2", "rte", "boolq", "wsc", "wic", "multirc", "record", "squad", "drop"):
        sizes = {k: job(name).task_options[k] for k in ("num_train", "num_dev", "num_eval")}
        assert sizes == dict(num_train=1000, num_dev=500, num_eval=1000)


def test_stored_results_of_toy_tasks_keep_their_cells():
    rows, _ = record.scan(RESULTS, ("cell", "task", "job"))
    stored = {row["task"]: row for row in rows if row["task"].startswith("toy_")}
    assert len(stored) == 4
    for name, row in stored.items():
        found = Job.from_json(row["job"])
        again = registry.resolve(registry.find("task", name), found.task_options)
        assert again == json.loads(row["job"])["task_options"]
        assert "objective" not in again and found.cell == row["cell"]
        changed = registry.resolve(registry.find("task", name), {**found.task_options, "objective": "loss"})
        assert changed == again


def test_none_is_a_word_where_words_are_asked_for():
    for text in ("kshot_rte[template=none]", "glue_rte[calibration=none]", "sst2[calibration=None]"):
        name, given = registry.parse(text)
        found = registry.resolve(registry.find("task", name), given)
        assert {found[option] for option in given} == {"none"}
    with pytest.raises(UsageError, match="template must be one of prompt, empty, not 'none'"):
        registry.resolve(registry.find("task", "sst2"), dict(template=None))
    with pytest.raises(UsageError, match="num_train must be a whole number, not None"):
        registry.resolve(registry.find("task", "sst2"), dict(num_train=None))
