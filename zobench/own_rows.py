"""A user's own rows as a task: `choice:FILE.jsonl` and `generate:FILE.jsonl`, or a directory with two files.

Standard library only. What such a task is stands in zobench/problems/own/, in the form of a task's file.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from zobench import registry
from zobench.spec import UsageError

FOLDER = Path(__file__).parent / "problems" / "own"
SPLITS = ("train", "validation")
FORMATS = ("jsonl", "parquet")


def kinds() -> list[str]:
    """choice, generate."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py") if path.stem != "rows")


def is_own(name: str) -> bool:
    """Whether a task is written as `KIND:PLACE`."""
    return name.partition(":")[0] in kinds() and ":" in name


def find(name: str) -> registry.Entry:
    """The entry of `KIND:PLACE`. In a cell it is called `KIND:NAME`, NAME being the place's own without its folders."""
    kind, _, given = name.partition(":")
    place = Path(given).expanduser().resolve()
    if given and place.is_dir():
        lacking = [split for split in SPLITS if not any((place / f"{split}.{e}").is_file() for e in FORMATS)]
        if lacking:
            raise UsageError(f"task {name}: the directory has no {' and no '.join(f'{s}.jsonl' for s in lacking)}")
    elif not given or not place.is_file():
        raise UsageError(
            f"task {name}: there is no such file; write {kind}:FILE.jsonl, or a directory with train.jsonl and validation.jsonl"
        )
    elif place.suffix.removeprefix(".") not in FORMATS:
        raise UsageError(f"task {name}: rows are read from .jsonl and .parquet files, not {place.suffix or 'others'}")
    entry = registry.read("task", FOLDER / f"{kind}.py", builtin=True)
    info = {**entry.info, "place": str(place)}
    short = place.stem if place.is_file() else place.name
    return replace(entry, name=f"{kind}:{short}", builtin=False, info=info, asked=f"{kind}:{place}")


def load(entry: registry.Entry) -> Any:
    """What a task's file has, its `build` told where the rows lie."""
    module = importlib.import_module(f"zobench.problems.own.{entry.path.stem}")
    build = partial(module.build, place=entry.info["place"])
    return SimpleNamespace(INFO=entry.info, example=module.example, build=build)
