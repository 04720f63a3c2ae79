"""Probe mode `stream`: while a module runs, its parameters point at a buffer that holds w + c z.

The weights are never written, and beside them there is one buffer of the size of the largest window. A *window* is the
time during which a module runs; a parameter is perturbed in the windows of its owners: the module that holds it, and any
other that was seen to read it. Large tables need no buffer: embedding rows are perturbed as they are looked up, large
linear layers in tiles of output rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

from zobench.core.perturb import Direction, perturb, perturb_rows
from zobench.core.philox import BLOCK

LARGE = 16 << 20  # bytes; linear layers above are perturbed in tiles of output rows
TILE = 4 << 20  # bytes of a tile: little enough to be read while it is still in cache
ALIGN = 64
SMALL = 128  # a tensor so many times smaller than the largest window is opened by the root
Place = tuple[Any, str, int]  # the module that holds a parameter, its name there ("" for a reader), its number
METADATA = frozenset(
    "shape dtype device layout ndim requires_grad grad grad_fn is_leaf is_cuda is_cpu is_meta is_sparse is_quantized "
    "is_mkldnn is_mps is_xpu itemsize nbytes names size dim numel nelement stride element_size storage_offset "
    "is_contiguous is_floating_point is_complex is_nested untyped_storage data_ptr __hash__ __len__ _version "
    "has_names get_device type_as _is_view is_inference is_set_to is_shared __repr__ __format__".split()
)


class Scratch:
    """A stack of buffers with a bump pointer: a parent that owns parameters keeps its own while its children run."""

    def __init__(self, device: torch.device):
        self.device, self.top, self.high = device, 0, 0
        self.segment = torch.empty(0, dtype=torch.uint8, device=device)
        self.spilled: list[tuple[int, Tensor]] = []  # until the first closure has shown how much is needed

    def take(self, like: Tensor) -> Tensor:
        size = like.numel() * like.element_size()
        begin, self.top = self.top, self.top + math.ceil(size / ALIGN) * ALIGN
        self.high = max(self.high, self.top)
        if self.top <= len(self.segment):
            raw = self.segment[begin : begin + size]
        else:
            raw = torch.empty(size, dtype=torch.uint8, device=self.device)
            self.spilled.append((begin, raw))
        return raw.view(like.dtype).view(like.shape)

    def release(self, top: int) -> None:
        """Back to where the pointer stood when the window opened."""
        self.top = top
        while self.spilled and self.spilled[-1][0] >= top:
            self.spilled.pop()

    def settle(self) -> None:
        """Between closures: one segment of the size that was needed."""
        self.top = 0
        self.spilled.clear()
        if self.high > len(self.segment):
            self.segment = torch.empty(0, dtype=torch.uint8, device=self.device)
            self.segment = torch.empty(self.high, dtype=torch.uint8, device=self.device)

    def holds(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage().data_ptr()
        return storage == self.segment.data_ptr() or any(storage == raw.data_ptr() for _, raw in self.spilled)


class LazyWeight(Tensor):
    """A table seen through a window: reads perturb what they touch. Shares its storage with the unperturbed weights."""

    window: tuple[int, Direction]

    @staticmethod
    def open(weight: Tensor, index: int, direction: Direction) -> LazyWeight:
        lazy = torch.Tensor._make_subclass(LazyWeight, weight)
        lazy.window = (index, direction)
        return lazy

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if _name(func) in METADATA:
                return func(*args, **kwargs)
            if func is F.embedding and _plain_lookup(args, kwargs):
                return _lookup(*args[:2])
            if func is F.linear and isinstance(_argument(args, kwargs, 1, "weight"), LazyWeight):
                return _tiled_linear(
                    _argument(args, kwargs, 0, "input"),
                    _argument(args, kwargs, 1, "weight"),
                    _argument(args, kwargs, 2, "bias"),
                )
            full = lambda t: t.materialise() if isinstance(t, LazyWeight) else t  # noqa: E731
            return func(*tree_map(full, args), **tree_map(full, kwargs))

    def plain(self) -> Tensor:
        return self.as_subclass(Tensor)

    def materialise(self) -> Tensor:
        index, direction = self.window
        out = torch.empty_like(self.plain())
        perturb([self.plain()], [out], direction, index=[index])
        return out


def _argument(args: tuple, kwargs: dict, place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)


def _plain_lookup(args: tuple, kwargs: dict) -> bool:
    """F.embedding(input, weight, padding_idx, max_norm, ...): max_norm would rewrite the table."""
    return len(args) > 1 and isinstance(args[1], LazyWeight) and _argument(args, kwargs, 3, "max_norm") is None


def _lookup(ids: Tensor, weight: LazyWeight) -> Tensor:
    index, direction = weight.window
    rows, place = ids.unique(return_inverse=True)
    if not direction.fused:
        return F.embedding(ids, weight.materialise())
    return F.embedding(place, perturb_rows(weight.plain(), rows, direction, index))


def _tiled_linear(x: Tensor, weight: LazyWeight, bias: Tensor | None) -> Tensor:
    index, direction = weight.window
    plain = weight.plain()
    rows, width = plain.shape
    step = BLOCK // math.gcd(width, BLOCK)  # tiles begin at whole blocks of the generator
    tile = max(TILE // (width * plain.element_size()) // step * step, step)
    buffer = torch.empty((min(tile, rows), width), dtype=plain.dtype, device=plain.device)
    out = torch.empty((*x.shape[:-1], rows), dtype=torch.result_type(x, plain), device=plain.device)
    for lo in range(0, rows, tile):
        hi = min(lo + tile, rows)
        perturb([plain[lo:hi]], [buffer[: hi - lo]], direction, index=[index], offset=[lo * width])
        out[..., lo:hi] = F.linear(x, buffer[: hi - lo], None if bias is None else bias[lo:hi])
    return out


def _name(func: Any) -> str:
    """The name of what was called; for a property, of the property."""
    name = getattr(func, "__name__", "")
    return getattr(getattr(func, "__self__", None), "__name__", name) if name in ("__get__", "__set__") else name


class _Readers(TorchFunctionMode):
    """Notes which parameters are read while no window shows them, and which module was running."""

    def __init__(self, stream: Stream):
        super().__init__()
        self.stream, self.found, self.outside = stream, set(), False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if _name(func) not in METADATA and getattr(func, "__name__", "") != "__set__":
            for leaf in tree_flatten((args, kwargs or {}))[0]:
                if isinstance(leaf, nn.Parameter):
                    self._note(leaf)
        return func(*args, **(kwargs or {}))

    def _note(self, parameter: nn.Parameter) -> None:
        index = self.stream.index.get(id(parameter))
        if index is None or index in self.stream.opened:
            return
        if self.stream.running:
            self.found.add((self.stream.running[-1], index))
        else:
            self.outside = True  # read by the closure itself: no module's window can show it


class Stream:
    """Evaluates a closure at w + direction without writing w. `tensors`: the trained parameters of `model`, numbered."""

    def __init__(self, model: nn.Module, tensors: list[nn.Parameter]):
        self.model, self.tensors = model, tensors
        self.index = {id(p): i for i, p in enumerate(tensors)}
        self.verified = False
        self._sentinels: tuple[list[Any], list[Tensor]] | None = None
        self.scratch = Scratch(tensors[0].device)
        self.owners: dict[nn.Module, list[Place]] = {}
        for module in model.modules():
            held = [(module, name, self.index[id(p)]) for name, p in _held(module) if id(p) in self.index]
            if held:
                self.owners[module] = held
        self.ahead = _groups(model, self.owners, tensors)
        self.opened: dict[int, int] = {}  # tensor -> how many open windows show it
        self.running: list[nn.Module] = []
        self.calls: Counter[nn.Module] = Counter()  # of modules that the closure itself called, in its last run

    @property
    def root_calls(self) -> int:
        """How often the closure ran the model, or the same part of it: generation leaves out a wrapper such as peft's."""
        return max(self.calls.values(), default=0)

    def value(self, direction: Direction, base: list[Tensor] | None, closure: Callable[[], Any]) -> Any:
        """The closure's value at (base or w) + direction."""
        if self.verified:
            value = self._run(direction, base, closure)
            if math.isfinite(float(value)):
                return value
            self.verified = False  # the loss itself, or a read that was not there before: look again
        return self._first_value(direction, base, closure)

    def _first_value(self, direction: Direction, base: list[Tensor] | None, closure: Callable[[], Any]) -> Any:
        """Prove that every read goes through a window: outside of them each parameter is a NaN without storage.

        A module that reads a parameter it does not hold (torch's MultiheadAttention, a parent of a ParameterDict) becomes
        an owner of it. Raises `Uncovered` where reads remain that no window can reach.
        """
        for _ in range(8):
            readers = _Readers(self)
            value = self._run(direction, base, closure, readers)
            if readers.outside:
                raise Uncovered(value)
            if not readers.found:
                if not math.isfinite(float(value)):
                    raise Uncovered(value)
                self.verified = True
                return value
            for module, index in readers.found:
                self.owners.setdefault(module, []).append((module, "", index))
        raise Uncovered(value)

    def sentinels(self) -> list[Tensor]:
        """A NaN without storage for every tensor."""
        now = [(p.dtype, p.device) for p in self.tensors]
        if self._sentinels is None or now != self._sentinels[0]:
            nans = [torch.full((), math.nan, dtype=p.dtype, device=p.device).expand(p.shape) for p in self.tensors]
            self._sentinels = now, nans
        return self._sentinels[1]

    def _run(self, direction: Direction, base: Any, closure: Callable[[], Any], readers: _Readers | None = None) -> Any:
        windows = _Windows(self, direction, base)
        handles = []
        try:
            watched = self.model.modules() if readers else {self.model: None, **self.ahead, **self.owners}
            for module in watched:
                handles.append(module.register_forward_pre_hook(windows.open, prepend=True))
                handles.append(module.register_forward_hook(windows.close, always_call=True))
            windows.hide()
            with readers or nullcontext():
                return closure()
        finally:
            for handle in handles:
                handle.remove()
            windows.restore()
            self.scratch.settle()


