"""The store: what is written reads back equal, appears whole or not at all, and no bad file hides a good one."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import record

from zobench import record as store_format
from zobench.record import (
    COLUMNS,
    LIGHT,
    SCHEMA,
    Unreadable,
    attempts,
    check_writable,
    file_name,
    find,
    json_text,
    read,
    scan,
    schema_markdown,
    standing,
    write,
)
from zobench.spec import EnvironmentUnmet, UsageError

ROOT = Path(__file__).parent.parent
POINT = dict(step=10, forwards=20, backwards=0, seconds=0.5, loss=math.inf, metrics=json_text({"accuracy": 0.5}))


def same(a, b) -> bool:
    """Equal, with nan equal to nan; repr tells -0.0 from 0.0 and 1 from True."""
    return repr(a) == repr(b)


# ---- round trip ----


def test_every_column_reads_back(tmp_path):
    written = record(
        reason="naïve | <b>\n\0 🙂",
        curve=[POINT, POINT | {"loss": math.nan, "metrics": None}],
        trace_header=json_text({"format": 1}),
        trace_values=[0.1, -0.0, math.nan, -math.inf, 5e-324],
        trace_counts=[2, 3],
        trace_events="[]",
        update_gain=math.nan,
        tokens=2**62,
    )
    path = write(written, tmp_path)
    assert same(asdict(read(path)), asdict(written))
    assert path.name == f"{written.cell[:16]}-1.parquet"


values = st.none() | st.floats()
texts = st.none() | st.text(st.characters(codec="utf-8"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=values, reason=texts, trace=st.none() | st.lists(st.floats()), flag=st.none() | st.booleans())
def test_any_value_reads_back(tmp_path, value, reason, trace, flag):
    written = record(value=1.0, reason=reason, trace_values=trace, partial_data=flag)
    written = replace(written, value=value, validation=value)
    assert same(asdict(read(write(written, tmp_path))), asdict(written))


def test_lone_surrogates_do_not_cost_a_run(tmp_path):
    assert read(write(record(reason="caf\udce9"), tmp_path)).reason == "caf\\udce9"


def test_types_come_from_the_schema_not_the_values(tmp_path):
    empty = write(record(status="oom", reason="8 GiB", curve=[], trace_values=[]), tmp_path)
    assert pq.read_schema(empty).equals(SCHEMA)


@pytest.mark.parametrize("json", ['{"accuracy":NaN}', "not json", "[0.5]"])
def test_json_columns_hold_json(tmp_path, json):
    with pytest.raises(ValueError):
        write(record(metrics=json), tmp_path)
    assert not list(tmp_path.iterdir())


def test_json_text_spells_what_json_cannot():
    assert json_text({"b": math.nan, "a": (math.inf, -math.inf)}) == '{"a":["inf","-inf"],"b":"nan"}'


@pytest.mark.parametrize("wrong", [{"seed": "0"}, {"seed": 0.5}, {"task": 3}, {"curve": [{"step": "x"}]}])
def test_a_wrong_type_names_its_column(tmp_path, wrong):
    with pytest.raises(TypeError, match=f"column {next(iter(wrong))}"):
        write(replace(record(), **wrong), tmp_path)


def test_required_columns_and_statuses_are_checked(tmp_path):
    with pytest.raises(ValueError, match="provenance"):
        write(replace(record(), provenance=None), tmp_path)
    with pytest.raises(ValueError, match="status"):
        write(record(status="fine"), tmp_path)


def test_readme_of_results_is_current():
    assert (ROOT / "results" / "README.md").read_text() == schema_markdown()
    assert all(f"| `{name}` |" in schema_markdown() for name in COLUMNS)


def test_record_does_not_import_torch():
    code = "import sys, zobench.record, zobench.report.terminal; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# ---- attempts ----


def test_a_taken_number_is_never_overwritten(tmp_path):
    first, second = record(value=0.1), record(value=0.2)
    paths = [write(first, tmp_path), write(second, tmp_path)]
    assert [r["value"] for r in attempts(tmp_path, first.cell)] == [0.1, 0.2]
    assert (second.attempt, paths[1].name) == (2, file_name(second))
    paths[0].unlink()
    assert write(record(), tmp_path).stem.endswith("-3")  # not into the gap: it is newer than attempt 2


def test_the_newest_ok_attempt_stands(tmp_path):
    for status, value in [("oom", None), ("ok", 0.1), ("ok", 0.2), ("timeout", None)]:
        write(record(status=status, value=value, reason=status), tmp_path)
    write(record(seed=1, status="diverged", value=None, reason="nan at step 3"), tmp_path)
    rows, problems = scan(tmp_path)
    ok, failed = sorted(standing(rows + rows), key=lambda row: row["seed"])  # copies count once
    assert not problems
    assert (ok["value"], ok["attempts"], [f["status"] for f in ok["failures"]]) == (0.2, 4, ["oom", "timeout"])
    assert (failed["status"], failed["attempts"], failed["failures"]) == ("diverged", 1, [])


def test_find(tmp_path):
    paths = [write(record(seed=seed), tmp_path) for seed in range(20)]
    newest = write(record(seed=0), tmp_path)
    cell = record(seed=0).cell
    for run in (str(newest), newest.name, newest.stem, cell, cell[:16], cell[:12].upper()):
        assert find(tmp_path, run) == newest
    assert find(tmp_path, paths[0].name) == paths[0]
    shared = next(c for c in "0123456789abcdef" if sum(p.name.startswith(c) for p in paths) > 1)
    with pytest.raises(UsageError, match="ambiguous"):
        find(tmp_path, shared)
    with pytest.raises(UsageError, match=f"did you mean.*{cell[:16]}"):
        find(tmp_path, cell[:15] + "zz")
    for nothing in ("", "mezo"):
        with pytest.raises(UsageError):
            find(tmp_path, nothing)
    with pytest.raises(UsageError, match="holds no results"):
        find(tmp_path / "absent", cell)


# ---- bad files ----


def test_bad_files_are_named_and_skipped(tmp_path):
    good = write(record(seed=0), tmp_path)
    payload = good.read_bytes()
    bad = {
        "truncated": payload[: len(payload) // 2],
        "empty": b"",
        "text": b"hello\n",
        "flipped": payload[:200] + bytes([payload[200] ^ 1]) + payload[201:],
    }
    for name, content in bad.items():
        (tmp_path / f"{name}.parquet").write_bytes(content)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign.parquet")
    table = pq.read_table(good)
    newer = table.replace_schema_metadata({store_format.VERSION_KEY: b"2.0"})
    pq.write_table(newer, tmp_path / "newer.parquet")
    pq.write_table(pa.concat_tables([table, table]), tmp_path / "double.parquet")
    pq.write_table(table.drop_columns(["provenance"]), tmp_path / "lacking.parquet")
    for name, options in {"null": None, "list": "[]", "broken": "{"}.items():
        position = table.schema.get_field_index("task_options")
        column = pa.field("task_options", pa.string()), pa.array([options], pa.string())
        pq.write_table(table.set_column(position, *column), tmp_path / f"{name}.parquet")
    (tmp_path / "directory.parquet").mkdir()
    (tmp_path / ".unfinished.parquet").write_bytes(b"")
    (tmp_path / "README.md").write_text("no result")

    rows, problems = scan(tmp_path)
    why = {problem.path.stem: problem.why for problem in problems}
    assert [row["path"] for row in rows] == [good]
    assert set(why) == {*bad, "foreign", "newer", "double", "lacking", "directory", "null", "list", "broken"}
    assert "not a result" in why["foreign"] and "upgrade" in why["newer"] and "provenance" in why["lacking"]
    with pytest.raises(Unreadable, match="upgrade"):
        read(tmp_path / "newer.parquet")
    with pytest.raises(Unreadable, match="no such file"):
        read(tmp_path / "absent.parquet")


def test_any_cut_or_flipped_byte_is_survived(tmp_path):
    payload = write(record(), tmp_path).read_bytes()
    damaged = tmp_path / "damaged.parquet"
    for position in range(0, len(payload), len(payload) // 150):
        damaged.write_bytes(payload[:position])
        assert len(scan(tmp_path)[1]) == 1
        damaged.write_bytes(payload[:position] + bytes([payload[position] ^ 0x55]) + payload[position + 1 :])
        assert scan(tmp_path)[0][0]["value"] == 0.9  # the undamaged file, which comes first by name


def test_a_newer_minor_and_an_older_one_are_read(tmp_path):
    path = write(record(), tmp_path)
    table = pq.read_table(path)
    pq.write_table(
        table.append_column("novelty", pa.array([1])).replace_schema_metadata({store_format.VERSION_KEY: b"1.9"}), path
    )
    assert read(path).value == 0.9
    pq.write_table(table.drop_columns(["update_gain", "curve"]), path)
    assert (read(path).curve, scan(path, ["update_gain"])[0][0]["update_gain"]) == (None, None)


def test_a_store_that_does_not_exist_is_empty(tmp_path):
    assert scan(tmp_path / "absent") == ([], [])


# ---- writing when things go wrong ----


def test_a_full_disk_rescues_the_run(tmp_path, monkeypatch):
    store, elsewhere = tmp_path / "store", tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setattr(store_format.tempfile, "tempdir", str(elsewhere))
    fsync = os.fsync

    def full(descriptor):
        if str(store) in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(store_format.os, "fsync", full)
    with pytest.raises(EnvironmentUnmet, match="No space left") as caught:
        check_writable(store)
    with pytest.raises(EnvironmentUnmet, match="No space left") as caught:
        write(record(value=0.75), store)
    (rescued,) = elsewhere.rglob("*.parquet")
    assert str(rescued) in str(caught.value) and "\n" not in str(caught.value)
    assert read(rescued).value == 0.75
    assert not list(store.iterdir())


def test_permission_denied_and_no_rescue(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(store_format.os, "open", denied)
    with pytest.raises(EnvironmentUnmet, match="Permission denied; it is safe"):
        write(record(), tmp_path)
    monkeypatch.setattr(store_format.tempfile, "mkdtemp", denied)
    with pytest.raises(EnvironmentUnmet, match="the result is lost"):
        write(record(), tmp_path)


def test_check_writable(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentUnmet, match="-o DIR"):
        check_writable(tmp_path / "file")


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_without_hard_links_numbers_are_reserved(tmp_path, monkeypatch, code):
    def unsupported(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(store_format.os, "link", unsupported)
    first = write(record(value=0.1), tmp_path)
    (tmp_path / f".{record().cell[:16]}-2.parquet.reserved").touch()  # its writer was killed
    second = write(record(value=0.3), tmp_path)
    assert (read(first).value, read(second).value, second.stem[-2:]) == (0.1, 0.3, "-3")
    assert scan(tmp_path)[1] == []
    assert len(list(tmp_path.iterdir())) == 3


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from records import record
from zobench import record as store_format
if {linkless}:
    def link(*_):
        raise OSError(1, "no links here")
    store_format.os.link = link
store, writer = Path(sys.argv[1]), int(sys.argv[2])
for number in range(int(sys.argv[3])):
    values = [writer + number / 1e6] * 20_000
    store_format.write(record(value=values[0], tokens=number, trace_values=values), store)
    if number == 0:
        print("ready", flush=True)  # the first write also pays for start-up: kills must fall on the later ones
"""


