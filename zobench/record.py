"""One run as one row of one Parquet file: the columns, the atomic write, the reads.

`RunRecord` is the only list of columns; the Parquet schema and results/README.md are generated from it. A file is
immutable: a new attempt at the same cell is a new file, so there is nothing to lock and nothing to merge.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import json
import math
import operator
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from zobench.spec import EnvironmentUnmet, UsageError, canonical

SCHEMA_VERSION = "1.3"  # major.minor: a minor version only adds nullable columns
VERSION_KEY, ABOUT_KEY = b"zobench.schema", b"zobench.about"
ABOUT = "One run of the zobench benchmark; every column is described in results/README.md of the project."
STATUSES = ("ok", "diverged", "oom", "timeout", "error", "interrupted")
POINT = pa.struct(
    [
        ("step", pa.int64()),
        ("forwards", pa.int64()),
        ("backwards", pa.int64()),
        ("seconds", pa.float64()),
        ("loss", pa.float64()),
        ("metrics", pa.string()),
    ]
)
KINDS = {
    "text": pa.string(),
    "json": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "flag": pa.bool_(),
    "numbers": pa.list_(pa.float64()),
    "counts": pa.list_(pa.int32()),
    "curve": pa.list_(POINT),
}


def column(kind: str, doc: str, unit: str = "", *, required: bool = False, default: Any = None) -> Any:
    """A dataclass field that is a column; one that is not required may be None, "does not apply"."""
    metadata = {"kind": kind, "doc": doc, "unit": unit, "required": required or default is not None}
    return field(metadata=metadata) if required else field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class RunRecord:
    """One run. JSON columns hold text made by `json_text`; float columns may hold nan and inf."""

    # identity
    schema: str = column("text", "version of this schema, major.minor", default=SCHEMA_VERSION)
    cell: str = column("text", "sha256 of the names and numbers of the run: what was asked", required=True)
    lineage: str = column("text", "the cell without its budget: such runs can be continued", required=True)
    provenance: str = column("text", "sha256 of the code and versions that made the run", required=True)
    attempt: int = column("integer", "1, 2, ... at this cell in this store; the newest ok one stands", default=1)
    status: str = column("text", " | ".join(STATUSES), required=True)
    reason: str | None = column("text", "why the status is not ok, in one line")
    job: str = column("json", "the Job, from which the run can be repeated", required=True)
    task: str = column("text", "name of the task", required=True)
    task_version: int = column("integer", "raised when the task's numbers are no longer comparable", required=True)
    task_options: str = column("json", "every option of the task, defaults included", required=True)
    task_label: str | None = column(
        "text", "the task with those options that differ from their defaults, the instance left out"
    )
    suite: str | None = column("text", "the suite that the task belongs to")
    kind: str | None = column("text", "what the task is: choice, generation, head, regression ...")
    optimizer: str = column("text", "name of the optimizer", required=True)
    optimizer_options: str = column("json", 'every option as asked; lr may be "task"', required=True)
    parameters: str | None = column("json", "every option as used, the learning rate resolved")
    lr_source: str | None = column("text", "where lr came from: given | task | default")
    order: str | None = column("text", "what the optimizer is told: first (gradients) | zeroth (values) | reference")
    family: str | None = column("text", "kind of step, by which tasks publish rates")
    replay_class: str | None = column("text", "what a replay promises: exact | local | none")
    model: str | None = column("text", "hub id, local directory or random:NAME; null for synthetic tasks")
    revision: str | None = column("text", "commit of the model")
    adapter: str = column("text", "none, or the adapter with its options, `on 4bit` if the rest is", required=True)
    dtype: str = column("text", "of the parameters", required=True)
    seed: int = column("integer", "of directions, batch order and initialisation", required=True)
    data_seed: int = column("integer", "of the train, dev and test subsets", required=True)
    budget: str = column("text", "what the run was allowed: steps=N, forwards=N, flops=N or time=Ns", required=True)
    batch_size: int = column("integer", "rows per batch", "rows", required=True)
    schedule: str = column("text", "of the learning rate: constant | linear", required=True)
    score: str = column("text", "split of `value`: validation | test", required=True)
    data: str = column("text", "fingerprint of the data", required=True)
    partial_data: bool | None = column("flag", "true where the data was not the task's whole data")
    num_train: int | None = column("integer", "training set", "rows")
    num_dev: int | None = column("integer", "validation set", "rows")
    num_test: int | None = column("integer", "test set", "rows")
    mode: str | None = column("text", "of the model while training: eval | train (dropout on)")
    diagnostics: str | None = column("json", "what the optimizer measured about itself: subspace overlap ...")
    facts: str | None = column("json", "what the task says of itself: precision, dimension, optimum, template ...")
    # metrics
    metric: str | None = column("text", "name of the metric that `value` is")
    better: str | None = column("text", "higher | lower")
    scale: str | None = column("text", "on which runs are averaged: linear | log")
    value: float | None = column("number", "the ranked number, at the kept step, on the split of `score`", "of metric")
    validation: float | None = column("number", "the metric on validation, at the kept step", "of metric")
    metrics: str | None = column("json", "every metric on the split of `score`", "fractions")
    validation_metrics: str | None = column("json", "every metric on validation", "fractions")
    kept_step: int | None = column("integer", "step whose weights were kept", "steps")
    test_looks: int | None = column("integer", "how often the test set was evaluated")
    hitting: str | None = column(
        "json", "1e-1, 1e-2 ...: cost at which relative_gap was first seen below it (a backward counts 2)", "forwards"
    )
    # cost
    steps: int | None = column("integer", "optimizer steps done", "steps")
    forwards: int | None = column(
        "integer",
        "forward passes of one batch while training; calls that go on with cached keys and values belong to the pass that "
        "began them, so a generated answer is one",
        "batches",
    )
    backwards: int | None = column(
        "integer",
        "backward passes of one batch while training; a jvp's tangent costs as much and counts as one",
        "batches",
    )
    jvps: int | None = column(
        "integer", "how many of `backwards` were tangents of forward-mode differentiation", "batches"
    )
    tokens: int | None = column("integer", "tokens read by the model while training, padding included", "tokens")
    eval_forwards: int | None = column("integer", "forward passes of evaluation", "batches")
    flops: int | None = column(
        "integer",
        "operations in matrix products while training, 2 for a multiply and an add: those of the first step times calls (see "
        "`flop_rates`); the products that only write a direction into the weights are not in it; null for reference lines and "
        "where the task has no matrix product",
        "FLOPs",
    )
    flop_rates: str | None = column(
        "json",
        "the first step, counted: FLOPs in its forwards, in its backwards, and in the optimizer beside them (step), and how many "
        "forwards, backwards and tokens that was. flops = step * steps + forward * forwards' / forwards + the same of "
        "backwards, the last two times the run's mean tokens per forward over the first step's, rounded down",
    )
    step_seconds: float | None = column("number", "inside step, device synchronised, without warm-up", "s")
    timed_steps: int | None = column("integer", "steps that `step_seconds` covers", "steps")
    warmup_seconds: float | None = column("number", "inside the first steps, which are not timed", "s")
    energy_joules: float | None = column(
        "number",
        "of the whole GPU, by NVML, while the steps of `timed_steps` ran, other processes on it included; a share, as seconds "
        "are, in a lockstep; null where the stretches between evaluations are shorter than 0.5 s on average",
        "J",
    )
    eval_seconds: float | None = column("number", "inside evaluation", "s")
    total_seconds: float | None = column("number", "from the start of the run to its end", "s")
    lockstep: int | None = column("integer", "runs that were computed together; their seconds are shares", "runs")
    peak_bytes: int | None = column("integer", "peak of tensor memory while training", "bytes")
    inference_bytes: int | None = column("integer", "peak of the same model's inference on the same batch", "bytes")
    reserved_bytes: int | None = column("integer", "peak that the device's allocator held", "bytes")
    rss_bytes: int | None = column("integer", "high-water mark of the process", "bytes")
    process_bytes: int | None = column(
        "integer",
        "peak of the process on its GPU, by NVML, read after steps at most every 0.1 s; null where it is not told",
        "bytes",
    )
    weight_bytes: int | None = column("integer", "all weights of the model", "bytes")
    state_bytes: int | None = column("integer", "state of the optimizer between steps", "bytes")
    parameters_count: int | None = column("integer", "trainable numbers")
    # fidelity
    probe_mode: str | None = column("text", "how probes were evaluated: stream | copy | inplace | lockstep")
    restore_drift: float | None = column("number", "relative change of the weights by probing alone")
    probe_cosine: float | None = column("number", "cosine of the probe as rounded and the probe as meant")
    probe_unmoved: float | None = column("number", "share of weights that a probe did not move", "fraction")
    lost_updates: float | None = column("number", "share of weights that an update did not move", "fraction")
    update_gain: float | None = column("number", "update as written, along the update as meant, over its size")
    # curve
    curve: list[dict[str, Any]] | None = column(
        "curve", "training loss (mean of the probes) and, where evaluated, validation metrics (JSON)", "nats, s"
    )
    # trace
    trace_header: str | None = column("json", "what a replay needs to know: format, seed, law, parameters, digest")
    trace_values: list[float] | None = column("numbers", "values of the probes, in the order they were sent", "nats")
    trace_counts: list[int] | None = column("counts", "how many values each step took")
    trace_events: str | None = column("json", "changes of group values and observations, by step")
    start_digest: str | None = column("text", "of the weights before the first step")
    final_digest: str | None = column("text", "of the weights that were kept")
    continued_from: str | None = column("text", "file name of the attempt that this run continued")
    # environment
    environment: str | None = column("json", "python, versions, commit, device, hardware class, threads, start (UTC)")


GROUPS = {
    "schema": "Identity",
    "metric": "Metrics",
    "steps": "Cost",
    "probe_mode": "Fidelity",
    "curve": "Curve",
    "trace_header": "Trace",
    "environment": "Environment",
}
COLUMNS = tuple(f.name for f in fields(RunRecord))
LONG = ("curve", "trace_header", "trace_values", "trace_counts", "trace_events")  # read only by name
LIGHT = tuple(name for name in COLUMNS if name not in LONG)
SCHEMA = pa.schema(
    [pa.field(f.name, KINDS[f.metadata["kind"]], nullable=not f.metadata["required"]) for f in fields(RunRecord)],
    metadata={VERSION_KEY: SCHEMA_VERSION.encode(), ABOUT_KEY: ABOUT.encode()},
)
OBJECTS = frozenset(f.name for f in fields(RunRecord) if f.metadata["kind"] == "json") - {"trace_events"}  # a list
REQUIRED = frozenset(f.name for f in fields(RunRecord) if f.metadata["required"])
# Leaf columns in Parquet's spelling. A file has one row, so dictionaries and statistics say nothing, and zstd pays on
# long columns only: over all 80 it made a scan three times slower.
LEAVES = {"curve": [f"curve.list.element.{f.name}" for f in POINT]}
LEAVES |= {name: [f"{name}.list.element"] for name in ("trace_values", "trace_counts")}
ZSTD = ("job", "environment", *LONG)
TEXT_BYTES = 2**24  # a text column that is longer is no result's
BATCH, TOGETHER = 1024, 32  # files whose rows are handed on at once, and whose rows are put together while in the cache
WHOLE = 2**18  # bytes
COMPRESSION = {leaf: "zstd" if name in ZSTD else "none" for name in COLUMNS for leaf in LEAVES.get(name, [name])}


class Problem(NamedTuple):
    """A file of a store with which something is wrong, and what."""

    path: Path
    why: str
    # skipped for what it holds ("content"), or because the system refuses to read it ("access"); not skipped but
    # contradicted by another file ("duplicate")
    kind: str = "content"


class Unreadable(UsageError):
    """A file that is no result, is damaged, or was written by a newer version; `kind` as in `Problem`."""

    kind = "content"


# ---- JSON texts ----


def plain(value: Any) -> Any:
    """JSON values only; a float that JSON cannot hold becomes the string "nan", "inf" or "-inf"."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    return plain(value.item()) if hasattr(value, "item") else value


