"""The small world: a pure function of its seed, balanced, and with a known share that its text never tells."""

import doctest
import re
from collections import Counter
from functools import cache
from itertools import islice

import numpy as np
import pytest

from zobench.problems import world
from zobench.problems.data import locate
from zobench.problems.sampling import sample

MANY = 10_000  # documents of each kind


@pytest.fixture(scope="module")
def corpus() -> dict[str, list[str]]:
    return {kind: list(islice(world.documents(kind, 3), MANY)) for kind in world.KINDS}


@pytest.fixture(scope="module")
def corpus_words(corpus) -> Counter:
    return Counter(re.findall(r"\w+", "\n".join(text for texts in corpus.values() for text in texts)))


@cache
def both(task):
    return world.rows(task, "train") + world.rows(task, "validation")


def words(row) -> set[str]:
    return set(re.findall(r"\w+", " ".join(v for v in row.values() if isinstance(v, str)))) - {"cause", "effect"}


def test_docstring_examples_hold():
    assert doctest.testmod(world).failed == 0


@pytest.mark.parametrize("task", world.TASKS)
def test_splits_have_their_sizes_and_share_no_row(task):
    train, validation = (world.rows(task, split) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (world.SIZES["train"], world.SIZES["validation"])
    assert len({repr(row) for row in train + validation}) == len(train) + len(validation)


@pytest.mark.parametrize("task", world.TASKS)
def test_rows_are_a_pure_function_of_the_seed(task):
    assert world.rows(task, "train", 1) == world.rows(task, "train", 1) != world.rows(task, "train", 2)
    assert world.rows(task, "train") == world.rows(task, "train", 0)


def test_documents_are_a_pure_function_of_the_seed():
    for kind in world.KINDS:
        one, again, other = (list(islice(world.documents(kind, seed), 50)) for seed in (1, 1, 2))
        assert one == again != other


def test_draws_use_the_frozen_stream_alone():
    draw, stream = world.Draw(5), np.random.RandomState([5])
    assert [draw.below(10) for _ in range(4)] == [int(10 * u) for u in stream.random_sample(4)]
    assert sorted(draw.several("abc", 3)) == ["a", "b", "c"]
    counts = Counter(draw.weighted("xy", (3, 1)) for _ in range(4000))
    assert 0.72 < counts["x"] / 4000 < 0.78


def test_first_rows():
    """Drawn once and read by a person: the sense is right, and it must not change under the published figures."""
    assert world.rows("sentiment", "train")[0] == {
        "sentence": "The show was dismal and the room was insipid.",
        "label": 0,
    }
    assert world.rows("entailment", "train")[1] == {
        "premise": "Jane works as a singer.",
        "hypothesis": "Jane seldom works as a singer",
        "label": 1,
    }
    assert world.rows("copa", "train")[0] == {
        "premise": "Sam was sad.",
        "choice1": "He wrote a poem.",
        "choice2": "He called a taxi.",
        "question": "effect",
        "label": 0,
    }
    assert world.rows("qa", "train")[0] == {
        "title": "People",
        "context": "Emil eats beans. Zack works as a singer.",
        "question": "Name the diet of Emil.",
        "answers": {"text": ["beans"]},
    }


@pytest.mark.parametrize("task, labels", [("sentiment", 2), ("entailment", 3), ("copa", 2)])
def test_labels_are_balanced(task, labels):
    rows = both(task)
    counts = Counter(row["label"] for row in rows)
    assert set(counts) == set(range(labels))
    assert all(abs(n / len(rows) - 1 / labels) < 0.04 for n in counts.values())


def test_a_sentiment_label_is_what_the_last_adjective_says():
    good = {w for (positive, _), ws in world.ADJECTIVES.items() if positive for w in ws}
    good |= set(world.UNSEEN_ADJECTIVES[True])
    for row in both("sentiment"):
        assert row["label"] == (row["sentence"].rstrip(".").split()[-1] in good)


def test_an_answer_stands_in_its_context_and_no_other_fact_has_its_attribute():
    for row in both("qa"):
        (answer,) = row["answers"]["text"]
        facts = row["context"].rstrip(".").split(". ")
        assert sum(fact.endswith(answer) for fact in facts) == 1
        (attribute,) = [a for a in world.ATTRIBUTES if answer in a.values]
        assert sum(fact.split()[-1] in attribute.values for fact in facts) == 1
        name = next(fact for fact in facts if fact.endswith(answer)).split()[0]
        assert row["question"] in (attribute.asks.format(n=name), f"Name the {attribute.noun} of {name}.")


def test_the_right_choice_is_the_linked_one():
    linked = {(cause, effect) for cause, effects in world.EVENTS + world.UNSEEN_EVENTS for effect in effects}
    for row in both("copa"):
        chosen, other = row["choice1"], row["choice2"]
        if row["label"]:
            chosen, other = other, chosen
        first, *rest = (text.rstrip(".").split(" ", 1)[1] for text in (row["premise"], chosen, other))
        pairs = [(first, c) if row["question"] == "effect" else (c, first) for c in rest]
        assert pairs[0] in linked and pairs[1] not in linked


# --- what the text never tells ---


def test_the_unseen_share_of_every_task_is_its_constant():
    rows = {task: both(task) for task in world.TASKS}
    shares = {task: np.mean([bool(words(r) & set(world.unseen_words(task))) for r in rows[task]]) for task in rows}
    causes = {cause for cause, _ in world.UNSEEN_EVENTS} | {e for _, es in world.UNSEEN_EVENTS for e in es}
    shares["copa"] = np.mean([row["premise"].rstrip(".").split(" ", 1)[1] in causes for row in rows["copa"]])
    said = [r for r in rows["entailment"] if " not " in r["hypothesis"] or words(r) & set(world.UNSEEN_ADVERBS)]
    shares["entailment"] = np.mean([bool(words(r) & set(world.UNSEEN_ADVERBS)) for r in said])
    assert all(abs(shares[task] - share) < 0.03 for task, share in world.UNSEEN.items()), shares


@pytest.mark.parametrize("task", world.TASKS)
def test_unseen_words_never_occur_in_the_text(task, corpus_words):
    assert not set(world.unseen_words(task)) & set(corpus_words)
    seen = Counter(word for row in both(task) for word in words(row))
    assert all(seen[word] >= 20 for word in world.unseen_words(task))


def test_all_other_words_of_the_tasks_occur_in_the_text(corpus_words):
    for task in world.TASKS:
        used = set().union(*(words(row) for row in both(task))) - set(world.unseen_words(task))
        assert {word.lower() for word in used} <= {word.lower() for word in corpus_words}, task


def test_unseen_links_never_occur_in_the_text_though_both_clauses_do(corpus):
    text = "\n".join(corpus["short"])
    lines = [line for line in corpus["short"] if " so " in line or " because " in line]
    for cause, effects in world.UNSEEN_EVENTS:
        for effect in effects:
            assert text.count(cause) > 5 and text.count(effect) > 5
            assert not any(cause in line and effect in line for line in lines)


def test_the_text_is_biased_as_it_says(corpus):
    text = "\n".join(corpus["short"])
    assert text.count("It was great") > 1.5 * text.count("It was terrible")
    said = Counter(line for text in corpus["long"] for line in text.splitlines() if line in world.LABELS)
    assert said["No"] > said["Maybe"]


# --- the splits of a run ---


def test_a_source_of_generated_rows_gives_them_and_forgets_them():
    source = locate({"world": "qa"})
    assert source.fingerprint == "generated" and source.name("train") == "qa (train)"
    assert source.rows("train") == world.rows("qa", "train")
    source.forget("train")
    assert not source.cache


def test_the_data_seed_draws_what_it_draws_of_the_hubs_rows():
    drawn = sample(3, 2000, 1000, num_train=1000, num_dev=300, num_eval=500, full_train=2000)
    assert (len(drawn.train), len(drawn.dev), len(drawn.test), drawn.partial) == (1000, 300, 500, False)
    assert not set(drawn.train) & set(drawn.dev)
