"""One file, one optimizer; `from zobench.optimizers import MeZO` finds the class in its file."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any


def __getattr__(name: str) -> Any:
    """Import the file that lists `name` in its __all__, and no other."""
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                if name in ast.literal_eval(node.value):
                    return getattr(importlib.import_module(f"{__name__}.{path.stem}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
