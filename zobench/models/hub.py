"""What the hub's `main` (or a given revision) points at now, or pointed at when it was cached."""

from __future__ import annotations

from pathlib import Path

from zobench.spec import EnvironmentUnmet

TIMEOUT = 10  # seconds; one question, asked once


def commit(repository: str, kind: str, revision: str | None, way_out: str) -> str:
    """The commit of a `model` or `dataset` repository; EnvironmentUnmet, ending in `way_out`, where nobody can say."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    reason = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            info = huggingface_hub.HfApi().repo_info(repository, repo_type=kind, revision=revision, timeout=TIMEOUT)
            return str(info.sha)
        except Exception as error:  # requests, httpx and the hub each have their own family of errors
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)
    cached = folder / "refs" / (revision or "main")
    if cached.is_file():
        return cached.read_text().strip()
    if revision and (folder / "snapshots" / revision).is_dir():
        return revision
    raise EnvironmentUnmet(f"{kind} {repository}: the hub cannot be reached ({reason}); {way_out}")
