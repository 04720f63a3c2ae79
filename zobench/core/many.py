"""Many seeds at once: S runs of one optimizer in lockstep, their probes answered by one vectorised evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zobench.core.perturb import perturb
from zobench.core.probes import Probe
from zobench.core.zeroth_order import ZerothOrder

Stack = dict[str, Tensor]  # name -> (S, *shape)


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
    """S optimizers over the slices of stacked parameters.

    start: name -> tensor, the common start. make: builds an optimizer from [(name, parameter)] and a seed.
    Each run's directions are those that it would draw alone; its losses agree up to the rounding of the batched matmul.
    """

    def __init__(
        self, start: Stack, make: Callable[[list[tuple[str, nn.Parameter]], int], ZerothOrder], seeds: Sequence[int]
    ):
        shape = lambda p: (len(seeds), *(1,) * p.dim())  # noqa: E731
        self.stack = {name: p.detach().clone().repeat(shape(p)) for name, p in start.items()}
        self.points = {name: torch.empty_like(stacked) for name, stacked in self.stack.items()}
        self.optimizers = []
        for s, seed in enumerate(seeds):
            slices = [(name, nn.Parameter(stacked[s], requires_grad=True)) for name, stacked in self.stack.items()]
            self.optimizers.append(make(slices, seed))

    @torch.no_grad()
    def step(self, losses: Callable[[Stack], Tensor]) -> list[float]:
        """One step of every run; `losses` maps stacked parameters to (S,) values."""
        generators = [optimizer.update() for optimizer in self.optimizers]
        requests: list[Any] = [next(g) for g in generators]
        results: list[float | None] = [None] * len(generators)
        while any(r is not None for r in requests):
            answers = self._answer(requests, losses)
            for s, (generator, request) in enumerate(zip(generators, requests, strict=True)):
                if request is None:
                    continue
                try:
                    requests[s] = generator.send(answers[s][0] if isinstance(request, Probe) else tuple(answers[s]))
                except StopIteration as stop:
                    requests[s], results[s] = None, stop.value
        for optimizer in self.optimizers:
            optimizer.steps += 1
        return results  # type: ignore[return-value]

    def _answer(self, requests: list[Any], losses: Callable[[Stack], Tensor]) -> list[list[float]]:
        lists = [[] if r is None else [r] if isinstance(r, Probe) else list(r) for r in requests]
        answers: list[list[float]] = [[] for _ in lists]
        for k in range(max(map(len, lists))):
            for s, probes in enumerate(lists):
                if k < len(probes):
                    self._place(s, probes[k])
            for s, value in enumerate(losses(self.points).tolist()):
                if k < len(lists[s]):
                    answers[s].append(value)
        return answers

    def _place(self, s: int, probe: Probe) -> None:
        if probe.kind != "loss" or probe.batch is not None:
            raise ValueError("many seeds at once serve single-batch loss probes only")
        base = [stacked[s] for stacked in self.stack.values()] if probe.base is None else list(probe.base)
        perturb(base, [points[s] for points in self.points.values()], probe.direction)
