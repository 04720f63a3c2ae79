"""Extractive answers: windows over long contexts, their loss, and predictions as transformers' run_qa makes them."""

import json
import math

import numpy as np
import pytest
import torch
from task_files import load_task

from zobench import plan
from zobench.problems.answers import squad_official, squad_v2_official
from zobench.problems.scoring import evaluating
from zobench.problems.spans import Example, Question, SpanProblem, Window, locate
from zobench.spec import EnvironmentUnmet, Setting, UsageError

MODELS = ("roberta", "bert", "distilbert", "opt", "gpt2", "llama")


def build(data_dir, model="random:roberta-nano", version=2, batch_size=6, **options):
    sizes = dict(num_train=12, num_dev=12, num_eval=6, max_length=96, doc_stride=24) | options
    setting = Setting(model=model, seed=3, batch_size=batch_size, score="test", data_dir=data_dir)
    return load_task("squad_extractive").build(setting, version=version, **sizes)


@pytest.fixture(scope="module")
def problem(data_dir) -> SpanProblem:
    return build(data_dir)


@pytest.fixture(scope="module")
def questions(problem) -> list[Question]:
    return [problem.encode(example) for example in problem.examples("train")]


# --- windows --------------------------------------------------------------------------------------------------------------


def test_windows_cover_the_context_overlap_and_keep_the_question_whole(problem):
    context = " ".join(f"word{i} went to town {i} by boat." for i in range(60))
    got = problem.encode(Example("Who went to town 40?", context, ("word40",), context.index("word40")))
    assert len(got.windows) > 3
    question = problem.tokenizer("Who went to town 40?", add_special_tokens=False)["input_ids"]
    covered = []
    for window in got.windows:
        assert len(window.ids) <= 96
        assert window.ids[: len(question) + 2] == [0, *question, 2]  # <s> question </s> </s> context </s>
        assert window.offsets[: len(question) + 3] == [None] * (len(question) + 3) and window.offsets[-1] is None
        covered.append([pair for pair in window.offsets if pair])
    for one, two in zip(covered, covered[1:], strict=False):
        assert one[-24:] == two[:24]
    assert covered[0][0][0] == 0 and covered[-1][-1][1] == len(context)
    assert {len(w.ids) for w in got.windows[:-1]} == {96}


def test_targets_are_the_answers_tokens_or_the_null_token(problem):
    context = " ".join(f"word{i} went to town {i} by boat." for i in range(60))
    at = context.index("word40 went")
    got = problem.encode(Example("Who?", context, ("word40 went",), at))
    inside = 0
    for window in got.windows:
        pairs = [pair for pair in window.offsets if pair]
        if pairs[0][0] <= at and pairs[-1][1] >= at + len("word40 went"):
            inside += 1
            found = context[window.offsets[window.start][0] : window.offsets[window.end][1]]
            assert found.strip() == "word40 went"
        else:
            assert (window.start, window.end) == (window.null, window.null) == (0, 0)
    assert 0 < inside < len(got.windows)
    without = problem.encode(Example("Who?", context, (), 0))
    assert {(w.start, w.end) for w in without.windows} == {(0, 0)}


def test_every_answer_of_the_rows_is_found_again(problem, questions):
    for question in questions:
        found = {w for w in map(tuple, ((w.start, w.end) for w in question.windows)) if w != (0, 0)}
        assert bool(found) == bool(question.example.texts)
        for window in question.windows:
            if window.start:
                text = question.example.context[window.offsets[window.start][0] : window.offsets[window.end][1]]
                assert question.example.texts[0] in text and len(text) - len(question.example.texts[0]) < 8


def run_qa_positions(offsets, begin, stop):
    """Token positions of characters [begin, stop), found by the two walks that run_qa describes, or None outside."""
    inside = [i for i, pair in enumerate(offsets) if pair is not None]
    first, last = inside[0], inside[-1]
    if not (offsets[first][0] <= begin and offsets[last][1] >= stop):
        return None
    while first <= inside[-1] and offsets[first][0] <= begin:
        first += 1
    while last >= inside[0] and offsets[last][1] >= stop:
        last -= 1
    return first - 1, last + 1


