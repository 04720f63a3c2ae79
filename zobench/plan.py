"""Flags or a suite -> list[Job], and the two hashes by which a job is known: `cell` (in spec) and `provenance` (here).

Standard library only. Where data lies and what it hashes to is handed in, because finding out may need the network.
"""

from __future__ import annotations

import ast
import itertools
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from zobench import foreign, registry
from zobench.registry import PACKAGE, Entry
from zobench.spec import DTYPE_ALIASES, DTYPES, Budget, Job, UsageError, canonical, sha256

VERSIONED = ("torch", "transformers", "numba")
# What stands between a job and its numbers, beside its own files and what they import.
LOOP = (
    *("run.py", "lockstep.py", "build.py", "keeper.py", "meters.py", "resume.py", "checkpoint.py"),
    "core/many.py",
)
SEED_LIMIT = 2**32
MANY = 100_000  # seeds in one request
ADAPTERS = {"none": {}, "lora": {"r": 8, "alpha": 16}}


@dataclass(frozen=True)
class Request:
    """What was asked for, before it is multiplied out. Each text is what a user would type."""

    tasks: Sequence[str]
    optimizers: Sequence[str]
    model: str | None = None
    revision: str | None = None
    adapter: str = "none"
    dtype: str | None = None  # float32, and float64 on a regression
    seeds: str = "0"
    data_seed: int = 0
    budget: str | None = None  # the task's
    batch_size: int | None = None  # the task's
    schedule: str = "constant"
    evaluations: int = 5
    score: str = "test"
    data_dir: str | None = None


def request(task: Any, optimizer: Any, **asked: Any) -> Request:
    """A `Request` from what a notebook or a suite says: one name or several, paths, numbers; UsageError otherwise."""
    allowed = {f.name for f in fields(Request)} - {"tasks", "optimizers"}
    for key in asked:
        if key not in allowed:
            raise UsageError(f"unknown key {key!r}{registry.did_you_mean(key, allowed)}")
    if isinstance(asked.get("seeds"), (list, tuple, range)):
        asked["seeds"] = ",".join(map(str, asked["seeds"])) + ","
    for key in ("seeds", "budget", "data_dir", "model", "dtype"):
        if asked.get(key) is not None:
            asked[key] = str(asked[key])
    for key in ("batch_size", "evaluations", "data_seed"):
        if asked.get(key) is not None and (not isinstance(asked[key], int) or isinstance(asked[key], bool)):
            raise UsageError(f"{key} {asked[key]!r}: must be a whole number")
    tasks, optimizers = (
        [str(v)] if isinstance(v, (str, Path)) else [str(e) for e in v or ()] for v in (task, optimizer)
    )
    return Request(tasks, optimizers, **asked)


def seeds(text: str) -> list[int]:
    """`0` -> [0]; a count `3` -> [0, 1, 2]; a range `0-4`; a list `13,21,42`."""
    values: Sequence[int]
    try:
        if "," in text:
            values = [int(part) for part in text.split(",") if part.strip()]
        elif "-" in text.strip():
            low, high = (int(part) for part in text.split("-"))
            values = range(low, high + 1)
        else:
            values = range(max(int(text), 1)) if int(text) >= 0 else ()
    except ValueError:
        values = ()
    if not 0 < len(values) <= MANY or min(values) < 0 or max(values) >= SEED_LIMIT:
        raise UsageError(
            f"seeds {text!r}: write a count (3), a range (0-4) or a list (13,21,42) of at most {MANY} numbers below 2**32"
        )
    return list(dict.fromkeys(values))


class Names(Protocol):
    """How things outside the project get a name that does not change under it; may raise EnvironmentUnmet."""

    def data(self, entry: Entry, data_dir: str | None) -> str:
        """The fingerprint of a task's rows."""
        ...

    def model(self, model: str, revision: str | None) -> tuple[str, str | None, str | None]:
        """(name, revision, path): of a directory the name is its last part, the revision a digest."""
        ...


def jobs(request: Request, names: Names) -> list[Job]:
    """Every combination of the request, in the order task, optimizer, seed. Grids ([lr=[1e-6,1e-7]]) are multiplied out."""
    if not request.tasks or not request.optimizers:
        raise UsageError("name at least one task (-t) and one optimizer (-O); `zobench list` shows them")
    tasks = list(itertools.chain.from_iterable(_grid(text) for text in request.tasks))
    optimizers = list(itertools.chain.from_iterable(_grid(text) for text in request.optimizers))
    planned = []
    for (task, task_given), (optimizer, given) in itertools.product(tasks, optimizers):
        entry = registry.find("optimizer", optimizer)
        given = registry.preset(entry, optimizer) | given
        planned += _cells(request, registry.find("task", task), task_given, entry, given, names)
    return planned


def rated(optimizer: Entry, families: Sequence[str]) -> bool:
    """Whether a task that publishes the rates of these families publishes one for this optimizer."""
    if "rate" in optimizer.info:
        return {"gradient", "two-point", "adaptive"} <= set(families)
    return optimizer.info.get("family") in families


