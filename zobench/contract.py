"""The contract that every optimizer keeps, as checks: `tests/` runs them over the registry, `zobench test` on a stranger's file.

A check takes a `Subject` and raises Broken with one sentence on what is wrong. Most run on a specimen: a small model with
two named blocks, matrices, biases, a tied pair and a frozen tensor, whose loss is a quadratic.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zobench import checkpoint, plan, registry
from zobench.build import Names
from zobench.core import quantise
from zobench.core.info import Cost, bounds_of, cost, multiple, rate
from zobench.core.many import ManySeeds, vectorised
from zobench.core.trace import Trace
from zobench.core.zeroth_order import Diverged, ZerothOrder, replay
from zobench.meters import Counter, nbytes, state_tensors
from zobench.run import Place, execute

KEYS = {  # of INFO, as one may write them
    "title": "title='Name of the method'",
    "year": "year=2026",
    "paper": "paper='2305.17333' (its arXiv number, or where it appeared)",
    "order": "order='zeroth' (or first, forward, hybrid)",
    "family": "family='two-point' (whose step rate it takes: gradient, two-point, adaptive)",
    "forwards": "forwards='2' (calls of the loss in a step; a formula may use options)",
    "state": "state='0' (bytes that it keeps for a tensor, for example 'numel * wide')",
    "replay": "replay='exact' (what rebuilding from the trace gives: exact, local, none)",
    "mode": "mode='eval' (train for first order)",
    "grid": "grid=dict(lr=(1e-6, 1e-7))",
    "limits": "limits=dict(lr='>=0')",
    "aliases": "aliases=()",
    "notes": "notes=''",
}
ORDERS = ("zeroth", "first", "forward", "hybrid")
FAMILIES = ("gradient", "two-point", "adaptive")
RATES = {"gradient": 0.3, "two-point": 0.015, "adaptive": 0.02}  # at which each family makes progress on the specimen
STEPS = 400
FORWARDS = 3000  # forward-equivalents in which softmax_ce must get somewhere


class Broken(AssertionError):
    """What a check found, in one sentence."""


def demand(holds: bool, sentence: str) -> None:
    if not holds:
        raise Broken(sentence)


class Block(nn.Module):
    """A layer with two parts; its output is a quadratic of its parameters, scaled differently in each."""

    def __init__(self, scale: float):
        super().__init__()
        self.self_attn = nn.ModuleDict({"k_proj": nn.Linear(2, 2), "v_proj": nn.Linear(2, 3, bias=False)})
        self.fc = nn.Linear(2, 2)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        outputs = [layer(x).double().square().sum() for layer in (*self.self_attn.values(), self.fc)]
        return 0.25 * self.scale * sum(outputs)  # type: ignore[return-value]


class Specimen(nn.Module):
    """Two named blocks, a tied embedding and head, a frozen tensor: 34 trained elements, curvature between 0.5 and 2."""

    def __init__(self, dtype: torch.dtype = torch.float64):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.embed = nn.Embedding(3, 2)
            self.layers = nn.ModuleList([Block(0.5), Block(1.0)])
            self.head = nn.Linear(2, 3, bias=False)
            self.head.weight = self.embed.weight
            self.frozen = nn.Parameter(torch.randn(3), requires_grad=False)
            self.to(dtype)

    def forward(self, shift: float = 0.0) -> Tensor:
        """() float64; `shift` tilts it, as another minibatch would."""
        eye = torch.eye(2, dtype=self.frozen.dtype, device=self.frozen.device)
        rows = self.embed(torch.arange(3, device=self.frozen.device)).double()
        loss = 0.25 * rows.square().sum() + 0.5 * self.head(eye).double().square().sum()
        both = torch.cat([eye, -eye])  # so that weights and biases do not mix
        loss = loss + sum(layer(both) for layer in self.layers) + shift * rows.sum()
        return loss + 0.0 * self.frozen.double().sum()


SHIFTS = {None: 0.0, "long": 0.01, "short": -0.01}


def shift_of(batch: Any) -> float:
    """The tilt of a minibatch: small, alternating with its number."""
    return SHIFTS[batch] if batch in SHIFTS else 0.01 * (-1) ** int(batch)


@dataclass
class Subject:
    """An optimizer under test, on the specimen. `brief`: options that make its cycles short (INFO `brief`)."""

    entry: registry.Entry
    seed: int = 7
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def cls(self) -> type:
        return registry.optimizer_class(self.entry)

    @property
    def zeroth(self) -> bool:
        return issubclass(self.cls, ZerothOrder)

    @property
    def text(self) -> str:
        """What a user would type."""
        name = self.entry.name if self.entry.builtin else str(self.entry.path)
        return name + (f"[{','.join(f'{k}={v}' for k, v in self.given.items())}]" if self.given else "")

    @property
    def brief(self) -> dict[str, Any]:
        return dict(self.entry.info.get("brief", {})) | self.given

    def rate(self, d: int = 34) -> float:
        return rate(self.entry.info, {**self.entry.options, **self.brief}, RATES, d)

    def make(self, params: Any, **options: Any) -> Any:
        """The optimizer on a module, or on anything torch.optim takes."""
        options = {"lr": self.rate()} | self.brief | options
        if "total_steps" in {**self.entry.common, **self.entry.options}:
            options.setdefault("total_steps", STEPS)
        if self.zeroth:
            return self.cls(params, **({"seed": self.seed} | options))
        if isinstance(params, nn.Module):
            params = [(name, p) for name, p in params.named_parameters() if p.requires_grad]
        if "seed" in inspect.signature(self.cls).parameters:
            options = {"seed": self.seed} | options
        return self.cls(params, **options)


def closure_of(model: nn.Module, opt: Any, counter: Counter | None = None) -> Callable[..., Any]:
    """The closure of anybody's loop: with gradients on it clears them and calls backward."""

    def closure(batch: Any = None) -> Tensor:
        if torch.is_grad_enabled():
            opt.zero_grad(set_to_none=True)
        loss = model(shift_of(batch))
        if loss.requires_grad:
            if counter is not None:
                counter.watch(loss)
            loss.backward()
        return loss

    return closure