def test_positions_are_those_of_run_qa():
    random = np.random.RandomState(0)
    context = "abcdefghij" * 4
    for _ in range(300):
        cuts = np.sort(random.choice(np.arange(41), random.randint(2, 12), replace=False))
        pairs = [(int(a), int(b)) for a, b in zip(cuts, cuts[1:], strict=False)]
        offsets = [None, *pairs, None]
        begin = random.randint(0, 35)
        text = context[begin : begin + random.randint(1, 5)]
        got = locate(offsets, Example("?", context, (text,), begin))
        assert got == run_qa_positions(offsets, begin, begin + len(text))


def test_the_null_token_is_cls_or_bos_or_the_first(data_dir, problem):
    assert problem.tokenizer.cls_token_id == problem.encode(problem.examples("train")[0]).windows[0].ids[0] == 0
    decoder = build(data_dir, "random:opt-nano")
    assert {w.null for e in decoder.examples("train") for w in decoder.encode(e).windows} == {0}


# --- loss -----------------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_mean_of_start_and_end_cross_entropies_of_single_windows(problem, questions):
    batch = problem.collate(questions[:5])
    windows = [w for q in questions[:5] for w in q.windows]
    losses = []
    for window in windows:
        with torch.no_grad():
            out = problem.model(input_ids=torch.tensor([window.ids]))
        start, end = out.start_logits[0].double().log_softmax(0), out.end_logits[0].double().log_softmax(0)
        losses.append(-(start[window.start] + end[window.end]).item() / 2)
    assert len(batch.start) == len(windows)
    assert len({len(w.ids) for w in windows}) > 1
    assert problem.loss(batch).item() == pytest.approx(np.mean(losses), rel=1e-5)
    with evaluating(problem.model):
        measured = problem.measure([q.example for q in questions[:5]])
    assert measured["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_loss_has_a_gradient_and_adam_lowers_it(data_dir):
    problem = build(data_dir, version=1, batch_size=4)
    optimizer, batch = torch.optim.Adam(problem.model.parameters(), lr=1e-3), problem.batch(0)
    before = problem.loss(batch)
    for _ in range(6):
        optimizer.zero_grad()
        problem.loss(batch).backward()
        optimizer.step()
    assert problem.loss(batch).item() < before.item() - 0.5


@pytest.mark.parametrize("name", MODELS)
def test_batched_scores_equal_those_of_single_windows(data_dir, name):
    problem = build(data_dir, f"random:{name}-nano")
    windows = [w for e in problem.examples("train") for w in problem.encode(e).windows]
    with evaluating(problem.model):
        batched = problem.scores(windows)
        for window, (start, end) in zip(windows, batched, strict=True):
            out = problem.model(**problem.pad([window]))
            assert start == pytest.approx(out.start_logits[0].double().numpy(), abs=1e-4)
            assert end == pytest.approx(out.end_logits[0].double().numpy(), abs=1e-4)


@pytest.mark.parametrize("name", ["roberta", "opt"])  # which take positions from the mask, as padding on the left needs
@pytest.mark.parametrize("side", ["left", "right"])
def test_scores_do_not_hang_on_the_side_or_the_width_of_the_padding(data_dir, name, side):
    problem = build(data_dir, f"random:{name}-nano")
    windows = [w for e in problem.examples("train")[:4] for w in problem.encode(e).windows]
    with evaluating(problem.model):
        plain = problem.scores(windows)
        inputs = problem.pad(windows, extra=9)
        if side == "left":
            inputs = {k: torch.stack(list(map(_shifted, windows, t))) for k, t in inputs.items()}
        start, end = problem.logits(inputs)
    for window, s, e, (start_alone, end_alone) in zip(windows, start, end, plain, strict=True):
        kept = slice(_gap(window, s), None) if side == "left" else slice(len(window.ids))
        assert s[kept].numpy() == pytest.approx(start_alone, abs=1e-4)
        assert e[kept].numpy() == pytest.approx(end_alone, abs=1e-4)
        assert torch.isinf(s).sum() == len(s) - len(window.ids)


def _gap(window, row):
    return len(row) - len(window.ids)


def _shifted(window, row):
    return row.roll(_gap(window, row))


# --- predictions ----------------------------------------------------------------------------------------------------------


def run_qa(question, rows, version, n_best=20, longest=30):
    """The answer that run_qa's postprocessing gives, written from its description."""
    found, nulls = [], []
    for window, (start, end) in zip(question.windows, rows, strict=True):
        nulls.append(start[window.null] + end[window.null])
        best_starts = sorted(range(len(start)), key=lambda i: start[i], reverse=True)[:n_best]
        best_ends = sorted(range(len(end)), key=lambda i: end[i], reverse=True)[:n_best]
        for i in best_starts:
            for j in best_ends:
                if window.offsets[i] is None or window.offsets[j] is None:
                    continue
                if j < i or j - i + 1 > longest:
                    continue
                text = question.example.context[window.offsets[i][0] : window.offsets[j][1]]
                found.append((start[i] + end[j], text))
    found.sort(key=lambda pair: pair[0], reverse=True)
    if not found:
        return ""
    if version == 1:
        return found[0][1]
    difference = min(nulls) - found[0][0]
    return "" if difference > 0.0 else found[0][1]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("n_best", "longest"), [(20, 30), (3, 4), (1, 30)])
