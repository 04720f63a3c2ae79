"""Optimizers of other libraries by name: `torch:NAdam`, `pytorch-optimizer:Lion`. Nothing is imported to plan with them.

What an entry says is read from the installed library's source: the class, the literal defaults of its `__init__`, the first
lines of its docstring. They take one forward and one backward a step unless their own closure calls say otherwise, leave no
trace, and run as the library has them.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from zobench.registry import Entry, did_you_mean
from zobench.spec import EnvironmentUnmet, UsageError

GIVEN = ("self", "params")  # by the run
NUMBERS = ("int", "float")  # what a user can give in the place of a missing default
# Whose step grows with the gradient, so that a rate of family `gradient` fits them; the others move each element by about lr.
GRADIENT = (
    *("SGD", "ASGD", "AccSGD", "AggMo", "LARS", "PID", "QHM", "SGDP", "SGDSaI", "SGDW", "ScheduleFreeSGD", "VSGD"),
    *("Gravity", "MSVAG", "SRMM", "SWATS"),
)
BASES = ("Optimizer", "BaseOptimizer")


@dataclass(frozen=True)
class Library:
    """Where the optimizers of a distribution lie."""

    prefix: str
    package: str
    folder: str
    install: str


LIBRARIES = {
    library.prefix: library
    for library in (
        Library("torch", "torch", "optim", "pip install torch"),
        Library("pytorch-optimizer", "pytorch_optimizer", "optimizer", "pip install 'zobench[optimizers]'"),
    )
}


@dataclass(frozen=True)
class Found:
    """A class in a source file of a library."""

    name: str
    path: Path
    bases: tuple[str, ...]


def is_foreign(name: str) -> bool:
    """Whether it is written as a library's: `LIBRARY:CLASS`."""
    return ":" in name and not name.endswith(".py")


def library_of(name: str) -> Library:
    prefix = name.partition(":")[0].strip().lower().replace("_", "-")
    if prefix not in LIBRARIES:
        raise UsageError(
            f"unknown library {prefix!r}{did_you_mean(prefix, LIBRARIES)} (libraries: {', '.join(LIBRARIES)}); "
            "write for example torch:NAdam"
        )
    return LIBRARIES[prefix]


def version(name: str) -> dict[str, str]:
    """{distribution: installed version} of the library of `torch:NAdam`, for the provenance of a run."""
    prefix = library_of(name).prefix
    try:
        return {prefix: metadata.version(prefix)}
    except metadata.PackageNotFoundError:
        return {prefix: ""}


def find(name: str) -> Entry:
    """The entry of `LIBRARY:CLASS`, whatever its case; a class that a run cannot make is a UsageError that says why."""
    library = library_of(name)
    wanted = name.partition(":")[2].strip()
    classes = _classes(library)
    spellings = {_plain(found): found for found in classes}
    found = classes.get(spellings.get(_plain(wanted), ""))
    if found is None:
        close = did_you_mean(_plain(wanted), spellings)
        for plain, spelled in sorted(spellings.items(), key=lambda pair: -len(pair[0])):
            close = re.sub(rf"\b{re.escape(plain)}\b", f"{library.prefix}:{spelled}", close)
        raise UsageError(f"{library.prefix} {_version(library)} has no optimizer {wanted!r}{close}")
    return _entry(library, found)


def load(entry: Entry) -> type:
    """The class, with `cost` and a `load_state_dict` that keeps dtypes beside it: only now is its library imported."""
    library, module = library_of(entry.name), "torch.optim"
    if library.prefix != "torch":
        root = _folder(library).parent
        module = ".".join((library.package, *entry.path.relative_to(root).with_suffix("").parts))
    try:
        cls = getattr(importlib.import_module(module), entry.exports[0])
    except Exception as error:
        raise EnvironmentUnmet(f"{entry.name} fails on import: {_line(error)}; try {library.install}") from error
    from zobench.core.first_order import FirstOrder

    return type(cls.__name__, (FirstOrder, cls), {"info": entry.info, "__doc__": cls.__doc__})


def make(entry: Entry, tensors: list[Any], options: Mapping[str, Any]) -> Any:
    """The optimizer on these tensors; whatever its constructor objects to is a UsageError of one line."""
    # a job that went through JSON has lists where the class wants tuples
    given = {
        k: tuple(v) if isinstance(v, list) and isinstance(entry.options.get(k), tuple) else v
        for k, v in options.items()
    }
    for key in entry.info["required"]:
        if given[key] is None:
            raise UsageError(f"optimizer {entry.name} has no default for {key}: write {entry.name}[{key}=...]")
    try:
        optimizer = load(entry)(_groups(entry, tensors), **given)
    except EnvironmentUnmet:
        raise
    except Exception as error:
        raise UsageError(f"optimizer {entry.name}: {_line(error)}") from error
    for group in optimizer.param_groups:
        group.setdefault("lr", 1.0)  # schedules need one; a method without an lr ignores it
    return optimizer


def _groups(entry: Entry, tensors: list[Any]) -> list[Any]:
    """The tensors; for a method that wants them told apart, matrices for Muon and the others for its AdamW."""
    if "use_muon" not in entry.path.read_text(encoding="utf-8"):
        return tensors
    parts = {True: [p for p in tensors if p.ndim >= 2], False: [p for p in tensors if p.ndim < 2]}
    return [{"params": part, "use_muon": muon} for muon, part in parts.items() if part]


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _version(library: Library) -> str:
    return next(iter(version(library.prefix).values()))


