"""`zobench compare`: two stores, two commits or two optimizers side by side."""

from __future__ import annotations

import difflib
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zobench import registry
from zobench.cli.common import OneOf, give, json_option, many, names_option, written

if TYPE_CHECKING:
    from zobench.record import Problem
    from zobench.report.compare import Side

SORTS = ("task", "verdict", "effect", "p")
KINDS = ("points", "factor", "relative")  # of margins
HEX = re.compile(r"[0-9a-f]{4,40}")
HASH = re.compile(r"[0-9a-f]{40,64}")


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--store", metavar="DIR", help="Of commits and optimizers. Default: $ZOBENCH_STORE or ./zobench-runs.")
@names_option("-t", "--task", "--tasks", "tasks", help="Only these (wildcards allowed).")
@names_option("-O", "--optimizer", "--optimizers", "optimizers", help="Of stores and commits, only these.")
@names_option("--suite", "suites", help="Only tasks of these suites.")
@click.option(
    "--margin", "margins", multiple=True, callback=many, metavar="[KIND=]X",
    help="The smallest difference that matters, in points of an accuracy, as a factor on a log scale, or relative (of other "
    "metrics), or for one metric by name. Default: points=1,factor=1.1,relative=0.01.",
)  # fmt: skip
@click.option(
    "--alpha", type=float, default=0.05, show_default=True, help="Level of the tests, over all lines together."
)
@click.option("--only-changed", is_flag=True, help="Show only what is better or worse.")
@click.option("--sort", type=OneOf(SORTS), default="task", show_default=True, help="Order of the lines.")
@click.option(
    "-o", "--output", "outputs", multiple=True, metavar="FILE",
    help="Write a file; its ending says what: .md or .json. Repeatable.",
)  # fmt: skip
@json_option
def compare(
    a: str, b: str, store: str | None, tasks: list[str], optimizers: list[str], suites: list[str], margins: list[str],
    alpha: float, only_changed: bool, sort: str, outputs: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Say of A whether it is better than B, the same, worse, or undecided, and by how much.

    A and B are tried as, in this order: a directory of results (or one file); REV:DIR, a directory as it was at a revision of
    git; a commit of runs in the store, by its first digits or a name that git knows; an optimizer in the store, with options
    or without. What could be two of these is refused.

    \b
    zobench compare HEAD~1:results results               what the last commit changed
    zobench compare mezo 'adam[lr=1e-5]' --store results two optimizers, wherever both ran
    zobench compare 808c6b main --store results          what two commits measured

    Of an optimizer with several settings the one best on validation counts. The exit code does not depend on who is better;
    5 says that there was nothing to compare.
    """
    from zobench import plan
    from zobench.report import compare as comparison
    from zobench.report.compare_text import markdown, show

    if not 0 < alpha < 1:
        raise click.UsageError(f"alpha {alpha:g}: must be between 0 and 1")
    given = _margins(margins)
    files = written(outputs)
    with ExitStack() as stack:
        asked = _Asked(Path(store) if store else plan.default_store(), stack)
        sides = [asked.side(text) for text in (a, b)]
    if sides[0].kind == sides[1].kind == "optimizer":
        if optimizers:
            raise click.UsageError("-O filters stores and commits; here A and B are the optimizers")
        sides = _told_apart(sides[0], sides[1])
    wanted = {"task": _names("task", tasks), "optimizer": _names("optimizer", optimizers), "suite": suites}
    sides = _filtered(sides, wanted)
    found = comparison.compare(
        sides[0], sides[1], margins=given, alpha=alpha, only_changed=only_changed, sort=sort, problems=asked.problems
    )
    give(found, markdown, show, files, as_json)


def _margins(texts: list[str]) -> dict[str, float] | float | None:
    """`points=1,factor=1.1`, or one number for all lines."""
    found: dict[str, float] = {}
    for text in texts:
        name, equals, amount = text.rpartition("=")
        try:
            value = float(amount)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise click.UsageError(f"margin {text!r}: write a number, or KIND=X with {', '.join(KINDS)} or a metric")
        if not equals and len(texts) > 1:
            raise click.UsageError(f"margin {text}: of several, each needs its kind, such as points={text}")
        if not equals:
            return value
        found[name.strip()] = value
    return found or None


def _names(kind: str, names: list[str]) -> list[str]:
    """Names as results have them: `toy-qa` is stored as toy_qa; what is no entry here is taken as it is."""
    entries = registry.entries(kind).values()
    known = {name.replace("-", "_"): entry.name for entry in entries for name in (*entry.aliases, entry.name)}
    return [known.get(name.replace("-", "_"), name) for name in names]


def _filtered(sides: list[Side], wanted: Mapping[str, list[str]]) -> list[Side]:
    from zobench.spec import NothingMeasured

    def admits(record: Mapping[str, Any]) -> bool:
        return all(
            any(fnmatchcase(record[column] or "none", pattern) for pattern in patterns)
            for column, patterns in wanted.items()
            if patterns
        )

    kept = [replace(side, records=[r for r in side.records if admits(r)]) for side in sides]
    if any(wanted.values()) and not any(side.records for side in kept):
        asked = ", ".join(f"{column} {pattern}" for column, patterns in wanted.items() for pattern in patterns)
        column, patterns = next((column, patterns) for column, patterns in wanted.items() if patterns)
        have = sorted({r[column] or "none" for side in sides for r in side.records})
        near = registry.did_you_mean(patterns[0], have)
        raise NothingMeasured(f"no results for {asked}{near}; there are {', '.join(have) or 'none at all'}")
    return kept


# ---- what A and B are ----


def _told_apart(a: Side, b: Side) -> list[Side]:
    """Where one side's runs are among the other's (mezo, mezo[law=sphere]), the other has the rest."""
    mine, theirs = ({r["cell"] for r in side.records} for side in (a, b))
    if mine == theirs:
        raise click.UsageError(f"A and B are the same runs: {a.says} and {b.says}; give them options that differ")
    if theirs < mine:
        a = replace(a, records=[r for r in a.records if r["cell"] not in theirs], says=f"{a.says} without {b.text}")
    elif mine < theirs:
        b = replace(b, records=[r for r in b.records if r["cell"] not in mine], says=f"{b.says} without {a.text}")
    return [a, b]


@dataclass
class _Asked:
    """Finds out what A and B are; the store is read once, and only where it is needed."""

    store: Path
    stack: ExitStack
    problems: list[Problem] = field(default_factory=list)
    _files: list[Mapping[str, Any]] | None = None  # every run of the store, with those that another attempt superseded

    def side(self, text: str) -> Side:
        """UsageError in one line where the text is nothing, or could be two things."""
        from zobench.spec import UsageError

        tried = (self._directory(text), self._revision(text), self._commit(text), self._optimizer(text))
        found = [candidate for candidate in tried if candidate]
        if len(found) > 1:
            ways = "; ".join(f"{what}: write {how}" for what, how, _ in found)
            raise UsageError(f"{text!r} could be several things ({ways})")
        if not found:
            raise UsageError(self._unknown(text))
        return found[0][2]()

    def _directory(self, text: str) -> tuple[str, str, Callable[[], Side]] | None:
        path = Path(text).expanduser()
        if not (path.is_dir() or (path.is_file() and path.suffix == ".parquet")):
            return None
        how = text if "/" in text else f"./{text}"
        return f"the directory {text}", how, lambda: self._place(text, f"the store {text}", path)

    def _revision(self, text: str) -> tuple[str, str, Callable[[], Side]] | None:
        revision, colon, directory = text.partition(":")
        if not (colon and revision and directory) or revision.startswith("-"):
            return None
        directory = directory.rstrip("/") or "."
        tree = _git("rev-parse", "--verify", "--quiet", f"{revision}:./{directory.removeprefix('./')}")
        if not HASH.fullmatch(tree) or _git("cat-file", "-t", tree) != "tree":
            return None
        return f"{directory} at {revision}", text, lambda: self._materialised(text, tree)

    def _commit(self, text: str) -> tuple[str, str, Callable[[], Side]] | None:
        from zobench.report.compare import commit_of
        from zobench.spec import UsageError

        known = sorted({commit for r in self._stored() if (commit := commit_of(r))})
        hits = [commit for commit in known if HEX.fullmatch(text.lower()) and commit.startswith(text.lower())]
        if not hits and known and "/" not in text.strip("/") and not text.startswith("-"):
            named = _git("rev-parse", "--verify", "--quiet", f"{text}^{{commit}}")
            hits = [commit for commit in known if commit == named]
        if len(hits) > 1:
            raise UsageError(f"commit {text!r} is ambiguous in {self.store}: {', '.join(c[:12] for c in hits)}")
        if not hits:
            return None
        says = f"commit {hits[0][:12]} in {self.store}"
        return f"commit {hits[0][:12]}", hits[0], lambda: self._at(text, says, hits[0])

    def _optimizer(self, text: str) -> tuple[str, str, Callable[[], Side]] | None:
        from zobench.report.compare import Side, choose
        from zobench.spec import UsageError

        try:
            given, options = registry.parse(text)
        except UsageError:
            return None
        name, preset = _entry(given)
        rows = self._stored()
        known = {row["optimizer"].lower().replace("_", "-"): row["optimizer"] for row in rows}
        stored = known.get(name.lower().replace("_", "-"))
        if stored is None:
            return None

        def side() -> Side:
            from zobench.record import standing

            return Side(text, "optimizer", f"{text} in {self.store}", choose(standing(rows), stored, preset | options))

        return f"the optimizer {stored}", f"'{stored}[]'", side

    def _unknown(self, text: str) -> str:
        """Why it is none of the four, and what it may have been meant to be."""
        from zobench.report.compare import commit_of

        rows = self._stored()
        names = sorted({row["optimizer"] for row in rows})
        commits = ", ".join(sorted({commit[:12] for r in rows if (commit := commit_of(r))})) or "no known commit"
        revision, colon, directory = text.partition(":")
        named = "" if text.startswith("-") else _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        if colon and revision and directory and "[" not in revision:
            missing = f"there is no directory {directory} at {revision}"
            return f"{text!r}: {missing if named else f'git knows no revision {revision} here'}"
        beside = sorted(p.name for p in Path().iterdir() if p.is_dir() and not p.name.startswith("."))
        likely = difflib.get_close_matches(text.strip("/"), beside, n=1, cutoff=0.7)
        near = f"; did you mean the directory {likely[0]}?" if likely else ""
        near = registry.did_you_mean(text.partition("[")[0], names) or near
        if not rows:
            empty = f"{self.store} holds no results in which to look for a commit or an optimizer (--store DIR)"
            return f"{text!r} is no directory{near}, and {empty}"
        if (named or HEX.fullmatch(text.lower())) and not near:
            which = f"commit {named[:12]} ({text})" if named else f"commit {text}"
            return f"no run of {which} in {self.store}; its runs are of {commits}"
        some = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
        return f"{text!r} is no directory, and no commit or optimizer in {self.store}{near or f'; its optimizers are {some}'}"

    # ---- reading ----

    def _stored(self) -> list[Mapping[str, Any]]:
        if self._files is None:
            from zobench.report.compare import files

            rows, problems = files(self.store)
            self._files = list(rows)
            self.problems += problems
        return self._files

    def _place(self, text: str, says: str, path: Path) -> Side:
        from zobench.record import standing
        from zobench.report.compare import Side, files
        from zobench.spec import NothingMeasured

        rows, problems = files(path)
        self.problems += [p for p in problems if p not in self.problems]
        if not rows:
            count = "1 file was" if len(problems) == 1 else f"{len(problems)} files were"
            skipped = f" ({count} skipped: {problems[0].path}: {problems[0].why})" if problems else ""
            raise NothingMeasured(f"no results in {says}{skipped}; make some: zobench run -t TASK -O OPTIMIZER")
        return Side(text, "place", says, standing(rows))

    def _at(self, text: str, says: str, commit: str) -> Side:
        from zobench.record import standing
        from zobench.report.compare import Side, commit_of

        return Side(text, "place", says, standing([r for r in self._stored() if commit_of(r) == commit]))

    def _materialised(self, text: str, tree: str) -> Side:
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="zobench-")))
        _unpack(tree, folder)
        before = len(self.problems)
        side = self._place(text, f"the store {text}", folder)
        # the temporary directory is gone when a reader looks for the file
        self.problems[before:] = [p._replace(path=Path(text) / p.path.name) for p in self.problems[before:]]
        return side


def _entry(name: str) -> tuple[str, dict[str, Any]]:
    """The registered name and the options that come with it; a name that is none here may still be in a store."""
    from zobench.spec import UsageError

    try:
        entry = registry.find("optimizer", name)
    except UsageError:
        return name, {}
    return entry.name, registry.preset(entry, name)


def _git(*words: str) -> str:
    """What git says in one line; nothing where it refuses or is not there."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _unpack(tree: str, folder: Path) -> None:
    """The results of a tree of git, without its subdirectories, into the folder."""
    from zobench.spec import EnvironmentUnmet

    top = _git("rev-parse", "--show-toplevel") or "."  # from a subdirectory git would pack that alone
    with subprocess.Popen(["git", "-C", top, "archive", "--format=tar", tree], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    if member.isfile() and "/" not in member.name and member.name.endswith(".parquet"):
                        archive.extract(member, folder, filter="data")
        except (OSError, tarfile.TarError) as error:
            process.kill()
            raise EnvironmentUnmet(f"cannot unpack {tree[:12]} of git into {folder}: {error}") from error
    if process.returncode:
        raise EnvironmentUnmet(f"git archive {tree[:12]} failed; is the repository whole?")
