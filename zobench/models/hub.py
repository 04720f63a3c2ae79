"""What the hub's `main` (or a given revision) points at now, or pointed at when it was cached."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zobench.spec import EnvironmentUnmet

TIMEOUT = 10  # seconds; one question, asked once
BOT = "SFconvertbot"  # the hub's, which offers pickled weights as safetensors in a pull request


def commit(repository: str, kind: str, revision: str | None, way_out: str) -> str:
    """The commit of a `model` or `dataset` repository; EnvironmentUnmet, ending in `way_out`, where nobody can say."""
    import huggingface_hub
    from huggingface_hub import constants

    reason = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            api = huggingface_hub.HfApi()
            info = api.repo_info(repository, repo_type=kind, revision=revision, timeout=TIMEOUT)
            if (
                kind == "model"
                and revision is None
                and not _safe(f.rfilename for f in getattr(info, "siblings", None) or ())
            ):
                return _conversion(api, repository, str(info.sha)) or str(info.sha)
            return str(info.sha)
        except Exception as error:  # requests, httpx and the hub each have their own family of errors
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    found = _cached(repository, kind, revision)
    if found:
        return found
    raise EnvironmentUnmet(f"{kind} {repository}: the hub cannot be reached ({reason}); {way_out}")


def _safe(files: Iterable[str]) -> bool:
    return any(name.endswith(".safetensors") for name in files)


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


def _cached(repository: str, kind: str, revision: str | None) -> str | None:
    """The commit that was cached under this name; of a model, one that has its weights."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)
    cached = folder / "refs" / (revision or "main")
    named = cached.read_text().strip() if cached.is_file() else None
    if kind == "model" and revision is None:
        whole = [p.parent.name for p in sorted((folder / "snapshots").glob("*/*.safetensors"))]
        if whole and named not in whole:
            return whole[-1]
    if named is None and revision and (folder / "snapshots" / revision).is_dir():
        return revision
    return named