def json_text(value: Any) -> str:
    """The canonical text of a JSON column; see `plain` for nan and inf."""
    return canonical(plain(value))


# ---- schema, for people ----

PUBLISHED = """\
## Published numbers

`published.csv` holds numbers that papers print, one value a line, never edited to agree with ours: paper, arXiv id, table,
model, task, method, peft (full, lora, prefix, prompt, head, none), metric, value and std as printed (scores in percent; a
value that is blank has a note that says why), memory_gb, note, source_quality. To add some, append lines in the source's own
names, say in `note` where they were read and in what precision, and in `source_quality` how (`paper text`, `second-hand` ...).
A new name of a task, a method or a model is then given its place in the tables of `zobench/published.py`, and what the paper
says of budget, batch, search, rows and seeds in `zobench/protocols.py`. `zobench info sst2` shows what is published on a task,
`zobench report --claimed` sets our runs beside it.""".splitlines()


def schema_markdown() -> str:
    """The text of results/README.md."""
    lines = [
        "# Results",
        "",
        "<!-- generated from zobench/record.py by schema_markdown(); do not edit -->",
        "",
        f"One Parquet file per run, one row per file, schema {SCHEMA_VERSION}. A file is named",
        "`<first 16 digits of the cell>-<attempt>.parquet` and never changes; a failed run stays, with its reason.",
        "The newest attempt with status `ok` stands for its cell. Names that start with a dot are unfinished writes.",
        "",
        'Read them with anything: `pandas.read_parquet("results/<file>")`, `duckdb -c "from \'results/*.parquet\'"`.',
        "",
        "JSON columns are canonical text (sorted keys, no spaces); nan, inf and -inf in them are strings of that name.",
        "A column that is not always there is null where it does not apply or was not measured.",
    ]
    for f in fields(RunRecord):
        if f.name in GROUPS:
            lines += ["", f"## {GROUPS[f.name]}", "", "| column | type | unit | always | meaning |", "|" + "---|" * 5]
        meta = f.metadata
        kind = "JSON text" if meta["kind"] == "json" else f"`{KINDS[meta['kind']]}`"
        cells = (f"`{f.name}`", kind, meta["unit"], "yes" if meta["required"] else "", meta["doc"].replace("|", "\\|"))
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *PUBLISHED]
    return "\n".join(lines) + "\n"


