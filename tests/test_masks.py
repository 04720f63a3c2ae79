"""Sparse directions have the density that they promise, and the same mask in probes and update; layers that rest, rest."""

import math

import pytest
import torch
from torch import nn

from zobench.contract import Specimen
from zobench.core.masks import gaussian_cut, share_within, threshold
from zobench.core.perturb import materialise
from zobench.optimizers import LeZO, MeZO, MeZOSVRG, SparseMeZO, ZOBlock, ZOHybrid, ZOSparse


def model(dtype=torch.float64, width=60):
    torch.manual_seed(0)
    built = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 5)).to(dtype)
    with torch.no_grad():
        built[2].weight.mul_(3)
    return built


def loss_of(built):
    x = torch.linspace(-1, 1, built[0].in_features, dtype=built[0].weight.dtype)
    return lambda batch=None: built(x).double().square().sum()


def moved(cls, built=None, **options):
    """(optimizer, weights before, weights after one step)."""
    built = built or model()
    opt = cls(built, lr=1e-3, seed=3, **options)
    before = [p.detach().clone() for p in built.parameters()]
    opt.step(loss_of(built))
    return opt, before, [p.detach() for p in built.parameters()]


# --- thresholds ---


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_threshold_is_the_order_statistic(dtype, fraction):
    torch.manual_seed(1)
    tensors = [torch.randn(n, dtype=torch.float64).to(dtype) for n in (7, 40, 3)]
    ordered = sorted(float(x.abs()) for t in tensors for x in t)
    assert threshold(tensors, fraction) == ordered[max(math.ceil(fraction * 50 - 1e-9), 1) - 1]


def test_a_threshold_of_zeros_is_zero():
    assert threshold([torch.zeros(5)], 0.5) == 0.0 == threshold([torch.tensor([0.0, -0.0, 3.0])], 0.6)


def test_a_cut_lets_the_density_through():
    z = torch.randn(200_000, generator=torch.Generator().manual_seed(2))
    for density in (0.0, 0.1, 0.5, 0.9, 1.0):
        assert (z <= gaussian_cut(density)).double().mean() == pytest.approx(density, abs=4e-3)
    assert share_within(torch.tensor([1.0, -2.0, 3.0, 0.5]), 2.0) == 0.75


# --- zo-sparse ---


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_a_random_mask_has_its_density(sparsity):
    _, before, after = moved(ZOSparse, model(width=200), sparsity=sparsity)
    still = torch.cat([(a == b).flatten() for a, b in zip(before, after, strict=True)]).double().mean()
    assert still == pytest.approx(sparsity, abs=0.01)  # 41,000 elements: four standard errors


def test_a_random_mask_stays_for_its_interval_and_for_all_queries():
    opt = ZOSparse(model(), lr=1e-3, seed=3, resample=3, queries=2)
    supports = []
    for _ in range(6):
        before = [p.detach().clone() for p in opt.tensors]
        opt.step(loss_of(opt.evaluator.model))
        probed = materialise(opt.last_probe, opt.tensors[0].data, 0) != 0
        supports.append(before[0] != opt.tensors[0])
        assert torch.equal(probed, supports[-1])
    assert all(torch.equal(supports[k], supports[0]) for k in (1, 2))
    assert all(torch.equal(supports[k], supports[3]) for k in (4, 5)) and not torch.equal(supports[0], supports[3])


def test_global_groups_give_each_tensor_its_share():
    built = model(width=200)
    weights = torch.cat([p.detach().abs().flatten() for p in built.parameters()])
    cut = weights.sort().values[math.ceil(0.7 * len(weights)) - 1]
    shares = [float((p.detach().abs() > cut).double().mean()) for p in built.parameters()]
    for mask, keep in (("random", "small"), ("magnitude", "top")):
        _, before, after = moved(ZOSparse, model(width=200), sparsity=0.7, groups="global", mask=mask, keep=keep)
        found = [float((a != b).double().mean()) for a, b in zip(before, after, strict=True)]
        for i in (0, 2):  # the matrices
            assert found[i] == pytest.approx(shares[i], abs=0.05 if mask == "random" else 1e-12)
    assert shares[2] > 2 * shares[0]


