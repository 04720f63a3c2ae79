"""Prompts are MeZO's to the character, and their tokens MeZO's to the id."""

import doctest

import pytest
from task_files import load_task

from zobench.models.load import TOKENIZER
from zobench.problems.choice import ChoiceProblem, golds
from zobench.problems.generation import GenerationProblem
from zobench.problems.text import Encoder, bos_id, pad_rows
from zobench.spec import EnvironmentUnmet, UsageError


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TOKENIZER)


def test_docstring_examples_of_a_task_without_a_model_hold():
    assert doctest.testmod(load_task("softmax_l2")).failed == 0


REEVE = {"premise": "Dana Reeve has died.", "hypothesis": "Reeve had an accident.", "label": 1}
ETHANOL = {"passage": "Ethanol fuel is ethyl alcohol.", "question": "is ethanol a fuel", "answer": True}
MARK = {"text": "Mark told Pete many lies about himself.", "span1_text": "Mark", "span2_text": "Himself", "label": 1}
PLACE = {
    "word": "place",
    "sentence1": "Do you want to come over to my place?",
    "sentence2": "A political system with no place for it.",
    "label": 0,
}
SHADOW = {
    "premise": "My body cast a shadow over the grass.",
    "choice1": "The sun was rising.",
    "choice2": "I cut the grass.",
    "question": "cause",
    "label": 0,
}
PARIS = {
    "passage": "Paris is big.\n@highlight\nIt is in France",
    "query": "The capital is @placeholder.",
    "entities": ["France", "Paris"],
    "answers": ["Paris"],
}
CUP = {"sentence": "The cup fell off the shelf as the _ was wet.", "option1": "cup", "option2": "shelf", "answer": "2"}
FILM = {"sentence": "a gorgeous , witty film ", "label": 1}

# task, its prompt function, row -> full text with the right candidate, all candidates, calibration prompt
# (the golden renders of the task-suite specification; sources: MeZO's and ZO-LLM's templates)
RENDERS = [
    ("sst2", "example", FILM, "a gorgeous , witty film It was great", [" terrible", " great"], " It was"),
    ("sst2", "bare", FILM, "a gorgeous , witty film great", ["terrible", "great"], ""),
    ("rte", "example", REEVE,
     'Dana Reeve has died.\nDoes this mean that "Reeve had an accident." is true? Yes or No?\nNo', ["Yes", "No"], ""),
    ("rte", "bare", REEVE, 'Dana Reeve has died.\n"Reeve had an accident."\nNo', ["Yes", "No"], ""),
    ("cb", "example", {"premise": "It was complex. She knew it.", "hypothesis": "it was complex", "label": 2},
     'Suppose It was complex. She knew it. Can we infer that "it was complex"? Yes, No, or Maybe?\nMaybe',
     ["Yes", "No", "Maybe"], ""),
    ("boolq", "example", ETHANOL, "Ethanol fuel is ethyl alcohol. Is ethanol a fuel?\nYes", ["Yes", "No"], ""),
    ("boolq", "example", ETHANOL | {"question": "Is it?", "answer": False},
     "Ethanol fuel is ethyl alcohol. Is it?\nNo", ["Yes", "No"], ""),
    ("boolq", "one_line", ETHANOL, "Ethanol fuel is ethyl alcohol. Is ethanol a fuel? Yes", [" Yes", " No"], ""),
    ("wsc", "example", MARK,
     'Mark told Pete many lies about himself.\nIn the previous sentence, does the pronoun "himself" refer to Mark? '
     "Yes or No?\nYes", ["No", "Yes"], ""),
    ("wic", "example", PLACE,
     'Does the word "place" have the same meaning in these two sentences? Yes, No?\n'
     "Do you want to come over to my place?\nA political system with no place for it.\nNo", ["No", "Yes"], ""),
    ("multirc", "example", {"paragraph": "Tom ran home.", "question": "Who ran?", "answer": "Tom", "label": 1},
     'Tom ran home.\nQuestion: Who ran?\nI found this answer "Tom". Is that correct? Yes or No?\nYes',
     ["No", "Yes"], ""),
    ("copa", "example", SHADOW, "My body cast a shadow over the grass because the sun was rising.",
     ["the sun was rising.", "I cut the grass."], "because"),
    ("copa", "example", SHADOW | {"label": 1}, "My body cast a shadow over the grass because I cut the grass.",
     ["the sun was rising.", "I cut the grass."], "because"),
    ("copa", "example", SHADOW | {"premise": "It rained..  ", "question": "effect"}, "It rained. so the sun was rising.",
     ["the sun was rising.", "I cut the grass."], "so"),
    ("copa", "bare", SHADOW, "My body cast a shadow over the grass the sun was rising.",
     ["the sun was rising.", "I cut the grass."], ""),
    ("record", "example", PARIS, "Paris is big.\n- It is in France\n- The capital is Paris.",
     [" The capital is France.", " The capital is Paris."], "-"),
    ("record", "asked", PARIS,
     "Paris is big.\n@highlight\nIt is in France\nThe capital is @placeholder.\n"
     'Question: what is the "@placeholder"\nAnswer: Paris', [" France", " Paris"], "Answer:"),
    ("winogrande", "example", CUP, "The cup fell off the shelf as the shelf was wet.",
     ["cup was wet.", "shelf was wet."], ""),
]  # fmt: skip


