"""The base class of every zeroth-order optimizer: outside a torch.optim.Optimizer, inside a generator of probes.

    def update(self):
        z = self.draw()
        plus, minus = yield self.at(self.eps * z), self.at(-self.eps * z)
        ...
        self.apply(z, lambda group: -group["lr"] * slope)
        return (plus + minus) / 2

`step` drives the generator. It alone knows how a probe is evaluated: live, read back from a trace, or for many seeds at
once. Nothing in `update` touches a parameter except `apply` and `each`.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from zobench.core import info as about
from zobench.core import philox
from zobench.core.blocks import blocks
from zobench.core.guides import guided
from zobench.core.perturb import Direction, dense, materialise, seeded, weights
from zobench.core.probes import Evaluator, Probe
from zobench.core.sphere import drawn
from zobench.core.trace import FORMAT, Trace, digest, parameter_list

KEPT = ("seed", "law", "draws", "steps", "jvps", "memory")  # what a state_dict holds beside torch's own
Params = nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]
Values = float | tuple[float, float]
Scale = float | Callable[[dict[str, Any]], float]  # of a write; a function of the parameter group


class Diverged(ArithmeticError):
    """A loss, or a step computed from it, is not finite. The weights are as they were before the step."""


class ZerothOrder(torch.optim.Optimizer):
    """Optimizer whose steps are computed from loss values.

    params: a module (its trainable parameters), or anything torch.optim takes. With a module, or after `attach(model)`,
    probes run in mode `stream`; bare parameters are probed in place (float32) or in a copy.
    defaults: the per-group options; must contain `lr`.
    seed: names the run's directions, 0 <= seed < 2**32; default: torch's initial seed.
    mode: auto | stream | copy | inplace.
    law: of the directions: gaussian, rademacher, or sphere (of radius sqrt(d), d = all trained elements; one more pass).
    guide, candidates, alpha: none | gv | greedy (core/guides.py). weight_decay: skips 1-D tensors and embeddings.
    options: of the method; each is checked against INFO and kept as the attribute of its name.
    """

    # Whether `update` does nothing with probe values but arithmetic (no branch, no comparison, no state in `each`), so that
    # one generator can be driven with arrays, a value for each of many runs (core/many.py). A guide compares.
    elementwise = False

    law: str
    guide: str

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self,
        params: Params,
        defaults: dict[str, Any],
        *,
        seed: int | None = None,
        mode: str = "auto",
        law: str = "gaussian",
        guide: str = "none",
        candidates: int = 2,
        alpha: float = 0.5,
        weight_decay: float = 0.0,
        **options: Any,
    ):
        stray = set(options) - set(inspect.signature(type(self)).parameters)
        if stray:
            raise TypeError(f"{type(self).__name__} has no option {', '.join(sorted(stray))}")
        model = params if isinstance(params, nn.Module) else None
        if model is not None:
            params = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        for name, value in defaults.items():
            if isinstance(value, (int, float)) and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number >= 0, not {value}")
        if not isinstance(params, nn.Module):
            params = _checked(params)
        common = dict(law=law, guide=guide, candidates=candidates, alpha=alpha)
        about.check(self.info, defaults | dict(weight_decay=weight_decay) | common | options)
        super().__init__(params, dict(weight_decay=weight_decay) | defaults)  # type: ignore[arg-type]
        for name, value in (common | options).items():
            setattr(self, name, value)
        self.seed = int(torch.initial_seed() if seed is None else seed) & philox.MASK
        self.options = tuple(options)
        self.draws = self.steps = self.jvps = 0
        # What the method remembers between steps beside the state of each tensor: numbers, texts, tensors, lists and dicts of
        # them. Values are replaced, not changed in place, so that a step that fails leaves no mark.
        self.memory: dict[str, Any] = {}
        self.trace: Trace | None = None
        self.last_probe, self.last_write = Direction(), (Direction(), [0.0])  # what the fidelity meter looks at
        self._groups_seen: list[dict[str, Any]] = []
        self.driver: Driver = Live()
        self.evaluator = Evaluator(self.tensors, model, mode)

    # --- for subclasses

    def update(self) -> Generator[Probe | Sequence[Probe], Any, float]:
        """One step: yield probes (one, or several at once), receive their values, apply; return the loss to report."""
        raise NotImplementedError  # pragma: no cover - the one method a subclass must write

    def draw(self, law: str | None = None, stream: int = philox.DIRECTION) -> Direction:
        """A fresh direction: numbers that name noise, no noise yet."""
        self.draws += 1
        return drawn(law or self.law, self.tensors, self.draws, self.seed, stream)

    def propose(self) -> Direction:
        """A direction of the method's own law, which a guide may choose among; `draw()` unless a subclass knows better."""
        return self.draw()

    def direction(self, **where: Any) -> Generator[Any, Any, Direction]:
        """The direction of this step: `z = yield from self.direction()`. One proposal, or what the guide makes of several."""
        if self.guide == "none":
            return self.propose()
        return (yield from guided(self, **where))

    def numbers(self, i: int, shape: Sequence[int], draw: int, stream: int, law: str = "gaussian") -> Tensor:
        """Seeded numbers that belong to tensor i, of any shape, in its dtype of computation: factors of a low-rank law."""
        p = self.tensors[i]
        like = torch.empty(tuple(shape), dtype=p.dtype, device=p.device)
        return materialise(seeded(law, draw, self.seed, stream), like, i)

    def at(
        self,
        direction: Direction = Direction(),
        base: Sequence[Tensor] | None = None,
        batch: Any = None,
        kind: str = "loss",
        blocks: Iterable[int] | None = None,
        shift: Direction = Direction(),
    ) -> Probe:
        """A probe at (base or the weights) + shift + direction. batch: see Probe. blocks: the tensors that get a gradient.

        shift: a move of this step that is written at its end, so that a step that fails leaves no mark.
        """
        there = shift + direction if shift else direction
        return Probe(there, base, batch, kind, None if blocks is None else frozenset(blocks))

    def apply(self, direction: Direction, scale: Scale = 1.0) -> None:
        """p += scale * direction in one write; `scale` may depend on the parameter group."""
        self.driver.apply(self, direction, scale)

    def descend(self, estimate: Direction) -> None:
        """p -= lr * (estimate + weight_decay p), the step of gradient descent, in one write."""
        self.apply(estimate + self.decay(), lambda group: -group["lr"])

    def each(self, fn: Callable[..., None], *directions: Direction, blocks: Iterable[int] | None = None) -> None:
        """fn(p, *z, state, group) for each tensor in order, z in scratch: for updates that need the numbers themselves.

        blocks: the tensors that it visits; all by default.
        """
        self.driver.flush(self)
        if not all(math.isfinite(t.coefficient) for d in directions for t in d.terms):
            raise Diverged(f"step {self.steps + 1}: the update is not finite")
        groups = [group for group in self.param_groups for _ in group["params"]]
        visited = range(len(groups)) if blocks is None else frozenset(blocks)
        for i, (p, group) in enumerate(zip(self.tensors, groups, strict=True)):
            if i not in visited:
                continue
            fn(p.data, *(materialise(d, p.data, i) for d in directions), self.state[p], group)

    def finite(self, *values: float) -> None:
        """Raise Diverged unless all values are finite: for methods that turn them into tensors before they step."""
        if not all(map(math.isfinite, values)):
            raise Diverged(f"step {self.steps + 1}: the update is not finite")

    def gradient(self) -> Direction:
        """What a probe of kind `grad` has left in p.grad, which is emptied: zero where there is none. Diverged if not finite."""
        found = [None if p.grad is None else p.grad.detach() for p in self.tensors]
        for p in self.tensors:
            p.grad = None
        if not all(g.isfinite().all() for g in found if g is not None):
            raise Diverged(f"step {self.steps + 1}: the gradient is not finite")
        return dense(found)

    def decay(self) -> Direction:
        """weight_decay * w, except on one-dimensional tensors (biases, norms) and, where the model is known, embeddings."""
        exempt = self.evaluator.tables()
        decays = lambda p: p.dim() > 1 and id(p) not in exempt  # noqa: E731
        factors = [g.get("weight_decay", 0.0) if decays(p) else 0.0 for g in self.param_groups for p in g["params"]]
        return weights().scaled(factors) if any(factors) else Direction()

    def observe(self, metrics: Mapping[str, float]) -> None:
        """Validation results, for methods that adapt to them; kept in the trace so that replay sees them too."""
        if self.trace is not None:
            self.trace.events.append([self.steps, "observe", dict(metrics)])

    # --- what it costs

    @property
    def info(self) -> Mapping[str, Any]:
        """INFO of the optimizer's file."""
        return about.of_class(type(self))

    def _given(self) -> dict[str, Any]:
        own = (*about.COMMON, *self.options)
        return {name: getattr(self, name) for name in own if hasattr(self, name)} | dict(self.defaults)

    def cost(self, step: int = 0) -> about.Cost:
        """Forwards, backwards and jvps of step number `step`, from 0."""
        given = self._given()
        return about.cost(self.info, given, step, len(self.blocks(given.get("level", "layer"))))

    def state_bytes(self, shapes: Iterable[about.Shape] | None = None) -> int:
        """Bytes kept between steps for tensors of these shapes (default: its own), after a full cycle of the method."""
        own = (about.Shape(name, tuple(p.shape), p.element_size()) for name, p in self.named())
        return about.state_bytes(self.info, self._given(), own if shapes is None else shapes)

    # --- the torch.optim side

    @property
    def tensors(self) -> list[nn.Parameter]:
        """The trained parameters in order; a tensor's place is its number in the generator."""
        return [p for group in self.param_groups for p in group["params"]]

    def named(self) -> list[tuple[str, Tensor]]:
        """(name, parameter) in order; unnamed parameters get their number."""
        names = [n for g in self.param_groups for n in g.get("param_names", [None] * len(g["params"]))]
        return [(name or str(i), p) for i, (name, p) in enumerate(zip(names, self.tensors, strict=True))]

    def blocks(self, level: str = "layer") -> list[list[int]]:
        """The trained tensors by layer: lists of their numbers (core/blocks.py)."""
        return blocks(self.named(), level)

    def matrices(self) -> list[int]:
        """The numbers of the tensors of two dimensions or more."""
        return [i for i, p in enumerate(self.tensors) if p.dim() >= 2]

    def vectors(self) -> list[int]:
        """The numbers of the other tensors."""
        return [i for i, p in enumerate(self.tensors) if p.dim() < 2]

    def attach(self, model: nn.Module, mode: str = "auto") -> None:
        """Tell the optimizer which module holds its parameters, so that probes can be evaluated as it runs."""
        self.evaluator.flush()
        self.evaluator = Evaluator(self.tensors, model, mode)

    @torch.no_grad()
    def step(self, closure: Callable[..., Any]) -> float:  # type: ignore[override]
        """One step. The closure returns the loss and is called once per probe; gradients are off inside.

        Returns the loss that the method reports (nats). Raises Diverged, with the weights untouched, when it is not finite.
        """
        before, sent = (self.draws, self.jvps, dict(self.memory)), []
        self._record_groups()
        generator = self.update()
        try:
            request = next(generator)
            while True:
                probes = [request] if isinstance(request, Probe) else list(request)
                values = self.driver.values(self, probes, closure)
                sent += values
                self.jvps += sum(probe.kind == "jvp" for probe in probes)
                self.last_probe = probes[0].direction
                request = generator.send(values[0] if isinstance(request, Probe) else tuple(values))
        except StopIteration as stop:
            loss = stop.value
        except BaseException:
            self.draws, self.jvps, self.memory = before  # the step did not happen
            self.evaluator.flush()
            raise
        self.evaluator.flush()
        self.steps += 1
        if self.trace is not None:
            flat = [v for value in sent for v in (value if isinstance(value, tuple) else (value,))]
            self.trace.values.extend(flat)
            self.trace.counts.append(len(flat))
        return loss

    def record(self) -> Trace:
        """Start a trace and return it; it grows with every step. A trace begins where the run begins."""
        if self.steps or self.draws:
            raise RuntimeError("record() must be called before the first step: a trace replays a run from its start")
        named = self.named()
        header = {
            "format": FORMAT,
            "seed": self.seed,
            "law": self.law,
            "parameters": parameter_list(named),
            "start": digest(named),
        }
        self.trace, self._groups_seen = Trace(header), []
        return self.trace

    def _record_groups(self) -> None:
        if self.trace is not None:
            self.trace.events += [[self.steps, "group", *change] for change in self.changed_groups()]

    def changed_groups(self) -> list[list[Any]]:
        """[group, key, value] of every group value that changed since the last call (a scheduler's lr, say)."""
        now = [{k: v for k, v in g.items() if k not in ("params", "param_names")} for g in self.param_groups]
        before = self._groups_seen or [{} for _ in now]
        self._groups_seen = now
        changes = []
        for g, (old, new) in enumerate(zip(before, now, strict=True)):
            for key, value in new.items():
                if key not in old or old[key] != value:
                    plain = value.item() if isinstance(value, Tensor) else value
                    changes.append([g, key, json.loads(json.dumps(plain, default=str))])
        return changes

    def _per_tensor(self, scale: Scale) -> list[float]:
        value = scale if callable(scale) else lambda group: scale
        return [s for group in self.param_groups for s in [float(value(group))] * len(group["params"])]

    def __getstate__(self) -> dict[str, Any]:
        """For copy.deepcopy and pickle: everything but the evaluator, which is made again on the copy's parameters."""
        own = {k: v for k, v in self.__dict__.items() if k not in ("evaluator", "driver") and "hook" not in k}
        return own | {"evaluated": (self.evaluator.model, self.evaluator.mode if self.evaluator.fixed else "auto")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "evaluated" not in state:  # torch's own load_state_dict comes this way too
            super().__setstate__(state)
            return
        model, mode = state.pop("evaluated")
        super().__setstate__(state)
        self.driver, self.evaluator = Live(), Evaluator(self.tensors, model, mode)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Only while the optimizer is made: a tensor's number names its noise, and probes and state are laid out for all."""
        if hasattr(self, "evaluator"):
            raise ValueError("a zeroth-order optimizer takes all its parameter groups when it is made; make a new one")
        super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in KEPT} | {"memory": dict(self.memory)}
        return super().state_dict() | {"zeroth_order": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = state_dict["zeroth_order"]
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "zeroth_order"})
        for i, p in enumerate(self.tensors):  # in their own dtype: torch casts floating state to that of the weights
            for name, value in state_dict["state"].get(i, {}).items():
                self.state[p][name] = value.to(p.device, copy=True) if isinstance(value, Tensor) else value
        for name in KEPT:
            setattr(self, name, own[name])
        self.memory = dict(own["memory"])
        devices = {p.device for p in self.tensors}
        if len(devices) == 1:  # a file knows no device
            (device,) = devices
            self.memory = tree_map(lambda v: v.to(device) if isinstance(v, Tensor) else v, self.memory)


