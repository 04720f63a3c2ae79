"""Rows come from where the user said, are read only when needed, and every failure names the way out."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from task_files import load_task

from zobench.problems import data
from zobench.problems.data import locate
from zobench.spec import EnvironmentUnmet, MismatchError, Setting, UsageError

ROWS = Path(__file__).parent / "rows"
INFO = load_task("sst2").INFO


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("ZOBENCH_DATA", raising=False)


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


def test_an_explicit_directory_without_the_files_never_falls_back_to_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "hub_commit", lambda hub: pytest.fail("asked the hub"))
    with pytest.raises(EnvironmentUnmet) as caught:
        locate(INFO, tmp_path)
    assert str(tmp_path / "glue/sst2") in str(caught.value)


def test_a_directory_of_the_environment_may_lack_a_task(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOBENCH_DATA", str(tmp_path))
    monkeypatch.setattr(data, "hub_commit", lambda hub: "c0ffee")
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
    renamed = dict(INFO["hub"], validation="validation_matched")
    data.load_hub(renamed, "validation", "hub:nyu-mll/glue@abc")
    assert calls[-1][2] == "validation_matched"


def test_a_failing_hub_download_is_one_line(monkeypatch):
    def load_dataset(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(EnvironmentUnmet) as caught:
        locate(INFO, fingerprint="hub:nyu-mll/glue@abc").rows("train")
    assert "no route" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ['{"sentence": "x", ', "[1, 2]"])
def test_a_broken_line_is_named(own, line):
    with open(own / "glue/sst2/train.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(EnvironmentUnmet, match=r"train\.jsonl, line 25: not"):
        locate(INFO, own).rows("train")


def build(root, **setting):
    return load_task("sst2").build(
        Setting(model="random:opt-nano", data_dir=root, **setting), num_train=12, num_dev=6, num_eval=8
    )


def test_a_missing_field_is_named_with_its_file(own):
    path = own / "glue/sst2/train.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({"text": r["sentence"], "label": r["label"]}) + "\n" for r in rows))
    with pytest.raises(EnvironmentUnmet, match=r"train\.jsonl, row \d+: no field 'sentence'"):
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
    with pytest.raises(EnvironmentUnmet, match="0 rows leave none to train on"):
        build(own).batch(0)


def test_importing_and_locating_needs_the_standard_library_only():
    code = (
        "import sys; from zobench.problems.data import locate; "
        f"locate(dict(hub=dict(folder='glue/sst2')), {str(ROWS)!r}); "
        "heavy = {'torch', 'numpy', 'datasets', 'huggingface_hub', 'pyarrow'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROWS.parents[1])
