"""Float adapters on a base in 8 or 4 bits: what is trained, what is never touched, and what is said where it cannot be had."""

import builtins
import hashlib
import importlib.util
from dataclasses import fields, replace

import pytest
import torch
from task_files import load_task

from zobench import plan
from zobench.build import Names, trained
from zobench.models.adapters import add_adapter, is_quantised, save_adapted
from zobench.models.load import head_parameters, load_model
from zobench.models.quantise import keep_gradients
from zobench.optimizers import MeZO
from zobench.spec import EnvironmentUnmet, Job, Setting, UsageError

INSTALLED = importlib.util.find_spec("bitsandbytes") is not None
needed = pytest.mark.skipif(not INSTALLED, reason="bitsandbytes is not installed")
BITS = ["8bit", "4bit"]
ADAPTERS = ["lora", "prefix", "prompt"]
IDS = torch.tensor([[0, 50, 60, 70, 81, 92, 17], [0, 400, 33, 1900, 7, 8, 9]])


def request(**options):
    return plan.Request(["toy_copa"], ["mezo"], model="random:opt-nano", **options)


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_a_quantised_base_enters_the_cell_and_a_plain_one_leaves_it_as_it_was():
    plain, four = (plan.jobs(request(adapter="lora", quantised=q), Names())[0] for q in ("none", "4bit"))
    before = {f.name for f in fields(Job)} - {"quantised", *(f.name for f in fields(Job) if f.metadata)}
    assert set(plain.identity()) == before
    assert four.identity() == plain.identity() | {"quantised": "4bit"}
    assert len({plain.cell, four.cell, replace(plain, quantised="8bit").cell}) == 3
    assert Job.from_json(four.to_json()) == four
    assert Job.from_json(plain.to_json()).cell == plain.cell


def test_what_cannot_be_asked_is_one_line():
    with pytest.raises(UsageError, match="a quantised base cannot be trained; add --adapter lora"):
        plan.jobs(request(quantised="8bit"), Names())
    with pytest.raises(UsageError, match="choose none or 8bit or 4bit"):
        plan.jobs(request(adapter="lora", quantised="2bit"), Names())
    with pytest.raises(UsageError, match="no language model to quantise"):
        plan.jobs(plan.Request(["softmax_l2"], ["mezo"], quantised="8bit"), Names())


def test_a_missing_library_names_its_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "bitsandbytes":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EnvironmentUnmet, match=r"4bit model needs bitsandbytes: pip install zobench\[quantised\]"):
        load_model("random:opt-nano", quantised="4bit")
    assert load_model("random:opt-nano", quantised="none")[0].dtype == torch.float32


# --- with the library -------------------------------------------------------------------------------------------------


