"""Clock, forwards, memory, FLOPs, energy: measured on the model and the device, never taken from the optimizer's word."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

T = TypeVar("T")


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


# --- floating-point operations ----------------------------------------------------------------------------------------


def _attention(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Both products of attention, nothing less for a mask; heads that share keys are counted each."""
    return 2 * query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _attention_backward(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor) -> int:
    """Two products for each one of the forward. That some kernels compute the scores again is theirs, not the method's."""
    return 2 * _attention(query, key, value)


# What torch's registry lacks, and the attention kernels, which must count alike on every device. By name, for no version
# of torch has them all; called with the operator's arguments.
FORMULAS: dict[str, Callable[..., int]] = {
    "aten::mv": lambda a, x, **_: 2 * a.numel(),
    "aten::addmv": lambda c, a, x, **_: 2 * a.numel(),
    "aten::dot": lambda x, y, **_: 2 * x.numel(),
    "aten::vdot": lambda x, y, **_: 2 * x.numel(),
    "aten::addbmm": lambda c, a, b, **_: 2 * a.numel() * b.shape[-1],
    "aten::_addmm_activation": lambda c, a, b, **_: 2 * a.numel() * b.shape[-1],
    "aten::_int_mm": lambda a, b, **_: 2 * a.numel() * b.shape[-1],
    "bitsandbytes::int8_linear_matmul": lambda a, b, *_, **__: 2 * a.numel() * b.shape[0],
    "bitsandbytes::int8_scaled_mm": lambda a, b, *_, **__: 2 * a.numel() * b.shape[0],
    "bitsandbytes::int8_mixed_scaled_mm": lambda a, ca, b, *_, **__: 2 * a.numel() * b.shape[0],
    "bitsandbytes::gemv_4bit": lambda a, b, shape, *_, **__: 2 * a.numel() * shape[0],
}
KERNELS = "flash_attention flash_attention_for_cpu efficient_attention cudnn_attention fused_attention_overrideable"
for _name in (f"aten::_scaled_dot_product_{kernel}" for kernel in KERNELS.split()):
    FORMULAS[_name] = lambda q, k, v, *_, **__: _attention(q, k, v)
    FORMULAS[f"{_name}_backward"] = lambda g, q, k, v, *_, **__: _attention_backward(g, q, k, v)

WRITING = "zobench.core.perturb"  # the module in which a product makes the numbers of a low-rank direction


class FlopTracker(TorchDispatchMode):
    """Counts 2 for a multiply and an add in every matrix product while it is active, by torch's formulas (flop_counter).

    torch's own FlopCounterMode follows modules too, by hooks that keep gradients alive: it would change what the memory
    meter sees in the same step. Factorisations and elementwise arithmetic are not counted, nor is the product of factors
    by which a low-rank direction is written: how often that is done differs with the way in which a probe is evaluated.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = _flops(func, args, kwargs, out)
        if count and not _called_from(WRITING):
            self.total += count
        return out


def _flops(func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> int:
    """Of one call of an operator; 0 where it is no matrix product."""
    packet = getattr(func, "overloadpacket", None)
    own = FORMULAS.get(func.name().partition(".")[0]) if packet is not None else None
    if own is not None:
        return own(*args, **kwargs)
    formula = flop_registry.get(packet)
    return int(formula(*args, **kwargs, out_val=out)) if formula is not None else 0


def _called_from(module: str) -> bool:
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != module:
        frame = frame.f_back
    return frame is not None


@dataclass(frozen=True)
class FlopRates:
    """The FLOPs of a run's first step by part, and the calls and tokens that they belong to.

    step: of the optimizer itself, beside its forwards and backwards: Newton and Schulz, a projection.
    """

    forward: int
    backward: int
    step: int
    forwards: int
    backwards: int
    tokens: int

    def total(self, steps: int, forwards: int, backwards: int, length: Fraction = Fraction(0)) -> int | None:
        """The FLOPs of a run of so many steps and calls, rounded down; None where no forward has a matrix product.

        length: its mean tokens per forward, which a forward's and a backward's FLOPs are taken to follow; 0 where a model
        reads no tokens. Steps are taken to be like the first: where a method does more in some of them (a new subspace every
        k steps), its own share is off by that; its forwards and backwards are counted, whatever their rhythm.
        """
        if not self.forward or not self.forwards:
            return None
        calls = Fraction(self.forward * forwards, self.forwards)
        if self.backwards:
            calls += Fraction(self.backward * backwards, self.backwards)
        if self.tokens and length:
            calls *= length * self.forwards / self.tokens
        return int(self.step * steps + calls)

    def to_json(self) -> dict[str, int]:
        return asdict(self)


class Flops:
    """Counts the first step of a run by part: the closure's forwards, its backwards, and what the optimizer does beside them."""

    def __init__(self, counter: Counter, rates: FlopRates | None = None):
        self.counter, self.rates = counter, rates
        self._tracker: FlopTracker | None = None

    @contextmanager
    def of_step(self) -> Iterator[None]:
        """Count what happens inside; a step that fails is counted as far as it came."""
        self._tracker, self._inside = FlopTracker(), 0
        self._parts = dict.fromkeys(("forward", "backward", "forwards", "backwards", "tokens"), 0)
        try:
            with self._tracker:
                yield
        finally:
            self.rates = FlopRates(step=self._tracker.total - self._inside, **self._parts)
            self._tracker = None

    def part(self, name: str, call: Callable[[], T]) -> T:
        """What `call` returns, its FLOPs booked as `forward` or `backward`; one that fails is not booked at all."""
        if self._tracker is None:
            return call()
        before, counter = self._tracker.total, self.counter
        calls = counter.forwards, counter.backwards, counter.tokens
        try:
            value = call()
        finally:
            found = self._tracker.total - before
            self._inside += found
        self._parts[name] += found
        for key, now, then in zip(("forwards", "backwards", "tokens"), self._calls(), calls, strict=True):
            self._parts[key] += now - then
        return value

    def _calls(self) -> tuple[int, int, int]:
        return self.counter.forwards, self.counter.backwards, self.counter.tokens


