"""`zobench doctor`: is everything there, and where not, what to do."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

NEEDED = ("torch", "transformers", "numba", "numpy", "scipy", "pandas", "pyarrow", "click", "rich", "safetensors")
OPTIONAL = {
    "datasets": "rows from the hub",
    "peft": "adapters: pip install 'zobench[peft]'",
    "bitsandbytes": "a base in 8 or 4 bits: pip install 'zobench[quantised]'",
    "triton": "GPU kernels",
}
ROOM = 1 << 30  # bytes below which the disk is worth a warning


@dataclass(frozen=True)
class Check:
    name: str
    state: str  # ok | warn | FAIL
    text: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(store: Path, data_dir: str | None) -> list[Check]:
    """Every check in order; the store is read, never changed."""
    return [*_versions(), *_devices(), *_engine(), *examine_data(data_dir), *_store(store)]


def _versions() -> Iterator[Check]:
    yield Check("python", "ok" if sys.version_info >= (3, 11) else "FAIL", sys.version.split()[0])
    for name in NEEDED:
        try:
            yield Check(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check(name, "FAIL", f"not installed: pip install {name}")
    for name, use in OPTIONAL.items():
        there = importlib.util.find_spec(name) is not None
        yield Check(name, "ok" if there else "warn", metadata.version(name) if there else f"not installed ({use})")


def _devices() -> Iterator[Check]:
    import torch

    from zobench.environment import cpu_name

    yield Check("cpu", "ok", f"{cpu_name()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads in use")
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        yield Check(f"cuda:{i}", "ok", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        yield Check("cuda", "warn", "no CUDA device: runs use the CPU")


def _engine() -> Iterator[Check]:
    """The fast kernels must give the reference's bits on this very machine."""
    import torch

    from zobench.core.perturb import perturb, reference, seeded

    w = torch.linspace(-1, 1, 10_000)
    fast, slow = torch.empty_like(w), torch.empty_like(w)
    perturb([w], [fast], seeded("gaussian", 1, 2) + 0.5 * seeded("rademacher", 3, 4))
    with reference():
        perturb([w], [slow], seeded("gaussian", 1, 2) + 0.5 * seeded("rademacher", 3, 4))
    equal = torch.equal(fast, slow)
    yield Check(
        "kernels",
        "ok" if equal else "FAIL",
        "equal bits to the reference" if equal else "differ from the reference: report this machine",
    )


def examine_data(data_dir: str | None) -> Iterator[Check]:
    """Which rows are on this machine, by directory; the hub is not asked."""
    from zobench.prepare import datasets, default_dir, every
    from zobench.problems import frozen

    missing = datasets(every())
    root = Path(data_dir).expanduser() if data_dir else default_dir()
    for place in dict.fromkeys((root, frozen.default_dir())):
        found, broken = _at_hand(missing, place)
        missing = [dataset for i, dataset in enumerate(missing) if i not in found]
        whole = [text for text, complete in found.values() if complete]
        partial = [text for text, complete in found.values() if not complete]
        yield from (Check("data", "FAIL", text) for text in broken)
        if whole:
            yield Check("data", "ok", f"{place}, whole: {', '.join(whole)}")
        if partial:
            yield Check("data", "ok", f"{place}, partial (reports rank runs on them apart): {', '.join(partial)}")
        if not found and place == root and (data_dir or os.environ.get("ZOBENCH_DATA")):
            yield Check("data", "warn", f"{place}: no rows of any task in it")
    if missing:
        tasks = ",".join(dataset.tasks[0] for dataset in missing)
        names = ", ".join(dict.fromkeys(dataset.folder for dataset in missing))
        yield Check(
            "data",
            "warn",
            f"only on the hub: {names}; `zobench prepare -t {shlex.quote(tasks)}` fetches and freezes them",
        )


def _at_hand(datasets: list[Any], root: Path) -> tuple[dict[int, tuple[str, bool]], list[str]]:
    """({place in the list: (what is there, whether it is whole)}, what is broken) under a directory."""
    from zobench.problems import data, row_files
    from zobench.spec import ZobenchError

    found, broken = {}, []
    for i, dataset in enumerate(datasets):
        try:
            if source := data.local(dataset.info, root):
                rows = {split: row_files.count(path) for split, path in source.files.items()}
                counts = " + ".join(map(str, rows.values()))
                wrong = {s for s, n in dataset.sizes.items() if rows.get(s) != n}
                found[i] = (f"{dataset.folder} ({counts})", not wrong)
        except ZobenchError as error:
            found[i] = (f"{dataset.folder} (changed)", False)
            broken.append(str(error))
        except Exception as error:  # pyarrow's own families, among others
            found[i] = (f"{dataset.folder} (unreadable)", False)
            broken.append(f"{root / dataset.folder}: {error}")
    return found, broken


def _store(store: Path) -> Iterator[Check]:
    from zobench import record

    if not store.is_dir():
        yield Check("store", "ok", f"{store} does not exist yet; the first run makes it")
        return
    rows, problems = record.scan(store, ("status",))
    failed = sum(r["status"] != "ok" for r in rows)
    yield Check("store", "ok", f"{store}: {len(rows)} runs, {failed} of them failed")
    for problem in problems:
        yield Check("store", "warn", f"skipped {problem.path}: {problem.why}")
    yield from _index(store)
    left = [p for p in store.iterdir() if p.name.startswith(".") and not p.is_dir()]
    if left:
        yield Check(
            "store", "warn", f"{len(left)} unfinished writes of processes that died; safe to delete: {left[0].name} ..."
        )
    writable, free = os.access(store, os.W_OK), shutil.disk_usage(store).free
    yield Check(
        "store", "ok" if writable else "FAIL", "writable" if writable else f"no permission to write into {store}"
    )
    yield Check("disk", "ok" if free > ROOM else "warn", f"{free / 2**30:.1f} GiB free")


def _index(store: Path) -> Iterator[Check]:
    from zobench.report import index

    state = index.state(store)
    if state is None:
        return
    parts = [f"{state.rows} of {state.rows + state.missing} runs in {state.segments} files", f"{state.stale} stale"]
    if state.doubtful:
        parts.append(f"{state.doubtful} files of it not believed")
    size = f"{state.bytes / 2**20:.1f} MiB, derived by reports, safe to delete"
    yield Check("index", "ok", f"{store / index.FOLDER}: {', '.join(parts)}; {size}")