def test_predictions_are_those_of_run_qa(problem, questions, monkeypatch, version, n_best, longest):
    monkeypatch.setattr(problem, "version", version)
    monkeypatch.setattr(problem, "n_best", n_best)
    monkeypatch.setattr(problem, "max_answer", longest)
    random, empty = np.random.RandomState(version), 0
    for question in questions * 4:
        rows = [(random.randn(len(w.ids)), random.randn(len(w.ids))) for w in question.windows]
        boost = random.choice([0, 3, 12])
        for window, (start, _) in zip(question.windows, rows, strict=True):
            start[window.null] += boost
        got = problem.predict(question, rows)
        assert got == run_qa(question, rows, version, n_best, longest)
        empty += got == ""
    if n_best == 20:
        assert (0 < empty < 4 * len(questions)) if version == 2 else empty == 0


def one_question(scores, version, problem, monkeypatch, windows=1):
    """The prediction for `[null] q a b c d`, a to d the words of the context; `scores` are (start, end) of each window."""
    monkeypatch.setattr(problem, "version", version)
    offsets = [None, None, (0, 1), (2, 3), (4, 5), (6, 7)]
    window = Window([0, 5, 6, 7, 8, 9], [0] * 6, offsets, 0, 0, 0)
    question = Question(Example("q", "a b c d", ("a",), 0), [window] * windows)
    return problem.predict(question, [(np.array(s, float), np.array(e, float)) for s, e in scores])


def test_a_span_neither_ends_before_it_starts_nor_leaves_the_context(problem, monkeypatch):
    backwards = ([0, 0, 0, 0, 0, 9], [0, 0, 9, 0, 0, 1])  # d..a would have 18
    assert one_question([backwards], 1, problem, monkeypatch) == "d"
    outside = ([9, 9, 0, 1, 0, 0], [9, 9, 0, 0, 1, 0])
    assert one_question([outside], 1, problem, monkeypatch) == "b c"


def test_a_span_is_at_most_so_many_tokens_long(problem, monkeypatch):
    far = ([0, 0, 5, 0, 0, 0], [0, 0, 0, 0, 1, 5])  # a..d has 4 tokens
    assert one_question([far], 1, problem, monkeypatch) == "a b c d"
    monkeypatch.setattr(problem, "max_answer", 3)
    assert one_question([far], 1, problem, monkeypatch) == "a b c"


def test_the_null_score_is_the_least_over_the_windows_and_must_be_higher(problem, monkeypatch):
    low, high = ([1, 0, 3, 0, 0, 0], [1, 0, 3, 0, 0, 0]), ([9, 0, 3, 0, 0, 0], [9, 0, 3, 0, 0, 0])
    assert one_question([high], 2, problem, monkeypatch) == ""
    assert one_question([high], 1, problem, monkeypatch) == "a"
    assert one_question([low, high], 2, problem, monkeypatch, windows=2) == "a"
    even = ([3, 0, 3, 0, 0, 0], [3, 0, 3, 0, 0, 0])
    assert one_question([even], 2, problem, monkeypatch) == "a"  # the threshold is 0.0, exceeded or not


def test_without_a_span_to_choose_from_the_answer_is_empty(problem, monkeypatch):
    monkeypatch.setattr(problem, "n_best", 1)
    assert one_question([([9, 0, 1, 0, 0, 0], [9, 0, 1, 0, 0, 0])], 1, problem, monkeypatch) == ""
    assert one_question([([math.nan] * 6, [math.nan] * 6)], 2, problem, monkeypatch) == ""


