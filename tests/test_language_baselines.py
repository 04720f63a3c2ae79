"""Zero-shot, in-context learning and linear probing keep one contract, and each is what its paper's code computes."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from records import record
from torch.nn.functional import softmax

from zobench import plan, registry
from zobench.baselines import icl
from zobench.build import Names, trained
from zobench.core.trace import digest
from zobench.core.zeroth_order import Diverged
from zobench.problems import probing
from zobench.problems.sampling import sample
from zobench.problems.scoring import evaluating
from zobench.record import write
from zobench.report.tables import board
from zobench.run import Place, execute
from zobench.spec import Setting, UsageError

ENTRIES = {name: e for name, e in registry.entries("baseline").items() if e.builder == "prepare"}
EVERY = pytest.mark.parametrize("name", ENTRIES)
OURS = Path(__file__).parent / "rows"  # whose texts the tests may show
SMALL = dict(num_train=12, num_dev=4, num_eval=4)
SIZES = "num_train=12,num_dev=4,num_eval=4"
SERVED = {  # task -> its model
    f"sst2[{SIZES}]": "random:opt-nano",
    f"copa[{SIZES}]": "random:opt-nano",
    f"squad[{SIZES},max_new_tokens=3]": "random:opt-nano",
    f"glue_sst2[{SIZES}]": "random:opt-nano",
    f"glue_sst2[form=head,{SIZES}]": "random:roberta-nano",
    f"glue_sst2[num_train=11,{SIZES[13:]}]": "random:roberta-nano",
    "kshot_sst2[k=6,num_eval=4]": "random:roberta-nano",
    f"squad_extractive[{SIZES}]": "random:roberta-nano",
}


def problem_of(task, model="random:opt-nano", data_dir=OURS, score="test", data_seed=0, **options):
    entry = registry.find("task", task)
    setting = Setting(model=model, data_dir=data_dir, score=score, data_seed=data_seed)
    return registry.load(entry).build(setting, **{**{k: v for k, v in SMALL.items() if k in entry.options}, **options})


def prepare(name, problem, **options):
    importlib.import_module(f"zobench.baselines.{name.replace('-', '_')}").prepare(problem, **options)
    return problem


def jobs(task, name, model="random:opt-nano", data_dir=OURS, **request):
    return plan.jobs(plan.Request([task], [name], model=model, data_dir=str(data_dir), **request), Names())


def run(store, *args, save=None, **kwargs):
    return [row for row, _ in execute(jobs(*args, **kwargs), Place(store=store, device="cpu", save=save))]


def served(name, task):
    info, kind = ENTRIES[name].info, registry.find("task", registry.parse(task)[0]).info["kind"]
    return kind in info["kinds"] and ("form" not in task or "head" in info.get("forms", ("head",)))


# --- the contract -----------------------------------------------------------------------------------------------------


@EVERY
def test_what_a_baseline_says_of_itself(name):
    entry = ENTRIES[name]
    info, options = entry.info, entry.options
    assert info["order"] == info["family"] == "reference"
    assert isinstance(info["random"], bool) and isinstance(info["year"], int)
    assert all(isinstance(info[key], str) for key in ("title", "paper", "notes"))
    assert isinstance(info["kinds"], tuple) and isinstance(info["aliases"], tuple)
    assert set(info["kinds"]) <= {e.info["kind"] for e in registry.entries("task").values()}
    assert set(info["limits"]) | set(info["choices"]) <= set(options)
    assert registry.resolve(entry, options) == options
    assert entry.doc and importlib.import_module(f"zobench.baselines.{entry.path.stem}").prepare.__doc__


@EVERY
@pytest.mark.parametrize("task", SERVED)
def test_it_runs_on_what_it_serves_and_refuses_the_rest_in_the_plan(name, task, tmp_path, data_dir):
    asked = f"{name}[shots=8]" if name == "icl" else name
    if not served(name, task):
        with pytest.raises(UsageError, match=f"{name} does not serve {registry.parse(task)[0]}.*; it is for"):
            jobs(task, asked, SERVED[task], data_dir)
        return
    if name == "icl" and "roberta" in SERVED[task]:  # which model a prompt gets is known when it is built
        with pytest.raises(UsageError, match="causal language model"):
            run(tmp_path, task, asked, SERVED[task], data_dir)
        return
    (row,) = run(tmp_path, task, asked, SERVED[task], data_dir)
    assert (row.status, row.order, row.steps, row.backwards, row.test_looks) == ("ok", "reference", 0, 0, 1)
    assert np.isfinite(row.value) and np.isfinite(row.validation) and row.replay_class == "none"
    assert (row.forwards > 0) == (name == "linear-probe") and row.eval_forwards > 0
    facts = json.loads(row.facts)
    assert facts.get("shots") == (8 if name == "icl" else None)
    assert any(key.startswith("probe") for key in facts) == (name == "linear-probe")
    assert row.step_seconds > 0 and [p["step"] for p in row.curve] == [0]
    assert (row.start_digest == row.final_digest) == (name != "linear-probe")
    (again,) = run(tmp_path, task, asked, SERVED[task], data_dir, budget="forwards=777", batch_size=3)
    assert again == row  # found done: neither budget nor batch is part of it


def test_what_a_baseline_does_not_serve_is_said_with_what_it_does():
    with pytest.raises(UsageError, match=r"zero-shot does not serve softmax_l2; it is for .*sst2"):
        plan.jobs(plan.Request(["softmax_l2"], ["zero-shot"]), Names())
    with pytest.raises(UsageError, match="reference line for regressions"):
        jobs("sst2", "gd")
    with pytest.raises(UsageError, match="form=head"):
        prepare("linear-probe", problem_of("glue_stsb", data_dir=OURS))
    with pytest.raises(UsageError, match="shots must be"):
        jobs("sst2", "icl[shots=0]")


def test_budget_batch_schedule_and_evaluations_are_not_part_of_the_cell():
    (plain,) = jobs("sst2", "zero-shot")
    (other,) = jobs("sst2", "zero-shot", budget="steps=9", batch_size=2, schedule="linear", evaluations=2)
    assert plain.cell == other.cell and str(plain.budget) == "steps=1"
    assert len({job.cell for job in jobs("sst2", "zero-shot", seeds="3")}) == 3  # random weights and heads have a seed


def seeds_of(task, name, model, **request):
    return [job.seed for job in jobs(task, name, model, seeds="5-7", **request)]


def test_where_nothing_is_drawn_from_the_seed_one_row_stands_for_all_seeds(nano_dir, tmp_path):
    for name in ENTRIES:
        assert seeds_of("sst2", name, str(nano_dir)) == seeds_of("sst2", name, "tiny") == [0]
        assert seeds_of("glue_sst2", name, str(nano_dir)) == [0]
        assert seeds_of("sst2", name, "random:opt-nano") == [5, 6, 7]  # the weights
        assert seeds_of("sst2", name, str(nano_dir), adapter="lora") == [5, 6, 7]
    assert seeds_of("glue_sst2[form=head]", "zero-shot", str(nano_dir)) == [5, 6, 7]  # the head
    assert seeds_of("glue_sst2[form=head,head=checkpoint]", "zero-shot", str(nano_dir)) == [0]
    assert seeds_of("squad_extractive", "zero-shot", str(nano_dir)) == [5, 6, 7]
    assert seeds_of("sst2", "mezo", str(nano_dir)) == [5, 6, 7]
    path = tmp_path / "chance.py"
    path.write_text("INFO = dict(order='reference')\n\n\ndef prepare(problem, *, seed=0):\n    pass\n")
    assert seeds_of("sst2", str(path), str(nano_dir)) == [5, 6, 7]  # it may use its seed
    with pytest.raises(UsageError, match="seeds"):
        jobs("sst2", "zero-shot", str(nano_dir), seeds="-1")


def test_one_row_for_all_seeds_is_what_each_seed_would_give(nano_dir, tmp_path):
    (job,) = jobs(f"sst2[{SIZES}]", "zero-shot", str(nano_dir), seeds="3")
    others = [replace(job, seed=seed) for seed in (0, 1)]
    first, second = (row for row, _ in execute(others, Place(store=tmp_path, device="cpu")))
    assert (first.metrics, first.validation_metrics, first.final_digest) == (
        second.metrics, second.validation_metrics, second.final_digest,
    )  # fmt: skip


def test_a_file_of_ones_own_may_prepare_a_task(tmp_path):
    path = tmp_path / "louder.py"
    path.write_text("INFO = dict(order='reference')\n\n\ndef prepare(problem, *, seed=0, by=2.0):\n"
                    "    for p in problem.model.get_output_embeddings().parameters():\n        p.data.mul_(by)\n")  # fmt: skip
    (one,) = run(tmp_path, f"sst2[{SIZES}]", f"{path}[by=1.0]")
    (two,) = run(tmp_path, f"sst2[{SIZES}]", str(path))
    (plain,) = run(tmp_path, f"sst2[{SIZES}]", "zero-shot")
    assert one.optimizer == "file:louder" and json.loads(one.metrics) == json.loads(plain.metrics)
    assert json.loads(two.metrics)["loss"] != json.loads(plain.metrics)["loss"]
    with pytest.raises(UsageError, match="does not serve softmax_l2"):
        plan.jobs(plan.Request(["softmax_l2"], [str(path)]), Names())


def test_without_the_test_rows_validation_is_the_result(tmp_path):
    for name in ENTRIES:
        asked = f"{name}[shots=3]" if name == "icl" else name
        (row,) = run(tmp_path, f"sst2[{SIZES}]", asked, score="validation")
        assert (row.status, row.test_looks, row.value) == ("ok", 0, row.validation)


def test_a_board_shows_a_baseline_in_every_table_of_its_task_and_ranks_it_in_none(tmp_path):
    for budget in ("steps=10", "steps=20"):
        write(record(budget=budget), tmp_path)
    write(record(model="random:other"), tmp_path)
    baseline = dict(optimizer="zero-shot", optimizer_options={}, order="reference", budget="steps=1", batch_size=1)
    for seed in (0, 1):
        write(record(seed=seed, value=0.95, **baseline), tmp_path)
    write(record(task="rte", value=0.5, **baseline), tmp_path)
    found = {
        (s.conditions["task"], s.conditions["model"], s.conditions["budget"]): s for s in board([tmp_path]).sections
    }
    assert len(found) == 4
    for budget in ("steps=10", "steps=20"):
        first, second = found["sst2", "random:tiny", budget].rows
        assert (first.optimizer, first.rank, first.marks) == ("mezo", (1, 1), [])
        assert (second.optimizer, second.rank, second.reference, second.n) == ("zero-shot", None, True, 2)
    assert [r.optimizer for r in found["sst2", "random:other", "forwards=4000"].rows] == ["mezo"]
    assert [r.optimizer for r in found["rte", "random:tiny", "steps=1"].rows] == ["zero-shot"]


# --- zero-shot --------------------------------------------------------------------------------------------------------


def test_zero_shot_is_the_start_evaluated(tmp_path):
    (row,) = run(tmp_path, f"sst2[{SIZES}]", "zero-shot")
    problem = problem_of("sst2")
    assert json.loads(row.metrics) == problem.evaluate("test")
    assert json.loads(row.validation_metrics) == problem.evaluate("validation")
    assert row.final_digest == digest(trained(problem.model))


# --- in-context learning ----------------------------------------------------------------------------------------------


def mezo_rows(seed, total, shots):
    """`sample_subset` of MeZO's tasks.py."""
    np.random.seed(seed)
    return np.random.permutation(total).tolist()[:shots]


