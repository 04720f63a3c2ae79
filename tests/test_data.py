"""Rows come from where the user said, are read only when needed, and every failure names the way out."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from task_files import load_task

from zobench.problems import data, frozen, hub
from zobench.problems.data import Source, locate
from zobench.spec import EnvironmentUnmet, MismatchError, Setting, UsageError

ROWS = Path(__file__).parent / "rows"
INFO = load_task("sst2").INFO


@pytest.fixture(autouse=True)
def no_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("ZOBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def own(tmp_path):
    """A copy of our rows, to be spoilt."""
    shutil.copytree(ROWS, tmp_path / "rows")
    return tmp_path / "rows"


def offline(monkeypatch, cache):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))


def test_rows_keep_the_hubs_field_names():
    rows = locate(INFO, ROWS).rows("train")
    assert len(rows) == 24
    assert set(rows[0]) == {"sentence", "label", "idx"}


def test_the_argument_goes_before_the_environment(own, monkeypatch, tmp_path):
    monkeypatch.setenv("ZOBENCH_DATA", str(own))
    assert locate(INFO).files["train"] == own / "glue/sst2/train.jsonl"
    assert locate(INFO, ROWS).files["train"] == ROWS / "glue/sst2/train.jsonl"


@pytest.mark.parametrize("folder", ["", "sst2", "SST2"])
def test_other_places_inside_the_directory(own, tmp_path, folder):
    target = tmp_path / "elsewhere" / folder
    shutil.copytree(own / "glue/sst2", target)
    assert locate(INFO, tmp_path / "elsewhere").files["validation"].parent == target


def test_parquet_gives_the_same_rows(own):
    import pyarrow.parquet

    folder = own / "glue/sst2"
    expected = locate(INFO, own).rows("train")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(expected), folder / "train.parquet")
    (folder / "train.jsonl").unlink()
    source = locate(INFO, own)
    assert source.files["train"].suffix == ".parquet"
    assert source.rows("train") == expected
    (folder / "train.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(EnvironmentUnmet, match=r"train\.parquet"):
        locate(INFO, own).rows("train")


def test_the_fingerprint_is_of_the_files_content(own):
    first = locate(INFO, own).fingerprint
    assert first == locate(INFO, ROWS).fingerprint
    assert first.startswith("sha256:")
    with open(own / "glue/sst2/validation.jsonl", "a") as file:
        file.write("\n")
    second = locate(INFO, own).fingerprint
    assert second != first
    with pytest.raises(MismatchError, match="not those this job was planned with"):
        locate(INFO, own, fingerprint=first)
    assert locate(INFO, own, fingerprint=second).fingerprint == second


def test_rows_that_are_gone_are_not_replaced_by_the_hubs(own, monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "commit", lambda place: pytest.fail("asked the hub"))
    planned = locate(INFO, own).fingerprint
    with pytest.raises(EnvironmentUnmet, match=rf"planned with are gone \({planned}\)"):
        locate(INFO, fingerprint=planned)


def test_an_explicit_directory_without_the_files_never_falls_back_to_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "commit", lambda place: pytest.fail("asked the hub"))
    with pytest.raises(EnvironmentUnmet) as caught:
        locate(INFO, tmp_path)
    assert str(tmp_path / "glue/sst2") in str(caught.value)


def test_a_directory_of_the_environment_may_lack_a_task(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOBENCH_DATA", str(tmp_path))
    monkeypatch.setattr(hub, "commit", lambda place: "c0ffee")
    assert locate(INFO).fingerprint == "hub:nyu-mll/glue@c0ffee"


def test_no_files_and_no_hub_is_one_line_with_the_way_out(tmp_path, monkeypatch):
    offline(monkeypatch, tmp_path)
    monkeypatch.setenv("ZOBENCH_DATA", str(tmp_path))
    with pytest.raises(EnvironmentUnmet) as caught:
        locate(INFO)
    message = str(caught.value)
    assert "\n" not in message
    for word in (
        "--data DIR",
        "set ZOBENCH_DATA",
        "glue/sst2/train.jsonl",
        "network",
        f"ZOBENCH_DATA={tmp_path} has no",
    ):
        assert word in message


def test_offline_the_cached_commit_stands(tmp_path, monkeypatch):
    offline(monkeypatch, tmp_path)
    refs = tmp_path / "datasets--nyu-mll--glue/refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("0123abcd")
    assert locate(INFO).fingerprint == "hub:nyu-mll/glue@0123abcd"


def test_the_hub_is_read_at_the_commit_split_by_split(monkeypatch):
    calls = []

    def load_dataset(name, config, *, split, revision):
        calls.append((name, config, split, revision))
        return [{"sentence": "x", "label": 0}]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    source = locate(INFO, fingerprint="hub:nyu-mll/glue@abc")
    assert calls == []
    source.rows("train")
    source.rows("train")
    assert calls == [("nyu-mll/glue", "sst2", "train", "abc")]


def test_a_failing_hub_download_is_one_line(monkeypatch):
    def load_dataset(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(EnvironmentUnmet) as caught:
        locate(INFO, fingerprint="hub:nyu-mll/glue@abc").rows("train")
    assert "no route" in str(caught.value)
    assert "\n" not in str(caught.value)


def build(root, **setting):
    return load_task("sst2").build(
        Setting(model="random:opt-nano", data_dir=root, **setting), num_train=12, num_dev=6, num_eval=8
    )


def test_a_missing_field_is_named_with_its_file(own):
    path = own / "glue/sst2/train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({"text": r["sentence"], "label": r["label"]}) + "\n" for r in rows))
    with pytest.raises(EnvironmentUnmet, match=r"train\.jsonl, line \d+: no field 'sentence'"):
        build(own).batch(0)


def test_building_reads_no_rows(tmp_path):
    problem = build(tmp_path)  # an empty directory
    assert problem.model is not None
    with pytest.raises(EnvironmentUnmet):
        problem.batch(0)


def test_scored_on_validation_the_test_rows_are_not_read(own):
    (own / "glue/sst2/validation.jsonl").write_text("{ not JSON")
    problem = build(own, score="validation")
    assert 0 <= problem.evaluate("validation")["accuracy"] <= 1
    assert problem.facts["num_test"] == 0
    with pytest.raises(UsageError, match="test rows are not read"):
        problem.evaluate("test")
    with pytest.raises(EnvironmentUnmet, match=r"validation\.jsonl, line 1"):
        build(own).evaluate("validation")


def test_an_empty_file_is_an_error(own):
    (own / "glue/sst2/train.jsonl").write_text("")
    with pytest.raises(EnvironmentUnmet, match=r"train\.jsonl: there are no rows in it"):
        build(own).batch(0)


def test_importing_and_locating_needs_the_standard_library_only():
    code = (
        "import sys; from zobench.problems.data import locate; "
        f"locate(dict(hub=dict(folder='glue/sst2')), {str(ROWS)!r}); "
        "heavy = {'torch', 'numpy', 'datasets', 'huggingface_hub', 'pyarrow'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROWS.parents[1])


# --- places on the hub ------------------------------------------------------------------------------------------------

FALLBACKS: dict[str, Any] = dict(
    hub=dict(
        id="aps/super_glue",
        config="rte",
        folder="super_glue/rte",
        fallbacks=(
            dict(revision="refs/convert/parquet"),
            dict(id="somebody/mirror", comparable=False, why="another order"),
        ),
    ),
    sizes=dict(train=2, validation=1),
)


def answering(monkeypatch, answers):
    """A hub that knows these: (id, revision) -> (commit, files), or an error."""
    from types import SimpleNamespace

    import huggingface_hub

    asked = []

    def dataset_info(self, name, *, revision, timeout):
        del self, timeout
        asked.append((name, revision))
        answer = answers[name, revision]
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(sha=answer[0], siblings=[SimpleNamespace(rfilename=f) for f in answer[1]])

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    return asked


def absent(family):
    """The hub's error, without the answer over the network that it is otherwise made from."""
    from huggingface_hub import errors

    cls = getattr(errors, family)
    return cls.__new__(cls)


