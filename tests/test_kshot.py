"""k-shot draws against a second writing of LM-BFF's generator, which works on lists of lines and on tables as the first does."""

import numpy as np
import pandas as pd
import pytest
from task_files import load_task

from zobench import registry
from zobench.baselines.linear_probe import prepare
from zobench.problems.data import Source
from zobench.problems.kshot import KShot, PlainProblem
from zobench.spec import EnvironmentUnmet, Setting, UsageError

SPLITS = (13, 21, 42, 87, 100)


def generate(train, k, seed, label_of):
    """Steps 1 and 2 of generate_k_shot_data.py: shuffle the list itself, group by label, cut."""
    lines = list(train)
    np.random.seed(seed)
    np.random.shuffle(lines)
    labels = {}
    for line in lines:
        labels.setdefault(label_of(line), []).append(line)
    new_train = [line for label in labels for line in labels[label][:k]]
    new_dev = [line for label in labels for line in labels[label][k : k * 2]]
    return new_train, new_dev


def cap_lines(test):
    """Step 3 for files of lines (GLUE, SNLI)."""
    lines = list(test)
    if len(lines) > 1000:
        np.random.seed(42)
        np.random.shuffle(lines)
        lines = lines[:1000]
    return lines


def cap_table(test):
    """Step 3 for tables (sst-5, trec)."""
    table = pd.DataFrame(test)
    return (table.sample(n=1000, random_state=42) if len(table.index) > 1000 else table).to_dict("records")


def made(n, labels, seed, **other):
    draw = np.random.RandomState(seed)
    return [dict(text=f"row {i}", label=labels[draw.randint(len(labels))], **other) for i in range(n)]


def source(train, test):
    return Source("generated", cache={"train": train, "validation": test})


def drawn(sampling, train, test, full=None, sealed=False):
    sizes = dict(train=full or len(train), validation=len(test))
    sample = sampling(source(train, test), sizes, 0, sealed)
    rows = [train[i] for i in sample.train], [train[i] for i in sample.dev], [test[i] for i in sample.test]
    return *rows, sample


@pytest.mark.parametrize("k", [16, 512])
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("labels", [(0, 1), (2, 0, 1), (0, 1, 2, 3, 4)], ids=len)
def test_the_rows_are_those_of_the_original_generator(k, split, labels):
    train, test = made(6000, labels, seed=len(labels)), made(1300, labels, seed=1)
    new_train, new_dev, new_test, sample = drawn(KShot(k, split), train, test)
    assert (new_train, new_dev) == generate(train, k, split, lambda row: row["label"])
    assert new_test == cap_lines(test) == cap_table(test)
    assert len(new_train) == len(new_dev) == k * len(labels) and not sample.partial


def test_the_test_rows_do_not_depend_on_the_split_and_few_keep_their_order():
    train, test = made(200, (0, 1), 0), made(1300, (0, 1), 1)
    assert drawn(KShot(4, 13), train, test)[2] == drawn(KShot(4, 87), train, test)[2]
    assert drawn(KShot(4), train, test[:1000])[2] == test[:1000] == cap_lines(test[:1000])
    assert drawn(KShot(4, num_eval=50), train, test)[2] == cap_lines(test)[:50]
    assert drawn(KShot(4), train, test, sealed=True)[2] == []


def test_scores_are_grouped_at_two_and_a_half():
    draw = np.random.RandomState(0)
    train = [dict(text=f"row {i}", label=float(x)) for i, x in enumerate(draw.randint(0, 26, 800) / 5)]
    sampling = KShot(16, 21, group=lambda score: 0 if score < 2.5 else 1)
    new_train, new_dev, *_ = drawn(sampling, train, made(20, (0, 1), 0))
    assert (new_train, new_dev) == generate(train, 16, 21, lambda row: 0 if float(row["label"]) < 2.5 else 1)
    assert sum(row["label"] < 2.5 for row in new_train) == 16


def test_a_rare_label_of_the_full_data_trains_first():
    """TREC: 86 abbreviations and some 835 places, k = 512."""
    labels = [0] * 86 + [4] * 835 + [1] * 1250
    train = [dict(text=f"row {i}", coarse_label=label) for i, label in enumerate(labels)]
    new_train, new_dev, _, sample = drawn(KShot(512, 42, label="coarse_label"), train, made(20, (0,), 0))
    assert (new_train, new_dev) == generate(train, 512, 42, lambda row: row["coarse_label"])
    counts = [[sum(row["coarse_label"] == c for row in part) for c in (0, 4, 1)] for part in (new_train, new_dev)]
    assert counts == [[86, 512, 512], [0, 323, 512]] and not sample.partial


def test_a_slice_of_the_data_is_shared_out_and_said_to_be_partial():
    train = [dict(text=f"row {i}", label=int(i < 7)) for i in range(47)]  # 7 and 40 rows
    new_train, new_dev, _, sample = drawn(KShot(16), train, made(20, (0, 1), 0), full=5000)
    counts = [[sum(row["label"] == c for row in part) for c in (1, 0)] for part in (new_train, new_dev)]
    assert counts == [[4, 16], [3, 16]] and sample.partial
    assert not {row["text"] for row in new_train} & {row["text"] for row in new_dev}


