"""Data flows one way, cli -> plan -> run -> record -> report, and each layer knows only what it needs.

The table is the rule: the first line that owns a file holds it. A new file needs a line that owns it.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from imports import STDLIB, Import, Layer, imports_of

ROOT = Path(__file__).parents[1]
PLAIN = "zobench.spec zobench.registry zobench.plan zobench.suite zobench.gate zobench.foreign zobench.own_rows"
RUN = "zobench.run zobench.lockstep zobench.build zobench.keeper zobench.resume zobench.checkpoint zobench.environment"
MODELS = "torch transformers safetensors numpy zobench.spec zobench.models zobench.core"

LAYERS = [
    Layer("zobench/spec.py"),
    Layer("zobench/problems/options.py"),
    Layer("zobench/gate.py zobench/checkout.py", top="zobench.spec zobench.registry"),
    Layer("zobench/paired.py", top="zobench.spec zobench.registry zobench.plan zobench.gate zobench.checkout"),
    Layer("zobench/worker.py", inside="*", never="zobench.report zobench.optimizers"),  # another checkout's code
    Layer(
        "zobench/registry.py zobench/plan.py zobench/suite.py",
        top=f"{PLAIN} zobench.core.info zobench.problems.options",
    ),
    Layer("zobench/catalog.py", top=f"{PLAIN} zobench.core.info zobench.core.blocks"),
    Layer("zobench/published.py zobench/protocols.py", top="zobench.spec zobench.protocols"),
    Layer("zobench/foreign.py", top=PLAIN, inside="zobench.core.first_order"),
    Layer("zobench/own_rows.py", top=PLAIN, inside="zobench.problems.own"),
    Layer("zobench/__init__.py", inside="zobench.run"),
    Layer("zobench/__main__.py", top="zobench.cli"),
    Layer(
        "zobench/cli/*.py",
        top=f"click zobench zobench.catalog zobench.cli {PLAIN}",
        inside="*",
        never="torch zobench.optimizers",
    ),
    Layer("zobench/core/kernels.py", top="torch numpy numba llvmlite zobench.core.philox zobench.core"),
    Layer("zobench/core/*triton*.py", top="torch triton zobench.core"),
    Layer("zobench/core/*.py", top="torch numpy zobench.core"),
    Layer("zobench/meters.py", top="torch", inside="pynvml"),
    Layer(
        "zobench/optimizers/*.py", top="torch numpy zobench.core", inside="zobench.core galore_torch pytorch_optimizer"
    ),
    Layer("tasks/*.py", top="zobench.spec", inside="zobench.problems"),
    Layer("zobench/models/adapters.py", top=MODELS, inside="peft"),
    Layer("zobench/models/quantise.py", top=MODELS, inside="accelerate bitsandbytes"),
    Layer("zobench/models/*.py", top=MODELS, inside="huggingface_hub tokenizers"),
    Layer(
        "zobench/problems/*.py",
        top=f"{MODELS} zobench.problems",
        inside="datasets huggingface_hub pyarrow scipy sklearn",
    ),
    Layer(
        "zobench/baselines/*.py",
        top="torch numpy scipy zobench.problems zobench.spec zobench.baselines",
        inside="zobench.models sklearn",
        never="zobench.optimizers",
    ),
    Layer("zobench/record.py", top="pyarrow zobench.spec", inside="pandas"),
    Layer(
        "zobench/report/*.py",
        top="pyarrow pandas numpy scipy rich jinja2 zobench.record zobench.spec zobench.gate zobench.report zobench.published",
        inside="matplotlib",
    ),
    Layer("zobench/checkpoint.py zobench/environment.py", top=f"torch safetensors zobench.core zobench {PLAIN}"),
    Layer("zobench/build.py", top=f"torch zobench.core {PLAIN}", inside="zobench.problems zobench.models"),
    Layer(
        "zobench/run.py zobench/lockstep.py zobench/keeper.py zobench/resume.py",
        top=f"torch numpy zobench.core zobench.meters zobench.record {RUN} {PLAIN}",
        inside="zobench.problems zobench.replay",
        never="zobench.report zobench.optimizers",
    ),
    Layer(
        "zobench/replay.py zobench/verify.py zobench/estimate.py",
        top=f"torch zobench.run zobench.build zobench.record zobench.environment zobench.core {PLAIN}",
        inside="transformers zobench.models",
        never="zobench.report",
    ),
    Layer(
        "zobench/contract.py",
        top=f"torch zobench.core zobench.meters {RUN} {PLAIN}",
        never="zobench.report zobench.optimizers",
    ),
    Layer("zobench/progress.py", top="rich zobench.run zobench.record zobench.spec", inside="transformers"),
    Layer(
        "zobench/prepare.py",
        top=f"zobench.problems {PLAIN}",
        inside="zobench.models huggingface_hub",
        never="zobench.core zobench.optimizers zobench.report",
    ),
    Layer("zobench/doctor.py", top="*", never="zobench.optimizers"),
    Layer("zobench/tune.py", top=f"scipy numpy zobench.record {PLAIN}", inside="optuna zobench.run zobench.launch"),
    Layer(
        "zobench/launch/*.py",
        top=f"zobench.run zobench.lockstep zobench.record {PLAIN}",
        inside="ray submitit",
        never="zobench.core",
    ),
]

FILES = sorted(str(p.relative_to(ROOT)) for folder in ("zobench", "tasks") for p in (ROOT / folder).rglob("*.py"))
MODULES = frozenset(
    f.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for f in FILES if f.startswith("zobench")
)

# What a distribution is called when it is imported, where that differs.
IMPORT_NAMES = {
    "scikit-learn": "sklearn",
    "pytorch-optimizer": "pytorch_optimizer",
    "nvidia-ml-py": "pynvml",
}


def read(path: str) -> list[Import]:
    return imports_of((ROOT / path).read_text(encoding="utf-8"), MODULES)


def names(requirements: list[str]) -> set[str]:
    """Names to import of a list of requirements."""
    found = [re.match(r"[A-Za-z0-9._-]+", text) for text in requirements]
    return {IMPORT_NAMES.get(m[0].lower(), m[0].lower().replace("-", "_")) for m in found if m}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("path", FILES)
def test_imports_keep_to_the_table(path):
    layer = next((layer for layer in LAYERS if layer.owns(path)), None)
    assert layer is not None, f"{path} belongs to no layer; give it a line in {Path(__file__).name}"
    broken = layer.violations(path, (ROOT / path).read_text(encoding="utf-8"), MODULES)
    assert not broken, "\n".join(broken)


def test_every_foreign_package_is_declared(project):
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    declared = names(project["dependencies"] + extras)
    foreign = {i.root: f"{path}:{i.line}" for path in FILES for i in read(path) if i.root not in STDLIB | {"zobench"}}
    missing = {name: where for name, where in foreign.items() if name not in declared}
    assert not missing, f"imported but not in pyproject.toml: {missing}"


def test_each_optional_package_is_imported_in_one_file_where_it_is_used(project):
    extras = project["optional-dependencies"]
    optional = set().union(*(names(group) for extra, group in extras.items() if extra != "dev"))
    for name in sorted(optional | {"numba"}):
        users = {path: [i for i in read(path) if i.root == name] for path in FILES}
        users = {path: found for path, found in users.items() if found}
        assert len(users) <= 1, f"{name} is imported in {', '.join(users)}: one file each"
        for path, found in users.items():
            kernel = path.startswith("zobench/core/")  # the kernel files are themselves imported inside functions
            assert kernel or not any(i.top for i in found), f"{path} imports {name} at the top: it is optional"


def test_kernel_files_are_imported_where_they_are_used():
    for path in FILES:
        for i in read(path):
            assert not (i.top and i.module == "zobench.core.kernels"), f"{path}:{i.line} loads numba with the module"


# --- the guard itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files, source",
    [
        ("zobench/plan.py", "import torch"),
        ("zobench/plan.py", "def f():\n    import numpy"),
        ("zobench/cli/run.py", "from zobench.run import execute"),
        ("zobench/cli/run.py", "if True:\n    import rich"),
        ("zobench/cli/run.py", "class A:\n    import pyarrow"),
        ("zobench/cli/run.py", "def f():\n    from zobench.optimizers import MeZO"),
        ("zobench/core/probes.py", "def f():\n    from zobench import run"),
        ("zobench/core/probes.py", "import numba"),
        ("zobench/optimizers/mezo.py", "from zobench.problems.choice import ChoiceProblem"),
        ("tasks/sst2.py", "import torch"),
        ("tasks/sst2.py", "def build():\n    import zobench.optimizers.mezo"),
        ("zobench/record.py", "import torch"),
        ("zobench/report/read.py", "def f():\n    import torch"),
        ("zobench/report/read.py", "import importlib\nimportlib.import_module('zobench.run')"),
        ("zobench/run.py", "def f():\n    from zobench import report"),
        ("zobench/models/load.py", "from ..run import execute"),
    ],
)
def test_the_table_refuses(files, source):
    layer = next(layer for layer in LAYERS if layer.owns(files))
    assert layer.violations(files, source, MODULES | {"zobench.report"})


def test_the_reader_tells_top_from_inside_and_skips_type_checking():
    source = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import torch
else:
    import json
try:
    import numpy as np
except ImportError:
    pass
def f():
    import pandas.core
    from zobench import plan, spec
lazy = lambda: __import__("os")
"""
    found = {(i.module, i.top) for i in imports_of(source, frozenset({"zobench.plan", "zobench.spec"}))}
    assert found == {
        ("typing", True), ("json", True), ("numpy", True), ("pandas.core", False),
        ("zobench.plan", False), ("zobench.spec", False),
    }  # fmt: skip


# --- the command line answers without the heavy packages --------------------------------------------------------------

HEAVY = ("torch", "transformers", "datasets", "numba", "numpy", "scipy", "pandas", "pyarrow", "sklearn")
GUARD = """
import sys
{statement}
sys.argv = ["zobench", *{arguments!r}]
try:
    from zobench.cli import main
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
loaded = [name for name in {heavy!r} if name in sys.modules]
assert not loaded, f"loaded: {{loaded}}"
"""


def guard(arguments: list[str], statement: str = "") -> subprocess.CompletedProcess[str]:
    code = GUARD.format(statement=statement, arguments=arguments, heavy=HEAVY)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list"],
        ["list", "tasks", "--json"],
        ["list", "optimizers"],
        ["info", "mezo"],
        ["info", "lozo[rank=4]"],
        ["info", "sst2"],
        ["run", "--help"],
    ],
    ids=" ".join,
)
def test_listing_loads_nothing_heavy(arguments):
    answer = guard(arguments)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip()


def test_that_guard_can_fail():
    answer = guard(["list"], statement="import numpy")
    assert answer.returncode != 0
    assert "loaded: ['numpy'" in answer.stderr


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, zobench; sys.exit(any(name in sys.modules for name in {HEAVY!r}))"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode == 0
