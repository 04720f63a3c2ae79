"""The numbers behind every direction: Philox4x32-10 and the laws drawn from it, in plain torch.

This is the reference. Every other backend must give the same bits, whatever the device, dtype, thread count or slice.
Source of the generator: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Random123).

Layout: key = (draw, run seed), counter = (1024 * block + lane, tensor, stream, 0). A block is 1,024 counters, hence 4,096
words; word j of a block is output j // 1024 of lane j % 1024, so that neighbouring elements come from neighbouring lanes.
Gaussian takes one word per element, Rademacher one bit: 32 consecutive runs of 4,096 elements share the words of a block.
"""

from __future__ import annotations

import torch
from torch import Tensor

DIRECTION, SECOND, FACTOR_U, FACTOR_V, ROUNDING, WEIGHTS, NOISE = range(7)  # the streams of a draw

LANES, BLOCK, BITS = 1024, 4096, 32
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF

# |z| = |u| P(w) with w = -ln(1 - u^2): minimax fits of degree 7 in w - 2.5 (w < 5) and in sqrt(w) - 3 (w >= 5), and of
# -ln(1 + f) / f. Together with rounding the relative error stays below 5e-7 over all 2^24 values (tested exhaustively).
CENTRAL = (
    4.463726099857013e-07, -4.5055203372612596e-06, -5.790069280919852e-06, 0.00030735955806449056,
    -0.0017743168864399195, -0.005906121805310249, 0.34880363941192627, 2.1233131885528564,
)  # fmt: skip
TAIL = (
    -5.1099457778036594e-05, 0.0015267756534740329, -0.004993553273379803, 0.008288403041660786,
    -0.01083708181977272, 0.013322205282747746, 1.4165847301483154, 4.006434917449951,
)  # fmt: skip
LOG = (
    -0.11827477812767029, 0.18901978433132172, -0.20604673027992249, 0.24881339073181152,
    -0.3330329954624176, 0.5000196695327759, -1.0000032186508179,
)  # fmt: skip
MINUS_LN2 = -0.6931471824645996
SQRT_HALF_BITS = 0x3F3504F3


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Philox4x32-10. Counter words are int64 tensors holding 32-bit values; so are the four outputs."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = x0 * MULTIPLIERS[0], x2 * MULTIPLIERS[1]  # wraps modulo 2^64, which keeps all 64 bits
        x0, x1, x2, x3 = ((p1 >> 32) & MASK) ^ x1 ^ k0, p1 & MASK, ((p0 >> 32) & MASK) ^ x3 ^ k1, p0 & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return x0, x1, x2, x3


def words(
    seed: int, draw: int, tensor: int, stream: int, first: int, blocks: int, device: str | torch.device = "cpu"
) -> Tensor:
    """(blocks, 4096) int64: the words of `blocks` consecutive blocks."""
    lanes = torch.arange(first * LANES, (first + blocks) * LANES, dtype=torch.int64, device=device)
    fixed = [torch.full_like(lanes, value) for value in (tensor, stream, 0)]
    out = philox((lanes, *fixed), (draw & MASK, seed & MASK))
    return torch.stack([word.view(blocks, LANES) for word in out], dim=1).view(blocks, BLOCK)


def _line(c1: float, c0: float, x: Tensor) -> Tensor:
    value = x * c1  # two operations: addcmul would contract them into one, with other bits
    return value + c0


def _degree7(c: tuple[float, ...], x: Tensor) -> Tensor:
    """Estrin's scheme, in this order of operations: half the latency of Horner's, and the order is part of the law."""
    x2 = x * x
    high = _line(c[0], c[1], x) * x2 + _line(c[2], c[3], x)
    low = _line(c[4], c[5], x) * x2 + _line(c[6], c[7], x)
    return high * (x2 * x2) + low


def _log_factor(f: Tensor) -> Tensor:
    c, f2 = LOG, f * f
    high = c[0] * f2 + _line(c[1], c[2], f)
    low = _line(c[3], c[4], f) * f2 + _line(c[5], c[6], f)
    return high * (f2 * f2) + low


