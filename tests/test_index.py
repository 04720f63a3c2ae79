"""The index of a store says what its files say: after any change, damage or kill, and beside other readers and writers."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import record

from zobench.record import _encode, file_name, write
from zobench.report import index, read

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
COLUMNS = ("cell", "attempt", "seed", "status", "value", "metrics", "partial_data", "environment", "points")


@pytest.fixture
def eager(monkeypatch):
    """Index every store, and each file as soon as the clock of the disk has ticked since it was written."""
    monkeypatch.setattr(index, "SMALL", 0)
    monkeypatch.setattr(index, "TICK", 0)


def point(step: int, metrics: dict | None, **others) -> dict:
    text = None if metrics is None else json.dumps(metrics)
    return dict(step=step, forwards=2 * step, backwards=0, seconds=0.5 * step, loss=1.0, metrics=text) | others


def run(seed: int = 0, value: float | None = 0.9, **others):
    curve = [point(0, {"accuracy": 0.5, "loss": 0.7}), point(1, None), point(2, {"accuracy": value})]
    return record(seed=seed, value=value, **{"curve": curve} | others)


def direct(store: Path, columns=COLUMNS) -> tuple[pd.DataFrame, list]:
    """The same store read file by file, by one who has no index."""
    rows = index._Rows(columns)
    stamps, rows.problems = index.listing(store)
    rows.read([store / name for name in sorted(stamps)])
    return rows.frame(), sorted(rows.problems)


def plain(frame: pd.DataFrame) -> list[str]:
    """Values with their types, as text in which nan equals nan."""
    records = zip(*(frame[name] for name in frame), strict=True)
    return [repr([v.tolist() if isinstance(v, np.ndarray) else v for v in values]) for values in records]


def same(store: Path) -> None:
    frame, problems = index.scan(store, COLUMNS)
    expected, wrong = direct(store)
    assert plain(frame) == plain(expected)
    assert problems == wrong


def segments(store: Path) -> list[Path]:
    return sorted((store / index.FOLDER).glob("[!.]*.parquet"))


def tick() -> None:
    time.sleep(0.012)  # the clock of a disk ticks every 4 or 10 ms


def fill(store: Path, count: int = 3) -> list[Path]:
    paths = [write(run(seed=seed, value=seed / 10), store) for seed in range(count)]
    tick()
    return paths


def rewrite(path: Path) -> float:
    """Put another run of the very same size into a file; its value."""
    for value in np.linspace(0.5, 0.6, 1000).round(4).tolist():
        payload = _encode(record(value=value))
        if len(payload) == path.stat().st_size:
            path.write_bytes(payload)
            return value
    raise AssertionError("no run of that size")


# ---- what is in a row ----


def test_points_are_the_evaluated_ones_of_the_ranked_metric(tmp_path, eager):
    curve = [
        point(0, {"accuracy": 0.5, "loss": 9.0}),
        point(1, None),  # not evaluated
        point(2, {"accuracy": "nan"}, backwards=7),  # as json_text writes what JSON cannot hold
        point(3, {"loss": 1.0}),  # evaluated by another metric
        point(4, {"accuracy": "-inf"}, seconds=None),
    ]
    write(record(seed=1, curve=curve), tmp_path)
    write(record(seed=2, curve=None), tmp_path)
    write(record(seed=3, curve=curve, metric=None, status="error", value=None), tmp_path)
    tick()
    for _ in range(2):  # from the file, then from the index
        frame, problems = index.scan(tmp_path, ("seed", "points"))
        points = dict(zip(frame["seed"], frame["points"], strict=True))
        assert not problems and all(p.dtype == index.POINT_DTYPE for p in points.values())
        expected = "[(0, 0, 0, 0.0, 0.5), (2, 4, 7, 1.0, nan), (4, 8, 0, nan, -inf)]"
        assert repr(points[1].tolist()) == expected
        assert len(points[2]) == len(points[3]) == 0


def test_types_and_none_survive_the_index(tmp_path, eager):
    write(run(value=None, status="diverged", partial_data=None, steps=None), tmp_path)
    write(run(seed=2**62, value=math.nan, partial_data=True, peak_bytes=2**60 + 1), tmp_path)
    write(run(seed=2, value=-math.inf, partial_data=False), tmp_path)
    tick()
    columns = ("seed", "value", "partial_data", "steps", "peak_bytes", "suite")
    first, _ = index.scan(tmp_path, columns)
    assert segments(tmp_path)
    for frame in (first, index.scan(tmp_path, columns)[0]):
        by_seed = {row[0]: row for row in frame[list(columns)].itertuples(index=False)}
        assert {str(kind) for kind in frame.dtypes} == {"object"}
        assert by_seed[0][1:4] == (None, None, None)
        assert by_seed[2**62][2] is True and by_seed[2**62][4] == 2**60 + 1 and math.isnan(by_seed[2**62][1])
        assert by_seed[2][1:3] == (-math.inf, False) and type(by_seed[2][3]) is int


def test_an_unknown_column_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="trace_values"):
        index.scan(tmp_path, ("cell", "trace_values"))


def test_the_committed_results(tmp_path, eager, monkeypatch):
    """A copy, so that this test indexes every file whatever the checkout's index holds."""
    for path in sorted(RESULTS.glob("*.parquet"))[::12]:
        shutil.copy(path, tmp_path)
    tick()
    same(tmp_path)
    read_files = []
    monkeypatch.setattr(index, "read_table", lambda files, columns: read_files.append(files))
    frame, _ = index.scan(tmp_path, COLUMNS)
    assert len(frame) > 80 and not read_files
    monkeypatch.undo()
    assert plain(frame) == plain(direct(tmp_path)[0])


