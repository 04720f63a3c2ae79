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
from zobench.problems.options import DIFFERENTIABLE, SHARED
from zobench.registry import PACKAGE, Entry
from zobench.spec import (
    ADAPTER_CHOICES,
    ADAPTERS,
    DTYPE_ALIASES,
    DTYPES,
    QUANTISED,
    Budget,
    Job,
    UsageError,
    canonical,
    sha256,
)

VERSIONED = ("torch", "transformers", "numba")
# What stands between a job and its numbers, beside its own files and what they import.
LOOP = (
    *("run.py", "lockstep.py", "build.py", "keeper.py", "meters.py", "resume.py", "checkpoint.py"),
    "core/many.py",
)
SEED_LIMIT = 2**32
MANY = 100_000  # seeds in one request


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
    quantised: str = "none"  # the base's weights: 8bit or 4bit under an adapter


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
    tasks = list(itertools.chain.from_iterable(grid(text) for text in request.tasks))
    optimizers = list(itertools.chain.from_iterable(grid(text) for text in request.optimizers))
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


def grid(text: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, options) of every combination of a text such as `mezo[lr=[1e-6,1e-7]]`."""
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
    task_options = registry.resolve(task, task_given)
    task = registry.chosen(task, task_options)
    info = task.info
    options = registry.resolve(optimizer, given)
    if "lr" in options and "lr" not in given and rated(optimizer, info.get("rates", ())):
        options["lr"] = "task"  # the task publishes the rate of this family; the run resolves it
    _check_model(request, task)
    dtype = _dtype(request, info, task_options)
    if request.data_seed < 0 or request.data_seed >= SEED_LIMIT:
        raise UsageError(f"data seed {request.data_seed}: must lie in [0, 2**32)")
    _check_pair(request, task, task_options, optimizer)
    _check_objective(task, task_options, optimizer)
    batch = info.get("batch_size", 16) if request.batch_size is None else request.batch_size
    for name, value in (("batch size", batch), ("evaluations", request.evaluations)):
        if value < 1:
            raise UsageError(f"{name} {value}: must be at least 1")
    asked = request.model or info.get("model")
    model, revision, path = names.model(asked, request.revision) if asked else (None, None, None)
    job = Job(
        task=task.name if task.builtin or task.asked else f"file:{task.name}",
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
        data=names.data(task, request.data_dir) if "hub" in info or "place" in info else "generated",
        task_path=None if task.builtin else task.asked or str(task.path),
        optimizer_path=None if optimizer.builtin else str(optimizer.path),
        model_path=path,
        data_dir=str(Path(request.data_dir).expanduser().resolve()) if request.data_dir else None,
        quantised=_choice("quantise", request.quantised, QUANTISED),
    )
    if optimizer.builder == "prepare":  # without a step, no result depends on these
        job = replace(job, budget=Budget("steps", 1), batch_size=1, schedule="constant", evaluations=1)
    asked_seeds = seeds(request.seeds)
    return [replace(job, seed=seed) for seed in ([0] if _without_chance(job, task, optimizer) else asked_seeds)]


def _without_chance(job: Job, task: Entry, baseline: Entry) -> bool:
    """Whether every seed of the job gives the same numbers, so that one row stands for all of them.

    Only a task of one's own in Python may have chance of a kind that is not known here.
    """
    options, model = job.task_options, job.model or ""
    given = options.get("head") in (None, "checkpoint") or options.get("form") == "prompt"
    loaded = not model.startswith("random:") and job.adapter == "none"
    known = task.builtin or bool(task.asked)
    return baseline.builder == "prepare" and baseline.info.get("random") is False and given and loaded and known


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
        if isinstance(ADAPTERS[name][key], str):
            _choice(f"adapter {name}: {key}", value, ADAPTER_CHOICES[key])
        elif not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"adapter {name}: {key} must be a whole number of at least 1, not {value!r}")
    options = ADAPTERS[name] | given
    shown = [k for k in sorted(options) if isinstance(options[k], int) or options[k] != ADAPTERS[name][k]]
    return name + (f"[{','.join(f'{k}={options[k]}' for k in shown)}]" if shown else "")


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
    if request.quantised != "none":
        if "model" not in task.info.get("needs", ()):
            raise UsageError(f"task {task.name} has no language model to quantise; leave --quantise out")
        if adapter(request.adapter) == "none":
            raise UsageError("a quantised base cannot be trained; add --adapter lora")


def _budget(info: Mapping[str, Any], task_options: Mapping[str, Any]) -> str:
    """The task's, which may grow with its scale."""
    return info.get("scale_budgets", {}).get(task_options.get("scale")) or info.get("budget", "small")


