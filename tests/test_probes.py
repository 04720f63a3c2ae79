"""Probes never write the weights, and every read of a weight goes through its window, however the module is built."""

import copy
import math

import pytest
import torch
from torch import nn

from zobench.core.perturb import seeded
from zobench.core.zeroth_order import Diverged
from zobench.optimizers import MeZO

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Nested(nn.Module):
    """A parent that owns parameters and calls children that own some too, and reads its own after they ran."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.randn(6))
        self.inner = nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6))
        self.shift = nn.Parameter(torch.randn(6))

    def forward(self, x):
        return (self.inner(x * self.scale[:5]) * self.scale + self.shift).square().mean()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(40, 8)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 40, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        ids = (x.flatten().abs() * 7).long() % 40
        return self.head(self.mix(self.embed(ids))).logsumexp(-1).mean()


class Attention(nn.Module):
    """torch's own: out_proj is never run, its weight is read by the parent."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(5, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        h = self.lift(x)[None]
        return self.attend(h, h, h, need_weights=False)[0].square().mean()


class Dictionary(nn.Module):
    """Parameters in containers that never run, and one read by a child's child through a closure."""

    def __init__(self):
        super().__init__()
        self.table = nn.ParameterDict({"a": nn.Parameter(torch.randn(5)), "b": nn.Parameter(torch.randn(5))})
        self.list = nn.ParameterList([nn.Parameter(torch.randn(5))])

    def forward(self, x):
        return ((x * self.table["a"] + self.table["b"]) * self.list[0]).square().mean()


class Borrower(nn.Module):
    """A child reads a parameter that its parent does not hold either: it was captured when the child was made."""

    class Child(nn.Module):
        def __init__(self, borrowed):
            super().__init__()
            self.borrowed = [borrowed]  # in a list: not registered

        def forward(self, x):
            return x * self.borrowed[0]

    def __init__(self):
        super().__init__()
        self.lender = nn.Linear(5, 5)
        self.child = self.Child(self.lender.bias)

    def forward(self, x):
        return (self.child(x) + self.lender(x)).square().mean()


class ReturnsItsWeight(nn.Module):
    """The output is the parameter itself, used after its module has finished and others have run."""

    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.Parameter(torch.randn(5, 5))

        def forward(self):
            return self.rows[1:3]

    def __init__(self):
        super().__init__()
        self.table, self.work = self.Table(), nn.Linear(5, 5)

    def forward(self, x):
        rows = self.table()
        return (self.work(x) @ rows.t()).square().mean()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRU(5, 4, batch_first=True)

    def forward(self, x):
        return self.cell(x[None])[0].square().mean()


