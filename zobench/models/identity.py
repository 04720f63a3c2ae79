"""What a model is called in a cell: a directory by the digest of its files, a hub model by its commit."""

from __future__ import annotations

import difflib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zobench.models.hub import commit
from zobench.models.shapes import RANDOM, TINY
from zobench.spec import UsageError


def identify(name: str, revision: str | None) -> tuple[str, str | None, str | None]:
    """(name, revision, path) of a hub id, a directory, random:NAME, or tiny.

    A directory is known by its last part and a digest of its configuration, tokenizer and safetensors, so that new weights
    under an old path are another cell. So is the bundled model, by its own name and without a path: it is where the package is.
    """
    if name == "tiny":
        return name, f"sha256:{directory_digest(TINY)}", None
    if name.startswith("random:"):
        check_random(name.removeprefix("random:"))
        return name, None, None
    if looks_local(name):
        path = Path(name).expanduser()
        check_directory(path)
        return f"local:{path.resolve().name}", f"sha256:{directory_digest(path)}", str(path.resolve())
    way_out = "give a directory written by save_pretrained, or random:opt-nano, which needs no network"
    return name, commit(name, "model", revision, way_out), None


def check_random(name: str) -> None:
    if name not in RANDOM:
        near = difflib.get_close_matches(name, RANDOM, n=1)
        hint = f"; did you mean random:{near[0]}?" if near else f"; there are {', '.join(RANDOM)}"
        raise UsageError(f"no random model {name!r}{hint}")


def looks_local(name: str) -> bool:
    """Whether a model's name means a directory: it exists, or it is written as only a path is."""
    return Path(name).expanduser().exists() or name.startswith((".", "/", "~")) or name.count("/") > 1


def check_directory(path: Path) -> None:
    """Say what a model directory lacks before transformers says it at length."""
    if not path.is_dir():
        raise UsageError(f"model {str(path)!r}: no such directory")
    if not (path / "config.json").is_file():
        raise UsageError(f"model {str(path)!r}: no config.json in it; write one with model.save_pretrained")
    if not any(path.glob("*.safetensors")):
        raise UsageError(
            f"model {str(path)!r}: no *.safetensors in it; only safetensors are read, convert other weights with "
            "from_pretrained(...).save_pretrained(...) of the transformers class that config.json names under architectures"
        )


def directory_digest(path: Path) -> str:
    """sha256 over names and contents of configuration, tokenizer and weights, files in parallel."""
    files = sorted(p for p in path.iterdir() if p.suffix in (".json", ".safetensors", ".txt", ".model"))
    total = hashlib.sha256()
    with ThreadPoolExecutor() as pool:  # hashlib releases the GIL
        for file, digest in zip(files, pool.map(_file_digest, files), strict=True):
            total.update(file.name.encode() + b"\0" + digest)
    return total.hexdigest()


def _file_digest(file: Path) -> bytes:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
