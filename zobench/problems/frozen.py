"""The list that `zobench prepare` keeps beside the rows it has frozen: which rows they are, and the digest of each file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from zobench.spec import EnvironmentUnmet, MismatchError

NAME = "zobench-data.json"
FORMAT = 1
_digests: dict[tuple[str, int, int], str] = {}  # of files already read by this process


def default_dir() -> Path:
    """Where frozen rows are found without being named: $XDG_CACHE_HOME/zobench/data."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "zobench" / "data"


def folders(root: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """folder -> name of a file -> {"source": fingerprint, "rows": how many, "sha256"}; empty without a list.

    Raises:
        EnvironmentUnmet: the list cannot be read.
    """
    path = root / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise EnvironmentUnmet(f"{path}: written by another version of zobench; prepare into another directory")
        return dict(found["folders"])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EnvironmentUnmet(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EnvironmentUnmet(f"{path}: not a list of frozen rows ({error}); delete it and prepare again") from error


def text(entries: Mapping[str, Any]) -> str:
    """The content of the list."""
    return json.dumps({"format": FORMAT, "folders": dict(sorted(entries.items()))}, indent=1, ensure_ascii=False) + "\n"


def check(root: Path, folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """What the list says of a folder, once these files in it have been found to be as they were frozen.

    Raises:
        MismatchError: a file is another one now; says which.
    """
    within = Path(os.path.relpath(folder, root)).as_posix()
    entry = folders(root).get(within, {})
    for path in files:
        kept = entry.get(path.name)
        if kept and kept["sha256"] != file_digest(path):
            raise MismatchError(
                f"{path} has changed since it was frozen (sha256 {file_digest(path)[:12]}, in {root / NAME} "
                f"{kept['sha256'][:12]}); put the old file back, or delete {folder} and run zobench prepare again"
            )
    return entry


def file_digest(path: Path) -> str:
    """sha256 of a file, read once by a process as long as size and time of change stay."""
    state = path.stat()
    key = (str(path.resolve()), state.st_size, state.st_mtime_ns)
    if key not in _digests:
        with open(path, "rb") as file:
            _digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digests[key]
