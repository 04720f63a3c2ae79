"""Rows of a task: found in local files or on the hub, or generated, and which of them are train, dev and test."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zobench.models.hub import commit
from zobench.spec import EnvironmentUnmet, MismatchError

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "validation")
FORMATS = ("jsonl", "parquet")
Row = Mapping[str, Any]


@dataclass
class Source:
    """Where a task's rows come from. A split is read when `rows` first asks for it, and kept."""

    fingerprint: str  # "sha256:<hex>" of the local files, "hub:<id>@<commit>", or "generated"
    files: Mapping[str, Path] = field(default_factory=dict)  # split -> local file; empty elsewhere
    hub: Mapping[str, str] = field(default_factory=dict)
    world: str = ""  # whose rows `problems/world.py` makes; the provenance of a run covers that file
    cache: dict[str, Sequence[Row]] = field(default_factory=dict, repr=False)

    def rows(self, split: str) -> Sequence[Row]:
        """All rows of `train` or `validation`, with the hub's field names."""
        if split not in self.cache:
            self.cache[split] = self._read(split)
        return self.cache[split]

    def _read(self, split: str) -> Sequence[Row]:
        if self.world:
            from zobench.problems import world

            return world.rows(self.world, split)
        return read(self.files[split]) if self.files else load_hub(self.hub, split, self.fingerprint)

    def name(self, split: str) -> str:
        """What an error calls this split: its file, or its place on the hub."""
        return str(self.files[split]) if self.files else f"{self.world or self.hub['id']} ({split})"

    def forget(self, split: str) -> None:
        """Drop the rows of a split once those that a run needs have been picked out."""
        self.cache.pop(split, None)


def locate(info: Mapping[str, Any], data_dir: Path | str | None = None, fingerprint: str = "generated") -> Source:
    """Find a task's rows: generated where `info["world"]` says so, else `data_dir`, else ZOBENCH_DATA, else the hub.

    Inside a directory the files are `<folder>/{train,validation}.{jsonl,parquet}`, `<folder>` being that of
    `info["hub"]`, the task's name, or nothing. A `fingerprint` from a planned job is held to: a hub one names the
    commit to load, and local files must still have the digest of a local one.

    Raises:
        EnvironmentUnmet: there are no rows to be had.
        MismatchError: the local files are not those of the fingerprint.
    """
    if "world" in info:
        return Source("generated", world=info["world"])
    if fingerprint.startswith("hub:"):
        return Source(fingerprint, hub=info["hub"])
    root = data_dir or os.environ.get("ZOBENCH_DATA")
    if root:
        folders = places(info, Path(root).expanduser())
        files = next(filter(None, map(find, folders)), None)
        if files:
            return Source(checked(digest(files), fingerprint, folders[0]), files=files)
        if data_dir:  # asked for by name: rows from elsewhere would be a surprise
            looked = ", ".join(str(f / "{train,validation}.{jsonl,parquet}") for f in folders)
            raise EnvironmentUnmet(f"no rows under {data_dir}: looked for {looked}")
    try:
        commit = hub_commit(info["hub"])
    except EnvironmentUnmet as error:
        unused = f"; ZOBENCH_DATA={root} has no {info['hub']['folder']}" if root else ""
        raise EnvironmentUnmet(f"{error}{unused}") from error
    return Source(f"hub:{info['hub']['id']}@{commit}", hub=info["hub"])


def places(info: Mapping[str, Any], root: Path) -> list[Path]:
    """The folders under `root` that may hold a task's two files, in the order they are tried."""
    names = (info["hub"]["folder"], *info.get("aliases", ()), "")
    return list(dict.fromkeys(root / variant for name in names for variant in (name, name.lower())))


def find(folder: Path) -> dict[str, Path] | None:
    """Both splits' files in a folder, or None."""
    found = {}
    for split in SPLITS:
        candidates = (folder / f"{split}.{ending}" for ending in FORMATS)
        if path := next((p for p in candidates if p.is_file()), None):
            found[split] = path
    return found if len(found) == len(SPLITS) else None