SCRIPT = ("5c12", ["README.md", "super_glue.py"])


@pytest.mark.parametrize(
    "main, converted, fingerprint, note",
    [
        (("aa", ["rte/train.parquet"]), None, "hub:aps/super_glue@aa", ""),
        (SCRIPT, ("bb", ["rte/train/0000.parquet"]), "hub:aps/super_glue:refs/convert/parquet@bb", ""),
        (SCRIPT, "RevisionNotFoundError", "hub:somebody/mirror@cc", "another order"),
        ("RepositoryNotFoundError", "RepositoryNotFoundError", "hub:somebody/mirror@cc", "another order"),
    ],
)
def test_the_next_place_serves_where_one_has_nothing_to_read(monkeypatch, main, converted, fingerprint, note):
    main, converted = (absent(a) if isinstance(a, str) else a for a in (main, converted))
    answers = {
        ("aps/super_glue", None): main,
        ("aps/super_glue", "refs/convert/parquet"): converted,
        # what a fallback does not say is as in the first place, and its own revision is not another one's
        ("somebody/mirror", None): ("cc", []),
    }
    answering(monkeypatch, answers)
    source = locate(FALLBACKS)
    assert (source.fingerprint, source.note) == (fingerprint, note)


def test_a_network_error_is_not_hidden_by_a_fallback(monkeypatch):
    asked = answering(monkeypatch, {("aps/super_glue", None): ConnectionError("no route to host")})
    with pytest.raises(EnvironmentUnmet, match=r"aps/super_glue: the hub cannot be reached \(no route to host\)"):
        locate(FALLBACKS)
    assert asked == [("aps/super_glue", None)]


