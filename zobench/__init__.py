"""zobench: zeroth-order against first-order optimizers, measured.

import zobench
rows = zobench.run("softmax_l2", ["mezo", "sgd"], seeds=3)

from zobench.optimizers import MeZO
opt = MeZO(model, lr=1e-6)
loss = opt.step(lambda: model(**batch).loss)
"""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "run":  # on demand: importing zobench must not import torch
        return importlib.import_module("zobench.run")
    raise AttributeError(f"module 'zobench' has no attribute {name!r}")
