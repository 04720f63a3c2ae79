"""Generated answers are greedy, stop at the newline, and are scored as MeZO scores them."""

import pytest
import torch
from task_files import load_task

from zobench.problems.answers import exact_match, normalise, token_f1
from zobench.problems.generation import until
from zobench.problems.scoring import evaluating
from zobench.spec import Setting

SCORES = [
    (["the Norman Conquest"], "Norman conquest!", 1.0, 1),
    (["Norway", "from Norway"], "in Norway", 2 / 3, 0),
    (["3"], "", 0, 0),
    (["the"], "a", 0, 1),
    (["CANNOTANSWER"], "cannotanswer", 1.0, 1),
    (["no answer"], "none", 0, 0),
    (["10", "ten"], "10 ten", 2 / 3, 0),
    (["U.S."], "us", 1.0, 1),
    (["twenty-one"], "twenty one", 0, 0),
    (["1,000"], "1000", 1.0, 1),
]


@pytest.mark.parametrize(("golds", "prediction", "f1", "em"), SCORES)
def test_token_f1_and_exact_match(golds, prediction, f1, em):
    assert token_f1(prediction, golds) == pytest.approx(f1)
    assert exact_match(prediction, golds) == em


def test_repeated_words_count_as_often_as_they_occur():
    assert token_f1("big big", ["big house"]) == pytest.approx(0.5)
    assert normalise("The  U.S. Army!") == "us army"


@pytest.fixture(scope="module")
def problem(data_dir):
    setting = Setting(model="random:opt-nano", seed=2, batch_size=4, data_dir=data_dir)
    return load_task("squad").build(setting, num_train=8, num_dev=6, num_eval=4, max_new_tokens=12)


def by_hand(problem, prompt):
    """Greedy decoding with a whole forward per token."""
    ids, new = problem.encoder.prompt(prompt), []
    with torch.no_grad():
        while len(new) < problem.max_new_tokens:
            new.append(int(problem.model(torch.tensor([ids + new])).logits[0, -1].argmax()))
            if new[-1] in problem.stops:
                new.pop()
                break
    return problem.tokenizer.decode(new, skip_special_tokens=True).strip()


@pytest.mark.parametrize("pad", [1, 0], ids=["own padding token", "padded with BOS"])
def test_batched_generation_equals_greedy_decoding_by_hand(problem, monkeypatch, pad):
    monkeypatch.setattr(problem.scorer, "pad", pad)
    prompts = [prompt for prompt, _ in problem.examples("validation")]
    prompts = [p[-n:] for p, n in zip(prompts, (200, 31, 90, 150, 7, 60), strict=True)]
    with evaluating(problem.model):
        assert problem.generate(prompts) == [by_hand(problem, p) for p in prompts]


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


def test_stops_are_the_newline_and_the_end_of_text(problem):
    assert problem.stops == [problem.encoder.ids("\n")[-1], 2]


def test_training_targets_are_the_answer_and_its_newline(problem):
    prompt, answers = problem.examples("train")[0]
    got = problem.encode((prompt, answers))
    assert got.ids[-got.option :] == problem.encoder.ids(f" {answers[0]}") + problem.encoder.ids("\n")


def test_loss_is_the_mean_over_all_answer_tokens(problem):
    examples = problem.examples("train")[:3]
    total = count = 0
    for example in examples:
        tokens = problem.encode(example)
        logits = problem.model(torch.tensor([tokens.ids])).logits[0].log_softmax(-1)
        total -= sum(logits[i - 1, tokens.ids[i]].item() for i in range(-tokens.option, 0))
        count += tokens.option
    loss = problem.loss(problem.collate([problem.encode(e) for e in examples]))
    assert loss.item() == pytest.approx(total / count, rel=1e-5)


def test_metrics_are_fractions_and_a_loss(problem):
    got = problem.evaluate("test")
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
    assert small.batch(0).inputs.input_ids.shape[1] <= 56
    assert set(small.evaluate("validation")) == {"f1", "em", "loss"}
