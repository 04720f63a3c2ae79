"""Task files, loaded by path as the registry does."""

import importlib.util
from pathlib import Path
from types import ModuleType

TASKS = Path(__file__).parents[1] / "tasks"


def load_task(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"task_{name}", TASKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