def _check_pair(request: Request, task: Entry, task_options: Mapping[str, Any], optimizer: Entry) -> None:
    """A reference line serves the tasks that it names; a regression has its minibatch among its options."""
    if optimizer.builder == "prepare":
        _check_kind(task, task_options, optimizer)
        return
    serves = optimizer.info.get("tasks", ("*",)) if optimizer.kind == "baseline" else ("*",)
    if task.name not in serves and all(name in registry.entries("task") for name in serves):
        raise UsageError(f"{optimizer.name} does not serve {task.name}; it is for {', '.join(serves)}")
    if optimizer.kind == "baseline" and task.info.get("kind") != "regression":
        raise UsageError(f"{optimizer.name} is a reference line for regressions; {task.name} is none")
    if request.batch_size is not None and task.info.get("kind") == "regression":
        if "batch" not in task.options:
            raise UsageError(f"task {task.name} has no minibatches; leave -b out")
        raise UsageError(f"write the batch of a regression as its option: {task.name}[batch={request.batch_size}]")


def _check_kind(task: Entry, task_options: Mapping[str, Any], baseline: Entry) -> None:
    """A baseline of language tasks serves those of some kinds, and some forms of one that has several."""
    kind, form = task.info.get("kind"), task_options.get("form")
    kinds = baseline.info.get("kinds")
    if kind == "regression" or (kinds is not None and kind not in kinds):
        served = [t.name for t in registry.entries("task").values() if t.info.get("kind") in (kinds or SHARED)]
        raise UsageError(f"{baseline.name} does not serve {task.name}; it is for {', '.join(served)}")
    forms = baseline.info.get("forms", (form,))
    if form is not None and form not in forms:
        raise UsageError(
            f"{baseline.name} does not serve {task.name}[form={form}]; it is for form={' or '.join(forms)}"
        )


def _check_objective(task: Entry, task_options: Mapping[str, Any], optimizer: Entry) -> None:
    """An objective that is a metric has no gradient, which first-order, forward-mode and hybrid methods ask for."""
    objective = task_options.get("objective", DIFFERENTIABLE[0])
    if objective not in DIFFERENTIABLE and optimizer.info.get("order") in ("first", "forward", "hybrid"):
        raise UsageError(
            f"{optimizer.name} needs a gradient, and {task.name}[objective={objective}] has none; "
            "leave the objective out, or take a zeroth-order optimizer such as mezo"
        )


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


def suite(name: str, optimizers: Sequence[str] = (), given: Mapping[str, Any] | None = None) -> list[Request]:
    """The requests of a suite: a name from zobench/suites or a path to a TOML file.

    A suite has one or more [[run]] tables whose keys are the fields of `Request`. One with [[tune]] tables, too, is described
    in `zobench.suite`; of a grid, the first value stands here.

    Args:
        optimizers: in the place of the suite's.
        given: fields of a Request in the place of the suite's.
    """
    path, table = suite_table(name)
    if "tune" in table or "default" in table or ":" in name:
        from zobench import suite as tuned

        return [row.request() for row in tuned.rows(name, optimizers=optimizers, given=given)]
    try:
        found = [request(run.pop("tasks", ()), run.pop("optimizers", ()), **run) for run in table["run"]]
    except UsageError as error:
        raise UsageError(f"suite {path}: {error}") from None
    changed = dict(given or {}) | ({"optimizers": list(optimizers)} if optimizers else {})
    return [replace(r, **changed) for r in found]


def suite_table(name: str) -> tuple[Path, dict[str, Any]]:
    """The file of a suite and what is written in it; a part behind a colon is left to the reader."""
    path = Path(name).expanduser() if name.endswith(".toml") else suites_folder() / f"{name.partition(':')[0]}.toml"
    if not path.is_file():
        known = sorted(p.stem for p in suites_folder().glob("*.toml"))
        raise UsageError(f"unknown suite {name!r}{registry.did_you_mean(name, known)} (suites: {', '.join(known)})")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"suite {path}: {error}") from None
    if not isinstance(table.get("run"), list) or not table["run"]:
        raise UsageError(f"suite {path}: has no [[run]] table (two brackets: there may be several)")
    return path, table


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
