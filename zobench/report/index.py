"""The derived index of a store: what its files hold, in a few Parquet files that are read in a moment.

It lies in `.index/` of the store, is safe to delete, and is never believed in doubt. An entry counts while its file has the
size, times and inode that it had when it was read; every other file is read itself. Entries are added as further segments,
which are now and then put together. Nobody locks: a segment appears whole under a name of its own, and what it says of a
file stays true as long as the file does. A store that cannot be written, or is small, does without.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zobench import record
from zobench.record import BATCH, LIGHT, Problem, read_table

FOLDER = ".index"
SMALL = 256  # a store of fewer files is read as quickly as its index
SEGMENTS = 8  # of fewer than FULL entries; so many are put together
GROUP = 8192  # rows that are in memory as Arrow at a time: about 60 MB
FULL = 2 * GROUP  # entries after which a segment is published: whoever stops a long reading keeps most of it
# A file written in the tick of the clock in which it was read may change without showing it; FAT ticks every 2 s.
TICK = 2 * 10**9
ABANDONED = 3600  # seconds after which an unfinished segment has lost its writer
HEADER = b"zobench.index"

POINT_DTYPE = np.dtype(
    [("step", "<i8"), ("forwards", "<i8"), ("backwards", "<i8"), ("seconds", "<f8"), ("value", "<f8")]
)
KEY = ("_size", "_mtime", "_ctime", "_inode")
COLUMNS = (*LIGHT, "points")  # what can be asked for
SCHEMA = pa.schema(
    [
        ("_name", pa.binary()),
        *((name, pa.int64()) for name in KEY),
        ("_problem", pa.string()),
        *(record.SCHEMA.field(name).with_nullable(True) for name in LIGHT),
        ("points", pa.binary()),  # POINT_DTYPE
    ]
)
TEXTS = [name for name in LIGHT if pa.types.is_string(SCHEMA.field(name).type)]

log = logging.getLogger(__name__)


class Stamp(NamedTuple):
    """What tells that a file is still the one that was read; times in ns."""

    size: int
    mtime: int
    ctime: int
    inode: int


@dataclass
class State:
    """What `doctor` says of an index."""

    segments: int = 0
    rows: int = 0  # entries that count
    stale: int = 0  # entries of files that changed or vanished
    missing: int = 0  # files without an entry
    doubtful: int = 0  # segments that are not believed
    bytes: int = 0


def scan(store: Path, columns: Sequence[str]) -> tuple[pd.DataFrame, list[Problem]]:
    """Every readable result of a store (a directory, or one file), in order of file name, and what is wrong with others.

    The frame has `columns` (of `COLUMNS`) and `path`, dtype object: None stays None. `points` are the evaluated points of
    the curve, as an array of POINT_DTYPE: forwards and backwards in batches since the start, seconds since the start, and
    the ranked metric on validation. Results do not depend on whether there is an index.
    """
    if unknown := set(columns) - set(COLUMNS):
        raise ValueError(f"no such columns of a store: {', '.join(sorted(unknown))}")
    rows = _Rows(columns)
    if store.is_file():
        rows.read([store])
        return rows.frame(), rows.problems
    stamps, rows.problems = listing(store)
    segments = [] if len(stamps) < SMALL else _load(store, stamps, rows)
    known = {name for segment in segments for name in segment.names}
    missing = sorted(stamps.keys() - known)
    with contextlib.closing(_Writer(store / FOLDER, active=len(stamps) >= SMALL and bool(missing))) as writer:
        for start in range(0, len(missing), BATCH):
            names = missing[start : start + BATCH]
            writer.begin()
            writer.add(rows.read([store / name for name in names]), stamps)
            if writer.rows >= FULL:
                writer.publish()
        writer.publish(segments)
    return rows.frame(), sorted(rows.problems)


def listing(store: Path) -> tuple[dict[str, Stamp], list[Problem]]:
    """The result files of a directory by name, and the names of that form which are none."""
    found: dict[str, Stamp] = {}
    problems: list[Problem] = []
    try:
        with os.scandir(store) as entries:
            for entry in entries:
                if not entry.name.endswith(".parquet") or entry.name.startswith("."):
                    continue
                stamp = _stamp(entry)
                if isinstance(stamp, Stamp):
                    found[entry.name] = stamp
                elif stamp is not None:
                    problems.append(Problem(store / entry.name, stamp))
    except FileNotFoundError:
        pass
    except OSError as error:
        problems.append(Problem(store, _words(error), "access"))
    return found, problems


def _stamp(entry: os.DirEntry[str]) -> Stamp | str | None:
    """The stamp of a file, why it has none, or None where it vanished."""
    try:
        s = entry.stat()
    except FileNotFoundError:
        return "a link to a file that does not exist" if entry.is_symlink() else None
    except OSError as error:
        return _words(error)
    if not stat.S_ISREG(s.st_mode):
        return record.not_a_file(s.st_mode)
    return Stamp(s.st_size, s.st_mtime_ns, s.st_ctime_ns, _signed(s.st_ino))


def _signed(inode: int) -> int:
    """Inodes have 64 bits without a sign."""
    return inode - 2**64 if inode >= 2**63 else inode


def _words(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else " ".join(str(error).split())


def state(store: Path) -> State | None:
    """How much of a store its index covers; None where there is none."""
    if not (store / FOLDER).is_dir():
        return None
    stamps, _ = listing(store)
    paths = _segment_paths(store / FOLDER)
    segments = _load(store, stamps, _Rows(()))
    good = [segment for segment in segments if segment.believed]
    rows = sum(len(segment.names) for segment in good)
    return State(
        segments=len(good),
        rows=rows,
        stale=sum(segment.size for segment in good) - rows,
        missing=len(stamps) - rows,
        doubtful=len(paths) - len(good),
        bytes=sum(path.stat().st_size for path in paths if path.exists()),
    )


# ---- rows, from files and from segments ----


class _Rows:
    """Rows as they come, kept as Python objects, one array a column and part."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self.parts: dict[str, list[np.ndarray]] = {name: [] for name in (*columns, "path")}
        self.problems: list[Problem] = []
        self.texts: dict[str, str] = {}  # equal texts are one object

    def add(self, store: Path, names: Sequence[str], table: pa.Table, chosen: np.ndarray | None = None) -> None:
        """The rows of a table that are `chosen` (all by default), which came from the files `names` of the store."""
        self.parts["path"].append(_object_array([store / name for name in names]))
        for name in self.columns:
            values = _points(table[name]) if name == "points" else _objects(table[name], self.texts)
            self.parts[name].append(values if chosen is None else values[chosen])

    def read(self, files: Sequence[Path]) -> list[pa.Table]:
        """Read files themselves; what was learnt of them, as entries of the index without the stamps."""
        paths, table, problems = read_table(files, (*LIGHT, "curve"))
        points, broken = _evaluated(table)
        why = "a point of its curve has metrics that are no JSON object"
        problems += [Problem(paths[i], why) for i in broken]
        table = table.drop_columns(["curve"]).append_column("points", pa.array(points, pa.binary()))
        if broken:
            keep = [i for i in range(len(paths)) if i not in broken]
            table, paths = table.take(pa.array(keep, pa.int64())), [paths[i] for i in keep]
        self.problems += problems
        if paths:
            self.add(paths[0].parent, [path.name for path in paths], table)
        lasting = [problem for problem in problems if problem.kind == "content"]
        return [
            table.append_column("_name", _names(paths)).append_column("_problem", pa.nulls(len(paths), pa.string())),
            pa.table(
                {
                    "_name": _names([p.path for p in lasting]),
                    "_problem": pa.array([p.why for p in lasting], pa.string()),
                }
            ),
        ]

    def frame(self) -> pd.DataFrame:
        """All rows in order of file name; to be called once, as it lets go of its parts to save memory."""
        paths = _joined(self.parts["path"])
        order = np.argsort(_object_array([path.name for path in paths]), kind="stable")
        columns = {name: _joined(self.parts.pop(name))[order] for name in list(self.parts)}
        return pd.DataFrame(columns, dtype=object)


