"""Generated answers are greedy, stop at the newline, are scored as MeZO scores them, and count as one forward."""

import json
import shutil
from typing import Any

import pytest
import torch
from task_files import load_task

from zobench.meters import Counter
from zobench.optimizers import MeZO
from zobench.problems.answers import drop, token_f1
from zobench.problems.generation import GenerationProblem, until, without_reminder
from zobench.problems.scoring import evaluating
from zobench.spec import Setting, UsageError


@pytest.fixture(scope="module")
def problem(data_dir):
    setting = Setting(model="random:opt-nano", seed=2, batch_size=4, data_dir=data_dir)
    return load_task("squad").build(setting, num_train=8, num_dev=6, num_eval=4, max_new_tokens=12)


def by_hand(problem, ids):
    """Greedy decoding with a whole forward per token, until a token reads as a newline or ends the text."""
    new = []
    with torch.no_grad():
        while len(new) < problem.max_new_tokens:
            token = int(problem.model(torch.tensor([ids + new])).logits[0, -1].argmax())
            if problem.tokenizer.decode([token]) == "\n" or token == problem.tokenizer.eos_token_id:
                break
            new.append(token)
    return problem.tokenizer.decode(new, skip_special_tokens=True).strip()


def prompts_of(problem):
    """Token ids of prompts of unequal lengths."""
    texts = [example[0] for example in problem.examples("validation")]
    return [problem.encoder.prompt(t[-n:]) for t, n in zip(texts, (200, 31, 90, 150, 7, 60), strict=True)]


@pytest.mark.parametrize("pad", [1, 0], ids=["own padding token", "padded with BOS"])
def test_batched_generation_equals_greedy_decoding_by_hand(problem, monkeypatch, pad):
    monkeypatch.setattr(problem.scorer, "pad", pad)
    prompts = prompts_of(problem)
    with evaluating(problem.model):
        expected = [by_hand(problem, p) for p in prompts]
        assert problem.generate(prompts) == expected == problem.generate(prompts, one_batch=True)


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "qwen"])
def test_generation_by_hand_in_other_families(data_dir, family):
    setting = Setting(model=f"random:{family}-nano", seed=1, data_dir=data_dir)
    other = load_task("squad").build(setting, num_train=4, num_dev=6, max_new_tokens=6)
    prompts = prompts_of(other)[1:]
    with evaluating(other.model):
        assert other.generate(prompts) == [by_hand(other, p) for p in prompts]


def settings_of_its_own(nano_dir, directory):
    """random:opt-nano with a generation_config.json that asks for much."""
    shutil.copytree(nano_dir, directory, dirs_exist_ok=True)
    asked = dict(
        repetition_penalty=4.0,
        no_repeat_ngram_size=2,
        suppress_tokens=list(range(300, 1200)),
        begin_suppress_tokens=list(range(1200, 1500)),
        forced_bos_token_id=7,
        min_new_tokens=9,
        max_length=20,
        temperature=0.3,
        do_sample=True,
        num_beams=3,
        eos_token_id=[4, 5, 6],
    )
    (directory / "generation_config.json").write_text(json.dumps(asked))
    return str(directory)


def test_a_checkpoints_own_generation_settings_stay_out(nano_dir, tmp_path, data_dir):
    model = settings_of_its_own(nano_dir, tmp_path / "own")
    own = load_task("squad").build(Setting(model=model, data_dir=data_dir), num_train=4, num_dev=6, max_new_tokens=12)
    assert own.model.generation_config.repetition_penalty == 4.0
    prompts = prompts_of(own)
    with evaluating(own.model):
        assert own.generate(prompts) == [by_hand(own, p) for p in prompts]
    assert own.model.generation_config.repetition_penalty == 4.0  # a saved model keeps it


def test_generation_stops_at_a_newline(problem, monkeypatch):
    prompt = problem.examples("validation")[0][0]
    with evaluating(problem.model):
        free = problem._greedy([problem.encoder.prompt(prompt)])[0]
        third = free[2]
        monkeypatch.setattr(problem, "stops", [third])
        rows = [problem.encoder.prompt(text) for text in (prompt, prompt[-20:])]
        stopped, _ = problem._greedy(rows)
    assert stopped == free[: free.index(third)]
    assert len(stopped) < len(free)
    assert until([5, 6, 2, 1, 1], [9, 2]) == [5, 6]
    assert until([5, 6], [2]) == [5, 6]


def test_the_reminder_of_a_full_context_is_silent_and_nothing_else_is(caplog, monkeypatch):
    from transformers.generation.stopping_criteria import MaxLengthCriteria, logger

    said_once: Any = logger.warning_once
    said_once.cache_clear()
    criterion, ids = MaxLengthCriteria(9, max_position_embeddings=3), torch.zeros(1, 4, dtype=torch.long)
    caplog.set_level("WARNING", logger=logger.name)
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(caplog.handler)
    try:
        with without_reminder():
            criterion(ids, None)
            logger.warning("something else")
        assert [entry.getMessage() for entry in caplog.records] == ["something else"]
        said_once.cache_clear()
        criterion(ids, None)  # outside, it is a user's own
        assert "friendly reminder" in caplog.records[-1].getMessage() and not logger.filters
    finally:
        logger.removeHandler(caplog.handler)


