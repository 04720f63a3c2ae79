"""Rows on the Hugging Face hub: the places where a task's rows may be had, the commit of each, and a split of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zobench.models.hub import TIMEOUT
from zobench.spec import EnvironmentUnmet

SPLITS = ("train", "validation")
CONVERTED = "refs/convert/parquet"  # the hub's own Parquet copy of a dataset: <config>/<split>/0000.parquet
Place = Mapping[str, Any]


class NotThere(EnvironmentUnmet):
    """The hub answers, and this place has no rows that can be read; the next one is worth a try."""


def places(hub: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where a task's rows may be had, in the order they are tried: `info["hub"]`, then its fallbacks.

    The literal of a task is

        hub=dict(
            id="aps/super_glue", config="rte",
            folder="super_glue/rte",                  # of local files, and where `zobench prepare` writes
            validation="validation_matched",          # the hub's split that plays this part, where its name is another
            skip=dict(label=-1),                      # rows with this value are left out
            rename=dict(label="answer"),              # field: theirs -> ours
            values=dict(answer={0: False, 1: True}),  # of a field, after renaming: theirs -> ours
            fallbacks=(
                dict(revision="refs/convert/parquet"),  # what a fallback does not say is as above
                dict(id="somebody/mirror", comparable=False, why="rows are in another order"),
            ),
        )

    with `id` and `folder` needed and everything else optional. A fallback whose rows have another form has a folder of its own.
    `comparable=False` says that results on its rows must not be set beside those of the other places, and `why`.
    """
    first = {key: value for key, value in hub.items() if key != "fallbacks"}
    return [first, *({**first, **other} for other in hub.get("fallbacks", ()))]


def theirs(hub: Place, split: str) -> str:
    """The hub's name of the split that plays this part."""
    return str(hub.get(split, split))


def note(hub: Place) -> str:
    """Why results on the rows of this place cannot be set beside others; empty where they can."""
    return "" if hub.get("comparable", True) else str(hub.get("why") or f"rows of {hub['id']}, a substitute")


def way_out(hub: Place) -> str:
    train, validation = (f"{hub['folder']}/{theirs(hub, split)}.jsonl" for split in SPLITS)
    return (
        f"give --data DIR or set ZOBENCH_DATA to a directory with {train} and {validation}; `zobench prepare` "
        "on a machine with a network makes one, which may be copied here"
    )


def fingerprint(place: Place, commit: str) -> str:
    """`hub:<id>@<commit>`; a revision other than main stands before the commit: `hub:<id>:<revision>@<commit>`."""
    revision = f":{place['revision']}" if place.get("revision") else ""
    return f"hub:{place['id']}{revision}@{commit}"


def place_of(hub: Mapping[str, Any], named: str) -> Place:
    """The place that a fingerprint names."""
    for place in places(hub):
        if named.startswith(fingerprint(place, "")):
            return place
    raise EnvironmentUnmet(f"the rows of {named} are none that this task names now; plan the run again")


def locate(hub: Mapping[str, Any]) -> tuple[Place, str]:
    """The first place that has rows, and its commit now.

    A place where the hub has none, or only a script that makes them, gives way to the next one; a hub that cannot be reached
    does not, because the next one would be other data for no reason of the data's.

    Raises:
        EnvironmentUnmet: no place has rows, or the hub cannot be asked; says why of each, and the way out.
    """
    reasons = []
    for place in places(hub):
        try:
            return place, commit(place)
        except NotThere as error:
            reasons.append(str(error))
        except EnvironmentUnmet as error:
            raise EnvironmentUnmet("; ".join([*reasons, str(error), way_out(hub)])) from error
    raise EnvironmentUnmet("; ".join([*reasons, way_out(hub)]))


def commit(place: Place) -> str:
    """The commit at which a place stands now or, where the hub cannot be asked, stood when it was cached.

    Raises:
        NotThere: no such dataset or revision, or it is a script.
        EnvironmentUnmet: the hub cannot be asked and nothing is cached.
    """
    import huggingface_hub
    from huggingface_hub import constants, errors
    from huggingface_hub.file_download import repo_folder_name

    name, revision = place["id"], place.get("revision")
    called = f"dataset {name}" + (f" ({revision})" if revision else "")
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="dataset")
    cached, reason = folder / "refs" / (revision or "main"), "HF_HUB_OFFLINE is set"
    found, files = "", []
    if not constants.HF_HUB_OFFLINE:
        try:
            info = huggingface_hub.HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT)
            found, files = str(info.sha), [sibling.rfilename for sibling in info.siblings or ()]
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
            raise NotThere(f"{called}: not on the hub, or not to be had without logging in") from error
        except Exception as error:  # requests, httpx and the hub each have their own family of errors
            reason = one_line(error)
    if not found and cached.is_file():
        found = cached.read_text().strip()
        files = [p.name for p in (folder / "snapshots" / found).glob("*.py")]
    if not found:
        raise EnvironmentUnmet(f"{called}: the hub cannot be reached ({reason})")
    if f"{name.rpartition('/')[2]}.py" in files:
        raise NotThere(f"{called}: it is a script, and the library datasets runs none")
    return found


def load(place: Place, split: str, commit: str) -> Sequence[Mapping[str, Any]]:
    """A split of a place at a commit: a `datasets.Dataset`, of which only counting, indexing and columns are asked.

    Raises:
        NotThere: the hub answers, but has no such configuration or split, or none that can be read.
        EnvironmentUnmet: anything else that went wrong, a network first of all.
    """
    import datasets

    name, config, part = place["id"], place.get("config"), theirs(place, split)
    wanted: dict[str, Any] = dict(split=part, revision=commit)
    if place.get("revision") == CONVERTED:  # without a card: the library would take all configurations for one
        wanted["data_files"], config = {part: f"{config or 'default'}/{part}/*.parquet"}, None
    try:
        rows: Any = datasets.load_dataset(name, config, **wanted)
        return rows
    except Exception as error:  # as above; the message is what a user needs
        family = NotThere if _absent(error) else EnvironmentUnmet
        raise family(f"no rows of {name} at {commit[:12]} ({one_line(error)}); {way_out(place)}") from error


def _absent(error: Exception) -> bool:
    """Whether the hub answered that it has nothing for us, rather than not at all."""
    if isinstance(error, RuntimeError):
        return "Dataset scripts are no longer supported" in str(error)
    if isinstance(error, ValueError):
        return "BuilderConfig" in str(error) or "Unknown split" in str(error)
    return isinstance(error, FileNotFoundError) or type(error).__name__ == "EmptyDatasetError"


def one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
