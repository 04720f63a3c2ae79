"""Every optimizer without (only) backward passes follows the slow oracle of its algorithm box, fed the same random numbers."""

import numpy as np
import pytest
import torch
from oracle import ORACLES, Noise
from torch import nn

from zobench import registry
from zobench.core import philox
from zobench.core.info import COMMON
from zobench.core.perturb import materialise, seeded

STEPS = 22
ROWS, CLASSES = 24, 3
BATCHES = {None: 0, "long": 101, "short": 202}

ENTRIES = {name: e for name, e in registry.entries("optimizer").items() if e.info.get("order") != "first"}

# Options that make intervals short, eps large (what is not exact in eps shows) and the moves large.
CASES = {
    "mezo": [
        dict(lr=0.01),
        dict(lr=0.01, weight_decay=0.1),
        dict(lr=0.01, law="rademacher"),
        dict(lr=0.01, law="sphere"),
    ],
    "mezo-nspsa": [
        dict(lr=0.02, n=3, weight_decay=0.1),
        dict(lr=0.005, n=3, average=False),
        dict(lr=0.01, n=4, schedule="linear", resample_batch=True, weight_decay=0.1),
    ],
    "mezo-momentum": [
        dict(lr=0.002),
        dict(lr=0.002, n=2, weight_decay=0.1, momentum=0.5),
        dict(lr=0.002, moments="recomputed", history=5),
    ],
    "mezo-onepoint": [dict(lr=0.001, eps=0.2, weight_decay=0.1)],
    "mezo-var": [
        dict(lr=0.005, scale="gradient", recompute=5),
        dict(lr=0.005, scale="parameter", weight_decay=0.1),
        dict(lr=0.01, scale="none"),
    ],
    "mezo-exp": [
        dict(lr=0.002, scale="gradient", probes=3),
        dict(lr=0.005, scale="parameter", recompute=7, weight_decay=0.1),
    ],
    "mezo-layerwise": [dict(lr=0.03, weight_decay=0.1)],
    "mezo-gv": [dict(lr=0.01), dict(lr=0.01, candidates=5, alpha=0.3, weight_decay=0.1)],
    "mezo-greedy": [dict(lr=0.01), dict(lr=0.01, candidates=4, weight_decay=0.1)],
    "mezo-adam": [
        dict(lr=0.02),
        dict(lr=0.02, n=2, weight_decay=0.1),
        dict(lr=0.02, moments="recomputed", history=5),
    ],
    "s2p": [
        dict(lr=0.05),
        dict(lr=0.3, schedule="total", sign_trick=False),
        dict(lr=1.0, option=2, lipschitz=0.7),
        dict(lr=1.0, option=2, lipschitz=0.7, sign_trick=False),
        dict(lr=1.0, option=4, l0=0.7, l1=0.4),
        dict(lr=1.0, option=4, l0=0.7, l1=0.4, sign_trick=False),
    ],
    "vs2p": [dict(lr=1.0, window=6), dict(lr=1.0, schedule="linear"), dict(lr=1.0, schedule="cosine")],
    "stp": [dict(lr=1.0), dict(lr=1.0, schedule="inverse", law="gaussian"), dict(lr=0.3, schedule="constant")],
    "brs": [
        dict(lr=0.01, weight_decay=0.1),
        dict(lr=0.02, n=3, law="sphere"),
        dict(lr=0.01, n=2, sides="two"),
        dict(lr=0.1, n=2, sides="two", divide_by_nu=False),
        dict(lr=0.02, n=3, sides="two", divide_by_nu=False, normalise=True),
        dict(lr=0.1, n=3, divide_by_nu=False),
    ],
    "zo-sgd-sign": [
        dict(lr=0.01),
        dict(lr=0.01, n=3, weight_decay=0.1),
        dict(lr=0.01, n=3, sides="one"),
        dict(lr=0.01, sign_of="scalar"),
        dict(lr=0.01, n=2, sign_of="scalar"),
    ],
    "zo-sgd-mmt": [dict(lr=0.002), dict(lr=0.002, queries=2, sides="one", weight_decay=0.1, momentum=0.5)],
    "zo-adam": [dict(lr=0.02), dict(lr=0.02, queries=2, sides="one", weight_decay=0.1)],
    "zo-sgd-cons": [dict(lr=0.01), dict(lr=0.01, reuse=True)],
    "zo-block": [
        dict(lr=0.01, weight_decay=0.1),
        dict(lr=0.01, level="part"),
        dict(lr=0.01, level="linear", immediate=False, weight_decay=0.1),
    ],
    "zo-sparse": [
        dict(lr=0.01, resample=5, weight_decay=0.1),
        dict(lr=0.01, sparsity=0.9, resample=1, queries=2),
        dict(lr=0.01, sparsity=0.7, resample=4, groups="global", sides="one", queries=2),
        dict(lr=0.01, sparsity=0.6, mask="magnitude"),
        dict(lr=0.01, sparsity=0.6, mask="magnitude", groups="global"),
        dict(lr=0.01, sparsity=0.6, mask="magnitude", keep="top", queries=2),
        dict(lr=0.01, sparsity=0.6, mask="magnitude", keep="top", groups="global"),
    ],
    "sparse-mezo": [dict(lr=0.01, sparsity=0.8, weight_decay=0.1), dict(lr=0.01, sparsity=0.3)],
    "lezo": [dict(lr=0.01, sparsity=0.5, weight_decay=0.1), dict(lr=0.01)],
    "es": [dict(lr=0.05, population=6), dict(lr=0.05)],
    "fzoo": [dict(lr=0.05), dict(lr=0.05, n=3, weight_decay=0.1), dict(lr=0.0025, n=3, form="paper")],
    "addax": [dict(lr=0.02, mix=0.3, weight_decay=0.1), dict(lr=0.02, mix=0.3, split="length")],
    "lozo": [dict(lr=0.01, rank=2, interval=5, weight_decay=0.1), dict(lr=0.01, rank=1, interval=1)],
    "hizoo": [dict(lr=0.01, smooth=0.05), dict(lr=0.01, smooth=0.0, weight_decay=0.1)],
    "forward-grad": [dict(lr=0.01), dict(lr=0.01, weight_decay=0.1)],
    "zo-hybrid": [
        dict(lr=0.01, ratio=3.0),
        dict(lr=0.01, ratio=1.0, late=2, weight_decay=0.1),
        dict(lr=0.01, ratio=2.0, fo="adam"),
    ],
    "lozo-m": [dict(lr=0.01, rank=2, interval=4, weight_decay=0.1), dict(lr=0.01, rank=1, interval=3, beta=0.5)],
    "subzero": [
        dict(lr=0.01, rank=2, interval=5, weight_decay=0.1),
        dict(lr=0.01, rank=8, interval=7),
        dict(lr=0.01, rank=2, interval=7, aspect=1.2),
    ],
    "mezo-svrg": [
        dict(lr=0.003, q=4, anchor=3.0, anchor_batches=3, weight_decay=0.1),
        dict(lr=0.005, q=2, anchor=1.0),
        dict(lr=0.005, q=3, anchor=1.0, anneal=2.0, window=2),
        dict(lr=0.005, q=3, anchor=1.0, anneal=1e4, window=3),
    ],
    "zo-adamu": [
        dict(lr=0.01, start=4, weight_decay=0.1),
        dict(lr=0.01, start=2, total_steps=15),
        dict(lr=0.01, start=2, total_steps=15, moments="recomputed", history=3),
    ],
    "r-adazo": [
        dict(lr=0.001, mu=0.5),
        dict(lr=0.02, mu=0.5, n=3, bias_correction=True, weight_decay=0.1),
        dict(lr=0.001, mu=0.5, moments="recomputed", history=4),
    ],
    "conmezo": [
        dict(lr=0.005, warmup=15, weight_decay=0.1),
        dict(lr=0.005, warmup=0, beta=0.9, cone=1.0),
        dict(lr=0.005, warmup=0, beta=0.9, cone=1.0, moments="recomputed", history=4),
    ],
    "zo-muon": [
        dict(lr=0.03, rank=2, interval=5, vector_lr=0.1, weight_decay=0.1),
        dict(lr=0.01, rank=2, interval=5, n=2, opt="sgd"),
    ],
    "meazo": [dict(lr=0.02), dict(lr=0.02, n=3, weight_decay=0.1)],
    "dizo": [
        dict(lr=0.01, interval=4, inner=3),
        dict(lr=0.01, interval=3, inner=2, weight_decay=0.1, step_size=200.0, radius=0.01),
    ],
    "tezo": [
        dict(lr=0.002, rank=3, weight_decay=0.1),
        dict(lr=0.005, rank=2, variant="m", weight_decay=0.1),
        dict(lr=0.005, rank=3, variant="adam", weight_decay=0.1),
    ],
    "adamezo": [dict(lr=0.0005, history=5), dict(lr=0.0005, history=3, weight_decay=0.1)],
    "kerzoo": [dict(lr=0.002), dict(lr=0.005, n=3, scale=0.5, weight_decay=0.1)],
    "adazeta-q": [dict(lr=0.01, steps_per_epoch=4, shrink=1.2, rate=0.7, most=4, weight_decay=0.1)],
    "quzo": [
        dict(lr=0.01, weight_decay=0.1),
        dict(lr=0.01, n=2, bits=5, eps=0.2),
        dict(lr=0.01, scales="tensor", bits=6, eps=0.2),
    ],
    "qzo": [
        dict(lr=0.0002, eps=0.01),
        dict(lr=0.0002, eps=0.001, bits=8, scales="tensor", clip=0.5),
        dict(lr=0.02, eps=0.05, clip=0.5, law="rademacher"),
    ],
    "zo-adamm": [dict(lr=0.01), dict(lr=0.01, beta2=0.99, weight_decay=0.1)],
}
GUIDED = ["mezo", "subzero", "lozo", "sparse-mezo", "mezo-adam"]


