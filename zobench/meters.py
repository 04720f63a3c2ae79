"""Clock, forwards, memory: measured on the model and the device, never taken from the optimizer's word."""

from __future__ import annotations

import json
import resource
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Counter:
    """Counts forwards of a model, tokens that went in, and backwards; forwards during `evaluation` are kept apart.

    A forward is a call of the model that begins sequences. A call that goes on with them, by the keys and values that an
    earlier call left in a cache, is a part of the forward that began them: each position goes through the model once, as
    in one forward over the whole. So a greedy answer is one forward, however many tokens it has, and so is a shared
    prefix with its continuations. Every token that goes in is counted where it is read, padding included. Without a
    cache every call begins anew, and counts.

    A model wrapped by peft generates with the model inside; a call of that one counts unless the wrapper made it.

    between: called before every forward of an evaluation, where the weights are whole; what it raises ends the evaluation.
    """

    def __init__(self, model: nn.Module, between: Callable[[], None] = lambda: None):
        self.between = between
        self.forwards = self.backwards = self.tokens = self.eval_forwards = 0
        self._evaluating, self._inside = False, 0
        base: Any = getattr(model, "get_base_model", lambda: model)()
        self._handles = []
        for module in {id(m): m for m in (model, base)}.values():
            self._handles.append(module.register_forward_pre_hook(self._forward, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave, always_call=True))

    def _forward(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self._inside += 1
        if self._inside > 1:
            return
        begins = _cached(kwargs.get("past_key_values")) == 0
        if self._evaluating:
            self.between()
            self.eval_forwards += begins
            return
        self.forwards += begins
        ids = kwargs.get("input_ids", args[0] if args else None)
        if isinstance(ids, Tensor) and not ids.is_floating_point():
            self.tokens += ids.numel()  # padding included: it costs the same

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._inside -= 1

    def watch(self, loss: Tensor) -> None:
        """Count the backward pass of this loss when it really happens."""
        loss.register_hook(self._backward)

    def _backward(self, gradient: Tensor) -> None:
        self.backwards += 1

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        before, self._evaluating = self._evaluating, True
        try:
            yield
        finally:
            self._evaluating = before

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """For a forward that belongs to the measuring itself."""
        kept = self.forwards, self.backwards, self.tokens, self.eval_forwards
        try:
            yield
        finally:
            self.forwards, self.backwards, self.tokens, self.eval_forwards = kept

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


def _cached(cache: Any) -> int:
    """Positions in a cache of transformers, or in a tuple of (keys, values) by layer."""
    if cache is None:
        return 0
    if hasattr(cache, "get_seq_length"):
        return int(cache.get_seq_length())
    return cache[0][0].shape[-2] if len(cache) else 0


class Stopwatch:
    """Seconds inside a block, the device synchronised at both ends."""

    def __init__(self, device: torch.device):
        self.device, self.seconds = device, 0.0

    def __enter__(self) -> Stopwatch:
        synchronise(self.device)
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *_: Any) -> None:
        synchronise(self.device)
        self.last = time.perf_counter() - self._begin
        self.seconds += self.last


class StorageTracker(TorchDispatchMode):
    """Exact peak of the bytes held in CPU tensor storages while it is active, those known before included.

    Every storage that an operator returns is counted once and released when it dies. Workspaces that an operator
    allocates and frees inside itself are not seen; the process's high-water mark beside it contains them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.total = self.peak = 0

    def know(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            self._see(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        return out

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.live:
            return
        self.live[key] = storage.nbytes()
        self.total += self.live[key]
        self.peak = max(self.peak, self.total)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.total -= self.live.pop(key, 0)


class Memory:
    """Peak bytes of tensors: of inference on a batch, and of training steps.

    On CUDA the allocator's own peak over all steps; on CPU a `StorageTracker` over the first (untimed) steps, because it
    looks at every operator.
    """

    def __init__(self, device: torch.device, model: nn.Module):
        self.device, self.model = device, model
        self.inference: int | None = None
        self.peak: int | None = None
        self.reserved: int | None = None
        if device.type == "cpu":
            _reset_rss()

    @contextmanager
    def of_inference(self, known: Iterable[Tensor] = ()) -> Iterator[None]:
        with self._tracked(known) as peak:
            yield
        self.inference = peak()

    @contextmanager
    def of_step(self, known: Iterable[Tensor] = ()) -> Iterator[None]:
        """One step; call it for each that should count. On CUDA it only reads counters."""
        with self._tracked(known) as peak:
            yield
        self.peak = max(self.peak or 0, peak())
        if self.device.type == "cuda":
            self.reserved = max(self.reserved or 0, torch.cuda.max_memory_reserved(self.device))

    @contextmanager
    def _tracked(self, known: Iterable[Tensor]) -> Iterator[Any]:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            yield lambda: torch.cuda.max_memory_allocated(self.device)
            return
        tracker = StorageTracker()
        tracker.know(self.model.parameters())
        tracker.know(self.model.buffers())
        tracker.know(known)
        with tracker:
            yield lambda: tracker.peak


TARGETS = tuple(f"1e-{k}" for k in range(1, 7))


def hitting_times(curve: Iterable[Mapping[str, Any]], metric: str) -> dict[str, int]:
    """Target -> cost (forwards + 2 backwards) at the first evaluation whose metric was at most the target.

    Targets that were never reached are not in it. The resolution is that of the evaluations.
    """
    found: dict[str, int] = {}
    for point in curve:
        if point["metrics"] is None:
            continue
        value = float(json.loads(point["metrics"])[metric])
        for target in TARGETS:
            if value <= float(target):
                found.setdefault(target, point["forwards"] + 2 * point["backwards"])
    return found


def rss_bytes() -> int:
    """High-water mark of the process's resident memory, since the last `Memory` began where Linux allows a reset."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _reset_rss() -> None:
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def state_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What the optimizer keeps between steps, in its state or in attributes of its own; gradients not included."""
    kept = [v for k, v in vars(optimizer).items() if k not in ("param_groups", "defaults", "state")]
    leaves = tree_leaves([list(optimizer.state.values()), kept])
    weights = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return list({id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor) and id(leaf) not in weights}.values())


def nbytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