def _folder(library: Library) -> Path:
    spec = importlib.util.find_spec(library.package)  # of a top-level package: this does not import it
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentUnmet(f"{library.prefix} is not installed; {library.install}")
    return Path(next(iter(spec.submodule_search_locations))) / library.folder


@cache
def _classes(library: Library) -> dict[str, Found]:
    """Name -> class, of every class that descends from an optimizer and that the library exports."""
    written: dict[str, Found] = {}
    exported = set(re.findall(r"\w+", (_folder(library) / "__init__.py").read_text(encoding="utf-8")))
    for path in sorted(_folder(library).rglob("*.py")):
        for match in re.finditer(r"^class (\w+)\(([^)]*)\)", path.read_text(encoding="utf-8"), re.M):
            bases = tuple(base.strip().rpartition(".")[2] for base in match[2].split(","))
            written.setdefault(match[1], Found(match[1], path, bases))

    def descends(found: Found) -> bool:
        return any(base in BASES or (base in written and descends(written[base])) for base in found.bases)

    return {n: f for n, f in written.items() if n in exported and n not in BASES and descends(f)}


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _entry(library: Library, found: Found) -> Entry:
    name, start = f"{library.prefix}:{found.name}", _start(library, found)
    arguments = start.args
    positional = [*arguments.posonlyargs, *arguments.args]
    needed = positional[: len(positional) - len(arguments.defaults)]
    needed += [a for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is None]
    lacking = [a.arg for a in needed if a.arg not in GIVEN and _kind(a) not in NUMBERS]
    if lacking or "params" not in [a.arg for a in needed]:
        what = ", ".join(lacking) or "no parameters"
        raise UsageError(f"{name} is made from {what}: a run gives an optimizer its parameters and options, no more")
    if "compute_hutchinson_hessian" in ast.unparse(_class(found)):
        raise UsageError(f"{name} differentiates the gradient once more; a run keeps no graph for that")
    pairs = [*zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True)]
    pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None]
    constants = _constants(found)
    options = {a.arg: _default(a, d, constants) for a, d in pairs if a.arg not in GIVEN and _literal(d, constants)}
    options |= {a.arg: None for a in needed if a.arg not in GIVEN}
    info = dict(
        title=found.name,
        paper=f"{library.prefix} {_version(library)}",
        order="first",
        family="gradient" if found.name in GRADIENT else "adaptive",
        forwards="1",
        backwards="1",
        state="unknown",
        replay="none",
        mode="train",
        grid={},
        limits=dict(lr=">=0") if "lr" in options else {},
        aliases=(),
        required=tuple(a.arg for a in needed if a.arg not in GIVEN),
        notes=f"The class of {library.prefix} {_version(library)}, unchanged. Its state is measured, not foretold.",
    )
    if options.get("lr") == 1.0:
        info["rate"] = "1.0"  # it finds its own rate, which lr scales, on every task
    return Entry("optimizer", name, found.path, True, _doc(found), info, options, exports=(found.name,))


def _start(library: Library, found: Found) -> ast.FunctionDef:
    """The `__init__` of the class, or of the first of its bases that has one."""
    for node in _class(found).body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return node
    for base in found.bases:
        if base in _classes(library):
            return _start(library, _classes(library)[base])
    raise UsageError(f"{library.prefix}:{found.name} has no __init__ that could be read")


def _class(found: Found) -> ast.ClassDef:
    return next(n for n in _tree(found.path).body if isinstance(n, ast.ClassDef) and n.name == found.name)


def _constants(found: Found) -> dict[str, ast.expr]:
    """The constants of the class's file: torch.optim.Muon has its defaults there."""
    plain = [n for n in _tree(found.path).body if isinstance(n, (ast.Assign, ast.AnnAssign)) and n.value is not None]
    targets = [(n.targets[0] if isinstance(n, ast.Assign) else n.target, n.value) for n in plain]
    return {t.id: v for t, v in targets if isinstance(t, ast.Name) and isinstance(v, (ast.Constant, ast.UnaryOp))}


def _value(node: ast.expr, constants: Mapping[str, ast.expr]) -> Any:
    """A literal, in which constants may stand; a ValueError for anything else."""
    if isinstance(node, ast.Name) and node.id in constants:
        return _value(constants[node.id], constants)
    if isinstance(node, ast.Tuple):
        return tuple(_value(element, constants) for element in node.elts)
    return ast.literal_eval(node)


def _literal(node: ast.expr, constants: Mapping[str, ast.expr]) -> bool:
    try:
        _value(node, constants)
    except ValueError:
        return False
    return True


def _kind(argument: ast.arg) -> str:
    return ast.unparse(argument.annotation) if argument.annotation else ""


def _default(argument: ast.arg, node: ast.expr, constants: Mapping[str, ast.expr]) -> Any:
    """A literal; one that may be a float is one, so that `weight_decay: float = 0` takes 0.1."""
    value = _value(node, constants)
    return float(value) if type(value) is int and re.search(r"\bfloat\b", _kind(argument)) else value


def _doc(found: Found) -> str:
    """The first paragraph of the docstring; torch writes it as `NAdam.__doc__ = r"..." + ...`."""
    text = ast.get_docstring(_class(found)) or ""
    for node in _tree(found.path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == f"{found.name}.__doc__":
            value = node.value
            while isinstance(value, ast.BinOp):
                value = value.left
            text = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else text
    return " ".join(text.strip().split("\n\n")[0].split()) or f"{found.name}."
