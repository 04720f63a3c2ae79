"""A file that cannot be right is named with its line, and a row that cannot be one of the task with its field."""

import json

import pytest

from zobench.problems.fields import check_row
from zobench.problems.row_files import count, read
from zobench.spec import EnvironmentUnmet

GOOD = b'{"text": "a b", "label": 1}\n'


def broken(path, content):
    path.write_bytes(content)
    with pytest.raises(EnvironmentUnmet) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize(
    "content, message",
    [
        (GOOD + b'{"text": "x", "la', ", line 2: not JSON (Unterminated string"),
        (GOOD + b'{"text": "x", "la', "; the file ends inside this line, as one that was cut short"),
        (GOOD + b"\n\n" + b"{text: 1}\n" + GOOD, ", line 4: not JSON"),
        (GOOD + b"[1, 2]\n", ", line 2: not a JSON object"),
        (GOOD + '{"text": "caf\u00e9"}\n'.encode("latin-1"), ", line 2: not UTF-8 text (byte 0xe9 at place 14)"),
        (GOOD.decode().encode("utf-16"), ", line 1: not UTF-8 text (byte 0xff at place 1)"),
        (GOOD + b'{"label": NaN}\n', ", line 2: not JSON (NaN is no number of JSON)"),
        (GOOD + b'{"label": -Infinity}\n', ", line 2: not JSON (-Infinity is no number of JSON)"),
        (GOOD + b"[" * 100_000 + b"\n", ", line 2: not JSON"),
        (b"", ": there are no rows in it"),
        (b"\n \r\n", ": there are no rows in it"),
    ],
)
def test_a_broken_line_is_named(tmp_path, content, message):
    assert message in broken(tmp_path / "train.jsonl", content)


@pytest.mark.parametrize(
    "content",
    [
        GOOD + GOOD,
        (GOOD + GOOD).replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + GOOD + GOOD,
        GOOD + GOOD.rstrip(b"\n"),
        GOOD + b"\n  \n" + GOOD,
    ],
    ids=["plain", "carriage returns", "byte order mark", "no last newline", "empty lines"],
)
def test_what_is_well_formed_is_read(tmp_path, content):
    path = tmp_path / "train.jsonl"
    path.write_bytes(content)
    assert read(path) == [{"text": "a b", "label": 1}] * 2
    assert count(path) == 2


def test_a_line_break_of_unicode_inside_a_text_is_none(tmp_path):
    path = tmp_path / "train.jsonl"
    row = {"text": "one\u2028two\x85three\x0cfour"}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read(path) == [row]


