"""Models come from a seed, a directory or the hub, and what is saved opens again."""

import json
import shutil

import pytest
import torch
from task_files import load_task

from zobench.core.philox import normal
from zobench.models.adapters import add_adapter, load_virtual, save_adapted
from zobench.models.load import TOKENIZER, head_parameters, is_masked, load_model, max_tokens, random_config
from zobench.models.shapes import ABOUT, RANDOM
from zobench.models.vocabulary import LABEL_WORDS
from zobench.spec import EnvironmentUnmet, Setting, UsageError

PARAMETERS = {  # of the released checkpoints, with their language-model head
    "opt-125m": 125_239_296,
    "opt-350m": 331_196_416,
    "opt-1.3b": 1_315_758_080,
    "opt-2.7b": 2_651_596_800,
    "opt-6.7b": 6_658_473_984,
    "opt-13b": 12_853_473_280,
    "opt-30b": 29_974_540_288,
    "opt-66b": 65_719_701_504,
    "roberta-base": 124_697_433,
    "roberta-large": 355_412_057,
    "bert-base": 109_514_298,
    "distilbert": 65_812_036,
}
NANOS = [name for name in RANDOM if name.endswith("-nano")]
MASKED_NANOS = ["roberta-nano", "bert-nano", "distilbert-nano"]


def empty(name: str):
    """A random model's modules without its numbers."""
    import transformers

    masked = is_masked(f"random:{name}")
    auto = transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(random_config(name))


def formula(h: int, layers: int) -> int:
    """Parameters of an OPT of width h: two tables; in a layer four projections, two of four times h, two norms."""
    return 50272 * h + 2050 * h + layers * (4 * (h * h + h) + 8 * h * h + 5 * h + 4 * h) + 2 * h


@pytest.mark.parametrize("name", PARAMETERS)
def test_random_models_have_the_released_shapes(name):
    assert sum(p.numel() for p in empty(name).parameters()) == PARAMETERS[name]


def test_shapes_of_opt():
    for name in (n for n in RANDOM if n.startswith("opt-") and n not in ("opt-nano", "opt-350m")):
        config = random_config(name)
        assert PARAMETERS[name] == formula(config.hidden_size, config.num_hidden_layers), name
        assert (config.dropout, config.attention_dropout) == (0.1, 0.0)
    assert empty("opt-350m").model.decoder.final_layer_norm is None
    assert sum(p.numel() for p in empty("opt-nano").parameters()) == 1_119_616


@pytest.mark.parametrize("name", NANOS)
def test_nano_models_are_small_and_every_family_has_its_kinds(name):
    masked = is_masked(f"random:{name}")
    assert 0.7e6 < sum(p.numel() for p in empty(name).parameters()) < 1.2e6
    for kind, width in (("masked" if masked else "causal", None), ("classification", 3), ("spans", None)):
        model, tokenizer = load_model(f"random:{name}", kind=kind, labels=3)
        inputs = tokenizer(["It was great", "It was"], return_tensors="pt", padding=True)
        with torch.no_grad():
            output = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        shape = output.start_logits.shape if kind == "spans" else output.logits.shape
        rows, length = inputs["input_ids"].shape
        expected = {"classification": (rows, width), "spans": (rows, length)}
        assert shape == expected.get(kind, (rows, length, model.config.vocab_size))
        assert model.config.vocab_size >= len(tokenizer)


def test_every_model_is_described():
    assert set(ABOUT) == {"tiny"} | {f"random:{name}" for name in RANDOM}


def test_random_weights_are_a_function_of_the_seed():
    one, again, other = (load_model("random:opt-nano", seed=s)[0].state_dict() for s in (5, 5, 6))
    assert all(one[k].equal(again[k]) for k in one)
    assert not one["lm_head.weight"].equal(other["lm_head.weight"])
    with pytest.raises(UsageError, match="seed"):
        load_model("random:opt-nano", seed=2**32)


