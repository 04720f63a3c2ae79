"""Answers score as MeZO scores them, and officially as SQuAD's and DROP's own scripts would."""

import pytest

from zobench.problems.answers import (
    annotators,
    drop,
    drop_normalise,
    drop_scores,
    exact_match,
    normalise,
    overlap,
    squad,
    squad_official,
    squad_v2,
    squad_v2_official,
    token_f1,
)

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


def test_no_answer_is_all_or_nothing_where_it_is_the_first_gold_and_exactly_so():
    assert token_f1("no answer here", ["no answer"]) == 0
    assert token_f1("No answer!", ["no answer"]) == 1
    assert token_f1("no answer here", ["No answer"]) == pytest.approx(0.8)  # another spelling is a gold like any
    assert token_f1("no answer here", ["yes", "no answer"]) == pytest.approx(0.8)


def test_generated_answers_split_into_those_with_and_without_an_answer():
    golds = [["Paris"], ["no answer"], ["in Rome", "Rome"], ["no answer"]]
    got = squad_v2(["Paris", "no answer", "Rome now", "Paris"], golds)
    f1, em = [1, 1, 2 / 3, 0], [1, 1, 0, 0]
    assert got == pytest.approx(
        {
            "f1": sum(f1) / 4,
            "em": sum(em) / 4,
            "has_answer_f1": (f1[0] + f1[2]) / 2,
            "has_answer_em": (em[0] + em[2]) / 2,
            "no_answer_f1": (f1[1] + f1[3]) / 2,
            "no_answer_em": (em[1] + em[3]) / 2,
        }
    )
    assert squad(["Paris"], [["Paris"]]) == {"f1": 1.0, "em": 1.0}
    assert set(squad_v2(["Paris"], [["Paris"]])) == {"f1", "em", "has_answer_f1", "has_answer_em"}


# --- SQuAD's own scripts --------------------------------------------------------------------------------------------------


def test_squad_1_knows_no_answer_that_stands_for_none():
    assert squad_official(["no answer here"], [["no answer"]])["f1"] == pytest.approx(0.8)
    assert squad_official(["a"], [["the"]]) == {"f1": 0.0, "em": 1.0}
    assert squad_official(["in Norway", "x"], [["Norway", "from Norway"], ["y"]])["f1"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("prediction", "golds", "f1", "em"),
    [
        ("", [], 1, 1),
        ("the", [], 1, 1),  # nothing is left of it
        ("Paris", [], 0, 0),
        ("", ["Paris"], 0, 0),
        ("Paris, France", ["Paris"], 2 / 3, 0),
        ("", ["a"], 1, 1),  # an accepted answer without a word is one without an answer
        ("", ["the", "Paris"], 0, 0),  # and does not count beside another
        ("no answer", [], 0, 0),
    ],
)
def test_squad_2_takes_the_empty_prediction_for_no_answer(prediction, golds, f1, em):
    got = squad_v2_official([prediction], [golds])
    assert (got["f1"], got["em"]) == (pytest.approx(f1), em)
    part = "has_answer" if golds else "no_answer"
    assert (got[f"{part}_f1"], got[f"{part}_em"]) == (got["f1"], got["em"])
    assert len(got) == 4


def test_overlap_is_the_harmonic_mean_of_precision_and_recall():
    assert overlap("one two three four", "two four six") == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))
    assert overlap("", "") == 0


# --- DROP's own script: the examples that AllenNLP publishes (allennlp-models, tests/rc/evaluations/drop_test.py) ------------