def test_a_label_that_is_none_is_named():
    train = [dict(text="a", label=[1]), dict(text="b", label=0)]
    with pytest.raises(EnvironmentUnmet, match=r"row 1: \[1\] is no label"):
        drawn(KShot(1), train, [])


# --- tasks ------------------------------------------------------------------------------------------------------------

TASKS = [entry for entry in registry.entries("task").values() if entry.info.get("suite") == "kshot"]


def build(name, data_dir, **options):
    kept = {key: options.pop(key) for key in ("model", "data_seed", "score") if key in options}
    setting = dict(model="random:roberta-nano", data_dir=data_dir, batch_size=64) | kept
    return load_task(name).build(Setting(**setting), **dict(k=2, num_eval=8) | options)


@pytest.mark.parametrize("entry", TASKS, ids=lambda entry: entry.name)
def test_every_task_draws_k_rows_of_each_label(entry, data_dir):
    problem = build(entry.name, data_dir)
    words = load_task(entry.name).WORDS
    for split in ("train", "validation"):
        found = [gold for _, gold in problem.examples(split)]
        assert sorted(found) == sorted(list(range(len(words))) * 2)
    other = build(entry.name, data_dir, split=21)
    assert other.examples("train") != problem.examples("train")
    assert other.examples("test") == problem.examples("test")
    assert problem.facts["partial_data"] and problem.facts["num_train"] == 2 * len(words)
    batch = problem.batch(0)
    assert len(batch.gold) == 2 * len(words)  # all rows: the short last batch is kept


def test_the_tasks_are_those_of_the_paper():
    assert [entry.name.removeprefix("kshot_") for entry in TASKS] == ["mnli", "rte", "snli", "sst2", "sst5", "trec"]
    for entry in TASKS:
        assert (entry.info["batch_size"], entry.info["budget"]) == (64, "forwards=200000")
        assert {"k": 16, "split": 13, "template": "prompt"}.items() <= entry.options.items()


def test_rows_without_a_gold_label_are_left_out_of_snli(tmp_path):
    row = '{"premise": "A b.", "hypothesis": "C.", "label": %d}\n'
    (tmp_path / "snli").mkdir()
    for split in ("train", "validation"):
        (tmp_path / "snli" / f"{split}.jsonl").write_text("".join(row % label for label in [-1, 0, 1, 2] * 6))
    problem = build("kshot_snli", tmp_path, num_eval=100)
    assert len(problem.examples("test")) == 18


def test_a_data_seed_is_refused_with_the_option_that_does_it():
    with pytest.raises(UsageError, match="write split=21 instead"):
        build("kshot_sst2", None, data_seed=21)


def test_an_unknown_label_is_named_with_its_row(tmp_path):
    (tmp_path / "glue" / "rte").mkdir(parents=True)
    row = '{"sentence1": "A.", "sentence2": "B.", "label": %d}\n'
    for split in ("train", "validation"):
        (tmp_path / "glue" / "rte" / f"{split}.jsonl").write_text("".join(row % label for label in [0, 1, 7] * 4))
    with pytest.raises(EnvironmentUnmet, match="unknown label 7; expected 0 or 1"):
        build("kshot_rte", tmp_path).examples("train")


def test_without_a_prompt_a_head_reads_the_sentences(data_dir):
    problem = build("kshot_rte", data_dir, template="none")
    assert isinstance(problem, PlainProblem) and problem.facts["template"] == "none"
    assert problem.tokenizer.decode(problem.encode((("One two.", "Three"), 1)).ids) == "<s>One two.</s>Three</s>"
    logits = problem.logits(problem.batch(0))
    assert logits.shape == (4, 2)
    problem.max_length = 5
    assert len(problem.encode((("One two three four five six.", "Seven"), 1)).ids) == 5


@pytest.mark.parametrize(
    "options, where",
    [
        (dict(), "a masked model"),
        (dict(template="none"), "a head"),
        (dict(template="none", model="random:opt-nano"), "a head"),
    ],
)
def test_a_beginning_of_sequence_is_chosen_for_causal_prompts_alone(options, where, data_dir):
    with pytest.raises(UsageError, match=f"bos_mode=hf: {where} opens its sequences"):
        build("kshot_sst2", data_dir, bos_mode="hf", **options)
    assert build("kshot_sst2", data_dir, model="random:opt-nano", bos_mode="hf").kind == "causal"


def test_advice_to_a_probe_names_k(tmp_path):
    (tmp_path / "glue" / "rte").mkdir(parents=True)
    row = '{"sentence1": "A%d.", "sentence2": "B.", "label": 0}\n'
    for split in ("train", "validation"):
        (tmp_path / "glue" / "rte" / f"{split}.jsonl").write_text("".join(row % i for i in range(30)))
    for template in ("prompt", "none"):
        with pytest.raises(UsageError, match=r"take more .*\(k\)"):
            prepare(build("kshot_rte", tmp_path, template=template))
