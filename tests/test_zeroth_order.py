"""The generator contract: what an update may ask for, how it is driven, and that a trace rebuilds the weights."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from zobench.core.many import ManySeeds, vectorised
from zobench.core.perturb import dense, materialise
from zobench.core.trace import Trace, digest
from zobench.core.zeroth_order import Diverged, ZerothOrder, replay
from zobench.optimizers import MeZO

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Net(nn.Module):
    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).to(dtype)
        self.x, self.y = torch.randn(20, 6).to(dtype), torch.randn(20, 3).to(dtype)

    def forward(self, rows=slice(None)):
        error = self.layers(self.x[rows]) - self.y[rows]
        return (error.float() if error.dtype.itemsize == 2 else error).square().mean()


class SVRG(ZerothOrder):
    """An anchor and a second batch (Liu et al., MeZO-SVRG 2404.08080, in miniature): exercises `base` and `batch`."""

    def __init__(self, params, lr=1e-2, *, eps=1e-3, every=3, **engine):
        super().__init__(params, dict(lr=lr), **engine)
        self.eps, self.every, self.anchor = eps, every, None

    def update(self):
        if self.steps % self.every == 0:
            self.anchor = [p.detach().clone() for p in self.tensors]
            self.whole = self.draw()
            a, b = yield self.at(self.eps * self.whole, batch="all"), self.at(-self.eps * self.whole, batch="all")
            self.full = (a - b) / (2 * self.eps)
        z = self.draw()
        up, down = yield self.at(self.eps * z), self.at(-self.eps * z)
        old_up, old_down = (
            (yield self.at(self.eps * z, base=self.anchor)),
            (yield self.at(-self.eps * z, base=self.anchor)),
        )
        slope = ((up - down) - (old_up - old_down)) / (2 * self.eps)
        self.apply(slope * z + self.full * self.whole, lambda group: -group["lr"])
        return (up + down) / 2


class ForwardGradient(ZerothOrder):
    """theta -= lr (grad . z) z with the slope from a jvp probe (Baydin et al., 2202.08587)."""

    def __init__(self, params, lr=1e-2, **engine):
        super().__init__(params, dict(lr=lr), **engine)

    def update(self):
        z = self.draw()
        loss, slope = yield self.at(z, kind="jvp")
        self.apply(z, lambda group: -group["lr"] * slope)
        return loss


class Signed(ZerothOrder):
    """A dense state and `each`: momentum of the estimate, applied by its sign."""

    def __init__(self, params, lr=1e-3, *, eps=1e-3, **engine):
        super().__init__(params, dict(lr=lr), **engine)
        self.eps = eps

    def update(self):
        z = self.draw("rademacher")
        plus, minus = yield self.at(self.eps * z), self.at(-self.eps * z)
        slope = (plus - minus) / (2 * self.eps)

        def move(p, z, state, group):
            m = state["m"] = state.get("m", torch.zeros_like(z)) * 0.9 + slope * z
            p.sub_((group["lr"] * m.sign()).to(p.dtype))

        self.each(move, z)
        return (plus + minus) / 2


def run(cls, model, steps=7, lr=None, mode="stream", **options):
    opt = cls(model, **({} if lr is None else {"lr": lr}), seed=11, mode=mode, **options)
    trace = opt.record()

    def closure(batch=None):
        return model() if batch == "all" else model(slice(opt.steps % 3, None, 3))

    losses = [opt.step(closure) for _ in range(steps)]
    return opt, trace, losses


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_linear_loss_gives_the_exact_step():
    """L = a . theta: theta -= lr (a . z) z whatever eps (invariant 2 of the optimizers' specification)."""
    torch.manual_seed(0)
    a = torch.randn(500, dtype=torch.float64)
    for eps in (1e-6, 1e-3, 10.0):
        theta = nn.Parameter(torch.randn(500, dtype=torch.float64))
        before = theta.detach().clone()
        opt = MeZO([theta], lr=0.3, eps=eps, seed=4)
        opt.step(lambda: a @ theta)  # noqa: B023
        z = materialise(opt.last_probe * (1 / eps), theta.data, 0)
        expected = before - 0.3 * (a @ z) * z
        assert torch.allclose(theta.detach(), expected, rtol=1e-9 if eps > 1e-5 else 1e-4, atol=0)


def test_the_estimate_is_unbiased_on_a_quadratic():
    """E[slope z] is the gradient; checked with its own standard error over 4,000 draws."""
    torch.manual_seed(0)
    h = torch.linspace(0.1, 1, 8, dtype=torch.float64)
    theta = nn.Parameter(torch.ones(8, dtype=torch.float64))
    opt = MeZO([theta], lr=1.0, seed=4)
    steps = []
    for _ in range(4000):
        theta.data.fill_(1.0)
        opt.step(lambda: 0.5 * (h * theta * theta).sum())
        steps.append(1.0 - theta.detach().clone())
    steps = torch.stack(steps)
    error = steps.std(0) / math.sqrt(len(steps))
    assert ((steps.mean(0) - h).abs() < 4.5 * error).all()


@pytest.mark.parametrize("mode", ("stream", "copy"))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", (MeZO, SVRG, Signed))
def test_replay_gives_equal_bits_without_a_forward(cls, dtype, mode):
    if dtype in (torch.bfloat16, torch.float16):
        lr = 1e-2
    else:
        lr = None
    model = Net(dtype)
    opt, trace, losses = run(cls, model, lr=lr, mode=mode)
    again = Net(dtype)
    again.forward = None  # any forward pass is a TypeError
    fresh = cls(again, **({} if lr is None else {"lr": lr}))
    columns = Trace.from_columns(**{k.removeprefix("trace_"): v for k, v in trace.to_columns().items()})
    assert replay(fresh, columns) == 7
    assert torch.equal(flat(model), flat(again))
    assert digest(model.named_parameters()) == digest(again.named_parameters())
    assert not torch.equal(flat(model), flat(Net(dtype)))
    assert all(map(math.isfinite, losses)) and opt.steps == fresh.steps == 7


def test_replay_of_forward_gradients():
    model, again = Net(), Net()
    _, trace, _ = run(ForwardGradient, model)
    again.forward = None
    replay(ForwardGradient(again), trace)
    assert torch.equal(flat(model), flat(again))


def test_replay_up_to_a_step():
    model, middle = Net(), Net()
    _, trace, _ = run(MeZO, model, steps=9)
    run(MeZO, middle, steps=4)
    again = Net()
    replay(MeZO(again), trace, 4)
    assert torch.equal(flat(again), flat(middle))


def test_replay_follows_a_scheduler_and_observations():
    class Watching(MeZO):
        seen = ()

        def observe(self, metrics):
            super().observe(metrics)
            self.seen = (*self.seen, (self.steps, metrics["accuracy"]))
            self.eps *= 0.5  # validation changes the method: replay must see it at the same step

    model = Net()
    opt = Watching(model, lr=1e-2, seed=3)
    trace = opt.record()
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 0.7)
    for step in range(6):
        opt.step(lambda: model())
        scheduler.step()
        if step == 2:
            opt.observe({"accuracy": 0.5})
    again = Net()
    fresh = Watching(again, lr=1e-2)
    replay(fresh, Trace.from_columns(**{k.removeprefix("trace_"): v for k, v in trace.to_columns().items()}))
    assert fresh.seen == opt.seen == ((3, 0.5),)
    assert torch.equal(flat(model), flat(again))