class Uncovered(Exception):
    """The first value was not finite, or a read could not be brought under a window; `value` is what came out."""

    def __init__(self, value: Any):
        super().__init__("a parameter is read outside every window")
        self.value = value


class _Windows:
    """The state of one evaluation: what each parameter points at, and how to put everything back."""

    def __init__(self, stream: Stream, direction: Direction, base: list[Tensor] | None):
        self.stream, self.direction = stream, direction
        self.originals, self.nans = [p.data for p in stream.tensors], stream.sentinels()
        self.base = self.originals if base is None else base
        self.stack: list[tuple[nn.Module, int, list[Place]]] = []
        stream.opened.clear()
        stream.running.clear()
        stream.calls.clear()

    def hide(self) -> None:
        """Outside their windows the parameters are NaN, always: a stray read cannot pass for a loss."""
        for p, nan in zip(self.stream.tensors, self.nans, strict=True):
            p.data = nan

    def restore(self) -> None:
        for _, _, shown in reversed(self.stack):
            for place in shown:
                self._hide_lazy(*place)
        for p, w in zip(self.stream.tensors, self.originals, strict=True):
            if p.data_ptr() != w.data_ptr() or p.stride() != w.stride():
                p.data = w
        self.stack.clear()
        self.stream.opened.clear()
        self.stream.running.clear()

    def open(self, module: nn.Module, args: Any) -> None:
        stream = self.stream
        stream.running.append(module)
        stream.calls[module] += not self.stack
        top, shown, fill = stream.scratch.top, [], []
        for holder, name, i in (*stream.owners.get(module, ()), *stream.ahead.get(module, ())):
            if i not in stream.opened:
                if name and _lazy(holder, name, self.base[i]) and self.direction.fused and self.base[i].is_contiguous():
                    holder._parameters[name] = LazyWeight.open(self.base[i], i, self.direction)  # type: ignore[assignment]
                else:
                    fill.append(i)
            stream.opened[i] = stream.opened.get(i, 0) + 1
            shown.append((holder, name, i))
        if fill:
            buffers = [stream.scratch.take(self.base[i]) for i in fill]
            perturb([self.base[i] for i in fill], buffers, self.direction, index=fill)
            for i, buffer in zip(fill, buffers, strict=True):
                stream.tensors[i].data = buffer
        self.stack.append((module, top, shown))

    def close(self, module: nn.Module, args: Any, output: Any) -> Any:
        if not self.stack or self.stack[-1][0] is not module:
            return None  # the hook of a call whose opening failed
        _, top, shown = self.stack.pop()
        stream = self.stream
        stream.running.pop()
        for holder, name, i in shown:
            stream.opened[i] -= 1
            if not stream.opened[i]:
                del stream.opened[i]
                self._hide_lazy(holder, name, i)
                stream.tensors[i].data = self.nans[i]
        output = self._own(output) if shown else None
        stream.scratch.release(top)
        return output

    def _own(self, output: Any) -> Any:
        """An output that is a view of the buffer would change with the next window: give it memory of its own."""
        aliased = lambda leaf: isinstance(leaf, Tensor) and self.stream.scratch.holds(leaf)  # noqa: E731
        if not any(aliased(leaf) for leaf in tree_flatten(output)[0]):
            return None
        return tree_map(lambda leaf: leaf.clone() if aliased(leaf) else leaf, output)

    def _hide_lazy(self, holder: nn.Module, name: str, i: int) -> None:
        if name and isinstance(holder._parameters.get(name), LazyWeight):
            holder._parameters[name] = self.stream.tensors[i]