# ---- writing ----


def write(record: RunRecord, store: Path) -> Path:
    """Publish the record as a new file of the store and return its path; `record.attempt` becomes the number it got.

    The file appears whole or not at all, whatever kills the process. Raises EnvironmentUnmet where the store cannot
    be written, after saving the record in the directory for temporary files.
    """
    payload = _encode(record)  # a mistake in a column shows before anything touches the disk
    try:
        store.mkdir(parents=True, exist_ok=True)
        # past the newest, not into a gap: a deleted attempt must not make this run older than its elders
        record.attempt = max(record.attempt, 1 + _last_attempt(store, record.cell))
        while True:
            payload, path = _encode(record), store / file_name(record)
            if _publish(payload, path):
                return path
            record.attempt += 1
    except OSError as error:
        raise EnvironmentUnmet(_rescue(payload, store, file_name(record), error)) from error


def file_name(record: RunRecord) -> str:
    return f"{record.cell[:16]}-{record.attempt}.parquet"


def check_writable(store: Path) -> None:
    """Create the store and prove that a file can be written in it; EnvironmentUnmet with the reason otherwise."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        temporary = _write_temporary(store / "probe", b"\0" * 65536)
        temporary.unlink()
    except OSError as error:
        why = error.strerror or str(error)
        raise EnvironmentUnmet(f"cannot write results into {store}: {why}; choose another place with -o DIR") from error


def _encode(record: RunRecord) -> bytes:
    if record.status not in STATUSES:
        raise ValueError(f"column status: {record.status!r} is none of {', '.join(STATUSES)}")
    arrays = [_array(f.name, f.metadata, getattr(record, f.name)) for f in fields(record)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(arrays, schema=SCHEMA),
        sink,
        compression=COMPRESSION,  # pyright: ignore[reportArgumentType]  # a dict is documented, the stub says str
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,  # a flipped bit is a problem with a name, not a wrong number
    )
    return sink.getvalue().to_pybytes()


def _array(name: str, meta: Mapping[str, Any], value: Any) -> pa.Array:
    if value is None and meta["required"]:
        raise ValueError(f"column {name} is required and is None")
    if isinstance(value, str):
        # lone surrogates (file names that are not UTF-8) must not cost a finished run; \udc80 is JSON's escape too
        value = value.encode("utf-8", "backslashreplace").decode()
        if meta["kind"] == "json":
            parsed = json.loads(value, parse_constant=lambda text: _refuse(name, text))
            if name in OBJECTS and not isinstance(parsed, dict):
                raise ValueError(f"column {name} is no JSON object")
    try:
        if meta["kind"] == "integer" and value is not None:
            value = operator.index(value)  # pyarrow would cut 0.5 to 0
        return pa.array([value], type=KINDS[meta["kind"]])
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise TypeError(f"column {name}: {error}") from error


def _refuse(name: str, text: str) -> None:
    raise ValueError(f"column {name}: {text} is not JSON; make the text with json_text")


def _last_attempt(store: Path, cell: str) -> int:
    return max((_attempt(path) for path in store.glob(f"{cell[:16]}-*.parquet")), default=0)


def _attempt(path: Path) -> int:
    number = path.stem.rpartition("-")[2]
    return int(number) if re.fullmatch(r"[0-9]{1,9}", number) else 0


def _write_temporary(path: Path, payload: bytes) -> Path:
    """The payload on disk, under a name beside `path` that readers ignore."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        _unlink(temporary)
        raise
    return temporary