def test_replay_refuses_another_start_and_other_parameters():
    model = Net()
    _, trace, _ = run(MeZO, model)
    with pytest.raises(ValueError, match="start weights"):
        replay(MeZO(model), trace)
    other = Net()
    other.layers[0].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="list of parameters"):
        replay(MeZO(other), trace)


def test_a_trace_is_sixteen_kilobytes_per_thousand_steps():
    theta = nn.Parameter(torch.ones(3))
    opt = MeZO([theta], lr=1e-3, seed=1)
    trace = opt.record()
    for _ in range(1000):
        opt.step(lambda: theta.square().sum())
    assert len(trace.values) * 8 == 16_000
    assert len(json.dumps(trace.events)) < 1000


def test_probe_kinds_agree_with_autograd():
    model = Net()
    opt = ForwardGradient(model, seed=2)
    z = opt.draw()
    gradient = torch.autograd.grad(model(), list(model.parameters()))
    with torch.no_grad():
        loss, slope = opt.evaluator.value(opt.at(z, kind="jvp"), lambda: model())
        expected = sum(
            (g * materialise(z, p.data, i)).sum() for i, (g, p) in enumerate(zip(gradient, opt.tensors, strict=True))
        )
        assert float(slope) == pytest.approx(float(expected), rel=1e-6)
        assert float(loss) == pytest.approx(float(model()), rel=1e-12)
    opt.evaluator.value(opt.at(opt.draw() * 0.0, kind="grad"), lambda: model().backward() or model())
    for p, g in zip(opt.tensors, gradient, strict=True):
        assert torch.allclose(p.grad, g, rtol=1e-6)


def test_directions_are_linear():
    model = Net()
    opt = MeZO(model, seed=1)
    z1, z2 = opt.draw(), opt.draw()
    p = opt.tensors[0].data
    numbers = lambda d, i=0: materialise(d, opt.tensors[i].data, i)  # noqa: E731
    assert torch.allclose(numbers(2 * z1 - 3 * z2), 2 * numbers(z1) - 3 * numbers(z2), rtol=0, atol=1e-12)
    assert torch.equal(numbers(z1.only({1})), torch.zeros_like(p)) and numbers(z1.only({1}), 1).any()
    assert torch.equal(numbers(z1.scaled([3.0, 1.0, 1.0, 1.0])), 3 * numbers(z1))
    halves = [torch.full_like(t, 0.5) for t in opt.tensors]
    assert torch.equal(numbers(z1.scaled(halves)), 0.5 * numbers(z1))
    masked = numbers(z1.scaled(lambda w, i, part: (w > 0).to(w.dtype)))
    assert torch.allclose(masked, numbers(z1) * (p > 0), rtol=0, atol=1e-12)
    assert not (z1 - z1) and z1 + dense(halves)