def number(loss: Any) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def train(subject: Subject, model: nn.Module, steps: int, **options: Any) -> tuple[Any, list[float]]:
    opt = subject.make(model, **options)
    closure = closure_of(model, opt)
    return opt, [number(opt.step(closure)) for _ in range(steps)]


# --- what the file says ---


def check_info(subject: Subject) -> None:
    """INFO is complete, and what it says is possible."""
    info, entry = subject.entry.info, subject.entry
    lacks = [text for key, text in KEYS.items() if key not in info]
    demand(not lacks, f"INFO lacks {'; '.join(lacks)}")
    demand(info["order"] in ORDERS, f"order must be one of {', '.join(ORDERS)}, not {info['order']!r}")
    demand(info["family"] in FAMILIES, f"family must be one of {', '.join(FAMILIES)}, not {info['family']!r}")
    demand(info["replay"] in ("exact", "local", "none"), f"replay must be exact, local or none, not {info['replay']!r}")
    mode = "train" if info["order"] == "first" else "eval"
    demand(info["mode"] == mode, f"mode must be {mode!r} for an optimizer of order {info['order']}")
    demand(bool(entry.doc), "the file has no docstring")
    demand("lr" in entry.options, "the class has no option lr")
    demand(bool(subject.cls.__doc__), f"class {subject.cls.__name__} has no docstring")
    known = {**entry.options, **entry.common}
    for step in range(100):
        demand(cost(info, known, step).equivalents > 0, f"step {step} costs nothing: forwards={info['forwards']!r}")
    demand(multiple(info, known) >= 0, f"state={info['state']!r} is negative")
    demand(
        issubclass(subject.cls, torch.optim.Optimizer), "the class is no torch.optim.Optimizer: derive from ZerothOrder"
    )
    advice = (
        "for torch's optimizers write class Yours(FirstOrder, torch.optim.Theirs), as zobench/optimizers/adam.py does"
    )
    demand(hasattr(subject.cls, "cost"), f"the class has no cost(): {advice}")
    for key in ("limits", "choices", "brief", "grid"):
        stray = set(info.get(key, ())) - set(entry.options) - set(entry.common)
        demand(not stray, f"INFO {key} names {', '.join(sorted(stray))}, which the class does not take")


