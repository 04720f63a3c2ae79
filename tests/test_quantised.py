"""Entries that quantise the weights themselves: what lies on the grid stays there, and rounding favours no side."""

import pytest
import torch
from torch import nn

from zobench.core import quantise
from zobench.core.perturb import materialise
from zobench.core.trace import Trace
from zobench.core.zeroth_order import replay
from zobench.optimizers import QZO, QuZO  # type: ignore[attr-defined]

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Quadratic(nn.Module):
    """|W - T|^2 / 2 + |v - t|^2 / 2; the targets can be put on the grid of the start."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.w = nn.Parameter(torch.randn(4, 6, generator=generator, dtype=torch.float64).to(dtype))
        self.v = nn.Parameter(torch.randn(5, generator=generator, dtype=torch.float64).to(dtype))
        self.targets = [torch.zeros_like(self.w), torch.zeros_like(self.v)]

    def forward(self):
        pairs = zip((self.w, self.v), self.targets, strict=True)
        return sum((p.double() - t.double()).square().sum() for p, t in pairs) / 2


def codes_of(opt):
    return [quantise.codes(p.data, opt.state[p]["scale"], opt.bits) for p in opt.tensors]


def off_grid(opt):
    worst = 0.0
    for p, codes in zip(opt.tensors, codes_of(opt), strict=True):
        again = p.detach().clone()
        quantise.write(again, codes, opt.state[p]["scale"])
        worst = max(worst, (again - p).abs().max().item())
        assert codes.abs().max() <= quantise.largest(opt.bits)
    return worst


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bits", (2, 4, 8))
@pytest.mark.parametrize("scales", ("tensor", "row"))
def test_the_grid_holds_its_weights(dtype, bits, scales):
    w = Quadratic(dtype).w.data
    scale = quantise.fit(w, bits, scales)
    codes, rounded = quantise.codes(w, scale, bits), w.clone()
    assert codes.abs().max() == quantise.largest(bits)
    quantise.write(rounded, codes, scale)
    assert torch.equal(quantise.codes(rounded, scale, bits), codes), "a code cannot be read back from its weight"
    half = quantise.spread(scale, w) / 2 + 2e-2 * w.abs().max().to(scale)
    assert ((rounded - w).to(scale).abs() <= half).all()
    whole = quantise.spread_part(scale, w, slice(0, w.numel()))
    assert torch.equal(whole.expand(w.numel()).view(w.shape), quantise.spread(scale, w).expand(w.shape))


def test_a_tensor_of_zeros_has_a_grid():
    scale = quantise.fit(torch.zeros(3, 2), 8, "row", span=2.0)
    assert torch.allclose(scale * 127, torch.full((3,), 2.0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cls", (QuZO, QZO))
@pytest.mark.parametrize("bits", (4, 8))
def test_weights_are_on_the_grid_at_every_step(cls, dtype, bits):
    model = Quadratic(dtype)
    opt = cls(model, lr=0.001 if cls is QuZO else 1e-5, seed=3, bits=bits)
    start = codes_of(opt)
    for _ in range(12):
        assert off_grid(opt) == 0
        opt.step(model)
    assert off_grid(opt) == 0
    moved = not all(map(torch.equal, start, codes_of(opt)))
    assert moved == (cls is QuZO), "QuZO moves codes, QZO only scales"


def test_quzo_probes_are_on_the_grid():
    model = Quadratic()
    opt = QuZO(model, seed=3, eps=0.05)
    z = opt.rounded(opt.draw())
    for i, p in enumerate(opt.tensors):
        steps = opt.eps * materialise(z, p.data, i) / quantise.spread(opt.state[p]["scale"], p)
        assert torch.allclose(steps, steps.round(), atol=1e-6) and steps.abs().max() >= 1


def test_quzo_rounds_without_bias():
    """The mean over many independent roundings of one direction is that direction, within four standard errors."""
    model, n = Quadratic(), 4000
    opt = QuZO(model, seed=3, bits=4, eps=0.05)
    u = opt.draw()
    for i, p in enumerate(opt.tensors):
        exact = materialise(u, p.data, i)
        drawn = torch.stack([materialise(opt.rounded(u), p.data, i) for _ in range(n)])
        step = quantise.spread(opt.state[p]["scale"], p) / opt.eps
        up = (exact / step) % 1
        assert ((drawn.mean(0) - exact).abs() < 4.5 * step * (up * (1 - up) / n).sqrt() + 1e-6).all()


def test_the_two_roundings_of_quzo_are_independent():
    opt = QuZO(Quadratic(), seed=3, bits=4, eps=0.05)
    u = opt.draw()
    exact = materialise(u, opt.tensors[0].data, 0)
    first, second = (
        torch.stack([materialise(opt.rounded(u), opt.tensors[0].data, 0) for _ in range(2000)]) for _ in "12"
    )
    product = ((first - exact) * (second - exact)).mean(0)
    assert (product.abs() < 5 * (first - exact).std(0) * (second - exact).std(0) / 2000**0.5 + 1e-6).all()


@pytest.mark.parametrize("scales", ("tensor", "row"))
def test_quzo_finds_an_optimum_on_the_grid(scales):
    model = Quadratic()
    opt = QuZO(model, lr=0.01, seed=3, eps=0.05, scales=scales)
    generator = torch.Generator().manual_seed(9)
    model.targets = [p.data[torch.randperm(len(p), generator=generator)].clone() for p in opt.tensors]
    for p, target in zip(opt.tensors, model.targets, strict=True):
        limit = quantise.spread(opt.state[p]["scale"], p) * quantise.largest(8)
        target.copy_(torch.minimum(torch.maximum(target, -limit), limit))
        quantise.write(target, quantise.codes(target, opt.state[p]["scale"], 8), opt.state[p]["scale"])
    start = float(model().detach())
    for _ in range(1200):
        opt.step(model)
    assert float(model().detach()) < 0.02 * start


def test_qzo_finds_its_scales():
    """With targets of the same codes at other scales, the scales are all that is to be found."""
    model = Quadratic()
    opt = QZO(model, lr=0.0005, seed=3)
    factors = torch.tensor([0.5, 1.5, 0.8, 1.2], dtype=torch.float64)[:, None]
    model.targets = [model.w.data * factors, model.v.data * 0.7]
    start = float(model().detach())
    for _ in range(1500):
        opt.step(model)
    assert float(model().detach()) < 1e-3 * start


def test_qzo_scales_are_clipped_at_zero():
    model = Quadratic()
    model.targets = [-model.w.data.clone(), -model.v.data.clone()]
    opt = QZO(model, lr=0.01, seed=3, clip=50.0)
    for _ in range(60):
        before = [opt.state[p]["scale"].clone() for p in opt.tensors]
        opt.step(model)
        for p, old in zip(opt.tensors, before, strict=True):
            assert (opt.state[p]["scale"] >= 0).all()
            assert ((opt.state[p]["scale"] - old).abs() <= 0.01 * 50 * 6).all()
    assert any((opt.state[p]["scale"] == 0).any() for p in opt.tensors)


@pytest.mark.parametrize("guide", ("none", "gv", "greedy"))
@pytest.mark.parametrize("cls", (QuZO, QZO))
def test_they_replay_and_combine_with_guides(cls, guide):
    model, again = Quadratic(torch.float32), Quadratic(torch.float32)
    options = dict(lr=0.001, seed=5, guide=guide, candidates=3)
    opt = cls(model, **options)
    trace = opt.record()
    for _ in range(15):
        opt.step(model)
        assert off_grid(opt) == 0
    columns = {k.removeprefix("trace_"): v for k, v in trace.to_columns().items()}
    replay(cls(again, **options), Trace.from_columns(**columns))
    assert torch.equal(model.w, again.w) and torch.equal(model.v, again.v)


@pytest.mark.parametrize("cls", (QuZO, QZO))
def test_state_keeps_its_dtypes_over_a_state_dict(cls):
    model, again = Quadratic(torch.bfloat16), Quadratic(torch.bfloat16)
    opt, fresh = cls(model, seed=1, lr=0.001), cls(again, seed=1, lr=0.001)
    opt.step(model)
    again.load_state_dict(model.state_dict())
    fresh.load_state_dict(opt.state_dict())
    for p, q in zip(opt.tensors, fresh.tensors, strict=True):
        assert {k: v.dtype for k, v in opt.state[p].items()} == {k: v.dtype for k, v in fresh.state[q].items()}
    opt.step(model)
    fresh.step(again)
    assert torch.equal(model.w, again.w)


@pytest.mark.parametrize("cls", (QuZO, QZO))
def test_more_than_eight_bits_are_refused(cls):
    with pytest.raises(ValueError, match=r"bits must be .*<= 8"):
        cls(Quadratic(), bits=9)
