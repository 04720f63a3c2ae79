"""What a long run shows on stderr: one line that moves, and one line for what is worth keeping."""

from __future__ import annotations

import math
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from zobench.record import RunRecord
from zobench.run import Reporter, State

EVERY = 0.1  # seconds between two updates: drawing must not cost more than a step


class Display(Reporter):
    """Rich progress for `zobench run`; on a stream that is no terminal, only the lines worth keeping."""

    def __init__(self, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[facts]}"),
        )
        moving = self.console.is_terminal and not quiet
        self.progress = Progress(*columns, console=self.console, transient=True, disable=not moving, expand=True)
        self.last = 0.0

    def __enter__(self) -> Display:
        _silence_libraries()
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def begin(self, state: State) -> None:
        job = state.job
        label = f"{state.number}/{state.total} {job.task} {job.optimizer} seed {job.seed}"
        self.began = time.perf_counter()
        self.bar = self.progress.add_task(label, total=1.0, facts="building")

    def update(self, state: State) -> None:
        now = time.perf_counter()
        if now - self.last < EVERY:
            return
        self.last = now
        self.progress.update(self.bar, completed=state.progress, facts=self._facts(state, now))

    def note(self, text: str) -> None:
        self.console.print(text, markup=False)

    def end(self, row: RunRecord, path: Any, reused: bool) -> None:
        if not reused:
            self.progress.remove_task(self.bar)
        if row.status != "ok":
            self.note(f"{row.task} {row.optimizer} seed {row.seed}: {row.status}: {row.reason}")

    def _facts(self, state: State, now: float) -> str:
        parts = [f"loss {state.loss:.4g}"] if not math.isnan(state.loss) else []
        parts += [f"{name} {value:.4g}" for name, value in list(state.metrics.items())[:1]]
        if state.seconds > 0:
            parts.append(f"{state.forwards / state.seconds:.3g} forwards/s")
        if state.memory:
            parts.append(f"{state.memory / 2**20:.0f} MiB")
        if 0 < state.progress < 1:
            parts.append(f"{_clock((now - self.began) * (1 / state.progress - 1))} left")
        return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _silence_libraries() -> None:
    """Two progress bars on one line are none: those of transformers and datasets stay off."""
    import os

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
