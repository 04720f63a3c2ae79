"""Classification heads against transformers' own loss (run_glue.py), and probes against scikit-learn's own predictions."""

import math

import numpy as np
import pytest
import torch
from task_files import load_task
from torch import nn

from zobench import registry
from zobench.models.load import load_model
from zobench.problems import probing
from zobench.problems.heads import HeadProblem
from zobench.problems.text import Padded
from zobench.spec import EnvironmentUnmet, Setting, UsageError

INFO = dict(metric="accuracy", hub=dict(id="nobody/nothing", folder="mine"), loss="candidates")
PAIRS = [
    (("The lantern was lost.", "Somebody lost it."), 1),
    (("It rained all day and all night in the valley, they say.", "It was dry."), 0),
    (("A word " * 200, "another word " * 200), 1),
    (("Short.", "Also short."), 0),
]
MODELS = ["random:roberta-nano", "random:bert-nano", "random:distilbert-nano", "random:opt-nano", "random:gpt2-nano"]


def problem(model="random:roberta-nano", labels=2, **options):
    return HeadProblem(Setting(model=model), INFO, lambda row: row, labels=labels, **options)


def plainly(of, sentences):
    """Logits by transformers' call on one row, without padding."""
    inputs = of.tokenizer(*sentences, truncation=True, max_length=128, return_tensors="pt")
    with torch.no_grad():
        return of.model(**inputs).logits[0]


@pytest.mark.parametrize("model", MODELS)
def test_a_padded_batch_scores_as_plain_calls_do(model):
    subject = problem(model)
    encoded = [subject.encode(example) for example in PAIRS]
    assert max(map(subject.length, encoded)) == 128
    wanted = torch.stack([plainly(subject, sentences) for sentences, _ in PAIRS])
    with torch.no_grad():
        found = subject.logits(subject.collate(encoded))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("labels", [2, 3, 1])
def test_the_loss_is_that_of_transformers(labels):
    subject = problem(labels=labels)
    gold = [0.2, 5.0, 3.1, 1.0] if labels == 1 else [0, 1, labels - 1, 0]
    batch = subject.collate([subject.encode((s, g)) for (s, _), g in zip(PAIRS, gold, strict=True)])
    with torch.no_grad():
        theirs = subject.model(
            input_ids=batch.inputs.input_ids, attention_mask=batch.inputs.attention_mask, labels=torch.tensor(gold)
        ).loss
    assert math.isclose(float(subject.loss(batch).detach()), float(theirs), rel_tol=1e-6)


def test_token_types_reach_a_model_that_tells_sentences_apart():
    subject = problem("random:bert-nano")
    subject.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    encoded = subject.encode(PAIRS[0])
    assert len(encoded.types) == len(encoded.ids)
    encoded = encoded._replace(types=[0] * 4 + [1] * (len(encoded.ids) - 4))
    batch = subject.collate([encoded])
    with torch.no_grad():
        wanted = subject.model(
            input_ids=torch.tensor([encoded.ids]), token_type_ids=torch.tensor([encoded.types])
        ).logits
        found, untyped = subject.logits(batch), subject.logits(batch._replace(types=None))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found, untyped, atol=1e-4)


def test_measuring_is_the_same_as_one_by_one():
    subject = problem()
    found = subject.measure(PAIRS)
    logits = torch.stack([plainly(subject, sentences) for sentences, _ in PAIRS]).double()
    gold = torch.tensor([label for _, label in PAIRS])
    assert found["accuracy"] == float((logits.argmax(1) == gold).double().mean())
    assert math.isclose(found["loss"], float(nn.functional.cross_entropy(logits, gold)), rel_tol=1e-6)


def test_minus_accuracy_and_minus_correlation_are_objectives():
    subject = problem(objective="accuracy")
    batch = subject.collate([subject.encode(example) for example in PAIRS])
    right = [int(plainly(subject, s).argmax()) == gold for s, gold in PAIRS]
    assert float(subject.loss(batch)) == -np.mean(right)
    scores, gold = problem(labels=1, objective="pearson"), [0.0, 4.0, 1.5, 3.0]
    batch = scores.collate([scores.encode((s, g)) for (s, _), g in zip(PAIRS, gold, strict=True)])
    predicted = [float(plainly(scores, s)) for s, _ in PAIRS]
    assert math.isclose(-float(scores.loss(batch)), np.corrcoef(predicted, gold)[0, 1], rel_tol=1e-4)


