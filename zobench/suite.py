"""A suite: which tasks, optimizers and adapters, and with which settings. Standard library only.

A TOML file. Its first line, a comment, is what `zobench list suites` says. Tables:

    [default]                     what every [[run]] table has unless it says otherwise
    [[run]]                       tasks x optimizers x adapters, and any field of plan.Request
    [[tune]]                      settings, and lists of values to choose from, for what they match
    [gate]                        what `zobench regress` holds, and how closely; described in `zobench.gate`

Keys of [[run]]: `tasks` and `optimizers` (texts as on the command line), `adapters` (a list), `over` (an option of the task,
such as the split of a k-shot task: one setting is chosen for all its values), `name` (a table of its own, run only
where it is asked for: `--suite opt11:zo-llm`), and the fields of `plan.Request`.

Keys of [[tune]] that say what it is for; what is left out matches everything:
    tasks        names with wildcards; with options, those must be the task's: "kshot_*[k=16]"
    optimizers   names; families (two-point, gradient, adaptive); orders (zeroth, first, forward, hybrid, reference); "*"
    adapters     none, lora, prefix, prompt
    models       ids with wildcards: "*opt-13b"
    name         the named tables alone
Its other keys are settings: the fields budget, batch_size, schedule, evaluations and dtype, and options of the optimizer.
A list is a grid, for `zobench sweep` to choose from; `zobench run` takes its first value. An option that an optimizer does
not have is passed over where a table is for a whole order or family, and a mistake where it names the optimizer.

The command line wins over [[tune]], and [[tune]] over [[run]]. Where several [[tune]] tables have a key, the most specific
wins: one with a name before one without; then the optimizer's name before its family before its order before "*"; then one
that says the adapter, the model, the task; then the later one. An optimizer that no table names keeps the grid of its own
file (INFO["grid"]) before those for families and orders; with an adapter, for which that grid was not made, those for
families and orders come first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from zobench import gate, plan, registry
from zobench.registry import Entry
from zobench.spec import UsageError

SETTINGS = ("budget", "batch_size", "schedule", "evaluations", "dtype")  # fields of a Request that [[tune]] may set
TABLES = ("default", "run", "tune", "gate")
MATCHES = ("tasks", "optimizers", "adapters", "models", "name")
CLASSES = {"*": 0, **dict.fromkeys(("zeroth", "first", "forward", "hybrid", "reference"), 1)}
CLASSES |= dict.fromkeys(("two-point", "gradient", "adaptive"), 2)
OWN, NAMED = 3, 4  # ranks of an optimizer's own grid and of a table with its name
LIKE = {"forward": "zeroth", "hybrid": "zeroth"}  # whose protocol an order follows


@dataclass(frozen=True)
class Tune:
    """One [[tune]] table."""

    name: str | None
    tasks: tuple[str, ...]
    optimizers: tuple[str, ...]
    adapters: tuple[str, ...]
    models: tuple[str, ...]
    settings: Mapping[str, Any]
    place: int


@dataclass(frozen=True)
class Suite:
    """A suite as it was read."""

    path: Path
    runs: Sequence[Mapping[str, Any]]  # [[run]], with the defaults filled in
    tunes: Sequence[Tune]
    gate: gate.Gate = field(default_factory=gate.Gate)


@dataclass(frozen=True)
class Row:
    """One task (or several that share a setting), one optimizer, one adapter: a row of the suite's table."""

    tasks: tuple[str, ...]
    optimizer: str
    adapter: str
    asked: Mapping[str, Any]  # fields of a Request that nothing tunes
    settings: Mapping[str, Any]  # one value each
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # several values each

    def points(self) -> list[dict[str, Any]]:
        """Every combination of the grid, the first varying slowest."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]

    def request(self, point: Mapping[str, Any] | None = None, **changed: Any) -> plan.Request:
        """The request at a point of the grid; the first values where none is given."""
        chosen = {**self.settings, **(point or {k: v[0] for k, v in self.grid.items()})}
        options = {k: v for k, v in chosen.items() if k not in SETTINGS}
        asked = {**self.asked, **{k: v for k, v in chosen.items() if k in SETTINGS}, **changed}
        return plan.request(self.tasks, text(self.optimizer, options), adapter=self.adapter, **asked)


def text(name: str, options: Mapping[str, Any]) -> str:
    """`mezo[lr=1e-06]`, as a user would write it."""
    return name + (f"[{','.join(f'{k}={v}' for k, v in options.items())}]" if options else "")


# --- reading ----------------------------------------------------------------------------------------------------------


def load(path: Path, table: Mapping[str, Any]) -> Suite:
    """The suite of a file that has been read; UsageError for a key that means nothing."""
    for name in sorted(set(table) - set(TABLES)):
        near = registry.did_you_mean(name, TABLES)
        raise UsageError(f"unknown table {name}{near}; a suite has [default], [[run]], [[tune]] and [gate]")
    default = table.get("default", {})
    runs = [_run({**default, **run}) for run in table.get("run", ())]
    tunes = [_tune(number, tune) for number, tune in enumerate(table.get("tune", ()))]
    held = gate.parse(table.get("gate", {}))
    for run in held.timing.runs:
        _timed(run)
    return Suite(path, runs, tunes, held)


def read(name: str) -> Suite:
    """The suite called `name`, or in the file of that name."""
    path, table = plan.suite_table(name)
    try:
        return load(path, table)
    except UsageError as error:
        raise UsageError(f"suite {path}: {error}") from None


def _timed(run: Mapping[str, Any]) -> plan.Request:
    if not run.get("tasks") or not run.get("optimizers"):
        raise UsageError("a [[gate.timing.run]] table needs tasks and optimizers")
    rest = {k: v for k, v in run.items() if k not in ("tasks", "optimizers")}
    try:
        return plan.request(run["tasks"], run["optimizers"], **rest)
    except UsageError as error:
        raise UsageError(f"[[gate.timing.run]]: {error}") from None


def _run(run: dict[str, Any]) -> dict[str, Any]:
    allowed = {f.name for f in fields(plan.Request)} | {"adapters", "over", "name"}
    for key in run:
        if key not in allowed:
            raise UsageError(f"unknown key {key!r}{registry.did_you_mean(key, allowed)}")
    if "adapter" in run and "adapters" in run:
        raise UsageError("give adapter or adapters, not both")
    for key in ("tasks", "optimizers"):
        if not run.get(key):
            raise UsageError(f"a [[run]] table needs {key}")
    return run


def _tune(number: int, tune: Mapping[str, Any]) -> Tune:
    settings = {k: v for k, v in tune.items() if k not in MATCHES}
    where = f"[[tune]] table {number + 1}"
    for key in ("tasks", "optimizers", "adapters", "models"):
        value = tune.get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise UsageError(f"{where}: {key} must be a list of names")
    for key, value in settings.items():
        if isinstance(value, list) and not value:
            raise UsageError(f"{where}: the grid of {key} is empty")
    named = [registry.find("optimizer", name) for name in tune.get("optimizers", ()) if name not in CLASSES]
    options = {k: v for k, v in settings.items() if k not in SETTINGS}
    for entry in named:
        for key, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                try:
                    registry.resolve(entry, {key: one})
                except UsageError as error:
                    raise UsageError(f"{where}: {error}") from None
    known = {k for e in registry.entries("optimizer").values() for k in (*e.options, *e.common)}
    for key in options:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}{registry.did_you_mean(key, known | set(SETTINGS))}")
    lists = (tuple(tune.get(key, ())) for key in ("tasks", "optimizers", "adapters", "models"))
    return Tune(tune.get("name"), *lists, settings=settings, place=number)


# --- what a suite asks of an optimizer on a task ----------------------------------------------------------------------


def rows(
    name: str,
    *,
    tasks: Sequence[str] = (),
    optimizers: Sequence[str] = (),
    adapters: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
) -> list[Row]:
    """The rows of a suite, `name` or `name:table`, in the order of its tables, its tasks, its optimizers, its adapters.

    Args:
        tasks, adapters: only these, where any are given; names of tasks may have wildcards and options.
        optimizers: in the place of the suite's. One that it names keeps its tables; another takes those of its order.
        given: fields of a Request in the place of the suite's.
    """
    bare, _, part = name.partition(":") if not name.endswith(".toml") else (name, "", "")
    return of(read(bare), part, tasks=tasks, optimizers=optimizers, adapters=adapters, given=given)


def of(
    suite: Suite,
    part: str = "",
    *,
    tasks: Sequence[str] = (),
    optimizers: Sequence[str] = (),
    adapters: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
) -> list[Row]:
    """`rows` of a suite that has been read."""
    given = dict(given or {})
    adapters = [*adapters, *filter(None, [given.pop("adapter", None)])]
    tables = [run for run in suite.runs if run.get("name") == (part or None)]
    if not tables:
        known = sorted({run["name"] for run in suite.runs if "name" in run})
        near, have = registry.did_you_mean(part, known), ", ".join(known) or "none has a name"
        raise UsageError(f"suite {suite.path.stem} has no table {part!r}{near} (tables: {have})")
    found: list[Row] = []
    for run in tables:
        chosen = [o for o in optimizers if run in _tables(tables, o)] if optimizers else run["optimizers"]
        wanted = [a for a in _adapters(run) if not adapters or a in map(plan.adapter, adapters)]
        for group, optimizer, adapter in itertools.product(_groups(run, tasks), chosen, wanted):
            row = _row(suite, run, group, optimizer, adapter, given)
            if row not in found:
                found.append(row)
    if not found:
        raise UsageError(
            f"suite {suite.path.stem} has no row of these tasks, optimizers and adapters; leave one of them out"
        )
    return found


# --- what a gate runs -------------------------------------------------------------------------------------------------


def requests(name: str, tasks: Sequence[str] = (), optimizers: Sequence[str] = ()) -> list[plan.Request]:
    """What `plan.suite` asks for, each with one task and one optimizer; only those that fit the names or wildcards."""
    return _singles(plan.suite(name), tasks, optimizers)


def timed(suite: Suite, tasks: Sequence[str] = (), optimizers: Sequence[str] = ()) -> list[plan.Request]:
    """What [[gate.timing.run]] asks for, likewise."""
    return _singles([_timed(run) for run in suite.gate.timing.runs], tasks, optimizers)


def _singles(asked: Iterable[plan.Request], tasks: Sequence[str], optimizers: Sequence[str]) -> list[plan.Request]:
    found = []
    for request in asked:
        kept = _fitting("task", request.tasks, tasks), _fitting("optimizer", request.optimizers, optimizers)
        found += [replace(request, tasks=[t], optimizers=[o]) for t, o in itertools.product(*kept)]
    return found


def _fitting(kind: str, texts: Iterable[str], only: Sequence[str]) -> list[str]:
    """The texts, grids multiplied out, that fit one of the patterns; all where there are none."""
    written = [(name, options) for t in texts for name, options in plan.grid(t)]
    return [text(n, o) for n, o in written if not only or any(_is(p, registry.find(kind, n), o) for p in only)]


def _adapters(run: Mapping[str, Any]) -> list[str]:
    return [plan.adapter(a) for a in run.get("adapters", [run.get("adapter", "none")])]


def _tables(runs: Sequence[Mapping[str, Any]], optimizer: str) -> list[Mapping[str, Any]]:
    """The tables in which an optimizer stands: those that name it, else those of its order, else all."""
    entry = _entry(optimizer)
    named = [run for run in runs if any(_entry(o).name == entry.name for o in run["optimizers"])]
    alike = [run for run in runs if any(_order(_entry(o)) == _order(entry) for o in run["optimizers"])]
    return named or alike or list(runs)


def _entry(optimizer: str) -> Entry:
    return registry.find("optimizer", registry.parse(optimizer)[0])


def _order(entry: Entry) -> str:
    order = str(entry.info.get("order", ""))
    return LIKE.get(order, order)


def _groups(run: Mapping[str, Any], only: Sequence[str]) -> list[tuple[str, ...]]:
    """Texts of tasks, grids multiplied out; together those that share a setting."""
    groups: dict[str, list[str]] = {}
    for written in run["tasks"]:
        for name, options in plan.grid(written):
            entry = registry.find("task", name)
            if only and not any(_is(pattern, entry, options) for pattern in only):
                continue
            key = text(entry.name, {k: v for k, v in options.items() if k != run.get("over")})
            groups.setdefault(key, []).append(text(entry.name, options))
    return [tuple(group) for group in groups.values()]


def _is(pattern: str, entry: Entry, given: Mapping[str, Any]) -> bool:
    """Whether a task fits a name with wildcards, its aliases included, and the options that are written with it."""
    name, wanted = registry.parse(pattern)
    name = name.lower().replace("-", "_")
    if not any(fnmatchcase(n.lower().replace("-", "_"), name) for n in (entry.name, *entry.aliases)):
        return False
    options = {**entry.common, **entry.options, **given}
    return all(options.get(k) in (v if isinstance(v, list) else [v]) for k, v in wanted.items())


def _row(
    suite: Suite, run: Mapping[str, Any], group: tuple[str, ...], optimizer: str, adapter: str, given: Mapping[str, Any]
) -> Row:
    name, options = registry.parse(optimizer)
    entry = registry.find("optimizer", name)
    options = registry.preset(entry, name) | options
    keep = {f.name for f in fields(plan.Request)} - {"tasks", "optimizers", "adapter"}
    asked = {k: v for k, v in run.items() if k in keep} | dict(given)
    found = _settings(suite.tunes, run, group[0], entry, adapter, str(asked.get("model") or ""))
    found = {k: v for k, v in found.items() if k not in given and k not in options}
    found |= {k: v if isinstance(v, (list, tuple)) else [v] for k, v in options.items()}
    single = {k: v[0] for k, v in found.items() if len(v) == 1}
    grid = {k: tuple(v) for k, v in found.items() if len(v) > 1}
    shown = name if name.endswith(".py") else entry.name
    return Row(group, shown, adapter, asked, single, grid)


def _settings(
    tunes: Iterable[Tune], run: Mapping[str, Any], task: str, entry: Entry, adapter: str, model: str
) -> dict[str, Sequence[Any]]:
    """Every setting as a list of its values, from the tables that match, the most specific last."""
    name, options = registry.parse(task)
    about = registry.find("task", name)
    kind = registry.parse(adapter)[0]
    known = {**entry.options, **entry.common}
    ranked: list[tuple[tuple[int, ...], Mapping[str, Any]]] = []
    for tune in tunes:
        rank = max((_rank(o, entry) for o in tune.optimizers), default=0)
        adapted = any(registry.parse(a)[0] == kind for a in tune.adapters)
        modelled = any(fnmatchcase(model.lower(), m.lower()) for m in tune.models)
        tasked = any(_is(t, about, options) for t in tune.tasks)
        fits = (adapted or not tune.adapters) and (modelled or not tune.models) and (tasked or not tune.tasks)
        if rank >= 0 and fits and tune.name in (None, run.get("name")):
            kept = {k: v for k, v in tune.settings.items() if k in SETTINGS or k in known}
            ranked.append(((int(tune.name is not None), rank, adapted, modelled, tasked, tune.place), kept))
    own = {k: list(v) for k, v in entry.info.get("grid", {}).items()}
    if plan.rated(entry, about.info.get("rates", ())):
        own.pop("lr", None)  # the task publishes the rate
    ranked.append(((0, OWN if kind == "none" else -1, 0, 0, 0, 0), own))
    found: dict[str, Sequence[Any]] = {}
    for _, settings in sorted(ranked, key=lambda pair: pair[0]):
        found |= {k: v if isinstance(v, list) else [v] for k, v in settings.items()}
    return found


def _rank(written: str, entry: Entry) -> int:
    """How closely a table's word names this optimizer; -1 where it does not."""
    if written in CLASSES:
        hit = written in ("*", entry.info.get("order"), entry.info.get("family"))
        return CLASSES[written] if hit else -1
    return NAMED if registry.find("optimizer", written).name == entry.name else -1