def _names(paths: Sequence[Path]) -> pa.Array:
    return pa.array([os.fsencode(path.name) for path in paths], pa.binary())


def _object_array(values: Sequence[Any]) -> np.ndarray:
    array = np.empty(len(values), object)
    for i, value in enumerate(values):  # an assignment at once would look into sequences
        array[i] = value
    return array


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0, object)


def _objects(column: pa.ChunkedArray, texts: dict[str, str]) -> np.ndarray:
    """The values as Python objects, null as None."""
    if pa.types.is_string(column.type):
        column = column.dictionary_encode()
    return _joined([_chunk_objects(chunk, texts) for chunk in column.chunks])


def _chunk_objects(chunk: pa.Array, texts: dict[str, str]) -> np.ndarray:
    if isinstance(chunk, pa.DictionaryArray):
        shared = [texts.setdefault(text, text) for text in chunk.dictionary.to_pylist()]
        places = chunk.indices.fill_null(len(shared)).to_numpy(zero_copy_only=False)
        return _object_array([*shared, None])[places]
    if not chunk.null_count:
        return chunk.to_numpy(zero_copy_only=False).astype(object)
    zero = pa.scalar(0).cast(chunk.type) if not pa.types.is_boolean(chunk.type) else pa.scalar(False)
    values = chunk.fill_null(zero).to_numpy(zero_copy_only=False).astype(object)
    values[chunk.is_null().to_numpy(zero_copy_only=False)] = None
    return values