def rows_of(batch, step):
    """Which rows a minibatch holds: others for every step and every `batch`."""
    number = BATCHES[batch] if batch in BATCHES else int(batch)
    return np.random.default_rng(1000 * step + number).permutation(ROWS)[:8]


class Model(nn.Module):
    """Two named blocks with attention-like names, an embedding and a head; not a quadratic."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.embed = nn.Embedding(6, 4)
            self.layers = nn.ModuleList(
                nn.ModuleDict({"self_attn": nn.ModuleDict({name: nn.Linear(4, 3)}), "fc": nn.Linear(3, 4, bias=False)})
                for name in ("k_proj", "v_proj")
            )
            self.head = nn.Linear(4, CLASSES, bias=False)
            self.to(torch.float64)
        rng = np.random.default_rng(3)
        self.tokens, self.labels = rng.integers(0, 6, ROWS), rng.integers(0, CLASSES, ROWS)

    def forward(self, rows):
        x = self.embed(torch.from_numpy(self.tokens[rows]))
        for layer, name in zip(self.layers, ("k_proj", "v_proj"), strict=True):
            x = x + layer.fc(torch.tanh(layer.self_attn[name](x)))
        return nn.functional.cross_entropy(self.head(x), torch.from_numpy(self.labels[rows]))


class Loss:
    """The same loss in numpy. Complex weights give derivatives: d L / d w_i = Im L(w + i h e_i) / h, to rounding."""

    def __init__(self, model):
        self.tokens, self.labels = model.tokens, model.labels

    def value(self, w, rows):
        embed, k0, b0, f0, k1, b1, f1, head = w
        x = embed[self.tokens[rows]]
        for k, b, f in ((k0, b0, f0), (k1, b1, f1)):
            x = x + np.tanh(x @ k.T + b) @ f.T
        logits = x @ head.T
        logits = logits - logits.real.max(1, keepdims=True)
        return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(rows)), self.labels[rows]])

    def __call__(self, w, batch, step):
        return float(self.value(w, rows_of(batch, step)))

    def gradient(self, w, batch, step):
        found, h = [np.zeros_like(a) for a in w], 1e-30
        for i, a in enumerate(w):
            for place in np.ndindex(a.shape):
                shifted = [b.astype(complex) for b in w]
                shifted[i][place] += 1j * h
                found[i][place] = self.value(shifted, rows_of(batch, step)).imag / h
        return found


def spy(opt, noise):
    """Write down every number the optimizer draws, once."""
    draw, numbers, seen, shapes = opt.draw, opt.numbers, set(), {}

    def drawn(*args, **kwargs):
        z = draw(*args, **kwargs)
        (term,) = z.terms
        key = (term.source.law, term.source.draw, term.source.stream)
        assert key not in seen, f"direction {key} is drawn twice"
        seen.add(key)
        arrays = [materialise(z, p.data, i).numpy().copy() for i, p in enumerate(opt.tensors)]
        noise.directions.append((term.source.draw, term.source.stream, arrays))
        return z

    def numbered(i, shape, draw, stream, law="gaussian"):
        value = numbers(i, shape, draw, stream, law)
        key = (i, draw, stream)
        assert shapes.setdefault(key, tuple(shape)) == tuple(shape), f"numbers {key} serve two shapes"
        if key not in seen:  # they may be drawn again in place of being kept
            seen.add(key)
            noise.arrays[i, stream].append(value.numpy().copy())
        return value

    def mask():
        """zo-sparse draws its mask where it is used, by the number that it remembers."""
        key = ("gaussian", opt.memory["mask"], philox.SECOND)
        assert key not in seen, "a mask is drawn twice"
        seen.add(key)
        z = seeded(*key[:2], opt.seed, key[2])
        return [materialise(z, p.data, i).numpy() for i, p in enumerate(opt.tensors)]

    def uniform():
        """kerzoo's radius has the number of the direction that it belongs to."""
        return float(philox.uniform(opt.seed, noise.last, 0, philox.ROUNDING, 1))

    def uniforms():
        """quzo draws those of a rounding where they are used."""
        function = rounding()
        noise.roundings.append(
            [function(p.data, i, slice(0, p.numel())).view(p.shape).numpy() for i, p in enumerate(opt.tensors)]
        )
        return function

    noise.mask, noise.uniform, noise.roundings = mask, uniform, []
    opt.draw, opt.numbers = drawn, numbered
    if hasattr(type(opt), "uniform"):
        rounding, opt.uniform, noise.uniforms = opt.uniform, uniforms, lambda: noise.roundings.pop(0)