@pytest.mark.parametrize("render", RENDERS, ids=lambda render: f"{render[0]}-{render[1]}")
def test_golden_renders_of_tasks_with_candidates(render):
    name, function, row, full, candidates, calibration = render
    example = getattr(load_task(name), function)(row)
    prompt, found, _, prior = example
    assert prompt + found[golds(example)[0]] == full
    assert list(found) == candidates
    assert prior.strip(" ") == calibration.strip(" ")


@pytest.mark.parametrize("render", RENDERS, ids=lambda render: f"{render[0]}-{render[1]}")
def test_every_prompt_is_a_prefix_of_its_full_texts_once_spaces_are_stripped(render):
    name, function, row, *_ = render
    prompt, candidates, _, calibration = getattr(load_task(name), function)(row)
    for start in (prompt, calibration):
        assert all((start + text).strip(" ").startswith(start.strip(" ")) for text in candidates)


NORMAN = {
    "title": "Norman",
    "context": "They came from Norway.",
    "question": " Where from? ",
    "answers": {"text": ["Norway", "norway"], "answer_start": [15, 15]},
}
KICKS = {
    "passage": "He kicked 3 goals.",
    "question": "How many goals?",
    "answers_spans": {"spans": ["3"], "types": ["number"]},
}


@pytest.mark.parametrize(
    ("name", "row", "full"),
    [
        (
            "squad",
            NORMAN,
            "Title: Norman\nContext: They came from Norway.\nQuestion: Where from?\nAnswer: Norway\n",
        ),
        ("drop", KICKS, "Passage: He kicked 3 goals.\nQuestion: How many goals?\nAnswer: 3\n"),
    ],
)
def test_golden_renders_of_tasks_that_generate(name, row, full, tokenizer):
    example = load_task(name).example(row)
    problem = GenerationProblem.__new__(GenerationProblem)
    problem.encoder = Encoder(tokenizer, None, 2048)
    target = problem.target(example)
    assert target.ids == problem.encoder.ids(full)
    assert target.ids[-target.option :] == problem.encoder.ids(full.partition("Answer:")[2])
    assert problem.demonstration(example) == full.strip()


def test_an_unanswerable_question_of_squad_2_is_answered_by_no_answer():
    _, answers = load_task("squad").example(NORMAN | {"answers": {"text": [], "answer_start": []}})
    assert answers == ["no answer"]


# What `problems.text` makes of prompt and candidate: the prompt's tokens, and those of the whole.
@pytest.mark.parametrize("render", RENDERS, ids=lambda render: f"{render[0]}-{render[1]}")
def test_the_scored_tokens_are_what_the_full_text_has_beyond_the_prompt(render, tokenizer):
    name, function, row, full, *_ = render
    example = getattr(load_task(name), function)(row)
    encoder = Encoder(tokenizer, 0, 2048)
    got = encoder.option(example[0], full)
    assert got.ids == [0, *encoder.ids(full)]
    assert got.option == len(encoder.ids(full)) - len(encoder.ids(example[0].strip(" ")))


@pytest.mark.parametrize(
    ("name", "labels"),
    [("wsc", {0: "No", 1: "Yes"}), ("wic", {0: "No", 1: "Yes"}), ("multirc", {0: "No", 1: "Yes"}),
     ("rte", {0: "Yes", 1: "No"}), ("cb", {0: "Yes", 1: "No", 2: "Maybe"}), ("sst2", {0: " terrible", 1: " great"})],
)  # fmt: skip
def test_label_ids_name_the_candidates_in_ascending_order(name, labels):
    row = next(dict(r[2]) for r in RENDERS if r[0] == name)
    for label, word in labels.items():
        _, candidates, gold, _ = load_task(name).example(row | {"label": label})
        assert (candidates[gold], gold) == (word, label)


def test_boolq_offers_yes_first():
    for answer, word in ((True, "Yes"), (False, "No")):
        _, candidates, gold, _ = load_task("boolq").example(ETHANOL | {"answer": answer})
        assert (candidates, candidates[gold]) == (["Yes", "No"], word)


def test_record_keeps_an_entity_that_is_there_twice_and_trains_on_the_first_answer():
    row = PARIS | {"entities": ["Lyon", "Paris", "France", "Paris"], "answers": ["Paris", "Lyon"]}
    _, candidates, gold, _ = load_task("record").example(row)
    assert candidates == [f" The capital is {entity}." for entity in row["entities"]]
    assert gold[0] == 1 and set(gold) == {0, 1, 3}
    with pytest.raises(ValueError, match="none of the answers"):
        load_task("record").example(row | {"answers": ["Rome"]})


@pytest.mark.parametrize(
    ("name", "row", "shown"),
    [
        ("sst2", FILM, "a gorgeous , witty film It was great"),
        ("record", PARIS, "Paris is big.\n- It is in France\n- The capital is Paris."),
        ("copa", SHADOW, "My body cast a shadow over the grass because the sun was rising."),
        ("winogrande", CUP, "The cup fell off the shelf as the shelf was wet."),
    ],
)
def test_a_demonstration_is_the_full_text_with_its_gold(name, row, shown):
    problem = ChoiceProblem.__new__(ChoiceProblem)
    assert problem.demonstration(load_task(name).example(row)) == shown


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
    got = pad_rows([[5, 6, 7], [9] * 9], pad=1, device="cpu")
    assert got.input_ids.shape == (2, 16)
    assert got.input_ids[0].tolist() == [1] * 13 + [5, 6, 7]
    assert got.attention_mask[0].tolist() == [0] * 13 + [1] * 3
    assert got.position_ids[0].tolist() == [0] * 13 + [0, 1, 2]