def _points(column: pa.ChunkedArray) -> np.ndarray:
    """Arrays of POINT_DTYPE that look into the column's memory."""
    views = []
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        flat = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
        ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        flat = flat[ends[0] : ends[-1]].view(POINT_DTYPE)
        edges = ((ends - ends[0]) // POINT_DTYPE.itemsize).tolist()
        views += [flat[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    return _object_array(views)


def _evaluated(table: pa.Table) -> tuple[list[bytes], set[int]]:
    """(points of each row as bytes, the rows whose curve is broken)."""
    points: list[bytes] = []
    broken: set[int] = set()
    if not table.num_rows:
        return points, broken
    curves = table["curve"].combine_chunks()
    flat = pa.Table.from_struct_array(curves.values)
    edges = curves.offsets.to_numpy().tolist()
    counts = {name: flat[name].fill_null(0).to_numpy() for name in ("step", "forwards", "backwards")}
    seconds = flat["seconds"].fill_null(np.nan).to_numpy()
    texts = flat["metrics"].to_pylist()
    for i, metric in enumerate(table["metric"].to_pylist()):
        begin, end = edges[i], edges[i + 1]
        at = [j for j in range(begin, end) if texts[j] is not None] if metric is not None else []
        try:
            values = [_number(found.get(metric)) for found in _parsed([texts[j] for j in at])]
        except (ValueError, AttributeError, RecursionError):
            broken.add(i)
            values = []
        known = [(j, value) for j, value in zip(at, values, strict=False) if value is not None]
        rows = np.empty(len(known), POINT_DTYPE)
        at = [j for j, _ in known]
        for name, column in counts.items():
            rows[name] = column[at]
        rows["seconds"], rows["value"] = seconds[at], [value for _, value in known]
        points.append(rows.tobytes())
    return points, broken


def _parsed(texts: list[str]) -> list[dict[str, Any]]:
    """All at once is several times faster than one by one."""
    found = json.loads(f"[{','.join(texts)}]")
    if len(found) != len(texts):
        raise ValueError("not one value each")
    return found


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return float(value) if value in ("nan", "inf", "-inf") else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e308 or isinstance(value, float) else None


# ---- segments ----


@dataclass
class _Segment:
    """One file of an index: which of its entries count."""

    path: Path
    believed: bool = False
    size: int = 0
    chosen: list[np.ndarray] = field(default_factory=list)  # by row group
    names: list[str] = field(default_factory=list)


def _load(store: Path, stamps: dict[str, Stamp], rows: _Rows) -> list[_Segment]:
    """Every segment of a store; what counts in it is added to the rows."""
    taken: set[str] = set()
    segments: dict[Path, _Segment] = {}
    while paths := [path for path in _segment_paths(store / FOLDER) if path not in segments]:
        segments |= {path: _load_segment(store, path, stamps, taken, rows) for path in paths}
        if all(path.exists() for path in paths):
            break  # else another report has put them together: look for what it wrote
    return list(segments.values())


def _segment_paths(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".parquet" and path.name[0] != ".")
    except OSError:
        return []


def _load_segment(store: Path, path: Path, stamps: dict[str, Stamp], taken: set[str], rows: _Rows) -> _Segment:
    segment, found = _Segment(path), _Rows(rows.columns)
    found.texts = rows.texts
    try:
        with _open(path) as file:
            for i in range(file.num_row_groups):
                _load_group(store, file, i, stamps, taken, segment, found)
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        log.debug("the index %s is not used: %s", path, error)
        return _Segment(path)
    segment.believed = True
    taken.update(segment.names)
    rows.problems += found.problems
    for name, parts in found.parts.items():
        rows.parts[name] += parts
    return segment


@contextlib.contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    """A segment that this version wrote; ValueError for any other file."""
    with pq.ParquetFile(path, read_dictionary=TEXTS, page_checksum_verification=True) as file:
        if (file.metadata.metadata or {}).get(HEADER) != _header():
            raise ValueError("written by another version")
        yield file


@functools.cache
def _header() -> bytes:
    """Of the code that reads results and makes entries of them: other code may find other things in the same files."""
    digest = hashlib.sha256(f"{sys.byteorder} {SCHEMA}".encode())
    for module in (record.__file__, __file__):
        digest.update(Path(module).read_bytes())
    return digest.hexdigest().encode()


def _load_group(
    store: Path, file: pq.ParquetFile, i: int, stamps: dict[str, Stamp], taken: set[str], segment: _Segment, rows: _Rows
) -> None:
    table = file.read_row_group(i, columns=["_name", *KEY, "_problem", *rows.columns])
    names = [os.fsdecode(name) for name in table["_name"].to_pylist()]
    keys = zip(*(table[name].to_pylist() for name in KEY), strict=True)
    why = table["_problem"].to_pylist()
    counts = [stamps.get(name) == key and name not in taken for name, key in zip(names, keys, strict=True)]
    chosen = np.flatnonzero(counts)
    segment.size += len(names)
    segment.chosen.append(chosen)
    segment.names += [names[j] for j in chosen]
    rows.problems += [Problem(store / names[j], why[j]) for j in chosen if why[j] is not None]
    good = np.array([j for j in chosen if why[j] is None], int)
    rows.add(store, [names[j] for j in good], table, None if len(good) == len(names) else good)


class _Writer:
    """Writes new segments, under names that readers ignore until they are whole. Where writing fails, it stops quietly."""

    def __init__(self, folder: Path, active: bool = True) -> None:
        self.folder, self.active = folder, active
        self.file: _File | None = None
        self.waiting: list[pa.Table] = []
        self.rows = 0  # of the present segment

    def begin(self) -> None:
        """To be called before results are read."""
        if self.active and self.file is None:
            with self._quietly():
                self.folder.mkdir(exist_ok=True)
                ignore = self.folder / ".gitignore"
                if not ignore.exists():
                    ignore.write_text("*\n", encoding="utf-8")
                self.file, self.rows = _File(self.folder), 0

    def add(self, tables: Iterable[pa.Table], stamps: dict[str, Stamp]) -> None:
        """What was learnt of some files, those left out that may have changed since without showing it."""
        if self.file is None:
            return
        for table in tables:
            names = [os.fsdecode(name) for name in table["_name"].to_pylist()]
            before = self.file.begun - TICK
            settled = [i for i, name in enumerate(names) if max(stamps[name].mtime, stamps[name].ctime) < before]
            table = table.take(pa.array(settled, pa.int64()))
            for place, key in enumerate(KEY):
                table = table.append_column(key, pa.array([stamps[names[i]][place] for i in settled], pa.int64()))
            for name in SCHEMA.names:
                if name not in table.column_names:
                    table = table.append_column(name, pa.nulls(len(settled), SCHEMA.field(name).type))
            self._write(table.select(SCHEMA.names))

    def _write(self, table: pa.Table, least: int = GROUP) -> None:
        """Gather rows until they make a group."""
        self.waiting.append(table)
        self.rows += table.num_rows
        gathered = sum(t.num_rows for t in self.waiting)
        if self.file is not None and gathered and gathered >= least:
            table, self.waiting = pa.concat_tables(self.waiting).cast(SCHEMA), []
            with self._quietly():
                self.file.writer.write_table(table, row_group_size=GROUP)

    def publish(self, segments: Sequence[_Segment] = ()) -> None:
        """Give the segment its name, and remove those that it stands for or that are not believed."""
        if self.file is None:
            return
        absorbed = _worth_joining(segments)
        for segment in absorbed:
            self._absorb(segment)
        self._write(SCHEMA.empty_table(), least=0)
        if self.file is None:
            return
        with self._quietly():
            self.file.publish(keep=self.rows > 0)
            for segment in segments:
                if segment in absorbed or not segment.believed:
                    _unlink(segment.path)
            _sweep(self.folder)
        self.file = None

    def _absorb(self, segment: _Segment) -> None:
        try:
            with pq.ParquetFile(segment.path, page_checksum_verification=True) as file:
                for i, chosen in enumerate(segment.chosen):
                    self._write(file.read_row_group(i).take(pa.array(chosen)))
        except (pa.ArrowException, OSError, ValueError, LookupError):
            # damaged where this report did not look, or absorbed by another one: its files are read again next time
            segment.believed = False

    def close(self) -> None:
        """Remove what was not published."""
        self.waiting = []
        if self.file is not None:
            self.file.remove()
            self.file = None

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        """No place, no room, or another report that was faster: the store is read without an index, as ever."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, LookupError) as error:
            log.debug("no index in %s: %s", self.folder, error)
            self.active = False
            self.close()


class _File:
    """A segment in the making."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{secrets.token_hex(8)}.parquet"
        self.temporary = folder / f".{self.path.name}.tmp"
        options = dict(compression="zstd", compression_level=1, write_statistics=False, write_page_checksum=True)
        self.stream = open(self.temporary, "xb")  # noqa: SIM115  # closed by `publish` or `remove`
        # before any result is read, and by the clock of the disk that holds them
        self.begun = os.stat(self.temporary).st_mtime_ns
        schema = SCHEMA.with_metadata({HEADER: _header()})
        self.writer = pq.ParquetWriter(self.stream, schema, use_dictionary=TEXTS, **options)

    def publish(self, keep: bool) -> None:
        self.writer.close()
        self.stream.close()
        if keep:
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink()

    def remove(self) -> None:
        for close in (self.writer.close, self.stream.close, self.temporary.unlink):
            with contextlib.suppress(pa.ArrowException, OSError, ValueError):
                close()


def _worth_joining(segments: Sequence[_Segment]) -> list[_Segment]:
    """The segments to write anew: dead ones always, the small ones when there are many, all when most entries are dead."""
    good = [s for s in segments if s.believed]
    if sum(s.size for s in good) > 2 * sum(len(s.names) for s in good):
        return good
    small = [s for s in good if len(s.names) < FULL]
    return small if len(small) >= SEGMENTS else [s for s in small if not s.names]


def _sweep(folder: Path) -> None:
    """Remove what killed writers left."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