def test_random_weights_have_the_law_of_opt():
    model, _ = load_model("random:opt-nano", seed=2**32 - 1)
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
    model, _ = load_model("random:opt-nano", seed=7)
    names = [name for name, _ in model.named_parameters()]
    index = names.index("model.decoder.layers.1.fc2.weight")
    p = model.model.decoder.layers[1].fc2.weight
    assert p.flatten().equal(normal(7, 0, index, 5, p.numel()) * 0.02)


def test_dtype_rounds_the_same_numbers_once():
    fine, coarse = (load_model("random:opt-nano", dtype=d)[0] for d in ("float32", "bfloat16"))
    assert coarse.dtype == torch.bfloat16
    for p, q in zip(fine.parameters(), coarse.parameters(), strict=True):
        assert p.to(torch.bfloat16).equal(q)


def test_a_wrong_random_name_is_answered_with_the_right_one():
    with pytest.raises(UsageError, match="did you mean random:opt-125m"):
        load_model("random:opt-125")
    with pytest.raises(UsageError, match="opt-nano"):
        load_model("random:zzz")


def test_a_saved_directory_opens_with_the_same_weights(nano_dir):
    model, tokenizer = load_model(str(nano_dir))
    fresh, _ = load_model("random:opt-nano")
    assert all(p.equal(q) for p, q in zip(model.parameters(), fresh.parameters(), strict=True))
    assert not model.training
    assert tokenizer("Yes", add_special_tokens=False)["input_ids"] == [372]


def test_a_directory_says_what_it_lacks(nano_dir, tmp_path):
    with pytest.raises(UsageError, match="no such directory"):
        load_model(str(tmp_path / "missing"))
    with pytest.raises(UsageError, match=r"no config\.json"):
        load_model(str(tmp_path))
    shutil.copy(nano_dir / "config.json", tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"only safetensors are read.*save_pretrained"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("size", [0, 5000])
def test_a_torn_file_of_weights_is_named(size, nano_dir, tmp_path):
    for file in nano_dir.iterdir():
        shutil.copy(file, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    with pytest.raises(EnvironmentUnmet, match=rf"^{weights} is not whole.*again$") as caught:
        load_model(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_torn_file_in_the_hubs_cache_is_named(nano_dir, tmp_path, monkeypatch):
    from huggingface_hub import constants

    snapshot = tmp_path / "models--org--name" / "snapshots" / ("a" * 40)
    shutil.copytree(nano_dir, snapshot)
    (snapshot / "model.safetensors").write_bytes(b"torn")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EnvironmentUnmet, match=r"a{40}/model\.safetensors is not whole.*delete .* and run again"):
        load_model("org/name", revision="a" * 40)


def test_an_unreachable_hub_names_the_way_out(monkeypatch):
    from transformers import AutoConfig

    def refuse(*args, **kwargs):
        raise OSError("We couldn't connect to 'https://huggingface.co'\nlong explanation")

    monkeypatch.setattr(AutoConfig, "from_pretrained", refuse)
    with pytest.raises(EnvironmentUnmet) as caught:
        load_model("facebook/opt-125m")
    assert "\n" not in str(caught.value)
    assert "random:opt-nano" in str(caught.value)


def test_the_bundled_tokenizer_has_the_labels_as_single_tokens():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
    assert len(tokenizer) == 2048
    for text in (" great", " terrible", "Yes", "No", " Yes", " No", "Maybe", "\n"):
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == 1, text
    text = "A film — très « long »,\n\n  é 東 it\twas!"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_masked_tokenizer_has_the_label_words_of_the_k_shot_suite_as_single_tokens():
    from transformers import AutoTokenizer

    tokenizer, bundled = load_model("random:roberta-nano", kind="masked")[1], AutoTokenizer.from_pretrained(TOKENIZER)
    ids = [tokenizer(" " + word, add_special_tokens=False)["input_ids"] for word in LABEL_WORDS]
    assert {len(i) for i in ids} == {1}
    assert len({i[0] for i in ids}) == len(LABEL_WORDS)
    vocabulary = tokenizer.get_vocab()
    assert all(c in vocabulary for c in ".,?:")
    assert all(vocabulary[token] == i for token, i in bundled.get_vocab().items()), "the bundled ids stay"
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]) == [0, 1, 2, 3, 2048]
    assert (tokenizer.mask_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id) == (2048, 0, 2)
    assert tokenizer("It was<mask>.", "a")["input_ids"] == [0, *bundled("It was")["input_ids"], 2048, 17, 2, 2, 68, 2]
    text = "A film — très « long »,\n\n  é 東 it\twas subjectively incorrect!"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_masked_tokenizer_is_saved_and_opens_again(tmp_path):
    from transformers import AutoTokenizer

    tokenizer = load_model("random:bert-nano", kind="masked")[1]
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "It was incorrect<mask>. objective"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.mask_token_id == 2048