def test_the_torch_conventions_hold():
    """Param groups, schedulers, state_dict, a plain closure, bare parameters: anybody's loop."""
    model = Net(torch.float32)
    first, second = model.layers[0], model.layers[2]
    opt = MeZO([{"params": first.parameters(), "lr": 0.0}, {"params": second.parameters()}], lr=1e-2, seed=5)
    assert isinstance(opt, torch.optim.Optimizer) and opt.evaluator.mode == "inplace"
    before = [first.weight.clone(), second.weight.clone()]
    loss = opt.step(lambda: model())
    assert isinstance(loss, float)
    assert torch.allclose(before[0], first.weight, rtol=0, atol=1e-6)
    assert not torch.allclose(before[1], second.weight, rtol=0, atol=1e-6)
    assert all(p.grad is None for p in model.parameters())
    saved = opt.state_dict()
    opt.step(lambda: model())
    after = flat(model)
    twin = Net(torch.float32)
    for p, w in zip(twin.parameters(), [before[0], None, before[1], None], strict=True):
        if w is not None:
            p.data.copy_(w)
    fresh = MeZO([{"params": twin.layers[0].parameters()}, {"params": twin.layers[2].parameters()}], lr=1.0, seed=99)
    fresh.load_state_dict(saved)
    assert (fresh.seed, fresh.draws, fresh.steps) == (5, 1, 1)
    assert fresh.param_groups[0]["lr"] == 0.0 and fresh.param_groups[1]["lr"] == 1e-2
    assert after.isfinite().all()


def test_resuming_from_a_state_dict_continues_the_same_run():
    whole, part = Net(), Net()
    run(MeZO, whole, steps=8)
    opt = MeZO(part, seed=11, mode="stream")
    closure = lambda: part(slice(opt.steps % 3, None, 3))  # noqa: E731
    for _ in range(3):
        opt.step(closure)
    state, weights = opt.state_dict(), part.state_dict()
    other = Net()
    other.load_state_dict(weights)
    opt = MeZO(other, seed=0, mode="stream")
    opt.load_state_dict(state)
    closure = lambda: other(slice(opt.steps % 3, None, 3))  # noqa: E731
    for _ in range(5):
        opt.step(closure)
    assert torch.equal(flat(other), flat(whole))


def test_weight_decay_skips_vectors_and_embeddings():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4)).double()
    before = [p.clone() for p in model.parameters()]
    opt = MeZO(model, lr=0.1, weight_decay=0.5, seed=1)
    opt.step(lambda: torch.zeros(()))  # no slope: only the decay moves anything
    table, weight, bias = model.parameters()
    assert torch.equal(table, before[0]) and torch.equal(bias, before[2])
    assert torch.allclose(weight, before[1] * 0.95, rtol=1e-12)


@pytest.mark.parametrize(
    "bad", (dict(lr=-1.0), dict(lr=math.nan), dict(law="cauchy"), dict(mode="magic"), dict(weight_decay=-1))
)
def test_bad_options_are_errors_at_once(bad):
    with pytest.raises(ValueError, match=r"lr|law|mode|weight_decay"):
        MeZO(Net(), **bad)


def test_stream_needs_the_modules_and_attach_gives_them():
    model = Net()
    with pytest.raises(ValueError, match="attach"):
        MeZO(model.parameters(), mode="stream")
    opt = MeZO(model.parameters(), lr=1e-2, seed=11)
    opt.attach(model)
    twin = Net()
    direct = MeZO(twin, lr=1e-2, seed=11)
    for _ in range(3):
        opt.step(lambda: model())
        direct.step(lambda: twin())
    assert torch.equal(flat(model), flat(twin))


def test_a_step_that_is_not_finite_changes_nothing():
    model = Net()
    opt, trace, _ = run(MeZO, model, steps=2)
    before, draws = flat(model).clone(), opt.draws
    with pytest.raises(Diverged):
        opt.step(lambda: model() * math.nan)
    assert torch.equal(before, flat(model)) and opt.draws == draws and trace.steps == 2


@pytest.mark.parametrize("cls", (MeZO, Signed))
def test_many_seeds_in_lockstep_are_the_single_runs(cls):
    seeds = list(range(64))
    model = Net()
    start = dict(model.named_parameters())
    many = ManySeeds(start, lambda slices, seed: cls(slices, lr=1e-2, seed=seed), seeds)
    losses = vectorised(model)
    lockstep = torch.tensor(np.stack([many.step(losses) for _ in range(5)]))
    for s in (0, 1, 63):
        alone = Net()
        opt = cls(alone, lr=1e-2, seed=s, mode="copy")
        values = torch.tensor([opt.step(lambda: alone()) for _ in range(5)], dtype=torch.float64)  # noqa: B023
        assert torch.allclose(lockstep[:, s], values, rtol=1e-9)
        stacked = torch.cat([many.stack[name][s].flatten() for name in start])
        # Signed takes sign(m): a loss that differs in its last bit must not be near zero slope, and is not here
        assert torch.allclose(stacked, flat(alone), rtol=0, atol=1e-9)
    assert lockstep[0].unique().numel() > 60  # the seeds really differ