def test_the_seeds_of_the_demonstrations_are_the_published_ones():
    expected = [2732, 9845, 3264, 4859, 9225]
    assert [mezo_rows(seed, 67349, 32) for seed in expected] == icl.draw(5, 67349, 32).tolist()
    assert icl.draw(1000, 250, 4)[:5].tolist() == icl.draw(5, 250, 4).tolist()  # whatever the size of the test set


def test_demonstrations_stand_in_front_of_each_test_prompt_as_written_here():
    rows = [json.loads(line) for line in (OURS / "glue/sst2/train.jsonl").read_text(encoding="utf-8").splitlines()]
    words = {0: "terrible", 1: "great"}
    problem = prepare("icl", problem_of("sst2"), shots=2)
    for seed, before in zip((2732, 9845, 3264, 4859), problem.before["test"], strict=True):
        a, b = (rows[i] for i in mezo_rows(seed, len(rows), 2))
        assert before == (
            f"{a['sentence'].strip()} It was {words[a['label']]}\n\n{b['sentence'].strip()} It was {words[b['label']]}\n\n"
        )
    prompt, candidates, *_ = problem.examples("test")[0]
    tokens = problem.encoder.option(prompt, prompt + candidates[1], problem.before["test"][0])
    written = problem.before["test"][0] + prompt + " great"
    assert tokens.ids == [0, *problem.encoder.ids(written)] and tokens.option == 1