# --- kinds ------------------------------------------------------------------------------------------------------------


def configured(directory, **config):
    """A directory with a configuration and, for those who only look at that, a file of weights."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").write_bytes(b"")
    return str(directory)


def test_masked_models_are_known_by_their_configuration(tmp_path):
    assert [is_masked(f"random:{name}") for name in NANOS] == [name in MASKED_NANOS for name in NANOS]
    assert not is_masked("tiny")
    cases = [
        (dict(model_type="roberta", architectures=["RobertaForMaskedLM"]), True),
        (dict(model_type="bert", architectures=["BertModel"]), True),
        (dict(model_type="bert"), True),
        (dict(model_type="distilbert", architectures=["DistilBertForSequenceClassification"]), True),
        (dict(model_type="bert", architectures=["BertLMHeadModel"], is_decoder=True), False),
        (dict(model_type="opt", architectures=["OPTForCausalLM"]), False),
        (dict(model_type="opt"), False),
        (dict(model_type="bart", architectures=["BartForConditionalGeneration"], is_encoder_decoder=True), False),
    ]
    for i, (config, expected) in enumerate(cases):
        assert is_masked(configured(tmp_path / str(i), **config)) == expected, config


def test_a_model_of_another_kind_is_one_line_that_says_what_it_is_for(tmp_path):
    with pytest.raises(UsageError, match=r"masked language model.*kshot_\*, glue_\*.*random:opt-nano") as caught:
        load_model("random:roberta-nano")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"not a masked.*sst2.*random:roberta-nano"):
        load_model("random:opt-nano", kind="masked")
    with pytest.raises(UsageError, match="transformers has no language-model head for models of type t5"):
        load_model(configured(tmp_path / "t5", model_type="t5", is_encoder_decoder=True))
    with pytest.raises(UsageError, match="kind"):
        load_model("random:opt-nano", kind="words")


def test_the_longest_text_leaves_out_places_kept_for_padding():
    lengths = {
        name: max_tokens(random_config(name)) for name in ("opt-nano", "roberta-large", "bert-nano", "gpt2-nano")
    }
    assert lengths == {"opt-nano": 2048, "roberta-large": 512, "bert-nano": 512, "gpt2-nano": 2048}


# --- heads ------------------------------------------------------------------------------------------------------------

HEADS = {
    ("opt-nano", "classification"): ["score.weight"],
    ("gpt2-nano", "classification"): ["score.weight"],
    ("llama-nano", "classification"): ["score.weight"],
    ("bert-nano", "classification"): ["classifier.weight", "classifier.bias"],
    ("roberta-nano", "classification"): [
        f"classifier.{m}.{n}" for m in ("dense", "out_proj") for n in ("weight", "bias")
    ],
    ("distilbert-nano", "classification"): [
        f"{m}.{n}" for m in ("pre_classifier", "classifier") for n in ("weight", "bias")
    ],
    ("distilbert-nano", "spans"): ["qa_outputs.weight", "qa_outputs.bias"],
    ("opt-nano", "causal"): [],
}


@pytest.mark.parametrize("name, kind", HEADS)
def test_the_head_is_what_stands_outside_the_base_model(name, kind):
    assert head_parameters(load_model(f"random:{name}", kind=kind, labels=2)[0]) == HEADS[name, kind]


@pytest.fixture(scope="module")
def encoder_dir(tmp_path_factory):
    """A masked BERT, whose files have no pooler and no head for a task."""
    directory = tmp_path_factory.mktemp("encoder")
    model, tokenizer = load_model("random:bert-nano", kind="masked", seed=1)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def classifier_dir(encoder_dir, tmp_path_factory):
    """The same with a head of three outputs."""
    directory = tmp_path_factory.mktemp("classifier")
    model, tokenizer = load_model(str(encoder_dir), kind="classification", labels=3, seed=2)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def expected_draw(model, name, seed):
    index = [n for n, _ in model.named_parameters()].index(name)
    shape = model.get_parameter(name).shape
    return normal(seed, 0, index, 5, shape.numel()).view(shape) * 0.02


@pytest.mark.parametrize("head", ["random", "probe"])
def test_a_new_head_is_the_generators_and_the_rest_the_checkpoints(head, encoder_dir, capfd):
    model, _ = load_model(str(encoder_dir), kind="classification", labels=2, head=head, seed=9)
    for name in ("classifier.weight", "bert.pooler.dense.weight"):
        assert model.get_parameter(name).equal(expected_draw(model, name, 9))
    assert model.classifier.bias.eq(0).all() and model.bert.pooler.dense.bias.eq(0).all()
    pretrained = load_model(str(encoder_dir), kind="masked")[0].bert
    assert all(model.bert.get_parameter(n).equal(p) for n, p in pretrained.named_parameters())
    captured = capfd.readouterr()
    assert "initialized" not in captured.err + captured.out
    assert "MISSING" not in captured.err + captured.out


def test_a_head_of_the_checkpoint_is_kept_only_when_asked_for(classifier_dir):
    kept, _ = load_model(str(classifier_dir), kind="classification", labels=3, head="checkpoint", seed=9)
    assert kept.classifier.weight.equal(expected_draw(kept, "classifier.weight", 2))
    fresh, _ = load_model(str(classifier_dir), kind="classification", labels=3, seed=9)
    assert fresh.classifier.weight.equal(expected_draw(fresh, "classifier.weight", 9))
    assert fresh.bert.pooler.dense.weight.equal(kept.bert.pooler.dense.weight), "the base is the checkpoint's"
    smaller, _ = load_model(str(classifier_dir), kind="classification", labels=1)
    assert smaller.classifier.weight.shape == (1, 128)


def test_a_missing_head_is_not_made_up(classifier_dir, encoder_dir):
    for directory, labels in ((classifier_dir, 2), (encoder_dir, 3)):
        with pytest.raises(UsageError, match=r"no sequence-classification head of this size.*head=random"):
            load_model(str(directory), kind="classification", labels=labels, head="checkpoint")
    with pytest.raises(UsageError, match="weights are random"):
        load_model("random:bert-nano", kind="classification", labels=2, head="checkpoint")
    with pytest.raises(UsageError, match="head 'none'"):
        load_model(str(encoder_dir), kind="classification", labels=2, head="none")
    with pytest.raises(UsageError, match=r"weights are not in its files.*first cls"):
        load_model(str(classifier_dir), kind="masked")


@pytest.mark.parametrize("name", ["llama-nano", "gpt2-nano", "distilbert-nano"])
def test_a_language_model_on_disk_takes_a_span_head(name, tmp_path):
    """Also where transformers names the weights otherwise under that head, as Llama's."""
    model, tokenizer = load_model(f"random:{name}", kind="masked" if is_masked(f"random:{name}") else "causal", seed=5)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    spans, _ = load_model(str(tmp_path), kind="spans", seed=6)
    assert all(spans.base_model.get_parameter(n).equal(p) for n, p in model.base_model.named_parameters())
    spans.save_pretrained(tmp_path)
    again, _ = load_model(str(tmp_path), kind="spans", head="checkpoint")
    assert all(p.equal(q) for p, q in zip(again.parameters(), spans.parameters(), strict=True))