# ---- when an entry counts ----


def test_only_what_changed_is_read_again(tmp_path, eager, monkeypatch):
    paths = fill(tmp_path, 5)
    index.scan(tmp_path, COLUMNS)
    paths[0].unlink()
    paths[1].write_bytes(_encode(run(seed=1, value=0.77)))
    new = write(run(seed=9), tmp_path)
    opened = []
    original = index.read_table

    def spy(files, columns):
        opened.extend(files)
        return original(files, columns)

    monkeypatch.setattr(index, "read_table", spy)
    frame, _ = index.scan(tmp_path, COLUMNS)
    assert sorted(opened) == sorted([paths[1], new])
    assert sorted(frame["value"]) == [0.2, 0.3, 0.4, 0.77, 0.9]


def test_a_change_within_a_tick_of_the_clock_is_seen(tmp_path, monkeypatch):
    """Same size, same times as far as the disk can tell: such a file has no entry yet."""
    monkeypatch.setattr(index, "SMALL", 0)
    path = write(record(value=0.25), tmp_path)
    assert index.scan(tmp_path, COLUMNS)[0]["value"].tolist() == [0.25]
    before = path.stat()
    stamps = {path.name: index.Stamp(before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino)}
    value = rewrite(path)
    monkeypatch.setattr(index, "listing", lambda _: (stamps, []))  # the coarsest of clocks
    assert index.scan(tmp_path, COLUMNS)[0]["value"].tolist() == [value]
    assert not segments(tmp_path)


