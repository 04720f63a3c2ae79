"""Candidate scores equal the textbook computation, however they are batched, padded and shared."""

import numpy as np
import pytest
import torch
from task_files import load_task

from zobench.models.load import load_model
from zobench.problems.choice import ChoiceProblem
from zobench.problems.scoring import Scorer, by_input, evaluating, pack
from zobench.problems.text import Tokens
from zobench.spec import Setting, UsageError


@pytest.fixture(scope="module")
def model():
    return load_model("random:opt-nano", seed=3)[0]


@pytest.fixture(scope="module")
def sequences():
    """Ten sequences of 3 to 30 tokens with options of 1 to 4; two share an input."""
    rs = np.random.RandomState(0)
    made = [Tokens([0, *rs.randint(4, 2048, rs.randint(6, 30)).tolist()], int(rs.randint(1, 5))) for _ in range(9)]
    return [*made, Tokens([*made[0].ids[:-1], 5], 1)]


def textbook(model, sequence):
    """Option token log-likelihoods from all logits of one unpadded forward."""
    with torch.no_grad():
        logits = model(torch.tensor([sequence.ids])).logits[0].double()
    log_p = logits.log_softmax(-1)[torch.arange(len(sequence.ids) - 1), torch.tensor(sequence.ids[1:])]
    return log_p[-sequence.option :]


def test_scores_equal_the_textbook_one_by_one(model, sequences):
    scores = Scorer(model, pad=1)(pack(sequences, 1, "cpu"))
    for got, sequence in zip(scores, sequences, strict=True):
        torch.testing.assert_close(got[-sequence.option :].double(), textbook(model, sequence), rtol=1e-5, atol=1e-5)
        assert got[: -sequence.option].eq(0).all()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("extra", [0, 3, 40])
def test_padding_does_not_change_scores(model, sequences, extra, side):
    plain = Scorer(model, pad=1)(pack(sequences, 1, "cpu"))
    padded = Scorer(model, pad=1)(pack(sequences, 1, "cpu", extra, side=side))
    torch.testing.assert_close(padded, plain, rtol=1e-5, atol=1e-5)


def test_batched_sums_equal_single_ones(model, sequences, monkeypatch):
    scorer = Scorer(model, pad=1)
    expected = [float(textbook(model, s).sum()) for s in sequences]
    with evaluating(model):
        np.testing.assert_allclose(scorer.sums(sequences), expected, rtol=1e-5)
        monkeypatch.setattr("zobench.problems.scoring.EVALUATION_ROWS", 1)
        np.testing.assert_allclose(scorer.sums(sequences), expected, rtol=1e-5)


def test_labels_of_one_token_share_one_row_and_one_forward_serves_a_batch(model):
    calls = []
    handle = model.register_forward_pre_hook(lambda *_: calls.append(1))
    prompt = list(range(10, 30))
    options = pack([Tokens([*prompt, 7], 1), Tokens([*prompt, 9], 1)], 1, "cpu")
    scores = Scorer(model, pad=1)(options)
    handle.remove()
    assert options.inputs.input_ids.shape[0] == 1
    assert options.tokens == len(prompt)
    assert len(calls) == 1
    assert scores[0] != scores[1]
    assert len(by_input([Tokens([1, 2, 3], 2), Tokens([1, 2, 4], 2), Tokens([1, 3, 4], 2)])) == 2


def test_a_model_without_logits_to_keep_gives_the_same_scores(model, sequences):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, input_ids, attention_mask):
            return self.inner(input_ids, attention_mask=attention_mask)

    options = pack(sequences, 1, "cpu")
    scorer = Scorer(Plain(), pad=1)
    assert scorer.accepted == {"input_ids", "attention_mask"}
    torch.testing.assert_close(scorer(options), Scorer(model, pad=1)(options), rtol=1e-5, atol=1e-5)


def test_logits_are_computed_at_the_option_only(model, sequences):
    seen = []
    handle = model.register_forward_hook(lambda *args: seen.append(args[-1].logits.shape[1]))
    Scorer(model, pad=1)(pack(sequences, 1, "cpu"))
    handle.remove()
    cells = {(tuple(s.ids[:-1]), len(s.ids) - k) for s in sequences for k in range(1, s.option + 1)}
    assert seen == [len(cells)] and len(cells) < sum(len(s.ids) for s in sequences) / 4


