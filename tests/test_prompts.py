"""Prompts are MeZO's to the character, and their tokens MeZO's to the id."""

import doctest

import pytest
from task_files import load_task

from zobench.models.load import TOKENIZER
from zobench.problems.text import Encoder, bos_id, pad_left
from zobench.spec import EnvironmentUnmet, UsageError


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TOKENIZER)


@pytest.mark.parametrize("name", ["sst2", "squad", "softmax_l2"])
def test_docstring_examples_hold(name):
    assert doctest.testmod(load_task(name)).failed == 0


def test_sst2_golden_render():
    prompt, candidates, gold = load_task("sst2").example({"sentence": "a gorgeous , witty film ", "label": 1})
    assert prompt + candidates[gold] == "a gorgeous , witty film It was great"
    assert candidates == [" terrible", " great"]


def test_squad_golden_render():
    row = {"title": "Norman", "context": "They came from Norway.", "question": " Where from? "}
    prompt, answers = load_task("squad").example(row | {"answers": {"text": ["Norway", "norway"]}})
    full = f"{prompt} {answers[0]}\n"
    assert full == "Title: Norman\nContext: They came from Norway.\nQuestion: Where from?\nAnswer: Norway\n"


def test_bos_is_mezos_zero_for_opt_and_the_tokenizers_own_else(tokenizer):
    class Own:
        bos_token_id = 7

    class Without:
        bos_token_id = None

    assert [bos_id(Own(), "opt", mode) for mode in ("mezo", "hf")] == [0, 7]
    assert [bos_id(Own(), "llama", mode) for mode in ("mezo", "hf")] == [7, 7]
    assert bos_id(Without(), "qwen2", "mezo") is None
    with pytest.raises(UsageError, match="choose from mezo, hf"):
        bos_id(Own(), "opt", "mez")


def test_only_spaces_are_stripped_so_that_the_newline_is_scored(tokenizer):
    encoder = Encoder(tokenizer, 0, 2048)
    got = encoder.option(" Answer:  ", " Answer: No\n  ")
    assert got.ids == [0, *encoder.ids("Answer: No\n")]
    assert got.option == 2
    assert got.ids[-2:] == encoder.ids(" No") + encoder.ids("\n")


def test_leading_white_space_goes_and_demonstrations_do_not_count_as_option(tokenizer):
    encoder = Encoder(tokenizer, None, 2048)
    assert encoder.option("\nIt was", "\nIt was great").ids == encoder.ids("It was great")
    got = encoder.option("It was", "It was great", before="It was bad\n\n")
    assert (got.ids, got.option) == (encoder.ids("It was bad\n\nIt was great"), 1)


@pytest.mark.parametrize("bos", [0, None])
def test_truncation_keeps_bos_and_the_end(tokenizer, bos):
    encoder = Encoder(tokenizer, bos, 10)
    full = "It was a long and patient film about a river. It was great"
    ids = encoder.ids(full)
    got = encoder.option(full.removesuffix(" great"), full)
    assert got.ids == ([0, *ids[-9:]] if bos == 0 else ids[-10:])
    assert got.option == 1
    assert encoder.prompt(full) == got.ids


def test_a_candidate_without_a_token_of_its_own_is_an_error(tokenizer):
    with pytest.raises(EnvironmentUnmet, match="adds no token"):
        Encoder(tokenizer, 0, 2048).option("It was", "It was ")


def test_rows_are_padded_left_to_a_multiple_of_eight_and_positions_start_at_zero():
    got = pad_left([[5, 6, 7], [9] * 9], pad=1, device="cpu")
    assert got.input_ids.shape == (2, 16)
    assert got.input_ids[0].tolist() == [1] * 13 + [5, 6, 7]
    assert got.attention_mask[0].tolist() == [0] * 13 + [1] * 3
    assert got.position_ids[0].tolist() == [0] * 13 + [0, 1, 2]
