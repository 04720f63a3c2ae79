"""Names -> files: the folder listing is the registry. Nothing is imported to list; `ast` reads the literals.

`entries("optimizer")` lists zobench/optimizers, `entries("baseline")` zobench/baselines, whose entries are chosen with the
same -O, and `entries("task")` the tasks folder beside the package (or inside an installed one). A path ending in .py works
in place of a name, and `choice:FILE.jsonl` is a task on a user's own rows (own_rows.py).
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from zobench.core.info import COMMON, COMMON_CHOICES, COMMON_LIMITS, bounds_of, spoken, within
from zobench.problems import options as shared
from zobench.spec import SPEC, UsageError

PACKAGE = Path(__file__).resolve().parent
ENGINE_OPTIONS = ("params", "seed", "mode", "setting", "self", "problem", "x")  # given by the run, not by the user


@dataclass(frozen=True)
class Entry:
    """What a file says about itself, read without importing it."""

    kind: str  # task | optimizer | baseline
    name: str
    path: Path
    builtin: bool
    doc: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)  # name -> literal default
    common: Mapping[str, Any] = field(
        default_factory=dict
    )  # options of every zeroth-order optimizer, in a cell if changed
    exports: tuple[str, ...] = ()  # of an optimizer file: its __all__
    asked: str = ""  # of a user's own rows: what `find` finds them by wherever it is asked
    method: str = ""  # of an optimizer file: the docstring of its class, which has the formulas
    builder: str = ""  # of a task or baseline: which function of `BUILDERS` it has

    @property
    def aliases(self) -> tuple[str, ...]:
        return tuple(self.info.get("aliases", ()))

    @property
    def foreign(self) -> bool:
        """Whether it is another library's class, such as `torch:NAdam`."""
        return self.builtin and ":" in self.name


def tasks_folder() -> Path:
    """`tasks/` beside the package in a checkout, inside it in an installed wheel."""
    beside = PACKAGE.parent / "tasks"
    return beside if (beside / "softmax_l2.py").exists() else PACKAGE / "tasks"


FOLDERS = {
    "optimizer": lambda: PACKAGE / "optimizers",
    "baseline": lambda: PACKAGE / "baselines",
    "task": tasks_folder,
}
# the functions whose defaults are a file's options
BUILDERS = {"task": ("build",), "baseline": ("solve", "prepare")}


@cache
def entries(kind: str) -> dict[str, Entry]:
    """name -> entry of every file in the folder, in alphabetical order."""
    found = [read(kind, path, builtin=True) for path in sorted(FOLDERS[kind]().glob("[!_]*.py"))]
    return {entry.name: entry for entry in found}


