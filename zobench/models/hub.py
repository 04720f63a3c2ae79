"""What the hub's `main` (or a given revision) points at now, or pointed at when it was cached."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from zobench.spec import EnvironmentUnmet

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"  # the names that transformers reads
TIMEOUT = 10  # seconds; one question, asked once
BOT = "SFconvertbot"  # the hub's, which offers pickled weights as safetensors in a pull request


def commit(repository: str, kind: str, revision: str | None, way_out: str) -> str:
    """The commit of a `model` or `dataset` repository; EnvironmentUnmet, ending in `way_out`, where nobody can say."""
    import huggingface_hub
    from huggingface_hub import constants

    revision = None if revision == "main" else revision
    reason = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            api = huggingface_hub.HfApi()
            info = api.repo_info(repository, repo_type=kind, revision=revision, timeout=TIMEOUT)
            found = main = str(info.sha)
            if kind == "model" and revision is None:
                if not _safe(f.rfilename for f in getattr(info, "siblings", None) or ()):
                    found = _conversion(api, repository, main) or main
                _remember(repository, main, found)
            return found
        except Exception as error:  # requests, httpx and the hub each have their own family of errors
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    found = _cached(repository, kind, revision)
    if found:
        return found
    cached = [p.name for p in _snapshots(repository, kind) if _whole(p)] if revision is None and kind == "model" else []
    if cached:
        way_out = f"which commit its main is cannot be known; choose a cached one: --revision {' or '.join(cached)}"
    raise EnvironmentUnmet(f"{kind} {repository}: the hub cannot be reached ({reason}); {way_out}")


def _safe(files: Iterable[str]) -> bool:
    return not {WEIGHTS, INDEX}.isdisjoint(files)


def _conversion(api: Any, repository: str, main: str) -> str | None:
    """The commit with which the hub's own bot offers a model's weights as safetensors, made from `main`; None without one.

    The OPT family has its weights there only. transformers looks it up in the same way, but for the name `main` alone.
    """
    for talk in api.get_repo_discussions(repository, author=BOT, discussion_type="pull_request"):
        if talk.author == BOT and talk.status in ("open", "merged") and talk.git_reference:
            commits = api.list_repo_commits(repository, revision=talk.git_reference)
            if main in [c.commit_id for c in commits[1:2]]:
                return str(commits[0].commit_id)
    return None


# --- without the hub --------------------------------------------------------------------------------------------------


def _folder(repository: str, kind: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)


def _snapshots(repository: str, kind: str) -> list[Path]:
    return sorted((_folder(repository, kind) / "snapshots").glob("*"))


def _whole(snapshot: Path) -> bool:
    """Whether a snapshot has the weights, each file of them."""
    if (snapshot / WEIGHTS).is_file():
        return True
    try:
        files = set(json.loads((snapshot / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return all((snapshot / file).is_file() for file in files)


def _cached(repository: str, kind: str, revision: str | None) -> str | None:
    """The commit that this name meant when it was cached; of a model's main, one that has its weights."""
    folder = _folder(repository, kind)
    cached = folder / "refs" / (revision or "main")
    named = cached.read_text().strip() if cached.is_file() else None
    if kind == "model" and revision is None:
        main, found = _remembered(repository)
        if named and _whole(folder / "snapshots" / named):
            return named
        return found if found and named in (None, main) and _whole(folder / "snapshots" / found) else None
    if named is None and revision and (folder / "snapshots" / revision).is_dir():
        return revision
    return named


def _note(repository: str) -> Path:
    """Where it is kept what main was, and which commit was taken for it.

    The hub's own cache has neither: it keeps names only for what was downloaded by name.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return home / "zobench" / "models" / f"{_folder(repository, 'model').name}.json"


def _remember(repository: str, main: str, found: str) -> None:
    path = _note(repository)
    with suppress(OSError):  # a cache that cannot be written makes nothing wrong
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_text(json.dumps({"main": main, "commit": found}), encoding="utf-8")
        fresh.replace(path)


def _remembered(repository: str) -> tuple[str | None, str | None]:
    """(main, the commit taken for it) as the hub last told; None without."""
    try:
        kept = json.loads(_note(repository).read_text(encoding="utf-8"))
        return str(kept["main"]), str(kept["commit"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
