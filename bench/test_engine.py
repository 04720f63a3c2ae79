"""The engine against what it replaces: one pass over the weights, one MeZO step, its memory. Ratios only, never seconds.

make bench                                   # all
pytest bench -k pass                         # one
ZOBENCH_BENCH_ROUNDS=3 pytest bench          # quicker
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch
from side_by_side import context, goal, interleave, save
from textbook import add_noise
from textbook import step as textbook_step
from torch import Tensor
from torch.nn.functional import cross_entropy

from zobench.core.perturb import perturb, seeded
from zobench.meters import StorageTracker
from zobench.models.load import load_model
from zobench.optimizers import MeZO

MODEL, ROWS, LENGTH = "random:opt-125m", 16, 64


@pytest.fixture(scope="module")
def model():
    loaded, _ = load_model(MODEL)
    return loaded.requires_grad_(True)


@pytest.fixture(scope="module")
def weights(model) -> list[Tensor]:
    return [p.data for p in model.parameters()]


@pytest.fixture(scope="module")
def closures(model) -> dict[str, Callable[[], Tensor]]:
    """The loss of the last token of each row, from the logits of that position alone and from the logits of all."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, model.config.vocab_size, (ROWS, LENGTH + 1), generator=generator)
    inputs, target = ids[:, :-1].contiguous(), ids[:, -1]

    def needed() -> Tensor:
        return cross_entropy(model(input_ids=inputs, use_cache=False, logits_to_keep=1).logits[:, -1], target)

    def full() -> Tensor:
        return cross_entropy(model(input_ids=inputs, use_cache=False).logits[:, -1], target)

    return {"needed": needed, "full": full}


def test_pass(benchmark, weights):
    """(a) p += c z over all weights."""
    gaussian, rademacher = (1e-3 * seeded(law, 1, 0) for law in ("gaussian", "rademacher"))
    timed = interleave(
        benchmark,
        {
            "torch.normal": lambda: add_noise(weights, 0, 1e-3),
            "gaussian": lambda: perturb(weights, weights, gaussian),
            "rademacher": lambda: perturb(weights, weights, rademacher),
            "multiply": lambda: [p.mul_(1.0) for p in weights],
        },
    )
    count = sum(p.numel() for p in weights)
    lines = [
        goal(
            "one pass `p += c z`, gaussian",
            f"{count / 1e6:.0f} M float32 weights; torch.normal per tensor, as in the released code, takes so many times longer",
            timed.ratio("torch.normal", "gaussian"),
            ">=",
            6,
        ),
        context(
            "the same, rademacher", "torch.normal takes so many times longer", timed.ratio("torch.normal", "rademacher")
        ),
        context(
            "`p.mul_(1.0)` on the same weights",
            "gaussian pass takes so many times longer",
            timed.ratio("gaussian", "multiply"),
        ),
    ]
    save("pass", lines, timed, weights=count)


def test_step(benchmark, model, closures):
    """(b) a step against its two forwards, (c) against the textbook's step."""
    parameters = list(model.parameters())
    optimizer = MeZO(model, lr=1e-9, seed=0)
    needed, full = closures["needed"], closures["full"]

    @torch.no_grad()
    def two_forwards() -> None:
        float(needed()), float(needed())

    timed = interleave(
        benchmark,
        {
            "two forwards": two_forwards,
            "step": lambda: optimizer.step(needed),
            "textbook": lambda: textbook_step(parameters, full, seed=1, lr=1e-9, eps=1e-3),
            "textbook, needed logits": lambda: textbook_step(parameters, needed, seed=1, lr=1e-9, eps=1e-3),
        },
    )
    batch = f"{MODEL}, batch {ROWS} x {LENGTH} tokens, float32"
    lines = [
        goal(
            "MeZO step / two bare forwards",
            f"{batch}, the same closure",
            timed.ratio("step", "two forwards"),
            "<=",
            1.25,
        ),
        context(
            "textbook MeZO step / ours",
            "textbook: torch.normal per tensor, four passes, logits of all positions",
            timed.ratio("textbook", "step"),
        ),
        context(
            "the same with our closure",
            "only the logits that are needed: what the engine alone is worth",
            timed.ratio("textbook, needed logits", "step"),
        ),
    ]
    save("step", lines, timed, mode=optimizer.evaluator.mode)


def test_memory(benchmark, model, closures):
    """(d) peak bytes of tensors in a step, the first included, against the closure alone."""
    needed = closures["needed"]

    def peak(run: Callable[[], object]) -> int:
        gc.collect()
        tracker = StorageTracker()
        tracker.know(model.parameters())
        tracker.know(model.buffers())
        with tracker, torch.no_grad():
            run()
        return tracker.peak

    optimizer = MeZO(model, lr=1e-9, seed=0)
    first = peak(lambda: optimizer.step(needed))
    later = peak(lambda: optimizer.step(needed))
    inference = benchmark.pedantic(peak, args=(needed,), rounds=1)
    lines = [
        goal(
            "peak memory of a MeZO step / of its closure",
            f"{MODEL}, batch {ROWS} x {LENGTH} tokens, tensor storage; the highest of the first two steps",
            max(first, later) / inference,
            "<=",
            1.05,
        )
    ]
    save("memory", lines, inference_bytes=inference, first_step_bytes=first, later_step_bytes=later)