def _grid(text: str) -> list[tuple[str, dict[str, Any]]]:
    name, options = registry.parse(text)
    lists = [value if isinstance(value, list) else [value] for value in options.values()]
    for key, values in zip(options, lists, strict=True):
        if not values:
            raise UsageError(f"{text!r}: the grid of {key} is empty")
    return [(name, dict(zip(options, values, strict=True))) for values in itertools.product(*lists)]


def _cells(
    request: Request,
    task: Entry,
    task_given: Mapping[str, Any],
    optimizer: Entry,
    given: Mapping[str, Any],
    names: Names,
) -> list[Job]:
    info = task.info
    task_options = registry.resolve(task, task_given)
    options = registry.resolve(optimizer, given)
    if "lr" in options and "lr" not in given and rated(optimizer, info.get("rates", ())):
        options["lr"] = "task"  # the task publishes the rate of this family; the run resolves it
    _check_model(request, task)
    dtype = _dtype(request, info, task_options)
    if request.data_seed < 0 or request.data_seed >= SEED_LIMIT:
        raise UsageError(f"data seed {request.data_seed}: must lie in [0, 2**32)")
    _check_pair(request, task, optimizer)
    batch = info.get("batch_size", 16) if request.batch_size is None else request.batch_size
    for name, value in (("batch size", batch), ("evaluations", request.evaluations)):
        if value < 1:
            raise UsageError(f"{name} {value}: must be at least 1")
    asked = request.model or info.get("model")
    model, revision, path = names.model(asked, request.revision) if asked else (None, None, None)
    job = Job(
        task=task.name if task.builtin else f"file:{task.name}",
        task_version=info.get("version", 1),
        task_options=task_options,
        optimizer=optimizer.name if optimizer.builtin else f"file:{optimizer.name}",
        optimizer_options=options,
        model=model,
        revision=revision,
        adapter=adapter(request.adapter),
        dtype=dtype,
        seed=0,
        data_seed=request.data_seed,
        budget=Budget.parse(request.budget or _budget(info, task_options)),
        batch_size=batch,
        schedule=_choice("schedule", request.schedule, ("constant", "linear")),
        evaluations=request.evaluations,
        score=_choice("score", request.score, ("test", "validation")),
        data=names.data(task, request.data_dir) if "hub" in info else "generated",
        task_path=None if task.builtin else str(task.path),
        optimizer_path=None if optimizer.builtin else str(optimizer.path),
        model_path=path,
        data_dir=str(Path(request.data_dir).expanduser().resolve()) if request.data_dir else None,
    )
    return [replace(job, seed=seed) for seed in seeds(request.seeds)]


def adapter(text: str) -> str:
    """The canonical text of an adapter: `lora` -> `lora[alpha=16,r=8]`."""
    name, given = registry.parse(text)
    if name not in ADAPTERS:
        raise UsageError(
            f"unknown adapter {name!r}{registry.did_you_mean(name, ADAPTERS)} (adapters: {', '.join(ADAPTERS)})"
        )
    unknown = set(given) - set(ADAPTERS[name])
    if unknown:
        raise UsageError(
            f"adapter {name} has no option {', '.join(unknown)} (options: {', '.join(ADAPTERS[name]) or 'none'})"
        )
    for key, value in given.items():
        if not isinstance(value, int) or value < 1:
            raise UsageError(f"adapter {name}: {key} must be a whole number of at least 1, not {value!r}")
    options = ADAPTERS[name] | given
    return name + (f"[{','.join(f'{k}={options[k]}' for k in sorted(options))}]" if options else "")


def _check_model(request: Request, task: Entry) -> None:
    if "model" in task.info.get("needs", ()):
        if request.model is None and "model" not in task.info:
            raise UsageError(
                f"task {task.name} needs a model: -m HUB_ID, a local directory, or random:opt-nano to try it out"
            )
    elif request.model is not None:
        raise UsageError(f"task {task.name} brings its own model; leave -m out")
    elif adapter(request.adapter) != "none":
        raise UsageError(f"task {task.name} has no language model to adapt; leave --adapter out")


def _budget(info: Mapping[str, Any], task_options: Mapping[str, Any]) -> str:
    """The task's, which may grow with its scale."""
    return info.get("scale_budgets", {}).get(task_options.get("scale")) or info.get("budget", "small")


def _check_pair(request: Request, task: Entry, optimizer: Entry) -> None:
    """A reference line serves the tasks that it names; a regression has its minibatch among its options."""
    serves = optimizer.info.get("tasks", ("*",)) if optimizer.kind == "baseline" else ("*",)
    if task.name not in serves and all(name in registry.entries("task") for name in serves):
        raise UsageError(f"{optimizer.name} does not serve {task.name}; it is for {', '.join(serves)}")
    if optimizer.kind == "baseline" and task.info.get("kind") != "regression":
        raise UsageError(f"{optimizer.name} is a reference line for regressions; {task.name} is none")
    if request.batch_size is not None and task.info.get("kind") == "regression":
        if "batch" not in task.options:
            raise UsageError(f"task {task.name} has no minibatches; leave -b out")
        raise UsageError(f"write the batch of a regression as its option: {task.name}[batch={request.batch_size}]")


