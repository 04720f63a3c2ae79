"""The generator gives the published words, the stated law, and the same bits however it is asked."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from zobench.core import kernels, philox
from zobench.core.perturb import dense, perturb, perturb_rows, reference, seeded

KNOWN = [  # Random123, kat_vectors, philox4x32 10 rounds: counter, key, output
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize("counter, key, output", KNOWN)
def test_known_answers(counter, key, output):
    words = philox.philox(tuple(torch.tensor([c]) for c in counter), key)
    assert tuple(int(w) for w in words) == output


def test_numba_words_are_the_reference_words():
    out = np.empty(4096, np.uint32)
    kernels._words(77, 0, 1024, 2**32 - 1, 2**32 - 5, 9, 5, out)
    expected = philox.words(2**32 - 5, 2**32 - 1, 9, 5, 77, 1)[0].numpy()
    assert (out == expected).all()


def test_layout_is_the_stated_one():
    """Element j of block b is output j // 1024 of counter (1024 b + j mod 1024, tensor, stream, 0), key (draw, seed)."""
    words = philox.words(11, 22, 33, 4, 2, 1)[0]
    for j in (0, 1023, 1024, 4095):
        counter = tuple(torch.tensor([v]) for v in (1024 * 2 + j % 1024, 33, 4, 0))
        assert words[j] == philox.philox(counter, (22, 11))[j // 1024]


@pytest.mark.slow
def test_relative_error_over_every_value():
    odd = np.arange(1, 2**24, 2, dtype=np.int64)
    word = torch.from_numpy(((odd - 1) // 2) << 8)  # the upper 24 bits, positive half
    z = philox.normal_from_words(word).double().numpy()
    exact = -ndtri((2**24 - odd) / 2**25)
    assert np.abs(z / exact - 1).max() < 1e-6
    assert z.max() <= 5.42
    fast = np.empty(len(odd), np.float32)
    kernels._normals(word.numpy().astype(np.uint32), len(odd), fast)
    assert (fast == z.astype(np.float32)).all()


def test_relative_error_sampled_and_extremes():
    odd = np.unique(np.concatenate([np.arange(1, 4001, 2), 2**24 - np.arange(1, 4001, 2), np.arange(1, 2**24, 10_002)]))
    z = philox.normal_from_words(torch.from_numpy(((odd - 1) // 2) << 8)).double().numpy()
    assert np.abs(z / -ndtri((2**24 - odd) / 2**25) - 1).max() < 1e-6
    mirrored = philox.normal_from_words(torch.from_numpy((2**32 - 1 - (((odd - 1) // 2) << 8)) & 0xFFFFFF00))
    assert (mirrored.double().numpy() == -z).all()


def test_moments_and_tails_of_the_gaussian():
    z = philox.normal(1, 2, 3, 0, 1 << 20).double().numpy()
    n = len(z)
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    for x in (1.0, 2.0, 3.0, 4.0):
        p = math.erfc(x / math.sqrt(2))
        assert abs((np.abs(z) > x).mean() - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_moments_of_rademacher():
    z = philox.rademacher(1, 2, 3, 0, 1 << 20)
    assert set(z.unique().tolist()) == {-1.0, 1.0}
    assert abs(z.double().mean()) < 4 / 1024


@pytest.mark.parametrize("law", philox.LAWS)
def test_neighbours_are_uncorrelated(law):
    """Adding the tensor's number to the seed would make z(100, 1) equal z(101, 0); here every coordinate counts."""
    n, base = 1 << 16, (100, 7, 1, 0)
    names = (
        [base] + [tuple(v + (k == i) for k, v in enumerate(base)) for i in range(4)] + [(101, 7, 0, 0), (99, 7, 2, 0)]
    )
    drawn = torch.stack([philox.LAWS[law](*name, n) for name in names]).double()
    off = drawn @ drawn.T / n - torch.diag((drawn * drawn).mean(1))
    assert off.abs().max() < 5 / math.sqrt(n)
    shifted = (drawn[0, 1:] * drawn[0, :-1]).mean(), (drawn[0, 1024:] * drawn[0, :-1024]).mean()
    assert max(abs(float(s)) for s in shifted) < 5 / math.sqrt(n)


@pytest.mark.parametrize("law", philox.LAWS)
def test_a_slice_equals_the_part_of_the_whole(law):
    whole = philox.LAWS[law](5, 6, 7, 1, 300_000)
    for offset, n in ((0, 1), (1023, 2), (4095, 4098), (131_071, 3), (131_072, 5000), (299_999, 1)):
        assert torch.equal(philox.LAWS[law](5, 6, 7, 1, n, offset), whole[offset : offset + n])
    index = torch.tensor([[0, 299_999], [131_072, 4096]])
    assert torch.equal(philox.elements(law, 5, 6, 7, 1, index), whole[index])


DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("law", philox.LAWS)
def test_backends_agree_bit_for_bit(dtype, law):
    torch.manual_seed(0)
    tensors = [torch.randn(300, 71), torch.randn(13), torch.randn(140_000), torch.randn(1)]
    tensors = [t.to(dtype) for t in tensors]
    direction = 0.3 * seeded(law, 3, 9) - 0.7 * seeded("gaussian", 4, 9, 1) + 1e-4 * seeded("rademacher", 4, 2)
    fast, slow = ([torch.empty_like(t) for t in tensors] for _ in range(2))
    perturb(tensors, fast, direction, scale=[1.0, -2.5, 1e-3, 1e4])
    with reference():
        perturb(tensors, slow, direction, scale=[1.0, -2.5, 1e-3, 1e4])
    assert all(torch.equal(a, b) for a, b in zip(fast, slow, strict=True))
    rows = torch.tensor([0, 299, 17])
    part = perturb_rows(tensors[0], rows, direction, 0)
    whole = torch.empty_like(tensors[0])
    perturb(tensors[:1], [whole], direction)
    assert torch.equal(part, whole[rows])


def test_the_combination_is_the_stated_arithmetic():
    """w + (c1 z1 + c2 z2), each operation rounded once, in float32; z cast exactly and all of it in float64 for float64."""
    z1, z2 = philox.normal(9, 3, 0, 0, 5000), philox.normal(9, 4, 0, 0, 5000)
    for dtype, wide in ((torch.float32, np.float32), (torch.float64, np.float64)):
        w = torch.linspace(-1, 1, 5000, dtype=dtype)
        out = torch.empty_like(w)
        perturb([w], [out], 0.1 * seeded("gaussian", 3, 9) + 0.3 * seeded("gaussian", 4, 9))
        a, b = (wide(c) * z.numpy().astype(wide) for c, z in ((0.1, z1), (0.3, z2)))
        assert (out.numpy() == w.numpy() + (a + b)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_thread_count_changes_nothing(dtype):
    w = torch.zeros(200_000, dtype=dtype)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = torch.empty_like(w)
            perturb([w], [out], seeded("gaussian", 1, 1))
            results.append(out)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_z_is_the_same_in_every_dtype():
    drawn = []
    for dtype in DTYPES:
        out = torch.empty(5000, dtype=dtype)
        perturb([torch.zeros(5000, dtype=dtype)], [out], seeded("gaussian", 1, 1))
        drawn.append(out)
    assert all(torch.equal(drawn[1].to(d.dtype), d) for d in drawn)


def test_half_precision_conversions_are_torchs():
    bits = torch.randint(-(2**31), 2**31, (200_000,)).to(torch.int32)
    edge = torch.tensor([65504.0, 65519.996, 65520.0, 1e30, 2**-24, 2**-25, 2**-25 * 1.0001, 6.1e-5, -0.0, math.inf])
    x = torch.cat([bits.view(torch.float32), edge, -edge])
    x = x[~x.isnan()]
    for dtype in (torch.bfloat16, torch.float16):
        source, out = x.to(dtype), torch.empty_like(x, dtype=dtype)
        perturb([source], [out], 1e-60 * seeded("gaussian", 1, 1))  # vanishes in float32: a round trip
        assert torch.equal(out, source)
    convert = numba_map(kernels._to_float16)
    assert (convert(x.numpy()) == x.half().view(torch.uint16).numpy()).all()


def numba_map(fn):
    import numba

    @numba.njit
    def apply(x):
        out = np.empty(len(x), np.uint16)
        for i in range(len(x)):
            out[i] = fn(x[i])
        return out

    return apply


def test_the_primitive_is_a_proper_custom_operator():
    base, out = [torch.randn(7), torch.randn(3, 2)], [torch.zeros(7), torch.zeros(3, 2)]
    numbers = ([0, 1], [0, 0], [0], [1], [2], [0], [0.5, 0.5])
    torch.library.opcheck(torch.ops.zobench.combine.default, (base, out, *numbers))


def test_general_and_fused_paths_agree():
    w = [torch.randn(3000, dtype=torch.float64)]
    z = seeded("gaussian", 1, 5)
    numbers = torch.zeros_like(w[0])
    perturb([numbers], [numbers], z)
    a, b = torch.empty_like(w[0]), torch.empty_like(w[0])
    perturb(w, [a], 0.25 * z)
    perturb(w, [b], 0.25 * dense([numbers]))
    assert torch.equal(a, b)


def test_non_contiguous_tensors_are_served():
    w = torch.randn(40, 30).t()
    out, expected = torch.empty(30, 40), torch.empty(30, 40)
    perturb([w], [out], seeded("gaussian", 1, 5))
    perturb([w.contiguous()], [expected], seeded("gaussian", 1, 5))
    assert torch.equal(out, expected)
