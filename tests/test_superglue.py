"""SuperGLUE's second metrics against the textbook, and the two ways to split WSC."""

import json

import pytest
from task_files import load_task

from zobench.problems.choice import WithRow
from zobench.problems.superglue import entities, macro_f1, questions
from zobench.spec import Setting


def example(gold, row=None, whole=True):
    made = WithRow(("prompt", ["a", "b", "c"], gold, ""))
    made.row, made.whole = row or {}, whole
    return made


def test_macro_f1_is_the_mean_over_labels():
    # label 0: precision 1/2, recall 1; label 1: precision 1, recall 1/2; label 2: never predicted
    found = macro_f1([example(g) for g in (0, 1, 1, 2)], [0, 1, 0, 1])
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 * 0.5 * 0.5 / (0.5 + 0.5) + 0) / 3)


def test_questions_are_right_when_all_their_answers_are():
    rows = [(7, 0), (7, 0), (7, 1), (8, 0), (8, 0)]  # the second paragraph has a question 0 of its own
    gold, predicted = [1, 0, 1, 1, 0], [1, 0, 0, 1, 1]
    examples = [
        example(g, {"idx": {"paragraph": p, "question": q, "answer": i}})
        for i, ((p, q), g) in enumerate(zip(rows, gold, strict=True))
    ]
    found = questions(examples, predicted)
    assert found["em"] == pytest.approx(1 / 3)
    precision, recall = 2 / 3, 2 / 3  # of the answers called right, and of those that are
    assert found["f1a"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_questions_without_all_their_answers_have_no_score():
    assert questions([example(1, {"idx": {"paragraph": 0, "question": 0}}, whole=False)], [1]) == {}


def test_a_predicted_entity_is_compared_with_the_best_answer():
    row = {"entities": ["Cosby", "Bill Cosby", "CNN"], "answers": ["Bill Cosby"]}
    found = entities([example([1], row)] * 3, [0, 1, 2])
    assert found["em"] == pytest.approx(1 / 3)
    assert found["f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_multirc_reports_questions_where_every_row_is_evaluated(data_dir, monkeypatch):
    setting = Setting(model="random:opt-nano", data_dir=data_dir)
    some = load_task("multirc").build(setting, num_train=8, num_dev=4, num_eval=5).evaluate("test")
    assert set(some) == {"accuracy", "loss"}
    if "rows" in data_dir.parts:  # 18 of them; the real slice has 594
        task = load_task("multirc")
        sliced = task.build(setting, num_train=8, num_dev=4, num_eval=4848).evaluate("test")
        assert set(sliced) == {"accuracy", "loss"}  # the slice may end inside a question
        monkeypatch.setitem(task.INFO, "sizes", dict(train=24, validation=18))
        whole = task.build(setting, num_train=8, num_dev=4, num_eval=18)
        assert set(whole.evaluate("test")) == {"accuracy", "loss", "f1a", "em"}
        assert set(whole.evaluate("validation")) == {"accuracy", "loss"}


def test_cb_and_record_report_their_second_metrics(data_dir):
    setting = Setting(model="random:opt-nano", data_dir=data_dir)
    cb = load_task("cb").build(setting, num_train=8, num_eval=6).evaluate("test")
    assert 0 <= cb["macro_f1"] <= 1
    record = load_task("record").build(setting, num_train=8, num_dev=4, num_eval=4).evaluate("test")
    assert record["em"] == record["accuracy"] <= record["f1"]  # entities differ by more than an article


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        (dict(wsc_split="mezo"), (54, 500, 104)),
        (dict(wsc_split="fixed"), (454, 100, 104)),
        (dict(wsc_split="fixed", num_dev=200), (354, 200, 104)),
        (dict(wsc_split="fixed", num_dev=20), (534, 20, 104)),
    ],
)
def test_wsc_is_split_as_published_or_with_more_rows_to_train_on(options, sizes, tmp_path):
    row = {"text": "Nora saw that she had won.", "span1_text": "Nora", "span2_text": "she"}
    for name, n in (("train", 554), ("validation", 104)):
        lines = (json.dumps(row | {"idx": i, "label": i % 2}) for i in range(n))
        folder = tmp_path / "super_glue/wsc.fixed"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    problem = load_task("wsc").build(Setting(model="random:opt-nano", data_dir=tmp_path), **options)
    assert tuple(len(problem.examples(part)) for part in ("train", "validation", "test")) == sizes
    assert problem.facts["partial_data"] is False