def test_stops_are_the_newline_and_the_end_of_text(problem):
    assert problem.stops == [problem.encoder.ids("\n")[-1], 2]


def test_a_newline_that_is_the_end_of_text_is_one_stop(problem, nano_dir, tmp_path, data_dir):
    shutil.copytree(nano_dir, tmp_path, dirs_exist_ok=True)
    newline = problem.encoder.ids("\n")[-1]
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["eos_token"] = problem.tokenizer.convert_ids_to_tokens(newline)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    same = load_task("squad").build(Setting(model=str(tmp_path), data_dir=data_dir), num_train=4, num_dev=6)
    assert same.tokenizer.eos_token_id == newline
    assert same.stops == [newline]


def test_training_targets_are_the_answer_and_its_newline(problem):
    prompt, answers = problem.examples("train")[0]
    got = problem.encode((prompt, answers)).target
    assert got.ids[-got.option :] == problem.encoder.ids(f" {answers[0]}") + problem.encoder.ids("\n")


def test_loss_is_the_mean_over_all_answer_tokens(problem):
    examples = problem.examples("train")[:3]
    total = count = 0
    for example in examples:
        tokens = problem.encode(example).target
        logits = problem.model(torch.tensor([tokens.ids])).logits[0].log_softmax(-1)
        total -= sum(logits[i - 1, tokens.ids[i]].item() for i in range(-tokens.option, 0))
        count += tokens.option
    loss = problem.loss(problem.collate([problem.encode(e) for e in examples]))
    assert loss.item() == pytest.approx(total / count, rel=1e-5)


def test_metrics_are_fractions_and_a_loss(data_dir):
    setting = Setting(model="random:opt-nano", score="test", data_dir=data_dir)
    got = load_task("squad").build(setting, num_train=8, num_dev=6, num_eval=4, max_new_tokens=4).evaluate("test")
    assert set(got) == {"f1", "em", "loss"}
    assert 0 <= got["em"] <= 1
    assert 0 <= got["f1"] <= 1


def test_prompts_leave_room_for_the_answer_in_the_models_context(problem, nano_dir, tmp_path, data_dir):
    assert problem.encoder.max_length == 2048 - 12
    from transformers import OPTConfig, OPTForCausalLM

    short = OPTConfig.from_pretrained(nano_dir, max_position_embeddings=64)
    OPTForCausalLM(short).save_pretrained(tmp_path)
    problem.tokenizer.save_pretrained(tmp_path)
    small = load_task("squad").build(
        Setting(model=str(tmp_path), data_dir=data_dir), num_train=4, num_dev=2, max_new_tokens=12
    )
    assert small.encoder.max_length == 64 - 12
    assert max(len(small.encode(e).target.ids) for e in small.examples("train")) <= 64 - 12
    assert set(small.evaluate("validation")) == {"f1", "em", "loss"}


def test_an_answer_as_long_as_the_context_is_refused(data_dir):
    with pytest.raises(UsageError, match="max_new_tokens=2047 leaves no room for a prompt in 2048 tokens"):
        load_task("squad").build(Setting(model="random:opt-nano", data_dir=data_dir), max_new_tokens=2047)


# --- metrics that a task names --------------------------------------------------------------------------------------------


def build(data_dir, example, **options):
    task = load_task("squad")
    setting = Setting(model="random:opt-nano", data_dir=data_dir, batch_size=4)
    return GenerationProblem(setting, task.INFO, example, num_train=4, num_dev=4, max_new_tokens=4, **options)


def test_squad_2_reports_questions_with_and_without_an_answer(data_dir):
    setting = Setting(model="random:opt-nano", data_dir=data_dir)
    problem = load_task("squad").build(setting, version=2, num_train=8, num_dev=12, max_new_tokens=2)
    examples = problem.examples("validation")
    without = [e[1] == ["no answer"] for e in examples]
    assert 0 < sum(without) < 12
    answers = ["no answer" if n else e[1][0] for n, e in zip(without, examples, strict=True)]
    assert set(problem.compare(answers, examples).values()) == {1.0}
    assert problem.compare(["no answer"] * 12, examples) == {
        "f1": sum(without) / 12,
        "em": sum(without) / 12,
        "has_answer_f1": 0.0,
        "has_answer_em": 0.0,
        "no_answer_f1": 1.0,
        "no_answer_em": 1.0,
    }
    assert len(problem.evaluate("validation")) == 7


def test_the_official_drop_metric_stands_beside_the_squad_one(data_dir):
    spans = {"spans": ["Bears", "Colts"], "types": ["span", "span"]}
    problem = build(data_dir, lambda row: (row["question"], spans["spans"], spans), metrics="drop")
    got = problem.compare(["Bears"] * 2, [("?", spans["spans"], spans)] * 2)
    assert got == {"f1": 1.0, "em": 1.0, **drop(["Bears"], [spans])}
    assert (got["drop_official_f1"], got["drop_official_em"]) == (0.5, 0.0)
    assert set(problem.evaluate("validation")) == {*got, "loss"}