def test_weights_that_are_not_finite_have_no_accuracy():
    for options in (dict(objective="accuracy"), dict(labels=1, objective="pearson")):
        subject = problem(**options)
        batch = subject.collate([subject.encode(example) for example in PAIRS])
        subject.output_layer().weight.data.fill_(math.nan)
        assert math.isnan(subject.score(batch)) and math.isnan(subject.loss(batch))


def test_padding_and_virtual_tokens_keep_to_the_positions():
    setting = Setting(model="random:roberta-nano", adapter="prompt[tokens=501]")
    subject = HeadProblem(setting, INFO, lambda row: row)
    batch = subject.collate([subject.encode(PAIRS[2]), subject.encode(PAIRS[3])])
    assert batch.inputs.input_ids.shape[1] == subject.max_length == 512 - 501
    assert math.isfinite(subject.loss(batch).detach())
    with pytest.raises(UsageError, match=r"adapter prefix\[tokens=600\]: .* has 512 positions"):
        HeadProblem(Setting(model="random:roberta-nano", adapter="prefix[tokens=600]"), INFO, lambda row: row)


# --- how a head starts ------------------------------------------------------------------------------------------------


def glue(name, data_dir, **options):
    kept = {key: options.pop(key) for key in ("model", "seed") if key in options}
    setting = Setting(**dict(model="random:roberta-nano", data_dir=data_dir, batch_size=8) | kept)
    return load_task(name).build(setting, form="head", **dict(num_train=60, num_dev=20, num_eval=20) | options)


def test_a_random_head_follows_the_seed(data_dir):
    one, same, other = (glue("glue_sst2", data_dir, seed=seed).output_layer().weight for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize("model", ["random:roberta-nano", "random:distilbert-nano", "random:opt-nano"])
@pytest.mark.parametrize("name, labels", [("glue_rte", 2), ("glue_mnli", 3)])
def test_a_probed_head_predicts_as_scikit_learn_does(name, labels, model, data_dir, monkeypatch):
    from sklearn.linear_model import LogisticRegression

    monkeypatch.setattr(probing, "STRENGTHS", np.array([0.5]))  # so weak a fit has one clear optimum
    subject = glue(name, data_dir, model=model, head="probe")
    examples = subject.examples("train")
    features, gold = subject.features(examples), subject.classes(examples)
    bias = subject.output_layer().bias is not None
    strength = subject.facts["probe_c"] * (2 if labels == 2 else 1)  # of one row of weights; of two the half
    theirs = LogisticRegression(C=strength, fit_intercept=bias, max_iter=5000, tol=1e-6).fit(features, gold)
    with torch.no_grad():
        logits = torch.cat([subject.logits(subject.collate([subject.encode(e)])) for e in examples])
    wanted = theirs.predict_proba(features)
    np.testing.assert_allclose(logits.double().softmax(1).numpy(), wanted, atol=2e-3)
    sure = np.abs(np.diff(np.sort(wanted)[:, -2:])[:, 0]) > 1e-2
    assert (logits.argmax(1).numpy()[sure] == theirs.predict(features)[sure]).all()
    assert subject.facts["head"] == "probe" and subject.facts["probe_features"] == len(examples)


def test_a_probe_of_scores_predicts_as_ridge_regression_does(data_dir):
    from sklearn.linear_model import Ridge

    subject = glue("glue_stsb", data_dir, head="probe")
    examples = subject.examples("train")
    features, gold = subject.features(examples), [example[1] for example in examples]
    theirs = Ridge(alpha=subject.facts["probe_alpha"]).fit(features, gold).predict(features)
    with torch.no_grad():
        ours = torch.cat([subject.logits(subject.collate([subject.encode(e)])) for e in examples])[:, 0]
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-3, atol=1e-3)


def test_a_probe_changes_the_last_layer_alone_and_lowers_the_loss(data_dir):
    probed, random = (glue("glue_rte", data_dir, head=head) for head in ("probe", "random"))
    pairs = zip(probed.model.named_parameters(), random.model.parameters(), strict=True)
    changed = [name for (name, one), other in pairs if not torch.equal(one, other)]
    assert changed == ["classifier.out_proj.weight", "classifier.out_proj.bias"]
    examples = random.examples("train")
    assert probed.measure(examples)["loss"] < random.measure(examples)["loss"]