def test_the_line_of_a_row_counts_empty_ones(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\n" + GOOD + b"\n\n" + GOOD + GOOD)
    rows = read(path)
    assert [rows.where(i) for i in range(3)] == [f"{path}, line {n}" for n in (2, 5, 6)]


def test_a_parquet_file_cut_short(tmp_path):
    import pyarrow.parquet

    path = tmp_path / "train.parquet"
    rows = [{"text": f"row {i}", "label": i % 2} for i in range(100)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    found = read(path)
    assert found == rows and count(path) == 100
    assert found.where(7) == f"{path}, row 8"
    for size in (0, 3, len(path.read_bytes()) // 2, len(path.read_bytes()) - 5):
        assert ": not a readable Parquet file, perhaps cut short" in broken(path, path.read_bytes()[:size])
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_whole_numbers_that_pandas_wrote_as_floats_are_whole_again(tmp_path):
    import pyarrow.parquet

    path = tmp_path / "train.parquet"
    columns = dict(label=[0.0, 1.0, None], nan=[1.0, float("nan"), -2.0], score=[1.0, 2.5, None], big=[1e300, 0.0, 1.0])
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    found = read(path)
    assert [row["label"] for row in found] == [0, 1, None] and type(found[0]["label"]) is int
    assert [row["nan"] for row in found] == [1, None, -2] and type(found[0]["nan"]) is int
    assert [row["score"] for row in found] == [1.0, 2.5, None] and type(found[0]["score"]) is float
    assert type(found[1]["big"]) is float
    assert check_row(found[1], {"label": (0, 1)}) is None
    assert check_row(found[2], {"label": (0, 1)}) == "field 'label': null; expected 0 or 1"


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(EnvironmentUnmet, match="No such file"):
        read(tmp_path / "train.jsonl")
    with pytest.raises(EnvironmentUnmet, match="No such file"):
        read(tmp_path / "train.parquet")
    (tmp_path / "validation.jsonl").mkdir()
    with pytest.raises(EnvironmentUnmet, match="directory"):
        read(tmp_path / "validation.jsonl")


@pytest.mark.parametrize(
    "kind, good, bad",
    [
        (
            "text",
            ["x", " x "],
            {"": "the text is empty", " \n": "the text is empty", 7: "7 is a number; expected a text"},
        ),
        ("text", [], {None: "null; expected a text", True: "True is true or false; expected a text"}),
        ("text with _", ["a _ b"], {"a b": "'a b' has no _ in it", " ": "the text is empty"}),
        ("string", ["", "x"], {1.5: "1.5 is a number; expected a text"}),
        ("bool", [True, False], {1: "1 is a number; expected true or false", "True": "'True' is a text"}),
        ("number", [0, -1.5], {True: "True is true or false; expected a number", "3": "'3' is a text"}),
        ("number", [], {float("nan"): "nan is not a finite number", float("inf"): "inf is not a finite number"}),
        ("0..5", [0, 2.6, 5], {5.1: "5.1 is not from 0 to 5", -1: "-1 is not from 0 to 5", "1": "'1' is a text"}),
        ((0, 1), [0, 1], {2: "unknown label 2; expected 0 or 1", True: "unknown label True; expected 0 or 1"}),
        ((0, 1), [], {1.0: "unknown label 1.0; expected 0 or 1", "1": "unknown label '1'; expected 0 or 1"}),
        ((0, 1), [], {None: "null; expected 0 or 1"}),
        ((0, 1, 2), [2], {-1: "unknown label -1 (a label that the data's authors keep hidden); expected 0, 1 or 2"}),
        (("cause", "effect"), ["cause"], {"why": "unknown label 'why'; expected 'cause' or 'effect'"}),
    ],
)
def test_scalar_kinds(kind, good, bad):
    for value in good:
        assert check_row({"x": value}, {"x": kind}) is None
    for value, message in bad.items():
        assert (check_row({"x": value}, {"x": kind}) or "").startswith(f"field 'x': {message}")


@pytest.mark.parametrize(
    "kind, value, message",
    [
        ("texts", ["a", "b"], None),
        ("texts", [], "the list is empty"),
        ("texts", ["a", " "], "entry 2 of the list: the text is empty"),
        ("texts", "a", "'a' is a text; expected a list of texts"),
        ("answers", {"text": ["a"], "answer_start": [3]}, None),
        ("answers", {"text": []}, "'text' in it: the list is empty"),
        ("answers?", {"text": []}, None),
        ("answers?", {"text": [7]}, "'text' in it: entry 1 of the list: 7 is a number; expected a text"),
        ("answers", {"answer_start": []}, "no 'text' in it (it has answer_start)"),
        ("answers", ["a"], "['a'] is a list; expected an object with a list 'text'"),
        ("spans", {"spans": ["3"], "types": ["number"]}, None),
        ("spans", {"spans": []}, "'spans' in it: the list is empty"),
        ("spans", {"spans": ["3"]}, "no 'types' in it (it has spans)"),
        ("spans", {"spans": ["3", "4"], "types": ["number"]}, "1 'types' in it for 2 'spans'"),
        ("spans", {"spans": ["3"], "types": [None]}, "'types' in it: entry 1 of the list: null; expected a text"),
    ],
)
def test_lists(kind, value, message):
    assert check_row({"x": value}, {"x": kind}) == (message and f"field 'x': {message}")


def test_a_missing_field_is_named_with_those_there_are():
    assert check_row({"text": "a", "label": 0}, {"sentence": "text"}) == "no field 'sentence' (fields: text, label)"
    assert check_row({}, {"sentence": "text"}) == "no field 'sentence' (fields: none)"
    row = {"idx": {"question": 3}, "label": 1}
    assert check_row(row, {"idx.question": "number"}) is None
    assert check_row(row, {"idx.answer": "number"}) == "no field 'idx.answer' (fields: idx, label)"
    assert check_row(row, {"label.of": "number"}) == "no field 'label.of' (fields: idx, label)"


def test_a_long_value_is_cut_in_the_message():
    message = check_row({"x": "y" * 500}, {"x": "number"})
    assert message and len(message) < 100 and "..." in message


def test_a_kind_that_does_not_exist_is_the_task_files_mistake():
    with pytest.raises(ValueError, match="no kind of field 'words'"):
        check_row({"x": 1}, {"x": "words"})
