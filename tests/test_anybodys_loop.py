"""The classes in a loop of one's own: groups, snapshots, closures, and mistakes that must not pass in silence."""

import copy
import math

import pytest
import torch
from click.testing import CliRunner

from zobench import contract, registry
from zobench.cli import main
from zobench.contract import Specimen, Subject, closure_of, flat
from zobench.core.zeroth_order import Diverged, ZerothOrder
from zobench.spec import UsageError

ZEROTH = [
    e for e in registry.entries("optimizer").values() if issubclass(registry.optimizer_class(e), ZerothOrder)
]  # fmt: skip
entries = pytest.mark.parametrize("entry", ZEROTH, ids=lambda e: e.name)


def subject(name, **given):
    return Subject(registry.find("optimizer", name), given=given)


@entries
def test_a_snapshot_in_memory_stays_what_it_was(entry):
    model = Specimen()
    opt = Subject(entry).make(model)
    closure = closure_of(model, opt)
    for _ in range(3):
        opt.step(closure)
    state, weights = opt.state_dict(), copy.deepcopy(model.state_dict())
    if entry.info["state"] != "0" or entry.info["backwards" if "backwards" in entry.info else "state"] != "0":
        state = copy.deepcopy(state)  # as torch's, it shares the tensors of the state
    first = [opt.step(closure) for _ in range(4)]
    model.load_state_dict(weights)
    opt.load_state_dict(state)
    assert [opt.step(closure) for _ in range(4)] == first


@pytest.mark.parametrize("name", ("quzo", "qzo"))
def test_a_quantised_run_goes_on_in_another_process(name):
    """Weights first, then the optimizer, then its state: the usual order."""
    model = Specimen()
    opt = subject(name).make(model)
    for _ in range(5):
        opt.step(closure_of(model, opt))
    again = Specimen()
    again.load_state_dict(copy.deepcopy(model.state_dict()))
    fresh = subject(name).make(again)
    fresh.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert torch.equal(flat(model), flat(again))
    assert [opt.step(closure_of(model, opt)) for _ in range(3)] == [
        fresh.step(closure_of(again, fresh)) for _ in range(3)
    ]


@entries
def test_groups_are_complete_when_it_is_made(entry):
    model = Specimen()
    named = dict(model.named_parameters())
    opt = Subject(entry).make([{"params": [named["layers.0.fc.weight"]]}])
    with pytest.raises(ValueError, match="takes all its parameter groups when it is made"):
        opt.add_param_group({"params": [named["layers.1.fc.weight"]]})


@pytest.mark.parametrize("lr", (math.nan, math.inf, -1.0))
def test_the_rate_of_a_group_is_checked(lr):
    with pytest.raises(ValueError, match="lr of a group"):
        subject("mezo").make([{"params": list(Specimen().layers.parameters()), "lr": lr}])


def test_an_option_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="MeZO has no option epss"):
        subject("mezo").make(Specimen(), epss=1e-3)


def test_zero_slopes_move_nothing_in_zo_muon():
    model = Specimen()
    before = flat(model).clone()
    subject("zo-muon").make(model).step(lambda: model() * 0 + 1)
    assert torch.equal(before, flat(model))


@pytest.mark.parametrize("name", ("galore", "i3s", "subzero", "quzo", "qzo", "mezo-adam", "lozo"))
def test_scalars_and_empty_tensors(name):
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scalar = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
            self.empty = torch.nn.ParameterList(torch.nn.Parameter(torch.zeros(s)) for s in ((0, 4), (5, 0), (0,)))
            self.w = torch.nn.Parameter(torch.ones(4, 3, dtype=torch.float64))

        def forward(self, shift=0.0):
            return self.scalar**2 + (self.w**2).sum() + sum(e.sum() for e in self.empty) + shift

    model = Odd()
    opt = subject(name).make(model, lr=1e-4)
    for _ in range(4):
        loss = opt.step(closure_of(model, opt))
    assert math.isfinite(contract.number(loss))


def test_closures_that_cannot_serve_are_told_why():
    model = Specimen()
    with pytest.raises(TypeError, match="its closure must take batch="):
        subject("addax").make(model).step(lambda: model())
    with pytest.raises(TypeError, match="must not return a Python number"):
        subject("forward-grad").make(model).step(lambda: float(model().detach()))


@pytest.mark.parametrize("name", ("addax", "zo-hybrid"))
def test_a_gradient_that_is_not_finite_stops_the_step(name):
    model = Specimen()
    opt = subject(name).make(model)
    before, closure = flat(model).clone(), closure_of(model, opt)

    def broken(batch=None):
        loss = closure(batch)
        if torch.is_grad_enabled():
            model.layers[0].fc.weight.grad = None
            model.embed.weight.grad = torch.full_like(model.embed.weight, math.nan)
        return loss

    with pytest.raises(Diverged, match="gradient is not finite"):
        opt.step(broken)
    assert torch.equal(before, flat(model))


def test_an_option_given_twice_is_a_mistake():
    with pytest.raises(UsageError, match="gives lr twice"):
        registry.parse("mezo[lr=1e-3,lr=1e-4]")


HEAD = '''"""Mine."""
from zobench.core.zeroth_order import ZerothOrder
INFO = dict(title="M", year=2026, paper="", order="zeroth", family="two-point", forwards="2", state="0", replay="exact",
    mode="eval", grid={grid}, limits=dict(lr={limit!r}), aliases=(), notes="")
__all__ = ["Mine"]
class Mine(ZerothOrder):
    """Mine."""
    def __init__(self, params, lr=1e-6, **common):
        super().__init__(params, dict(lr=lr), **common)
    def update(self):
        raise SystemExit(0)
        yield
'''


def test_a_file_that_exits_is_broken_not_good(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(HEAD.format(grid="dict(lr=(1e-6,))", limit=">=0"))
    found = CliRunner().invoke(main, ["test", "--no-board", str(path)])
    assert found.exit_code == 3 and "SystemExit" in found.output


@pytest.mark.parametrize(
    ("grid", "limit", "said"),
    (
        ("dict(lr=1e-6)", ">=0", "grid of lr must be a tuple"),
        ("dict(lr=(1e-6,))", "abc", "cannot read the limit 'abc'"),
    ),
)
def test_a_strangers_info_is_read_or_named(tmp_path, grid, limit, said):
    path = tmp_path / "mine.py"
    path.write_text(HEAD.format(grid=grid, limit=limit))
    for command in (["info", str(path)], ["test", "--no-board", str(path)]):
        found = CliRunner().invoke(main, command)
        assert found.exit_code == 2 and said in found.output


@pytest.mark.parametrize("limit", (">=0 <1",))
def test_limits_on_both_sides(limit):
    entry = registry.find("optimizer", "mezo-momentum")
    assert entry.info["limits"]["momentum"] == limit
    for value in (-0.1, 1.0):
        with pytest.raises(UsageError, match="momentum must be >= 0 and < 1"):
            registry.resolve(entry, {"momentum": value})
    assert contract.CHECKS  # the contract tries both ends of every limit