def check_signature(subject: Subject) -> None:
    """Options have literal defaults, keep their limits, and are kept under their names."""
    parameters = inspect.signature(subject.cls).parameters
    for name, value in subject.entry.options.items():
        demand(parameters[name].default == value, f"the default of {name} is {parameters[name].default}, not {value}")
    for name, limit in subject.entry.info["limits"].items():
        for sign, bound in bounds_of(limit):
            bad = bound + (-1 if ">" in sign else 1)
            value = int(bad) if isinstance({**subject.entry.common, **subject.entry.options}[name], int) else bad
            try:
                subject.make(Specimen(), **{name: value})
            except ValueError:
                continue
            raise Broken(f"{name}={value!r} is outside {limit} and is taken without a ValueError")


# --- what it does ---


def check_descends(subject: Subject) -> None:
    """400 steps bring a quadratic below a fifth of its start."""
    model = Specimen()
    with torch.no_grad():
        start = float(model())
    train(
        subject, model, STEPS, **({"mode": "copy"} if subject.zeroth else {})
    )  # the quickest; another check compares them
    with torch.no_grad():
        end = float(model())
    demand(end < 0.2 * start, f"a quadratic of {start:.3g} is still {end:.3g} after {STEPS} steps")


def check_softmax_ce(subject: Subject) -> None:
    """A run of the task softmax_ce at its own rate halves the gap to the optimum in 3,000 forwards."""
    if subject.entry.info.get("quantised"):
        return  # it starts at zero, which says nothing of a grid: tests/test_quantised.py
    asked = plan.Request(["softmax_ce"], [subject.text], seeds=f"{subject.seed},", budget=f"forwards={FORWARDS}")
    with tempfile.TemporaryDirectory() as folder:
        ((row, _),) = execute(plan.jobs(asked, Names()), Place(Path(folder), device="cpu"))
    if row.status == "interrupted":
        raise KeyboardInterrupt
    demand(row.status == "ok" and row.value is not None, f"softmax_ce ends as {row.status}: {row.reason}")
    assert row.value is not None
    demand(row.value < 0.5, f"the gap of softmax_ce is still {row.value:.2g} of its start after {FORWARDS} forwards")


def check_seeds(subject: Subject) -> None:
    """Equal seeds give equal bits, another seed gives others, and seed 0 is a seed."""
    runs = {}
    for key, seed in (("a", 7), ("b", 7), ("0", 0), ("zero", 0), ("1", 1)):
        model = Specimen()
        torch.manual_seed(hash(key) % 1000)  # nothing may come from torch's own generator
        runs[key] = (*train(Subject(subject.entry, seed, subject.given), model, 12), flat(model))
    for a, b in (("a", "b"), ("0", "zero")):
        demand(runs[a][1] == runs[b][1] and torch.equal(runs[a][2], runs[b][2]), f"two runs with one seed differ ({a})")
    if subject.zeroth:
        demand(not torch.equal(runs["0"][2], runs["1"][2]), "seeds 0 and 1 give one run")


def check_dtypes(subject: Subject) -> None:
    """Shapes and dtypes stay what they were, in four dtypes."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        model = Specimen(dtype)
        before = [(p.shape, p.dtype) for p in model.parameters()]
        train(subject, model, 4)
        demand([(p.shape, p.dtype) for p in model.parameters()] == before, f"{dtype}: a shape or dtype changed")
        demand(bool(flat(model).isfinite().all()), f"{dtype}: weights are not finite after 4 steps")


def check_lr_zero(subject: Subject) -> None:
    """With lr = 0 the weights keep every bit, in float32, bfloat16 and float16."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = Specimen(dtype)
        opt = subject.make(model, lr=0.0)
        before = flat(model).clone()  # after the optimizer is made: a quantised entry has rounded them
        for _ in range(8):
            opt.step(closure_of(model, opt))
        demand(torch.equal(before, flat(model)), f"{dtype}: weights changed with lr = 0")