def _checked(params: Any) -> Any:
    """The parameters, whose groups must have rates and decays that are finite numbers >= 0."""
    groups = list(params)
    for group in groups if groups and isinstance(groups[0], dict) else ():
        for name in ("lr", "weight_decay"):
            value = group.get(name, 0.0)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} of a group must be a finite number >= 0, not {value}")
    return groups


class Driver:
    """Answers an optimizer's probes and carries out its writes."""

    def values(self, optimizer: ZerothOrder, probes: list[Probe], closure: Callable[..., Any]) -> list[Values]:
        raise NotImplementedError  # pragma: no cover

    def flush(self, optimizer: ZerothOrder) -> None:
        """Bring the weights up to date, before something else than `apply` reads or writes them."""
        optimizer.evaluator.flush()

    def apply(self, optimizer: ZerothOrder, direction: Direction, scale: Scale) -> None:
        """p += scale * direction."""
        scales = optimizer._per_tensor(scale)
        if not all(map(math.isfinite, scales)) or not all(math.isfinite(t.coefficient) for t in direction.terms):
            raise Diverged(f"step {optimizer.steps + 1}: the update is not finite")
        optimizer.last_write = (direction, scales)
        evaluator = optimizer.evaluator
        offset = evaluator.take_offset()
        if offset and len(set(scales)) == 1:
            evaluator.move(direction * scales[0] - offset)  # restore and update in one write
        else:
            evaluator.move(-offset)
            evaluator.move(direction, scales)


