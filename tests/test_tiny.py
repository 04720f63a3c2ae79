"""The tiny model: small enough, truly pretrained, and with the figures that its card says."""

import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from zobench import plan, record, registry
from zobench.build import Names
from zobench.cli import main
from zobench.models.identity import directory_digest, identify
from zobench.models.load import load_model
from zobench.models.shapes import TINY
from zobench.optimizers import MeZO
from zobench.problems import world
from zobench.spec import Setting

ROOT = Path(__file__).parents[1]
LABEL_WORDS = (" great", " terrible", "Yes", "No", "Maybe", "\n")


@pytest.fixture(scope="module")
def tiny():
    return load_model("tiny")


@pytest.fixture(scope="module")
def card() -> str:
    return (TINY / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures(card) -> dict[str, dict[str, list[float]]]:
    """task -> method -> per cent on each seed, and `mean` of them as printed."""
    lines = card.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| task | zero-shot"))
    head, _, *rows = lines[start : start + 2 + len(world.TASKS)]
    methods = [cell.strip() for cell in head.strip("|").split("|")][1:]
    found = {}
    for row in rows:
        task, *cells = [cell.strip() for cell in row.strip("|").split("|")]
        found[task] = {m: [float(v) for v in re.findall(r"\d+\.\d", c)] for m, c in zip(methods, cells, strict=True)}
    return found


def problem(task: str, **options):
    return registry.load(registry.find("task", task)).build(Setting(model="tiny"), **options)


# --- the files ---


def test_it_is_as_small_as_it_is_said_to_be(tiny):
    assert 1e6 < sum(p.numel() for p in tiny[0].parameters()) < 3e6
    assert (TINY / "model.safetensors").stat().st_size < 6 * 2**20
    assert sum(p.stat().st_size for p in TINY.iterdir()) < 7 * 2**20


def test_half_precision_weights_are_loaded_into_single(tiny):
    from safetensors.torch import load_file

    stored = load_file(TINY / "model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.float16}
    for name, p in tiny[0].named_parameters():
        assert p.dtype == torch.float32 and torch.equal(p, stored[name].float())
    assert next(load_model("tiny", dtype="bfloat16")[0].parameters()).dtype == torch.bfloat16


def test_label_words_are_single_tokens(tiny):
    assert all(len(tiny[1](word, add_special_tokens=False)["input_ids"]) == 1 for word in LABEL_WORDS)
    assert tiny[1].convert_tokens_to_ids(["<s>", "<pad>", "</s>"]) == [0, 1, 2]


def test_texts_survive_the_tokenizer(tiny):
    for text in ("Title: News\nContext: Ben flew to Cuba.", "Zoë's naïve 雨"):
        assert tiny[1].decode(tiny[1](text, add_special_tokens=False)["input_ids"]) == text


def test_its_name_is_its_digest(card):
    name, revision, path = identify("tiny", None)
    assert (name, path) == ("tiny", None)  # it is where the package is: no path of this machine in a result
    assert revision == f"sha256:{directory_digest(TINY)}" and revision in card


def test_a_directory_of_that_name_is_another_model(tmp_path, monkeypatch, nano_dir):
    (tmp_path / "tiny").symlink_to(nano_dir)
    monkeypatch.chdir(tmp_path)
    assert identify("tiny", None)[1] == f"sha256:{directory_digest(TINY)}"
    assert identify("./tiny", None)[2] == str(nano_dir.resolve())


def test_the_card_names_no_place_and_nobody(card):
    assert not re.search(r"/home|/root|/tmp|/work|@|nan", card)


# --- the figures ---


def test_the_card_has_five_seeds_of_every_task(figures):
    assert set(figures) == {f"toy-{task}" for task in world.TASKS}
    for task, methods in figures.items():
        assert set(methods) == {"zero-shot", "MeZO", "Adam", "zero-shot, no prompt", "MeZO, no prompt"}
        for method, (mean, *seeds) in methods.items():
            assert len(seeds) == 5, (task, method)
            assert mean == pytest.approx(statistics.mean(seeds), abs=0.11)


def test_the_pretrained_model_is_neither_perfect_nor_lost(figures):
    bounds = {"toy-sentiment": (55, 85), "toy-copa": (55, 85), "toy-entailment": (50, 80), "toy-qa": (30, 50)}
    for task, (low, high) in bounds.items():
        assert all(low <= value <= high for value in figures[task]["zero-shot"]), task


def test_adam_solves_every_task(figures):
    for task, methods in figures.items():
        assert min(methods["Adam"]) >= (80 if task == "toy-qa" else 95), task


def test_mezo_lies_between_zero_shot_and_adam(figures):
    for task, methods in figures.items():
        _, *before = methods["zero-shot"]
        mean, *after = methods["MeZO"]
        assert all(b - a >= 8 for a, b in zip(before, after, strict=True)), task
        assert mean <= methods["Adam"][0] - 3, task


def test_mezo_needs_the_prompt(figures):
    assert all(abs(value - 50) <= 5 for value in figures["toy-sentiment"]["MeZO, no prompt"])
    for methods in figures.values():
        assert methods["MeZO, no prompt"][0] < methods["MeZO"][0]


def test_a_run_of_mezo_takes_at_most_a_minute(card):
    seconds = re.findall(r"\| toy-\w+ \| forwards=\d+ \| (\d+) \| \d+ \|", card)  # of the fastest: others disturb
    assert len(seconds) == 4 and all(int(s) <= 60 for s in seconds)


def test_zero_shot_is_within_two_points_of_the_card(figures):
    value = problem("toy_sentiment").evaluate("test")["accuracy"]
    assert abs(100 * value - figures["toy-sentiment"]["zero-shot"][1]) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("task", ["toy_entailment", "toy_copa", "toy_qa"])
def test_zero_shot_of_the_others_is_too(figures, task):
    value = problem(task).evaluate("test")[registry.find("task", task).info["metric"]]
    assert abs(100 * value - figures[task.replace("_", "-")]["zero-shot"][1]) <= 2


@pytest.mark.slow
def test_a_short_run_of_mezo_gains():
    task = problem("toy_sentiment")
    before = task.evaluate("validation")["accuracy"]
    opt = MeZO(task.model, lr=task.rates["two-point"], seed=1)
    for step in range(400):
        batch = task.batch(step)
        opt.step(lambda: task.loss(batch))  # noqa: B023
    assert task.evaluate("validation")["accuracy"] >= before + 0.08


# --- the command line ---


def test_a_toy_task_brings_the_model(tmp_path):
    small = "toy-sentiment[num_dev=20,num_eval=20]"
    asked = ["run", "-t", small, "-O", "mezo", "--budget", "steps=4", "-o", str(tmp_path)]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    (row,), problems = record.scan(
        tmp_path, ("model", "revision", "lr_source", "parameters", "num_train", "partial_data")
    )
    assert not problems
    assert (row["model"], row["lr_source"], row["num_train"]) == ("tiny", "task", 1000)
    assert row["revision"] == f"sha256:{directory_digest(TINY)}" and not row["partial_data"]


def test_another_model_can_be_asked_for():
    (job,) = plan.jobs(plan.request("toy_qa", "mezo", model="random:opt-nano"), Names())
    assert job.model == "random:opt-nano"
    (job,) = plan.jobs(plan.request("toy_qa", "mezo"), Names())
    assert (job.model, job.dtype, job.data) == ("tiny", "float32", "generated")


def test_it_is_listed():
    assert "tiny" in CliRunner().invoke(main, ["list", "models"]).output


def test_without_the_prompt_is_another_cell_and_another_template():
    assert problem("toy_sentiment").facts["template"] == "prompt"
    assert problem("toy_sentiment", template="empty").facts["template"] == "empty"
    assert problem("toy_sentiment", template="empty").examples("train")[0][0].endswith(".")


# --- the pretraining ---


@pytest.mark.slow
def test_pretraining_twice_gives_the_same_bits(tmp_path):
    import subprocess

    script = str(ROOT / "scripts" / "pretrain_tiny.py")
    for name in ("one", "two"):
        asked = [sys.executable, script, "--steps", "30", "--every", "1000", "--out", str(tmp_path / name)]
        subprocess.run(asked, check=True, capture_output=True, cwd=ROOT)
    assert directory_digest(tmp_path / "one") == directory_digest(tmp_path / "two")


def test_loading_it_draws_no_bar(tmp_path):
    command = [sys.executable, "-m", "zobench", "run", "-t", "toy-sentiment", "-O", "mezo,adam", "--budget", "steps=2"]
    done = subprocess.run([*command, "-j", "2", "-o", str(tmp_path / "s")], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.count("\n") == 2
    (run, *_) = (tmp_path / "s").glob("*.parquet")
    again = subprocess.run([sys.executable, "-m", "zobench", "replay", str(run)], capture_output=True, text=True)
    assert "Loading" not in again.stderr