# --- the GPU as NVML sees it ------------------------------------------------------------------------------------------


class Gpu:
    """Energy and this process's memory of one CUDA device, from NVML. Every reading is None where there is none.

    Without the extra `energy`, on a CPU, and where the driver refuses, all are.
    """

    EVERY = 0.1  # s between two looks at the memory
    SHORTEST = 0.5  # s, of a stretch of steps: the counter moves every 20 to 100 ms

    def __init__(self, device: torch.device):
        self.bytes: int | None = None
        self._nvml: Any = None
        self._looked, self._joules, self._seconds, self._stretches = -self.EVERY, 0.0, 0.0, 0
        self._began: tuple[float, int] | None = None
        self._before, self._whole = 0.0, True
        if device.type == "cuda":
            self._open(device)

    def _open(self, device: torch.device) -> None:
        try:
            import pynvml  # pyright: ignore[reportMissingImports]  # the extra `energy`
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return
        self._nvml = pynvml
        self._handle = self._ask(lambda: _handle(pynvml, device))
        if self._handle is None:
            self.close()

    def _ask(self, question: Callable[[], T]) -> T | None:
        if self._nvml is None:
            return None
        try:
            return question()
        except self._nvml.NVMLError:
            return None

    def go_on(self, joules: float | None, bytes: int | None, steps: int) -> None:
        """With a run that had this energy and this peak in so many timed steps."""
        self._before, self.bytes = joules or 0.0, bytes
        self._whole = joules is not None or not steps

    def begin(self) -> None:
        """A stretch of timed steps begins; nothing where one is under way."""
        if self._began is None and self._whole:
            energy = self._energy()
            self._began = None if energy is None else (time.perf_counter(), energy)
            self._whole = energy is not None

    def pause(self) -> None:
        """It ends: what follows is not in `joules`."""
        if self._began is None:
            return
        (then, before), after = self._began, self._energy()
        self._began = None
        if after is None or after < before:  # less: the driver was loaded anew
            self._whole = False
            return
        self._seconds += time.perf_counter() - then
        self._joules += (after - before) / 1000
        self._stretches += 1

    def _energy(self) -> int | None:
        """mJ since the driver was loaded."""
        return self._ask(lambda: int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)))

    @property
    def joules(self) -> float | None:
        """Of all stretches; None where one could not be read or they are too short for the counter."""
        if not self._whole or self._seconds < self.SHORTEST * self._stretches:
            return None
        return self._before + self._joules or None

    def look(self) -> None:
        """Take this process's memory into the peak, unless the last look was just now."""
        now = time.perf_counter()
        if self._nvml is None or now - self._looked < self.EVERY:
            return
        self._looked = now
        processes = self._ask(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)) or ()
        mine = [p.usedGpuMemory for p in processes if p.pid == os.getpid()]
        if mine and None not in mine:
            self.bytes = max(self.bytes or 0, sum(map(int, mine)))

    def close(self) -> None:
        self._ask(lambda: self._nvml.nvmlShutdown())
        self._nvml = None


def _handle(nvml: Any, device: torch.device) -> Any:
    """NVML's handle of a device of torch, whose numbers are not NVML's where CUDA_VISIBLE_DEVICES chooses among them."""
    properties = torch.cuda.get_device_properties(device)
    uuid = getattr(properties, "uuid", None)
    if uuid is not None:
        text = str(uuid)
        return nvml.nvmlDeviceGetHandleByUUID(text if text.startswith(("GPU-", "MIG-")) else f"GPU-{text}")
    places = [getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    if None in places:
        return None
    return nvml.nvmlDeviceGetHandleByPciBusId("{:08x}:{:02x}:{:02x}.0".format(*places))


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
