"""Models come from a seed, a directory or the hub, and what is saved opens again."""

import builtins
import shutil

import pytest
import torch
from task_files import load_task

from zobench.build import trained
from zobench.models.adapters import add_adapter
from zobench.models.load import RANDOM, TOKENIZER, load_causal_lm, opt_config
from zobench.spec import EnvironmentUnmet, Setting, UsageError

PARAMETERS = {  # of the released checkpoints; the nano one is ours
    "opt-nano": 1_119_616,
    "opt-125m": 125_239_296,
    "opt-350m": 331_196_416,
    "opt-1.3b": 1_315_758_080,
}

# peft 0.21 reads a property that transformers 5.23 renamed
PEFT_WARNS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.mark.parametrize("name", RANDOM)
def test_random_models_have_the_released_shapes(name):
    from transformers import OPTForCausalLM

    with torch.device("meta"):
        model = OPTForCausalLM(opt_config(name))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert (model.config.dropout, model.config.attention_dropout) == (0.1, 0.0)
    assert (model.model.decoder.final_layer_norm is None) == (name == "opt-350m")


def test_random_weights_are_a_function_of_the_seed():
    one, again, other = (load_causal_lm("random:opt-nano", seed=s)[0].state_dict() for s in (5, 5, 6))
    assert all(one[k].equal(again[k]) for k in one)
    assert not one["lm_head.weight"].equal(other["lm_head.weight"])
    with pytest.raises(UsageError, match="seed"):
        load_causal_lm("random:opt-nano", seed=2**32)


def test_random_weights_have_the_law_of_opt():
    model, _ = load_causal_lm("random:opt-nano", seed=2**32 - 1)
    decoder = model.model.decoder
    assert model.lm_head.weight is decoder.embed_tokens.weight
    assert decoder.embed_tokens.weight[1].eq(0).all(), "the row of the padding token"
    for weight in (decoder.embed_tokens.weight, decoder.layers[2].fc1.weight, decoder.embed_positions.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert decoder.layers[0].fc1.bias.eq(0).all()
    assert decoder.final_layer_norm.weight.eq(1).all()
    first, second = decoder.layers[0].self_attn.q_proj.weight, decoder.layers[1].self_attn.q_proj.weight
    assert not first.equal(second)


def test_each_tensor_has_the_stream_of_its_place():
    from zobench.core.philox import normal

    model, _ = load_causal_lm("random:opt-nano", seed=7)
    names = [name for name, _ in model.named_parameters()]
    index = names.index("model.decoder.layers.1.fc2.weight")
    p = model.model.decoder.layers[1].fc2.weight
    assert p.flatten().equal(normal(7, 0, index, 5, p.numel()) * 0.02)


def test_dtype_rounds_the_same_numbers_once():
    fine, coarse = (load_causal_lm("random:opt-nano", dtype=d)[0] for d in ("float32", "bfloat16"))
    assert coarse.dtype == torch.bfloat16
    for p, q in zip(fine.parameters(), coarse.parameters(), strict=True):
        assert p.to(torch.bfloat16).equal(q)


def test_a_wrong_random_name_is_answered_with_the_right_one():
    with pytest.raises(UsageError, match="did you mean random:opt-125m"):
        load_causal_lm("random:opt-125")
    with pytest.raises(UsageError, match="opt-nano"):
        load_causal_lm("random:zzz")


def test_a_saved_directory_opens_with_the_same_weights(nano_dir):
    model, tokenizer = load_causal_lm(str(nano_dir))
    fresh, _ = load_causal_lm("random:opt-nano")
    assert all(p.equal(q) for p, q in zip(model.parameters(), fresh.parameters(), strict=True))
    assert not model.training
    assert tokenizer("Yes", add_special_tokens=False)["input_ids"] == [372]


def test_a_directory_says_what_it_lacks(nano_dir, tmp_path):
    with pytest.raises(UsageError, match="no such directory"):
        load_causal_lm(str(tmp_path / "missing"))
    with pytest.raises(UsageError, match=r"no config\.json"):
        load_causal_lm(str(tmp_path))
    shutil.copy(nano_dir / "config.json", tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"only safetensors are read.*save_pretrained"):
        load_causal_lm(str(tmp_path))


def test_an_unreachable_hub_names_the_way_out(monkeypatch):
    from transformers import AutoTokenizer

    def refuse(*args, **kwargs):
        raise OSError("We couldn't connect to 'https://huggingface.co'\nlong explanation")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(EnvironmentUnmet) as caught:
        load_causal_lm("facebook/opt-125m")
    assert "\n" not in str(caught.value)
    assert "random:opt-125m" in str(caught.value)


def test_the_bundled_tokenizer_has_the_labels_as_single_tokens():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
    assert len(tokenizer) == 2048
    for text in (" great", " terrible", "Yes", "No", " Yes", " No", "Maybe", "\n"):
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 1, text
    text = "A film — très « long »,\n\n  é 東 it\twas!"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


@PEFT_WARNS
def test_lora_trains_its_own_matrices_only_and_starts_at_the_model():
    plain, _ = load_causal_lm("random:opt-nano")
    model = add_adapter(load_causal_lm("random:opt-nano")[0], "lora[r=4,alpha=8]", seed=1)
    names = [name for name, _ in trained(model)]
    assert len(names) == 3 * 2 * 2
    assert all(("q_proj" in n or "v_proj" in n) and "lora_" in n for n in names)
    ids = torch.tensor([[0, 50, 60, 70]])
    assert model(ids).logits.equal(plain(ids).logits)
    parameters = dict(model.named_parameters())
    a = parameters[next(n for n in names if "lora_A" in n)]
    assert a.shape == (4, 128)
    assert a.std().item() == pytest.approx((3 * 128) ** -0.5, rel=0.1)
    again = dict(add_adapter(load_causal_lm("random:opt-nano")[0], "lora[r=4,alpha=8]", seed=1).named_parameters())
    assert all(parameters[n].equal(again[n]) for n in names)


def test_adapter_mistakes_are_one_line(monkeypatch):
    model, _ = load_causal_lm("random:opt-nano")
    assert add_adapter(model, "none", seed=0) is model
    for text in ("prefix", "lora[r=0]", "lora[rank=3]", "lora[r=x]", "lora("):
        with pytest.raises(UsageError, match="lora"):
            add_adapter(model, text, seed=0)

    real = builtins.__import__

    def without_peft(name, *args, **kwargs):
        if name.split(".")[0] == "peft":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(EnvironmentUnmet, match=r"pip install zobench\[peft\]"):
        add_adapter(model, "lora", seed=0)


@PEFT_WARNS
@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_a_problem_saves_what_from_pretrained_opens(adapter, tmp_path, data_dir):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    problem = load_task("sst2").build(
        Setting(model="random:opt-nano", adapter=adapter, data_dir=data_dir), num_train=8, num_dev=4, num_eval=4
    )
    with torch.no_grad():
        for p in problem.model.parameters():
            if p.requires_grad:
                p.add_(0.01)
        ids = torch.tensor([[0, 50, 60, 70]])
        expected = problem.model(ids).logits
        problem.save(tmp_path)
        reopened = AutoModelForCausalLM.from_pretrained(tmp_path)
        torch.testing.assert_close(reopened(ids).logits, expected, rtol=1e-4, atol=1e-4)
        assert problem.model(ids).logits.equal(expected), "saving must not touch the weights"
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == 2048
    problem.loss(problem.batch(0)).backward()
