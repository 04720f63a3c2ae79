"""Label words at a mask: sequences written out from LM-BFF's rules, scores by plain calls of transformers."""

import json
import math
from functools import partial

import numpy as np
import pytest
import torch
from task_files import load_task

from zobench.models.vocabulary import LABEL_WORDS, MASK, masked_tokenizer
from zobench.problems.masked import MaskedProblem, Template, label_loss, outcome, word_ids
from zobench.problems.text import pad_rows
from zobench.spec import EnvironmentUnmet, Setting, UsageError

SST2 = "*cls**sent_0*_It_was*mask*.*sep+*"
NLI = "*cls**sent-_0*?*mask*,*+sentl_1**sep+*"
INFO = dict(metric="accuracy", hub=dict(id="nobody/nothing", folder="mine"), loss="label words")


@pytest.fixture(scope="module")
def tokenizer():
    return masked_tokenizer()


# --- sequences --------------------------------------------------------------------------------------------------------

GOLDEN = [
    ("kshot_sst2", dict(sentence="a witty film ", label=1), "<s>a witty film  It was<mask>.</s>", "great"),
    ("kshot_sst5", dict(text="a witty film .", label=2), "<s>a witty film . It was<mask>.</s>", "okay"),
    (
        "kshot_snli",
        dict(premise="Men sleep.", hypothesis="Men Rest.", label=0),
        "<s>Men sleep?<mask>, men Rest.</s>",
        "Yes",
    ),
    ("kshot_mnli", dict(premise="It is so", hypothesis="Is it?", label=1), "<s>It is s?<mask>, is it?</s>", "Maybe"),
    ("kshot_mnli", dict(premise="Yes. ", hypothesis="No.", label=2), "<s>Yes.?<mask>, no.</s>", "No"),
    ("kshot_rte", dict(sentence1="A b.", sentence2="C D.", label=0), "<s>A b?<mask>, c D.</s>", "Yes"),
    ("kshot_rte", dict(sentence1="A b.", sentence2="C D.", label=1), "<s>A b?<mask>, c D.</s>", "No"),
    ("kshot_trec", dict(text="What is RNA ?", coarse_label=0), "<s><mask>: What is RNA ?</s>", "Expression"),
    ("kshot_trec", dict(text="What is RNA ?", coarse_label=1), "<s><mask>: What is RNA ?</s>", "Entity"),
    ("kshot_trec", dict(text="What is RNA ?", coarse_label=2), "<s><mask>: What is RNA ?</s>", "Description"),
    ("kshot_trec", dict(text="Who ?", coarse_label=3), "<s><mask>: Who ?</s>", "Human"),
    ("kshot_trec", dict(text="Where ?", coarse_label=4), "<s><mask>: Where ?</s>", "Location"),
    ("kshot_trec", dict(text="When ?", coarse_label=5), "<s><mask>: When ?</s>", "Number"),
    ("glue_cola", dict(sentence="They drank.", label=1), "<s>They drank. This is<mask>.</s>", "correct"),
    ("glue_sst2", dict(sentence="a witty film ", label=0), "<s>a witty film  It was<mask>.</s>", "terrible"),
    (
        "glue_mrpc",
        dict(sentence1="He left .", sentence2="He Went .", label=1),
        "<s>He left .<mask>, he Went .</s>",
        "Yes",
    ),
    ("glue_qqp", dict(question1="Who?", question2="Why?", label=0), "<s>Who?<mask>, why?</s>", "No"),
    ("glue_qnli", dict(question="Who ran?", sentence="Tom ran.", label=0), "<s>Who ran?<mask>, tom ran.</s>", "Yes"),
    ("glue_rte", dict(sentence1="A b.", sentence2="C D.", label=1), "<s>A b?<mask>, c D.</s>", "No"),
    ("glue_wnli", dict(sentence1="A b.", sentence2="C D.", label=1), "<s>A b?<mask>, c D.</s>", "Yes"),
    ("glue_wnli", dict(sentence1="A b.", sentence2="C D.", label=0), "<s>A b?<mask>, c D.</s>", "No"),
]


@pytest.mark.parametrize("name, row, text, word", GOLDEN, ids=lambda v: v if isinstance(v, str) and "_" in v else "")
def test_prompts_read_as_the_papers_do(tokenizer, name, row, text, word):
    task = load_task(name)
    sentences, gold = task.example(row)
    ids, place = Template(task.PROMPT, tokenizer).ids(sentences)
    assert tokenizer.decode(ids) == text
    assert tokenizer.convert_ids_to_tokens(ids[place]) == MASK
    order = getattr(task, "ORDER", range(len(task.WORDS)))
    assert task.WORDS[list(order).index(gold)] == word