@pytest.mark.parametrize("text", ["none", "lora", "prefix", "prompt"])
@pytest.mark.parametrize("name", ["llama-nano", "qwen-nano"])
def test_a_span_head_on_a_language_model_from_disk_is_saved_under_its_own_names(name, text, tmp_path):
    """So that transformers, which knows nothing of another name, finds every weight."""
    from transformers import AutoModelForQuestionAnswering

    model, tokenizer = load_model(f"random:{name}", seed=5)
    model.save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    spans = add_adapter(load_model(str(tmp_path / "lm"), kind="spans", seed=6)[0], text, seed=7)
    save_adapted(spans, tokenizer, tmp_path / "out")
    saved = tmp_path / "out" / ("base" if text in ("prefix", "prompt") else "")
    again, info = AutoModelForQuestionAnswering.from_pretrained(saved, output_loading_info=True)
    assert not any(info.values())
    again = load_virtual(again.eval(), tmp_path / "out") if saved.name == "base" else again
    ids = torch.tensor([[0, 50, 60, 70]])
    with torch.no_grad():
        torch.testing.assert_close(again(ids).start_logits, spans(ids).start_logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["opt-nano", "gpt2-nano", "llama-nano"])
def test_a_head_on_a_causal_model_reads_the_last_token_on_whatever_side_the_padding_is(name, tmp_path):
    model, tokenizer = load_model(f"random:{name}", kind="classification", labels=2, seed=4)
    alone = torch.tensor([[0, 50, 60, 70]])
    with torch.no_grad():
        expected = model(alone).logits
        for left, right in ((3, 0), (0, 3)):
            ids = torch.tensor([[1] * left + alone[0].tolist() + [1] * right])
            mask = ids.ne(1).long()
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            torch.testing.assert_close(model(ids, attention_mask=mask, position_ids=positions).logits, expected)
    model.config.pad_token_id = tokenizer.pad_token = None  # as GPT-2 and Llama are released
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, tokenizer = load_model(str(tmp_path), kind="classification", labels=2)
    assert again.config.pad_token_id == tokenizer.pad_token_id == 2