def test_a_change_that_keeps_size_and_time_of_writing_is_seen(tmp_path, eager):
    path = write(record(value=0.25), tmp_path)
    tick()
    index.scan(tmp_path, COLUMNS)
    assert segments(tmp_path)
    before = path.stat()
    value = rewrite(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert index.scan(tmp_path, COLUMNS)[0]["value"].tolist() == [value]


def test_a_file_of_the_future_is_read_each_time(tmp_path, eager):
    path = fill(tmp_path, 1)[0]
    os.utime(path, (2**32, 2**32))
    same(tmp_path)
    assert not segments(tmp_path)


def test_bad_files_are_remembered_and_named_each_time(tmp_path, eager, monkeypatch):
    fill(tmp_path, 1)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 but no more")
    (tmp_path / "folder.parquet").mkdir()
    tick()
    _, first = index.scan(tmp_path, COLUMNS)
    monkeypatch.setattr(index, "read_table", None)
    _, second = index.scan(tmp_path, COLUMNS)
    assert first == second and [p.path.name for p in first] == ["folder.parquet", "torn.parquet"]


def test_what_the_system_refuses_is_not_remembered(tmp_path, eager, monkeypatch):
    (path,) = fill(tmp_path, 1)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        frame, problems = index.scan(tmp_path, COLUMNS)
    assert frame.empty and problems == [(path, "permission denied", "access")]
    frame, problems = index.scan(tmp_path, COLUMNS)
    assert len(frame) == 1 and not problems


PAYLOADS = [_encode(run(seed=seed, value=value)) for seed in range(3) for value in (0.25, 0.5)] + [b"", b"no result"]
STEP = st.tuples(
    st.sampled_from("write write write replace delete touch cut flip truncate remove foreign older junk wait".split()),
    st.integers(0, 5),
    st.integers(0, 2**16),
)


def change(store: Path, what: str, which: int, number: int) -> None:
    """One thing that may happen to a store or to its index."""
    path = store / f"{which}.parquet"
    entries = segments(store)
    segment = entries[which % len(entries)] if entries else None
    payload = PAYLOADS[number % len(PAYLOADS)]
    if what == "write":
        path.write_bytes(payload)
    elif what == "replace":
        (store / ".new").write_bytes(payload)
        os.replace(store / ".new", path)
    elif what == "delete":
        path.unlink(missing_ok=True)
    elif what == "touch" and path.exists():
        os.utime(path)
    elif what == "cut" and path.exists():
        os.truncate(path, path.stat().st_size // 2)
    elif what == "foreign":
        (store / index.FOLDER).mkdir(exist_ok=True)
        pq.write_table(pa.table({"a": [number]}), store / index.FOLDER / "foreign.parquet")
    elif what == "junk":
        (store / index.FOLDER).mkdir(exist_ok=True)
        (store / index.FOLDER / ".0.parquet.tmp").write_bytes(payload)
    elif what == "wait":
        tick()
    elif segment:
        content = bytearray(segment.read_bytes())
        if what == "flip":
            content[number % len(content)] ^= 0x55
            segment.write_bytes(content)
        elif what == "truncate":
            os.truncate(segment, number % len(content))
        elif what == "remove":
            segment.unlink()
        elif what == "older":
            with contextlib.suppress(pa.ArrowException, OSError):  # flipped before
                table = pq.read_table(segment)
                pq.write_table(table.replace_schema_metadata({index.HEADER: b"0"}), segment)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=12))
def test_whatever_happens_the_index_says_what_the_files_say(tmp_path_factory, eager, steps):
    store = tmp_path_factory.mktemp("store")
    for step in [("write", 0, 0), ("write", 1, 3), ("wait", 0, 0), *steps]:
        change(store, *step)
        same(store)
    shutil.rmtree(store)


def test_every_cut_and_many_flipped_bytes_of_a_segment(tmp_path, eager):
    fill(tmp_path)
    index.scan(tmp_path, COLUMNS)
    expected = plain(direct(tmp_path)[0])
    (segment,) = segments(tmp_path)
    payload = segment.read_bytes()
    for position in range(0, len(payload), len(payload) // 25):
        for damaged in (
            payload[:position],
            payload[:position] + bytes([payload[position] ^ 0x41]) + payload[position + 1 :],
        ):
            for path in segments(tmp_path):
                path.unlink()
            segment.write_bytes(damaged)
            assert plain(index.scan(tmp_path, COLUMNS)[0]) == expected


# ---- segments ----


def test_new_files_are_added_as_segments_which_are_put_together(tmp_path, eager):
    counts = []
    for seed in range(3 * index.SEGMENTS):
        write(run(seed=seed), tmp_path)
        tick()
        same(tmp_path)
        counts.append(len(segments(tmp_path)))
    assert counts[:3] == [1, 2, 3] and max(counts) <= index.SEGMENTS and min(counts[index.SEGMENTS :]) <= 2
    state = index.state(tmp_path)
    assert (state.rows, state.stale, state.missing, state.doubtful) == (3 * index.SEGMENTS, 0, 0, 0)


def test_damage_where_a_report_did_not_look_does_not_stop_the_joining(tmp_path, eager):
    for seed in range(index.SEGMENTS):
        write(run(seed=seed), tmp_path)
        tick()
        index.scan(tmp_path, ("seed",))
    damaged = segments(tmp_path)[0]
    group = pq.read_metadata(damaged).row_group(0)
    job = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "job")
    content = bytearray(damaged.read_bytes())
    content[job.dictionary_page_offset + job.total_compressed_size - 1] ^= 0x55
    damaged.write_bytes(content)
    write(run(seed=99), tmp_path)
    tick()
    assert len(index.scan(tmp_path, ("seed",))[0]) == index.SEGMENTS + 1
    assert not damaged.exists() and index.state(tmp_path).rows == index.SEGMENTS
    same(tmp_path)
    assert index.state(tmp_path).rows == index.SEGMENTS + 1


