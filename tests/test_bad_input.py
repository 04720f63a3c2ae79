"""What does not belong in a store is skipped with a line that names it; what contradicts itself is said; nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from records import ENVIRONMENT, record

from zobench.record import SCHEMA, VERSION_KEY, Problem, _encode, json_text, write
from zobench.report import index
from zobench.report.read import load
from zobench.spec import NothingMeasured

GOOD = record(curve=[dict(step=1, forwards=2, backwards=0, seconds=0.1, loss=0.5, metrics='{"accuracy":0.9}')])
TABLE = pq.read_table(pa.BufferReader(_encode(GOOD)))


def save(table: pa.Table, path: Path, version: bytes = SCHEMA.metadata[VERSION_KEY]) -> None:
    pq.write_table(table.replace_schema_metadata({VERSION_KEY: version}), path)


def changed(name: str, value, kind: pa.DataType | None = None) -> pa.Table:
    """The good table with one column changed."""
    position = TABLE.schema.get_field_index(name)
    array = pa.array([value], kind or TABLE.schema.field(name).type)
    return TABLE.set_column(position, pa.field(name, array.type), array)


def curve(metrics: str) -> list[dict]:
    return [dict(step=1, forwards=2, backwards=0, seconds=0.1, loss=0.5, metrics=metrics)]


def damage(store: Path) -> dict[str, str]:
    """Every kind of file that is no result; name -> what must be said of it."""
    payload = _encode(GOOD)
    files = {
        "zero": b"",
        "text": b"hello",
        "half": payload[: len(payload) // 2],
        "no-footer": payload[:-8],
        "flipped": payload[:2000] + bytes([payload[2000] ^ 0xFF]) + payload[2001:],
    }
    for name, content in files.items():
        (store / f"{name}.parquet").write_bytes(content)
    pq.write_table(pa.table({"a": [1, 2]}), store / "foreign.parquet")
    save(TABLE, store / "newer.parquet", b"2.0")
    save(TABLE, store / "no-version.parquet", b"new")
    save(pa.concat_tables([TABLE, TABLE]), store / "two-rows.parquet")
    save(TABLE.slice(0, 0), store / "no-row.parquet")
    save(TABLE.drop_columns(["provenance"]), store / "lacking.parquet")
    save(changed("value", "0.9", pa.string()), store / "value-is-text.parquet")
    save(changed("seed", "0", pa.string()), store / "seed-is-text.parquet")
    save(changed("seed", None), store / "seed-is-null.parquet")
    save(changed("curve", [1.0], pa.list_(pa.float64())), store / "curve-of-numbers.parquet")
    save(changed("task_options", "[]"), store / "options-are-a-list.parquet")
    save(changed("facts", "{"), store / "facts-are-cut.parquet")
    save(changed("facts", "[" * 100_000), store / "facts-are-deep.parquet")
    save(changed("facts", json_text({"a": "x" * 2**24})), store / "facts-are-huge.parquet")
    save(changed("curve", curve("{")), store / "metrics-are-cut.parquet")
    save(changed("curve", curve("1},{")), store / "metrics-are-two.parquet")
    save(changed("curve", curve("[1]")), store / "metrics-are-a-list.parquet")
    save(changed("reason", b"\xff\xfe", pa.binary()).cast(TABLE.schema, safe=False), store / "no-utf8.parquet")
    (store / "folder.parquet").mkdir()
    os.mkfifo(store / "pipe.parquet")
    (store / "loop.parquet").symlink_to(store / "loop.parquet")
    (store / "dangling.parquet").symlink_to(store / "nowhere")
    unreadable = dict.fromkeys(
        ("zero", "text", "half", "no-footer", "flipped", "no-utf8"), "not a readable Parquet file"
    )
    points = dict.fromkeys(("metrics-are-cut", "metrics-are-two", "metrics-are-a-list"), "a point of its curve")
    facts = dict.fromkeys(("facts-are-cut", "facts-are-deep"), "column facts is no JSON object")
    return unreadable | points | facts | {
        "foreign": "not a result of zobench",
        "no-version": "not a result of zobench",
        "newer": "schema 2.0, this zobench reads 1.",
        "two-rows": "2 rows",
        "no-row": "0 rows",
        "lacking": "lacks the column provenance",
        "value-is-text": "column value is string, a result has double",
        "seed-is-text": "column seed is string, a result has int64",
        "seed-is-null": "column seed is null",
        "curve-of-numbers": "column curve is list",
        "options-are-a-list": "column task_options is no JSON object",
        "facts-are-huge": "column facts holds 16 MiB",
        "folder": "a directory, not a file",
        "pipe": "a pipe or device, not a file",
        "loop": "too many levels of symbolic links",
        "dangling": "a link to a file that does not exist",
    }  # fmt: skip


def strangers(store: Path) -> None:
    """Names that are nobody's result, and are nobody's problem."""
    (store / ".0123456789abcdef-1.parquet.77-ab.tmp").write_bytes(b"PAR1")
    (store / ".hidden.parquet").write_bytes(b"PAR1")
    (store / "README.md").write_text("text")
    (store / "table.csv").write_text("a,b")
    (store / "deeper").mkdir()


@pytest.mark.parametrize("small", [0, 10**6], ids=["indexed", "direct"])
def test_each_is_skipped_with_one_line_that_names_it(tmp_path, monkeypatch, small):
    monkeypatch.setattr(index, "SMALL", small)
    monkeypatch.setattr(index, "TICK", 0)
    good = write(GOOD, tmp_path)
    strangers(tmp_path)
    expected = damage(tmp_path)
    for _ in range(2):
        frame, problems = load([tmp_path])
        said = {problem.path.stem: problem.why for problem in problems}
        assert frame["path"].tolist() == [good]
        assert set(said) == set(expected) and len(problems) == len(expected)
        for name, part in expected.items():
            assert part in said[name], name
        assert all("\n" not in why and len(why) < 300 for why in said.values())
        assert "upgrade zobench" in said["newer"]
    assert (tmp_path / index.FOLDER).exists() == (small == 0)


def test_problems_do_not_depend_on_the_columns_asked_for(tmp_path):
    write(GOOD, tmp_path)
    damage(tmp_path)
    assert load([tmp_path], columns=("cell",))[1] == load([tmp_path])[1]


def test_the_command_reports_and_names_them(tmp_path):
    write(GOOD, tmp_path)
    expected = damage(tmp_path)
    done = command("report", tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    for name in expected:
        assert f"{name}.parquet" in done.stderr + done.stdout, name


def command(*arguments) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "zobench", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env=os.environ | {"COLUMNS": "400"})


def test_a_store_without_results_is_exit_5_with_the_way_out(tmp_path):
    done = command("report", tmp_path)
    assert done.returncode == 5 and "zobench run -t TASK -O OPTIMIZER" in done.stderr
    expected = damage(tmp_path)
    done = command("report", tmp_path)
    assert done.returncode == 5 and f"{len(expected)} files were skipped" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "curve-of-numbers.parquet" in done.stderr
    with pytest.raises(NothingMeasured, match=r"no results in .*absent; make some"):
        load([tmp_path / "absent"])


def test_one_file_is_a_store(tmp_path):
    good = write(GOOD, tmp_path)
    frame, problems = load([good])
    assert frame["path"].tolist() == [good] and not problems
    damage(tmp_path)
    with pytest.raises(NothingMeasured, match=r"1 file was skipped: .*half.parquet: not a readable"):
        load([tmp_path / "half.parquet"])


def test_older_schemas_and_newer_minors_are_read(tmp_path):
    late = ("final_digest", "lockstep", "jvps", "facts", "update_gain", "curve")
    save(TABLE.drop_columns(list(late)), tmp_path / "old.parquet", b"1.0")
    novel = changed("cell", "f" * 64).append_column("novelty", pa.array([[1]])).append_column("more", pa.array(["x"]))
    save(novel, tmp_path / "new.parquet", b"1.99")
    frame, problems = load([tmp_path], columns=("cell", "facts", "value", "points"))
    assert not problems and frame["value"].tolist() == [0.9, 0.9]
    by_name = {path.stem: points for path, points in zip(frame["path"], frame["points"], strict=True)}
    assert len(by_name["old"]) == 0 and by_name["new"]["value"].tolist() == [0.9]


def test_permission_denied_is_said(tmp_path, monkeypatch):
    good, closed = write(GOOD, tmp_path), write(record(seed=1), tmp_path)
    read_bytes = Path.read_bytes

    def refuse(path):
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    frame, problems = load([tmp_path])
    assert frame["path"].tolist() == [good] and problems == [Problem(closed, "permission denied", "access")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied_by_the_system(tmp_path):
    good, closed = write(GOOD, tmp_path), write(record(seed=1), tmp_path)
    closed.chmod(0)
    frame, problems = load([tmp_path])
    assert frame["path"].tolist() == [good] and problems == [Problem(closed, "permission denied", "access")]
    tmp_path.chmod(0)
    with pytest.raises(NothingMeasured, match="permission denied"):
        load([tmp_path])
    tmp_path.chmod(0o700)


def test_a_file_that_vanishes_after_the_listing_is_no_problem(tmp_path, monkeypatch):
    good, going = write(GOOD, tmp_path), write(record(seed=1), tmp_path)
    listing = index.listing

    def late(store):
        found = listing(store)
        going.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(index, "listing", late)
    frame, problems = load([tmp_path])
    assert frame["path"].tolist() == [good] and not problems


# ---- duplicates ----


def environment(**changes) -> str:
    return json_text(ENVIRONMENT | changes)


def test_copies_count_once(tmp_path):
    path = write(GOOD, tmp_path / "a")
    shutil.copy(path, tmp_path / "a" / "again.parquet")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    save(TABLE, tmp_path / "b" / "rewritten.parquet")  # other bytes, the same run
    for stores in (["a"], ["a", "a"], ["a", "b"], ["b", "a"]):
        frame, problems = load([tmp_path / name for name in stores])
        assert (len(frame), frame["attempts"][0], problems) == (1, 1, [])


def test_contradictory_runs_are_named_and_the_newest_stands(tmp_path):
    old = write(record(value=0.8, final_digest="aa", environment=environment(started="2026-01-01")), tmp_path)
    new = write(record(value=0.9, final_digest="bb", environment=environment(started="2026-01-02")), tmp_path)
    frame, problems = load([tmp_path])
    assert frame["value"].tolist() == [0.9] and frame["path"].tolist() == [new]
    why = f"contradicts {new}, the same run by the same code: value 0.8 against 0.9; the newest stands"
    assert problems == [Problem(old, why, "duplicate")]


def test_equal_values_of_other_weights_contradict_too(tmp_path):
    stores = [tmp_path / "a", tmp_path / "b"]
    for store, digest, day in zip(stores, ("aa", "bb"), ("01", "02"), strict=True):
        write(record(final_digest=digest, environment=environment(started=f"2026-01-{day}")), store)
    ((path, why, kind),) = load(stores)[1]
    assert path.parent == stores[0] and str(stores[1]) in why and "other weights" in why and kind == "duplicate"


AGREEING = {
    "failed": dict(status="diverged", value=None, reason="nan"),
    "other code": dict(value=0.8, provenance="beef" * 16),
    "other machine": dict(value=0.8, environment=environment(hardware="GPU")),
    "same value, digest unknown": dict(final_digest=None),
    "part of the data": dict(value=0.8, partial_data=True),
}


@pytest.mark.parametrize("change", AGREEING.values(), ids=AGREEING)
def test_what_is_no_contradiction(tmp_path, change):
    write(record(final_digest="aa"), tmp_path)
    write(record(**{"final_digest": "bb", "step_seconds": 7.0} | change), tmp_path)
    frame, problems = load([tmp_path])
    assert (len(frame), frame["attempts"][0], problems) == (1, 2, [])


def test_nan_agrees_with_nan_and_seconds_decide_nothing(tmp_path):
    for seconds in (1.0, 2.0):
        write(record(value=float("nan"), metrics="{}", step_seconds=seconds), tmp_path)
        write(record(seed=1, budget="time=60s", value=seconds), tmp_path)
    frame, problems = load([tmp_path])
    assert len(frame) == 2 and not problems


def test_doctor_speaks_of_the_index(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SMALL", 0)
    monkeypatch.setattr(index, "TICK", 0)
    from zobench.doctor import _store

    path = write(GOOD, tmp_path)
    write(record(seed=1), tmp_path)
    load([tmp_path])
    if not list((tmp_path / index.FOLDER).glob("*.parquet")):  # the clock of the disk had not ticked
        load([tmp_path])
    path.unlink()
    write(record(seed=2), tmp_path)
    (check,) = [check for check in _store(tmp_path) if check.name == "index"]
    assert (
        check.state == "ok"
        and "1 of 2 runs" in check.text
        and "1 stale" in check.text
        and "safe to delete" in check.text
    )
    assert not any("unfinished" in check.text for check in _store(tmp_path))
    assert json.dumps(check.to_json())