def test_where_no_place_has_rows_each_says_why(monkeypatch):
    places = [("aps/super_glue", None), ("aps/super_glue", "refs/convert/parquet"), ("somebody/mirror", None)]
    answering(
        monkeypatch, dict(zip(places, [SCRIPT, absent("RevisionNotFoundError"), ConnectionError("lost")], strict=True))
    )
    with pytest.raises(EnvironmentUnmet) as caught:
        locate(FALLBACKS)
    message = str(caught.value)
    for part in (
        "aps/super_glue: it is a script",
        "refs/convert/parquet): not on the hub",
        "(lost)",
        "zobench prepare",
    ):
        assert part in message
    assert "\n" not in message


def test_offline_a_cached_script_is_no_place_either(tmp_path, monkeypatch):
    offline(monkeypatch, tmp_path)
    for name, sha, file in (("aps--super_glue", "aa", "super_glue.py"), ("somebody--mirror", "bb", "README.md")):
        for folder in ("refs", f"snapshots/{sha}"):
            (tmp_path / f"datasets--{name}" / folder).mkdir(parents=True)
        (tmp_path / f"datasets--{name}/refs/main").write_text(sha)
        (tmp_path / f"datasets--{name}/snapshots/{sha}/{file}").write_text("")
    info = {"hub": FALLBACKS["hub"] | {"fallbacks": FALLBACKS["hub"]["fallbacks"][1:]}}
    assert locate(info).fingerprint == "hub:somebody/mirror@bb"


@pytest.mark.parametrize(
    "fingerprint, call",
    [
        ("hub:aps/super_glue@aa", ("aps/super_glue", "rte", dict(split="train", revision="aa"))),
        (
            "hub:aps/super_glue:refs/convert/parquet@bb",  # named file by file: its configurations are folders only
            ("aps/super_glue", None, dict(split="train", revision="bb", data_files={"train": "rte/train/*.parquet"})),
        ),
        ("hub:somebody/mirror@cc", ("somebody/mirror", "rte", dict(split="train", revision="cc"))),
    ],
)
def test_a_planned_job_reads_the_place_that_it_names(monkeypatch, fingerprint, call):
    calls = []

    def load_dataset(name, config, **wanted):
        calls.append((name, config, wanted))
        return [{"premise": "x", "label": 0}]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    source = locate(FALLBACKS, fingerprint=fingerprint)
    assert source.rows("train") == [{"premise": "x", "label": 0}]
    assert calls == [call]
    assert source.where("train", 3) == f"{call[0]} (train), row 4"


def test_a_place_that_the_task_no_longer_names(monkeypatch):
    with pytest.raises(EnvironmentUnmet, match="plan the run again"):
        locate(FALLBACKS, fingerprint="hub:nyu-mll/glue@aa")