class Live(Driver):
    """Evaluates them: one run, one process."""

    def values(self, optimizer: ZerothOrder, probes: list[Probe], closure: Callable[..., Any]) -> list[Values]:
        answers = [optimizer.evaluator.value(probe, closure) for probe in probes]
        return [tuple(map(float, a)) if isinstance(a, tuple) else float(a) for a in answers]  # type: ignore[misc]


class Replay(Driver):
    """Reads them back from a trace: no closure is called, no forward pass is made."""

    def __init__(self, trace: Trace):
        self.trace, self.position = trace, 0

    def values(self, optimizer: ZerothOrder, probes: list[Probe], closure: Callable[..., Any]) -> list[Values]:
        answers: list[Values] = []
        for probe in probes:
            width = 2 if probe.kind == "jvp" else 1
            chunk = self.trace.values[self.position : self.position + width]
            if len(chunk) < width:
                raise ValueError(f"the trace ends after {len(self.trace.values)} values; the optimizer asks for more")
            if probe.kind == "grad":
                raise ValueError("a step that uses gradients cannot be replayed from a trace")
            answers.append(tuple(chunk) if width == 2 else chunk[0])  # type: ignore[arg-type]
            self.position += width
        return answers


def replay(optimizer: ZerothOrder, trace: Trace, steps: int | None = None, *, check_start: bool = True) -> int:
    """Drive `optimizer`, standing at the start weights, through the first `steps` steps of a trace; returns their number.

    Raises ValueError where parameters or start weights are not the ones that the header names.
    """
    named, header = optimizer.named(), trace.header
    if parameter_list(named) != header["parameters"]:
        raise ValueError("the trace belongs to another list of parameters")
    if check_start and digest(named) != header["start"]:
        raise ValueError("the start weights are not the ones that the run began with (their digest differs)")
    optimizer.seed, optimizer.law = header["seed"], header["law"]
    live, optimizer.driver = optimizer.driver, Replay(trace)
    wanted = trace.steps if steps is None else min(steps, trace.steps)
    events = iter(trace.events)
    event = next(events, None)
    try:
        for number in range(wanted + 1):
            while event is not None and event[0] <= number and not (number == wanted and event[1] == "group"):
                _replay_event(optimizer, event)
                event = next(events, None)
            if number < wanted:
                optimizer.step(_no_forward)
    finally:
        optimizer.driver = live
    return wanted


def _replay_event(optimizer: ZerothOrder, event: list[Any]) -> None:
    if event[1] == "group":
        optimizer.param_groups[event[2]][event[3]] = event[4]
    else:
        optimizer.observe({name: float(value) for name, value in event[2].items()})  # inf and nan are texts


def _no_forward(**_: Any) -> float:
    raise AssertionError("replay asked for a forward pass")
