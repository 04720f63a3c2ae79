"""A synthetic objective as a `Problem`: its precision, noise and minibatches, and scores with a known optimum.

Scores are taken at the iterate, never at probes, whose mean has a floor of its own; in float64, out of band and uncounted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from zobench.core import philox
from zobench.core.perturb import perturb, seeded
from zobench.problems.objective import Instance, Objective
from zobench.problems.oracle import Oracle, curvature
from zobench.spec import Setting, UsageError

PRECISIONS = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
CALLS = 64  # evaluation noise drawn at once for a step
PROBE = 1e-3  # radius of the probes for which the published rates allow where evaluations are noisy
DRAWS = 16  # minibatches from which the gradient's noise is estimated
LAST = 2**32 - 1  # the step whose minibatches these are
NOISE_FLOOR = 0.25  # of the starting gap: where minibatch noise may keep a method that runs at a published rate


class Batch(NamedTuple):
    """One step's view of the problem: rows of a finite sum, noise of its evaluations, and how many there have been."""

    rows: Tensor | None  # (B, ...) what the objective drew, or (S, B, ...) for many runs; None is the whole sum
    noise: Callable[[int], Tensor] | None  # () or (S,) float64 of an evaluation by its number; None without noise
    calls: list[int]


class Rounded(nn.Module):
    """An objective seen through a half-precision oracle: inputs and the loss are rounded to it, the rest is float32."""

    def __init__(self, objective: Objective, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        for _, buffer in objective.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(buffer.to(dtype))
        self._objective = [objective]  # in a list: its parameters are ours, under their own names
        for name, p in objective.named_parameters():
            self.register_parameter(name, p)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        return self.value(dict(self.named_parameters()), rows)

    def value(self, p: Mapping[str, Tensor], rows: Tensor | None = None) -> Tensor:
        rounded = {name: value.to(self.dtype).to(value.dtype) for name, value in p.items()}
        return self._objective[0].value(rounded, rows).to(self.dtype).float()


class Regression:
    """The problem of an `Instance`.

    Args:
        instance: the objective, float64 on the CPU, standing at its start.
        scale: tiny | standard | large.
        precision: of the oracle; "auto" is float64, float32 at scale large. The run's --dtype is for models.
        noise: standard deviation of the noise on each evaluation, relative to f(x0) - f*.
        crn: the same draw for all evaluations of a step (common random numbers), which cancels in differences.
        batch: rows of a minibatch, drawn with replacement; 0 is the full sum, or the stream's own size.
    """

    def __init__(
        self,
        setting: Setting,
        instance: Instance,
        *,
        scale: str = "tiny",
        precision: str = "auto",
        noise: float = 0.0,
        crn: bool = False,
        batch: int = 0,
    ) -> None:
        objective, rows = instance.objective, instance.objective.finite_sum
        batch = batch or objective.streaming
        if batch > rows and not objective.streaming:
            raise UsageError(f"batch={batch}: the problem has {rows} rows; take at most as many, or 0 for all of them")
        if precision == "auto":
            precision = "float32" if scale == "large" else "float64"
        self.setting, self.instance, self.noise, self.crn, self.rows = setting, instance, noise, crn, batch
        self.small = scale == "tiny"  # too small to share among threads, however many points are stacked
        device, dtype = torch.device(setting.device), PRECISIONS[precision]
        self.dtype = torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype  # of the parameters
        # Scores use the data as drawn; the copy that is trained has the oracle's precision
        self.exact = copy.deepcopy(objective).to(device, torch.float64)
        self.model = self._oracle(objective, dtype, device)
        self.oracle = Oracle(self.exact)  # for reference lines, who are counted
        self._scorer = Oracle(self.exact)  # for scores, which are not
        self.optimum = None if instance.optimum is None else {
            name: value.to(device, torch.float64) for name, value in instance.optimum.items()
        }  # fmt: skip
        self._start()
        self.rates: Mapping[str, float] = self._rates(scale)
        self.oracle.counts.clear()
        self.facts: Mapping[str, Any] = dict(
            num_train=rows, num_dev=0, num_test=0, partial_data=False, precision=precision, template="none",
            dimension=self.oracle.dimension, f_star=instance.f_star, f_star_kind=instance.f_star_kind,
            **instance.constants,
        )  # fmt: skip

    def _oracle(self, objective: Objective, dtype: torch.dtype, device: torch.device) -> Any:
        objective = objective.to(device, self.dtype)
        return objective if dtype == self.dtype else Rounded(objective, dtype)

    # --- what the loop asks for ---

    def batch(self, step: int, part: int | str | None = None) -> Batch:
        """The rows and the noise of this step, a pure function of step, part and seed; part as in `spec.Problem`.

        A further minibatch of the full sum is the full sum again, with noise of its own.
        """
        number = 0 if part is None else further(part)
        rows = self._draw_rows([self.setting.seed], step, number)
        noise = self._noise_of([self.setting.seed], step, number)
        return Batch(None if rows is None else rows[0], None if noise is None else lambda call: noise(call)[0], [0])

    def loss(self, batch: Batch) -> Tensor:
        """() in the problem's precision (float32 for a half-precision oracle). One forward of the model."""
        value = self.model() if batch.rows is None else self.model(batch.rows)
        return self._noisy(value, batch)

    def batches(self, step: int, seeds: Sequence[int]) -> Batch:
        """The batches of many runs, stacked, for `values`."""
        return Batch(self._draw_rows(seeds, step), self._noise_of(seeds, step), [0])

    def values(self, stack: Mapping[str, Tensor], batch: Batch | None = None) -> Tensor:
        """(S,) losses at S stacked points {name: (S, *shape)} in one call: S forwards that no counter sees.

        With the batches of S runs (`batches`), point s is that of run s.
        """
        batch = batch or Batch(None, None, [0])
        return self._noisy(self.model.value(stack, batch.rows), batch)

    def _noisy(self, value: Tensor, batch: Batch) -> Tensor:
        if batch.noise is None:
            return value
        call = 0 if self.crn else batch.calls[0]
        batch.calls[0] += 1
        return value + (self.noise * float(self._start_gap) * batch.noise(call)).to(value)

    def _draw_rows(self, seeds: Sequence[int], step: int, part: int = 0) -> Tensor | None:
        if not self.rows:
            return None
        name = [step, part] if part else [step]
        drawn = [self.exact.draw(np.random.RandomState([seed, *name]), self.rows) for seed in seeds]
        rows = torch.from_numpy(np.stack(drawn)).to(self.setting.device)
        return rows.to(self.dtype) if rows.is_floating_point() else rows

    def _noise_of(self, seeds: Sequence[int], step: int, part: int = 0) -> Callable[[int], Tensor] | None:
        """Evaluation number -> (S,) standard normals of the runs, a function of seed, step, part and number alone."""
        if self.noise == 0.0:
            return None
        blocks: list[Tensor] = []

        def noise(call: int) -> Tensor:
            while call >= CALLS * len(blocks):
                drawn = torch.zeros(len(seeds), CALLS, dtype=torch.float64)
                for row, seed in zip(drawn, seeds, strict=True):
                    source = seeded("gaussian", step, seed, philox.NOISE)
                    perturb([row], [row], source, index=[part], offset=[CALLS * len(blocks)])
                blocks.append(drawn.to(self.setting.device))
            return blocks[call // CALLS][:, call % CALLS]

        return noise

    @torch.no_grad()
    def place(self, x: Tensor) -> float:
        """Make the flat point x (D,) the iterate; returns the exact loss there, uncounted."""
        named = self.oracle.named(x)
        for name, p in self.model.named_parameters():
            p.copy_(named[name])
        return float(self.exact.value(named))

    # --- scores ---

    def point(self) -> dict[str, Tensor]:
        """The iterate, in float64."""
        return {name: p.detach().double() for name, p in self.model.named_parameters()}

    def evaluate(self, split: str) -> dict[str, float]:
        """relative_gap (f - f*) / (f(x0) - f*), relative_gradient, distance to x* relative to the start's (where x* is unique
        up to the sheet's symmetry), loss, and what the sheet adds; the same for every split."""
        del split
        return self.scores(self.point())

    def scores(self, p: Mapping[str, Tensor]) -> dict[str, float]:
        """As `evaluate`, at any point in float64."""
        value, gradient = self._scorer.value_and_gradient(self._scorer.flat(p))
        with torch.no_grad():
            found = {
                "relative_gap": float(self._gap(p) / self._start_gap),
                "relative_gradient": float(gradient.norm() / self._start_slope),
                "loss": float(value),
            }
            if self.optimum is not None and self.instance.symmetry != "gauge":
                found["distance"] = float(self._distance(p) / self._start_distance)
            return found | self.exact.metrics(p)

    def scores_many(self, stack: Mapping[str, Tensor]) -> list[dict[str, float]]:
        """The scores of S stacked points {name: (S, *shape)}, computed together."""
        p = {name: value.detach().double().requires_grad_() for name, value in stack.items()}
        values = self.exact.value(p)
        slopes = torch.autograd.grad(values.sum(), list(p.values()))
        with torch.no_grad():
            p = {name: value.detach() for name, value in p.items()}
            flat = torch.cat([slope.reshape(len(slope), -1) for slope in slopes], 1)
            columns = {
                "relative_gap": self._gap(p) / self._start_gap,
                "relative_gradient": flat.norm(dim=1) / self._start_slope,
                "loss": values.detach(),
            }
            if self.optimum is not None and self.instance.symmetry != "gauge":
                columns["distance"] = (
                    torch.stack([self._distance(point) for point in _points(p)]) / self._start_distance
                )
            lists = {name: column.tolist() for name, column in columns.items()}
            found = [dict(zip(lists, numbers, strict=True)) for numbers in zip(*lists.values(), strict=True)]
            if type(self.exact).metrics is not Objective.metrics:
                for scores, point in zip(found, _points(p), strict=True):
                    scores.update(self.exact.metrics(point))
            return found

    def _gap(self, p: Mapping[str, Tensor]) -> Tensor:
        return self.exact.gap(p, self.optimum, self.instance.f_star or 0.0)

    def _distance(self, p: Mapping[str, Tensor]) -> Tensor:
        assert self.optimum is not None
        x, best = (self.oracle.flat(self.exact.canonical(at)) for at in (p, self.optimum))
        near = (x - best).norm()
        return torch.minimum(near, (x + best).norm()) if self.instance.symmetry == "sign" else near

    def _start(self) -> None:
        """What scores are relative to: gap, slope and distance at x0, as drawn."""
        start = {name: p.detach() for name, p in self.exact.named_parameters()}
        with torch.no_grad():
            self._start_gap = self._gap(start)
            self._start_distance = torch.ones(()) if self.optimum is None else self._distance(start)
        self._start_slope = self.oracle.gradient(self.oracle.flat(start)).norm()
        if not (0 < float(self._start_gap) < math.inf and 0 < float(self._start_slope) < math.inf):
            raise UsageError(
                f"the start has a gap of {float(self._start_gap):g} and a slope of {float(self._start_slope):g}: scores "
                "relative to them have no meaning; take other knobs (tau, delta, mu, noise)"
            )

    def _rates(self, scale: str) -> dict[str, float]:
        # Rates need few digits, and at scale large float64 products would take most of the time
        oracle = self.oracle
        if scale == "large" and not isinstance(self.model, Rounded):
            oracle = Oracle(self.model)
        points = [oracle.start()]
        if self.optimum is not None:
            points.append(oracle.flat(self.optimum).to(points[0]))
        sampling = None
        if self.rows:
            rows = self._draw_rows(range(DRAWS), LAST)
            assert rows is not None
            rows = rows.to(points[0]) if rows.is_floating_point() else rows
            sampling = Sampling(self.rows, rows, float(self._start_gap) if self.optimum is not None else None)
        rates = step_rates(oracle, points, sampling) | self.instance.rates
        self.full_rate = rates.pop("full")  # 1/l of the whole sum, for reference lines
        if self.noise and not self.crn:
            # a slope has variance v = (noise gap)^2 / (2 eps^2), which holds a two-point method at rate v D / 4
            slowness = self.noise**2 * float(self._start_gap) * oracle.dimension / (8 * NOISE_FLOOR * PROBE**2)
            rates["two-point"] = 1 / (slowness + 1 / rates["two-point"])
        if not all(0 < rate < math.inf for rate in rates.values()):
            raise UsageError(
                "the problem is not finite at its start or its optimum; take smaller knobs (tau, kappa, mu)"
            )
        return rates

    def save(self, directory: Path) -> None:
        """Write the parameters as `model.safetensors`; the data follow from the task's options."""
        from safetensors.torch import save_file

        Path(directory).mkdir(parents=True, exist_ok=True)
        weights = {name: p.detach().cpu().contiguous() for name, p in self.model.named_parameters()}
        save_file(weights, Path(directory) / "model.safetensors")


class Sampling(NamedTuple):
    """What minibatches do to a gradient: their size, some of them, and the gap from which a run starts, where known."""

    size: int
    rows: Tensor  # (DRAWS, size, ...)
    gap: float | None


def further(part: int | str) -> int:
    """The number k > 0 of a step's k-th further minibatch; a regression has no other parts."""
    if isinstance(part, str):
        raise UsageError(f"batch={part!r}: a regression has no rows of different length; take a language task")
    if isinstance(part, bool) or part < 1:
        raise UsageError(f"batch={part!r}: further minibatches of a step are numbered from 1")
    return part


def _points(stack: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The points of a stack, one by one."""
    runs = len(next(iter(stack.values())))
    return [{name: value[s] for name, value in stack.items()} for s in range(runs)]


def step_rates(oracle: Oracle, points: Sequence[Tensor], sampling: Sampling | None = None) -> dict[str, float]:
    """Step rates by family, from the Hessian at the start and, where known, at the optimum (the larger curvature of the two).

    gradient: 1/l, l the largest eigenvalue. two-point: 1/(l (r + 2)) with l r the trace, at which one gaussian
    direction a step still descends in expectation. adaptive: the rate at which a coordinate-normalised step first moves
    as far as a gradient step would, for such a step has root mean square 1 and a gradient step that of the gradient.

    Minibatches of size B lower all three. The mean square of a minibatch's Hessian, H_B, is at most that of gaussian data,
    l (l + (l + trace) / B) in the steepest direction: 1 + (1 + r) / B times l^2. Noise that is left at the
    optimum, of variance v in all, holds a gradient method at a gap of rate v / 4, and a two-point method of dimension D at
    D + 2 times that, twice as high at the largest of these rates: neither may stay above NOISE_FLOOR of its starting gap.
    "full" is the gradient's without them.
    """
    found = [curvature(oracle, x) for x in (points[:1] if oracle.objective.quadratic else points)]
    top = max(largest for largest, _ in found)
    spread = max(max(trace, largest) + 2 * largest for largest, trace in found)
    gradient, two_point = 1 / top, 1 / spread
    rms = float(oracle.gradient(points[0]).square().mean().sqrt())
    if sampling is not None:
        growth = 1 + (1 + (spread / top - 2) / oracle.objective.outputs) / sampling.size
        gradient, two_point = gradient / growth, two_point / growth
        rms = _mean_square(oracle, points[0], sampling.rows) ** 0.5
        if sampling.gap is not None:
            noise = oracle.dimension * _mean_square(oracle, points[-1], sampling.rows)
            slowness = noise / (4 * NOISE_FLOOR * sampling.gap)
            gradient = min(gradient, 1 / (slowness + 0.5 / gradient))
            two_point = min(two_point, 1 / ((oracle.dimension + 2) * slowness + 0.5 / two_point))
    return {"gradient": gradient, "two-point": two_point, "adaptive": rms * gradient, "full": 1 / top}


def _mean_square(oracle: Oracle, x: Tensor, draws: Tensor) -> float:
    """Of the entries of minibatch gradients."""
    return float(torch.stack([oracle.gradient(x, rows).square().mean() for rows in draws]).mean())
