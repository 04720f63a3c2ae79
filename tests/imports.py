"""What a source file imports, and where in the file: read with ast, nothing is executed."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase

STDLIB = frozenset(sys.stdlib_module_names)


@dataclass(frozen=True)
class Import:
    module: str  # dotted; `from zobench import plan` is zobench.plan
    top: bool  # runs when the file is imported, not inside a function
    line: int

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]


def imports_of(source: str, modules: frozenset[str] = frozenset()) -> list[Import]:
    """Every import of a source text, those for type checkers left out.

    modules: known dotted names; `from a import b` counts as an import of a.b where that is one of them, else of a.
    """
    found: list[Import] = []
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(source), True)]
    while waiting:
        node, top = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += [(child, top) for child in node.orelse]
            continue
        if isinstance(node, ast.Import):
            found += [Import(alias.name, top, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [Import(name if name in modules else node.module, top, node.lineno) for name in names]
        elif isinstance(node, ast.ImportFrom):
            found.append(Import("." * node.level, top, node.lineno))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            if node.args and isinstance(node.args[0], ast.Constant):
                found.append(Import(node.args[0].value, top, node.lineno))
        inner = top and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        waiting += [(child, inner) for child in ast.iter_child_nodes(node)]
    return sorted(found, key=lambda i: i.line)


@dataclass(frozen=True)
class Layer:
    """What the files of a layer may import beside the standard library: at the top, and further inside functions.

    A name allows what lies below it: `zobench.core` allows zobench.core.trace, but `zobench` only the package itself.
    `*` allows everything.
    """

    files: str  # patterns of paths in the project, separated by spaces
    top: str = ""
    inside: str = ""
    never: str = ""  # neither at the top nor inside, whatever the other two allow

    def owns(self, path: str) -> bool:
        return any(fnmatchcase(path, pattern) for pattern in self.files.split())

    def violations(self, path: str, source: str, modules: frozenset[str] = frozenset()) -> list[str]:
        broken = []
        for i in imports_of(source, modules):
            allowed = self.top.split() + ([] if i.top else self.inside.split())
            fine = i.root in STDLIB or _below(i.module, allowed)
            if not fine or _below(i.module, self.never.split()):
                place = "at the top" if i.top else "inside a function"
                broken.append(f"{path}:{i.line} imports {i.module} {place}; this layer may not")
        return broken


def _below(module: str, names: list[str]) -> bool:
    below = lambda name: name != "zobench" and module.startswith(f"{name}.")  # noqa: E731
    return "*" in names or any(module == name or below(name) for name in names)