@pytest.mark.parametrize(
    "error, next_one",
    [
        (RuntimeError("Dataset scripts are no longer supported, but found super_glue.py"), True),
        (ValueError("BuilderConfig 'rte' not found. Available: ['default']"), True),
        (ValueError("Unknown split \"validation\". Should be one of ['train']."), True),
        (FileNotFoundError("Couldn't find any data file"), True),
        (ConnectionError("Couldn't reach the hub"), False),
        (RuntimeError("out of memory"), False),
    ],
)
def test_which_failures_are_an_answer_of_the_hub(monkeypatch, error, next_one):
    def load_dataset(*args, **kwargs):
        raise error

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(EnvironmentUnmet) as caught:
        locate(FALLBACKS, fingerprint="hub:aps/super_glue@aa").rows("train")
    assert isinstance(caught.value, hub.NotThere) is next_one


# --- splits and fields under other names ------------------------------------------------------------------------------


def write(folder, **splits):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def of(**more):
    return {"hub": dict(id="some/data", folder="data", **more)}


def test_the_file_of_a_split_has_the_hubs_name(tmp_path):
    rows = {"train": [{"x": 1}], "validation": [{"x": 2}], "test": [{"x": 3}], "validation_mismatched": [{"x": 4}]}
    write(tmp_path / "data", **rows)
    assert locate(of(), tmp_path).rows("validation") == [{"x": 2}]
    assert locate(of(validation="test"), tmp_path).rows("validation") == [{"x": 3}]
    assert locate(of(validation="validation_mismatched"), tmp_path).rows("validation") == [{"x": 4}]
    # validation.jsonl serves for the matched pairs, and a file of their full name goes before it
    assert locate(of(validation="validation_matched"), tmp_path).rows("validation") == [{"x": 2}]
    write(tmp_path / "data", validation_matched=[{"x": 5}])
    assert locate(of(validation="validation_matched"), tmp_path).rows("validation") == [{"x": 5}]


@pytest.mark.parametrize("part", ["test", "validation_mismatched"])
def test_no_other_file_plays_the_part_of_a_named_split(tmp_path, part):
    write(tmp_path / "data", train=[{"x": 1}], validation=[{"x": 2}])
    with pytest.raises(EnvironmentUnmet, match=rf"\{{train,{part}\}}\.\{{jsonl,parquet\}}"):
        locate(of(validation=part), tmp_path)


def test_the_same_content_has_the_same_fingerprint_under_either_name(tmp_path):
    for root, name in (("a", "validation"), ("b", "validation_matched")):
        write(tmp_path / root / "data", train=[{"x": 1}], **{name: [{"x": 2}]})
    a, b = (locate(of(validation="validation_matched"), tmp_path / root).fingerprint for root in "ab")
    assert a == b


def test_fields_and_values_of_a_fallback_become_the_tasks(tmp_path):
    other = dict(
        folder="other", rename=dict(label="answer"), values=dict(answer={0: False, 1: True}), comparable=False, why="so"
    )
    info = of(fallbacks=(other,))
    rows = [{"q": "a", "label": 1}, {"q": "b", "label": 0}]
    write(tmp_path / "other", train=rows, validation=rows)
    source = locate(info, tmp_path)
    assert list(source.rows("train")) == [{"q": "a", "answer": True}, {"q": "b", "answer": False}]
    assert source.rows("train")[0]["answer"] is True
    assert source.column("train", "answer") == [True, False]
    assert source.note == "so"
    write(tmp_path / "data", train=[{"q": "c", "answer": True}], validation=rows)  # the first place goes before it
    assert locate(info, tmp_path).note == ""


def test_rows_that_are_skipped_count_for_the_line_only(tmp_path):
    rows = [{"label": label, "t": str(i)} for i, label in enumerate([-1, 0, -1, -1, 2])]
    write(tmp_path / "data", train=rows, validation=rows[1:2])
    source = locate(of(skip=dict(label=-1)), tmp_path)
    assert list(source.rows("train")) == [rows[1], rows[4]]
    assert source.column("train", "label") == [0, 2]
    assert source.where("train", 1).endswith("train.jsonl, line 5")
    assert len(source.rows("validation")) == 1


