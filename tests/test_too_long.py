"""What does not fit the context is cut as the papers' code cuts it and counted, or refused by name of its row."""

import json

import pytest

from zobench import registry
from zobench.problems.text import Encoder
from zobench.spec import EnvironmentUnmet, Setting, UsageError

LETTERS = "abcdefghij"


class Letters:
    """A tokenizer with a token per character."""

    def __call__(self, text, **_):
        return {"input_ids": [10 + LETTERS.find(c) for c in text]}


def test_left_truncation_keeps_bos_and_is_counted():
    encoder = Encoder(Letters(), bos=0, max_length=4)
    assert encoder.option("abcdef", "abcdefg") == ([0, 14, 15, 16], 1)
    assert encoder.option("ab", "abc") == ([0, 10, 11, 12], 1)
    assert encoder.truncated == 1
    assert Encoder(Letters(), bos=None, max_length=4).option("abcdef", "abcdefg") == ([13, 14, 15, 16], 1)


@pytest.mark.parametrize("bos, full", [(0, "abcde"), (None, "abcde")])
def test_an_option_longer_than_the_context_is_refused(bos, full):
    with pytest.raises(EnvironmentUnmet, match="ends in 4 tokens to score, and 3 are the context"):
        Encoder(Letters(), bos, max_length=3).option("a", full)


def test_an_option_without_anything_to_its_left_is_refused():
    with pytest.raises(EnvironmentUnmet, match="this tokenizer puts no BOS in front"):
        Encoder(Letters(), bos=None, max_length=9).option("", "abc")
    assert Encoder(Letters(), bos=0, max_length=9).option("", "abc").option == 3


def test_candidates_share_the_tokens_of_their_prompt_whatever_came_before():
    encoder = Encoder(Letters(), bos=0, max_length=99)
    alone = Encoder(Letters(), bos=0, max_length=99)
    for prompt, full in (("ab", "abc"), ("ab", "abde"), ("abc", "abcd"), ("ab", "abj")):
        fresh = Encoder(Letters(), bos=0, max_length=99).option(prompt, full, before="ij")
        assert encoder.option(prompt, full, before="ij") == fresh
        assert alone.option(prompt, full).option == fresh.option


def own(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    entry = registry.find("task", f"choice:{path}")
    return registry.load(entry).build(Setting(model="random:opt-nano", batch_size=2), **registry.resolve(entry, {}))


def every_row(problem):
    for split in ("validation", "test"):
        problem.evaluate(split)
    for step in range(10):
        problem.batch(step)


ROW = {"prompt": "It was", "candidates": [" good", " bad"], "label": 0}


@pytest.mark.parametrize(
    "odd, said",
    [
        ({"prompt": "the film", "candidates": ["s", " ended"], "label": 0}, "adds no token to its prompt"),
        ({"prompt": "a", "candidates": [" b" * 3000, " c"], "label": 0}, "3000 tokens to score"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named(tmp_path, odd, said):
    rows = [ROW | {"prompt": f"It was {i} and"} for i in range(11)]
    problem = own(tmp_path, [*rows[:7], odd, *rows[7:]])
    with pytest.raises(EnvironmentUnmet, match=rf"rows\.jsonl, line 8: .*{said}"):
        every_row(problem)


def test_cut_sequences_are_in_the_facts(tmp_path):
    rows = [ROW | {"prompt": f"It was {i} " + "and so on " * (2000 if i % 2 else 1)} for i in range(20)]
    problem = own(tmp_path, rows)
    problem.evaluate("test")
    long = sum(len(example[0]) > 5000 for example in problem.examples("test"))
    assert problem.facts["truncated_test"] == 2 * long > 0


def test_a_model_without_room_for_an_answer_is_refused(tmp_path, data_dir):
    from zobench.models.load import load_model

    model, tokenizer = load_model("random:gpt2-nano")
    model.config.max_position_embeddings = 48
    model.transformer.wpe.weight.data = model.transformer.wpe.weight.data[:48]
    model.save_pretrained(tmp_path / "short")
    tokenizer.save_pretrained(tmp_path / "short")
    squad = registry.load(registry.find("task", "squad"))
    with pytest.raises(
        UsageError, match="reads 48 tokens, and 50 are for the answer; ask for fewer with max_new_tokens"
    ):
        squad.build(Setting(model=str(tmp_path / "short"), data_dir=data_dir))
