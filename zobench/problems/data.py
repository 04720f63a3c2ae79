"""Where the rows of a task come from: generated, from local files, or from the hub; and what these rows are called."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zobench.problems import frozen, hub, row_files
from zobench.problems.fields import check_row as check_row
from zobench.problems.hub import SPLITS
from zobench.problems.row_files import FORMATS, Row
from zobench.spec import EnvironmentUnmet, MismatchError


class View(Sequence[Row]):
    """Rows with fields renamed, values replaced, and some rows left out; each is made when it is asked for.

    Args:
        kept: indices into `rows` of those that stay; None: all.
        rename: field, theirs -> ours.
        values: field of ours -> value, theirs -> ours.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        kept: Sequence[int] | None,
        rename: Mapping[str, str],
        values: Mapping[str, Mapping[Any, Any]],
    ) -> None:
        self.rows, self.kept, self.rename, self.values = rows, kept, rename, values

    def __len__(self) -> int:
        return len(self.rows if self.kept is None else self.kept)

    def __getitem__(self, index: Any) -> Any:
        row = self.rows[self.place(index)]
        row = {self.rename.get(name, name): value for name, value in row.items()}
        return row | {name: self.value(name, row[name]) for name in self.values if name in row}

    def place(self, index: int) -> int:
        """The index into `rows`."""
        return index if self.kept is None else self.kept[index]

    def value(self, name: str, found: Any) -> Any:
        known = self.values.get(name, {})
        return known.get(found, found) if isinstance(found, (int, str, float)) else found

    def column(self, name: str) -> list[Any]:
        old = next((a for a, b in self.rename.items() if b == name and has_column(self.rows, a)), name)
        found = column(self.rows, old)
        found = found if self.kept is None else [found[i] for i in self.kept]
        return [self.value(name, value) for value in found] if name in self.values else found


@dataclass
class Source:
    """Where a task's rows come from. A split is read when `rows` first asks for it, and kept."""

    fingerprint: str  # "sha256:<hex>" of the local files, "hub:<id>@<commit>", or "generated"
    files: Mapping[str, Path] = field(default_factory=dict)  # split -> local file; empty elsewhere
    hub: Mapping[str, Any] = field(default_factory=dict)  # the place on the hub that the rows are from, `hub.places`
    world: str = ""  # whose rows `problems/world.py` makes; the provenance of a run covers that file
    note: str = ""  # why results on these rows cannot be set beside others
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
        if not self.files:
            return viewed(hub.load(self.hub, split, self.fingerprint.rpartition("@")[2]), self.hub)
        return viewed(row_files.read(self.files[split]), self.hub)

    def name(self, split: str) -> str:
        """What an error calls this split: its file, or its place on the hub."""
        if split in self.files:
            return str(self.files[split])
        return f"{self.world or self.hub.get('id', 'rows')} ({hub.theirs(self.hub, split)})"

    def where(self, split: str, index: int) -> str:
        """What an error calls a row, counted from 0: its file and line, or its place in the split of the hub."""
        rows: Any = self.rows(split)
        if isinstance(rows, View):
            rows, index = rows.rows, rows.place(index)
        return rows.where(index) if isinstance(rows, row_files.Rows) else f"{self.name(split)}, row {index + 1}"

    def column(self, split: str, name: str) -> list[Any]:
        """One field of all rows; on the hub's rows much faster than asking row by row."""
        rows = self.rows(split)
        try:
            return column(rows, name)
        except KeyError:
            missing = next(i for i, row in enumerate(rows) if name not in row)
            raise EnvironmentUnmet(f"{self.where(split, missing)}: no field {name!r}") from None

    def forget(self, split: str) -> None:
        """Drop the rows of a split once those that a run needs have been picked out."""
        self.cache.pop(split, None)


def has_column(rows: Any, name: str) -> bool:
    return name in (rows.column_names if hasattr(rows, "column_names") else next(iter(rows), {}))


def column(rows: Any, name: str) -> list[Any]:
    """One field of all rows of a list, a View or a `datasets.Dataset`; KeyError where one lacks it."""
    if isinstance(rows, View):
        return rows.column(name)
    if hasattr(rows, "column_names"):
        return list(rows[name])
    return [row[name] for row in rows]


def viewed(rows: Sequence[Row], place: Mapping[str, Any]) -> Sequence[Row]:
    """The rows as the task wants them: `rename`, `values` and `skip` of its place on the hub."""
    kept: Sequence[int] | None = None
    for name, value in place.get("skip", {}).items():
        if has_column(rows, name):
            found = column(rows, name)
            kept = [i for i in (range(len(found)) if kept is None else kept) if found[i] != value]
    if kept is not None and len(kept) == len(rows):
        kept = None
    rename, values = place.get("rename", {}), place.get("values", {})
    return View(rows, kept, rename, values) if rename or values or kept is not None else rows