def _publish(payload: bytes, path: Path) -> bool:
    """Give the payload its name, whole; False where the name is taken."""
    temporary = _write_temporary(path, payload)
    try:
        published = _name_exclusively(temporary, path)
    finally:
        _unlink(temporary)
    if published:
        _sync_directory(path.parent)
    return published


def _name_exclusively(temporary: Path, path: Path) -> bool:
    """A hard link fails where the name exists, a rename would overwrite: so link where the file system can."""
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        # over NFS a link whose answer was lost is asked for again, and then finds itself
        return os.path.samefile(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL):
            raise
    return _rename_reserved(temporary, path)


def _rename_reserved(temporary: Path, path: Path) -> bool:
    """Without links: whoever creates the reservation may rename. One left by a kill only skips its number."""
    reservation = path.with_name(f".{path.name}.reserved")
    try:
        os.close(os.open(reservation, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        return False
    try:
        # asked after reserving: an earlier holder has renamed and removed its reservation by now
        if path.exists():
            return False
        os.rename(temporary, path)
        return True
    finally:
        _unlink(reservation)


def _unlink(path: Path) -> None:
    """What cannot be removed is ignored by readers; it must not hide the error that led here."""
    with contextlib.suppress(OSError):
        path.unlink()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):  # a file system without it
            raise
    finally:
        os.close(descriptor)


def _rescue(payload: bytes, store: Path, name: str, error: OSError) -> str:
    """Save the payload where temporary files go; the line that tells the user."""
    why = error.strerror or str(error)
    try:
        rescued = Path(tempfile.mkdtemp(prefix="zobench-rescued-")) / name
        with open(rescued, "xb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
    except OSError as second:
        also = second.strerror or str(second)
        return f"cannot save the result in {store}: {why}; nor among temporary files: {also}; the result is lost"
    return f"cannot save the result in {store}: {why}; it is safe: repair that, then: mv -n {rescued} {store}/"


# ---- reading ----


def read(path: Path) -> RunRecord:
    """The whole record of one file; Unreadable (a UsageError) says what is wrong with it."""
    _, table, problems = read_table([path], COLUMNS)
    if problems or not table.num_rows:
        raise Unreadable(f"{path}: {problems[0].why if problems else 'no such file'}")
    return RunRecord(**table.to_pylist()[0])


def scan(store: Path, columns: Iterable[str] | None = None) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Every result of a store (a directory, or one file) as rows, and the files that had to be skipped.

    A row has the asked columns (all but the long ones, `LIGHT`, by default; None where an older file lacks one) and
    `path`. Rows come in order of file name. A store that does not exist is an empty one.
    """
    names = tuple(LIGHT if columns is None else columns)
    return _scan(_files(store), names)


def attempts(store: Path, cell: str) -> list[dict[str, Any]]:
    """The light rows of one cell, oldest first; damaged files are left to `scan` to name."""
    rows, _ = _scan(sorted(store.glob(f"{cell[:16]}-*.parquet")), LIGHT)
    return sorted((row for row in rows if row["cell"] == cell), key=lambda row: row["attempt"])


def standing(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per cell: its newest ok attempt, or its newest attempt where none is ok; in order of cell.

    Adds `attempts`, how many there were, and `failures`, the others that did not end ok: [{attempt, status, reason}].
    Newest is the highest attempt; between stores that numbered alike, the later start. Copies of one run count once.
    A run on partial data never takes the place of one on all of it.
    """
    return [_stand(group) for group in _cells(rows)]


def contradictions(rows: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """Files that disagree with a newer one of the same cell, code and kind of machine, where both ended ok.

    Rows need `path`, `value`, `final_digest`, `budget`, and what `standing` needs. A budget of seconds is no contradiction:
    it ends where the clock says.
    """
    found = []
    for group in _cells(rows):
        ok = [row for row in _ordered(group) if row["status"] == "ok" and not row["budget"].startswith("time=")]
        newest = {_maker(row): row for row in ok}
        for row in ok:
            last = newest[_maker(row)]
            if why := _disagreement(row, last):
                found.append(
                    Problem(
                        row["path"], f"contradicts {last['path']}, the same run by the same code: {why}", "duplicate"
                    )
                )
    return found


def _maker(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["provenance"], bool(row["partial_data"]), json.loads(row["environment"] or "{}").get("hardware")


def _disagreement(row: Mapping[str, Any], last: Mapping[str, Any]) -> str | None:
    if repr(row["value"]) != repr(last["value"]):  # nan agrees with nan
        return f"value {row['value']} against {last['value']}; the newest stands"
    if None not in (row["final_digest"], last["final_digest"]) and row["final_digest"] != last["final_digest"]:
        return f"other weights at the same value {row['value']}; the newest stands"
    return None


def _cells(rows: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The rows of each cell, in order of cell; copies of one run once."""
    by_cell: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_cell.setdefault(row["cell"], []).append(row)
    groups = (by_cell[cell] for cell in sorted(by_cell))
    return [
        group if len(group) == 1 else list({_fingerprint(r): r for r in reversed(group)}.values()) for group in groups
    ]


def find(store: Path, run: str) -> Path:
    """The file of a run given as a path, a file name, or the beginning of a cell that no other cell shares.

    A cell stands for its newest ok attempt, or its newest. Raises UsageError, with near names, where it is not one run.
    """
    for candidate in (Path(run), store / run, store / f"{run}.parquet"):
        if candidate.is_file():
            return candidate
    files = [path for path in _files(store) if re.fullmatch(r"[0-9a-f]{1,16}-[0-9]+", path.stem)]
    cells = sorted({path.stem.rpartition("-")[0] for path in files})
    matches = [cell for cell in cells if run and cell.startswith(run[:16].lower())]
    if len(matches) > 1:
        raise UsageError(f"run {run!r} is ambiguous in {store}: {', '.join(matches[:5])}; write more digits")
    rows, _ = _scan([path for path in files if path.stem.startswith(f"{matches[0]}-")], LIGHT) if matches else ([], [])
    rows = [row for row in rows if row["cell"].startswith(run.lower())]
    if not rows:
        raise UsageError(_unknown_run(store, run, cells))
    return standing(rows)[0]["path"]


def _unknown_run(store: Path, run: str, cells: list[str]) -> str:
    if not cells:
        return f"no run {run!r}: {store} holds no results; name another store, or a file"
    near = difflib.get_close_matches(run[:16].lower(), cells, n=3, cutoff=0.3) or cells[:3]
    return f"no run {run!r} in {store}; did you mean {', '.join(near)}?"


def _files(store: Path) -> list[Path]:
    if store.is_file():
        return [store]
    if not store.is_dir():
        return []
    return sorted(path for path in store.iterdir() if path.suffix == ".parquet" and not path.name.startswith("."))


def _scan(files: Sequence[Path], columns: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[Problem]]:
    rows: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for start in range(0, len(files), BATCH):
        paths, table, skipped = read_table(files[start : start + BATCH], columns)
        rows += [row | {"path": path} for row, path in zip(table.to_pylist(), paths, strict=True)]
        problems += skipped
    return rows, problems


def read_table(files: Sequence[Path], columns: Sequence[str]) -> tuple[list[Path], pa.Table, list[Problem]]:
    """(the files that could be read, one row for each, the others).

    The table has `columns`, in the types of `SCHEMA` and checked; null where an older file lacks one. A file that
    vanished meanwhile is in neither list.
    """
    schema = pa.schema([SCHEMA.field(name).with_nullable(True) for name in columns])
    parts = [files[start : start + TOGETHER] for start in range(0, len(files), TOGETHER)]
    if len(parts) <= 1:
        return _read_part(files, schema)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        done = list(pool.map(lambda part: _read_part(part, schema), parts))
    paths, tables, problems = zip(*done, strict=True)
    table = pa.concat_tables(tables).combine_chunks()
    return [p for part in paths for p in part], table, [p for part in problems for p in part]


def _read_part(files: Sequence[Path], schema: pa.Schema) -> tuple[list[Path], pa.Table, list[Problem]]:
    paths: list[Path] = []
    rows: list[pa.Table] = []
    problems: list[Problem] = []
    for path in files:
        try:
            rows.append(_row(path, schema.names))
            paths.append(path)
        except Unreadable as error:
            if not isinstance(error.__cause__, FileNotFoundError) or path.is_symlink():
                problems.append(Problem(path, str(error).removeprefix(f"{path}: "), error.kind))
    table = _together(rows, schema)
    if wrong := _wrong_values(table):
        problems += [Problem(paths[i], why) for i, why in wrong.items()]
        right = [i for i in range(len(paths)) if i not in wrong]
        paths, table = [paths[i] for i in right], table.take(pa.array(right, pa.int64()))
    return paths, table, sorted(problems)


def _together(rows: list[pa.Table], schema: pa.Schema) -> pa.Table:
    if not rows:
        return schema.empty_table()
    table = pa.concat_tables(rows, promote_options="default").combine_chunks()
    present = set(table.column_names)
    absent = pa.nulls(len(rows))
    arrays = [table[field.name] if field.name in present else absent.cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _row(path: Path, columns: Sequence[str]) -> pa.Table:
    """The one row of a file, with those columns that it has; the values are not checked."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for its writer
            raise Unreadable(f"{path}: {not_a_file(status.st_mode)}")
        # a small file in one request instead of one a column
        source = pa.BufferReader(path.read_bytes()) if status.st_size < WHOLE else path
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            _check_version(path, (file.metadata.metadata or {}).get(VERSION_KEY))
            if file.metadata.num_rows != 1:
                raise Unreadable(f"{path}: {file.metadata.num_rows} rows; a result has one")
            found = file.schema_arrow
            _check_types(path, found)
            _check_size(path, file.metadata, columns)
            present = set(found.names)
            row = file.read([name for name in columns if name in present], use_threads=False)
            row.validate(full=True)  # text that is not UTF-8
            return row
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        if isinstance(error, OSError) and error.errno:  # pyarrow raises OSError for damaged files too
            refused = Unreadable(f"{path}: {os.strerror(error.errno).lower()}")
            refused.kind = "access"
            raise refused from error
        why = " ".join(str(error).split())
        raise Unreadable(f"{path}: not a readable Parquet file: {why[:200]}") from error


def not_a_file(mode: int) -> str:
    """What a path with the name of a result is, in words."""
    return f"a {'directory' if stat.S_ISDIR(mode) else 'pipe or device'}, not a file"


def _check_types(path: Path, found: pa.Schema) -> None:
    """Every known column of the file has its type, and those that are always there are."""
    if any(found.equals(known) for known in _agreed):
        return
    present = set(found.names)
    if not present >= REQUIRED:
        raise Unreadable(f"{path}: lacks the column {min(REQUIRED - present)}")
    for field_ in SCHEMA:
        if field_.name in present and found.field(field_.name).type != field_.type:
            raise Unreadable(
                f"{path}: column {field_.name} is {found.field(field_.name).type}, a result has {field_.type}"
            )
    _agreed.append(found)
    del _agreed[:-8]


_agreed: list[pa.Schema] = []  # schemas of the last files, nearly all of which are the same


def _check_size(path: Path, metadata: pq.FileMetaData, columns: Sequence[str]) -> None:
    """A text of a hundred megabytes is no result's, and would fill the memory of whoever parses it."""
    group = metadata.row_group(0)
    if group.total_byte_size <= TEXT_BYTES:
        return
    for i in range(group.num_columns):
        leaf = group.column(i)
        name = leaf.path_in_schema
        if name in columns and name not in LONG and leaf.total_uncompressed_size > TEXT_BYTES:
            raise Unreadable(f"{path}: column {name} holds {leaf.total_uncompressed_size >> 20} MiB")


def _wrong_values(table: pa.Table) -> dict[int, str]:
    """Rows that readers may not trust, and why: JSON is JSON, and what is always there is there."""
    wrong: dict[int, str] = {}
    for name in table.column_names:
        column = table[name]
        if name in REQUIRED and column.null_count:
            wrong |= {i: f"column {name} is null" for i, null in enumerate(column.is_null().to_pylist()) if null}
        if name in OBJECTS:
            bad = {text for text in column.unique().to_pylist() if text is not None and not _is_object(text)}
            if bad:
                texts = enumerate(column.to_pylist())
                wrong |= {i: f"column {name} is no JSON object" for i, text in texts if text in bad}
    return wrong


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _check_version(path: Path, version: bytes | None) -> None:
    text = (version or b"").decode(errors="replace")
    if not re.fullmatch(r"[0-9]+\.[0-9]+", text):
        raise Unreadable(f"{path}: not a result of zobench")
    if int(text.split(".")[0]) > int(SCHEMA_VERSION.split(".")[0]):
        raise Unreadable(f"{path}: schema {text}, this zobench reads {SCHEMA_VERSION}; upgrade zobench to read it")


def _stand(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ordered = _ordered(rows)
    finished = [r for r in ordered if r["status"] == "ok"]
    whole = [r for r in finished if not r.get("partial_data")]
    row = (whole or finished or ordered)[-1]
    others = [r for r in ordered if r is not row and r["status"] != "ok"]
    failures = [{name: r.get(name) for name in ("attempt", "status", "reason")} for r in others]
    return dict(row) | {"attempts": len(ordered), "failures": failures}


def _ordered(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Oldest first."""
    if len(rows) == 1:
        return list(rows)
    return sorted(rows, key=lambda row: (row["attempt"], _started(row), _fingerprint(row)))


def _started(row: Mapping[str, Any]) -> str:
    return str(json.loads(row.get("environment") or "{}").get("started", ""))


def _fingerprint(row: Mapping[str, Any]) -> str:
    """Equal for copies of one run, under whatever path."""
    return repr([(k, v) for k, v in sorted(row.items()) if k != "path"])