class Large(nn.Module):
    """A linear layer above 16 MiB, perturbed in tiles, and an embedding whose rows are perturbed as they are looked up."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(3000, 600), nn.Linear(600, 9000)

    def forward(self, x):
        ids = (x.flatten().abs() * 997).long() % 3000
        return self.head(self.embed(ids)).float().logsumexp(-1).mean()


MODELS = (Nested, Tied, Attention, Dictionary, Borrower, ReturnsItsWeight, Recurrent, Large)


def make(kind, dtype=torch.float32):
    torch.manual_seed(3)
    return kind().to(dtype).eval(), torch.randn(7, 5).to(dtype)


def true_value(model, x, direction):
    """The loss at w + direction, from a deep copy that is really written."""
    moved = copy.deepcopy(model)
    for i, p in enumerate(moved.parameters()):
        z = torch.zeros(p.shape, dtype=torch.float64 if p.dtype == torch.float64 else torch.float32)
        from zobench.core.perturb import perturb

        perturb([z], [z], direction, index=[i])
        p.data = (p.data.to(z.dtype) + z).to(p.dtype)
    with torch.no_grad():
        return float(moved(x))


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32))
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("mode", ("stream", "copy", "inplace"))
def test_a_probe_is_the_loss_at_the_perturbed_weights(kind, mode, dtype):
    model, x = make(kind, dtype)
    opt = MeZO(model, seed=5, mode=mode)
    with torch.no_grad():
        for draw in (1, 2):
            direction = 0.1 * seeded("gaussian", draw, 5)
            got = float(opt.evaluator.value(opt.at(direction), lambda: model(x)))
            assert got == pytest.approx(true_value(model, x, direction) if mode != "inplace" else got, rel=1e-5)
            opt.evaluator.flush()
            assert got != pytest.approx(float(model(x)), rel=1e-5)  # the direction really was there
    if mode == "stream":
        assert opt.evaluator.mode == "stream" and opt.evaluator.stream.verified


@pytest.mark.parametrize(
    "kind, dtype", [(k, d) for k in MODELS for d in DTYPES if k is not Recurrent or d.itemsize > 2]
)
@pytest.mark.parametrize("mode", ("stream", "copy"))
def test_weights_are_bit_identical_at_lr_zero(kind, mode, dtype):
    model, x = make(kind, dtype)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    places = {k: v.data_ptr() for k, v in model.state_dict().items()}
    opt = MeZO(model, lr=0.0, eps=1e-2, seed=5, mode=mode)
    for _ in range(3):
        opt.step(lambda: model(x).float())
    after = model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert places == {k: v.data_ptr() for k, v in after.items()}


@pytest.mark.parametrize("dtype, bound", ((torch.float32, 1e-6), (torch.float64, 1e-14)))
def test_inplace_restores_to_rounding(dtype, bound):
    model, x = make(Nested, dtype)
    flat = lambda: torch.cat([p.detach().flatten() for p in model.parameters()])  # noqa: E731
    before = flat().clone()
    opt = MeZO(model, lr=0.0, seed=5, mode="inplace")
    opt.step(lambda: model(x))
    assert float((flat() - before).norm() / before.norm()) < bound


@pytest.mark.parametrize("kind", MODELS)
def test_modes_take_the_same_steps(kind):
    finals = []
    for mode in ("stream", "copy", "inplace"):
        model, x = make(kind, torch.float64)
        opt = MeZO(model, lr=1e-3, seed=5, mode=mode)
        for _ in range(3):
            opt.step(lambda: model(x))  # noqa: B023
        finals.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.allclose(finals[0], finals[1], rtol=0, atol=1e-9)
    assert torch.allclose(finals[0], finals[2], rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", ("stream", "copy", "inplace"))
@pytest.mark.parametrize("error", (RuntimeError, KeyboardInterrupt))
def test_an_exception_inside_the_forward_leaves_everything_in_place(mode, error):
    model, x = make(Nested, torch.float64)
    opt = MeZO(model, lr=1e-3, seed=5, mode=mode)
    opt.step(lambda: model(x))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    steps, draws = opt.steps, opt.draws
    handle = model.inner[1].register_forward_hook(lambda *_: (_ for _ in ()).throw(error("stop")))
    with pytest.raises(error):
        opt.step(lambda: model(x))
    handle.remove()
    after = model.state_dict()
    for k in before:
        assert torch.allclose(before[k], after[k], rtol=0, atol=0 if mode != "inplace" else 1e-15)
    assert (opt.steps, opt.draws) == (steps, draws)
    assert not model.inner[0]._forward_hooks and not model.inner[0]._forward_pre_hooks
    opt.step(lambda: model(x))  # and it goes on


def test_no_hook_and_no_foreign_tensor_stays_behind():
    model, x = make(Large)
    opt = MeZO(model, seed=5)
    opt.step(lambda: model(x))
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert all(type(p) is nn.Parameter for p in module._parameters.values() if p is not None)


def test_the_sentinel_finds_a_read_outside_every_window():
    """The guard can fail: a read that no hook and no torch function can see still shows as NaN, and copy takes over."""

    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.run, self.quiet = nn.Linear(5, 5), nn.Linear(5, 5)

        def forward(self, x):
            with torch._C.DisableTorchFunction():
                return (self.run(x) + torch._C._nn.linear(x, self.quiet.weight)).square().mean()

    model, x = make(Hidden)
    opt = MeZO(model, seed=5)
    direction = 0.1 * seeded("gaussian", 1, 5)
    with torch.no_grad():
        got = float(opt.evaluator.value(opt.at(direction), lambda: model(x)))
    assert opt.evaluator.mode == "copy"
    assert got == pytest.approx(true_value(model, x, direction), rel=1e-5)


def test_a_truly_infinite_loss_is_reported_not_hidden():
    model, x = make(Nested)
    opt = MeZO(model, seed=5)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(Diverged):
        opt.step(lambda: model(x) * math.inf)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert opt.evaluator.mode == "stream"


def test_several_forwards_in_a_closure_select_copy():
    model, x = make(Nested)
    opt = MeZO(model, seed=5)
    opt.step(lambda: model(x) + model(-x))
    assert opt.evaluator.mode == "copy"


def test_generation_inside_the_closure(nano_dir):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(nano_dir).eval()
    ids = torch.tensor([[0, 5, 9, 12]])

    def closure():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False, pad_token_id=1
        )
        return out.float().mean()

    before = {k: v.clone() for k, v in model.state_dict().items()}
    opt = MeZO(model, lr=0.0, eps=1e-2, seed=5)
    opt.step(closure)
    assert opt.evaluator.mode == "copy"
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_lora_on_an_embedding(nano_dir):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(nano_dir).eval()
    config = peft.LoraConfig(r=4, target_modules=["embed_tokens", "q_proj"], init_lora_weights=False)
    model = peft.get_peft_model(model, config).eval()
    ids = torch.tensor([[0, 5, 9, 12]])
    opt = MeZO(model, seed=5, mode="stream")
    assert any("lora_embedding" in name for name, _ in opt.named())
    direction = 0.1 * seeded("gaussian", 1, 5)
    loss = lambda m: m(input_ids=ids).logits.float().logsumexp(-1).mean()  # noqa: E731
    with torch.no_grad():
        got = float(opt.evaluator.value(opt.at(direction), lambda: loss(model)))
        expected = copy.deepcopy(model)
        from zobench.core.perturb import perturb

        trained = [p.data for p in expected.parameters() if p.requires_grad]
        perturb(trained, trained, direction)
        assert got == pytest.approx(float(loss(expected)), rel=1e-5)
    assert opt.evaluator.stream.verified and opt.evaluator.mode == "stream"


def test_frozen_weights_are_never_touched():
    model, x = make(Nested)
    model.scale.requires_grad_(False)
    frozen = model.scale.clone()
    opt = MeZO(model, lr=1e-2, seed=5)
    for _ in range(3):
        opt.step(lambda: model(x))
    assert torch.equal(model.scale, frozen) and len(opt.tensors) == 5


def test_a_parameter_read_by_the_closure_itself_selects_copy():
    """No module runs, so no window can show it; the argmax hides the NaN, and still the read is seen."""
    model, x = make(lambda: nn.Linear(5, 3))
    labels = torch.arange(7) % 3

    def closure():
        return (nn.functional.linear(x, model.weight, model.bias).argmax(-1) != labels).float().mean()

    values = []
    for mode in ("auto", "copy"):
        opt = MeZO(model, seed=5, mode=mode)
        direction = 3.0 * seeded("gaussian", 1, 5)
        with torch.no_grad():
            values.append([float(opt.evaluator.value(opt.at(s * direction), closure)) for s in (1, -1)])
        assert opt.evaluator.mode == "copy"
    assert values[0] == values[1]


def test_a_read_that_appears_later_is_seen_too():
    model, x = make(Nested, torch.float64)
    opt, twin = MeZO(model, seed=5), MeZO(copy.deepcopy(model), seed=5, mode="copy")
    for step in range(4):
        decayed = lambda m: m(x) + (0.1 * m.scale.square().sum() if step >= 2 else 0.0)  # noqa: B023, E731
        a, b = opt.step(lambda: decayed(model)), twin.step(lambda: decayed(twin.evaluator.model))  # noqa: B023
        assert a == pytest.approx(b, rel=1e-12)
    assert opt.evaluator.mode == "copy"


def test_a_mask_of_the_weights_is_restored_in_place():
    model, x = make(Nested, torch.float64)
    opt = MeZO(model, lr=0.0, seed=5, mode="inplace")
    before = [p.detach().clone() for p in model.parameters()]
    masked = (0.5 * seeded("gaussian", 1, 5)).scaled(lambda w, i, part: (w.abs() < 0.2).to(w.dtype))
    with torch.no_grad():
        opt.evaluator.value(opt.at(masked), lambda: model(x))
        opt.evaluator.flush()
    assert all(torch.equal(p, w) for p, w in zip(model.parameters(), before, strict=True))


def test_a_copy_of_an_optimizer_steps_on_its_own_copy_of_the_model():
    model, x = make(Nested, torch.float64)
    opt = MeZO(model, lr=1e-2, seed=5)
    opt.step(lambda: model(x))
    both = copy.deepcopy({"model": model, "opt": opt})
    opt.step(lambda: model(x))
    both["opt"].step(lambda: both["model"](x))
    pairs = zip(model.parameters(), both["model"].parameters(), strict=True)
    assert all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in pairs)


def test_a_change_of_dtype_between_steps_is_followed():
    for mode in ("stream", "copy"):
        model, x = make(Nested)
        opt = MeZO(model, seed=5, mode=mode)
        opt.step(lambda: model(x))  # noqa: B023
        model.to(torch.bfloat16)
        opt.step(lambda: model(x.to(torch.bfloat16)).float())  # noqa: B023


def test_non_contiguous_parameters_are_trained():
    weight = nn.Parameter(torch.randn(8, 6, dtype=torch.float64).t())
    opt, twin = MeZO([weight], lr=0.1, seed=5), nn.Parameter(weight.detach().contiguous().clone())
    other = MeZO([twin], lr=0.1, seed=5)
    for _ in range(3):
        opt.step(lambda: weight.square().sum())
        other.step(lambda: twin.square().sum())
    assert torch.allclose(weight, twin, rtol=0, atol=1e-6) and not weight.is_contiguous()
