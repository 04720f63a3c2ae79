"""What sequences share is read once and short ones share a row, and every family of models scores them as single ones."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from zobench.models.load import load_model
from zobench.problems import packing, scoring
from zobench.problems.scoring import PACKABLE, Scorer, pack
from zobench.problems.text import Tokens

SMALL = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
GPT = dict(n_embd=32, n_layer=2, n_head=4, n_positions=128, rotary_dim=8)
SHAPES = {
    "opt": dict(hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4),
    "gpt2": GPT,
    "gptj": GPT,
    "gpt_bigcode": GPT,
}


def options_of(examples, rs):
    """Sequences of `examples` prompts with 1 to 3 options of 1 to 4 tokens each."""
    made = []
    for _ in range(examples):
        prompt = [0, *rs.randint(4, 200, rs.randint(5, 40)).tolist()]
        for _ in range(rs.randint(1, 4)):
            option = rs.randint(4, 200, rs.randint(1, 5)).tolist()
            made.append(Tokens(prompt + option, len(option)))
    return made


def alone(model, sequence):
    """Summed log-likelihood of the option from all logits of one unpadded forward."""
    with torch.no_grad():
        logits = model(torch.tensor([sequence.ids])).logits[0].double()
    log_p = logits.log_softmax(-1)[torch.arange(len(sequence.ids) - 1), torch.tensor(sequence.ids[1:])]
    return float(log_p[-sequence.option :].sum())


@pytest.mark.parametrize("family", sorted(PACKABLE))
def test_every_packable_family_scores_as_single_sequences(family):
    shape = SHAPES.get(family, SMALL | ({} if family == "falcon" else dict(head_dim=8)))
    special = dict(vocab_size=256, pad_token_id=1, bos_token_id=0, eos_token_id=2, max_position_embeddings=128)
    try:
        config = AutoConfig.for_model(family, **special | shape)
    except ValueError:
        pytest.skip(f"this transformers has no {family}")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for p in model.parameters():
        if p.dim() > 1:
            p.data.normal_(0, 0.2)  # far from uniform, so that a wrong position would show
    sequences = options_of(6, np.random.RandomState(0))
    scorer = Scorer(model, pad=1)
    assert scorer.packs == torch.float32
    assert scorer.pack(sequences).inputs.attention_mask.dim() == 4
    np.testing.assert_allclose(scorer.sums(sequences), [alone(model, s) for s in sequences], rtol=1e-5, atol=2e-5)


def test_a_model_that_is_not_known_to_take_such_masks_gets_plain_rows():
    config = AutoConfig.for_model("mpt", vocab_size=256, d_model=32, n_layers=2, n_heads=4, max_seq_len=128)
    model = AutoModelForCausalLM.from_config(config).eval()
    scorer = Scorer(model, pad=1)
    assert scorer.packs is None
    sequences = options_of(4, np.random.RandomState(1))
    np.testing.assert_allclose(scorer.sums(sequences), [alone(model, s) for s in sequences], rtol=1e-5, atol=1e-5)


def test_a_tree_reads_the_shared_beginning_once():
    trees = packing.grow([(0, 5, 6, 7), (0, 5, 6, 8, 9), (3, 4)], share=True)
    assert [(t.tokens, t.depths) for t in trees] == [([0, 5, 6, 7, 8, 9], [0, 1, 2, 3, 3, 4]), ([3, 4], [0, 1])]
    assert trees[0].paths == {0: [0, 1, 2, 3], 1: [0, 1, 2, 4, 5]}
    assert len(packing.grow([(0, 5, 6, 7), (0, 5, 6, 8, 9)], share=False)) == 2
    assert len(packing.grow([(0, 1, 2, 3, 4), (0, 9, 8, 7, 6)], share=True)) == 2, "BOS alone is not worth a tree"


def test_a_token_attends_to_its_own_sequence_up_to_itself():
    inputs = [(0, 5, 6, 7), (0, 5, 6, 8, 9), (3, 4), (3, 5)]
    forest = packing.lay_out(inputs, 1, "cpu", dtype=torch.float32)
    mask = forest.inputs.attention_mask[:, 0] == 0
    for number, ids in enumerate(inputs):
        row, columns = int(forest.row[number]), forest.columns[number]
        assert forest.inputs.input_ids[row, columns].tolist() == list(ids)
        assert forest.inputs.position_ids[row, columns].tolist() == list(range(len(ids)))
        for place, column in enumerate(columns.tolist()):
            assert mask[row, column].nonzero().flatten().tolist() == columns[: place + 1].tolist()
    assert forest.tokens == 6 + 3


def test_rows_are_filled_and_equal_lengths_stay_plain():
    short = [tuple(range(10 * i, 10 * i + 8)) for i in range(8)]
    long = [tuple(range(200, 240))]
    assert packing.lay_out([*short, *long], 1, "cpu", dtype=torch.float32).inputs.input_ids.shape == (3, 40)
    assert packing.lay_out(short, 1, "cpu", dtype=torch.float32).inputs.attention_mask.dim() == 2


def test_gradients_are_those_of_plain_rows():
    """Training goes through the mask, too."""
    model = load_model("random:opt-nano")[0]
    sequences = options_of(5, np.random.RandomState(2))
    scorer, found = Scorer(model, pad=1), []
    for options in (pack(sequences, 1, "cpu"), scorer.pack(sequences)):
        model.zero_grad()
        scorer(options).sum().backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    for name, gradient in found[0].items():
        assert (gradient - found[1][name]).norm() <= 1e-4 * gradient.norm() + 1e-6, name


def test_half_precision_scores_agree_to_its_rounding():
    model = load_model("random:opt-nano", dtype="bfloat16")[0]
    sequences = options_of(5, np.random.RandomState(2))
    scorer = Scorer(model, pad=1)
    plain, shared = (scorer(options).detach() for options in (pack(sequences, 1, "cpu"), scorer.pack(sequences)))
    torch.testing.assert_close(shared, plain, rtol=0, atol=0.05)


def test_evaluation_batches_keep_to_their_limits(monkeypatch):
    model = load_model("random:opt-nano")[0]
    sequences = options_of(12, np.random.RandomState(3))
    scorer = Scorer(model, pad=1)
    expected = scorer.sums(sequences)
    seen = []
    handle = model.register_forward_hook(lambda *a, **k: seen.append(a[-1].logits.shape[1]))
    monkeypatch.setattr(scoring, "EVALUATION_TOKENS", 120)
    monkeypatch.setattr(scoring, "EVALUATION_LOGITS", 6)
    np.testing.assert_allclose(scorer.sums(sequences), expected, rtol=1e-5, atol=1e-5)
    handle.remove()
    assert len(seen) >= 4 and max(seen) <= 6
