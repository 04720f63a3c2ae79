"""GLUE's forms, metrics and splits."""

import math

import numpy as np
import pytest
import torch
from task_files import load_task

from zobench import registry
from zobench.problems.glue import LabelChoice
from zobench.problems.heads import HeadProblem
from zobench.problems.masked import MaskedProblem
from zobench.problems.metrics import of_labels, of_scores
from zobench.spec import EnvironmentUnmet, Setting, UsageError

TASKS = [entry for entry in registry.entries("task").values() if entry.info.get("suite") == "glue"]
SIZES = dict(num_train=16, num_dev=6, num_eval=6)
MAIN = dict(mrpc="f1", qqp="f1", cola="mcc", stsb="pearson")


def build(name, data_dir, model="random:roberta-nano", score="test", **options):
    setting = Setting(model=model, data_dir=data_dir, batch_size=4, score=score)
    return load_task(name).build(setting, **SIZES | options)


# --- metrics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_the_textbooks(seed):
    draw = np.random.RandomState(seed)
    gold, predicted = draw.randint(0, 2, 50), draw.randint(0, 2, 50)
    tp, tn = np.sum((gold == 1) & (predicted == 1)), np.sum((gold == 0) & (predicted == 0))
    fp, fn = np.sum((gold == 0) & (predicted == 1)), np.sum((gold == 1) & (predicted == 0))
    mcc = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert math.isclose(of_labels(predicted, gold, "mcc")["mcc"], mcc, rel_tol=1e-9)
    assert math.isclose(of_labels(predicted, gold, "f1")["f1"], 2 * tp / (2 * tp + fp + fn))
    assert of_labels(predicted, gold) == {"accuracy": (tp + tn) / 50}
    a, b = draw.randn(30), draw.randint(0, 6, 30) / 2
    found = of_scores(a, b)
    ranks = [
        np.array([np.mean(np.flatnonzero(np.sort(v) == x)) for x in v]) for v in (a, b)
    ]  # ties share their mean rank
    assert math.isclose(found["pearson"], np.corrcoef(a, b)[0, 1]) and set(found) == {"pearson", "spearman"}
    assert math.isclose(found["spearman"], np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize("predicted, gold", [([0, 0, 0], [0, 1, 1]), ([0, 1, 1], [1, 1, 1]), ([0, 0], [0, 0])])
def test_mcc_with_an_empty_row_or_column_is_zero(predicted, gold):
    assert of_labels(np.array(predicted), np.array(gold), "mcc")["mcc"] == 0.0


def test_f1_without_a_positive_is_zero():
    assert of_labels(np.zeros(3, int), np.zeros(3, int), "f1") == {"accuracy": 1.0, "f1": 0.0}


@pytest.mark.parametrize("predicted", [[2.0, 2.0, 2.0], [math.nan, 1.0, 2.0], [math.inf, 1.0, 2.0]])
def test_a_correlation_that_is_not_defined_is_zero_and_flagged(predicted):
    zero = {"pearson": 0.0, "spearman": 0.0, "undefined": 1.0}
    assert of_scores(np.array(predicted), np.array([1.0, 2.0, 3.0])) == zero
    assert of_scores(np.array([1.0]), np.array([2.0])) == zero


# --- forms ------------------------------------------------------------------------------------------------------------


def test_the_nine_are_there():
    names = [entry.name.removeprefix("glue_") for entry in TASKS]
    assert names == ["cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli"]
    for entry in TASKS:
        assert entry.info["metric"] == MAIN.get(entry.name.removeprefix("glue_"), "accuracy")
        assert entry.info["batch_size"] == 16 and entry.options["form"] == "prompt"


@pytest.mark.parametrize("entry", TASKS, ids=lambda entry: entry.name)
@pytest.mark.parametrize(
    "form, model, kind",
    [
        ("prompt", "random:roberta-nano", MaskedProblem),
        ("prompt", "random:opt-nano", LabelChoice),
        ("head", "random:roberta-nano", HeadProblem),
        ("head", "random:opt-nano", HeadProblem),
    ],
)
def test_every_task_has_its_forms(entry, form, model, kind, data_dir):
    problem = build(entry.name, data_dir, model, form=form)
    assert type(problem) is kind
    loss = problem.loss(problem.batch(0))
    assert loss.requires_grad and math.isfinite(float(loss.detach()))
    found = problem.evaluate("test")
    main = entry.info["metric"]
    wanted = {"pearson", "spearman"} if main == "pearson" else {"accuracy", main}
    assert wanted | {"loss"} <= set(found) and -1 <= found[main] <= 1
    if kind is HeadProblem:
        assert problem.labels == {"glue_stsb": 1, "glue_mnli": 3}.get(entry.name, 2)


@pytest.mark.parametrize(
    "options, model, message",
    [
        (
            dict(head="probe"),
            "random:roberta-nano",
            "head=probe: a prompt has no head of its own; write form=head, or leave it out",
        ),
        (dict(calibration="sfc"), "random:roberta-nano", "a masked model has no candidates to calibrate"),
        (dict(form="head", calibration="sfc"), "random:opt-nano", "a head has no candidates to calibrate"),
        (dict(form="head", bos_mode="hf"), "random:opt-nano", "opens its sequences as its tokenizer does"),
        (dict(form="head", head="checkpoint"), "random:opt-nano", "use head=random"),
    ],
)
def test_options_that_a_form_does_not_have_are_refused(options, model, message, data_dir):
    with pytest.raises(UsageError, match=message):
        build("glue_sst2", data_dir, model, **options)


def test_a_task_without_a_model_says_so():
    with pytest.raises(UsageError, match="give one with -m"):
        load_task("glue_rte").build(Setting())


# --- causal prompts ---------------------------------------------------------------------------------------------------


def by_hand(problem, question):
    """Mean log-likelihood of each candidate: one row at a time, all logits."""
    found = []
    for text in question[1]:
        ids, option = problem.encoder.option(question[0], question[0] + text)
        with torch.no_grad():
            logits = problem.model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        places = range(len(ids) - option, len(ids))
        found.append(np.mean([float(logits[i - 1, ids[i]]) for i in places]))
    return np.array(found)


@pytest.mark.parametrize("name", ["glue_cola", "glue_mrpc", "glue_mnli"])
def test_causal_prompts_are_scored_by_mean_log_likelihood(name, data_dir):
    problem = build(name, data_dir, "random:opt-nano")
    questions = problem.examples("test")
    scores = np.array([by_hand(problem, q) for q in questions])
    gold = np.array([q[2] for q in questions])
    wanted = of_labels(scores.argmax(1), gold, problem.info["metric"])
    loss = np.mean([np.logaddexp.reduce(s) - s[g] for s, g in zip(scores, gold, strict=True)])
    found = problem.evaluate("test")
    assert math.isclose(found.pop("loss"), loss, rel_tol=1e-5) and found == pytest.approx(wanted)


def test_causal_scores_are_five_times_the_share_of_yes(data_dir):
    problem = build("glue_stsb", data_dir, "random:opt-nano")
    questions = problem.examples("test")
    scores = np.array([by_hand(problem, q) for q in questions])
    share = np.exp(scores[:, 1]) / np.exp(scores).sum(1)
    gold = np.array([q[2] for q in questions])
    found = problem.evaluate("test")
    assert math.isclose(found["pearson"], np.corrcoef(5 * share, gold)[0, 1], rel_tol=1e-4)
    pairs = [(t, q) for g, s in zip(gold / 5, share, strict=True) for t, q in ((1 - g, 1 - s), (g, s)) if t]
    divergence = sum(t * math.log(t / q) for t, q in pairs) / len(gold)
    assert math.isclose(found["loss"], divergence, rel_tol=1e-5)
    batch = problem.collate([problem.encode(q) for q in questions])
    assert math.isclose(float(problem.loss(batch).detach()), divergence, rel_tol=1e-4)


def test_calibration_moves_predictions_and_not_the_loss(data_dir):
    plain, calibrated = (build("glue_sst2", data_dir, "random:opt-nano", calibration=c) for c in ("none", "sfc"))
    examples = plain.examples("test")
    before = [""] * len(examples)
    assert calibrated.measure(examples, before)["loss"] == plain.measure(examples, before)["loss"]
    prior = calibrated._prior(examples, before).reshape(len(examples), 2)
    assert (prior == prior[0]).all()  # the empty prompt is one for all rows
    with pytest.raises(UsageError, match="a graded task has no winner"):
        build("glue_stsb", data_dir, "random:opt-nano", calibration="sfc")


def test_a_demonstration_of_a_score_shows_the_nearer_word(data_dir):
    problem = build("glue_stsb", data_dir, "random:opt-nano")
    assert problem.demonstration(("A?\n", ["No", "Yes"], 4.0, "")) == "A?\nYes"
    assert problem.demonstration(("A?\n", ["No", "Yes"], 1.0, "")) == "A?\nNo"


def test_objectives_that_are_metrics(data_dir):
    for model in ("random:roberta-nano", "random:opt-nano"):
        problem = build("glue_mrpc", data_dir, model, objective="accuracy")
        batch = problem.batch(0)
        assert -float(problem.loss(batch)) in (0.0, 0.25, 0.5, 0.75, 1.0)
    graded = build("glue_stsb", data_dir, "random:opt-nano", objective="pearson")
    questions = [graded.examples("train")[i] for i in (0, 1, 2, 3)]
    scores = np.array([by_hand(graded, q) for q in questions])
    predicted = np.exp(scores[:, 1]) / np.exp(scores).sum(1)
    value = float(graded.loss(graded.collate([graded.encode(q) for q in questions])))
    assert math.isclose(-value, np.corrcoef(predicted, [q[2] for q in questions])[0, 1], rel_tol=1e-3)


# --- rows -------------------------------------------------------------------------------------------------------------


def test_the_first_rows_are_taken_unshuffled(data_dir):
    problem = build("glue_sst2", data_dir, form="head", rows="first", num_train=5, num_dev=3, num_eval=4)
    train, test = (problem.source().rows(split) for split in ("train", "validation"))
    task = load_task("glue_sst2")
    assert problem.examples("train") == [task.example(train[i]) for i in range(5)]
    assert problem.examples("validation") == [task.example(train[i]) for i in range(5, 8)]
    assert problem.examples("test") == [task.example(test[i]) for i in range(4)]


def test_the_first_rows_have_no_seed(data_dir):
    setting = Setting(model="random:roberta-nano", data_dir=data_dir, data_seed=3)
    with pytest.raises(
        UsageError, match="rows=first takes the same rows whatever the data seed; leave out data seed 3"
    ):
        load_task("glue_sst2").build(setting, form="head", rows="first", **SIZES).examples("train")


def test_mnli_is_validated_on_either_set(tmp_path):
    folder = tmp_path / "glue" / "mnli"
    folder.mkdir(parents=True)
    row = '{"premise": "%s %d.", "hypothesis": "It.", "label": %d}\n'
    for split in ("train", "validation_matched", "validation_mismatched"):
        (folder / f"{split}.jsonl").write_text("".join(row % (split, i, i % 3) for i in range(24)))
    for validation in ("matched", "mismatched"):
        problem = build("glue_mnli", tmp_path, validation=validation)
        assert all(s[0].startswith(f"validation_{validation} ") for s, _ in problem.examples("test"))
    (folder / "validation_mismatched.jsonl").unlink()
    build("glue_mnli", tmp_path).examples("test")
    with pytest.raises(EnvironmentUnmet):
        build("glue_mnli", tmp_path, validation="mismatched").examples("test")


def test_scores_outside_their_range_are_named(tmp_path):
    (tmp_path / "glue" / "stsb").mkdir(parents=True)
    row = '{"sentence1": "A%d.", "sentence2": "B.", "label": %s}\n'
    for split in ("train", "validation"):
        text = "".join(row % (i, 9.5 if i == 3 else 2.5) for i in range(12))
        (tmp_path / "glue" / "stsb" / f"{split}.jsonl").write_text(text)
    with pytest.raises(EnvironmentUnmet, match=r"9\.5 is not from 0 to 5"):
        build("glue_stsb", tmp_path).examples("train")


@pytest.mark.parametrize("given, expected", [({}, 256), ({"form": "head"}, 128), ({"max_length": 300}, 300)])
def test_max_length_is_the_protocols_unless_given(data_dir, given, expected):
    """MeZO-SVRG reads 2048 tokens on decoders, and a mask that the protocol cuts off is found by a larger length."""
    assert build("glue_mnli", data_dir, **given).facts["max_length"] == expected
    assert build("glue_mnli", data_dir, form="head", max_length=64).facts["max_length"] == 64
    with pytest.raises(UsageError, match="max_length=300: a causal prompt reads what the model can"):
        build("glue_cola", data_dir, "random:opt-nano", max_length=300)