def start_writer(store, writer: int, count: int, linkless: bool = False) -> subprocess.Popen:
    code = WRITER.format(root=str(ROOT), tests=str(ROOT / "tests"), linkless=linkless)
    return subprocess.Popen([sys.executable, "-c", code, str(store), str(writer), str(count)], stdout=subprocess.PIPE)


def test_a_killed_writer_leaves_whole_files_only(tmp_path):
    kills, seen = 30, 0
    writer = start_writer(tmp_path, 0, 10**6)
    for kill in range(kills):
        ready = writer
        if kill + 1 < kills:
            writer = start_writer(tmp_path, kill + 1, 10**6)  # starts up while the one before it dies
        assert ready.stdout.readline()
        time.sleep(0.002 + 0.0037 * (kill % 11))
        os.kill(ready.pid, signal.SIGKILL)
        ready.communicate()
        rows, problems = scan(tmp_path, ["value", "tokens", "attempt", "trace_values"])
        assert not problems
        assert len(rows) >= seen
        seen = len(rows)
        for row in rows[-3:]:
            assert row["trace_values"] == [row["value"]] * 20_000
    # each writer's runs are a prefix of what it wrote
    by_writer: dict[int, list[int]] = {}
    for row in sorted(rows, key=lambda row: row["attempt"]):
        by_writer.setdefault(int(row["value"]), []).append(row["tokens"])
    assert seen > kills and all(tokens == list(range(len(tokens))) for tokens in by_writer.values())


@pytest.mark.parametrize("linkless", [False, True])
def test_two_writers_of_one_cell_lose_nothing(tmp_path, linkless):
    writers = [start_writer(tmp_path, writer, 40, linkless) for writer in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    for writer in writers:
        writer.stdout.close()
    rows, problems = scan(tmp_path)
    assert not problems
    assert sorted((int(r["value"]), r["tokens"]) for r in rows) == [(w, n) for w in range(2) for n in range(40)]
    assert sorted(row["attempt"] for row in rows) == list(range(1, 81))
    assert all(row["path"].stem.endswith(f"-{row['attempt']}") for row in rows)


def test_light_columns_leave_out_what_grows():
    assert set(COLUMNS) - set(LIGHT) == {"curve", "trace_header", "trace_values", "trace_counts", "trace_events"}