def check_groups(subject: Subject) -> None:
    """A group with lr = 0 stays, the other moves, a frozen tensor stays, tied ones stay one."""
    model = Specimen()
    named = dict(model.named_parameters())
    still, moving = [named["layers.0.fc.weight"]], [p for n, p in named.items() if n != "layers.0.fc.weight"]
    groups = [{"params": still, "lr": 0.0}, {"params": [p for p in moving if p.requires_grad]}]
    opt = subject.make(groups)
    if subject.zeroth:
        opt.attach(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(12):
        opt.step(closure_of(model, opt))
    after = dict(model.named_parameters())
    demand(torch.equal(before["layers.0.fc.weight"], after["layers.0.fc.weight"]), "a group with lr = 0 moved")
    demand(not torch.equal(before["embed.weight"], after["embed.weight"]), "a group with lr > 0 did not move")
    demand(torch.equal(before["frozen"], after["frozen"]), "a frozen tensor moved")
    demand(model.head.weight is model.embed.weight, "tied tensors are no longer one")


def check_grid(subject: Subject) -> None:
    """Weights that an entry has quantised (INFO quantised=True) stay on its grid, at every step and in every dtype."""
    if not subject.entry.info.get("quantised"):
        return
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        model = Specimen(dtype)
        opt = subject.make(model)
        for step in range(13):
            for name, p in opt.named():
                again, scale = p.detach().clone(), opt.state[p]["scale"]
                quantise.write(again, quantise.codes(again, scale, opt.bits), scale)
                demand(torch.equal(again, p), f"{dtype}: {name} is off its grid after {step} steps")
            opt.step(closure_of(model, opt))


def check_no_gradients(subject: Subject) -> None:
    """A method without backward passes leaves no .grad."""
    if not subject.zeroth:
        return
    model = Specimen()
    train(subject, model, 6)
    demand(all(p.grad is None for p in model.parameters()), "it leaves .grad behind")
    demand(all(p.requires_grad == (n != "frozen") for n, p in model.named_parameters()), "it changed requires_grad")


def check_cost(subject: Subject) -> None:
    """Forwards and backwards counted on the model are those of `cost`, step by step."""
    model = Specimen()
    counter, opt = Counter(model), subject.make(model)
    closure = closure_of(model, opt, counter)
    for step in range(16):
        counter.forwards = counter.backwards = 0
        jvps = getattr(opt, "jvps", 0)
        opt.step(closure)
        found = Cost(counter.forwards, counter.backwards, getattr(opt, "jvps", 0) - jvps)
        demand(found == opt.cost(step), f"step {step} took {found}, cost() says {opt.cost(step)}")


def check_state(subject: Subject) -> None:
    """What it keeps between steps has the size that `state_bytes` says."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        model = Specimen(dtype)
        opt, _ = train(subject, model, 16)
        found, said = nbytes(state_tensors(opt)), opt.state_bytes()
        demand(found == said, f"{dtype}: it keeps {found} bytes, state_bytes() says {said}")


def check_resume(subject: Subject) -> None:
    """Written to a file after any step and read back, it goes on to the same bits."""
    whole, steps = Specimen(), 10
    losses = train(subject, whole, steps)[1]
    with tempfile.TemporaryDirectory() as folder:
        for at in (1, 2, 3, 4, 7):
            part, path = Specimen(), Path(folder) / f"{at}.safetensors"
            opt, _ = train(subject, part, at)
            checkpoint.save(path, _named(part), opt, None, {})
            again = Specimen()
            fresh = subject.make(again)
            checkpoint.load(path, _named(again), fresh)
            rest = [number(fresh.step(closure_of(again, fresh))) for _ in range(steps - at)]
            demand(rest == losses[at:], f"taken up after step {at} it reports other losses")
            demand(torch.equal(flat(whole), flat(again)), f"taken up after step {at} it ends in other weights")


def _named(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [(n, p) for n, p in model.named_parameters() if p.requires_grad]


def check_replay(subject: Subject) -> None:
    """The trace rebuilds the weights without a forward pass."""
    if subject.entry.info["replay"] == "none":
        backwards = subject.entry.info.get("backwards", "0")
        demand(backwards != "0", "an optimizer without backward passes must replay")
        return
    for dtype in (torch.float64, torch.bfloat16):
        model, again = Specimen(dtype), Specimen(dtype)
        opt = subject.make(model)
        trace = opt.record()
        for _ in range(12):
            opt.step(closure_of(model, opt))
        again.forward = None  # type: ignore[assignment]
        columns = {k.removeprefix("trace_"): v for k, v in trace.to_columns().items()}
        replay(subject.make(again), Trace.from_columns(**columns))
        demand(torch.equal(flat(model), flat(again)), f"{dtype}: the trace rebuilds other weights")


def check_modes(subject: Subject) -> None:
    """Probes give the same losses streamed, copied, and for bare parameters."""
    if not subject.zeroth:
        return
    found = []
    for mode in ("stream", "copy", "bare"):
        if mode == "bare" and "jvps" in subject.entry.info:
            continue  # a tangent can only be laid on modules
        model = Specimen()
        opt = subject.make(_named(model)) if mode == "bare" else subject.make(model, mode=mode)
        found.append([number(opt.step(closure_of(model, opt))) for _ in range(6)])
    demand(all(f == found[0] for f in found), "the losses depend on the mode in which probes are evaluated")


def check_divergence(subject: Subject) -> None:
    """A loss that is not finite is reported: by an exception, with the weights as they were, or as the loss."""
    for bad in (math.nan, math.inf):
        model = Specimen()
        opt, _ = train(subject, model, 2)
        before, closure = flat(model).clone(), closure_of(model, opt)

        def broken(batch: Any = None, closure: Any = closure, bad: float = bad) -> Tensor:
            return closure(batch) * bad

        for _ in range(4):  # a method may meet it a step later
            try:
                loss = number(opt.step(broken))
            except Diverged:
                demand(
                    torch.equal(before, flat(model)), f"it raised Diverged for a loss of {bad} and moved the weights"
                )
                break
            if not math.isfinite(loss):
                break
        else:
            raise Broken(f"a loss of {bad} is hidden: four steps report finite losses")
        for place in range(opt.cost(2).forwards if subject.zeroth else 0):
            _one_bad_probe(subject, bad, place)


def _one_bad_probe(subject: Subject, bad: float, place: int) -> None:
    """One forward of a step is not finite: the step is not taken, or the loss says so."""
    model = Specimen()
    opt, _ = train(subject, model, 2, mode="copy")  # a streamed probe would be looked at twice
    before, closure, calls = flat(model).clone(), closure_of(model, opt), [0]

    def broken(batch: Any = None) -> Tensor:
        calls[0] += 1
        return closure(batch) * (bad if calls[0] == place + 1 else 1.0)

    for step in range(4):
        try:
            if not math.isfinite(number(opt.step(broken))):
                return
        except Diverged:
            demand(step > 0 or torch.equal(before, flat(model)), f"Diverged for probe {place + 1}, and weights moved")
            return
    finite = bool(flat(model).isfinite().all())
    demand(
        False,
        f"probe {place + 1} of a step was {bad} and nothing says so; weights are {'' if finite else 'not '}finite",
    )


def check_lockstep(subject: Subject) -> None:
    """Where it says `elementwise`, many seeds at once follow the runs alone."""
    if not (subject.zeroth and subject.cls.elementwise):
        return
    seeds, steps = (0, 3, 5), 8
    start = {n: p.detach().clone() for n, p in _named(Specimen())}
    many = ManySeeds(start, lambda named, seed: subject.make(named, seed=seed), seeds)
    demand(many.vector, "it says elementwise and is not driven with arrays")
    together = [many.step(vectorised(Specimen())) for _ in range(steps)]
    for s, seed in enumerate(seeds):
        alone = train(Subject(subject.entry, seed, subject.given), Specimen(), steps)[1]
        worst = max(abs(t[s] - a) / abs(a) for t, a in zip(together, alone, strict=True))
        demand(worst < 1e-9, f"seed {seed} alone and in lockstep differ by {worst:.1e}")


def check_scheduler(subject: Subject) -> None:
    """torch's learning-rate schedulers drive it, and it survives a deep copy."""
    model = Specimen()
    opt = subject.make(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(opt, lambda step: 0.5 if step < 2 else 0.0)
    for _ in range(2):
        opt.step(closure_of(model, opt))
        scheduler.step()
    before = flat(model).clone()
    opt.step(closure_of(model, opt))
    demand(torch.equal(before, flat(model)), "a scheduler set lr to 0 and the weights moved")
    demand(json.dumps(sorted(copy.deepcopy(opt).state_dict())) == json.dumps(sorted(opt.state_dict())), "no deep copy")


CHECKS: dict[str, Callable[[Subject], None]] = {
    name.removeprefix("check_"): value for name, value in list(globals().items()) if name.startswith("check_")
}


def run(subject: Subject) -> Iterator[tuple[str, str | None]]:
    """(check, None or what it found), one after the other; only the first where INFO is broken, on which the others rest."""
    for name, check in CHECKS.items():
        found = None
        try:
            check(subject)
        except Broken as broken:
            found = str(broken)
        except (Exception, SystemExit) as error:
            found = f"{type(error).__name__}: {error}".splitlines()[0]
        yield name, found
        if name == "info" and found:
            return