def test_an_unknown_metric_is_named(data_dir):
    with pytest.raises(UsageError, match="metrics 'bleu': choose from squad, squad_v2, drop"):
        build(data_dir, lambda row: ("?", ["x"]), metrics="bleu")


# --- the objective f1, and what it costs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(data_dir):
    setting = Setting(model="random:opt-nano", seed=2, batch_size=4, data_dir=data_dir)
    return load_task("squad").build(setting, num_train=8, num_dev=6, max_new_tokens=6, objective="f1")


def test_the_objective_f1_is_minus_the_mean_f1_of_greedy_answers(scored):
    questions = [scored.encode(example) for example in scored.examples("train")[:4]]
    with evaluating(scored.model):
        said = [by_hand(scored, q.prompt) for q in questions]
    words = [text.split() or ["x"] for text in said]
    golds = [["nothing of the kind"], [said[1] or "x"], [words[2][0], "other"], [f"{words[3][0]} and {words[3][0]}"]]
    batch = [question._replace(answers=gold) for question, gold in zip(questions, golds, strict=True)]
    expected = sum(token_f1(text, gold) for text, gold in zip(said, golds, strict=True)) / 4
    loss = scored.loss(scored.collate(batch))
    assert 0 < expected < 1
    assert loss.item() == pytest.approx(-expected)
    assert loss.dtype == torch.float32 and not loss.requires_grad
    examples = [(e[0], gold) for e, gold in zip(scored.examples("train"), golds, strict=False)]
    with evaluating(scored.model):
        assert scored.measure(examples)["f1"] == pytest.approx(expected)


@pytest.mark.parametrize("adapter", ["none", "lora", "prefix", "prompt"])
def test_a_generation_is_one_forward_and_its_tokens_are_counted(data_dir, adapter):
    if adapter != "none":
        pytest.importorskip("peft")
    from zobench.plan import adapter as canonical

    setting = Setting(model="random:opt-nano", seed=2, batch_size=4, data_dir=data_dir, adapter=canonical(adapter))
    problem = load_task("squad").build(setting, num_train=8, num_dev=6, max_new_tokens=6, objective="f1")
    counter, lengths = Counter(problem.model), []
    base = problem.model.get_base_model() if hasattr(problem.model, "get_base_model") else problem.model
    inner = base.get_input_embeddings().register_forward_hook(lambda m, args, out: lengths.append(tuple(args[0].shape)))
    batch = problem.batch(0)
    problem.loss(batch)
    inner.remove()
    width = -(-max(len(q.prompt) for q in batch) // 8) * 8
    assert lengths[0] == (4, width)
    assert 1 < len(lengths) <= 6 and set(lengths[1:]) == {(4, 1)}
    assert (counter.forwards, counter.tokens) == (1, 4 * width + 4 * (len(lengths) - 1))
    with counter.evaluation():
        problem.generate([q.prompt for q in batch])
    assert (counter.forwards, counter.eval_forwards) == (1, 1)
    counter.close()
    problem.loss(batch)
    assert counter.forwards == 1


def test_calls_without_a_cache_each_count(problem):
    counter, ids = Counter(problem.model), torch.tensor([[0, 5, 6]])
    with torch.no_grad():
        first = problem.model(input_ids=ids, use_cache=True)
        problem.model(input_ids=ids)
        problem.model(input_ids=ids[:, :1], past_key_values=first.past_key_values)
        problem.model(input_ids=ids[:, :1], past_key_values=None)
    assert (counter.forwards, counter.tokens) == (3, 8)
    with pytest.raises(IndexError):
        problem.model(input_ids=ids + 10**6)
    with torch.no_grad():
        problem.model(input_ids=ids)
    assert counter.forwards == 5  # the failed one was begun, and the count goes on behind it
    counter.close()


def test_a_closure_that_generates_is_probed_in_a_copy(scored):
    weights = {n: p.clone() for n, p in scored.model.named_parameters()}
    counter, optimizer = Counter(scored.model), MeZO(scored.model, lr=0.0, seed=0)
    for step in range(2):
        batch = scored.batch(step)
        optimizer.step(lambda: scored.loss(batch))  # noqa: B023
    counter.close()
    assert optimizer.evaluator.mode == "copy"
    assert counter.forwards == 4
    assert all(torch.equal(p, weights[n]) for n, p in scored.model.named_parameters())


@pytest.mark.parametrize("optimizer", ["adam", "forward_grad", "addax"])
@pytest.mark.parametrize("task", ["squad[objective=f1]", "sst2[objective=accuracy]", "squad_extractive[objective=f1]"])
def test_methods_that_need_a_gradient_refuse_a_metric(optimizer, task):
    from zobench import plan

    with pytest.raises(UsageError, match=r"needs a gradient, and .* has none; leave the objective out"):
        plan.jobs(plan.request(task, optimizer, model="random:opt-nano"), names=None)
