"""The machine and the software a run was made with, as the row's `environment` and for `zobench doctor`."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from zobench import __version__
from zobench.plan import versions


def describe(device: torch.device, began: float) -> dict[str, Any]:
    """JSON values only; `hardware` is the class within which timings may be compared."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return {
        "python": platform.python_version(),
        "zobench": __version__,
        **versions(),
        **commit(),
        "system": platform.system(),
        "device": str(device),
        "hardware": name if device.type == "cuda" else f"{name} x{torch.get_num_threads()}",
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "started": datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
    }


@cache
def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@cache
def commit() -> dict[str, Any]:
    """The checkout's commit and whether it had changes; empty outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return {}
    try:
        return {
            "commit": _git(root, "rev-parse", "HEAD").strip(),
            "dirty": bool(_git(root, "status", "--porcelain").strip()),
        }
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