def weights(model):
    return [p.detach().numpy().copy() for p in model.parameters()]


def follow(name, options, steps=STEPS, rtol=1e-9):
    entry, model, noise = ENTRIES[name], Model(), Noise()
    start = weights(model)  # a quantised entry rounds them when it is made
    cls = registry.optimizer_class(entry)
    known = {**entry.common, **entry.options}
    total = {"total_steps": steps} if "total_steps" in known else {}
    opt = cls(model, seed=7, mode="copy", **(dict(eps=0.05) if "eps" in entry.options else {}) | total | options)
    spy(opt, noise)
    given = COMMON | dict(eps=1e-3) | known | dict(eps=getattr(opt, "eps", None)) | total | options
    oracle = ORACLES[name](start, Loss(model), noise, [n for n, _ in model.named_parameters()], given)

    def closure(batch=None):
        loss = model(rows_of(batch, opt.steps))
        if torch.is_grad_enabled():
            loss.backward()
        return loss

    for t in range(steps):
        opt.step(closure)
        oracle.step()
        assert not noise.rest() and not noise.roundings, f"step {t}: drawn but not needed: {noise.rest()}"
        for (n, p), a in zip(model.named_parameters(), oracle.w, strict=True):
            found = p.detach().numpy()
            worst = np.abs(found - a).max() / max(np.abs(a).max(), 1e-3)
            assert worst < rtol, f"step {t}: {n} differs from the oracle by {worst:.1e}"
    moved = max(np.abs(a - b).max() for a, b in zip(start, oracle.w, strict=True))
    assert 1e-3 < moved < 1e3, f"a test in which weights move by {moved:.1e} shows little"
    return opt, oracle


