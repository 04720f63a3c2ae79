"""Adapters: what they train, where they start, that they act on every family, and that what is saved opens again."""

import builtins
import copy
from functools import cache

import pytest
import torch
from task_files import load_task

from zobench import plan
from zobench.build import trained
from zobench.core.perturb import materialise, seeded
from zobench.core.probes import Evaluator, Probe
from zobench.models.adapters import add_adapter, load_virtual, parse, save_adapted, virtual_tokens
from zobench.models.load import head_parameters, is_masked, load_model
from zobench.models.virtual import prefixes, random_tokens, stack
from zobench.spec import EnvironmentUnmet, Setting, UsageError

DECODERS = ["opt-nano", "gpt2-nano", "llama-nano", "mistral-nano", "qwen-nano"]
ENCODERS = ["roberta-nano", "bert-nano", "distilbert-nano"]
VIRTUAL = ["prefix[tokens=5]", "prompt[tokens=10]"]
IDS = torch.tensor([[0, 50, 60, 70, 81, 92, 17], [0, 400, 33, 1900, 7, 8, 9]])


@cache
def drawn(name, kind):
    return load_model(f"random:{name}", kind=kind, labels=2, seed=1)[0]


def load(name, kind=""):
    return copy.deepcopy(drawn(name, kind or ("masked" if is_masked(f"random:{name}") else "causal")))


def adapted(name, text, **options):
    return add_adapter(load(name, **options), text, seed=3)


def moved(model):
    """Its trained numbers away from their start."""
    torch.manual_seed(0)
    with torch.no_grad():
        for _, p in trained(model):
            p += 0.3 * torch.randn_like(p)
    return model


