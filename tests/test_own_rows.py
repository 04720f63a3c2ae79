"""A user's own rows are a task: split once and for all, known by their content, and read with care."""

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from zobench import plan, registry
from zobench.build import Names, OfflineNames, make_problem
from zobench.cli import main
from zobench.problems.own.rows import Draw
from zobench.spec import EnvironmentUnmet, MismatchError, Setting, UsageError

COLOURS = ["red", "blue", "green", "grey"]


def choice_rows(n):
    return [
        {"prompt": f"Box {i} is", "candidates": [f" {c}" for c in COLOURS], "label": i % 4, "calibration": "It is"}
        for i in range(n)
    ]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def boxes(tmp_path):
    return write(tmp_path / "boxes.jsonl", choice_rows(40))


def problem(task, score="test", **options):
    entry = registry.find("task", task)
    setting = Setting(model="random:opt-nano", batch_size=4, score=score)
    return registry.load(entry).build(setting, **registry.resolve(entry, options))


def prompts(problem, *splits):
    return [example[0] for split in splits for example in problem.examples(split)]


def test_one_file_is_split_into_three_without_overlap(boxes):
    found = problem(f"choice:{boxes}")
    assert found.facts["template"] == "own"
    drawn = prompts(found, "train", "validation", "test")
    assert sorted(drawn) == sorted(row["prompt"] for row in choice_rows(40))
    assert [found.facts[k] for k in ("num_train", "num_dev", "num_test")] == [24, 8, 8]
    assert found.facts["partial_data"] is False


def test_the_split_is_one_permutation_test_first_dev_last():
    class Rows:
        def rows(self, split):
            return choice_rows({"train": 100, "validation": 30}[split])

    order = np.random.RandomState(5).permutation(100)
    one = Draw(True, num_train=20, num_dev=10, num_eval=15)(Rows(), {}, 5, False)
    assert one.test.tolist() == order[:15].tolist()
    assert one.train.tolist() == order[15:35].tolist()
    assert one.dev.tolist() == order[35:45].tolist()
    pair = Draw(False, num_train=20, num_dev=10, num_eval=15)(Rows(), {}, 5, False)
    assert (pair.train.tolist(), pair.dev.tolist()) == (order[:20].tolist(), order[20:30].tolist())
    assert pair.test.tolist() == np.random.RandomState(5).permutation(30)[:15].tolist()


def test_sealed_test_rows_change_neither_train_nor_dev(boxes):
    for task in (f"choice:{boxes}",):
        open_, sealed = problem(task), problem(task, score="validation")
        for split in ("train", "validation"):
            assert prompts(open_, split) == prompts(sealed, split)
        with pytest.raises(UsageError, match="validation only"):
            sealed.evaluate("test")


def test_a_directory_has_its_own_validation_file_as_test(tmp_path):
    write(tmp_path / "mine/train.jsonl", choice_rows(30))
    write(tmp_path / "mine/validation.jsonl", [row | {"prompt": "New " + row["prompt"]} for row in choice_rows(10)])
    found = problem(f"choice:{tmp_path / 'mine'}", num_eval=6)
    assert all(prompt.startswith("New ") for prompt in prompts(found, "test"))
    assert [found.facts[k] for k in ("num_train", "num_dev", "num_test")] == [24, 6, 6]


def test_short_labels_train_against_each_other_and_long_ones_on_their_tokens(boxes):
    losses = {how: problem(f"choice:{boxes}", train_on=how) for how in ("candidates", "gold")}
    at_start = {how: float(p.loss(p.batch(0)).detach()) for how, p in losses.items()}
    assert at_start["candidates"] == pytest.approx(np.log(4), abs=0.5)  # four equal candidates
    assert at_start["gold"] == pytest.approx(np.log(2048), abs=0.5)  # one of the vocabulary
    assert "accuracy" in losses["gold"].evaluate("validation")


def test_a_row_may_bring_its_calibration_prompt(boxes):
    assert 0 <= problem(f"choice:{boxes}", calibration="sfc").evaluate("validation")["accuracy"] <= 1


def test_answers_are_generated(tmp_path):
    rows = [{"prompt": f"Question: What is {i}?\nAnswer:", "answers": [str(i), f"number {i}"]} for i in range(20)]
    found = problem(f"generate:{write(tmp_path / 'numbers.jsonl', rows)}", max_new_tokens=3)
    assert set(found.evaluate("test")) == {"f1", "em", "loss"}


# --- the cell ---


def jobs(task, names=None):
    return plan.jobs(plan.Request([task], ["mezo"], model="random:opt-nano"), names or Names())


def test_the_cell_holds_the_content_and_not_the_place(boxes, tmp_path):
    (job,) = jobs(f"choice:{boxes}")
    assert job.task == "choice:boxes" and job.data.startswith("sha256:")
    assert str(tmp_path) not in json.dumps(job.identity())
    (moved,) = jobs(f"choice:{write(tmp_path / 'elsewhere' / 'boxes.jsonl', choice_rows(40))}")
    assert moved.cell == job.cell and moved.task_path != job.task_path
    write(boxes, choice_rows(41))
    (other,) = jobs(f"choice:{boxes}")
    assert other.cell != job.cell
    assert jobs(f"choice:{boxes}", OfflineNames()) == [other]