THE_CAT = ["the", "fat", "cat", "the fat", "fat cat", "the fat cat"]
DROP = [
    (["78"], ["78.0"], 1.0, 1.0),
    (["td"], ["td", "td"], 0.0, 0.5),
    (["td", "td"], ["td"], 0.0, 0.5),
    (THE_CAT, ["cat"], 0.0, 0.17),
    (["cat"], THE_CAT, 0.0, 0.17),
    (THE_CAT, ["cat", "cat dog"], 0.0, 0.25),
    (["td"], ["the td"], 1.0, 1.0),
    (["the a NOT an ARTICLE the an a"], ["NOT ARTICLE"], 1.0, 1.0),
    (["John Elton"], ["Elton John"], 0.0, 1.0),
    (["50 yard"], ["yard 50"], 0.0, 1.0),
    (["Per.i.o.d...."], [".P....e.r,,i;;;o...d,,"], 1.0, 1.0),
    (["Spa     c  e   s     "], ["    Spa c     e s"], 1.0, 1.0),
    (["78-yard"], ["78 yard"], 1.0, 1.0),
    (["78"], ["78-yard"], 0.0, 0.67),
    (["78-yard"], ["78"], 0.0, 0.67),
    (["This was a triumph"], ["tHIS Was A TRIUMPH"], 1.0, 1.0),
    (["Green bay", "packers"], ["Green bay", "packers"], 1.0, 1.0),
    ([""], ["army"], 0.0, 0.0),
    (["packers"], ["Green bay packers"], 0.0, 0.5),
    (["packers"], ["Green bay"], 0.0, 0.0),
    (["yard"], ["36 yard td"], 0.0, 0.0),
    (["23 yards"], ["43 yards"], 0.0, 0.0),
    (["56 yards"], ["56 yd"], 0.0, 0.5),
    (["26"], ["26 yard td"], 0.0, 0.5),
    (["78-yard", "56", "28", "40", "44", "touchdown"], ["78-yard", "56 yard", "1 yard touchdown"], 0.0, 0.28),
    (["23", "23 yard"], ["23-yard", "56 yards"], 0.0, 0.5),
    (["John Karman", "Joe Hardy"], ["Joe Karman", "John Hardy"], 0.0, 0.5),
    (["ottoman", "Kantakouzenous"], ["ottoman", "army of Kantakouzenous"], 0.0, 0.75),
    (["b"], ["b", "a"], 0.0, 0.5),
]


@pytest.mark.parametrize(("prediction", "gold", "em", "f1"), DROP)
def test_drop_scores_of_the_published_examples(prediction, gold, em, f1):
    assert drop_scores(prediction, gold) == (f1, em)


def test_drop_reads_numbers_as_numbers():
    assert {drop_normalise(text) for text in ("12.0", "12.0  ", "12.000", "12", "  1.2e1  ")} == {"12.0"}
    assert drop_normalise("12.0 persons") == "12.0 persons"
    assert drop_normalise("S.K. Singh") == "sk singh"
    assert drop_normalise("1,000 men") == "1000.0 men"
    assert drop_scores(["1000"], ["1,000"]) == (1.0, 1.0)


def test_a_gold_answer_without_text_scores_nothing():
    assert drop_scores([""], [" "]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("answers", "prediction", "em", "f1"),
    [  # of the same file: the answers of each annotator, (type, spans)
        ([("number", ["1"]), ("number", ["0"])], "1", 1.0, 1.0),
        ([("span", ["2"]), ("number", ["2"])], "2", 1.0, 1.0),
        ([("span", ["0"]), ("number", ["1"]), ("number", ["2"])], "1", 1.0, 1.0),
        ([("date", ["17 August"]), ("span", ["August"]), ("number", ["17"])], "17 August", 1.0, 1.0),
        ([("span", ["span1", "span2"]), ("span", ["span2"])], "span1", 0.0, 0.5),
        ([("span", ["answer1"]), ("span", ["answer2"])], "answer", 0.0, 0.0),
    ],
)
def test_drop_takes_the_best_annotator(answers, prediction, em, f1):
    flat = [(span, kind) for kind, spans in answers for span in spans]  # as the hub's rows are written
    row = {"spans": [span for span, _ in flat], "types": [kind for _, kind in flat]}
    assert drop([prediction], [row]) == {"drop_official_f1": f1, "drop_official_em": em}


def test_drop_averages_over_questions():
    rows = [{"spans": [s], "types": ["span"]} for s in ("answer1", "answer2")]
    assert drop(["answer", "answer2"], rows) == {"drop_official_f1": 0.5, "drop_official_em": 0.5}
    assert drop(["26"], [{"spans": ["26 yard td"], "types": ["span"]}])["drop_official_f1"] == 0.5


@pytest.mark.parametrize(
    ("spans", "types", "expected"),
    [
        (["Bears", "Colts"], "ss", [["Bears", "Colts"]]),  # train: one annotator
        (["Bears", "Colts"] * 3, "ssssss", [["Bears", "Colts"]] * 3),
        (["Bears", "Colts", "Bears"], "sss", [["Bears", "Colts"], ["Bears"]]),
        (["7", "7", "8"], "nnn", [["7"], ["7"], ["8"]]),
        (["7", "seven", "7"], "nsn", [["7"], ["seven"], ["7"]]),
        (["1 May 1902", "May", "1902"], "dss", [["1 May 1902"], ["May", "1902"]]),
    ],
)
def test_annotators_of_a_hub_row(spans, types, expected):
    names = dict(s="span", n="number", d="date")
    assert annotators(spans, [names[t] for t in types]) == expected
