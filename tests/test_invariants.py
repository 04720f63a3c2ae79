"""What must hold between methods, and of each of them: section 7 of the optimizers' specification, and what follows from it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from zobench import registry
from zobench.core.info import multiple
from zobench.core.perturb import materialise
from zobench.core.trace import Trace
from zobench.core.zeroth_order import Diverged, ZerothOrder, replay

ENTRIES = registry.entries("optimizer")
ZEROTH = [name for name, e in ENTRIES.items() if e.info.get("order") != "first"]


class Model(nn.Module):
    """Two numbered layers and a head; a smooth loss that is not a quadratic, tilted by the number of the minibatch."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.layers = nn.ModuleList([nn.Linear(4, 5), nn.Linear(5, 4)])
            self.head = nn.Linear(4, 2)
            self.x, self.y = torch.randn(12, 4).to(dtype), torch.randn(12, 2).to(dtype)
            self.to(dtype)
        self.times = 1.0

    def forward(self, batch=None):
        shift = 0.3 * ({None: 0, "long": 1, "short": 2}.get(batch, batch) or 0)
        x = self.x
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.times * ((self.head(x) - self.y - shift) ** 2).mean()


def make(name, model, **options):
    entry = ENTRIES[name]
    if "total_steps" in {**entry.common, **entry.options}:
        options.setdefault("total_steps", 20)
    cls = registry.optimizer_class(entry)
    if issubclass(cls, ZerothOrder):
        options.setdefault("seed", 7)
    elif isinstance(model, nn.Module):
        model = list(model.parameters())
    return cls(model, **options)


def brief(name):
    return dict(ENTRIES[name].info.get("brief", {}))


def closure_of(opt, model):
    def closure(batch=None):
        if torch.is_grad_enabled():
            opt.zero_grad()
        loss = model(batch)
        if loss.requires_grad:
            loss.backward()
        return loss

    return closure


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def train(name, steps=20, times=1.0, dtype=torch.float64, **options):
    model = Model(dtype)
    model.times = times
    opt = make(name, model, **options)
    for _ in range(steps):
        opt.step(closure_of(opt, model))
    return flat(model)


# --- 1, 5, 9: promises of the engine, method by method ---


def visits(name, steps, mode="copy", **options):
    """For each step: (weights before, weights at every forward, weights after), flat; the probes as the model sees them."""
    model = Model()
    opt = make(name, model, mode=mode, **options)
    found = []
    for _ in range(steps):
        seen, before, inner = [], flat(model), closure_of(opt, model)

        def closure(batch=None, seen=seen, inner=inner):
            seen.append(flat(model))
            return inner(batch)

        opt.step(closure)
        found.append((before, seen, flat(model)))
    return model, found


@pytest.mark.parametrize("mode", ("stream", "copy"))
@pytest.mark.parametrize("name", ZEROTH)
def test_probes_leave_every_bit_of_the_weights(name, mode):
    """Invariant 1: the weights are compared after each answer that the generator gets."""
    model = Model(torch.float32)
    opt = make(name, model, mode=mode, **brief(name))
    closure = closure_of(opt, model)
    values = opt.driver.values

    def watched(optimizer, probes, given):
        before = flat(model)
        found = values(optimizer, probes, given)
        assert torch.equal(before, flat(model))
        return found

    opt.driver.values = watched
    for _ in range(5):
        opt.step(closure)


@pytest.mark.parametrize(("dtype", "bound"), ((torch.float32, 1e-6), (torch.float64, 1e-14)))
@pytest.mark.parametrize("name", ZEROTH)
def test_in_place_probes_are_taken_back(name, dtype, bound):
    """Invariant 1: with lr = 0, a fused restore leaves the weights within rounding, step by step."""
    model = Model(dtype)
    opt = make(name, model, mode="inplace", **brief(name) | dict(lr=0.0))
    for _ in range(4):
        before = flat(model)
        opt.step(closure_of(opt, model))
        assert (flat(model) - before).abs().max() <= bound * before.abs().max()


@pytest.mark.parametrize("name", ZEROTH)
def test_the_trace_rebuilds_the_weights(name):
    """Invariant 5, bitwise on one machine in both classes."""
    if ENTRIES[name].info["replay"] == "none":
        pytest.skip("uses gradients")
    model, again = Model(), Model()
    opt = make(name, model, **brief(name))
    trace = opt.record()
    for _ in range(10):
        opt.step(closure_of(opt, model))
    columns = {k.removeprefix("trace_"): v for k, v in trace.to_columns().items()}
    replay(make(name, again, **brief(name)), Trace.from_columns(**columns))
    assert torch.equal(flat(model), flat(again))