@pytest.mark.parametrize("task, field", [("copa", "premise"), ("squad", "question"), ("glue_sst2", "sentence")])
def test_every_kind_of_task_shows_right_answers(task, field):
    problem = prepare("icl", problem_of(task), shots=3)
    folder = registry.find("task", task).info["hub"]["folder"]
    rows = [json.loads(line) for line in (OURS / folder / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = problem.before["test"][0].split("\n\n")
    assert shown[-1] == "" and len(shown) == 4
    for text, i in zip(shown, mezo_rows(2732, len(rows), 3), strict=False):
        assert rows[i][field].strip().rstrip(".") in text and text == text.strip()
        assert text == problem.demonstration(problem.example(rows[i]))
    if task == "squad":
        assert shown[0].endswith("\nAnswer: " + rows[mezo_rows(2732, len(rows), 3)[0]]["answers"]["text"][0])


def test_for_validation_its_own_rows_are_left_out():
    problem = problem_of("sst2", num_train=8, num_dev=12)
    problem.examples("train")
    dev = problem.drawn.dev.tolist()
    for i, seed in enumerate((2732, 9845, 3264)):
        order = [row for row in mezo_rows(seed, 24, 24) if row not in dev]
        assert icl.draw(12, 24, 5, without=dev)[i].tolist() == order[:5]
    with pytest.raises(
        UsageError, match=r"shots=20, but the train split has 12 rows to show .12 more are set aside to evaluate on"
    ):
        prepare("icl", problem, shots=20)
    with pytest.raises(UsageError, match="shots=25, but the train split has 24 rows to show; ask for fewer"):
        icl.draw(4, 24, 25)


@pytest.mark.parametrize("kind, score", [("choice", "test"), ("choice", "validation"), ("generate", "test")])
def test_of_one_file_no_row_that_is_evaluated_is_shown(kind, score, tmp_path):
    path = tmp_path / "boxes.jsonl"
    answer = dict(choice=dict(candidates=[" red", " blue"], label=0), generate=dict(answers=["red"]))[kind]
    rows = [{"prompt": f"Box ({i}) is", **answer} for i in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    sizes = dict(num_train=10, num_dev=8, num_eval=12)
    evaluated = problem_of(f"{kind}:{path}", **sizes)
    evaluated = [e[0] for split in ("validation", "test") for e in evaluated.examples(split)]
    problem = prepare("icl", problem_of(f"{kind}:{path}", score=score, **sizes), shots=20)
    shown = [text for texts in problem.before.values() for text in texts]
    assert len(shown) == (20 if score == "test" else 8)
    assert not any(prompt in text for prompt in evaluated for text in shown)
    allowed = {row["prompt"] for row in rows} - set(evaluated)
    assert all(prompt in text for prompt in allowed for text in shown)  # 20 of 20
    with pytest.raises(UsageError, match=r"shots=21, but the train split has 20 rows to show .20 more are set aside"):
        prepare("icl", problem_of(f"{kind}:{path}", score=score, **sizes), shots=21)


def test_the_test_rows_follow_the_data_seed_and_the_draws_do_not(tmp_path):
    first, second = (prepare("icl", problem_of("sst2", data_seed=s), shots=4) for s in (0, 1))
    assert first.examples("test") != second.examples("test") and first.before["test"] == second.before["test"]
    assert [e[0] for e in first.examples("test")] == [
        problem_of("sst2").examples("test")[i][0] for i in range(4)
    ] and first.drawn.test.tolist() == sample(0, 24, 12, 12, 4, 4, 67349).test.tolist()


def test_demonstrations_change_the_answer_and_calibration_may_keep_them():
    values = {}
    for calibration in ("none", "sfc", "icl_sfc"):
        plain, shown = (problem_of("copa", calibration=calibration) for _ in range(2))
        prepare("icl", shown, shots=4)
        values[calibration] = plain.evaluate("test")["loss"], shown.evaluate("test")["loss"]
        assert values[calibration][0] != values[calibration][1]
    problem = prepare("icl", problem_of("copa", calibration="icl_sfc"), shots=4)
    examples, before = problem.examples("test"), problem.before["test"]
    assert problem._prior(examples, before).tolist() != problem._prior(examples, [""] * len(examples)).tolist()


def test_too_long_a_context_loses_its_beginning_behind_bos():
    problem = problem_of("squad", max_new_tokens=3)
    problem.encoder.max_length = 100
    prepare("icl", problem, shots=8)
    prompt, _ = problem.examples("test")[0]
    ids = problem.encoder.prompt(prompt, problem.before["test"][0])
    whole = problem.encoder.ids(problem.before["test"][0] + prompt)
    assert len(whole) > 100 and ids == [0, *whole[-99:]]


# --- linear probing ---------------------------------------------------------------------------------------------------


def gradient_of_the_objective(features, labels, probe):
    """Of C sum CE(softmax(W x)) + |W|^2 / 2 at the probe's minimum, relative; W of two classes is -coef and coef."""
    weight = probe.weight if len(probe.classes) > 2 else 2 * probe.weight
    w = torch.tensor(weight, requires_grad=True)
    place = torch.tensor(np.searchsorted(probe.classes, labels))
    logits = torch.tensor(features) @ w.T
    ce = torch.nn.functional.cross_entropy(logits, place, reduction="sum")
    (probe.facts["probe_c"] * ce + w.square().sum() / 2).backward()
    (slope,) = torch.autograd.grad(probe.facts["probe_c"] * torch.nn.functional.cross_entropy(
        torch.tensor(features) @ (zero := torch.zeros_like(w).requires_grad_()).T, place, reduction="sum"), zero)  # fmt: skip
    return float(w.grad.norm() / slope.norm())


@pytest.mark.parametrize("classes", [2, 4])
def test_a_probe_minimises_the_multinomial_objective_of_the_paper_s_code(classes):
    draws = np.random.RandomState(0)
    x = draws.randn(60, 5)
    labels = np.array([3, 7, 11, 40])[np.argmax(x[:, :classes] + 0.7 * draws.randn(60, classes), 1)]
    probe = probing.fit(x, labels, bias=False)
    assert probe.classes.tolist() == [3, 7, 11, 40][:classes] and probe.bias is None
    assert gradient_of_the_objective(x, labels, probe) < 1e-3
    assert np.isclose(probing.STRENGTHS, probe.facts["probe_c"]).any()
    biased = probing.fit(x + 3, labels, bias=True)
    chosen = biased.classes[np.argmax((x + 3) @ biased.weight.T + biased.bias, 1)]
    assert (chosen == labels).mean() > 0.6 and np.abs(biased.bias.sum()) < 1e-6


def test_two_classes_get_the_halves_that_scikit_learn_gave_the_paper():
    """Made with scikit-learn 1.4.2: LogisticRegressionCV(multi_class="multinomial", random_state=0, tol=1e-8).fit(x, y)."""
    draws = np.random.RandomState(0)
    x = draws.randn(60, 5)
    y = np.where(x[:, 0] + draws.randn(60) * 0.8 > 0, 7, 3)
    coefficients, intercept = np.array([0.82699568, 0.36240581, 0.19799377, 0.11509476, 0.14554394]), -0.42424905
    probe = probing.fit(x, y, bias=True)
    np.testing.assert_allclose(probe.weight, [-coefficients / 2, coefficients / 2], rtol=5e-3)
    np.testing.assert_allclose(probe.bias, [-intercept / 2, intercept / 2], rtol=5e-3)
    assert probe.facts["probe_c"] == pytest.approx(0.35938137)
    with pytest.raises(UsageError, match="at least two labels"):
        probing.fit(x, np.zeros(60, dtype=int), bias=True)
    with pytest.raises(UsageError, match=r"12 features of 6 labels .*; take more rows"):
        probing.fit(x[:12], np.arange(12) // 2, bias=True)
    with pytest.raises(Diverged, match="not finite"):
        probing.fit(np.where(x > 2, np.nan, x), y, bias=True)


@pytest.mark.parametrize("task", ["sst2", "copa", "squad"])
def test_features_are_the_hidden_states_that_predict_the_right_answers_one_by_one(task):
    problem = problem_of(task)
    examples = problem.examples("train")
    features, classes = problem.features(examples), problem.classes(examples)
    expected, tokens = [], []
    with evaluating(problem.model):
        for example in examples:
            target = problem.target(example)
            hidden = problem.model.model(torch.tensor([target.ids])).last_hidden_state[0]
            expected.append(hidden[-target.option - 1 : -1])
            tokens += target.ids[-target.option :]
    torch.testing.assert_close(torch.tensor(features), torch.cat(expected).double(), rtol=1e-4, atol=1e-5)
    assert classes.tolist() == tokens
    if task == "sst2":
        words = [problem.encoder.ids(word)[0] for word in (" terrible", " great")]
        assert tokens == [words[example[2]] for example in examples]


def test_the_rows_of_the_label_words_are_the_classifier_s_and_the_others_stay():
    problem = problem_of("sst2", num_train=16)
    before = problem.model.get_output_embeddings().weight.detach().clone()
    features, classes = (f(problem.examples("train")) for f in (problem.features, problem.classes))
    probe = probing.fit(features, classes, bias=False)
    prepare("linear-probe", problem)
    layer, embedding = problem.output_layer(), problem.model.get_input_embeddings()
    rows = torch.tensor(probe.classes)
    torch.testing.assert_close(layer.weight[rows].double(), torch.tensor(probe.weight), rtol=1e-6, atol=1e-7)
    others = torch.ones(len(before), dtype=torch.bool).index_fill(0, rows, False)
    assert layer.weight[others].equal(before[others]) and embedding.weight.equal(before)
    assert problem.model.config.tie_word_embeddings is False
    test = problem.examples("test")
    x = problem.features(test)  # the position before a label word is the same for both of them
    chosen = probe.classes[np.argmax(x @ probe.weight.T, 1)]
    assert problem.evaluate("test")["accuracy"] == float((chosen == problem.classes(test)).mean())


def test_early_stopping_ends_earlier():
    draws = np.random.RandomState(1)
    x, y = draws.randn(80, 6), draws.randint(0, 3, 80)
    exact, early = (probing.fit(x, y, bias=False, early_stopping=stop) for stop in (False, True))
    gaps = [gradient_of_the_objective(x, y, probe) for probe in (exact, early)]
    assert gaps[0] < gaps[1] or exact.weight.tolist() == early.weight.tolist()


def test_a_masked_probe_reads_the_mask_and_writes_weights_and_bias_of_the_label_words():
    problem = problem_of("kshot_sst2", "random:roberta-nano", k=8)
    examples = problem.examples("train")
    features, classes = problem.features(examples), problem.classes(examples)
    model = problem.model
    with evaluating(model):
        for i in range(3):
            ids, place, gold = problem.encode(examples[i])
            hidden = model.roberta(torch.tensor([ids])).last_hidden_state[0, place]
            hidden = model.lm_head.layer_norm(torch.nn.functional.gelu(model.lm_head.dense(hidden)))
            torch.testing.assert_close(torch.tensor(features[i]), hidden.double(), rtol=1e-4, atol=1e-5)
            assert classes[i] == problem.words[int(gold)]
    probe = probing.fit(features, classes, bias=True)
    words = model.get_input_embeddings().weight.detach().clone()
    prepare("linear-probe", problem)
    rows = torch.tensor(probe.classes)
    torch.testing.assert_close(
        model.lm_head.decoder.weight[rows].double(), torch.tensor(probe.weight), rtol=1e-6, atol=1e-7
    )
    torch.testing.assert_close(
        model.lm_head.decoder.bias[rows].double(), torch.tensor(probe.bias), rtol=1e-6, atol=1e-7
    )
    assert model.get_input_embeddings().weight.equal(words)
    batch = problem.collate([problem.encode(e) for e in examples])
    with evaluating(model):
        chosen = softmax(problem.logits(batch), 1).argmax(1)
    expected = probe.classes[np.argmax(features @ probe.weight.T + probe.bias, 1)]
    assert problem.words[chosen].tolist() == expected.tolist()


@pytest.mark.parametrize("task, model, auto", [
    (f"sst2[{SIZES}]", "random:opt-nano", "AutoModelForCausalLM"),
    ("kshot_sst2[k=6,num_eval=4]", "random:roberta-nano", "AutoModelForMaskedLM"),
])  # fmt: skip
def test_a_saved_probe_opens_with_from_pretrained(task, model, auto, tmp_path):
    import transformers

    (row,) = run(tmp_path / "store", task, "linear-probe", model, save=tmp_path / "saved")
    opened = getattr(transformers, auto).from_pretrained(tmp_path / "saved").eval()
    assert opened.config.tie_word_embeddings is False
    name, options = registry.parse(task)
    problem = problem_of(name, model, **options)
    prepare("linear-probe", problem)
    assert row.final_digest == digest(trained(problem.model))
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(opened(ids).logits, problem.model.eval()(ids).logits)
    again = problem_of(name, str(tmp_path / "saved"), **options)
    assert again.evaluate("test") == pytest.approx(json.loads(row.metrics), rel=1e-5)
