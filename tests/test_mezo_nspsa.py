"""n-SPSA is the mean of n MeZO estimates at one point."""

import pytest
import torch
from torch import nn

from zobench.core.many import ManySeeds
from zobench.core.perturb import materialise
from zobench.optimizers import MeZO, MeZONSPSA


def loss_of(w):
    return (w**4).sum() + w.square().sum()


def run(make, steps=5):
    w = nn.Parameter(torch.linspace(-1, 1, 24, dtype=torch.float64).view(6, 4))
    opt = make([w])
    losses = [opt.step(lambda: loss_of(w)) for _ in range(steps)]
    return w.detach(), losses


def test_one_direction_is_mezo_in_equal_bits():
    options = dict(lr=1e-2, weight_decay=0.1, seed=3)
    (a, first), (b, second) = run(lambda p: MeZO(p, **options)), run(lambda p: MeZONSPSA(p, n=1, **options))
    assert torch.equal(a, b) and first == second


def test_a_linear_loss_gives_the_mean_step():
    """L = a . theta: theta -= lr mean_j (a . z_j) z_j."""
    torch.manual_seed(0)
    a, theta = torch.randn(2, 50, dtype=torch.float64)
    theta = nn.Parameter(theta)
    before = theta.detach().clone()
    opt, drawn = MeZONSPSA([theta], lr=0.3, n=3, seed=4), MeZONSPSA([theta], n=3, seed=4)
    opt.step(lambda: a @ theta)
    z = [materialise(drawn.draw(), theta.data, 0) for _ in range(3)]
    expected = before - 0.3 * sum((a @ zj) * zj for zj in z) / 3
    assert torch.allclose(theta.detach(), expected, rtol=1e-9, atol=0)


def test_a_sum_is_the_mean_at_n_times_the_rate():
    mean, _ = run(lambda p: MeZONSPSA(p, lr=4e-3, n=4, seed=1))
    total, _ = run(lambda p: MeZONSPSA(p, lr=1e-3, n=4, average=False, seed=1))
    assert torch.allclose(mean, total, rtol=1e-9)


def test_decay_is_applied_once_a_step():
    w = nn.Parameter(torch.ones(6, 4, dtype=torch.float64))
    MeZONSPSA([w], lr=0.1, n=5, weight_decay=0.5, seed=1).step(lambda: torch.zeros(()))
    assert torch.allclose(w, torch.full_like(w, 0.95), rtol=1e-12)


def test_all_probes_are_asked_for_at_once():
    w = nn.Parameter(torch.ones(3))
    asked = next(MeZONSPSA([w], n=6, seed=1).update())
    assert len(asked) == 12 and all(p.base is None and p.batch is None for p in asked)


def test_many_seeds_in_lockstep_are_the_single_runs():
    start = {"w": torch.linspace(-1, 1, 24, dtype=torch.float64).view(6, 4)}
    make = lambda p, seed: MeZONSPSA(p, lr=1e-2, n=3, weight_decay=0.1, seed=seed)  # noqa: E731
    many = ManySeeds(start, make, range(5))
    for _ in range(5):
        many.step(lambda p: (p["w"] ** 4).sum((1, 2)) + p["w"].square().sum((1, 2)))
    for s in range(5):
        assert torch.allclose(many.stack["w"][s], run(lambda p: make(p, s))[0], rtol=0, atol=1e-10)  # noqa: B023


def test_no_direction_at_all_is_an_error():
    with pytest.raises(ValueError, match="n must be"):
        MeZONSPSA([nn.Parameter(torch.ones(3))], n=0)
