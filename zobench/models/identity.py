"""What a model is called in a cell: a directory by the digest of its files, a hub model by its commit."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path

from zobench.models.hub import commit
from zobench.models.shapes import RANDOM
from zobench.spec import UsageError

SAMPLE = 1 << 20  # bytes read at each of several places of a large file: retrained weights differ everywhere
PLACES = 16


def identify(name: str, revision: str | None) -> tuple[str, str | None, str | None]:
    """(name, revision, path) of a hub id, a directory, or random:NAME.

    A directory is known by its last part and a digest of its configuration, tokenizer and safetensors (of files above
    16 MiB, of their size and sixteen samples), so that new weights under an old path are another cell.
    """
    if name.startswith("random:"):
        check_random(name.removeprefix("random:"))
        return name, None, None
    if looks_local(name):
        path = Path(name).expanduser()
        check_directory(path)
        return f"local:{path.resolve().name}", f"sha256:{directory_digest(path)}", str(path)
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
            "AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
        )


def directory_digest(path: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(p for p in path.iterdir() if p.suffix in (".json", ".safetensors", ".txt", ".model")):
        total.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        total.update(_sampled(file))
    return total.hexdigest()


def _sampled(file: Path) -> bytes:
    size, digest = file.stat().st_size, hashlib.sha256()
    with open(file, "rb") as stream:
        if size <= PLACES * SAMPLE:
            digest.update(stream.read())
        else:
            for i in range(PLACES):
                stream.seek((size - SAMPLE) * i // (PLACES - 1))
                digest.update(stream.read(SAMPLE))
    return digest.digest()