@pytest.mark.parametrize("keep", ["small", "top"])
def test_a_magnitude_mask_moves_the_weights_it_names(keep):
    _, before, after = moved(ZOSparse, sparsity=0.5, mask="magnitude", keep=keep)
    for a, b in zip(before, after, strict=True):
        still, gone = a[a == b].abs(), a[a != b].abs()
        assert len(still) == pytest.approx(a.numel() / 2, abs=1)
        assert (gone.max() < still.min()) if keep == "small" else (still.max() < gone.min())


# --- sparse-mezo ---


def test_sparse_mezo_moves_the_small_weights():
    opt, before, after = moved(SparseMeZO, sparsity=0.8)
    for a, b, h in zip(before, after, opt.memory["thresholds"], strict=True):
        assert torch.equal(a != b, a.abs() <= h)
        assert (a != b).sum() == math.ceil(0.2 * a.numel() - 1e-9)


def test_its_mask_is_that_of_the_unperturbed_weights():
    """With probes that throw every weight over its threshold, the update still moves those below."""
    opt, before, after = moved(SparseMeZO, sparsity=0.5, eps=10.0)
    assert all(
        torch.equal(a != b, a.abs() <= h) for a, b, h in zip(before, after, opt.memory["thresholds"], strict=True)
    )


def test_a_tensor_of_zeros_is_trained_whole_and_goes_on():
    built = model()
    nn.init.zeros_(built[0].bias)
    opt = SparseMeZO(built, lr=1e-3, seed=3)
    for _ in range(2):
        before = built[0].bias.detach().clone()
        opt.step(loss_of(built))
        assert (before != built[0].bias).all()


def test_without_sparsity_both_are_mezo_in_equal_bits():
    expected = moved(MeZO)[2]
    for cls in (SparseMeZO, ZOSparse, LeZO):
        assert all(map(torch.equal, moved(cls, sparsity=0.0)[2], expected))


# --- layers ---


def test_lezo_moves_another_fraction_of_the_layers_each_step():
    built = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(4, 4) for _ in range(8)])}).double()
    opt = LeZO(built, lr=1e-3, seed=1, sparsity=0.75)
    seen = set()
    for _ in range(40):
        before = [p.detach().clone() for p in opt.tensors]
        opt.step(lambda batch=None: sum(layer(torch.ones(4).double()).square().sum() for layer in built["layers"]))
        active = [k for k in range(8) if any((before[i] != opt.tensors[i]).any() for i in (2 * k, 2 * k + 1))]
        assert len(active) == 2
        seen.add(tuple(active))
    assert len(seen) > 10 and {k for active in seen for k in active} == set(range(8))


def test_blocks_have_draws_of_their_own_and_immediate_ones_see_the_moves_before():
    for immediate in (True, False):
        built = Specimen()
        opt = ZOBlock(built, lr=0.05, seed=2, immediate=immediate)
        points, start = [], [p.detach().clone() for p in opt.tensors]

        def closure(batch=None, built=built, opt=opt, points=points):
            points.append([p.detach().clone() for p in opt.tensors])
            return built()

        opt.mode = opt.evaluator.mode = "copy"
        opt.step(closure)
        blocks = opt.blocks()
        assert len(points) == 2 * len(blocks) == opt.cost().forwards
        for k, block in enumerate(blocks):
            plus, minus = points[2 * k : 2 * k + 2]
            for i in range(len(start)):
                centre, differs = (plus[i] + minus[i]) / 2, bool((plus[i] != minus[i]).any())
                assert differs == (i in block)
                earlier = any(i in b for b in blocks[:k])
                expected = opt.tensors[i].detach() if immediate and earlier else start[i]
                assert torch.allclose(centre, expected, rtol=0, atol=1e-12)
        first, second = (materialise(opt.last_probe, opt.tensors[i].data, i) for i in blocks[-1][:2])
        assert not torch.equal(first.flatten()[:2], second.flatten()[:2])


