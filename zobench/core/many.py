"""Many runs at once: S runs of one optimizer in lockstep, their probes answered by one vectorised evaluation.

Each run draws the directions that it would draw alone. Its losses agree with those of a run alone up to the rounding of the
batched matrix products, so that trajectories agree to about as many digits as a probe's slope has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zobench.core.perturb import LAWS, Direction, Seeded, perturb, using_reference
from zobench.core.probes import Probe
from zobench.core.zeroth_order import Driver, Scale, ZerothOrder

Stack = dict[str, Tensor]  # name -> (S, *shape)
Losses = Callable[[Stack], Tensor]  # stacked parameters -> (S,)


def vectorised(
    model: nn.Module, call: Callable[[nn.Module], Tensor] = lambda model: model()
) -> Callable[[Stack], Tensor]:
    """A function from stacked parameters to (S,) losses, by torch.func; a problem with its own formula passes that."""
    buffers = dict(model.named_buffers())

    def one(parameters: Stack) -> Tensor:
        return torch.func.functional_call(
            _Calls(model, call), {f"model.{k}": v for k, v in (parameters | buffers).items()}, ()
        )

    return torch.func.vmap(one)


class _Calls(nn.Module):
    def __init__(self, model: nn.Module, call: Callable[[nn.Module], Tensor]):
        super().__init__()
        self.model, self.call = model, call

    def forward(self) -> Tensor:
        return self.call(self.model)


class ManySeeds:
    """S runs over the slices of stacked parameters.

    An optimizer whose `update` is `elementwise` is driven once a step, with arrays of S values; any other has one generator
    a run, whose probes are collected. Either way a round of probes is drawn by one kernel call and answered by one call of
    the losses.

    start: name -> tensor, the common start. make: builds an optimizer from [(name, parameter)] and a seed.
    """

    def __init__(
        self, start: Stack, make: Callable[[list[tuple[str, nn.Parameter]], int], ZerothOrder], seeds: Sequence[int]
    ):
        shape = lambda p: (len(seeds), *(1,) * p.dim())  # noqa: E731
        self.seeds = tuple(int(seed) for seed in seeds)
        self.stack = {name: p.detach().clone().repeat(shape(p)).contiguous() for name, p in start.items()}
        self.points = {name: torch.empty_like(stacked) for name, stacked in self.stack.items()}
        self.values: list[np.ndarray] = []  # of every probe so far, (S,) each
        self.counts: list[int] = []  # probes of every step
        self.stopped: dict[int, str] = {}  # runs whose update was not finite, and why: their weights rest
        self._batch = _Batched(self.stack, self.points)
        first = make(self._slices(0), self.seeds[0])
        self.vector = type(first).elementwise and first.guide == "none"
        if self.vector:
            first.seed = self.seeds  # type: ignore[assignment]
            self.optimizers = [first]
        else:
            rest = [make(self._slices(s), seed) for s, seed in enumerate(self.seeds) if s > 0]
            self.optimizers = [first, *rest]
        for s, optimizer in enumerate(self.optimizers):
            optimizer.driver = _Lanes(self, None if self.vector else s)
        self.writes: list[list[tuple[Direction, list[float]]]] = [[] for _ in self.optimizers]  # not carried out yet

    def _slices(self, s: int) -> list[tuple[str, nn.Parameter]]:
        return [(name, nn.Parameter(stacked[s], requires_grad=True)) for name, stacked in self.stack.items()]

    @torch.no_grad()
    @np.errstate(all="ignore")  # a run that diverges is stopped and says so; the others go on
    def step(self, losses: Losses) -> np.ndarray:
        """(S,) float64: what each run reports for one step; nan for a run that had stopped before."""
        generators = [optimizer.update() for optimizer in self.optimizers]
        requests: list[Any] = [next(g) for g in generators]
        results: list[Any] = [None] * len(generators)
        count = 0
        while any(r is not None for r in requests):
            answers = self._answer(requests, losses)
            count += len(answers)
            for s, (generator, request) in enumerate(zip(generators, requests, strict=True)):
                if request is None:
                    continue
                mine = answers if self.vector else [float(a[s]) for a in answers[: _width(request)]]
                try:
                    requests[s] = generator.send(mine[0] if isinstance(request, Probe) else tuple(mine))
                except StopIteration as stop:
                    requests[s], results[s] = None, stop.value
        self._write()
        self.counts.append(count)
        for optimizer in self.optimizers:
            optimizer.steps += 1
        return np.broadcast_to(np.asarray(results[0] if self.vector else results, float), (len(self.seeds),))

    def _answer(self, requests: list[Any], losses: Losses) -> list[np.ndarray]:
        """The values of this round of probes, (S,) each; runs that ask for fewer get values they do not read."""
        self._write()  # a method may write between its probes
        lists = [[] if r is None else [r] if isinstance(r, Probe) else list(r) for r in requests]
        answers = []
        for k in range(max(map(len, lists))):
            for probes in lists:
                if k < len(probes):
                    _check(probes[k])
            directions = [probes[k].direction if k < len(probes) else Direction() for probes in lists]
            bases = [probes[k].base if k < len(probes) else None for probes in lists]
            self._batch.perturb(self.points, directions, self.seeds, bases)
            answers.append(losses(self.points).double().cpu().numpy())
        self.values += answers
        return answers

    def _write(self) -> None:
        """Carry out the writes that were collected, the first of every run at once, then the second."""
        for k in range(max(map(len, self.writes))):
            part = [writes[k] if k < len(writes) else (Direction(), [0.0]) for writes in self.writes]
            self._batch.perturb(self.stack, [d for d, _ in part], self.seeds, scales=[scales for _, scales in part])
        for writes in self.writes:
            writes.clear()


class _Lanes(Driver):
    """The driver of an optimizer in lockstep: writes are collected; a run whose update is not finite stops."""

    def __init__(self, many: ManySeeds, run: int | None):
        self.many, self.run = many, run  # run None: the optimizer is driven with arrays and stands for all of them

    def flush(self, optimizer: ZerothOrder) -> None:
        if self.run is None:
            raise TypeError(f"{type(optimizer).__name__} calls itself elementwise and uses `each`")
        self.many._write()

    def apply(self, optimizer: ZerothOrder, direction: Direction, scale: Scale) -> None:
        scales = optimizer._per_tensor(scale)
        many = self.many
        runs = range(len(many.seeds)) if self.run is None else [self.run]
        finite = np.isfinite(scales).all() & np.ones(len(runs), bool)
        for term in direction.terms:
            finite &= np.isfinite(term.coefficient)
        for s, fine in zip(runs, finite, strict=True):
            if not fine:
                many.stopped.setdefault(s, f"step {optimizer.steps + 1}: the update is not finite")
        if many.stopped:
            moving = np.array([s not in many.stopped for s in runs])
            direction = Direction(tuple(replace(t, coefficient=_where(moving, t.coefficient)) for t in direction.terms))
        many.writes[0 if self.run is None else self.run].append((direction, scales))


def _where(moving: np.ndarray, coefficient: Any) -> Any:
    kept = np.where(moving, coefficient, 0.0)
    return kept if len(moving) > 1 else float(kept[0])


class _Batched:
    """Perturbs stacked tensors: out[s] = base[s] + scale * direction of run s, in one kernel call where it can."""

    def __init__(self, *stacks: Stack):
        self.base = list(stacks[0].values())
        self.runs = len(self.base[0])
        self.addresses = {id(t): _addresses(t) for stack in stacks for t in stack.values()}
        self.sizes = np.array([t[0].numel() for t in self.base], np.int64)
        dtypes = {t.dtype for t in self.base}
        self.fast = all(t.device.type == "cpu" for t in self.base) and len(dtypes) == 1

    def perturb(
        self,
        out: Stack,
        directions: Sequence[Direction],
        seeds: tuple[int, ...],
        bases: Sequence[Any] | None = None,
        scales: Sequence[list[float]] | None = None,
    ) -> None:
        """directions: one with arrays for all runs, or one for each. bases: instead of the weights, per run."""
        scales = scales or [[1.0] * len(self.base)] * len(directions)
        target = list(out.values())
        if self.fast and not using_reference() and all(d.fused for d in directions) and not any(bases or ()):
            self._kernel(target, directions, scales)
            return
        for s, seed in enumerate(seeds):
            k = s if len(directions) > 1 else 0
            base = (bases[k] if bases else None) or [t[s] for t in self.base]
            perturb(base, [t[s] for t in target], of_run(directions[k], s, seed), scale=scales[k])

    def _kernel(self, target: list[Tensor], directions: Sequence[Direction], scales: Any) -> None:
        from zobench.core import kernels

        terms = max(len(d.terms) for d in directions)
        if terms == 0:
            for t, o in zip(self.base, target, strict=True):
                if t is not o:
                    o.copy_(t)
            return
        numbers = np.zeros((4, self.runs, terms), np.int64)
        coefs = np.zeros((self.runs, len(target), terms))
        for s, (direction, scale) in enumerate(zip(directions, scales, strict=True)):
            where = slice(None) if len(directions) == 1 else s  # one direction stands for all runs
            for k, term in enumerate(direction.terms):
                source: Any = term.source
                for number, value in enumerate((LAWS.index(source.law), source.draw, source.seed, source.stream)):
                    numbers[number, where, k] = value
                for i, c in enumerate(scale):
                    coefs[where, i, k] = c * term.at(i)
        base, place = (np.stack([self.addresses[id(t)] for t in ts], 1) for ts in (self.base, target))
        kernels.combine_runs(self.base[0].dtype, base, place, self.sizes, *numbers, coefs)


def _addresses(stacked: Tensor) -> np.ndarray:
    """(S,) int64: where each run's slice begins."""
    step = stacked[0].numel() * stacked.element_size()
    return stacked.data_ptr() + np.arange(len(stacked), dtype=np.int64) * step


def of_run(direction: Direction, s: int, seed: int) -> Direction:
    """The direction of one run out of one that stands for all."""
    terms = []
    for term in direction.terms:
        source = replace(term.source, seed=seed) if isinstance(term.source, Seeded) else term.source
        coefficient = float(term.coefficient[s]) if isinstance(term.coefficient, np.ndarray) else term.coefficient
        terms.append(replace(term, source=source, coefficient=coefficient))
    return Direction(tuple(terms))


def _width(request: Any) -> int:
    return 1 if isinstance(request, Probe) else len(request)


def _check(probe: Probe) -> None:
    if probe.kind != "loss" or probe.batch is not None:
        raise ValueError("many seeds at once serve single-batch loss probes only")