def test_the_hubs_own_class_is_renamed_and_skipped_the_same_way(monkeypatch):
    import datasets

    table = datasets.Dataset.from_dict({"label": [1, -1, 0], "q": ["a", "b", "c"]})
    monkeypatch.setattr("datasets.load_dataset", lambda *args, **kwargs: table)
    info = of(skip=dict(label=-1), rename=dict(label="answer"), values=dict(answer={0: False, 1: True}))
    source = locate(info, fingerprint="hub:some/data@aa")
    assert list(source.rows("train")) == [{"answer": True, "q": "a"}, {"answer": False, "q": "c"}]
    assert source.column("train", "answer") == [True, False]
    assert source.column("train", "q") == ["a", "c"]
    assert source.where("train", 1) == "some/data (train), row 3"


def test_a_column_that_one_row_lacks_is_named(tmp_path):
    write(tmp_path, train=[{"x": 1}, {"y": 2}])
    source = Source("sha256:00", {"train": tmp_path / "train.jsonl"})
    with pytest.raises(EnvironmentUnmet, match=r"train\.jsonl, line 2: no field 'x'"):
        source.column("train", "x")


def test_a_wrong_value_is_named_with_its_line(own):
    path = own / "glue/sst2/validation.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], "", json.dumps({"sentence": " ", "label": 1}), *lines[4:]]) + "\n")
    wrong = data.check_row(locate(INFO, own).rows("validation")[3], {"sentence": "text", "label": (0, 1)})
    assert wrong == "field 'sentence': the text is empty"
    assert locate(INFO, own).where("validation", 3) == f"{path}, line 5"


# --- frozen rows ------------------------------------------------------------------------------------------------------


def freeze(root, source="hub:nyu-mll/glue@abc"):
    files = {
        name: {"source": source, "rows": 1, "sha256": frozen.file_digest(root / "glue/sst2" / name)}
        for name in ("train.jsonl", "validation.jsonl")
    }
    (root / frozen.NAME).write_text(frozen.text({"glue/sst2": files}))


def test_frozen_rows_are_found_without_being_named(own, monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "commit", lambda place: pytest.fail("asked the hub"))
    shutil.copytree(own, tmp_path / "cache/zobench/data")
    assert locate(INFO).fingerprint == locate(INFO, own).fingerprint
    monkeypatch.setenv("ZOBENCH_DATA", str(own))  # goes before them
    assert locate(INFO).files["train"].is_relative_to(own)


def test_a_job_planned_on_the_hub_reads_the_frozen_rows_of_its_commit(own, monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: pytest.fail("asked the hub"))
    freeze(own)
    monkeypatch.setenv("ZOBENCH_DATA", str(own))
    source = locate(INFO, fingerprint="hub:nyu-mll/glue@abc")
    assert source.fingerprint == "hub:nyu-mll/glue@abc"
    assert len(source.rows("train")) == 24
    assert not locate(INFO, fingerprint="hub:nyu-mll/glue@other").files


def test_a_frozen_file_that_has_changed_is_named(own):
    freeze(own)
    assert locate(INFO, own).files
    path = own / "glue/sst2/validation.jsonl"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(MismatchError, match=r"validation\.jsonl has changed since it was frozen"):
        locate(INFO, own)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 99, "folders": {}}', '{"format": 1}'])
def test_a_list_of_frozen_rows_that_cannot_be_read(own, content):
    (own / frozen.NAME).write_text(content)
    with pytest.raises(EnvironmentUnmet, match=frozen.NAME):
        locate(INFO, own)


def test_a_file_is_hashed_once_while_it_stays_as_it_is(own, monkeypatch):
    path = own / "glue/sst2/train.jsonl"
    first = frozen.file_digest(path)
    reads = []
    monkeypatch.setattr(frozen.hashlib, "file_digest", lambda *a: reads.append(a) or __import__("hashlib").sha256(b""))
    assert frozen.file_digest(path) == first and not reads
    path.write_text("other\n")
    frozen.file_digest(path)
    assert reads