def test_a_long_reading_that_is_stopped_keeps_what_was_published(tmp_path, eager, monkeypatch):
    fill(tmp_path, 12)
    monkeypatch.setattr(index, "BATCH", 2)
    monkeypatch.setattr(index, "FULL", 4)
    original, reads = index.read_table, []

    def stopped(files, columns):
        reads.append(files)
        if len(reads) == 4:
            raise KeyboardInterrupt
        return original(files, columns)

    with monkeypatch.context() as patch:
        patch.setattr(index, "read_table", stopped)
        with pytest.raises(KeyboardInterrupt):
            index.scan(tmp_path, COLUMNS)
    assert not list((tmp_path / index.FOLDER).glob(".*.tmp"))
    assert index.state(tmp_path).rows == 4
    same(tmp_path)
    assert index.state(tmp_path).rows == 12 and index.state(tmp_path).segments == 3


def test_entries_of_files_that_are_gone_do_not_pile_up(tmp_path, eager):
    for path in fill(tmp_path, 8):
        index.scan(tmp_path, COLUMNS)
        path.unlink()
    write(run(seed=99), tmp_path)
    tick()
    same(tmp_path)
    state = index.state(tmp_path)
    assert (state.rows, state.stale) == (1, 0)


def test_a_segment_that_another_report_absorbs_meanwhile(tmp_path, eager, monkeypatch):
    """It vanishes between the listing and the opening: what replaced it is looked for."""
    for seed in range(3):
        write(run(seed=seed), tmp_path)
        tick()
        index.scan(tmp_path, COLUMNS)
    expected, moved = plain(direct(tmp_path)[0]), segments(tmp_path)
    original = index._load_segment

    def disappearing(store, path, *others):
        if path in moved:
            moved.remove(path)
            os.rename(path, path.with_name(f"moved-{path.name}"))
        return original(store, path, *others)

    monkeypatch.setattr(index, "_load_segment", disappearing)
    monkeypatch.setattr(index, "read_table", None)
    assert plain(index.scan(tmp_path, COLUMNS)[0]) == expected and not moved