# --- metrics --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_metrics_and_the_objective_f1_are_those_of_single_predictions(data_dir, version):
    problem = build(data_dir, version=version, objective="f1")
    examples = problem.examples("train")
    questions = [problem.encode(e) for e in examples]
    with evaluating(problem.model):
        rows = [problem.scores(q.windows) for q in questions]
        answers = [run_qa(q, r, version) for q, r in zip(questions, rows, strict=True)]
        got = problem.measure(examples)
        loss = problem.loss(problem.collate(questions))
    score = squad_v2_official if version == 2 else squad_official
    expected = score(answers, [e.texts for e in examples])
    assert {k: v for k, v in got.items() if k != "loss"} == pytest.approx(expected)
    assert ("no_answer_f1" in got) == (version == 2)
    assert loss.item() == pytest.approx(-expected["f1"]) and not loss.requires_grad


def test_weights_that_are_not_finite_have_no_f1(data_dir):
    problem = build(data_dir, objective="f1")
    batch = problem.collate([problem.encode(e) for e in problem.examples("train")[:2]])
    problem.model.qa_outputs.weight.data.fill_(torch.nan)
    assert problem.loss(batch).isnan()


def test_right_scores_get_full_marks(problem):
    """A head that points at the targets answers every question, those without an answer included."""
    examples = problem.examples("validation")
    questions = [problem.encode(e) for e in examples]
    rows = [(20 * np.eye(len(w.ids))[w.start], 20 * np.eye(len(w.ids))[w.end]) for q in questions for w in q.windows]
    got = problem.compare(problem._answers(questions, rows), questions)
    assert got["no_answer_em"] == 1.0
    if all(len(q.windows) == 1 for q in questions):
        assert got["f1"] > 0.95  # a token may hold more than the answer


def test_evaluation_has_the_splits(problem):
    assert set(problem.evaluate("test")) >= {"f1", "em", "loss"}
    assert problem.facts["num_dev"] == len(problem.examples("validation"))
    assert problem.facts["max_length"] == 96 and problem.facts["doc_stride"] == 24


# --- a user's mistakes ----------------------------------------------------------------------------------------------------


def test_windows_longer_than_the_model_reads_are_refused(data_dir):
    with pytest.raises(UsageError, match="reads at most 512 tokens; write the option max_length=512"):
        build(data_dir, max_length=600)  # of 514 places RoBERTa keeps two for padding


def test_windows_must_be_longer_than_what_they_share(data_dir):
    with pytest.raises(UsageError, match="doc_stride=96: windows of max_length=96 tokens cannot share so many"):
        build(data_dir, doc_stride=96)


def test_a_question_that_fills_the_window_is_named(data_dir):
    with pytest.raises(
        EnvironmentUnmet, match=r"(row|line) \d+: .*more than doc_stride=80: raise max_length or lower doc_stride"
    ):
        build(data_dir, doc_stride=80).batch(0)


def test_an_answer_that_is_not_where_it_should_be_is_named(tmp_path):
    row = dict(
        context="They came from Norway.", question="Where from?", answers=dict(text=["Norway"], answer_start=[14])
    )
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text((json.dumps(row) + "\n") * 8)
    with pytest.raises(EnvironmentUnmet, match=r"train.jsonl, \w+ \d: .*'Norway' is not at character 14"):
        build(tmp_path, version=1, num_train=4, num_dev=2).batch(0)


def test_a_slow_tokenizer_is_refused(data_dir, monkeypatch):
    from transformers import PreTrainedTokenizerFast

    monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", property(lambda self: False))
    with pytest.raises(UsageError, match="tokenizer is a slow one"):
        build(data_dir)


@pytest.mark.parametrize(
    ("option", "says"), [("version=3", "version"), ("head=probe", "head"), ("doc_stride=0", "doc_stride")]
)
def test_options_are_held_to_their_choices(option, says):
    with pytest.raises(UsageError, match=says):
        plan.jobs(plan.request(f"squad_extractive[{option}]", "mezo", model="random:roberta-nano"), names=None)


def test_the_checkpoints_own_head_is_a_choice(data_dir, problem, tmp_path):
    problem.save(tmp_path)
    kept = build(data_dir, str(tmp_path), head="checkpoint")
    batch = problem.collate([problem.encode(e) for e in problem.examples("train")])
    assert kept.loss(batch).item() == pytest.approx(problem.loss(batch).item())
    drawn = load_task("squad_extractive").build(Setting(model=str(tmp_path), seed=4, data_dir=data_dir))
    same = [torch.equal(p, q) for p, q in zip(drawn.model.parameters(), problem.model.parameters(), strict=True)]
    assert same.count(False) == 1 and not torch.equal(drawn.model.qa_outputs.weight, problem.model.qa_outputs.weight)