def test_a_job_finds_its_rows_from_any_directory_and_notices_a_change(boxes, monkeypatch, tmp_path):
    monkeypatch.chdir(boxes.parent)
    (job,) = jobs("choice:./boxes.jsonl[num_train=5,num_dev=3,num_eval=3]")
    monkeypatch.chdir("/")
    job = plan.Job.from_json(job.to_json())
    assert len(make_problem(job, "cpu").examples("train")) == 5
    assert plan.provenance(job)
    write(boxes, choice_rows(41))
    with pytest.raises(MismatchError, match="plan it again"):
        make_problem(replace(job, seed=1), "cpu").batch(0)


# --- mistakes ---


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Box", "candidates": [" a", " b"]}, "no field 'label'"),
        ({"prompt": " ", "candidates": [" a", " b"], "label": 0}, "'prompt': the text is empty"),
        ({"prompt": "Box", "candidates": " a", "label": 0}, "expected a list of texts"),
        ({"prompt": "Box", "candidates": [" a", ""], "label": 0}, "entry 2 of the list"),
        ({"prompt": "Box", "candidates": [" a"], "label": 0}, "nothing to choose"),
        ({"prompt": "Box", "candidates": [" a", " b"], "label": 2}, "label 2: write the number"),
        ({"prompt": "Box", "candidates": [" a", " b"], "label": "a"}, "label 'a': write the number"),
        ({"prompt": "Box", "candidates": [" a", " b"], "label": True}, "label True"),
        ({"prompt": "Box", "candidates": [" a", " b"], "label": []}, r"label \[\]"),
        ({"prompt": "Box", "candidates": [" a", " b"], "label": [0, 1]}, "all candidates are right"),
        ({"prompt": "Box", "candidates": [" a", " b", " a"], "label": 1}, "' a' is there twice"),
        ({"prompt": "Box", "candidates": [" a", " a "], "label": 1}, "' a' is there twice"),
        ({"prompt": "Box", "candidates": [" a", " b"], "label": 1, "calibration": 5}, "calibration 5: write a text"),
    ],
)
def test_a_wrong_row_is_named_with_file_and_line(row, said, tmp_path):
    path = write(tmp_path / "mine.jsonl", choice_rows(20))
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[:6], "", json.dumps(row), *lines[6:]]), encoding="utf-8")  # an empty line counts
    with pytest.raises(EnvironmentUnmet, match=rf"mine\.jsonl, line 8: .*{said}") as caught:
        problem(f"choice:{path}").batch(0)
    assert "\n" not in str(caught.value)


def test_a_broken_file_is_named_with_its_line(tmp_path):
    path = write(tmp_path / "mine.jsonl", choice_rows(6))
    path.write_text(path.read_text(encoding="utf-8") + '{"prompt": "Bo', encoding="utf-8")
    with pytest.raises(EnvironmentUnmet, match=r"mine\.jsonl, line 7: not JSON"):
        problem(f"choice:{path}").batch(0)


def test_too_few_rows_to_set_some_aside(tmp_path):
    with pytest.raises(EnvironmentUnmet, match=r"mine\.jsonl: 4 rows; write at least 5"):
        problem(f"choice:{write(tmp_path / 'mine.jsonl', choice_rows(4))}").batch(0)
    with pytest.raises(EnvironmentUnmet, match=r"mine\.jsonl: 1 row; write at least 5"):
        problem(f"choice:{write(tmp_path / 'mine.jsonl', choice_rows(1))}").batch(0)


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        (dict(num_train=5), [5, 8, 8]),
        (dict(num_dev=20), [12, 20, 8]),
        (dict(num_train=25, num_dev=10, num_eval=5), [25, 10, 5]),
        (dict(num_dev=31), [1, 31, 8]),
        (dict(num_train=30), "40 rows are too few for num_dev=8, num_eval=8 and num_train=30; ask for fewer"),
        (dict(num_dev=32), "40 rows are too few for num_dev=32, num_eval=8 and a row to train on"),
        (dict(num_dev=100, num_train=4), "too few for num_dev=100, num_eval=8 and num_train=4"),
    ],
)
def test_sizes_that_are_asked_for_are_kept_or_refused(sizes, found, boxes):
    made = problem(f"choice:{boxes}", **sizes)
    if isinstance(found, list):
        assert [len(made.examples(split)) for split in ("train", "validation", "test")] == found
        assert len(set(prompts(made, "train", "validation", "test"))) == sum(found)
    else:
        with pytest.raises(UsageError, match=found):
            made.batch(0)