def test_loss_dtype_float32_keeps_what_the_models_dtype_rounds_away(sequences):
    model = load_model("random:opt-nano", dtype="bfloat16")[0]
    options = pack(sequences, 1, "cpu")
    fine, coarse = (Scorer(model, 1, dtype)(options) for dtype in ("float32", "model"))
    assert (fine.dtype, coarse.dtype) == (torch.float32, torch.bfloat16)
    assert 0 < (fine - coarse.float()).abs().max() < 0.1
    with pytest.raises(UsageError, match="loss_dtype"):
        Scorer(model, 1, "float16")


EXAMPLES = [
    ("It was", [" great", " terrible"], 1),
    ("The film was", [" a great success", " bad", " good enough"], (2, 0)),
    ("Yes or No?\n", ["Yes", "No"], 0),
]


def toy(loss: str) -> ChoiceProblem:
    return ChoiceProblem(Setting(model="random:opt-nano", seed=1), {"loss": loss, "sizes": {}}, example=lambda row: row)


def means(problem, example):
    sequences, _ = problem.encode(example)
    return torch.stack([textbook(problem.model, s).mean() for s in sequences])


def test_candidate_loss_is_cross_entropy_of_length_normalised_scores():
    problem = toy("candidates")
    batch = problem.collate([problem.encode(e) for e in EXAMPLES])
    rows = [means(problem, e) for e in EXAMPLES]
    expected = -sum(row.log_softmax(0)[gold] for row, gold in zip(rows, (1, 2, 0), strict=True)) / 3
    loss = problem.loss(batch)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in problem.model.parameters() if p.grad is not None)


def test_token_loss_is_the_mean_over_all_gold_tokens_of_the_batch():
    problem = toy("tokens")
    batch = problem.collate([problem.encode(e) for e in EXAMPLES])
    gold = [textbook(problem.model, problem.encode(e)[0][g]) for e, g in zip(EXAMPLES, (1, 2, 0), strict=True)]
    assert len({len(g) for g in gold}) > 1, "equal lengths would not tell this mean from that over examples"
    torch.testing.assert_close(problem.loss(batch).double(), -torch.cat(gold).mean(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["candidates", "tokens"])
def test_evaluation_agrees_with_the_training_loss_and_with_argmax(loss):
    problem = toy(loss)
    with evaluating(problem.model):
        got = problem.measure(EXAMPLES)
        expected = problem.loss(problem.collate([problem.encode(e) for e in EXAMPLES]))
    winners = [int(means(problem, e).argmax()) for e in EXAMPLES]
    right = [w in g for w, g in zip(winners, ({1}, {2, 0}, {0}), strict=True)]
    assert got["accuracy"] == pytest.approx(np.mean(right))
    assert got["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_equal_scores_go_to_the_first_candidate():
    problem = toy("candidates")
    with evaluating(problem.model):
        assert problem.measure([("It was", [" good", " good"], 0)])["accuracy"] == 1.0
        assert problem.measure([("It was", [" good", " good"], 1)])["accuracy"] == 0.0


def test_evaluation_switches_dropout_off_and_back_on(data_dir):
    setting = Setting(model="random:opt-nano", data_dir=data_dir)
    problem = load_task("sst2").build(setting, num_train=12, num_dev=6, num_eval=8)
    problem.model.train()
    first, second = problem.evaluate("validation"), problem.evaluate("validation")
    assert problem.model.training
    assert first == second
    with torch.no_grad():
        batch = problem.batch(0)
        assert problem.loss(batch) != problem.loss(batch), "dropout should be on again"


def test_facts_say_what_was_read(data_dir):
    setting = Setting(model="random:opt-nano", data_dir=data_dir)
    problem = load_task("sst2").build(setting, num_train=12, num_dev=6, num_eval=8)
    assert "num_train" not in problem.facts
    assert set(problem.evaluate("test")) == {"accuracy", "loss"}
    counts = {k: problem.facts[k] for k in ("num_train", "num_dev", "num_test", "partial_data")}
    assert counts == {"num_train": 12, "num_dev": 6, "num_test": 8, "partial_data": True}
