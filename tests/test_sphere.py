"""The sphere law: gaussian directions with a coefficient, the same on every backend, and nothing stored."""

import math

import pytest
import torch
from torch import nn

from zobench.core import sphere
from zobench.core.many import ManySeeds
from zobench.core.perturb import materialise, perturb, reference, seeded
from zobench.core.sphere import drawn, squared_norms
from zobench.core.zeroth_order import replay
from zobench.optimizers import MeZO

SHAPES = ((300, 71), (13,), (140_000,), (0,), (1,), (4096,), (4097,))


def tensors(dtype=torch.float64):
    return [torch.zeros(shape, dtype=dtype) for shape in SHAPES]


def numbers(direction, over):
    return [materialise(direction, t, i) for i, t in enumerate(over)]


class Net(nn.Module):
    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).to(dtype)
        self.x = torch.randn(20, 6).to(dtype)

    def forward(self):
        return self.layers(self.x).float().square().mean()


def test_the_norm_is_the_root_of_the_number_of_elements():
    over = tensors()
    for draw in range(5):
        z = numbers(drawn("sphere", over, draw, 9, 0), over)
        norm = math.sqrt(math.fsum(float(x.square().sum()) for x in z))
        assert norm == pytest.approx(math.sqrt(sum(t.numel() for t in over)), rel=1e-12)


def test_it_is_the_gaussian_direction_of_the_same_numbers():
    over = tensors()
    z, g = (numbers(direction, over) for direction in (drawn("sphere", over, 3, 9, 1), seeded("gaussian", 3, 9, 1)))
    factor = float(z[1][0] / g[1][0])
    assert all(torch.allclose(a, factor * b, rtol=1e-14) for a, b in zip(z, g, strict=True))
    exact = math.fsum(v * v for x in g for v in x.flatten().tolist())
    assert squared_norms(over, 3, [9], 1)[0] == pytest.approx(exact, rel=1e-14)


def test_backends_agree_bit_for_bit():
    fast = squared_norms(tensors(), 3, (5, 7, 2**32 - 1), 2)
    with reference():
        slow = squared_norms(tensors(), 3, (5, 7, 2**32 - 1), 2)
    assert fast == slow and len(set(fast)) == 3
    assert fast[1:2] == squared_norms(tensors(torch.bfloat16), 3, [7], 2)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_bits():
    assert squared_norms([t.cuda() for t in tensors()], 3, (5, 7), 2) == squared_norms(tensors(), 3, (5, 7), 2)


def test_threads_and_slices_change_nothing(monkeypatch):
    results, before = set(), torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.add(squared_norms(tensors(), 1, [1], 0)[0])
    finally:
        torch.set_num_threads(before)
    for chunk in (4096, 20_480):
        monkeypatch.setattr(sphere, "CHUNK", chunk)
        with reference():
            results.add(squared_norms(tensors(), 1, [1], 0)[0])
    assert len(results) == 1
    z, whole = drawn("sphere", tensors(), 1, 1, 0), torch.zeros(140_000)
    perturb([whole], [whole], z, index=[2])
    part = torch.zeros(5000)
    perturb([part], [part], z, index=[2], offset=[100_001])
    assert torch.equal(part, whole[100_001:105_001])


def test_a_confined_direction_is_a_part_of_the_whole():
    over = tensors()
    z = drawn("sphere", over, 1, 1, 0)
    whole, part = numbers(z, over), numbers(z.only({0, 5}), over)
    assert all(torch.equal(b, a if i in (0, 5) else 0 * a) for i, (a, b) in enumerate(zip(whole, part, strict=True)))


@pytest.mark.parametrize("mode", ("stream", "copy"))
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16))
def test_replay_gives_equal_bits_and_the_trace_names_the_law(dtype, mode):
    model, again = Net(dtype), Net(dtype)
    opt = MeZO(model, lr=1e-2, law="sphere", seed=4, mode=mode)
    trace = opt.record()
    for _ in range(6):
        opt.step(lambda: model())
    assert trace.header["law"] == opt.state_dict()["zeroth_order"]["law"] == "sphere"
    again.forward = None  # type: ignore[assignment]
    replay(MeZO(again, lr=1e-2), trace)
    pairs = list(zip(model.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not any(torch.equal(a, b) for a, b in zip(model.parameters(), Net(dtype).parameters(), strict=True))


def test_many_seeds_have_a_norm_each():
    start = {"a": torch.ones(5, 4, dtype=torch.float64), "b": torch.ones(3, dtype=torch.float64)}
    losses = lambda p: p["a"].square().sum((1, 2)) + (p["b"] ** 4).sum(1)  # noqa: E731
    many = ManySeeds(start, lambda slices, seed: MeZO(slices, lr=1e-2, law="sphere", seed=seed), range(6))
    for _ in range(4):
        many.step(losses)
    for s in range(6):
        alone = {name: nn.Parameter(p.clone()) for name, p in start.items()}
        opt = MeZO(list(alone.items()), lr=1e-2, law="sphere", seed=s, mode="copy")
        for _ in range(4):
            opt.step(lambda: losses({k: p[None] for k, p in alone.items()})[0])  # noqa: B023
        assert all(torch.allclose(many.stack[name][s], alone[name], rtol=0, atol=1e-10) for name in start)


def test_an_unknown_law_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"gaussian, rademacher, sphere, not 'cauchy'"):
        MeZO(Net(), law="cauchy")
    with pytest.raises(ValueError, match="cauchy"):
        MeZO(Net()).draw("cauchy")