@pytest.mark.parametrize(("level", "blocks"), [("layer", 3), ("part", 5), ("linear", 7)])
def test_cost_counts_the_blocks_of_the_level(level, blocks):
    assert ZOBlock(Specimen(), level=level).cost().forwards == 2 * blocks


# --- hybrid ---


class Deep(nn.Module):
    """Five layers whose widths tell their activations apart."""

    def __init__(self):
        super().__init__()
        widths = [3, 11, 13, 17, 19, 5]
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)])

    def forward(self):
        x = torch.ones(2, 3)
        for layer in self.layers:
            x = layer(x).tanh()
        return x.square().sum()


@pytest.mark.parametrize("fo", ["sgd", "adam"])
@pytest.mark.parametrize("late", [1, 2])
def test_activations_are_kept_for_the_late_layers_alone(fo, late):
    built = Deep()
    opt = ZOHybrid(built, lr=1e-3, ratio=1.0, late=late, fo=fo, seed=0)
    saved = set()

    def closure(batch=None):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.add(tuple(t.shape)) or t, lambda t: t):
            loss = built()
        if loss.requires_grad:
            loss.backward()
        return loss

    opt.step(closure)
    widths = [shape[-1] for shape in saved if len(shape) == 2 and shape[0] == 2]
    assert sorted(widths) == sorted([3, 11, 13, 17, 19, 5][-1 - late :])  # what enters them, and what leaves them
    kept = [p for p in opt.tensors if opt.state.get(p)]
    assert len(kept) == (2 * late if fo == "adam" else 0)
    assert all(p.grad is None and p.requires_grad for p in built.parameters())


def test_adam_moves_the_late_layers_as_torch_does():
    built, twin = Deep().double(), Deep().double()
    twin.load_state_dict(built.state_dict())
    opt = ZOHybrid(built, lr=1e-3, ratio=2.0, fo="adam", seed=0)
    adam = torch.optim.Adam(twin.layers[-1].parameters(), lr=2e-3)
    for _ in range(3):
        twin.load_state_dict({k: v for k, v in built.state_dict().items() if "layers.4" not in k}, strict=False)
        adam.zero_grad()
        forward(twin).backward()
        adam.step()
        opt.step(closure_of(built))
        for a, b in zip(built.layers[-1].parameters(), twin.layers[-1].parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)


def forward(built):
    x = torch.ones(2, 3, dtype=torch.float64)
    for layer in built.layers:
        x = layer(x).tanh()
    return x.square().sum()


def closure_of(built):
    def closure(batch=None):
        loss = forward(built)
        if loss.requires_grad:
            loss.backward()
        return loss

    return closure


# --- svrg ---


def test_svrg_takes_its_anchor_from_a_large_batch_along_one_direction():
    built, seen = model(), []
    opt = MeZOSVRG(built, lr=1e-5, seed=1, q=3, anchor_batches=4)

    def closure(batch=None):
        seen.append(batch)
        return loss_of(built)() * (1 + (batch or 0))

    for _ in range(4):
        opt.step(closure)
    assert seen == [None, None, 1, 1, 2, 2, 3, 3] + [None] * 8 + [None, None, 1, 1, 2, 2, 3, 3]
    assert len(opt.memory["history"]) == 1


def test_svrg_slows_down_when_the_loss_has_risen():
    opt, losses = MeZOSVRG(model(), lr=1e-4, anchor=10.0, anneal=4.0, window=2), [1.0, 1.0, 1.04, 1.04, 2.0, 2.0]
    slowed = []
    for loss in losses:
        opt.watch(loss)
        slowed.append(opt.memory.get("slowed", 1.0))
    assert slowed == [1.0] * 5 + [4.0]
    assert opt.rate(1.0, 1e-6)({"lr": 1e-4}) == 2.5e-5
    assert opt.rate(1.0, 1e-6)({"lr": 2e-6}) == 1e-6 and opt.rate(1.0, 1e-6)({"lr": 1e-8}) == 1e-8