def test_a_directory_has_no_more_test_rows_than_it_has(tmp_path):
    write(tmp_path / "mine/train.jsonl", choice_rows(30))
    write(tmp_path / "mine/validation.jsonl", choice_rows(7))
    made = problem(f"choice:{tmp_path / 'mine'}", num_train=24, num_dev=6)
    assert [len(made.examples(split)) for split in ("train", "validation", "test")] == [24, 6, 7]
    with pytest.raises(UsageError, match=r"validation\.jsonl: 7 rows are too few for num_eval=8"):
        problem(f"choice:{tmp_path / 'mine'}", num_eval=8).batch(0)
    with pytest.raises(UsageError, match=r"train\.jsonl: 30 rows are too few for num_dev=6 and num_train=25"):
        problem(f"choice:{tmp_path / 'mine'}", num_train=25).batch(0)


def test_rows_that_repeat_another_one_are_counted(boxes, tmp_path):
    made = problem(f"choice:{boxes}")
    made.batch(0)
    assert "duplicates" not in made.facts
    rows = choice_rows(10)
    twice = problem(f"choice:{write(tmp_path / 'twice.jsonl', rows + [row | {'id': 7} for row in rows[:4]])}")
    twice.batch(0)
    assert twice.facts["duplicates"] == 4 and "4 of 14 rows repeat" in twice.facts["note"]
    answers = [{"prompt": "Who?", "answers": [name]} for name in ("Nora", "Lind", "Nora", "Ole", "Eva", "Nora")]
    said = problem(f"generate:{write(tmp_path / 'names.jsonl', answers)}")
    said.batch(0)
    assert said.facts["duplicates"] == 2


def test_a_null_in_a_parquet_file_is_no_calibration_and_no_label(tmp_path):
    import pyarrow.parquet

    rows = choice_rows(12)
    rows[3]["calibration"] = None
    rows = [row | {"label": float(row["label"])} for row in rows]
    path = tmp_path / "mine.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert problem(f"choice:{path}").evaluate("validation")
    with pytest.raises(EnvironmentUnmet, match=r"mine\.parquet, row 4: .*no prompt for calibration"):
        problem(f"choice:{path}", calibration="sfc").batch(0)
    rows[6]["label"] = None
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    with pytest.raises(EnvironmentUnmet, match=r"mine\.parquet, row 7: .*label None: write the number"):
        problem(f"choice:{path}").batch(0)


@pytest.mark.parametrize("name", ["a[b].jsonl", "a,b.jsonl", "a[1],[2]/b, c.jsonl", "dir [x]", "a[n=1].jsonl"])
def test_a_name_with_brackets_or_commas_is_one_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name.endswith(".jsonl"):
        write(tmp_path / name, choice_rows(10))
    else:
        for split in ("train", "validation"):
            write(tmp_path / name / f"{split}.jsonl", choice_rows(10))
    task = f"choice:{name}"
    assert registry.parse(task) == (task, {})
    assert registry.parse(f"{task}[num_train=[5,6], num_dev=2]") == (task, dict(num_train=[5, 6], num_dev=2))
    parts = ["sst2[num_train=5,num_dev=3]", task, f"{task}[num_train=5,num_dev=2]", "rte"]
    assert registry.split(",".join(parts)) == parts
    (job,) = jobs(f"{task}[num_train=5,num_dev=2,num_eval=2]")
    assert len(make_problem(plan.Job.from_json(job.to_json()), "cpu").examples("train")) == 5


def test_a_python_file_with_brackets_and_commas_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my[1],2.py").write_text("", encoding="utf-8")
    assert registry.split("mezo,my[1],2.py[lr=1],zo-sgd") == ["mezo", "my[1],2.py[lr=1]", "zo-sgd"]
    assert registry.parse("my[1],2.py[lr=1]") == ("my[1],2.py", dict(lr=1))


def test_a_missing_file_with_brackets_is_told_what_they_are_for():
    with pytest.raises(UsageError, match="brackets hold options, unless they are in the name of a file that exists"):
        registry.parse("choice:a[b].jsonl")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("choice:missing.jsonl", "there is no such file"),
        ("generate:", "there is no such file"),
        ("choice:table.csv", r"not \.csv"),
        ("choice:folder", "has no train.jsonl and no validation.jsonl"),
        ("chioce:mine.jsonl", "choice:FILE.jsonl or generate:FILE.jsonl"),
    ],
)
def test_a_wrong_place_is_one_line(text, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "table.csv").write_text("a,b\n", encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        registry.find("task", text)


def test_the_command_line_explains_and_runs_them(boxes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(main, ["info", "choice:./boxes.jsonl"])
    assert shown.exit_code == 0, shown.output
    assert "train_on = candidates" in shown.output and "candidates to choose from" in shown.output
    flags = "-m random:opt-nano -O mezo --budget steps=2 -b 2 --device cpu -o store".split()
    ran = CliRunner().invoke(main, ["run", "-t", "choice:./boxes.jsonl[num_train=8,num_dev=4,num_eval=4]", *flags])
    assert ran.exit_code == 0, ran.output
    assert list((tmp_path / "store").glob("*.parquet"))
    wrong = CliRunner().invoke(main, ["run", "-t", "choice:./boxes.jsonl[train_on=all]", *flags])
    assert wrong.exit_code == 2 and "candidates, gold" in wrong.output