def test_a_probe_needs_every_label(tmp_path):
    (tmp_path / "glue" / "rte").mkdir(parents=True)
    row = '{"sentence1": "A%d.", "sentence2": "B.", "label": 0}\n'
    for split in ("train", "validation"):
        (tmp_path / "glue" / "rte" / f"{split}.jsonl").write_text("".join(row % i for i in range(30)))
    with pytest.raises(UsageError, match="no train row has label 1"):
        glue("glue_rte", tmp_path, head="probe")


def test_a_checkpoint_brings_its_own_head(tmp_path, data_dir):
    model, tokenizer = load_model("random:roberta-nano", kind="classification", labels=2, seed=5)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    kept = glue("glue_sst2", data_dir, model=str(tmp_path), head="checkpoint").output_layer().weight
    assert torch.equal(kept, model.get_parameter("classifier.out_proj.weight"))
    drawn = glue("glue_sst2", data_dir, model=str(tmp_path)).output_layer().weight
    assert not torch.equal(drawn, kept)


# label -> output of a head that puts the labels in this order
MNLI, NLI = ("entailment", "neutral", "contradiction"), ("contradiction", "entailment", "neutral")


def checkpoint(directory, names, label2id=None, labels=3):
    """A model whose head calls its outputs so."""
    model, tokenizer = load_model("random:roberta-nano", kind="classification", labels=labels, seed=5)
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = label2id or {name: i for i, name in enumerate(names)}
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


@pytest.mark.parametrize(
    "names, label2id, order",
    [
        (NLI, None, [1, 2, 0]),
        (tuple(name.upper() for name in NLI), None, [1, 2, 0]),
        (MNLI, None, [0, 1, 2]),
        (("LABEL_0", "LABEL_1", "LABEL_2"), None, [0, 1, 2]),
        (("LABEL_0", "LABEL_1", "LABEL_2"), dict(neutral=0, contradiction=1, entailment=2), [2, 0, 1]),
        (("2", "0", "1"), None, [1, 2, 0]),
    ],
)
def test_outputs_of_a_checkpoint_go_by_the_names_of_its_labels(names, label2id, order, tmp_path, data_dir):
    model = checkpoint(tmp_path, names, label2id)
    subject = glue("glue_mnli", data_dir, model=model, head="checkpoint")
    assert subject.facts["outputs"] == [names[i] for i in order]
    texts, gold = subject.examples("train")[0]
    wanted = plainly(subject, texts)[order]
    with torch.no_grad():
        batch = subject.collate([subject.encode((texts, gold))])
        torch.testing.assert_close(subject.logits(batch)[0], wanted, rtol=1e-5, atol=1e-6)
        loss = float(subject.loss(batch))
    assert math.isclose(loss, -float(wanted.log_softmax(0)[gold]), rel_tol=1e-5)
    assert subject.classes([(texts, label) for label in range(3)]).tolist() == order
    assert "outputs" not in glue("glue_mnli", data_dir, model=model).facts


def test_a_checkpoint_with_other_labels_is_refused(tmp_path, data_dir):
    model = checkpoint(tmp_path, ("joy", "anger", "fear"))
    with pytest.raises(UsageError, match=r"labels of model .* are joy, anger, fear, not the task's \(entailment, neut"):
        glue("glue_mnli", data_dir, model=model, head="checkpoint")


def test_label_names_are_those_of_the_datasets():
    for entry in registry.entries("task").values():
        if entry.info.get("suite") == "glue":
            labels = entry.info["fields"]["label"]
            assert len(entry.info.get("names", ())) == (0 if entry.name == "glue_stsb" else len(labels))
    rte, wnli = (registry.find("task", name).info["names"] for name in ("glue_rte", "glue_wnli"))
    assert rte == tuple(reversed(wnli)) == ("entailment", "not_entailment")


def test_a_probed_head_without_its_rows_says_what_to_do(tmp_path, data_dir):
    assert glue("glue_rte", data_dir, head="probe").facts["replay_needs"] == "training rows"
    with pytest.raises(
        EnvironmentUnmet, match=r"no rows under .*a probe is fitted on the training rows, in a replay too"
    ):
        glue("glue_rte", tmp_path, head="probe")


def test_padding_is_on_the_right():
    batch = problem().collate([problem().encode(example) for example in PAIRS])
    assert isinstance(batch.inputs, Padded) and batch.inputs.attention_mask[:, 0].all()
    assert batch.tokens == int(batch.inputs.attention_mask.sum())