def test_what_killed_writers_left_is_swept(tmp_path, eager):
    fill(tmp_path, 1)
    (tmp_path / index.FOLDER).mkdir()
    old, young = (tmp_path / index.FOLDER / f".{name}.parquet.tmp" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    index.scan(tmp_path, COLUMNS)
    assert not old.exists() and young.exists() and len(segments(tmp_path)) == 1


def test_the_index_stays_out_of_git_and_out_of_small_stores(tmp_path, monkeypatch):
    fill(tmp_path, 2)
    index.scan(tmp_path, COLUMNS)
    assert not (tmp_path / index.FOLDER).exists()
    monkeypatch.setattr(index, "SMALL", 2)
    index.scan(tmp_path, COLUMNS)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    status = subprocess.run(["git", "-C", tmp_path, "status", "--short"], capture_output=True, text=True, check=True)
    assert index.FOLDER not in status.stdout and len(status.stdout.splitlines()) == 2


def test_stores_are_not_mixed_up_by_a_copied_index(tmp_path, eager):
    """Same names, same sizes: the index of the one says nothing of the other."""
    fill(tmp_path / "a", 2)
    index.scan(tmp_path / "a", COLUMNS)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").glob("*.parquet"):
        before = path.stat()
        path.write_bytes(_encode(run(seed=7, value=0.7)))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    same(tmp_path / "b")


# ---- where nothing can be written ----


def test_without_a_place_for_it_the_store_is_read_all_the_same(tmp_path, eager):
    fill(tmp_path)
    (tmp_path / index.FOLDER).write_text("somebody's file")
    same(tmp_path)
    assert (tmp_path / index.FOLDER).read_text() == "somebody's file"


LIMITED = """
import resource, sys
from pathlib import Path
from zobench.report import index
index.SMALL = index.TICK = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
frame, problems = index.scan(Path(sys.argv[1]), ("cell", "value"))
print(len(frame), problems)
"""


@pytest.mark.parametrize("room", [0, 1, 3000])
def test_a_disk_without_room(tmp_path, eager, room):
    """The system itself refuses the bytes."""
    fill(tmp_path)
    command = [sys.executable, "-W", "error", "-c", LIMITED, str(tmp_path), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr, done.returncode) == ("3 []\n", "", 0)
    assert not segments(tmp_path) and not list((tmp_path / index.FOLDER).glob(".*.tmp"))
    same(tmp_path)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != room


# ---- beside others ----

REPORTER = """
import json, sys, time
from pathlib import Path
from zobench.report import index
index.SMALL = index.TICK = 0
store, seconds = Path(sys.argv[1]), float(sys.argv[2])
seen, scans, end = set(), 0, time.monotonic() + seconds
print("ready", flush=True)
while time.monotonic() < end or not scans:
    frame, problems = index.scan(store, ("seed", "value", "points"))
    assert not problems, problems
    found = dict(zip(frame["seed"], frame["value"]))
    assert len(found) == len(frame) and seen <= set(found), "a run was lost or doubled"
    assert all(value == seed / 1e6 for seed, value in found.items()), "a value of another run"
    assert all(p["value"][-1] == v for p, v in zip(frame["points"], frame["value"])), "points of another run"
    seen, scans = set(found), scans + 1
print(json.dumps([len(seen), scans]))
"""


def reporter(store: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", REPORTER, str(store), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_two_report_while_a_third_writes(tmp_path, eager):
    write(run(seed=0, value=0.0), tmp_path)
    reporters = [reporter(tmp_path, 2) for _ in range(2)]
    for process in reporters:
        assert process.stdout.readline() == "ready\n"
    end, seed = time.monotonic() + 1.7, 0
    while time.monotonic() < end:
        seed += 1
        write(run(seed=seed, value=seed / 1e6), tmp_path)
        time.sleep(0.01)
    for process in reporters:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert json.loads(out)[1] > 1
    same(tmp_path)
    assert len(index.scan(tmp_path, COLUMNS)[0]) == seed + 1


KILLED = """
import shutil, sys
from pathlib import Path
from zobench.report import index
index.SMALL = index.TICK = 0
index.GROUP = index.FULL = 1
index.SEGMENTS = 2
store = Path(sys.argv[1])
index.scan(store, ("cell",))
print("ready", flush=True)
while True:
    for path in sorted((store / index.FOLDER).glob("[!.]*.parquet"))[:1]:
        path.unlink()
    index.scan(store, ("cell",))
"""


def test_killed_while_it_writes_the_index(tmp_path, eager):
    fill(tmp_path, 12)
    left = 0
    for kill in range(6):
        command = [sys.executable, "-c", KILLED, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            ready = process.stdout.readline()
            time.sleep(random.Random(kill).uniform(0, 0.05))
            os.kill(process.pid, signal.SIGKILL)
        assert ready == b"ready\n"
        left += len(list((tmp_path / index.FOLDER).glob(".*.tmp")))
        same(tmp_path)
    assert left, "no kill fell on the writing"


# ---- the table of a report ----


def test_load_is_one_row_per_cell_with_the_columns_asked_for(tmp_path, eager):
    first = write(run(seed=1, value=None, status="oom", reason="8 GiB"), tmp_path / "a")
    second = write(run(seed=1, value=0.5), tmp_path / "a")
    other = write(run(seed=2, value=0.6, optimizer="adam"), tmp_path / "b")
    shutil.copy(second, tmp_path / "b" / "copy.parquet")
    tick()
    for _ in range(2):
        frame, problems = read.load([tmp_path / "a", tmp_path / "b"], columns=("seed", "points"))
        rows = {row["seed"]: row for row in frame.to_dict("records")}
        assert list(frame.columns) == ["seed", "points", "path", "attempts", "failures"] and not problems
        assert rows[1]["path"] in (second, tmp_path / "b" / "copy.parquet") and rows[2]["path"] == other
        assert (rows[1]["attempts"], rows[2]["attempts"]) == (2, 1)
        assert rows[1]["failures"] == [{"attempt": 1, "status": "oom", "reason": "8 GiB"}] and rows[2]["failures"] == []
    assert first != second
    frame, _ = read.load([tmp_path / "a", tmp_path / "b"], optimizers=["ad*"], columns=("optimizer",))
    assert frame["optimizer"].tolist() == ["adam"]


def test_names_of_files_are_any_bytes(tmp_path, eager):
    name = os.fsdecode(b"caf\xe9 \xff.parquet")
    (tmp_path / name).write_bytes(_encode(run()))
    tick()
    same(tmp_path)
    assert segments(tmp_path)
    same(tmp_path)
    assert file_name(run()) != name