def padded(ids, left, right):
    """The same rows between padding, with the mask and the positions of the text."""
    sides = [torch.ones(len(ids), n, dtype=torch.long) for n in (left, right)]
    mask = torch.cat([0 * sides[0], torch.ones_like(ids), 0 * sides[1]], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return dict(input_ids=torch.cat([sides[0], ids, sides[1]], 1), attention_mask=mask, position_ids=positions)


# --- what is trained --------------------------------------------------------------------------------------------------

LORA = {
    "opt-nano": ("q_proj", "v_proj"),
    "llama-nano": ("q_proj", "v_proj"),
    "mistral-nano": ("q_proj", "v_proj"),
    "qwen-nano": ("q_proj", "v_proj"),
    "gpt2-nano": ("c_attn",),
    "roberta-nano": ("query", "value"),
    "bert-nano": ("query", "value"),
    "distilbert-nano": ("q_lin", "v_lin"),
}


@pytest.mark.parametrize("name", LORA)
def test_lora_trains_its_own_matrices_only_and_starts_at_the_model(name):
    model = adapted(name, "lora[r=4,alpha=8]")
    names = [n for n, _ in trained(model)]
    assert len(names) == 3 * 2 * len(LORA[name])
    assert all("lora_" in n and n.split(".lora_")[0].endswith(LORA[name]) for n in names)
    with torch.no_grad():
        assert model(input_ids=IDS).logits.equal(load(name)(input_ids=IDS).logits)
        a, b = (model.get_parameter(next(n for n in names if f"lora_{x}" in n)) for x in "AB")
        assert a.shape == (4, 128) and b.eq(0).all()
        assert a.std().item() == pytest.approx((3 * 128) ** -0.5, rel=0.1)
    again = dict(adapted(name, "lora[r=4,alpha=8]").named_parameters())
    assert all(model.get_parameter(n).equal(again[n]) for n in names)


@pytest.mark.parametrize("name", DECODERS + ENCODERS)
def test_a_prefix_is_keys_and_values_of_every_layer_and_a_prompt_one_table(name):
    width = 64 if name in ("llama-nano", "mistral-nano", "qwen-nano") else 128  # key heads are shared there
    assert [p.shape for _, p in trained(adapted(name, "prefix"))] == [(5, width)] * 6
    assert [p.shape for _, p in trained(adapted(name, "prompt[tokens=4]"))] == [(4, 128)]


@pytest.mark.parametrize("text", ["lora", *VIRTUAL])
@pytest.mark.parametrize(
    "name, kind",
    [
        ("opt-nano", "classification"),
        ("roberta-nano", "classification"),
        ("bert-nano", "spans"),
        ("llama-nano", "spans"),
    ],
)
def test_a_head_for_the_task_is_trained_too(name, kind, text):
    model = adapted(name, text, kind=kind)
    heads = head_parameters(model)
    assert heads
    assert set(heads) == {n for n, _ in trained(model) if not any(w in n for w in ("lora_", "prefix_", "prompt."))}
    output = model(input_ids=IDS)
    (output.start_logits if kind == "spans" else output.logits).square().sum().backward()
    assert all(p.grad is not None and p.grad.ne(0).any() for n, p in trained(model) if "lora_A" not in n)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("text", ["lora", *VIRTUAL])
def test_what_the_checkpoint_did_not_have_is_trained_with_the_head(text, tmp_path, data_dir):
    """The pooler of a masked BERT, which stands between the encoder and the new head."""
    model, tokenizer = load_model("random:bert-nano", kind="masked", seed=1)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    setting = Setting(model=str(tmp_path), adapter=text, data_dir=data_dir)
    problem = load_task("glue_rte").build(setting, form="head", num_train=8, num_dev=4, num_eval=4)
    new = [f"{m}.{n}" for m in ("bert.pooler.dense", "classifier") for n in ("weight", "bias")]
    assert problem.facts["drawn_parameters"] == new
    names = [n.removeprefix("base_model.model.") for n, _ in trained(problem.model)]
    assert [n for n in names if not any(w in n for w in ("lora_", "prefix_", "prompt."))] == new
    problem.loss(problem.batch(0)).backward()
    assert all(p.grad is not None and p.grad.ne(0).any() for n, p in trained(problem.model) if "lora_A" not in n)
    problem.save(tmp_path / "out")
    again, _ = load_model(
        str(tmp_path / "out" / ("" if text == "lora" else "base")), kind="classification", labels=2, head="checkpoint"
    )
    assert again.zobench_new == []


# --- where virtual tokens start ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", VIRTUAL)
@pytest.mark.parametrize("name", DECODERS)
def test_virtual_tokens_start_as_real_tokens_in_front_of_the_text(name, text):
    """A decoder's text sees of real tokens before it exactly their keys and values, hence also those of their embeddings."""
    plain, model = load(name), adapted(name, text)
    tokens = random_tokens(plain.config.vocab_size, virtual_tokens(text), 3).expand(2, -1)
    with torch.no_grad():
        expected = plain(input_ids=torch.cat([tokens, IDS], 1)).logits[:, tokens.shape[1] :]
        torch.testing.assert_close(model(input_ids=IDS).logits, expected, rtol=1e-5, atol=1e-5)


def test_a_prefix_on_an_encoder_is_attention_over_keys_and_values_of_the_tokens_alone():
    """The textbook: the first layer of a DistilBERT, its softmax over n + T keys, text at positions n, n + 1 ..."""
    plain, model = load("distilbert-nano"), adapted("distilbert-nano", "prefix[tokens=5]")
    table, layer = plain.distilbert.embeddings, plain.distilbert.transformer.layer[0]
    tokens = random_tokens(plain.config.vocab_size, 5, 3)
    heads = lambda x: x.view(*x.shape[:-1], 4, 32).transpose(-3, -2)  # noqa: E731
    with torch.no_grad():
        alone = table(tokens[None])
        text = table(IDS, position_ids=torch.arange(5, 12)[None])
        k, v = (
            torch.cat([heads(f(alone)).expand(2, -1, -1, -1), heads(f(text))], dim=2)
            for f in (layer.attention.k_lin, layer.attention.v_lin)
        )
        weights = (heads(layer.attention.q_lin(text)) @ k.transpose(-1, -2) / 32**0.5).softmax(-1)
        expected = layer.attention.out_lin((weights @ v).transpose(1, 2).flatten(2))
        found = []
        handle = model.distilbert.transformer.layer[0].attention.register_forward_hook(
            lambda *a: found.append(a[-1][0])
        )
        model(input_ids=IDS)
        handle.remove()
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_prompt_on_an_encoder_is_embeddings_at_the_first_positions(name):
    """An encoder reads the tokens as if they stood in front: it knows order by positions only."""
    plain, model = load(name), adapted(name, "prompt[tokens=10]")
    tokens = random_tokens(plain.config.vocab_size, 10, 3).expand(2, -1)
    with torch.no_grad():
        expected = plain(input_ids=torch.cat([tokens, IDS], 1)).logits[:, 10:]
        output = model(input_ids=IDS, output_hidden_states=True)
    torch.testing.assert_close(output.logits, expected, rtol=1e-5, atol=1e-5)
    assert {h.shape[1] for h in output.hidden_states} == {7}


def test_the_pooler_of_a_classifier_reads_the_text_and_not_a_virtual_token():
    plain, model = (
        load("bert-nano", kind="classification"),
        adapted("bert-nano", "prompt[tokens=2]", kind="classification"),
    )
    tokens = random_tokens(plain.config.vocab_size, 2, 3).expand(2, -1)
    with torch.no_grad():
        hidden = plain.bert(input_ids=torch.cat([tokens, IDS], 1)).last_hidden_state[:, 2]
        expected = plain.classifier(plain.bert.pooler.activation(plain.bert.pooler.dense(hidden)))
        torch.testing.assert_close(model(input_ids=IDS).logits, expected, rtol=1e-5, atol=1e-6)


def test_a_random_prefix_is_the_generators():
    from zobench.core.philox import normal

    model = adapted("opt-nano", "prefix[tokens=5,init=random]")
    keys, values = prefixes(model)[1]
    assert keys.flatten().equal(normal(3, 0, 2, 5, 640)) and values.flatten().equal(normal(3, 0, 3, 5, 640))
    other = add_adapter(load("opt-nano"), "prefix", seed=4)
    assert not prefixes(other)[0][0].equal(prefixes(adapted("opt-nano", "prefix"))[0][0])


# --- that they act, whatever the inputs -------------------------------------------------------------------------------


@pytest.mark.parametrize("text", VIRTUAL)
@pytest.mark.parametrize("name", DECODERS + ENCODERS)
def test_every_virtual_token_changes_the_logits_and_has_a_gradient(name, text):
    model = adapted(name, text)
    before = model(input_ids=IDS).logits
    assert before.shape == (2, 7, model.config.vocab_size)
    before.log_softmax(-1)[..., 5].sum().backward()
    for _, p in trained(model):
        assert p.grad is not None and p.grad.abs().sum(1).gt(0).all()
    for _, p in trained(model):
        with torch.no_grad():
            p[-1, ::2] += 1.0
            assert not torch.allclose(model(input_ids=IDS).logits, before, atol=1e-4)
            p[-1, ::2] -= 1.0


@pytest.mark.parametrize("text", ["lora", *VIRTUAL])
@pytest.mark.parametrize("name", DECODERS + ENCODERS)
def test_padding_on_either_side_changes_nothing(name, text):
    model = moved(adapted(name, text))
    sides = [(0, 3)] if name in ENCODERS else [(0, 3), (4, 0)]
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        for left, right in sides:
            inputs = padded(IDS, left, right)
            if name in ENCODERS:
                del inputs["position_ids"]
            got = model(**inputs).logits[:, left : left + 7]
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("text", VIRTUAL)
@pytest.mark.parametrize("name", ["opt-nano", "llama-nano", "gpt2-nano"])
def test_caches_kept_logits_and_masks_over_pairs_are_those_of_the_text(name, text):
    model = moved(adapted(name, text))
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        kept = model(input_ids=IDS, logits_to_keep=2).logits
        torch.testing.assert_close(kept, expected[:, -2:], rtol=1e-5, atol=1e-5)
        first = model(input_ids=IDS[:, :4], use_cache=True)
        assert first.past_key_values.get_seq_length() == 4
        rest = model(input_ids=IDS[:, 4:], past_key_values=first.past_key_values)
        torch.testing.assert_close(rest.logits, expected[:, 4:], rtol=1e-5, atol=1e-5)
        pairs = torch.full((7, 7), torch.finfo(torch.float32).min).triu(1)[None, None].expand(2, -1, -1, -1)
        positions = torch.arange(7).expand(2, -1)
        masked = model(input_ids=IDS, attention_mask=pairs, position_ids=positions).logits
        torch.testing.assert_close(masked, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("text", ["lora", *VIRTUAL])
@pytest.mark.parametrize("name", DECODERS)
def test_generation_is_the_argmax_of_one_forward_after_another(name, text):
    model, ids = moved(adapted(name, text)), IDS
    options = dict(do_sample=False, max_new_tokens=5, pad_token_id=1, eos_token_id=None)
    with torch.no_grad():
        for _ in range(5):
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
        for left in (0, 3):
            inputs = padded(IDS, left, 0)
            del inputs["position_ids"]
            assert model.generate(**inputs, **options)[:, left:].equal(ids)


@pytest.mark.parametrize("text", VIRTUAL)
@pytest.mark.parametrize("name", ["opt-nano", "bert-nano"])
def test_a_copy_is_independent(name, text):
    model = adapted(name, text)
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        moved(copy.deepcopy(model))
        assert model(input_ids=IDS).logits.equal(before)


@pytest.mark.parametrize("text", ["lora", *VIRTUAL])
@pytest.mark.parametrize("name", ["opt-nano", "llama-nano", "roberta-nano"])
def test_every_probe_mode_sees_the_perturbed_adapter(name, text):
    """Losses at w + eps z, with the weights written by hand as the oracle; the frozen ones are never touched."""
    model = adapted(name, text)
    parameters = [p for _, p in trained(model)]
    frozen = [(p, p.clone()) for p in model.parameters() if not p.requires_grad]
    direction = 0.01 * seeded("gaussian", 5, 11)

    def loss():
        with torch.no_grad():
            return model(input_ids=IDS).logits.float().logsumexp(-1).mean()

    start = loss()
    by_hand = Evaluator(parameters, None, "inplace")
    by_hand.move(direction)
    expected = loss()
    by_hand.move(-direction)
    assert not torch.isclose(expected, start, rtol=0, atol=1e-7)
    for mode in ("stream", "copy", "inplace"):
        evaluator = Evaluator(parameters, model, mode)
        for _ in range(2):
            torch.testing.assert_close(evaluator.value(Probe(direction), loss), expected, rtol=1e-6, atol=1e-6)
        evaluator.flush()
        assert evaluator.mode == mode
    differentiable = lambda: model(input_ids=IDS).logits.logsumexp(-1).mean()  # noqa: E731
    value, slope = Evaluator(parameters, model).value(Probe(direction, kind="jvp"), differentiable)
    differentiable().backward()
    z = [materialise(direction, p, i) for i, p in enumerate(parameters)]
    expected = sum((p.grad * z).sum() for p, z in zip(parameters, z, strict=True))
    torch.testing.assert_close((value, slope), (start, expected), rtol=1e-4, atol=1e-7)
    assert all(p.equal(copy) for p, copy in frozen)


# --- saving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["opt-nano", "llama-nano", "gpt2-nano"])
@pytest.mark.parametrize("text", VIRTUAL)
def test_peft_opens_a_saved_prefix_and_prompt_with_equal_logits(name, text, tmp_path):
    from peft import AutoPeftModelForCausalLM

    model, tokenizer = load_model(f"random:{name}", seed=1)
    model = moved(add_adapter(model, text, seed=3))
    save_adapted(model, tokenizer, tmp_path)
    again = AutoPeftModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(
            again(input_ids=IDS).logits[:, -7:], model(input_ids=IDS).logits, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(
    "name, kind", [("roberta-nano", "masked"), ("bert-nano", "classification"), ("opt-nano", "classification")]
)
@pytest.mark.parametrize("text", VIRTUAL)
def test_a_saved_prefix_or_prompt_with_its_head_opens_again(name, kind, text, tmp_path, monkeypatch):
    model, tokenizer = load_model(f"random:{name}", kind=kind, labels=2, seed=1)
    model = moved(add_adapter(model, text, seed=3))
    save_adapted(model, tokenizer, tmp_path)
    base, _ = load_model(str(tmp_path / "base"), kind=kind, labels=2, head="checkpoint")
    with torch.no_grad():
        assert load_virtual(base, tmp_path)(input_ids=IDS).logits.equal(model(input_ids=IDS).logits)
    monkeypatch.chdir(tmp_path)  # and as the directory itself says
    code = [line.strip() for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("    ")]
    exec("\n".join(code), said := {})
    with torch.no_grad():
        assert said["model"](input_ids=IDS).logits.equal(model(input_ids=IDS).logits)


@pytest.mark.parametrize(
    "name, kind", [("opt-nano", "causal"), ("gpt2-nano", "causal"), ("roberta-nano", "classification")]
)
def test_lora_is_merged_into_a_copy(name, kind, tmp_path):
    model, tokenizer = load_model(f"random:{name}", kind=kind, labels=2, seed=1)
    model = moved(add_adapter(model, "lora", seed=3))
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        save_adapted(model, tokenizer, tmp_path)
        assert model(input_ids=IDS).logits.equal(expected), "saving must not touch the weights"
        again, _ = load_model(str(tmp_path), kind=kind, labels=2, head="checkpoint")
        torch.testing.assert_close(again(input_ids=IDS).logits, expected, rtol=1e-4, atol=1e-4)
    model(input_ids=IDS).logits.sum().backward()


@pytest.mark.parametrize("text", ["lora", *VIRTUAL])
def test_a_task_trains_evaluates_and_saves_with_an_adapter(text, tmp_path, data_dir):
    setting = Setting(model="random:opt-nano", adapter=text, data_dir=data_dir)
    problem = load_task("sst2").build(setting, num_train=8, num_dev=4, num_eval=4)
    problem.loss(problem.batch(0)).backward()
    assert any(p.grad is not None and p.grad.ne(0).any() for _, p in trained(problem.model))
    assert set(problem.evaluate("test")) >= {"accuracy", "loss"}
    problem.save(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()


# --- names ------------------------------------------------------------------------------------------------------------


def test_texts_have_one_canonical_form():
    assert plan.adapter("lora") == "lora[alpha=16,r=8]"
    assert plan.adapter("prefix") == plan.adapter("prefix[init=real]") == "prefix[tokens=5]"
    assert plan.adapter("prefix[tokens=3,init=random]") == "prefix[init=random,tokens=3]"
    assert plan.adapter("prompt") == "prompt[tokens=10]"
    for text in ("lora[r=4]", "prefix[init=random]", "prompt[tokens=3]", "none"):
        assert parse(plan.adapter(text)) == parse(text)
    assert [virtual_tokens(t) for t in ("none", "lora", "prefix", "prompt[tokens=3]")] == [0, 0, 5, 3]


def test_adapter_mistakes_are_one_line(monkeypatch):
    model = load("opt-nano")
    assert add_adapter(model, "none", seed=0) is model
    for text in ("soft", "lora[r=0]", "lora[rank=3]", "lora[r=x]", "lora(", "prefix[tokens=0]", "prompt[init=real]"):
        with pytest.raises(UsageError, match=r"adapter"):
            add_adapter(model, text, seed=0)
        with pytest.raises(UsageError, match=r"adapter"):
            plan.adapter(text)
    with pytest.raises(UsageError, match="init 'zero': choose real or random"):
        plan.adapter("prefix[init=zero]")

    real = builtins.__import__

    def without_peft(name, *args, **kwargs):
        if name.split(".")[0] == "peft":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(EnvironmentUnmet, match=r"pip install zobench\[peft\]"):
        add_adapter(model, "lora", seed=0)
    add_adapter(model, "prefix", seed=0)


def test_a_family_whose_attention_is_not_known_is_told_so():
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=64)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt_neox", **sizes))
    with pytest.raises(UsageError, match="not gpt_neox; take lora"):
        add_adapter(model, "prefix", seed=0)


def test_a_model_counts_once_and_its_prompt_is_read_through_a_module():
    """A forward is a root call; the short run that turns a prompt into keys and values is none."""
    model, calls = adapted("opt-nano", "prompt"), []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        model(input_ids=IDS)
    assert len(calls) == 1
    assert not any("computed" in m.__dict__ or "seen" in m.__dict__ for m in model.modules())
    assert isinstance(stack(model).prompt, torch.nn.Embedding)