def test_noise_differs_between_tensors_of_one_shape():
    """No tensor gets the numbers of another, in any probe of a step: the defect of several releases."""
    for name in ZEROTH:
        model = Twins()
        opt = make(name, model, mode="copy", **dict(lr=1e-3) | brief(name))
        for _ in range(3):
            seen, before = [], [p.detach().clone() for p in model.parameters()]

            def closure(batch=None, seen=seen):
                seen.append([p.detach().clone() for p in model.parameters()])  # noqa: B023
                if torch.is_grad_enabled():
                    loss = model()  # noqa: B023
                    loss.backward()
                    return loss
                return model()  # noqa: B023

            opt.step(closure)
            moved = [[(w - b).flatten() for w, b in zip(probe, before, strict=True)] for probe in seen]
            for x in moved:
                for y in moved:
                    assert not (x[0].any() and y[1].any() and parallel(x[0], y[1])), f"{name}: two tensors, one noise"


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.ModuleList(nn.Linear(6, 6, bias=False).double() for _ in range(2))

    def forward(self):
        return sum((layer(torch.eye(6).double()) + 1).cos().sum() * (k + 1) for k, layer in enumerate(self.layers))


FORWARDS = {  # table 5, per step; a function of the step number where they differ. The model has three layers.
    "mezo": 2, "mezo-momentum": 2, "mezo-adam": 2, "mezo-layerwise": 2, "s2p": 2, "vs2p": 2, "stp": 3, "brs": 2,
    "zo-sgd-sign": 2, "zo-sgd-cons": 5, "zo-sgd-mmt": 2, "zo-adam": 2, "zo-block": 6, "zo-hybrid": 3, "zo-sparse": 2,
    "forward-grad": 1, "hizoo": 3, "lozo": 2, "lozo-m": 2, "subzero": 2, "sparse-mezo": 2, "zo-adamu": 2, "conmezo": 2,
    "adamezo": 2, "tezo": 2, "qzo": 2, "lezo": 2, "zo-adamm": 2, "addax": 3,
    "mezo-nspsa[n=3]": 6, "mezo-gv[candidates=2]": 4, "mezo-gv[candidates=4]": 6, "mezo-greedy[candidates=3]": 5,
    "s2p[option=2]": 2, "s2p[option=2,sign_trick=False]": 4, "r-adazo[n=2]": 3, "fzoo[n=8]": 9, "zo-muon[n=4]": 5,
    "kerzoo[n=3]": 6, "quzo[n=2]": 4, "meazo[n=3]": 6, "es[population=30]": 30, "brs[n=4]": 5, "zo-sgd-cons[reuse=True]": 4,
    "mezo-onepoint": lambda t: 2 if t == 0 else 1,
    "mezo-var": lambda t: 2 + (6 if t == 0 else 0),
    "mezo-exp": lambda t: 2 + (6 if t == 0 else 0),
    "mezo-svrg[q=3,anchor_batches=2]": lambda t: 4,
    "mezo-svrg[q=3]": lambda t: 4 if t % 3 else 2,
    "dizo[interval=3,inner=10]": lambda t: 2 + (20 if t % 3 == 2 else 0),
    "adazeta-q[steps_per_epoch=2,shrink=1.0,rate=1.0,most=3]": lambda t: 2 * min(max(t // 2, 1), 3),
    "sgd": 1, "sgd-momentum": 1, "adagrad": 1, "rmsprop": 1, "adam": 1, "adamw": 1, "adaptive": 1, "galore": 1, "i3s": 1,
}  # fmt: skip


def test_every_method_has_its_forwards_in_the_table():
    assert {label.partition("[")[0] for label in FORWARDS} == set(ENTRIES)


@pytest.mark.parametrize("label", FORWARDS)
def test_forwards_are_those_of_the_table(label):
    """Invariant 9, counted by a hook, and what cost() says."""
    name, options = registry.parse(label)
    model, count = Model(), []
    opt = make(name, model, **options)
    model.register_forward_pre_hook(lambda *_: count.append(1))
    for t in range(7):
        count.clear()
        opt.step(closure_of(opt, model))
        expected = FORWARDS[label](t) if callable(FORWARDS[label]) else FORWARDS[label]
        assert len(count) == opt.cost(t).forwards == expected


@pytest.mark.parametrize("name", [n for n in ZEROTH if n not in ("stp", "zo-block", "zo-sgd-cons")])
def test_every_group_steps_at_its_own_rate(name):
    """Two steps of two groups, in one place: each moves as it does in a run at its rate. (The three left out probe at lr.)"""
    cut, moves = 2, {}
    rate = 1e-5 if name == "qzo" else 1e-2
    for key in ((rate, rate), (3 * rate, 3 * rate), (rate, 3 * rate)):
        model = Model()
        named = list(model.named_parameters())
        groups = [dict(params=part, lr=lr) for part, lr in zip((named[:cut], named[cut:]), key, strict=True)]
        opt = make(name, groups, mode="auto", **{k: v for k, v in brief(name).items() if k != "lr"})
        opt.attach(model, "copy")
        start, moved = [p.detach().clone() for p in model.parameters()], []
        for _ in range(2):
            opt.step(closure_of(opt, model))
            moved += [p.detach() - w for p, w in zip(model.parameters(), start, strict=True)]
            if not opt.info.get("quantised"):
                for p, w in zip(model.parameters(), start, strict=True):
                    p.data.copy_(w)
            else:
                break
        moves[key] = moved
    for i, (low, high, both) in enumerate(zip(*moves.values(), strict=True)):
        expected = low if i % len(start) < cut else high
        assert torch.allclose(both, expected, rtol=1e-9, atol=1e-13)
        assert not torch.equal(low, high) or not low.any()


def test_every_key_of_the_table_is_an_entry():
    for name in ("zo-softmax", "zo-sgd", *(label.partition("[")[0] for label in FORWARDS)):
        assert registry.find("optimizer", name).kind == "optimizer"


STATE = {  # table 5, in copies of the trained weights (OPT-125M), beside gradients, which no method here keeps between steps
    1: "sgd-momentum adagrad rmsprop mezo-momentum zo-sgd-mmt hizoo mezo-svrg zo-adamu conmezo",
    2: "adam adamw adaptive mezo-adam zo-adam r-adazo",
    3: "zo-adamm",
    0: "sgd mezo mezo-nspsa mezo-onepoint mezo-var mezo-exp mezo-layerwise mezo-gv mezo-greedy s2p vs2p stp brs zo-sgd-sign "
    "zo-sgd-cons forward-grad zo-block zo-sparse sparse-mezo fzoo adamezo adazeta-q kerzoo lezo meazo addax es",
}


def test_state_is_that_of_the_table():
    """lozo, lozo-m, subzero, tezo, zo-muon, dizo and the quantised ones keep a part of a copy; galore and i3s two small ones."""
    exact = {name: copies for copies, names in STATE.items() for name in names.split()}
    for name, entry in ENTRIES.items():
        found = multiple(entry.info, {**entry.common, **entry.options})
        if name in exact:
            assert found == pytest.approx(exact[name], abs=0.01), f"{name}: {found}"
        elif name in ("galore", "i3s", "zo-hybrid", "qzo"):
            assert found < 1, f"{name}: {found}"
        else:
            assert 0 < found < 0.15, f"{name}: {found}"


def test_memory_free_forms_keep_nothing():
    for name in ("mezo-adam", "mezo-momentum", "r-adazo", "conmezo", "zo-adamu"):
        entry = ENTRIES[name]
        assert multiple(entry.info, {**entry.common, **entry.options, "moments": "recomputed"}) == 0


# --- 2: a linear loss ---


@pytest.mark.parametrize("eps", (1e-4, 1e-2, 10.0))
@pytest.mark.parametrize("name", ("mezo", "zo-sgd-mmt", "brs"))
def test_a_linear_loss_gives_the_exact_step(name, eps):
    """theta -= lr (a . z) z for any eps."""
    torch.manual_seed(0)
    a, w = torch.randn(2, 60, dtype=torch.float64)
    w = nn.Parameter(w)
    before = w.detach().clone()
    opt = make(name, [w], lr=0.3, eps=eps)
    draw, drawn = opt.draw, []
    opt.draw = lambda *args, **kw: drawn.append(draw(*args, **kw)) or drawn[-1]
    opt.step(lambda: a @ w)
    (z,) = (materialise(d, before, 0) for d in drawn)
    assert torch.allclose(w.detach(), before - 0.3 * (a @ z) * z, rtol=1e-9, atol=1e-9)


# --- 3: methods that are MeZO at a setting ---


BITWISE = [
    ("mezo-nspsa", dict(n=1)),
    ("sparse-mezo", dict(sparsity=0.0)),
    ("dizo", dict(interval=1000)),
    ("lezo", dict(sparsity=0.0)),
    ("zo-sparse", dict(sparsity=0.0)),
    ("adazeta-q", dict(most=1)),
]
EQUAL = [
    ("s2p", dict(option=2, sign_trick=True, lr=0.01 * 0.5 * 59, lipschitz=0.5)),  # lr / (lipschitz d) = 0.01
    ("mezo-var", dict(scale="none")),
    ("mezo-exp", dict(scale="none")),
    ("hizoo", dict(smooth=0.0)),
    ("brs", dict(sides="two", n=1)),
    ("mezo-momentum", dict(momentum=0.0)),
    ("zo-sgd-mmt", dict(momentum=0.0)),
    ("conmezo", dict(cone=math.pi / 2)),
    ("mezo-svrg", dict(q=1, anchor=1.0)),
    ("addax", dict(mix=1.0)),
]


@pytest.mark.parametrize(("name", "options"), BITWISE)
def test_it_is_mezo_in_equal_bits(name, options):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        common = dict(lr=0.01, weight_decay=0.1, dtype=dtype)
        assert torch.equal(train(name, **common, **options), train("mezo", **common))


@pytest.mark.parametrize(("name", "options"), EQUAL)
def test_it_is_mezo_to_rounding(name, options):
    ours, mezo = train(name, **dict(lr=0.01, eps=0.1) | options), train("mezo", lr=0.01, eps=0.1)
    assert torch.allclose(ours, mezo, rtol=1e-12, atol=1e-12)


PAIRS = [  # (a method, options; another, options; bitwise)
    ("mezo-gv", dict(candidates=3), "mezo", dict(guide="gv", candidates=3), True),
    ("mezo-greedy", dict(candidates=3), "mezo", dict(guide="greedy", candidates=3), True),
    ("zo-adam", dict(lr=0.02), "mezo-adam", dict(lr=0.02), True),
    ("zo-sgd-mmt", dict(queries=2), "mezo-momentum", dict(n=2), True),
    ("adazeta-q", dict(steps_per_epoch=1000, shrink=1.0, rate=0.0, most=3), "mezo-nspsa", dict(n=1), False),
    ("brs", dict(sides="two", n=3), "mezo-nspsa", dict(n=3), False),
    ("brs", dict(sides="two", divide_by_nu=False, lr=0.05), "mezo", dict(lr=0.01), False),  # 1 / (2 nu) = 5
    ("lozo-m", dict(beta=0.0, interval=4), "lozo", dict(interval=4), False),
    ("tezo", dict(variant="m", beta1=0.0, lr=0.001), "tezo", dict(lr=0.001), False),
    ("fzoo", dict(form="paper", lr=0.001, n=5), "fzoo", dict(lr=0.01 * math.sqrt(0.8), n=5), False),
    ("mezo-adam", dict(moments="recomputed", history=20), "mezo-adam", dict(), False),
    ("mezo-momentum", dict(moments="recomputed", history=20), "mezo-momentum", dict(), False),
    ("r-adazo", dict(moments="recomputed", history=20, lr=1e-3), "r-adazo", dict(lr=1e-3), False),
    ("conmezo", dict(moments="recomputed", history=20, warmup=9), "conmezo", dict(warmup=9), False),
    ("zo-adamu", dict(moments="recomputed", history=20, start=5), "zo-adamu", dict(start=5), False),
]


@pytest.mark.parametrize(("a", "given", "b", "others", "bitwise"), PAIRS)
def test_two_methods_agree(a, given, b, others, bitwise):
    common = [dict(lr=0.01) | ({"eps": 0.1} if "eps" in ENTRIES[name].options else {}) for name in (a, b)]
    ours, theirs = train(a, **common[0] | given), train(b, **common[1] | others)
    assert (ours - flat(Model())).abs().max() > 1e-3
    assert torch.equal(ours, theirs) if bitwise else torch.allclose(ours, theirs, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("option", (1, 2, 4))
def test_the_sign_trick_is_the_choice_of_the_better_point(option):
    """On a linear loss, where the sign of the slope says which of the two is lower."""
    found = []
    for trick in (True, False):
        torch.manual_seed(0)
        a, w = torch.randn(2, 40, dtype=torch.float64)
        w = nn.Parameter(w)
        opt = make("s2p", [w], lr=0.3, option=option, sign_trick=trick)
        for _ in range(20):
            opt.step(lambda a=a, w=w: a @ w)
        found.append(w.detach())
    assert torch.allclose(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ("stp", "zo-sgd-cons"))
def test_it_never_accepts_a_higher_loss(name):
    model = Model()
    opt, last = make(name, model, lr=0.3), math.inf
    for _ in range(30):
        opt.step(closure_of(opt, model))
        now = float(model().detach())
        assert now <= last
        last = now


def first_move(name, **options):
    """(move of the first step, its direction z), flat."""
    model = Model()
    opt = make(name, model, **options)
    draw, drawn = opt.draw, []
    opt.draw = lambda *args, **kw: drawn.append(draw(*args, **kw)) or drawn[-1]
    before = flat(model)
    opt.step(closure_of(opt, model))
    z = torch.cat([materialise(drawn[0], p.data, i).flatten() for i, p in enumerate(opt.tensors)])
    return flat(model) - before, z


def test_first_steps_have_the_size_that_the_formulas_give():
    """vs2p: a quarter of lr eps where |g| = sigma; meazo: lr |z|; r-adazo: 1 / sqrt(1 - beta2) = 31.6 lr; zo-adamu: g sign(z)."""
    move, z = first_move("vs2p", lr=0.5, eps=1e-2)
    assert torch.allclose(move.abs(), 0.25 * 0.5 * 1e-2 * z.abs(), rtol=1e-9)
    move, z = first_move("meazo", lr=0.01)
    assert torch.allclose(move.abs(), 0.01 * z.abs(), rtol=1e-5)
    move, _ = first_move("r-adazo", lr=1e-3, n=1)
    assert torch.allclose(move.abs(), torch.full_like(move, 1e-3 / math.sqrt(1e-3)), rtol=1e-3)
    move, z = first_move("zo-adamu", lr=1e-2)
    mezo, same = first_move("mezo", lr=1e-2)
    assert torch.equal(z, same) and torch.allclose(move, mezo / z.abs(), rtol=1e-4)


# --- 4: first order ---


def test_adaptive_without_its_parts_is_adam():
    options = dict(lr=0.01, decay=0.0, clip=0.0, patience=0)
    assert torch.equal(train("adaptive", total_steps=0, **options), train("adam", lr=0.01))


def gradients(rows, cols, steps=12):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(steps, rows, cols, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("name", ("galore", "i3s"))
@pytest.mark.parametrize(("rows", "cols"), ((4, 3), (3, 4), (3, 3)))
def test_full_rank_galore_is_adam_in_a_rotated_basis(name, rows, cols):
    g = gradients(rows, cols)
    u, _, vh = torch.linalg.svd(g[0], full_matrices=False)
    turn = (lambda a: a @ vh.T) if rows >= cols else (lambda a: u.T @ a)
    back = (lambda a: a @ vh) if rows >= cols else (lambda a: u @ a)
    start = torch.ones(rows, cols, dtype=torch.float64)
    w, rotated = nn.Parameter(start.clone()), nn.Parameter(turn(start))
    ours = make(name, [w], lr=0.1, rank=9, gap=100, scale=1.0, eps=1e-8, eps_form="torch")
    adam = torch.optim.Adam([rotated], lr=0.1)
    for gt in g:
        w.grad, rotated.grad = gt, turn(gt)
        ours.step()
        adam.step()
    expected = start + back(rotated.detach() - turn(start))
    assert torch.allclose(w.detach(), expected, rtol=1e-9, atol=1e-10)


def test_i3s_of_full_rank_is_galore():
    moved = []
    for name in ("galore", "i3s"):
        w = nn.Parameter(torch.ones(4, 3, dtype=torch.float64))
        opt = make(name, [w], lr=0.1, rank=3, gap=4)
        for g in gradients(4, 3):
            w.grad = g.clone()
            opt.step()
        moved.append(w.detach())
    assert torch.allclose(*moved, rtol=1e-10)


# --- 6: scale invariance ---


@pytest.mark.parametrize(
    ("name", "options"),
    (
        ("fzoo", dict(lr=1e-2, eps=1e-2)),
        ("zo-sgd-sign", dict(lr=1e-3)),
        ("zo-sgd-sign", dict(lr=1e-3, sign_of="scalar")),
        ("vs2p", dict(lr=1.0, eps=1e-2)),
        ("es", dict(lr=1e-2, eps=1e-2)),
    ),
)
def test_ten_times_the_loss_is_the_same_step(name, options):
    one, ten = train(name, **options), train(name, times=10.0, **options)
    assert (one - flat(Model())).abs().max() > 1e-3
    assert torch.allclose(one, ten, rtol=1e-6 if name == "es" else 1e-9, atol=1e-6 if name == "es" else 1e-10)


# --- 7, 8: the traps of the released code, on what the model sees ---


@pytest.mark.parametrize(("candidates", "alpha"), ((2, 0.5), (5, 0.4)))
def test_gv_combines_the_directions_that_were_evaluated(candidates, alpha):
    """Invariant 7: of every tensor, the reseeding inside the loop over tensors being the release's defect."""
    eps = 1e-2
    _, steps = visits("mezo-gv", 4, lr=1e-2, eps=eps, candidates=candidates, alpha=alpha)
    k = max(1, math.floor(alpha * candidates))
    for before, seen, after in steps:
        assert len(seen) == candidates + 2
        z = [(w - before) / eps for w in seen[:candidates]]
        probe = Model()
        losses = []
        for w in seen[:candidates]:
            nn.utils.vector_to_parameters(w, probe.parameters())
            losses.append(float(probe().detach()))
        order = np.argsort(losses)
        v = sum(z[i] for i in order[:k]) / k - sum(z[i] for i in order[k:]) / (candidates - k)
        assert torch.allclose((seen[-2] - seen[-1]) / (2 * eps), v, rtol=0, atol=1e-10)
        assert parallel(after - before, v)
        assert all(abs(float(torch.dot(a, b))) < 0.9 * float(a.norm() * b.norm()) for a, b in tensors_in_pairs(z))


def tensors_in_pairs(z):
    """Two candidates never share their numbers."""
    return [(z[i], z[j]) for i in range(len(z)) for j in range(i)]


def parallel(a, b):
    return abs(float(a @ b)) > (1 - 1e-9) * float(a.norm() * b.norm())


ALONG = [  # methods that move along the direction that they probed
    ("mezo", {}),
    ("mezo-greedy", {}),
    ("mezo-layerwise", {}),
    ("lozo", dict(interval=1)),
    ("lozo", dict(interval=3)),
    ("subzero", dict(interval=3, rank=2)),
    ("sparse-mezo", {}),
    ("zo-sparse", dict(mask="random", resample=2)),
    ("lezo", {}),
    ("tezo", {}),
    ("conmezo", {}),
    ("s2p", {}),
    ("vs2p", {}),
    ("dizo", dict(interval=1000)),
    ("meazo", dict(n=1)),
]


@pytest.mark.parametrize(("name", "options"), ALONG)
def test_the_update_is_along_what_was_probed(name, options):
    """Invariant 8, and its like for every method with one direction a step: U of the update is U of the probe."""
    _, steps = visits(name, 8, lr=1e-2, eps=1e-2, **options)
    for before, seen, after in steps:
        assert (after - before).norm() > 0
        assert parallel(after - before, seen[-2] - seen[-1])


def test_lozo_keeps_v_for_an_interval_and_renews_it():
    """The row space of every matrix is V's: it stays for `interval` steps, then is another; U is always another."""
    model, steps = visits("lozo", 9, lr=1e-3, eps=1e-2, rank=1, interval=3)
    shape = model.layers[0].weight.shape
    first = [(seen[-2] - seen[-1])[: shape.numel()].view(shape) for _, seen, _ in steps]
    right = [torch.linalg.svd(z)[2][0] for z in first]
    left = [torch.linalg.svd(z)[0][:, 0] for z in first]
    for t in range(8):
        assert (abs(float(right[t] @ right[t + 1])) > 1 - 1e-9) == ((t + 1) % 3 != 0)
        assert abs(float(left[t] @ left[t + 1])) < 0.999


@pytest.mark.parametrize("sparsity", (0.1, 0.5, 0.9))
@pytest.mark.parametrize("mask", ("random", "magnitude"))
def test_zo_sparse_has_the_density_it_says(mask, sparsity):
    """A released mask of 0.1 rests 54 % of the weights, one of 0.9 82 %."""
    w = nn.Parameter(torch.randn(100, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    before = w.detach().clone()
    make("zo-sparse", [w], lr=1.0, mask=mask, sparsity=sparsity).step(lambda: w.sum())
    density = float((w.detach() != before).double().mean())
    assert density == pytest.approx(1 - sparsity, abs=1e-9 if mask == "magnitude" else 5 * 0.5 / 100)


def test_zo_sparse_renews_its_mask_in_time():
    _, steps = visits("zo-sparse", 8, lr=1e-2, mask="random", resample=4, sparsity=0.5)
    masks = [(after != before) for before, _, after in steps]
    assert [torch.equal(masks[t], masks[t + 1]) for t in range(7)] == [True, True, True, False, True, True, True]


def test_small_weights_are_trained_by_sparse_mezo():
    """By magnitude, negative weights too; the mask follows the unperturbed weights, the threshold is that of the start."""
    model, steps = visits("sparse-mezo", 6, lr=1e-2, sparsity=0.75)
    shapes = [p.shape for p in model.parameters()]
    at, start = 0, steps[0][0]
    for shape in shapes:
        part = slice(at, at + shape.numel())
        threshold = start[part].abs().sort().values[math.ceil(0.25 * shape.numel()) - 1]
        for before, seen, after in steps:
            small = before[part].abs() <= threshold
            assert torch.equal((after != before)[part], small) and torch.equal((seen[0] != before)[part], small)
        at += shape.numel()


def test_lezo_rests_its_share_of_layers():
    """Of three layers, one is active at sparsity 0.67; all get their turn."""
    model, steps = visits("lezo", 40, lr=1e-3, sparsity=0.67)
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in (*model.layers, model.head)]
    active = [[bool(part.any()) for part in (after != before).split(sizes)] for before, _, after in steps]
    assert all(sum(a) == 1 for a in active) and all(sum(a[k] for a in active) > 4 for k in range(3))


def test_conmezo_probes_inside_its_cone():
    """Its directions have the length of a Gaussian's and the angle to the momentum that was asked for."""
    eps, cone = 1e-2, 0.3
    _, steps = visits("conmezo", 12, lr=1e-3, eps=eps, cone=cone, warmup=0, beta=0.9)
    m, d = None, len(steps[0][0])
    for before, seen, after in steps:
        z = (seen[0] - seen[1]) / (2 * eps)
        if m is not None:
            along, across = float(z @ m / m.norm()), z - (z @ m) / (m @ m) * m
            u = (along - math.cos(cone) * math.sqrt(d)) / math.sin(cone)  # of u along m: one standard normal
            assert abs(u) < 4 and 0.5 < float(across.norm()) / (math.sin(cone) * math.sqrt(d)) < 1.5
        g_z = (before - after) / 1e-3
        m = 0.9 * (0 * g_z if m is None else m) + 0.1 * g_z


# --- 10: MeZO-SVRG ---


def test_svrg_evaluates_its_snapshot_with_the_same_direction():
    eps = 1e-2
    _, steps = visits("mezo-svrg", 9, lr=1e-3, eps=eps, q=3, anchor=10.0)
    for t, (before, seen, _) in enumerate(steps):
        if t % 3 == 0:
            anchor = before
            continue
        up, down, old_up, old_down = seen
        z = (up - down) / (2 * eps)
        assert torch.allclose((up + down) / 2, before, rtol=0, atol=1e-14)
        assert torch.allclose((old_up + old_down) / 2, anchor, rtol=0, atol=1e-14)
        assert torch.allclose((old_up - old_down) / (2 * eps), z, rtol=0, atol=1e-11)
        assert (before - anchor).abs().max() > 0  # the snapshot is no alias


def test_svrg_at_its_snapshot_takes_the_whole_batch_alone():
    """Invariant 10: while theta is the snapshot the two estimates cancel, and the step is -lr gbar."""
    eps = 1e-2
    _, steps = visits("mezo-svrg", 2, lr=1e-2, eps=eps, q=2, anchor=0.0)  # the first step stays where it is
    (anchor, (up, down), moved), (_, _, after) = steps
    assert torch.equal(anchor, moved)
    z = (up - down) / (2 * eps)
    losses = []
    for w in (up, down):
        model = Model()
        nn.utils.vector_to_parameters(w, model.parameters())
        losses.append(float(model().detach()))
    gbar = (losses[0] - losses[1]) / (2 * eps) * z
    assert torch.allclose(after - anchor, -1e-2 * gbar, rtol=0, atol=1e-12)


# --- unbiased estimates ---


class Bowl(nn.Module):
    """0.5 w H w with two layers, of a matrix and a vector each; the gradient at the start is known."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2).double(), nn.Linear(2, 2).double()])
        self.h = torch.linspace(0.5, 1.5, 12, dtype=torch.float64)
        self.reset()

    def reset(self):
        nn.utils.vector_to_parameters(torch.linspace(-1.0, 1.2, 12, dtype=torch.float64), self.parameters())

    def forward(self, batch=None):
        w = torch.cat([w.flatten() for layer in self.layers for w in (layer.weight, layer.bias)])
        return 0.5 * (self.h * w * w).sum()


def estimates(name, draws, **options):
    """(steps at lr = 1 from fixed weights, one a row; the gradient there)."""
    model = Bowl()
    opt = make(name, model, lr=1.0, mode="copy", **options)
    before, moves = flat(model), []
    for _ in range(draws):
        opt.step(lambda batch=None: model(batch))
        moves.append(before - flat(model))
        model.reset()
    return torch.stack(moves), model.h * before


WEIGHTS = torch.linspace(-1.0, 1.2, 12, dtype=torch.float64)
MATRIX = torch.tensor([1.0, 1, 1, 1, 0, 0] * 2)
NORMS = torch.repeat_interleave(torch.stack([part.norm() for part in WEIGHTS.split(6)]), 6)

UNBIASED = [  # (method, options, what the mean estimate is in units of the gradient)
    ("mezo", {}, 1.0),
    ("mezo", dict(law="sphere"), 1.0),
    ("mezo", dict(law="rademacher", eps=1.0), 1.0),
    ("mezo-nspsa", dict(n=2), 1.0),
    ("mezo-var", dict(scale="parameter"), 1.0),
    ("mezo-var", dict(scale="gradient"), 1.0),
    ("mezo-exp", dict(scale="parameter"), 1 / NORMS),
    ("brs", dict(eps=0.3), 1.0),  # one-sided: third moments are 0
    ("brs", dict(sides="two", n=2), 1.0),
    ("forward-grad", {}, 1.0),
    ("lozo", dict(rank=2, interval=1), 1.0 + MATRIX),  # longer by the rank on matrices
    ("lozo", dict(rank=1, interval=1), 1.0),
    ("subzero", dict(rank=1, interval=1), 1.0),
    ("subzero", dict(rank=2, interval=1), 1.0),
    ("kerzoo", dict(n=2, eps=0.3), 1.0),
    ("kerzoo", dict(n=2, scale=0.5), 0.5),
    ("zo-sparse", dict(mask="random", sparsity=0.5, resample=1), 0.5),
    ("adazeta-q", {}, 1.0),
    ("hizoo", dict(smooth=0.0), 1.0),
    ("zo-block", {}, 1.0),
    ("lezo", dict(sparsity=0.5), 0.5),
]


@pytest.mark.parametrize(("name", "options", "factor"), UNBIASED)
def test_the_mean_estimate_is_the_gradient(name, options, factor):
    """On a quadratic, within standard errors, for any eps."""
    moves, gradient = estimates(name, 400, **options)
    expected = factor * gradient
    error = moves.std(0) / math.sqrt(len(moves))
    assert ((moves.mean(0) - expected).abs() < 4.5 * error + 1e-9).all()
    along = moves @ expected / (expected @ expected)  # the same along the gradient, where it is sharpest
    error = float(along.std()) / math.sqrt(len(moves))
    assert error < 0.2 and abs(float(along.mean()) - 1) < 4 * error


@pytest.mark.parametrize("guide", ("gv", "greedy"))
def test_a_guide_does_not_hide_a_loss_that_is_not_finite(guide):
    model = Model()
    opt = make("mezo", model, guide=guide, mode="copy")
    before, calls = flat(model), []

    def closure():
        calls.append(1)
        return model() * (math.nan if len(calls) == 2 else 1.0)  # the second candidate alone

    with pytest.raises(Diverged):
        opt.step(closure)
    assert torch.equal(before, flat(model))
