"""One contract, run over every registered optimizer: a new file is covered the moment it exists."""

import copy

import pytest
import torch
from torch import nn

from zobench import registry
from zobench.core.trace import Trace
from zobench.core.zeroth_order import ZerothOrder, replay
from zobench.meters import Counter

ENTRIES = list(registry.entries("optimizer").values())
KEYS = set(
    "title year paper order family forwards backwards state replay mode grid limits choices aliases notes".split()
)
pytestmark = pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)


class Quadratic(nn.Module):
    """A root module, so that forwards can be counted; strongly convex, and its curvature differs by coordinate."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(2)
        self.w = nn.Parameter(torch.randn(5, 4).to(dtype))
        self.b = nn.Parameter(torch.randn(3).to(dtype))

    def forward(self):
        scale = torch.linspace(0.5, 1.5, 4, dtype=self.w.dtype)
        return 0.5 * ((self.w * self.w * scale).sum() + (self.b * self.b).sum()).to(torch.float64)


def make(entry, model, **options):
    cls = registry.optimizer_class(entry)
    if issubclass(cls, ZerothOrder):
        return cls(model, **options, seed=7)
    return cls([(n, p) for n, p in model.named_parameters() if p.requires_grad], **options)


def closure_of(model, opt):
    def closure():
        if torch.is_grad_enabled():
            opt.zero_grad(set_to_none=True)
        loss = model()
        if loss.requires_grad:
            loss.backward()
        return loss

    return closure


def rate(entry):
    """A rate at which this family makes progress on the quadratic: 23 dimensions, curvature at most 1.5."""
    return {"gradient": 0.3, "two-point": 0.02, "adaptive": 0.03}.get(entry.info["family"], 0.01)


def train(entry, model, steps, **options):
    opt = make(entry, model, lr=rate(entry), **options)
    closure = closure_of(model, opt)
    return opt, [float(torch.as_tensor(opt.step(closure)).detach()) for _ in range(steps)]


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_info_is_complete(entry):
    assert set(entry.info) >= KEYS
    assert entry.info["order"] in ("first", "zeroth") and entry.info["replay"] in ("exact", "local", "none")
    assert entry.info["mode"] == ("eval" if entry.info["order"] == "zeroth" else "train")
    assert entry.doc and "lr" in entry.options and set(entry.info["limits"]) <= set(entry.options)
    assert registry.optimizer_class(entry).__doc__


def test_literal_defaults_are_the_real_ones(entry):
    import inspect

    parameters = inspect.signature(registry.optimizer_class(entry)).parameters
    for name, value in entry.options.items():
        assert parameters[name].default == value


def test_it_descends(entry):
    model = Quadratic()
    with torch.no_grad():
        start = float(model())
    train(entry, model, 400)
    with torch.no_grad():
        assert float(model()) < 0.05 * start


def test_reruns_are_bit_equal(entry):
    a, b = Quadratic(), Quadratic()
    assert train(entry, a, 20)[1] == train(entry, b, 20)[1]
    assert torch.equal(flat(a), flat(b))


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32, torch.bfloat16))
def test_dtype_and_shape_are_kept(entry, dtype):
    model = Quadratic(dtype)
    shapes = [(p.shape, p.dtype) for p in model.parameters()]
    train(entry, model, 3)
    assert [(p.shape, p.dtype) for p in model.parameters()] == shapes and flat(model).isfinite().all()


def test_forwards_and_backwards_are_the_stated_ones(entry):
    model = Quadratic()
    counter = Counter(model)
    opt = make(entry, model, lr=rate(entry))

    def closure():
        opt.zero_grad(set_to_none=True)
        loss = model()
        if loss.requires_grad:
            counter.watch(loss)
            loss.backward()
        return loss

    for _ in range(10):
        opt.step(closure)
    assert (counter.forwards, counter.backwards) == (
        10 * int(entry.info["forwards"]),
        10 * int(entry.info["backwards"]),
    )


def test_zeroth_order_leaves_no_gradient_and_lr_zero_changes_nothing(entry):
    if entry.info["order"] != "zeroth":
        return
    model = Quadratic(torch.float32)
    before = flat(model).clone()
    opt = make(entry, model, lr=0.0)
    for _ in range(3):
        opt.step(closure_of(model, opt))
    assert torch.equal(before, flat(model)) and all(p.grad is None for p in model.parameters())


def test_param_groups_are_honoured(entry):
    model = Quadratic()
    cls = registry.optimizer_class(entry)
    opt = cls([{"params": [model.w], "lr": 0.0}, {"params": [model.b]}], lr=rate(entry))
    w, b = model.w.detach().clone(), model.b.detach().clone()
    for _ in range(3):
        opt.step(closure_of(model, opt))
    assert torch.allclose(model.w, w, rtol=0, atol=1e-12) and not torch.allclose(model.b, b, rtol=0, atol=1e-6)


def test_state_dict_round_trip_continues_the_run(entry):
    whole, part = Quadratic(), Quadratic()
    train(entry, whole, 9)
    opt, _ = train(entry, part, 4)
    state = copy.deepcopy(opt.state_dict())
    fresh = make(entry, part, lr=rate(entry))
    fresh.load_state_dict(state)
    for _ in range(5):
        fresh.step(closure_of(part, fresh))
    assert torch.equal(flat(whole), flat(part))


def test_replay_keeps_its_promise(entry):
    if entry.info["replay"] == "none":
        assert entry.info["order"] == "first" or entry.info["backwards"] != "0"
        return
    model, again = Quadratic(), Quadratic()
    opt = make(entry, model, lr=rate(entry))
    trace = opt.record()
    for _ in range(12):
        opt.step(closure_of(model, opt))
    again.forward = None
    columns = trace.to_columns()
    replay(
        make(entry, again, lr=rate(entry)),
        Trace.from_columns(**{k.removeprefix("trace_"): v for k, v in columns.items()}),
    )
    assert torch.equal(flat(model), flat(again))