@pytest.mark.parametrize(
    "of_config, of_tokenizer, end, expected",
    [
        (0, None, "</s>", 0),
        (1, "<unk>", "</s>", 3),
        (None, "<pad>", "</s>", 1),
        (None, None, None, 3),
        (-1, None, "</s>", 2),
    ],
)
@pytest.mark.parametrize("name", ["gpt2-nano", "llama-nano"])
def test_tokenizer_and_configuration_have_one_padding(name, of_config, of_tokenizer, end, expected, tmp_path, data_dir):
    """Rows of one batch have the logits that each has alone."""
    model, tokenizer = load_model(f"random:{name}", seed=4)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | dict(pad_token_id=of_config)))
    tokenizer.pad_token, tokenizer.eos_token = of_tokenizer, end
    tokenizer.save_pretrained(tmp_path)
    setting = Setting(model=str(tmp_path), data_dir=data_dir)
    problem = load_task("glue_rte").build(setting, form="head", num_train=8, num_dev=4, num_eval=4)
    assert problem.config.pad_token_id == problem.tokenizer.pad_token_id == expected
    encoded = [problem.encode(example) for example in problem.examples("train")]
    assert len({len(e.ids) for e in encoded}) > 1
    with torch.no_grad():
        together = problem.logits(problem.collate(encoded))
        alone = torch.cat([problem.model(torch.tensor([e.ids])).logits for e in encoded])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


# --- saving -----------------------------------------------------------------------------------------------------------


def test_a_problem_saves_what_from_pretrained_opens(tmp_path, data_dir):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    problem = load_task("sst2").build(
        Setting(model="random:opt-nano", data_dir=data_dir), num_train=8, num_dev=4, num_eval=4
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