def test_mnli_of_glue_names_the_labels_as_the_k_shot_task_does():
    glue, kshot = load_task("glue_mnli"), load_task("kshot_mnli")
    for label in range(3):
        row = dict(premise="A b.", hypothesis="C d.", label=label)
        assert glue.WORDS[glue.ORDER.index(glue.example(row)[1])] == kshot.WORDS[kshot.example(row)[1]]


def test_each_piece_becomes_tokens_by_itself(tokenizer):
    def tokens(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    ids, place = Template(SST2, tokenizer).ids(["so bad "])
    before = [0, *tokens("so bad "), *tokens(" It was")]
    assert ids == [*before, tokenizer.vocab[MASK], tokenizer.vocab["."], 2] and place == len(before)
    ids, _ = Template(NLI, tokenizer).ids(["So bad!", "It Was"])
    comma, question = tokenizer.vocab[","], tokenizer.vocab["?"]
    assert ids == [0, *tokens("So bad"), question, tokenizer.vocab[MASK], comma, *tokens(" it Was"), 2]


def test_a_text_that_spells_the_mask_is_not_taken_for_it(tokenizer):
    ids, place = Template(SST2, tokenizer).ids(["so <mask> bad"])
    assert ids.count(tokenizer.vocab[MASK]) == 2 and place == len(ids) - 3


def test_a_sentence_of_one_character_is_no_literal(tokenizer):
    ids, _ = Template(SST2, tokenizer).ids(["é"])  # two tokens of bytes; the vocabulary has no such item
    assert tokenizer.decode(ids) == "<s>é It was<mask>.</s>" and tokenizer.unk_token_id not in ids


def test_caps_and_the_tail_are_cut_where_the_papers_cut(tokenizer):
    def tokens(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    one, two = "red blue green yellow. ", "White black orange purple"
    first, second = tokens(one[:-1]), tokens(" white black orange purple")
    assert len(first) > 3 and len(second) > 2
    ids, place = Template(NLI, tokenizer, caps=(3, 2)).ids([one, two])
    assert ids[1:4] == first[:3] and place == 5 and ids[-3:] == [*second[:2], 2]
    whole, _ = Template(NLI, tokenizer).ids([one, two])
    cut, place = Template(NLI, tokenizer, max_length=len(first) + 5).ids([one, two])
    assert cut == whole[: len(first) + 5] and cut[place] == tokenizer.vocab[MASK]  # not even </s> is kept
    with pytest.raises(
        ValueError, match=rf"the mask is token {len(first) + 3} of {len(whole)}, and {len(first)} are kept"
    ):
        Template(NLI, tokenizer, max_length=len(first)).ids([one, two])


def test_a_row_whose_mask_is_cut_off_is_named(tmp_path):
    rows = [dict(a="short", label=i % 2) for i in range(6)]
    rows[4]["a"] = "word " * 200
    (tmp_path / "mine").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "mine" / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(EnvironmentUnmet, match=r"jsonl, (line|row) 5: .*the mask is token"):
        problem(tmp_path, num_eval=6).examples("test")


# --- label words ------------------------------------------------------------------------------------------------------


def test_every_label_word_is_one_token_with_its_space(tokenizer):
    ids = word_ids(tokenizer, LABEL_WORDS, "m")
    assert len(set(ids)) == len(LABEL_WORDS)
    assert tokenizer.convert_ids_to_tokens(ids) == ["Ġ" + word for word in LABEL_WORDS]


def test_a_word_of_several_tokens_is_refused_with_its_name_and_the_tokenizer(tokenizer):
    with pytest.raises(
        UsageError, match=r"label word 'antediluvian' is .* to the tokenizer of here/m \(\w+\), not one"
    ):
        word_ids(tokenizer, ["great", "antediluvian"], "here/m")


def test_a_literal_that_the_vocabulary_lacks_is_refused(tokenizer):
    with pytest.raises(UsageError, match="the prompt has '☃'"):
        Template("*cls**sent_0*☃*mask*", tokenizer)


# --- scores -----------------------------------------------------------------------------------------------------------

ROWS = [
    ("it was a long and winding road to nowhere in particular", 0),
    ("so bad", 1),
    ("the best of them all , and a joy .", 1),
    ("no", 0),
]


def problem(
    data_dir=None, model="random:roberta-nano", prompt=SST2, words=("terrible", "great"), batch_size=4, **options
):
    kept = {k: options.pop(k) for k in ("dtype", "seed", "score") if k in options}
    return MaskedProblem(
        Setting(model=model, data_dir=data_dir, batch_size=batch_size, **kept),
        INFO,
        lambda row: ((row["a"],), row["label"]),
        prompt=prompt,
        words=words,
        num_train=2,
        num_dev=2,
        **options,
    )


def plainly(of, sentences):
    """Logits of the label words: one row at a time, without padding, all logits of all places."""
    ids, place = of.template.ids(sentences)
    with torch.no_grad():
        logits = of.model(input_ids=torch.tensor([ids])).logits
    return logits[0, place, of.words]


MODELS = ["random:roberta-nano", "random:bert-nano", "random:distilbert-nano"]


@pytest.mark.parametrize("model", MODELS)
def test_a_batch_scores_as_plain_calls_do_whatever_the_padding(model):
    subject = problem(model=model)
    encoded = [subject.encode(((text,), label)) for text, label in ROWS]
    wanted = torch.stack([plainly(subject, [text]) for text, _ in ROWS])
    for extra in (0, 24):
        subject.pad_rows = partial(pad_rows, side="right", extra=extra)
        with torch.no_grad():
            found = subject.logits(subject.collate(encoded))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_the_loss_is_the_cross_entropy_over_the_words_alone(model):
    subject = problem(model=model)
    batch = subject.collate([subject.encode(((text,), label)) for text, label in ROWS])
    by_hand = -np.mean([float(plainly(subject, [text]).log_softmax(0)[label]) for text, label in ROWS])
    loss = subject.loss(batch)
    assert math.isclose(float(loss.detach()), by_hand, rel_tol=1e-5)
    loss.backward()
    assert all(p.grad is not None for p in subject.model.parameters() if p.requires_grad)


@pytest.mark.parametrize("model", ["random:roberta-nano", "random:opt-nano"])
def test_weights_that_are_not_finite_have_no_accuracy(model):
    subject = problem(model=model, objective="accuracy")
    next(p for p in subject.model.parameters() if p.ndim == 1).data.fill_(math.nan)
    batch = subject.collate([subject.encode(((text,), label)) for text, label in ROWS])
    assert math.isnan(subject.score(batch)) and math.isnan(subject.loss(batch))


def test_evaluation_is_the_same_in_batches_by_length_and_one_by_one(monkeypatch):
    subject = problem()
    examples = [((text,), label) for text, label in ROWS * 5]
    together = subject.measure(examples)
    monkeypatch.setattr("zobench.problems.scoring.EVALUATION_ROWS", 1)
    alone = subject.measure(examples)
    right = [int(plainly(subject, [text]).argmax()) == label for text, label in ROWS]
    assert together["accuracy"] == alone["accuracy"] == np.mean(right)
    assert math.isclose(together["loss"], alone["loss"], rel_tol=1e-6)


def test_the_vocabulary_is_multiplied_at_the_masks_alone():
    subject, seen = problem(), []
    subject.model.get_output_embeddings().register_forward_hook(lambda m, given, out: seen.append(out.shape))
    subject.logits(subject.collate([subject.encode(((text,), label)) for text, label in ROWS]))
    assert seen == [(1, len(ROWS), subject.config.vocab_size)]


def test_minus_accuracy_is_an_objective_without_gradient():
    subject = problem(objective="accuracy")
    batch = subject.collate([subject.encode(((text,), label)) for text, label in ROWS])
    right = [int(plainly(subject, [text]).argmax()) == label for text, label in ROWS]
    loss = subject.loss(batch)
    assert float(loss) == -np.mean(right) and not loss.requires_grad and loss.dtype == torch.float32


def test_half_precision_losses_are_computed_wide_unless_asked_otherwise():
    wide, own = problem(dtype="bfloat16"), problem(dtype="bfloat16", loss_dtype="model")
    encoded = [wide.encode(((text,), label)) for text, label in ROWS]
    assert wide.logits(wide.collate(encoded)).dtype == torch.float32
    assert own.logits(own.collate(encoded)).dtype == torch.bfloat16
    assert own.loss(own.collate(encoded)).dtype == torch.float32


# --- graded -----------------------------------------------------------------------------------------------------------


def test_a_score_trains_with_the_divergence_from_its_share():
    logits, p = torch.tensor([[0.3, -0.2], [1.0, 2.0], [0.0, 0.0]]), torch.tensor([0.25, 1.0, 0.0])
    by_hand = []
    for (no, yes), share in zip(logits.tolist(), p.tolist(), strict=True):
        total = math.exp(no) + math.exp(yes)
        pairs = ((1 - share, math.exp(no) / total), (share, math.exp(yes) / total))
        by_hand.append(sum(t * math.log(t / q) for t, q in pairs if t))
    assert math.isclose(float(label_loss(logits, p)), sum(by_hand) / 3, rel_tol=1e-6)


def test_a_score_is_five_times_the_probability_of_yes():
    logits, gold = np.array([[0.0, 1.0], [0.5, 0.0], [0.0, 0.1]]), np.array([5.0, 0.0, 2.5])
    found = outcome(logits, gold, 5.0, "pearson")
    scores = [5 / (1 + math.exp(no - yes)) for no, yes in logits]
    assert math.isclose(found["pearson"], np.corrcoef(scores, gold)[0, 1]) and found["spearman"] == 1.0
    flat = outcome(np.zeros((3, 2)), gold, 5.0, "pearson")
    assert (flat["pearson"], flat["spearman"], flat["undefined"]) == (0.0, 0.0, 1.0)


def test_a_graded_problem_scores_and_trains(data_dir):
    task = load_task("glue_stsb")
    setting = Setting(model="random:roberta-nano", data_dir=data_dir, batch_size=6)
    options = dict(num_train=12, num_dev=6, num_eval=6)
    subject = task.build(setting, **options)
    batch = subject.batch(0)
    assert batch.gold.is_floating_point() and 0 <= float(batch.gold.min()) <= float(batch.gold.max()) <= 1
    logits = subject.logits(batch)
    assert torch.equal(subject.loss(batch), label_loss(logits, batch.gold))
    other = task.build(setting, objective="pearson", **options)
    scores = 5 * logits.softmax(1)[:, 1].detach().numpy()
    assert math.isclose(-float(other.loss(batch)), np.corrcoef(scores, batch.gold.numpy())[0, 1], rel_tol=1e-4)


# --- other tokenizers and models ----------------------------------------------------------------------------------------

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] . , ? : it was a so bad film terrible great no yes maybe ##s".split()


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A small BERT whose tokenizer is WordPiece: no space belongs to a token."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    directory = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    shape = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    model = BertForMaskedLM(BertConfig(vocab_size=len(VOCABULARY), **shape))
    model.save_pretrained(directory)
    BertTokenizer(vocab={word: i for i, word in enumerate(VOCABULARY)}).save_pretrained(directory)
    return str(directory)


def test_wordpiece_tokenizers_work(bert):
    subject = problem(model=bert)
    ids, place = subject.template.ids(["so bad films "])
    words = ["[CLS]", "so", "bad", "film", "##s", "it", "was", "[MASK]", ".", "[SEP]"]
    assert subject.tokenizer.convert_ids_to_tokens(ids) == words and place == 7
    assert subject.words.tolist() == [VOCABULARY.index("terrible"), VOCABULARY.index("great")]
    encoded = [subject.encode(((text,), 0)) for text in ("so bad films", "a film")]
    wanted = torch.stack([plainly(subject, [text]) for text in ("so bad films", "a film")])
    torch.testing.assert_close(subject.logits(subject.collate(encoded)), wanted, rtol=1e-5, atol=1e-6)


def test_a_wordpiece_tokenizer_that_lacks_a_word_is_refused(bert):
    with pytest.raises(UsageError, match="label word 'okay' is '\\[UNK\\]' to the tokenizer of"):
        problem(model=bert, words=("okay", "great"))


def made(directory, config, tokenizer=None):
    """A directory with a small random masked model."""
    from transformers import AutoModelForMaskedLM

    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(directory)
    (tokenizer or masked_tokenizer()).save_pretrained(directory)
    return str(directory)


SHAPE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, pad_token_id=1)
OFFSET = "mpnet roberta-prelayernorm xlm-roberta camembert data2vec-text".split()


