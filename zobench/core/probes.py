"""How a probe is evaluated. Modes `stream` and `copy` never write the weights; `inplace` does, and takes it back.

`Evaluator` is what an optimizer holds: it chooses the mode at the first closure and says afterwards which it was.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zobench.core.perturb import Direction, materialise, perturb
from zobench.core.stream import Stream, Uncovered

MODES = ("auto", "stream", "copy", "inplace")


@dataclass(frozen=True, slots=True)
class Probe:
    """A question about the loss at base + direction: its value, its slope along the direction too, or its gradient."""

    direction: Direction = Direction()
    base: Sequence[Tensor] | None = None  # one tensor per parameter; None is the current weights
    # Handed to the closure as `batch=`. None is the step's own minibatch; a number k > 0 the k-th further one of the step;
    # "long" and "short" a minibatch of the longer and of the shorter rows.
    batch: Any = None
    kind: str = "loss"  # loss -> float | jvp -> (loss, slope) | grad -> loss, gradients left in p.grad
    blocks: frozenset[int] | None = None  # of a grad probe: the tensors that get a gradient; None means all


def _with_batch(closure: Callable[..., Any], batch: Any) -> Any:
    """closure(batch=...), or one sentence where it takes no such argument."""
    try:
        inspect.signature(closure).bind(batch=batch)
    except TypeError:
        raise TypeError(
            "this method asks for more than one minibatch a step: its closure must take batch= (None, a number, long, short)"
        ) from None
    return closure(batch=batch)


class Evaluator:
    """Evaluates probes for a list of parameters, with the model where it is known and without it where it is not."""

    def __init__(self, tensors: list[nn.Parameter], model: nn.Module | None = None, mode: str = "auto"):
        if mode not in MODES:
            raise ValueError(f"unknown probe mode {mode!r}: choose from {', '.join(MODES)}")
        if mode == "stream" and model is None:
            raise ValueError("mode 'stream' needs the modules: call attach(model) or pass the model as params")
        self.tensors, self.model = tensors, model
        self.mode = mode if mode != "auto" else self._first_choice()
        self.fixed = mode != "auto"
        self.stream = Stream(model, tensors) if self.mode == "stream" and model is not None and tensors else None
        self.offset = Direction()  # inplace: what the stored weights carry on top of w
        self.buffers: list[Tensor] | None = None

    def _first_choice(self) -> str:
        if hasattr(self.model, "_orig_mod"):
            return "copy"  # torch.compile has traced the modules: hooks inside it would never run
        if self.model is not None:
            return "stream"
        return "inplace" if all(p.dtype == torch.float32 for p in self.tensors) else "copy"

    def tables(self) -> set[int]:
        """ids of the embedding tables among the parameters; empty without a model."""
        modules = self.model.modules() if self.model is not None else ()
        return {id(m.weight) for m in modules if isinstance(m, nn.Embedding)}

    def value(self, probe: Probe, closure: Callable[..., Any]) -> Any:
        """What the closure returned at the probe: a tensor or float; for `jvp` a pair."""
        call = closure if probe.batch is None else lambda: _with_batch(closure, probe.batch)
        if probe.kind == "jvp":
            return self._jvp(probe, call)
        if probe.kind == "grad":
            with self._copied(probe.direction, probe.base), self._frozen_but(probe.blocks), torch.enable_grad():
                return call()
        if probe.kind != "loss":
            raise ValueError(f"unknown probe kind {probe.kind!r}: loss, jvp or grad")
        if not probe.direction and probe.base is None and not self.offset:
            return call()
        if self.mode == "stream":
            return self._stream(probe, call)
        if self.mode == "inplace" and probe.base is None and not probe.direction.of_weights:
            return self._inplace(probe, call)
        with self._copied(probe.direction, probe.base):
            return call()

    def _stream(self, probe: Probe, call: Callable[[], Any]) -> Any:
        assert self.stream is not None
        first = not self.stream.verified
        try:
            value = self.stream.value(probe.direction, list(probe.base) if probe.base is not None else None, call)
        except Uncovered:
            with self._copied(probe.direction, probe.base):
                value = call()
            if math.isfinite(float(value)):  # the weights are fine, the windows are not
                self.mode = "copy"
            return value
        if first and self.stream.root_calls > 1 and not self.fixed and self._copy_fits():
            self.mode = "copy"  # many forwards a closure (generation, accumulation): draw z once for all of them
        return value

    def _copy_fits(self) -> bool:
        try:
            self._buffers()
        except (RuntimeError, MemoryError):
            return False
        return True

    def _buffers(self) -> list[Tensor]:
        now = [(p.shape, p.dtype, p.device) for p in self.tensors]
        if self.buffers is None or [(b.shape, b.dtype, b.device) for b in self.buffers] != now:
            self.buffers = [torch.empty_like(p.data) for p in self.tensors]
        return self.buffers

    @contextmanager
    def _copied(self, direction: Direction, base: Sequence[Tensor] | None) -> Iterator[None]:
        """Inside, the parameters point at perturbed copies."""
        self.flush()
        if not direction and base is None:
            yield
            return
        originals = [p.data for p in self.tensors]
        buffers = self._buffers()
        perturb(originals if base is None else list(base), buffers, direction)
        try:
            for p, buffer in zip(self.tensors, buffers, strict=True):
                p.data = buffer
            yield
        finally:
            for p, w in zip(self.tensors, originals, strict=True):
                p.data = w

    @contextmanager
    def _frozen_but(self, blocks: frozenset[int] | None) -> Iterator[None]:
        """Inside, only these tensors ask for a gradient, so that activations are kept for their layers alone."""
        frozen = [p for i, p in enumerate(self.tensors) if blocks is not None and i not in blocks]
        for p in frozen:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p in frozen:
                p.requires_grad_(True)

    def _inplace(self, probe: Probe, call: Callable[[], Any]) -> Any:
        self.move(probe.direction - self.offset)
        self.offset = probe.direction
        return call()

    def move(self, direction: Direction, scale: Sequence[float] | float = 1.0) -> None:
        """Write: p += scale * direction."""
        if direction:
            data = [p.data for p in self.tensors]
            perturb(data, data, direction, scale=scale)

    def take_offset(self) -> Direction:
        """What a write must take back with it; the weights count as restored afterwards."""
        offset, self.offset = self.offset, Direction()
        return offset

    def flush(self) -> None:
        """Restore the weights (mode `inplace`; the others have nothing to restore)."""
        self.move(-self.take_offset())

    def _jvp(self, probe: Probe, call: Callable[[], Any]) -> tuple[Any, Any]:
        """Loss at the base and its slope along the direction, by forward-mode differentiation (Baydin et al., 2202.08587)."""
        import torch.autograd.forward_ad as forward
        from torch.nn.attention import SDPBackend, sdpa_kernel

        if self.model is None:
            raise ValueError("a jvp probe needs the modules: call attach(model) or pass the model as params")
        self.flush()
        bases = [p.data for p in self.tensors] if probe.base is None else list(probe.base)
        number = {id(p): i for i, p in enumerate(self.tensors)}
        places = [(m, n, p) for m in self.model.modules() for n, p in m._parameters.items() if id(p) in number]
        with forward.dual_level(), sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels carry no tangents
            duals = [forward.make_dual(w, materialise(probe.direction, w, i).to(w.dtype)) for i, w in enumerate(bases)]
            try:
                for module, name, p in places:
                    module._parameters[name] = duals[number[id(p)]]  # type: ignore[assignment]
                loss = call()
                if not isinstance(loss, Tensor):
                    raise TypeError(
                        "a jvp probe needs the loss as a tensor: its closure must not return a Python number"
                    )
                primal, tangent = forward.unpack_dual(loss)
                return primal, torch.zeros_like(primal) if tangent is None else tangent
            finally:
                for module, name, p in places:
                    module._parameters[name] = p