def digest(files: Mapping[str, Path]) -> str:
    """sha256 over (file name, bytes) of the files, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(files.values(), key=lambda p: p.name):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        total.update(path.name.encode() + b"\0" + content)
    return f"sha256:{total.hexdigest()}"


def checked(found: str, wanted: str, folder: Path) -> str:
    if wanted.startswith("sha256:") and found != wanted:
        raise MismatchError(f"the rows in {folder} are not those this job was planned with; plan it again")
    return found


def read(path: Path) -> Sequence[Row]:
    """All rows of a .jsonl or .parquet file."""
    try:
        return read_parquet(path) if path.suffix == ".parquet" else read_jsonl(path)
    except OSError as error:
        raise EnvironmentUnmet(f"{path}: {error.strerror or error}") from error


def read_jsonl(path: Path) -> list[Row]:
    rows = []
    with open(path, encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.append(json.loads(line))
                    if not isinstance(rows[-1], dict):
                        raise EnvironmentUnmet(f"{path}, line {number}: not a JSON object")
        except json.JSONDecodeError as error:
            raise EnvironmentUnmet(f"{path}, line {number}: not JSON ({error.msg})") from error
        except UnicodeDecodeError as error:
            raise EnvironmentUnmet(f"{path}: not UTF-8 text ({error.reason})") from error
    return rows


def read_parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise EnvironmentUnmet(f"{path}: not a readable Parquet file ({error})") from error


def way_out(hub: Mapping[str, str]) -> str:
    return (
        f"give --data DIR or set ZOBENCH_DATA to a directory with {hub['folder']}/train.jsonl and "
        f"{hub['folder']}/validation.jsonl, or connect to the network"
    )


def hub_commit(hub: Mapping[str, str]) -> str:
    """The commit at which the hub's copy stands now, or stood when it was cached."""
    return commit(hub["id"], "dataset", None, way_out(hub))


def load_hub(hub: Mapping[str, str], split: str, fingerprint: str) -> Sequence[Row]:
    """A split of a hub dataset at the commit that the fingerprint names. `hub[split]` renames the hub's split."""
    import datasets

    commit = fingerprint.rpartition("@")[2]
    try:
        rows: Any = datasets.load_dataset(hub["id"], hub.get("config"), split=hub.get(split, split), revision=commit)
        return rows  # a Dataset: counted and indexed by row, which is all that is asked of it
    except Exception as error:  # as above; the message is what a user needs
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EnvironmentUnmet(f"no rows of {hub['id']} at {commit[:12]} ({reason}); {way_out(hub)}") from error


@dataclass(frozen=True)
class Sample:
    """Indices into the hub's train split (train, dev) and validation split (test)."""

    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray
    partial: bool  # a slice of the data too small for the sizes asked for; never ranked with full ones


def permutation(seed: int, n: int, k: int) -> np.ndarray:
    """The first k of a permutation of range(n): MeZO's draw, from NumPy's frozen legacy stream."""
    import numpy as np  # not above: a plan needs fingerprints only, and they the standard library only

    return np.random.RandomState(seed).permutation(n)[:k]


def sample(seed: int, n_train: int, n_val: int, num_train: int, num_dev: int, num_eval: int, full_train: int) -> Sample:
    """Which rows are train, dev and test, exactly as in MeZO's code.

    Dev is the end of the draw from the train split, and keeps its size when that split is full but small (WSC trains
    on 54 rows and validates on 500). Where only a slice of the `full_train` rows is at hand and it is too small, dev
    gets at most a third of it.
    """
    partial = n_train < num_train + num_dev and n_train != full_train
    num_dev = min(num_dev, n_train // 3) if partial else num_dev
    drawn = permutation(seed, n_train, num_train + num_dev)
    cut = max(len(drawn) - num_dev, 0)
    return Sample(drawn[:cut], drawn[cut:], permutation(seed, n_val, num_eval), partial)