def find(kind: str, name: str) -> Entry:
    """The entry called `name` (or an alias, or a path to a .py file); an unknown name is a UsageError with advice.

    Where an optimizer is asked for, a baseline will do, and `torch:NAdam` is a library's (foreign.py).
    """
    if name.endswith(".py"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise UsageError(f"{kind} file {name!r} does not exist")
        kind = "baseline" if kind == "optimizer" and _solves(path) else kind
        return read(kind, path.resolve(), builtin=False)
    if kind == "optimizer" and ":" in name:
        from zobench import foreign

        return foreign.find(name)
    if kind == "task" and ":" in name:
        from zobench import own_rows

        if own_rows.is_own(name):
            return own_rows.find(name)
    known = entries("baseline") | entries(kind) if kind == "optimizer" else entries(kind)
    spellings = {_plain(n): e for e in known.values() for n in (*e.aliases, e.name)}
    entry = known.get(name) or spellings.get(_plain(name))
    if entry is None:
        raise UsageError(
            f"unknown {kind} {name!r}{did_you_mean(_plain(name), spellings)}; `zobench list {kind}s` shows all"
            + (", and rows of your own are choice:FILE.jsonl or generate:FILE.jsonl" if kind == "task" else "")
        )
    return entry


def _solves(path: Path) -> bool:
    """Whether a file given as an optimizer is a reference line."""
    try:
        return bool(re.search(r"^def (solve|prepare)\(", path.read_text(encoding="utf-8", errors="replace"), re.M))
    except OSError:
        return False


def preset(entry: Entry, name: str) -> dict[str, Any]:
    """The options that come with this name of the entry (INFO `presets`), where they are not given."""
    presets = {_plain(alias): options for alias, options in entry.info.get("presets", {}).items()}
    return dict(presets.get(_plain(name), {}))


def did_you_mean(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    near = " or ".join([", ".join(close[:-1]), *close[-1:]]) if len(close) > 1 else "".join(close)
    return f"; did you mean {near}?" if close else ""


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """`mezo[lr=1e-6,law=rademacher]` -> ("mezo", {"lr": 1e-6, "law": "rademacher"}); a list value is a grid."""
    name, inside = _parts(text)
    options: dict[str, Any] = {}
    for part in split(inside):
        key, separator, value = part.partition("=")
        if not separator or not key.strip():
            raise UsageError(f"cannot read {part!r} in {text!r}; write option=value")
        key = key.strip().replace("-", "_")
        if key in options:
            raise UsageError(f"{text!r} gives {key} twice; a grid is a list: {key}=[1,2]")
        options[key] = _literal(value.strip())
    return name, options


def _parts(text: str) -> tuple[str, str]:
    """The name and what is in its brackets. Brackets of a file that exists are its own."""
    if name := _file(text):
        return name, text.strip()[len(name) :].strip()[1:-1]
    match = SPEC.match(text)
    if match is None:
        own = _place(text.partition("[")[0]) or ".py" in text
        why = "; brackets hold options, unless they are in the name of a file that exists" if own else ""
        raise UsageError(f"cannot read {text!r}; write NAME or NAME[option=value,option=value]{why}")
    return match["name"], match["options"] or ""


def _place(name: str) -> str:
    """The path in a name that is one: a .py file, or rows of a user's own; else nothing."""
    from zobench import own_rows

    if ":" in name and own_rows.is_own(name):
        return name.partition(":")[2]
    return name if name.endswith(".py") else ""


def _file(text: str) -> str:
    """The longest name in front of options, or of nothing, that is a file or directory; else nothing."""
    text = text.strip()
    ends = [len(text), *(i for i in range(len(text) - 1, 0, -1) if text[i] == "[" and text.endswith("]"))]
    names = (text[:end].strip() for end in ends)
    return next((name for name in names if (place := _place(name)) and os.path.exists(os.path.expanduser(place))), "")


def resolve(entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of the entry, defaults filled in; unknown names, wrong types and forbidden values are UsageErrors."""
    known = {**entry.options, **entry.common}
    for key in given:
        if key not in known:
            names = ", ".join(known) or "none"
            raise UsageError(
                f"{entry.kind} {entry.name} has no option {key!r}{did_you_mean(key, known)} (options: {names})"
            )
    values = {key: _convert(entry, key, given.get(key, default), default) for key, default in known.items()}
    for key in given:
        _check(entry, key, values[key])
    return {key: value for key, value in values.items() if key in entry.options or value != entry.common[key]}


def chosen(entry: Entry, options: Mapping[str, Any]) -> Entry:
    """A task's entry with the INFO that these options have: its dataset, for one, may hang on them."""
    return replace(entry, info=shared.chosen(entry.info, options)) if "by" in entry.info else entry


def bounds(entry: Entry) -> tuple[dict[str, str], dict[str, Sequence[Any]]]:
    """(limits, choices) of its options, the common ones included."""
    info, limits, choices = entry.info, {}, {}
    if entry.kind == "task":
        limits, choices = shared.bounds(info.get("kind", ""), {**entry.common, **entry.options})
    elif entry.common:
        limits, choices = COMMON_LIMITS, COMMON_CHOICES
    return {**limits, **info.get("limits", {})}, {**choices, **info.get("choices", {})}


def label(entry: Entry, options: Mapping[str, Any]) -> str:
    """`sst2[num_train=500]`: the name with the options that differ from their defaults."""
    defaults = {**entry.common, **entry.options}
    changed = [f"{k}={v}" for k, v in sorted(options.items()) if v != defaults.get(k)]
    return entry.name + (f"[{','.join(changed)}]" if changed else "")


def load(entry: Entry) -> ModuleType:
    """Import the entry's file."""
    if "place" in entry.info:
        from zobench import own_rows

        return own_rows.load(entry)
    if entry.builtin and entry.kind != "task":
        return importlib.import_module(f"zobench.{entry.kind}s.{entry.path.stem}")
    name = f"zobench_{entry.kind}_{entry.path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == str(entry.path):
        return loaded
    found = importlib.util.spec_from_file_location(name, entry.path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(
            f"{entry.kind} file {entry.path.name} fails on import: {type(error).__name__}: {error}"
        ) from error
    return module


def optimizer_class(entry: Entry) -> type:
    """The class that the file's __all__ names first, or that a library has under the entry's name."""
    if entry.foreign:
        from zobench import foreign

        return foreign.load(entry)
    module = load(entry)
    return getattr(module, module.__all__[0])


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def split(text: str) -> list[str]:
    """Split at the commas outside brackets; those of a file that exists are its own."""
    parts, depth, begin = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "[(") - (character in "])")
        if character == "," and depth == 0:
            parts.append(text[begin:i])
            begin = i + 1
    return [part for part in _whole([*parts, text[begin:]]) if part.strip()]


def _whole(parts: list[str]) -> list[str]:
    """The parts, those of one file's name put together again."""
    found = []
    while parts:
        ends = range(len(parts), 1, -1) if ":" in parts[0] or any(".py" in part for part in parts) else ()
        taken = next((k for k in ends if _file(",".join(parts[:k]))), 1)
        found.append(",".join(parts[:taken]))
        parts = parts[taken:]
    return found


def _literal(text: str) -> Any:
    if text.startswith("[") and text.endswith("]"):
        return [_literal(part.strip()) for part in split(text[1:-1])]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _convert(entry: Entry, key: str, value: Any, default: Any) -> Any:
    """Ints pass for floats and whole floats for ints; everything else must be of the default's type. Where words are asked
    for, `none` is one of them.
    """
    if value is None and (isinstance(default, str) or "none" in bounds(entry)[1].get(key, ())):
        value = "none"
    if default is None or type(value) is type(default):
        return value
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    whole = isinstance(value, float) and math.isfinite(value) and value == int(value)
    if isinstance(default, int) and not isinstance(default, bool) and whole:
        return int(value)
    raise UsageError(f"{entry.kind} {entry.name}: {key} must be {_a(type(default))}, not {value!r}")


def _a(kind: type) -> str:
    return {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}.get(kind, kind.__name__)


def _check(entry: Entry, key: str, value: Any) -> None:
    limits, choices = bounds(entry)
    limit = limits.get(key)
    if limit and isinstance(value, (int, float)) and not within(limit, value):
        raise UsageError(f"{entry.kind} {entry.name}: {key} must be {spoken(limit)}, not {value!r}")
    if key in choices and value not in choices[key]:
        raise UsageError(
            f"{entry.kind} {entry.name}: {key} must be one of {', '.join(map(str, choices[key]))}, not {value!r}"
            + did_you_mean(str(value), map(str, choices[key]))
        )


def read(kind: str, path: Path, builtin: bool) -> Entry:
    """What a file says about itself; UsageError where it is none of this kind."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{kind} file {path}: {said}") from None
    name = path.stem if kind == "task" else path.stem.replace("_", "-")
    info, options, common, method, builder = {}, None, {}, "", ""
    exported: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "INFO":
                info = _value(node.value, path)
                if not isinstance(info, dict):
                    raise UsageError(f"{path.name}, line {node.lineno}: INFO must be a dict(...)")
            elif node.targets[0].id == "__all__":
                exported = _value(node.value, path)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in BUILDERS.get(kind, ()):
            options, builder = _defaults(node, path), node.name
            if getattr(node.args.kwarg, "arg", "") == "shared":
                options = {**shared.SHARED.get(info.get("kind", ""), {}), **options}
            common = {key: options.pop(key) for key in info.get("late", ()) if key in options}
        if kind == "optimizer" and isinstance(node, ast.ClassDef) and node.name in exported[:1]:
            starts = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
            options, method = _defaults(starts[0], path) if starts else {}, ast.get_docstring(node) or ""
            if starts and getattr(starts[0].args.kwarg, "arg", "") == "common":
                common = {key: value for key, value in COMMON.items() if key not in options}
            late = [key for key in info.get("late", {}) if key in options]  # stored results keep their cells
            common = common | {key: options.pop(key) for key in late}
    if not builtin:
        _check_info(info, path)
    if options is None:
        need = (
            "a class named first in __all__"
            if kind == "optimizer"
            else f"a function {'(...) or '.join(BUILDERS[kind])}(...)"
        )
        raise UsageError(f"{kind} file {path.name} needs {need}; see CONTRIBUTING.md")
    doc = (ast.get_docstring(tree) or "").strip()
    return Entry(
        kind,
        name if builtin else path.stem,
        path,
        builtin,
        doc,
        info,
        options,
        common,
        tuple(exported),
        method=method,
        builder=builder,
    )


def _check_info(info: Mapping[str, Any], path: Path) -> None:
    """A stranger's INFO, as far as listing and explaining rely on it."""
    lists = {"aliases": info.get("aliases", ()), **{f"grid of {k}": v for k, v in _table(info, "grid", path).items()}}
    lists |= {f"choices of {k}": v for k, v in _table(info, "choices", path).items()}
    for name, value in lists.items():
        if not isinstance(value, (tuple, list)):
            raise UsageError(f"{path.name}: INFO {name} must be a tuple, such as (1e-6,), not {value!r}")
    for name, limit in _table(info, "limits", path).items():
        try:
            bounds_of(str(limit))
        except ValueError as error:
            raise UsageError(f"{path.name}: INFO limits of {name}: {error}") from None


def _table(info: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = info.get(key, {})
    if not isinstance(value, dict):
        raise UsageError(f"{path.name}: INFO {key} must be a dict(option=...), not {value!r}")
    return value


def _defaults(function: ast.FunctionDef, path: Path) -> dict[str, Any]:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = [*zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True)]
    pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None]
    return {a.arg: _value(d, path) for a, d in pairs if a.arg not in ENGINE_OPTIONS}


def _value(node: ast.expr, path: Path) -> Any:
    """A literal, or a `dict(...)` call of literals; the two may hold each other."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict" and not node.args:
        found: dict[str, Any] = {}
        for k in node.keywords:  # a key that is a word of Python comes as **{"try": ...}
            found |= {k.arg: _value(k.value, path)} if k.arg else _value(k.value, path)
        return found
    if isinstance(node, ast.Dict) and (keys := [k for k in node.keys if k is not None]) == node.keys:
        return {_value(k, path): _value(v, path) for k, v in zip(keys, node.values, strict=True)}
    if isinstance(node, ast.Tuple | ast.List):
        return (tuple if isinstance(node, ast.Tuple) else list)(_value(e, path) for e in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise UsageError(f"{path.name}, line {node.lineno}: INFO and option defaults must be literals") from None