def normal_from_words(word: Tensor) -> Tensor:
    """Standard normals, float32, one per 32-bit word: sqrt(2) erfinv(u), u = (int24 + 1/2) / 2^23 from the upper 24 bits.

    IEEE add, multiply, correctly rounded square root and bit operations only, so that every backend can repeat them.
    """
    signed = (word ^ 0x80000000) - 0x80000000
    odd = (2 * (signed >> 8) + 1).to(torch.int32)  # exact in float32: odd and below 2^24
    u = odd.to(torch.float32) * 2.0**-24
    magnitude = u.abs()
    x = (1.0 - magnitude) * (1.0 + magnitude)  # 1 - u^2; the first factor is exact
    bits = x.view(torch.int32)
    exponent = (bits - SQRT_HALF_BITS) >> 23
    f = (bits - (exponent << 23)).view(torch.float32) - 1.0
    w = exponent.to(torch.float32) * MINUS_LN2 + f * _log_factor(f)
    root = torch.sqrt(
        w.double()
    ).float()  # by way of float64: torch's float32 root is not correctly rounded on every CPU
    return u * torch.where(w < 5.0, _degree7(CENTRAL, w - 2.5), _degree7(TAIL, root - 3.0))


def _span(offset: int, n: int, size: int) -> tuple[int, int, int]:
    first, last = offset // size, (offset + n - 1) // size
    return first, last - first + 1, offset - first * size


def normal(
    seed: int, draw: int, tensor: int, stream: int, n: int, offset: int = 0, device: str | torch.device = "cpu"
) -> Tensor:
    """(n,) float32: elements offset .. offset + n of the gaussian tensor numbered `tensor` in this draw and stream."""
    if n == 0:
        return torch.empty(0, device=device)
    first, blocks, skip = _span(offset, n, BLOCK)
    return normal_from_words(words(seed, draw, tensor, stream, first, blocks, device)).view(-1)[skip : skip + n]


def rademacher(
    seed: int, draw: int, tensor: int, stream: int, n: int, offset: int = 0, device: str | torch.device = "cpu"
) -> Tensor:
    """(n,) float32 of -1 and +1: elements offset .. offset + n; bit 0 of a word serves 4,096 elements, bit 1 the next."""
    if n == 0:
        return torch.empty(0, device=device)
    first, blocks, skip = _span(offset, n, BLOCK * BITS)
    word = words(seed, draw, tensor, stream, first, blocks, device)  # (blocks, 4096)
    shift = torch.arange(BITS, device=device)[None, :, None]
    signs = 1.0 - 2.0 * ((word[:, None, :] >> shift) & 1).to(torch.float32)  # (blocks, 32, 4096)
    return signs.view(-1)[skip : skip + n]


def uniform(
    seed: int, draw: int, tensor: int, stream: int, n: int, offset: int = 0, device: str | torch.device = "cpu"
) -> Tensor:
    """(n,) float32 in [0, 1), multiples of 2^-24: elements offset .. offset + n, from the words that `normal` would take."""
    if n == 0:
        return torch.empty(0, device=device)
    first, blocks, skip = _span(offset, n, BLOCK)
    word = words(seed, draw, tensor, stream, first, blocks, device).view(-1)[skip : skip + n]
    return (word >> 8).to(torch.float32) * 2.0**-24


def elements(law: str, seed: int, draw: int, tensor: int, stream: int, index: Tensor) -> Tensor:
    """float32, shaped like `index` (int64): the elements with these numbers, wherever they lie (rows of a table, say)."""
    if law == "gaussian":
        block, j, bit = index // BLOCK, index % BLOCK, None
    else:
        block, j, bit = index // (BLOCK * BITS), index % BLOCK, index // BLOCK % BITS
    counter = (block * LANES + j % LANES, *(torch.full_like(index, v) for v in (tensor, stream, 0)))
    word = torch.stack(philox(counter, (draw & MASK, seed & MASK))).gather(0, (j // LANES)[None])[0]
    return normal_from_words(word) if bit is None else 1.0 - 2.0 * ((word >> bit) & 1).to(torch.float32)


LAWS = {"gaussian": normal, "rademacher": rademacher}