def _dtype(request: Request, info: Mapping[str, Any], task_options: Mapping[str, Any]) -> str:
    """The precision of the weights; a regression has its own option for it."""
    precision = task_options.get("precision")
    if precision in ("bfloat16", "float16"):
        precision = "float32"  # of the weights; only the oracle is rounded
    elif precision == "auto":  # double, but single at the scale that is meant for a GPU
        precision = "float32" if task_options.get("scale") == "large" else "float64"
    asked = DTYPE_ALIASES.get(request.dtype or "", request.dtype)
    if asked is not None and asked not in DTYPES:
        raise UsageError(f"dtype {request.dtype!r}: choose from {', '.join([*DTYPE_ALIASES, *DTYPES])}")
    if precision is not None:
        if asked is not None and asked != precision:
            raise UsageError(f"this task computes in {precision}; ask for another with TASK[precision={asked}]")
        return precision
    if asked == "float64" and "model" in info.get("needs", ()):
        raise UsageError("dtype float64 is for the regressions; language models take float32, bfloat16 or float16")
    return asked or "float32"


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise UsageError(f"{name} {value!r}: choose {' or '.join(allowed)}")
    return value


# --- suites ---


def suites_folder() -> Path:
    return PACKAGE / "suites"


def suite(name: str) -> list[Request]:
    """The requests of a suite: a name from zobench/suites or a path to a TOML file.

    A suite has one or more [[run]] tables whose keys are the fields of `Request`.
    """
    path = Path(name).expanduser() if name.endswith(".toml") else suites_folder() / f"{name}.toml"
    if not path.is_file():
        known = sorted(p.stem for p in suites_folder().glob("*.toml"))
        raise UsageError(f"unknown suite {name!r}{registry.did_you_mean(name, known)} (suites: {', '.join(known)})")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"suite {path}: {error}") from None
    runs = table.get("run")
    if not isinstance(runs, list) or not runs:
        raise UsageError(f"suite {path}: has no [[run]] table (two brackets: there may be several)")
    try:
        return [request(run.pop("tasks", ()), run.pop("optimizers", ()), **run) for run in runs]
    except UsageError as error:
        raise UsageError(f"suite {path}: {error}") from None


# --- provenance ---


def provenance(job: Job) -> str:
    """sha256 over what makes the numbers: the syntax trees, without docstrings, of the task file, the optimizer file, the
    loop and every project module they import, and the versions of torch, transformers, numba and, for an
    optimizer of another library, of that one.
    """
    task = registry.find("task", job.task_path or job.task)
    optimizer = registry.find("optimizer", job.optimizer_path or job.optimizer)
    files = {PACKAGE / name for name in LOOP}
    if optimizer.foreign:  # its library's version stands for its file
        files |= _closure((task.path, PACKAGE / "core/first_order.py")) | {PACKAGE / "foreign.py"}
    else:
        files |= _closure((task.path, optimizer.path))
    trees = {_label(path): _tree(path) for path in files}
    library = foreign.version(optimizer.name) if optimizer.foreign else {}
    return sha256(canonical({"trees": trees, "versions": versions() | library}))


@cache
def versions() -> dict[str, str]:
    """Installed versions, read without importing; a missing package is the empty string."""
    found = {}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _label(path: Path) -> str:
    """The module's place in the project; a user's own file is known by its content alone."""
    try:
        return str(path.resolve().relative_to(PACKAGE))
    except ValueError:
        return path.name


@cache
def _tree(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        ):
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = body[1:]  # type: ignore[attr-defined]
    return sha256(ast.dump(tree))


def _closure(roots: Iterable[Path]) -> set[Path]:
    """The project files that `roots` import, directly or not, wherever in the file the import stands."""
    waiting, seen = list(roots), set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        waiting += _imports(path)
    return seen


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    named: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            named += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(file for name in named if (file := _file(name, path)) is not None)


def _file(module: str, importer: Path) -> Path | None:
    """The file that a module name means: one of the project, or one beside a user's own file."""
    parts = module.split(".")
    if parts[0] != "zobench":
        beside = importer.parent.joinpath(*parts).with_suffix(".py")
        return beside if beside.is_file() and PACKAGE not in beside.parents else None
    if parts[:2] == ["zobench", "optimizers"] and len(parts) == 3:
        for entry in registry.entries("optimizer").values():
            if parts[2] in entry.exports:
                return entry.path  # `from zobench.optimizers import MeZO` finds the file by its __all__
    path = PACKAGE.joinpath(*parts[1:])
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if len(parts) > 1 and (path / "__init__.py").is_file() else None


def duration(text: str) -> float:
    """Seconds of `90`, `90s`, `30m`, `2h`, `1d`."""
    try:
        return Budget.parse(f"time={text}").amount
    except UsageError:
        raise UsageError(f"timeout {text!r}: write seconds, or for example 90s, 30m, 2h") from None


def default_store() -> Path:
    return Path(os.environ.get("ZOBENCH_STORE", "zobench-runs"))