def locate(info: Mapping[str, Any], data_dir: Path | str | None = None, fingerprint: str = "generated") -> Source:
    """Find a task's rows: generated where `info["world"]` says so, at `info["place"]` where they are a user's own; else in
    `data_dir`, in ZOBENCH_DATA, among those that `zobench prepare` froze, and last on the hub.

    Inside a directory the files are `<folder>/{train,validation}.{jsonl,parquet}`, `<folder>` being that of
    `info["hub"]` (`hub.places`), another name of the task, or nothing; a split whose name on the hub is another one is
    a file of that name. A `fingerprint` from a planned job is held to: a hub one names the place and the commit, and
    local files must still have the digest of a local one.

    Raises:
        EnvironmentUnmet: there are no rows to be had.
        MismatchError: the local files are not those of the fingerprint, or not those that were frozen.
    """
    if "world" in info:
        return Source("generated", world=info["world"])
    if "place" in info:
        from zobench.problems.own import rows

        return rows.source(info["place"], fingerprint)
    if fingerprint.startswith("hub:"):
        return at_commit(info, fingerprint)
    root = data_dir or os.environ.get("ZOBENCH_DATA")
    if root and (source := local(info, Path(root).expanduser(), fingerprint)):
        return source
    if data_dir:  # asked for by name: rows from elsewhere would be a surprise
        looked = ", ".join(str(f / wanted(place)) for place, f in candidates(info, Path(data_dir).expanduser()))
        raise EnvironmentUnmet(f"no rows under {data_dir}: looked for {looked}")
    if source := local(info, frozen.default_dir(), fingerprint):
        return source
    if fingerprint.startswith("sha256:"):
        raise EnvironmentUnmet(
            f"the rows that this run was planned with are gone ({fingerprint}); {hub.way_out(info['hub'])}"
        )
    try:
        place, commit = hub.locate(info["hub"])
    except EnvironmentUnmet as error:
        unused = f"; ZOBENCH_DATA={root} has no {info['hub']['folder']}" if root else ""
        raise EnvironmentUnmet(f"{error}{unused}") from error
    return Source(hub.fingerprint(place, commit), hub=place, note=hub.note(place))


def at_commit(info: Mapping[str, Any], fingerprint: str) -> Source:
    """The rows of a commit on the hub: as they were frozen here, else from the hub."""
    place = hub.place_of(info["hub"], fingerprint)
    for root in filter(None, (os.environ.get("ZOBENCH_DATA"), frozen.default_dir())):
        root = Path(root).expanduser()
        folder = root / place["folder"]
        files = find(folder, place)
        kept = frozen.check(root, folder, files.values()) if files else {}
        if files and all(kept.get(path.name, {}).get("source") == fingerprint for path in files.values()):
            return Source(fingerprint, files, place, note=hub.note(place))
    return Source(fingerprint, hub=place, note=hub.note(place))


def local(info: Mapping[str, Any], root: Path, fingerprint: str = "generated") -> Source | None:
    """The files of a task under a directory, or None; MismatchError where they are not those of the fingerprint."""
    for place, folder in candidates(info, root):
        if files := find(folder, place):
            frozen.check(root, folder, files.values())
            found = checked(digest(files), fingerprint, folder)
            return Source(found, files, place, note=hub.note(place))
    return None


def candidates(info: Mapping[str, Any], root: Path) -> list[tuple[Mapping[str, Any], Path]]:
    """(place on the hub, folder with rows of its form), in the order they are tried."""
    first, *others = hub.places(info["hub"])
    names = (first["folder"], *info.get("aliases", ()), "")
    found = {root / variant: first for name in names for variant in (name, name.lower())}
    for place in others:
        found.setdefault(root / place["folder"], place)
    return [(place, folder) for folder, place in found.items()]


def wanted(place: Mapping[str, Any]) -> str:
    """How an error writes the files of a folder."""
    return f"{{{','.join(hub.theirs(place, split) for split in SPLITS)}}}.{{{','.join(FORMATS)}}}"


def find(folder: Path, place: Mapping[str, Any]) -> dict[str, Path] | None:
    """Both splits' files in a folder, or None."""
    found = {}
    for split in SPLITS:
        name = hub.theirs(place, split)
        names = (name, split) if name == f"{split}_matched" else (name,)
        paths = (folder / f"{name}.{ending}" for name in names for ending in FORMATS)
        if path := next((p for p in paths if os.path.isfile(p)), None):
            found[split] = path
    return found if len(found) == len(SPLITS) else None


def digest(files: Mapping[str, Path], of: Callable[[Path], str] = frozen.file_digest) -> str:
    """sha256 over (split and ending, digest of the content), in the order of the splits' names."""
    total = hashlib.sha256()
    for name, path in sorted((f"{split}{path.suffix}", path) for split, path in files.items()):
        total.update(name.encode() + b"\0" + bytes.fromhex(of(path)))
    return f"sha256:{total.hexdigest()}"


def checked(found: str, wanted: str, folder: Path) -> str:
    if wanted.startswith("sha256:") and found != wanted:
        raise MismatchError(f"the rows in {folder} are not those this job was planned with; plan it again")
    return found
