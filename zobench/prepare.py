"""`zobench prepare`: rows and models are fetched once, checked, and frozen, so that every run after it is offline."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from zobench import plan, registry
from zobench.problems import data, frozen, hub
from zobench.problems.data import Source
from zobench.problems.fields import check_row
from zobench.problems.hub import SPLITS
from zobench.registry import Entry
from zobench.spec import EnvironmentUnmet, MismatchError, UsageError, ZobenchError

ABANDONED = 86400.0  # seconds after which an unfinished write is that of a process that died
WEIGHTS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")  # of a model; never a pickle


@dataclass
class Dataset:
    """The files that some tasks share."""

    info: Mapping[str, Any]  # of the first of the tasks
    tasks: list[str]
    fields: list[Mapping[str, Any]]  # what each of them asks of a row

    @property
    def folder(self) -> str:
        return str(self.info["hub"]["folder"])

    @property
    def sizes(self) -> Mapping[str, int]:
        return self.info.get("sizes", {})


@dataclass(frozen=True)
class Answer:
    """What became of a dataset or a model."""

    name: str
    state: str  # frozen | frozen already | nothing to do | failed
    text: str
    tasks: Sequence[str] = ()
    source: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)
    code: int = 0  # exit code of the error

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def default_dir() -> Path:
    """ZOBENCH_DATA, else the directory where `data.locate` looks by itself."""
    root = os.environ.get("ZOBENCH_DATA")
    return Path(root).expanduser() if root else frozen.default_dir()


def prepare(
    entries: Iterable[Entry], target: Path, data_dir: Path | None = None, partial: bool = False
) -> Iterator[Answer]:
    """Freeze the rows of each task under `target`, each dataset once; what fails is an Answer, and the others go on.

    Args:
        data_dir: take the rows from this directory; without it from where a run would.
        partial: accept another number of rows than the whole data have.
    """
    found = list(entries)
    for entry in found:
        if "hub" not in entry.info:
            yield Answer(entry.name, "nothing to do", "its rows are generated or lie beside it", (entry.name,))
    for dataset in datasets(found):
        try:
            yield freeze(dataset, target, data_dir, partial)
        except ZobenchError as error:
            yield Answer(dataset.folder, "failed", str(error), dataset.tasks, code=error.code)


def asked(texts: Iterable[str]) -> list[Entry]:
    """The entries of tasks as a user writes them; of their options, those count that choose the data."""
    found = []
    for text in texts:
        for name, given in plan.grid(text):
            entry = registry.find("task", name)
            found.append(_variant(entry, registry.resolve(entry, given)))
    return found


def every() -> list[Entry]:
    """The entries of all tasks, with every value of the options that choose the data."""
    found = []
    for entry in registry.entries("task").values():
        found.append(entry)
        for option, values in entry.info.get("by", {}).items():
            found += [_variant(entry, {option: value}) for value in values]
    return found


def _variant(entry: Entry, options: Mapping[str, Any]) -> Entry:
    chosen = {key: value for key, value in options.items() if key in entry.info.get("by", {})}
    return replace(registry.chosen(entry, chosen), name=registry.label(entry, chosen))


def datasets(entries: Iterable[Entry]) -> list[Dataset]:
    """The datasets of tasks, in their order; tasks with the same files share theirs."""
    found: dict[tuple[str, ...], Dataset] = {}
    for entry in entries:
        info = entry.info
        if "hub" not in info:
            continue
        place = info["hub"]
        key = (place["folder"], *(hub.theirs(place, split) for split in SPLITS))
        mine = found.setdefault(key, Dataset(info, [], []))
        one, other = ((p["id"], p.get("config")) for p in (mine.info["hub"], place))
        if one != other:
            raise UsageError(f"{entry.name} and {mine.tasks[0]} name different data for the folder {mine.folder}")
        if entry.name not in mine.tasks:
            mine.tasks.append(entry.name)
            mine.fields.append(info.get("fields", {}))
    return list(found.values())


def freeze(dataset: Dataset, target: Path, data_dir: Path | None, partial: bool) -> Answer:
    """Freeze one dataset, or find that it is frozen; ZobenchError where its rows are not as they must be.

    Raises:
        EnvironmentUnmet: no rows to be had, a row that is wrong, another number of rows than there should be, no room.
        MismatchError: a file is not the one that was frozen.
    """
    for place in hub.places(dataset.info["hub"]):
        files = data.find(target / place["folder"], place)
        kept = frozen.check(target, target / place["folder"], files.values()) if files else {}
        if files and all(path.name in kept for path in files.values()):
            rows = {split: int(kept[path.name]["rows"]) for split, path in files.items()}
            check_sizes(dataset, rows, partial)
            if data_dir is not None:
                check_origin(dataset, data.locate(dataset.info, data_dir), files, kept)
            return _answer("frozen already", dataset, kept[files["train"].name]["source"], rows, hub.note(place))
    reasons = []
    for source in sources(dataset, target, data_dir):
        try:
            return write(dataset, source, target, partial)
        except hub.NotThere as error:  # the commit is there, but nothing in it that can be read
            reasons.append(str(error))
    raise EnvironmentUnmet("; ".join(reasons))


def sources(dataset: Dataset, target: Path, data_dir: Path | None) -> Iterator[Source]:
    """Where the rows may be taken from, in the order they are tried."""
    places = hub.places(dataset.info["hub"])
    if data_dir is None:  # other files of the folder came from a commit: this one belongs to it
        kept = frozen.folders(target).get(dataset.folder, {}).values()
        for name in dict.fromkeys(file["source"] for file in kept if file["source"].startswith("hub:")):
            named = next((p for p in places if name.startswith(hub.fingerprint(p, ""))), None)
            if named:
                yield Source(name, hub=named, note=hub.note(named))
    first = data.locate(dataset.info, data_dir)
    yield first
    if first.files:
        return
    for place in places[places.index(dict(first.hub)) + 1 :]:
        with contextlib.suppress(hub.NotThere):
            yield Source(hub.fingerprint(place, hub.commit(place)), hub=place, note=hub.note(place))


def check_origin(dataset: Dataset, source: Source, files: Mapping[str, Path], kept: Mapping[str, Any]) -> None:
    """Rows asked for by their directory must be those that are frozen."""
    for split, path in files.items():
        same = source.files[split].resolve() == path.resolve()
        if not same and origin(source, split) != kept[path.name]["source"]:
            raise MismatchError(_conflict(path, kept[path.name]["source"]))


def origin(source: Source, split: str) -> str:
    """What the rows of a split are called: their place on the hub, or the digest of their file; of a frozen copy, what it
    was copied from.
    """
    path = source.files.get(split)
    if path is None:
        return source.fingerprint
    for root in path.parents[1:]:
        folder = path.parent.relative_to(root).as_posix()
        if kept := frozen.folders(root).get(folder, {}).get(path.name):
            return str(kept["source"])
    return f"sha256:{frozen.file_digest(path)}"


def _conflict(path: Path, source: str) -> str:
    return f"{path} has other rows, frozen from {source}; give another directory with -o, or delete {path.parent} first"


def check_sizes(dataset: Dataset, rows: Mapping[str, int], partial: bool) -> None:
    other = [f"{split} {rows[split]} of {n}" for split, n in dataset.sizes.items() if rows[split] != n]
    if other and not partial:
        raise EnvironmentUnmet(
            f"not the whole data ({', '.join(other)} rows); --partial freezes them all the same, and reports rank "
            "runs on them apart"
        )


def write(dataset: Dataset, source: Source, target: Path, partial: bool) -> Answer:
    """Write both splits beside their places, then the list, then put the files into their places."""
    folder = target / source.hub["folder"]
    kept = frozen.folders(target).get(source.hub["folder"], {})
    kept = {name: entry for name, entry in kept.items() if (folder / name).exists()}
    temporary: dict[Path, Path] = {}
    files, rows, named = dict(kept), {}, ""  # named: what the train rows are called
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        for split in SPLITS:
            path, given = folder / f"{hub.theirs(source.hub, split)}.jsonl", source.files.get(split)
            if given is not None and given.parent.resolve() == folder.resolve():  # frozen as it lies
                rows[split] = sum(1 for _ in lines(dataset, source, split))
                path, found = given, frozen.file_digest(given)
            else:
                _refuse_theirs(path, kept, target)
                temporary[path] = path.with_name(f".{path.name}.{os.getpid()}.tmp")
                rows[split] = put(temporary[path], lines(dataset, source, split))
                found = frozen.file_digest(temporary[path])
            if path.name in kept and found != kept[path.name]["sha256"]:
                raise MismatchError(_conflict(path, kept[path.name]["source"]))
            entry = {"source": origin(source, split), "rows": rows[split], "sha256": found}
            entry = files.setdefault(path.name, entry)
            named = named or entry["source"]
            source.forget(split)
        check_sizes(dataset, rows, partial)
        temporary[target / frozen.NAME] = target / f".{frozen.NAME}.{os.getpid()}.tmp"
        listed = frozen.text(frozen.folders(target) | {source.hub["folder"]: files})
        put(temporary[target / frozen.NAME], [listed.encode()])
        # The list goes first: files without their line in it would pass for somebody's own.
        for final in sorted(temporary, key=lambda p: p.name != frozen.NAME):
            os.replace(temporary[final], final)
        sync(folder)
        return _answer("frozen", dataset, named, rows, source.note)
    except OSError as error:
        raise EnvironmentUnmet(f"cannot write {error.filename or folder}: {error.strerror or error}") from error
    finally:
        for unfinished in temporary.values():
            unfinished.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()


def _refuse_theirs(path: Path, kept: Mapping[str, Any], target: Path) -> None:
    """A file that this command did not write is never written over."""
    if path.exists() and path.name not in kept:
        raise UsageError(
            f"{path} is there, and not from zobench prepare; give another directory with -o, or freeze the files as "
            f"they lie with --data {target}"
        )


def lines(dataset: Dataset, source: Source, split: str) -> Iterator[bytes]:
    """The rows as JSON, checked: fields in the order of the hub, shortest floats, one form of a row for all machines."""
    for i, row in enumerate(source.rows(split)):
        for fields in dataset.fields:
            if wrong := check_row(row, fields):
                raise EnvironmentUnmet(f"{source.where(split, i)}: {wrong}")
        try:
            text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        except (ValueError, TypeError) as error:
            raise EnvironmentUnmet(f"{source.where(split, i)}: not to be written as JSON ({error})") from error
        try:
            yield text.encode() + b"\n"
        except UnicodeEncodeError:  # half of a surrogate pair: only JSON's own escapes can hold it
            yield json.dumps(row).encode() + b"\n"


def put(path: Path, chunks: Iterable[bytes]) -> int:
    """Write a file that is on the disk when this returns; returns how many chunks there were."""
    count = 0
    with open(path, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def sync(folder: Path) -> None:
    """Make the renames last, where a directory can be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sweep(folder: Path) -> None:
    """Delete unfinished writes of processes that died long ago."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


def _answer(state: str, dataset: Dataset, source: str, rows: Mapping[str, int], note: str) -> Answer:
    counts = ", ".join(f"{n} {split}" for split, n in rows.items())
    other = [split for split, n in dataset.sizes.items() if rows[split] != n]
    text = (
        f"{counts} rows of {source if source.startswith('hub:') else 'local files'}"
        + ("; partial data" if other else "")
        + (f"; not comparable: {note}" if note else "")
    )
    return Answer(dataset.folder, state, text, dataset.tasks, source, dict(rows))


def check(answers: Sequence[Answer]) -> None:
    """Raise where something failed: MismatchError if a frozen file has changed, else EnvironmentUnmet."""
    failed = [answer for answer in answers if answer.code]
    if failed:
        names = ", ".join(answer.name for answer in failed)
        family = MismatchError if any(a.code == MismatchError.code for a in failed) else EnvironmentUnmet
        raise family(f"{len(failed)} of {len(answers)} not prepared: {names}")


def fetch_model(name: str, revision: str | None = None) -> Answer:
    """Bring a model of the hub into its cache: configuration, tokenizer and safetensors.

    Raises:
        EnvironmentUnmet: there is no network, no such model, or none as safetensors.
    """
    from zobench.models.identity import identify, looks_local

    if name == "tiny" or name.startswith("random:") or looks_local(name):
        identify(name, revision)
        return Answer(name, "nothing to do", "the model is on this machine")
    import huggingface_hub
    from huggingface_hub import constants

    advice = "fetch it on a machine with a network and copy ~/.cache/huggingface, or give a directory with -m"
    if constants.HF_HUB_OFFLINE:
        raise EnvironmentUnmet(f"HF_HUB_OFFLINE is set; {advice}")
    try:
        _, commit, _ = identify(name, revision)  # of the hub's own conversion, where main has no safetensors
        path = huggingface_hub.snapshot_download(name, revision=commit, allow_patterns=list(WEIGHTS))
    except EnvironmentUnmet:
        raise
    except Exception as error:  # requests, httpx and the hub each have their own family of errors
        raise EnvironmentUnmet(f"cannot be fetched ({hub.one_line(error)}); {advice}") from error
    if not any(Path(path).glob("*.safetensors")):
        raise EnvironmentUnmet(
            "no *.safetensors in it, and only these are read; convert the weights with "
            "from_pretrained(...).save_pretrained(DIR) and give the directory"
        )
    return Answer(name, "frozen", f"commit {Path(path).name}")