def digest(model) -> str:
    """sha256 of everything that is not trained, the constants of the quantisation included."""
    free = {name for name, _ in trained(model)}
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if name not in free and isinstance(value, torch.Tensor):
            total.update(name.encode() + value.contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def quantised(bits, adapter="none", name="random:opt-nano", **options):
    model, tokenizer = load_model(name, quantised=bits, seed=1, **options)
    return add_adapter(model, adapter, seed=2), tokenizer


@needed
@pytest.mark.parametrize("bits", BITS)
def test_the_layers_of_the_base_are_rounded_and_close_to_what_they_were(bits):
    import bitsandbytes

    model, _ = quantised(bits)
    assert is_quantised(model)
    plain, _ = load_model("random:opt-nano", seed=1)
    kind = bitsandbytes.nn.Linear4bit if bits == "4bit" else bitsandbytes.nn.Linear8bitLt
    rounded = {name for name, module in model.named_modules() if isinstance(module, kind)}
    assert rounded == {n for n, m in plain.named_modules() if isinstance(m, torch.nn.Linear)} - {"lm_head"}
    assert model.lm_head.weight is model.model.decoder.embed_tokens.weight
    assert model.lm_head.weight.equal(plain.lm_head.weight)
    for name in ("model.decoder.layers.1.fc1", "model.decoder.layers.2.self_attn.q_proj"):
        # the layer is a linear map: what it makes of the unit vectors is its matrix
        layer, weight = model.get_submodule(name), plain.get_submodule(name).weight
        with torch.no_grad():
            error = layer(torch.eye(128)).T - layer(torch.zeros(1, 128)).T - weight
        scale = weight.abs().max().item()
        # half a step: 127 of them to the largest of a row, or the widest gap of NF4 (arXiv:2305.14314, appendix E)
        assert error.abs().max().item() <= scale * (0.152 if bits == "4bit" else 0.02)
        assert error.abs().max().item() > 0


@needed
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("bits", BITS)
def test_steps_move_the_adapter_and_never_the_base(bits, adapter):
    model, _ = quantised(bits, adapter)
    assert {p.dtype for _, p in trained(model)} == {torch.float32}
    assert all("lora_" in n or "prefix_" in n or "prompt." in n for n, _ in trained(model))
    before, start = digest(model), [p.clone() for _, p in trained(model)]

    def loss():
        return model(input_ids=IDS).logits.float().log_softmax(-1)[..., 5].mean().neg()

    with torch.no_grad():
        first = loss().item()
        mezo = MeZO(model, lr=1e-2, eps=1e-2, seed=0)
        for _ in range(3):
            mezo.step(loss)
    assert not any(p.equal(q) for (n, p), q in zip(trained(model), start, strict=True) if "lora_A" not in n)
    assert digest(model) == before
    adam = torch.optim.Adam([p for _, p in trained(model)], lr=1e-2)
    for _ in range(10):
        adam.zero_grad()
        loss().backward()
        adam.step()
    assert digest(model) == before
    with torch.no_grad():
        assert loss().item() < first


@needed
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("bits", BITS)
def test_gradients_after_an_evaluation_are_those_before_it(bits, adapter):
    """On some processors bitsandbytes repacks the weights for inference, and packed layers pass no gradient on."""

    def gradients(evaluate):
        model, _ = quantised(bits, adapter)
        if evaluate:
            with torch.no_grad():
                model.eval()(input_ids=IDS)
        model.train(False)(input_ids=IDS).logits.float().logsumexp(-1).mean().backward()
        return [p.grad for _, p in trained(model)]

    for fresh, later in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(later, fresh)


@needed
@pytest.mark.parametrize("name", ["bert-nano", "distilbert-nano", "opt-nano"])
def test_a_head_stays_in_full_precision_and_is_trained(name):
    model, _ = quantised("4bit", "lora", f"random:{name}", kind="classification", labels=3)
    heads = [model.get_parameter(n) for n in head_parameters(model)]
    assert heads and all(p.dtype == torch.float32 and p.requires_grad for p in heads)
    plain, _ = load_model(f"random:{name}", kind="classification", labels=3, seed=1)
    drawn = [plain.get_parameter(n) for n in head_parameters(plain)]
    assert all(p.equal(q) for p, q in zip(heads, drawn, strict=True))


@needed
@pytest.mark.parametrize("bits", BITS)
def test_a_directory_is_quantised_as_it_is_read(bits, nano_dir):
    from_directory = load_model(str(nano_dir), quantised=bits)[0]
    drawn = load_model("random:opt-nano", quantised=bits)[0]
    with torch.no_grad():
        assert from_directory(input_ids=IDS).logits.equal(drawn(input_ids=IDS).logits)


@needed
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("bits", BITS)
def test_what_is_saved_opens_again(bits, adapter, tmp_path, capfd):
    from peft import AutoPeftModelForCausalLM

    model, tokenizer = quantised(bits, adapter)
    with torch.no_grad():
        for _, p in trained(model):
            p += 0.1 * torch.randn_like(p)
        expected = model(input_ids=IDS).logits
        save_adapted(model, tokenizer, tmp_path)
        assert model(input_ids=IDS).logits.equal(expected), "saving must not touch the weights"
        again = AutoPeftModelForCausalLM.from_pretrained(tmp_path).eval()
        keep_gradients(again)  # its faster layers for some processors round to bfloat16
        torch.testing.assert_close(again(input_ids=IDS).logits[:, -7:], expected, rtol=1e-4, atol=1e-4)
    assert "UNEXPECTED" not in capfd.readouterr().err


@needed
def test_a_task_runs_on_it(data_dir):
    setting = Setting(model="random:opt-nano", adapter="lora", quantised="4bit", data_dir=data_dir)
    problem = load_task("sst2").build(setting, num_train=8, num_dev=4, num_eval=4)
    problem.loss(problem.batch(0)).backward()
    assert "accuracy" in problem.evaluate("test")
