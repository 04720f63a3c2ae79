"""The code to compare with: a directory as it is, or a revision in a git worktree that does not stay."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zobench.registry import PACKAGE
from zobench.spec import EnvironmentUnmet, UsageError


@dataclass(frozen=True)
class Checkout:
    """A directory with zobench/ in it, and what it is called."""

    root: Path
    name: str


HEAD = Checkout(PACKAGE.parent, "head")


@contextlib.contextmanager
def checkout(place: str, repository: Path = HEAD.root) -> Iterator[Checkout]:
    """The checkout in the directory `place`, or of the revision `place` of the repository, for as long as it is needed.

    Raises UsageError where it is neither, EnvironmentUnmet where git cannot make it.
    """
    directory = Path(place).expanduser()
    if place and (directory / "zobench" / "__init__.py").is_file():
        yield Checkout(directory.resolve(), place)
        return
    commit = _commit(place, repository)
    folder = Path(tempfile.mkdtemp(prefix="zobench-base-"))
    tree = folder / "tree"
    try:
        _git(repository, "worktree", "add", "--detach", "--force", str(tree), commit)
        if not (tree / "zobench" / "__init__.py").is_file():
            raise EnvironmentUnmet(f"base {place} ({commit[:12]}) has no zobench/; give a later revision")
        yield Checkout(tree.resolve(), f"{place} ({commit[:12]})" if not commit.startswith(place) else commit[:12])
    finally:
        with _undisturbed():
            with contextlib.suppress(EnvironmentUnmet):
                _git(repository, "worktree", "remove", "--force", "--force", str(tree))
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(EnvironmentUnmet):
                _git(repository, "worktree", "prune")


def _commit(revision: str, repository: Path) -> str:
    if not (repository / ".git").exists():
        raise EnvironmentUnmet(
            f"base {revision}: {repository} is no git checkout; give the directory of another checkout instead"
        )
    try:
        return _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except EnvironmentUnmet:
        fetch = f"; git fetch origin {revision.removeprefix('origin/')}" if revision.startswith("origin/") else ""
        raise UsageError(
            f"base {revision!r} is neither a directory with zobench/ in it nor a revision of {repository}{fetch}"
        ) from None


def _git(repository: Path, *words: str) -> str:
    """What git says. In a session of its own: a Ctrl-C in the terminal is for us, and must not stop it half-way."""
    command = ["git", "-C", str(repository), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=True)
    except FileNotFoundError:
        raise EnvironmentUnmet("--base needs git, or the directory of another checkout") from None
    except subprocess.CalledProcessError as error:
        why = " ".join(error.stderr.split())[:300]
        raise EnvironmentUnmet(f"git {' '.join(words[:2])} failed: {why}") from None
    return done.stdout.strip()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until this is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