@pytest.mark.parametrize("family", OFFSET)
def test_models_that_count_positions_from_an_offset_do_so_themselves(family, tmp_path, tokenizer):
    """20 rows of the table of positions are 18 tokens: the first is row 2."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), max_position_embeddings=20, **SHAPE)
    subject = problem(model=made(tmp_path, config))
    assert subject.template.max_length == 18
    texts = ("so bad", "a b c d e f g h i")
    encoded = [subject.encode(((text,), 0)) for text in texts]
    assert max(len(e.ids) for e in encoded) > 8
    batch = subject.collate(encoded)
    assert batch.inputs.input_ids.shape[1] <= 18
    wanted = torch.stack([plainly(subject, [text]) for text in texts])
    with torch.no_grad():
        torch.testing.assert_close(subject.logits(batch), wanted, rtol=1e-5, atol=1e-6)


def test_padding_ends_where_the_positions_do(tmp_path, tokenizer):
    from transformers import BertConfig

    subject = problem(model=made(tmp_path, BertConfig(vocab_size=len(tokenizer), max_position_embeddings=13, **SHAPE)))
    encoded = [subject.encode(((text,), 0)) for text in ("a b c d e f g", "so")]
    assert max(len(e.ids) for e in encoded) in range(9, 14)
    batch = subject.collate(encoded)
    assert batch.inputs.input_ids.shape == (2, 13) and math.isfinite(subject.loss(batch).detach())
    rows = [[5] * 9, [6] * 3]
    assert [pad_rows(rows, 0, "cpu", most=most).input_ids.shape[1] for most in (None, 8, 9, 12, 16, 99)] == (
        [16, 9, 9, 12, 16, 16]
    )


@pytest.mark.parametrize("lacking, part", [("mask_token", "mask"), ("cls_token", "cls"), ("sep_token", "sep")])
def test_a_tokenizer_without_a_token_of_the_prompt_is_refused(lacking, part, tmp_path, tokenizer):
    from transformers import BertConfig

    own = masked_tokenizer()
    setattr(own, lacking, None)
    model = made(tmp_path, BertConfig(vocab_size=len(tokenizer), **SHAPE), own)
    with pytest.raises(UsageError, match=rf"model {model}: its tokenizer has no {part} token"):
        problem(model=model)


@pytest.mark.parametrize("model, tokens", [("random:roberta-nano", 600), ("random:opt-nano", 2048)])
@pytest.mark.parametrize("adapter", ["prefix", "prompt"])
def test_more_virtual_tokens_than_positions_are_refused(adapter, model, tokens):
    setting = Setting(model=model, adapter=f"{adapter}[tokens={tokens}]")
    options = dict(prompt=SST2, words=("terrible", "great"))
    with pytest.raises(UsageError, match=r"adapter p\w+\[tokens=\d+\]: .* leave too few for a text; write tokens=N of"):
        MaskedProblem(setting, INFO, lambda row: row, **options)


@pytest.mark.parametrize("mode, first", [("mezo", 0), ("hf", 0)])
def test_a_causal_model_predicts_the_word_behind_its_last_token(mode, first):
    subject = problem(model="random:opt-nano", bos_mode=mode)
    assert subject.kind == "causal"
    ids, place = subject.template.ids(["so bad"])
    assert subject.tokenizer.decode(ids) == "<s>so bad It was" and ids[0] == first and place == len(ids) - 1
    encoded = [subject.encode(((text,), label)) for text, label in ROWS]
    wanted = torch.stack([plainly(subject, [text]) for text, _ in ROWS])
    for side in ("right", "left"):
        subject.pad_rows = partial(pad_rows, side=side)
        torch.testing.assert_close(subject.logits(subject.collate(encoded)), wanted, rtol=1e-5, atol=1e-6)


def test_causal_prompts_leave_out_the_mask_and_what_closes_it(tokenizer):
    def decoded(text, *sentences):
        return tokenizer.decode(Template(text, tokenizer, causal=True, bos=0).ids(sentences)[0])

    assert decoded(NLI, "Men sleep.", "Men Rest.") == "<s>Men sleep? men Rest."
    assert decoded("*cls**mask*:*+sent_0**sep+*", "What is RNA ?") == "<s> What is RNA ?"
    short = Template(SST2, tokenizer, causal=True, bos=0, max_length=6)
    ids, place = short.ids(["one two three four five six seven"])
    assert len(ids) == 6 and ids[0] == 0 and tokenizer.decode(ids).endswith("It was") and place == 5


def test_a_k_shot_task_on_a_causal_model_that_lacks_its_words_is_refused():
    with pytest.raises(UsageError, match="label word 'okay'"):
        load_task("kshot_sst5").build(Setting(model="random:opt-nano"))