def every_case():
    return [pytest.param(name, options, id=f"{name}-{k}") for name in CASES for k, options in enumerate(CASES[name])]


@pytest.mark.parametrize(("name", "options"), every_case())
def test_the_oracle_is_followed(name, options):
    follow(name, options)


@pytest.mark.parametrize("guide", ("gv", "greedy"))
@pytest.mark.parametrize("name", GUIDED)
def test_guided_directions_follow_it_too(name, guide):
    for extra in (dict(candidates=2), dict(candidates=5, alpha=0.3)):
        follow(name, {**CASES[name][0], "guide": guide, **extra})


LONE = ("mezo-gv", "mezo-greedy", "quzo", "qzo")  # guided already, or with an oracle that knows no guide
ALSO = [name for name in CASES if name not in (*GUIDED, *LONE)]


@pytest.mark.parametrize("name", ALSO)
def test_a_guide_combines_with(name):
    follow(name, {**CASES[name][0], "guide": "gv", "candidates": 3}, steps=8)


@pytest.mark.parametrize("name", registry.entries("optimizer"))
def test_every_entry_has_an_oracle(name):
    """A new file brings one: in oracle.py, with a case above."""
    assert name in ORACLES, f"{name} has no oracle in tests/oracle.py"
    assert CASES.get(name) or FIRST.get(name), f"{name} has no case in {__file__}"


