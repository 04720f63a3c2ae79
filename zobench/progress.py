"""What a long run shows on stderr: one line that moves, and one line for what is worth keeping."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from zobench.record import RunRecord
from zobench.run import Reporter, State

EVERY = 0.1  # seconds between two updates: drawing must not cost more than a step


class Display(Reporter):
    """Rich progress for `zobench run`: a line for the whole, one for each cell at work, and one that stays for each done.

    On a stream that is no terminal, only the lines worth keeping.
    """

    def __init__(self, total: int = 1, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24, complete_style="cyan", finished_style="green"),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[facts]}"),
        )
        moving = self.console.is_terminal and not quiet
        # stdout is ours to write: redirected, an answer would end up on stderr
        self.progress = Progress(
            *columns,
            console=self.console,
            transient=True,
            disable=not moving,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.total, self.done, self.last = total, 0, 0.0
        self.began = time.perf_counter()
        self.bars: dict[str, tuple[TaskID, float]] = {}  # cell -> its bar, and when it began
        self.whole = self.progress.add_task("runs", total=total, facts="") if total > 1 else None

    def __enter__(self) -> Display:
        _silence_libraries()
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def begin(self, state: State) -> None:
        job = state.job
        seeds = f"{state.runs} seeds in lockstep" if state.runs > 1 else f"seed {job.seed}"
        label = f"{state.number}/{state.total} {job.task} {job.optimizer} {seeds}"
        self.bars[job.cell] = self.progress.add_task(label, total=1.0, facts="building"), time.perf_counter()

    def update(self, state: State) -> None:
        now = time.perf_counter()
        if now - self.last < EVERY or state.job.cell not in self.bars:
            return
        self.last = now
        bar, began = self.bars[state.job.cell]
        self.progress.update(bar, completed=state.progress, facts=self._facts(state, now - began))

    def note(self, text: str) -> None:
        self.console.print(text, markup=False)

    def answer(self, line: str) -> None:
        """A line of the answer: to stdout, or above the moving lines where both are one terminal."""
        if not self.progress.disable and sys.stdout.isatty():
            self.console.print(line, markup=False, soft_wrap=True)
            return
        try:
            print(line, flush=True)
        except BrokenPipeError:  # the reader has left; the runs go on
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115

    def end(self, row: RunRecord, path: Any, reused: bool) -> None:
        if row.cell in self.bars:
            self.progress.remove_task(self.bars.pop(row.cell)[0])
        self.done += 1
        if self.whole is not None:
            left = (time.perf_counter() - self.began) * (self.total / self.done - 1)
            facts = f"{self.done} of {self.total}" + (f"  {_clock(left)} left" if left >= 1 and not reused else "")
            self.progress.update(self.whole, completed=self.done, facts=facts)
        if row.status != "ok":
            self.note(f"{row.task_label or row.task} {row.optimizer} seed {row.seed}: {row.status}: {row.reason}")

    def _facts(self, state: State, spent: float) -> str:
        parts = [f"loss {state.loss:.4g}"] if not math.isnan(state.loss) else []
        parts += [f"{name} {value:.4g}" for name, value in list(state.metrics.items())[:1]]
        if state.seconds > 0:
            parts.append(f"{state.forwards / state.seconds:.3g} forwards/s")
        if state.memory:
            parts.append(f"{state.memory / 2**20:.0f} MiB")
        if 0 < state.progress < 1:
            parts.append(f"{_clock(spent * (1 / state.progress - 1))} left")
        return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _silence_libraries() -> None:
    """Two progress bars on one line are none: those of transformers and datasets stay off."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
