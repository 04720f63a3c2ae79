"""The fast kernels on CPU: `out = base + sum of c z`, z drawn and used block by block while it is in cache (numba).

Same bits as `philox.py`. Two things keep the loops vectorised, and both are easy to lose: the words and the normals of a
block live in small local arrays that are filled by one loop and read by the next, and no loop has a branch in it.
The blocks are shared out over torch's own threads: a second pool beside them, spinning or asleep, costs up to a factor of two.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import float32, float64, int32, types, uint32, uint64
from numba.core import cgutils, codegen, config
from numba.extending import intrinsic

from zobench.core import philox as reference

M0, M1 = np.uint32(reference.MULTIPLIERS[0]), np.uint32(reference.MULTIPLIERS[1])
W0, W1 = np.uint32(reference.WEYL[0]), np.uint32(reference.WEYL[1])
C7, C6, C5, C4, C3, C2, C1, C0 = (np.float32(c) for c in reference.CENTRAL)
T7, T6, T5, T4, T3, T2, T1, T0 = (np.float32(c) for c in reference.TAIL)
L6, L5, L4, L3, L2, L1, L0 = (np.float32(c) for c in reference.LOG)
MINUS_LN2 = np.float32(reference.MINUS_LN2)
SQRT_HALF_BITS = np.int32(reference.SQRT_HALF_BITS)
SCALE24, ONE, THREE, FIVE, MIDDLE = (np.float32(v) for v in (2.0**-24, 1.0, 3.0, 5.0, 2.5))


def _full_width() -> None:
    """Let LLVM use 512-bit vectors where the CPU has them: its default is half, and the kernels are bound by arithmetic.

    Only how numba's code is vectorised changes, never its results; an environment that sets NUMBA_CPU_FEATURES is respected.
    """
    settings: Any = config
    if settings.CPU_FEATURES is None:
        features = codegen.get_host_cpu_features()
        if "+avx512f" in features.split(","):
            settings.CPU_FEATURES = f"{features},-prefer-256-bit"


_full_width()

LAWS = {"gaussian": 0, "rademacher": 1}
DTYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
SMALL = 8  # blocks; below this sharing out costs more than it saves
WORTH_SHARING = 1 << 17  # elements of many runs together; below this one thread draws them all
SHARES = 4  # chunks per thread, so that a thread that was held up does not hold up the others

jit = numba.njit(nogil=True, cache=True, error_model="numpy", boundscheck=False)


@intrinsic
def _array_at(typingctx, address, size, like):
    """A one-dimensional array over foreign memory, typed like `like`: one launch can serve a list of tensors."""
    array = types.Array(like.dtype, 1, "C")

    def codegen(context, builder, signature, arguments):
        made = context.make_array(array)(context, builder)
        item = context.get_abi_sizeof(context.get_data_type(array.dtype))
        pointer = builder.inttoptr(arguments[0], made.data.type)
        made.data = pointer
        made.parent = cgutils.get_null_value(made.parent.type)
        made.meminfo = cgutils.get_null_value(made.meminfo.type)  # borrowed: the tensor stays the owner
        made.itemsize = context.get_constant(types.intp, item)
        made.nitems = arguments[1]
        made.shape = cgutils.pack_array(builder, [arguments[1]])
        made.strides = cgutils.pack_array(builder, [context.get_constant(types.intp, item)])
        return made._getvalue()

    return array(types.int64, types.int64, like), codegen


@intrinsic
def _bits_of(typingctx, x):
    """int32 with the bits of a float32."""
    return types.int32(types.float32), lambda c, b, s, a: b.bitcast(a[0], c.get_value_type(types.int32))


@intrinsic
def _float_of(typingctx, x):
    """float32 with the bits of an int32."""
    return types.float32(types.int32), lambda c, b, s, a: b.bitcast(a[0], c.get_value_type(types.float32))


@jit
def _words(block, lane0, lane1, draw, seed, tensor, stream, out):
    """out (4096,) uint32: the words of one block that come from lanes lane0 .. lane1."""
    # views that begin at zero: numba guards an index that might be negative, and the guard costs the vectorisation
    out0, out1, out2, out3 = out[lane0:], out[lane0 + 1024 :], out[lane0 + 2048 :], out[lane0 + 3072 :]
    first = uint32(block * 1024 + lane0)
    for lane in range(lane1 - lane0):
        x0, x1, x2, x3 = uint32(first + uint32(lane)), uint32(tensor), uint32(stream), uint32(0)
        k0, k1 = uint32(draw), uint32(seed)
        for _ in range(10):
            p0, p1 = uint64(x0) * uint64(M0), uint64(x2) * uint64(M1)
            x0, x1 = uint32(uint32(p1 >> uint64(32)) ^ x1 ^ k0), uint32(p1)
            x2, x3 = uint32(uint32(p0 >> uint64(32)) ^ x3 ^ k1), uint32(p0)
            k0, k1 = uint32(k0 + W0), uint32(k1 + W1)
        out0[lane], out1[lane], out2[lane], out3[lane] = x0, x1, x2, x3


@jit
def _words_between(block, j0, j1, draw, seed, tensor, stream, out):
    """The words j0 .. j1 of a block, computing no lane that none of them needs."""
    if j1 - j0 >= 1024:
        _words(block, 0, 1024, draw, seed, tensor, stream, out)
        return
    lane0, lane1 = j0 & 1023, ((j1 - 1) & 1023) + 1
    if lane0 < lane1:
        _words(block, lane0, lane1, draw, seed, tensor, stream, out)
    else:
        _words(block, lane0, 1024, draw, seed, tensor, stream, out)
        _words(block, 0, lane1, draw, seed, tensor, stream, out)


@jit
def _normals(words, n, out):
    """out[:n] = the standard normals of words[:n], operation for operation as in philox.normal_from_words."""
    for j in range(n):
        u = float32(int32(2 * (int32(words[j]) >> int32(8)) + 1)) * SCALE24
        magnitude = abs(u)
        bits = _bits_of((ONE - magnitude) * (ONE + magnitude))
        exponent = int32(int32(bits - SQRT_HALF_BITS) >> int32(23))
        f = _float_of(int32(bits - int32(exponent << int32(23)))) - ONE
        f2 = f * f
        log = (L6 * f2 + (L5 * f + L4)) * (f2 * f2) + ((L3 * f + L2) * f2 + (L1 * f + L0))
        w = float32(exponent) * MINUS_LN2 + f * log
        central = w < FIVE
        v = w - MIDDLE if central else np.sqrt(w) - THREE
        v2 = v * v
        p3 = (C7 if central else T7) * v + (C6 if central else T6)
        p2 = (C5 if central else T5) * v + (C4 if central else T4)
        p1 = (C3 if central else T3) * v + (C2 if central else T2)
        p0 = (C1 if central else T1) * v + (C0 if central else T0)
        out[j] = u * ((p3 * v2 + p2) * (v2 * v2) + (p1 * v2 + p0))


@jit
def _signs(words, bit, n, out):
    """out[:n] = +1 where the bit is 0, -1 where it is 1: the bit moved to the sign of 1.0."""
    shift = uint32(31 - bit)
    for j in range(n):
        out[j] = _float_of(int32(uint32(0x3F800000) | (uint32(words[j] << shift) & uint32(0x80000000))))


@jit
def _draw(law, block, j0, j1, draw, seed, tensor, stream, words, cached, z):
    """z[:j1 - j0] = elements j0 .. j1 of the 4,096 numbered `block`; returns which block of words is now in `words`."""
    if law == 0:
        _words_between(block, j0, j1, draw, seed, tensor, stream, words)
        _normals(words[j0:], j1 - j0, z)
        return -1
    if cached != block >> 5:
        _words_between(block >> 5, j0 if j1 - j0 < 4096 else 0, j1, draw, seed, tensor, stream, words)
    _signs(words[j0:], block & 31, j1 - j0, z)
    return block >> 5 if j1 - j0 == 4096 else -1


@jit
def _to_bfloat16(x):
    bits = uint32(_bits_of(x))
    rounded = uint32(bits + uint32(0x7FFF) + ((bits >> uint32(16)) & uint32(1))) >> uint32(16)
    return np.uint16(rounded if x == x else uint32(0x7FC0))


@jit
def _from_float16(h):
    magnitude = uint32(h & uint32(0x7FFF)) << uint32(13)
    exponent = magnitude & uint32(0x0F800000)
    normal = uint32(magnitude + uint32(0x38000000))  # exponent bias 15 -> 127
    value = _float_of(int32(normal))
    special = _float_of(int32(normal + uint32(0x38000000)))  # infinity and NaN
    subnormal = _float_of(int32(normal + uint32(0x00800000))) - _float_of(int32(0x38800000))
    value = special if exponent == uint32(0x0F800000) else (subnormal if exponent == uint32(0) else value)
    return _float_of(int32(uint32(_bits_of(value)) | (uint32(h & uint32(0x8000)) << uint32(16))))


@jit
def _to_float16(x):
    bits = uint32(_bits_of(x))
    sign = (bits & uint32(0x80000000)) >> uint32(16)
    magnitude = bits & uint32(0x7FFFFFFF)
    odd = (magnitude >> uint32(13)) & uint32(1)
    normal = uint32(magnitude + uint32(0xC8000FFF) + odd) >> uint32(13)  # round to nearest even
    small = uint32(_bits_of(_float_of(int32(magnitude)) + float32(0.5))) - uint32(0x3F000000)
    huge = uint32(0x7E00) if magnitude > uint32(0x7F800000) else uint32(0x7C00)
    value = small if magnitude < uint32(0x38800000) else normal
    value = huge if magnitude >= uint32(0x47800000) else value
    return np.uint16(value | sign)


@jit
def _scratch(terms):
    """What one thread works in: words and the block that they are, normals, and the sums in either precision."""
    cached = np.full(terms, -1, np.int64)
    sums = np.empty(4096, np.float32), np.empty(4096, np.float64)
    return np.empty((terms, 4096), np.uint32), cached, np.empty(4096, np.float32), *sums


@jit
def _combine(dtype, base, out, size, offset, tensor, start, laws, draws, seeds, streams, coefs, lo, hi, scratch):
    """Blocks lo .. hi of a list of tensors: out = base + sum_k coefs[t, k] z_k, one rounding at the write.

    base, out: addresses; size, offset: elements, and where the first lies in its tensor; start: first block of each.
    """
    terms = len(laws)
    words, cached, z, acc, acc64 = scratch
    cached[:] = -1
    like8, like16 = np.empty(0, np.uint8), np.empty(0, np.uint16)
    like32, like64 = np.empty(0, np.float32), np.empty(0, np.float64)
    t = np.searchsorted(start, lo, side="right") - 1
    for number in range(lo, hi):
        while number >= start[t + 1]:
            t += 1
            cached[:] = -1
        block = offset[t] // 4096 + number - start[t]
        j0 = max(offset[t] - block * 4096, 0)
        j1 = min(offset[t] + size[t] - block * 4096, 4096)
        n = j1 - j0
        for k in range(terms):
            cached[k] = _draw(laws[k], block, j0, j1, draws[k], seeds[k], tensor[t], streams[k], words[k], cached[k], z)
            c32, c64 = float32(coefs[t, k]), coefs[t, k]
            if dtype == 1:
                if k == 0:
                    for j in range(n):
                        acc64[j] = c64 * float64(z[j])
                else:
                    for j in range(n):
                        acc64[j] = acc64[j] + c64 * float64(z[j])
            elif k == 0:
                if terms > 1 or dtype > 1:
                    for j in range(n):
                        acc[j] = c32 * z[j]
            else:
                for j in range(n):
                    acc[j] = acc[j] + c32 * z[j]
        item = 4 if dtype == 0 else (8 if dtype == 1 else 2)
        at = (block * 4096 + j0 - offset[t]) * item
        apart = base[t] != out[t]
        if apart and dtype == 0 and terms == 1:  # the common case of a probe, without a detour
            b32, o32, c32 = _array_at(base[t] + at, n, like32), _array_at(out[t] + at, n, like32), float32(coefs[t, 0])
            for j in range(n):
                o32[j] = b32[j] + c32 * z[j]
            continue
        if apart:  # copy, then in place: two views of one memory would fail the vectoriser's overlap check
            source, target = _array_at(base[t] + at, n * item, like8), _array_at(out[t] + at, n * item, like8)
            for j in range(n * item):
                target[j] = source[j]
        if dtype == 0:
            o32 = _array_at(out[t] + at, n, like32)
            if terms == 1:  # the common case, without the detour through acc
                c32 = float32(coefs[t, 0])
                for j in range(n):
                    o32[j] = o32[j] + c32 * z[j]
            else:
                for j in range(n):
                    o32[j] = o32[j] + acc[j]
        elif dtype == 1:
            o64 = _array_at(out[t] + at, n, like64)
            for j in range(n):
                o64[j] = o64[j] + acc64[j]
        else:
            o16 = _array_at(out[t] + at, n, like16)
            if dtype == 2:
                for j in range(n):
                    o16[j] = _to_bfloat16(_float_of(int32(uint32(o16[j]) << uint32(16))) + acc[j])
            else:
                for j in range(n):
                    o16[j] = _to_float16(_from_float16(o16[j]) + acc[j])


@intrinsic
def _take(typingctx, counter):
    """Add one to the int64 at this address, atomically; returns what it was."""
    word = ir.IntType(64)

    def codegen(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], word.as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(word, 1), "monotonic")

    return types.int64(types.int64), codegen


@numba.cfunc(types.void(types.int64), nopython=True, cache=True)
def _team(address):
    """What each thread of a team does: take chunks of blocks until there are none. `address`: the table of `combine`."""
    like, like_coefs = np.empty(0, np.int64), np.empty(0, np.float64)
    job = _array_at(address, 17, like)
    blocks, chunk, dtype, tensors, terms = job[1], job[2], job[3], job[4], job[5]
    base, out, size = (
        _array_at(job[6], tensors, like),
        _array_at(job[7], tensors, like),
        _array_at(job[8], tensors, like),
    )
    offset, tensor = _array_at(job[9], tensors, like), _array_at(job[10], tensors, like)
    start = _array_at(job[11], tensors + 1, like)
    laws, draws = _array_at(job[12], terms, like), _array_at(job[13], terms, like)
    seeds, streams = _array_at(job[14], terms, like), _array_at(job[15], terms, like)
    coefs = _array_at(job[16], tensors * terms, like_coefs).reshape(tensors, terms)
    scratch = _scratch(terms)
    while True:
        lo = _take(address) * chunk
        if lo >= blocks:
            return
        hi = min(lo + chunk, blocks)
        _combine(dtype, base, out, size, offset, tensor, start, laws, draws, seeds, streams, coefs, lo, hi, scratch)


@cache
def _torch_openmp() -> Callable[..., Any] | None:
    """GOMP_parallel of the OpenMP library that torch itself runs on, where there is one.

    On torch's own threads the kernels need no second pool: nobody waits for a thread to wake up, and nobody spins against us.
    """
    try:
        maps = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    loaded = {line.split()[-1] for line in maps if "omp" in line.rpartition("/")[2]}
    for path in sorted(loaded, key=lambda p: "torch" not in p):
        library = ctypes.CDLL(path)
        if hasattr(library, "GOMP_parallel"):
            library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            library.GOMP_parallel.restype = None
            return library.GOMP_parallel
    return None


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads of our own, for a torch without OpenMP."""
    return ThreadPoolExecutor(threads, thread_name_prefix="zobench-kernel")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def combine(dtype: torch.dtype, base, out, size, offset, tensor, laws, draws, seeds, streams, coefs) -> None:
    """Run `_combine` over all blocks of the listed pieces, on as many threads as torch uses.

    base, out (T,) int64 addresses; size, offset, tensor (T,) int64; laws, draws, seeds, streams (K,) int64; coefs (T, K).
    """
    first, last = offset // 4096, (offset + size + 4095) // 4096
    start = np.concatenate([[0], np.cumsum(last - first)])
    blocks, threads = int(start[-1]), torch.get_num_threads()
    tables = (base, out, size, offset, tensor, start, laws, draws, seeds, streams, coefs)
    if blocks <= SMALL or threads == 1:
        _combine(DTYPES[dtype], *tables, 0, blocks, _scratch(len(laws)))
        return
    tables = tuple(np.ascontiguousarray(t) for t in tables)
    chunk = max(blocks // (threads * SHARES), SMALL)
    head = (0, blocks, chunk, DTYPES[dtype], len(base), len(laws))
    _share_out(_team, np.array([*head, *(t.ctypes.data for t in tables)], np.int64), threads)


def _share_out(work: Any, job: np.ndarray, threads: int) -> None:
    """Run the cfunc `work` on the table `job`, once on each thread."""
    team = _torch_openmp()
    if team is not None:
        team(work.address, job.ctypes.data, threads, 0)
        return
    waiting = [_pool(threads - 1).submit(work.ctypes, job.ctypes.data) for _ in range(threads - 1)]
    try:
        work.ctypes(job.ctypes.data)
    finally:
        for future in waiting:  # the buffers must outlive every writer, also when this thread is interrupted
            future.result()


@jit
def _combine_runs(dtype, base, out, size, offset, tensor, start, laws, draws, seeds, streams, coefs, lo, hi, scratch):
    """`_combine` over whole tensors for runs lo .. hi, each with its own addresses, seeds and coefficients."""
    for s in range(lo, hi):
        _combine(
            dtype, base[s], out[s], size, offset, tensor, start, laws[s], draws[s], seeds[s], streams[s], coefs[s],
            0, start[-1], scratch,
        )  # fmt: skip


def combine_runs(dtype: torch.dtype, base, out, size, laws, draws, seeds, streams, coefs) -> None:
    """out = base + sum_k c_k z_k for S runs over the same T tensors of one dtype.

    base, out (S, T) int64 addresses; size (T,) int64; laws, draws, seeds, streams (S, K) int64; coefs (S, T, K).
    """
    runs, tensors = base.shape
    start = np.concatenate([[0], np.cumsum((size + 4095) // 4096)])
    numbers = np.arange(tensors, dtype=np.int64)
    tables = (base, out, size, np.zeros_like(numbers), numbers, start, laws, draws, seeds, streams, coefs)
    threads = min(torch.get_num_threads(), runs)
    if runs * int(size.sum()) < WORTH_SHARING or threads == 1:
        _combine_runs(DTYPES[dtype], *tables, 0, runs, _scratch(laws.shape[1]))
        return
    cuts = [runs * i // threads for i in range(threads + 1)]
    parts = [(DTYPES[dtype], *tables, lo, hi, _scratch(laws.shape[1])) for lo, hi in zip(cuts, cuts[1:], strict=False)]
    waiting = [_pool(threads - 1).submit(_combine_runs, *part) for part in parts[1:]]
    try:
        _combine_runs(*parts[0])
    finally:
        for future in waiting:
            future.result()


# --- squared norms ---


@jit
def _sum_of_squares(z, n, squares):
    """The float64 sum of z[:n]^2: halves added onto each other until one number is left. The order is part of the law."""
    width = 1
    while width < n:
        width *= 2
    for j in range(n):
        squares[j] = float64(z[j]) * float64(z[j])  # exact
    squares[n:width] = 0.0
    while width > 1:
        width //= 2
        low, high = squares[:width], squares[width:]
        for j in range(width):
            low[j] = low[j] + high[j]
    return squares[0]


@jit
def _squares(size, tensor, start, draw, stream, seeds, lo, hi, out):
    """out[lo:hi]: the sums over gaussian blocks lo .. hi, counted through the tensors of the first seed, then the next."""
    words, z, squares = np.empty(4096, np.uint32), np.empty(4096, np.float32), np.empty(4096, np.float64)
    blocks = start[-1]
    for number in range(lo, hi):
        at = number % blocks
        t = np.searchsorted(start, at, side="right") - 1
        block = at - start[t]
        n = min(size[t] - block * 4096, 4096)
        _words_between(block, 0, n, draw, seeds[number // blocks], tensor[t], stream, words)
        _normals(words, n, z)
        out[number] = _sum_of_squares(z, n, squares)


@numba.cfunc(types.void(types.int64), nopython=True, cache=True)
def _squares_team(address):
    """What each thread of a team does. `address`: the table of `squares`."""
    like = np.empty(0, np.int64)
    job = _array_at(address, 12, like)
    blocks, chunk, tensors, runs, draw, stream = job[1], job[2], job[3], job[4], job[5], job[6]
    size, tensor = _array_at(job[7], tensors, like), _array_at(job[8], tensors, like)
    start, seeds = _array_at(job[9], tensors + 1, like), _array_at(job[10], runs, like)
    out = _array_at(job[11], blocks, np.empty(0, np.float64))
    while True:
        lo = _take(address) * chunk
        if lo >= blocks:
            return
        _squares(size, tensor, start, draw, stream, seeds, lo, min(lo + chunk, blocks), out)


def squares(size: np.ndarray, tensor: np.ndarray, draw: int, stream: int, seeds: np.ndarray) -> np.ndarray:
    """(S, blocks) float64: the sum of squares of each block of a gaussian draw, for S seeds.

    size, tensor (T,) int64: elements of each tensor, and its number in the generator. seeds (S,) int64.
    """
    start = np.concatenate([[0], np.cumsum((size + 4095) // 4096)])
    blocks, threads = int(start[-1]) * len(seeds), torch.get_num_threads()
    out = np.empty(blocks)
    if blocks <= SMALL or threads == 1:
        _squares(size, tensor, start, draw, stream, seeds, 0, blocks, out)
    else:
        chunk = max(blocks // (threads * SHARES), SMALL)
        tables = tuple(t.ctypes.data for t in (size, tensor, start, seeds, out))
        _share_out(_squares_team, np.array([0, blocks, chunk, len(size), len(seeds), draw, stream, *tables]), threads)
    return out.reshape(len(seeds), -1)