FIRST = {
    "sgd": [dict(lr=0.3)],
    "sgd-momentum": [dict(lr=0.1)],
    "adagrad": [dict(lr=0.05)],
    "rmsprop": [dict(lr=0.01)],
    "adam": [dict(lr=0.02, weight_decay=0.1)],
    "adamw": [dict(lr=0.02, weight_decay=0.1)],
    "adaptive": [
        dict(lr=0.02, total_steps=20, clip=0.2, warmup=4, weight_decay=0.1),
        dict(lr=0.02, decay=0.0, clip=0.0, patience=0),
    ],
    "galore": [
        dict(lr=0.02, rank=2, gap=4, weight_decay=0.1, eps=1e-3),
        dict(lr=0.02, rank=1, gap=1, eps=1e-3, eps_form="torch"),
    ],
    "i3s": [dict(lr=0.02, rank=2, gap=4, weight_decay=0.1)],
}


@pytest.mark.parametrize(("name", "options"), [(name, options) for name in FIRST for options in FIRST[name]])
def test_first_order_follows_it_too(name, options):
    entry, model, noise = registry.entries("optimizer")[name], Model(), Noise()
    opt = registry.optimizer_class(entry)(list(model.named_parameters()), **options)
    tensors = list(model.parameters())
    noise.basis = lambda i: opt.state[tensors[i]]["basis"].numpy()
    if name == "i3s":  # which singular vectors it draws
        choose, chosen = opt.choose, {}

        def watched(values, r, group, draw, tensor):
            found = choose(values, r, group, draw, tensor)
            assert len(set(found.tolist())) == r
            return chosen.setdefault(tensor, found)

        opt.choose, noise.indices = watched, lambda i: chosen.pop(i).tolist()
    given = dict(weight_decay=0.0) | {**entry.common, **entry.options} | options | dict(decoupled=name != "adam")
    oracle = ORACLES[name](weights(model), Loss(model), noise, [n for n, _ in model.named_parameters()], given)
    for t in range(STEPS):

        def closure(t=t):
            opt.zero_grad()
            loss = model(rows_of(None, t))
            loss.backward()
            return loss

        opt.step(closure)
        oracle.step()
        if name == "adaptive" and options.get("clip"):  # validation gets worse: 2 in a row halve the rate
            opt.observe({"loss": 1.0 + t})
            oracle.kappa = 0.5 ** (t // 2)
        for (n, p), a in zip(model.named_parameters(), oracle.w, strict=True):
            worst = np.abs(p.detach().numpy() - a).max() / np.abs(a).max()
            assert worst < 1e-7, f"step {t}: {n} differs from the oracle by {worst:.1e}"  # Adam's division, the SVD


def test_i3s_draws_by_singular_value():
    """One of them: with a chance in proportion. Without replacement: none twice."""
    opt = registry.optimizer_class(registry.entries("optimizer")["i3s"])([nn.Parameter(torch.ones(3, 3))])
    values, group = torch.tensor([5.0, 3.0, 2.0]), opt.param_groups[0]
    counts = np.bincount([int(opt.choose(values, 1, group, draw, 0)) for draw in range(1000)], minlength=3) / 1000
    assert np.abs(counts - np.array([0.5, 0.3, 0.2])).max() < 4 * np.sqrt(0.25 / 1000)
    assert opt.choose(values, 3, group, 0, 0).tolist() == [0, 1, 2]


def test_the_two_losses_are_one():
    model = Model()
    loss, rows = Loss(model), rows_of(3, 5)
    value = model(rows)
    assert loss(weights(model), 3, 5) == pytest.approx(float(value.detach()), rel=1e-13)
    value.backward()
    for g, p in zip(loss.gradient(weights(model), 3, 5), model.parameters(), strict=True):
        assert np.allclose(g, p.grad.numpy(), rtol=1e-10, atol=1e-14)