def _lazy(holder: nn.Module, name: str, w: Tensor) -> bool:
    """Whether the table is perturbed as it is read: any embedding, and linear layers too large for the scratch."""
    table = isinstance(holder, nn.Embedding) and name == "weight"
    return table or (isinstance(holder, nn.Linear) and name == "weight" and w.numel() * w.element_size() > LARGE)


def _groups(
    model: nn.Module, owners: dict[nn.Module, list[Place]], tensors: list[nn.Parameter]
) -> dict[nn.Module, list[Place]]:
    """What a module opens ahead for its descendants, so that fewer and larger windows are filled.

    A module takes all of its subtree where that is no larger than the largest single window, which the scratch must hold
    anyway; the root takes what is small. A descendant that runs by itself still opens its own.
    """
    size = lambda i: tensors[i].numel() * tensors[i].element_size()  # noqa: E731
    buffered = {m: [p for p in held if not _lazy(p[0], p[1], tensors[p[2]])] for m, held in owners.items()}
    limit = max((sum(size(i) for _, _, i in held) for held in buffered.values()), default=0)
    small = [p for held in buffered.values() for p in held if size(p[2]) * SMALL <= limit]
    if sum(size(i) for _, _, i in small) * 4 > limit:
        small = []
    taken = {i for _, _, i in small}
    ahead = {model: [("", "", i) for _, _, i in small]} if small else {}
    for module in model.modules():  # parents come before their children
        inside = [
            (h, "", i) for m in module.modules() if m is not module for h, _, i in buffered.get(m, ()) if i not in taken
        ]
        if inside and sum(size(i) for _, _, i in inside) <= limit:
            ahead.setdefault(module, []).extend(inside)
            taken |= {i for _, _, i in inside}
    return ahead


def _held(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in module._parameters.items() if p is not None]
