"""Rows are fetched once, checked, frozen and found again; what goes wrong leaves no half-written file behind."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from zobench import cli, registry
from zobench.prepare import Answer, asked, check, datasets, every, fetch_model, prepare
from zobench.problems import data, frozen, hub
from zobench.registry import Entry
from zobench.spec import EnvironmentUnmet, MismatchError, UsageError

ROOT = Path(__file__).parents[1]
FIELDS = dict(sentence="text", label=(0, 1))
TRAIN = [{"sentence": f"größe {i} ", "label": i % 2, "idx": i} for i in range(4)]
VALIDATION = [{"sentence": "\u2028 x", "label": 1, "idx": 0}, {"sentence": "y", "label": 0, "idx": 1}]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("ZOBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def entry(name="one", folder="some/one", fields=FIELDS, sizes=(4, 2), **more):
    info = dict(
        hub=dict(id="owner/data", config="one", folder=folder, **more),
        fields=fields,
        sizes=dict(train=sizes[0], validation=sizes[1]),
    )
    return Entry("task", name, Path("none"), builtin=True, info=info)


class Hub:
    """In the place of the hub: commits by place, rows by (id, config, split, commit)."""

    def __init__(self, monkeypatch, train=TRAIN, validation=VALIDATION):
        self.rows = {"train": train, "validation": validation}
        self.loaded = []
        monkeypatch.setattr(hub, "commit", self.commit)
        monkeypatch.setattr("datasets.load_dataset", self.load_dataset)

    def commit(self, place):
        return f"c0ffee{len(place['id'])}"

    def load_dataset(self, name, config, *, split, revision, **more):
        self.loaded.append((name, config, split, revision))
        found = self.rows[split]
        if isinstance(found, Exception):
            raise found
        return found


def one(target, *entries, **options):
    (answer,) = prepare(entries or [entry()], target, **options)
    return answer


def files(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()) if root.exists() else []


def lines(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def test_rows_of_the_hub_are_written_with_their_digests(monkeypatch, tmp_path):
    fake = Hub(monkeypatch)
    answer = one(tmp_path / "d")
    assert (answer.state, answer.source, answer.rows) == (
        "frozen",
        "hub:owner/data@c0ffee10",
        {"train": 4, "validation": 2},
    )
    assert fake.loaded == [("owner/data", "one", s, "c0ffee10") for s in ("train", "validation")]
    assert files(tmp_path / "d") == ["some/one/train.jsonl", "some/one/validation.jsonl", "zobench-data.json"]
    folder = tmp_path / "d/some/one"
    assert lines(folder / "train.jsonl") == TRAIN and lines(folder / "validation.jsonl") == VALIDATION
    assert (
        (folder / "train.jsonl")
        .read_text(encoding="utf-8")
        .startswith('{"sentence": "größe 0 ", "label": 0, "idx": 0}\n')
    )
    listed = json.loads((tmp_path / "d/zobench-data.json").read_text())["folders"]["some/one"]
    for split in ("train", "validation"):
        content = (folder / f"{split}.jsonl").read_bytes()
        expected = {"source": answer.source, "rows": len(VALIDATION if split == "validation" else TRAIN)}
        assert listed[f"{split}.jsonl"] == expected | {"sha256": hashlib.sha256(content).hexdigest()}


def test_the_same_rows_give_the_same_bytes_from_the_hubs_class_and_from_parquet(monkeypatch, tmp_path):
    import pyarrow.parquet
    from datasets import ClassLabel, Dataset, Features, Value

    Hub(monkeypatch)
    one(tmp_path / "lists")
    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["no", "yes"]), "idx": Value("int32")})
    Hub(monkeypatch, *(Dataset.from_list(rows, features) for rows in (TRAIN, VALIDATION)))
    one(tmp_path / "class")
    (tmp_path / "local").mkdir()
    for split, rows in (("train", TRAIN), ("validation", VALIDATION)):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"local/{split}.parquet")
    one(tmp_path / "parquet", data_dir=tmp_path / "local")
    for split in ("train", "validation"):
        found = {(tmp_path / kind / f"some/one/{split}.jsonl").read_bytes() for kind in ("lists", "class", "parquet")}
        assert len(found) == 1


def test_after_it_every_run_finds_the_rows_offline(monkeypatch, tmp_path):
    Hub(monkeypatch)
    one(frozen.default_dir())
    monkeypatch.setattr(hub, "commit", lambda place: pytest.fail("asked the hub"))
    source = data.locate(entry().info)
    assert source.rows("train") == TRAIN and source.rows("validation") == VALIDATION
    assert source.fingerprint.startswith("sha256:")
    planned = data.locate(entry().info, fingerprint="hub:owner/data@c0ffee10")  # before the rows were frozen
    assert planned.rows("train") == TRAIN and planned.fingerprint == "hub:owner/data@c0ffee10"


def test_a_second_time_only_digests_are_compared(monkeypatch, tmp_path):
    fake = Hub(monkeypatch)
    one(tmp_path)
    fake.loaded.clear()
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
    again = one(tmp_path)
    assert (again.state, again.source, again.rows) == (
        "frozen already",
        "hub:owner/data@c0ffee10",
        dict(train=4, validation=2),
    )
    assert not fake.loaded
    assert before == {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}


def test_a_file_that_has_changed_is_a_mismatch(monkeypatch, tmp_path):
    Hub(monkeypatch)
    one(tmp_path)
    path = tmp_path / "some/one/validation.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"label": 1', b'"label": 0'))
    answer = one(tmp_path)
    assert answer.code == MismatchError.code == 3
    assert "validation.jsonl has changed since it was frozen" in answer.text
    with pytest.raises(MismatchError, match="1 of 1 not prepared: some/one"):
        check([answer])


def test_a_file_that_is_gone_is_written_again(monkeypatch, tmp_path):
    Hub(monkeypatch)
    one(tmp_path)
    (tmp_path / "some/one/train.jsonl").unlink()
    assert one(tmp_path).state == "frozen"
    assert lines(tmp_path / "some/one/train.jsonl") == TRAIN


def test_other_sizes_are_an_error_unless_allowed_and_the_others_go_on(monkeypatch, tmp_path):
    Hub(monkeypatch)
    small, right = prepare([entry(sizes=(5, 2)), entry("two", "two")], tmp_path)
    assert (small.state, small.code, right.state) == ("failed", EnvironmentUnmet.code, "frozen")
    assert "not the whole data (train 4 of 5 rows); --partial" in small.text
    assert files(tmp_path) == ["two/train.jsonl", "two/validation.jsonl", "zobench-data.json"]
    with pytest.raises(EnvironmentUnmet, match="1 of 2 not prepared: some/one"):
        check([small, right])
    allowed = one(tmp_path, entry(sizes=(5, 2)), partial=True)
    assert allowed.state == "frozen" and "partial data" in allowed.text
    assert one(tmp_path, entry(sizes=(5, 2))).code == EnvironmentUnmet.code  # frozen, and still not whole


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"sentence": "x", "label": 2}], "owner/data (train), row 1: field 'label': unknown label 2; expected 0 or 1"),
        ([*TRAIN[:3], {"sentence": " ", "label": 0}], "owner/data (train), row 4: field 'sentence': the text is empty"),
        ([*TRAIN[:3], {"text": "x"}], "owner/data (train), row 4: no field 'sentence' (fields: text)"),
        ([*TRAIN[:3], {"sentence": "x", "label": 1, "p": float("nan")}], "row 4: not to be written as JSON"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_left(monkeypatch, tmp_path, rows, message):
    Hub(monkeypatch, train=rows)
    answer = one(tmp_path / "d")
    assert answer.state == "failed" and message in answer.text
    assert files(tmp_path / "d") == []


def test_a_wrong_row_of_a_local_file_is_named_with_its_line(tmp_path):
    for split, rows in (("train", TRAIN), ("validation", [*VALIDATION, {"sentence": "z"}])):
        (tmp_path / f"{split}.jsonl").write_text("\n" + "".join(json.dumps(r) + "\n" for r in rows))
    answer = one(tmp_path / "d", data_dir=tmp_path)
    assert f"{tmp_path / 'validation.jsonl'}, line 4: no field 'label'" in answer.text


def test_half_a_surrogate_pair_is_kept_as_json_can_write_it(monkeypatch, tmp_path):
    rows = [{"sentence": "a \ud83d b", "label": 0}]
    Hub(monkeypatch, train=rows)
    assert one(tmp_path, entry(sizes=(1, 2))).state == "frozen"
    assert data.locate(entry().info, tmp_path).rows("train") == rows


# --- places on the hub ------------------------------------------------------------------------------------------------

MIRROR = dict(
    id="somebody/mirror", folder="mirror", rename=dict(text="sentence"), comparable=False, why="another order"
)


def test_where_a_place_cannot_be_read_the_next_one_is_frozen(monkeypatch, tmp_path):
    fake = Hub(monkeypatch)

    def load_dataset(name, config, *, split, revision, **more):
        if name == "owner/data":
            raise RuntimeError("Dataset scripts are no longer supported, but found data.py")
        return [{"text": r["sentence"], "label": r["label"]} for r in fake.rows[split]]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    task = entry(fallbacks=(MIRROR,))
    answer = one(tmp_path, task)
    assert answer.source == "hub:somebody/mirror@c0ffee15"
    assert "not comparable: another order" in answer.text
    assert list(lines(tmp_path / "mirror/train.jsonl")[0]) == ["sentence", "label"]
    found = data.locate(task.info, tmp_path)  # the folder goes on saying what the rows are
    assert found.note == "another order" and found.rows("train")[1]["sentence"] == TRAIN[1]["sentence"]
    assert one(tmp_path, task).state == "frozen already"


def test_a_network_error_ends_the_search(monkeypatch, tmp_path):
    Hub(monkeypatch, train=ConnectionError("no route to host"))
    answer = one(tmp_path, entry(fallbacks=(MIRROR,)))
    assert answer.state == "failed" and "no route to host" in answer.text and "mirror" not in answer.text


def test_the_hubs_name_of_a_split_is_the_files(monkeypatch, tmp_path):
    fake = Hub(monkeypatch)
    fake.rows["test"] = VALIDATION
    assert one(tmp_path, entry(validation="test")).rows == dict(train=4, validation=2)
    assert files(tmp_path)[:2] == ["some/one/test.jsonl", "some/one/train.jsonl"]
    assert data.locate(entry(validation="test").info, tmp_path).rows("validation") == VALIDATION


def test_rows_that_a_task_skips_are_not_written(monkeypatch, tmp_path):
    Hub(monkeypatch, train=[TRAIN[0], {"sentence": "?", "label": -1, "idx": 9}, *TRAIN[1:]])
    assert one(tmp_path, entry(skip=dict(label=-1))).rows["train"] == 4
    assert lines(tmp_path / "some/one/train.jsonl") == TRAIN


# --- tasks that share rows --------------------------------------------------------------------------------------------


def test_tasks_of_one_folder_are_fetched_once_and_all_their_checks_hold(monkeypatch, tmp_path):
    fake = Hub(monkeypatch)
    answer = one(tmp_path, entry("one"), entry("two"))
    assert answer.tasks == ["one", "two"] and len(fake.loaded) == 2
    strict = one(tmp_path / "strict", entry("one"), entry("two", fields=dict(idx=(0, 1, 2))))
    assert "row 4: field 'idx': unknown label 3; expected 0, 1 or 2" in strict.text


def test_two_parts_of_one_folder_are_of_one_commit(monkeypatch, tmp_path):
    fake = Hub(monkeypatch)
    fake.rows["other"] = VALIDATION[:1]
    matched, other = entry("one"), entry("two", sizes=(4, 1), validation="other")
    assert one(tmp_path, matched).state == "frozen"
    monkeypatch.setattr(hub, "commit", lambda place: "later")
    assert one(tmp_path, other).source == "hub:owner/data@c0ffee10"
    assert files(tmp_path)[:3] == [f"some/one/{name}.jsonl" for name in ("other", "train", "validation")]
    for task, rows in ((matched, VALIDATION), (other, VALIDATION[:1])):
        assert one(tmp_path, task).state == "frozen already"
        assert data.locate(task.info, tmp_path).rows("validation") == rows
    assert [a.state for a in prepare([matched, other], tmp_path)] == ["frozen already"] * 2


def test_rows_that_do_not_belong_together_are_refused(monkeypatch, tmp_path):
    fake = Hub(monkeypatch)
    one(tmp_path, entry("one"))
    fake.rows |= {"train": TRAIN[::-1], "other": VALIDATION}
    answer = one(tmp_path, entry("two", validation="other"))
    assert (
        answer.code == MismatchError.code and "train.jsonl has other rows, frozen from hub:owner/data@" in answer.text
    )
    assert len(files(tmp_path)) == 3 and lines(tmp_path / "some/one/train.jsonl") == TRAIN


def test_options_that_choose_the_data_choose_what_is_prepared():
    names = {
        a.name: a.info["hub"]["folder"]
        for a in asked(["squad", "squad[version=2,num_train=5]", "squad[version=[1,2]]"])
    }
    assert names == {"squad": "squad", "squad[version=2]": "squad_v2"}
    assert {"squad", "squad[version=2]"} <= {e.name for e in every()}
    with pytest.raises(UsageError, match="no option"):
        asked(["squad[versions=2]"])


def test_different_data_for_one_folder_is_refused():
    with pytest.raises(UsageError, match="two and one name different data"):
        datasets([entry("one"), other_id(entry("two"))])


def other_id(task):
    return replace(task, info=task.info | {"hub": task.info["hub"] | {"id": "elsewhere"}})


def test_a_task_without_a_place_on_the_hub_has_nothing_to_prepare(tmp_path):
    (answer,) = prepare([registry.find("task", "quadratic")], tmp_path)
    assert answer.state == "nothing to do" and files(tmp_path) == []


def test_every_task_agrees_with_the_others_on_its_folder():
    found = datasets(every())
    assert {d.folder for d in found} >= {"glue/sst2", "squad"}
    for dataset in found:
        assert set(dataset.sizes) == {"train", "validation"}, dataset.tasks


# --- local files ------------------------------------------------------------------------------------------------------


def test_files_that_lie_in_the_target_are_frozen_as_they_are(monkeypatch, tmp_path):
    folder = tmp_path / "some/one"
    folder.mkdir(parents=True)
    for split, rows in (("train", TRAIN), ("validation", VALIDATION)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))  # \u escapes
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    monkeypatch.setenv("ZOBENCH_DATA", str(tmp_path))
    assert one(tmp_path).state == "frozen"
    assert before == {name: (tmp_path / name).read_bytes() for name in before}
    assert one(tmp_path).state == "frozen already"


def test_somebodys_own_files_are_never_written_over(monkeypatch, tmp_path):
    Hub(monkeypatch)
    folder = tmp_path / "some/one"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("mine")
    answer = one(tmp_path)
    assert answer.code == UsageError.code and "train.jsonl is there, and not from zobench prepare" in answer.text
    assert files(tmp_path) == ["some/one/train.jsonl"] and (folder / "train.jsonl").read_text() == "mine"


def test_other_rows_than_the_frozen_ones_are_refused(monkeypatch, tmp_path):
    Hub(monkeypatch)
    one(tmp_path / "a")
    assert (
        one(tmp_path / "b", data_dir=tmp_path / "a").source == "hub:owner/data@c0ffee10"
    )  # a copy says where it is from
    assert one(tmp_path / "b", data_dir=tmp_path / "a").state == "frozen already"
    for split, rows in (("train", TRAIN[::-1]), ("validation", VALIDATION)):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    answer = one(tmp_path / "a", data_dir=tmp_path)
    assert answer.code == MismatchError.code and "has other rows, frozen from hub:owner/data@c0ffee10" in answer.text


def test_the_slices_at_hand_come_through_unchanged(data_dir, tmp_path):
    found = [e for e in every() if "hub" in e.info and data.local(e.info, data_dir)]
    answers = list(prepare(found, tmp_path, data_dir=data_dir, partial=True))
    assert answers and all(answer.state == "frozen" for answer in answers), [a.text for a in answers if a.code]
    for task in found:
        source, copy = data.locate(task.info, data_dir), data.locate(task.info, tmp_path)
        for split in source.files:
            assert list(source.rows(split)) == list(copy.rows(split))
            changed = source.hub.get("rename") or source.hub.get("skip") or source.files[split].suffix == ".parquet"
            assert changed or list(copy.rows(split)) == lines(source.files[split])
        assert source.note == copy.note
    again = list(prepare(found, tmp_path, partial=True))
    assert [a.state for a in again] == ["frozen already"] * len(answers)


# --- a death in the middle --------------------------------------------------------------------------------------------

DIES = """
import os, signal, sys
from pathlib import Path
from zobench import registry
from zobench.prepare import prepare
call, at = sys.argv[1], int(sys.argv[2])
count, real = 0, getattr(os, call)
def dying(*arguments):
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
setattr(os, call, dying)
list(prepare([registry.find("task", "sst2")], Path(sys.argv[3]), Path(sys.argv[4]), partial=True))
"""


@pytest.mark.parametrize("call, at", [("fsync", 1), ("fsync", 3), ("replace", 1), ("replace", 2), ("replace", 3)])
def test_a_death_leaves_whole_files_and_the_next_one_finishes(tmp_path, call, at):
    rows, target = Path(__file__).parent / "rows", tmp_path / "d"
    died = subprocess.run([sys.executable, "-c", DIES, call, str(at), str(target), str(rows)], cwd=ROOT)
    assert died.returncode == -signal.SIGKILL
    task = registry.find("task", "sst2")
    for path in target.rglob("[!.]*.jsonl"):
        assert lines(path) == lines(rows / "glue/sst2" / path.name)
    assert data.local(task.info, target) is None  # both files or none: no run reads a half
    assert one(target, task, data_dir=rows, partial=True).state == "frozen"
    assert one(target, task, data_dir=rows, partial=True).state == "frozen already"


def test_unfinished_writes_of_the_dead_are_swept(monkeypatch, tmp_path):
    Hub(monkeypatch)
    old, young = (tmp_path / f"some/one/.train.jsonl.{pid}.tmp" for pid in (1, 2))
    old.parent.mkdir(parents=True)
    old.write_text("half")
    young.write_text("half")
    os.utime(old, (0, 0))
    one(tmp_path)
    assert not old.exists() and young.exists()


def test_no_room_is_one_line_and_leaves_nothing(monkeypatch, tmp_path):
    Hub(monkeypatch)

    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    answer = one(tmp_path / "d")
    assert answer.code == EnvironmentUnmet.code and "cannot write" in answer.text and "No space left" in answer.text
    assert files(tmp_path) == []
    (tmp_path / "file").write_text("")
    assert "Not a directory" in one(tmp_path / "file/below").text


# --- models -----------------------------------------------------------------------------------------------------------


def test_a_model_is_fetched_without_pickles(monkeypatch, tmp_path):
    asked = []

    def snapshot_download(name, *, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        (tmp_path / "abc").mkdir(exist_ok=True)
        return str(tmp_path / "abc")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("zobench.models.identity.commit", lambda name, kind, revision, way_out: f"{revision}-commit")
    with pytest.raises(EnvironmentUnmet, match=r"no \*\.safetensors"):
        fetch_model("owner/model")
    (tmp_path / "abc/model.safetensors").write_text("")
    assert fetch_model("owner/model", "v1") == Answer("owner/model", "frozen", "commit abc")
    assert asked[-1][:2] == ("owner/model", "v1-commit")
    assert not any(p.endswith((".bin", ".pt", "*")) for p in asked[-1][2])


def test_without_a_network_a_model_is_refused_politely(monkeypatch, nano_dir):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentUnmet, match="HF_HUB_OFFLINE is set; fetch it on a machine with a network"):
        fetch_model("owner/model")
    for name in ("tiny", "random:opt-nano", str(nano_dir)):
        assert fetch_model(name).state == "nothing to do"


# --- zobench doctor ---------------------------------------------------------------------------------------------------


def told(data_dir):
    from zobench.doctor import examine_data

    return [(c.state, c.text) for c in examine_data(data_dir)]


def test_doctor_says_which_rows_are_at_hand(monkeypatch, tmp_path):
    tasks = {"one": entry("one"), "two": entry("two", "two", sizes=(9, 2))}
    monkeypatch.setattr(registry, "entries", lambda kind: tasks)
    nothing = "only on the hub: some/one, two; `zobench prepare -t one,two` fetches and freezes them"
    assert told(None) == [("warn", nothing)]
    Hub(monkeypatch)
    list(prepare([tasks["one"]], frozen.default_dir()))
    list(prepare([tasks["two"]], tmp_path / "own", partial=True))
    assert told(str(tmp_path / "own")) == [
        ("ok", f"{tmp_path / 'own'}, partial (reports rank runs on them apart): two (4 + 2)"),
        ("ok", f"{frozen.default_dir()}, whole: some/one (4 + 2)"),
    ]
    path = frozen.default_dir() / "some/one/train.jsonl"
    path.write_bytes(path.read_bytes()[:-4])
    state, text = told(None)[0]
    assert state == "FAIL" and text.startswith(f"{path} has changed since it was frozen")


# --- the command ------------------------------------------------------------------------------------------------------


def command(*arguments):
    return CliRunner().invoke(cli.main, ["prepare", *map(str, arguments)])


def test_the_command_says_what_it_did_and_how_to_use_it(tmp_path):
    rows = Path(__file__).parent / "rows"
    answer = command("-t", "sst2,squad", "--data", rows, "-o", tmp_path, "--partial")
    assert answer.exit_code == 0
    assert "frozen: glue/sst2 (sst2): 24 train" in answer.stdout
    assert f"set ZOBENCH_DATA={tmp_path}" in answer.stderr
    as_json = json.loads(command("-t", "sst2,SST2", "--data", rows, "-o", tmp_path, "--partial", "--json").stdout)
    assert [(a["name"], a["state"]) for a in as_json] == [("glue/sst2", "frozen already")]


def test_the_command_takes_a_suite(tmp_path):
    suite = tmp_path / "mine.toml"
    suite.write_text('[[run]]\ntasks = ["sst2[num_train=10]", "quadratic"]\noptimizers = ["mezo"]\nmodel = "tiny"\n')
    rows = Path(__file__).parent / "rows"
    answer = command("--suite", suite, "--data", rows, "-o", tmp_path / "d", "--partial")
    assert (
        answer.exit_code == 0 and "nothing to do: quadratic" in answer.stdout and "frozen: glue/sst2" in answer.stdout
    )


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        ([], 2, "name what to prepare"),
        (["-t", "sst3"], 2, "did you mean sst2"),
        (["-t", "sst2", "--suite", "core"], 2, "not both"),
        (["-t", "sst2", "--data", "/nowhere"], 6, "no rows under /nowhere"),
        (["-t", "sst2", "--data", str(ROOT / "tests/rows")], 6, "not the whole data (train 24 of 67349"),
    ],
)
def test_a_mistake_is_one_line_and_its_code(arguments, code, message, tmp_path):
    answer = command(*arguments, "-o", tmp_path)
    assert answer.exit_code == code and message in answer.stderr
    assert "Traceback" not in answer.output and files(tmp_path) == []
