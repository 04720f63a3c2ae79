"""The command line: what users type, what they see, and the one line and exit code that a mistake gets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from zobench.cli import main

CHECKOUT = Path(__file__).resolve().parent.parent


def zobench(*args, env=None):
    result = CliRunner().invoke(main, [str(a) for a in args], env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOBENCH_STORE", raising=False)


RUN = ("run", "-t", "softmax_l2", "-O", "mezo")
MISTAKES = [
    (("run", "-t", "sst3", "-O", "mezo"), 2, "did you mean sst2?"),
    (("run", "-t", "softmax_l2", "-O", "mzo"), 2, "did you mean mezo"),
    (("run", "-t", "softmax_l2", "-O", "mezo[lr=-1]"), 2, "lr must be >= 0"),
    (("run", "-t", "softmax_l2", "-O", "mezo[lr=nan]"), 2, "lr must be"),
    (("run", "-t", "softmax_l2", "-O", "mezo[lr=fast]"), 2, "must be a number"),
    (("run", "-t", "softmax_l2", "-O", "mezo[epz=1]"), 2, "did you mean eps?"),
    (("run", "-t", "softmax_l2", "-O", "mezo[law=cauchy]"), 2, "must be one of gaussian, rademacher"),
    (("run", "-t", "softmax_l2[scale=huge]", "-O", "mezo"), 2, "must be one of tiny, standard, large"),
    (("run", "-t", "softmax_l2[", "-O", "mezo"), 2, "cannot read"),
    ((*RUN, "--dtype", "fp8"), 2, "choose from fp32"),
    ((*RUN, "--dtype", "fp32"), 2, "precision=float32"),
    ((*RUN, "--budget", "banana"), 2, "steps=N"),
    ((*RUN, "--budget", "steps=-3"), 2, "positive"),
    ((*RUN, "--seeds", "x"), 2, "a count"),
    ((*RUN, "--seeds", str(2**32) + "-" + str(2**32)), 2, "below 2**32"),
    ((*RUN, "-b", "4"), 2, "no minibatches"),
    (("run", "-t", "rows_ce", "-O", "mezo", "-b", "4"), 2, "rows_ce[batch=4]"),
    (("run", "-t", "sst2", "-O", "mezo", "-m", "random:opt-nano", "-b", "0"), 2, "at least 1"),
    (("run", "-t", "softmax_l2", "-O", "varpro"), 2, "it is for attention"),
    (("run", "-t", "toy-sentiment", "-O", "newton"), 2, "a reference line for regressions"),
    ((*RUN, "-j", "0"), 2, "at least 1"),
    (("run", "-t", "softmax_l2"), 2, "at least one task"),
    (("run", "-O", "mezo"), 2, "at least one task"),
    ((*RUN, "--schedule", "cosine"), 2, "constant or linear"),
    ((*RUN, "--timeout", "soon"), 2, "30m"),
    ((*RUN, "--device", "tpu"), 2, "write cpu"),
    ((*RUN, "--device", "cuda:99"), 6, "CUDA devices"),
    ((*RUN, "-m", "gpt2"), 2, "brings its own model"),
    ((*RUN, "--adapter", "lora"), 2, "no language model"),
    ((*RUN, "--bogus"), 2, "No such option"),
    ((*RUN, "--suite", "demo"), 2, "not both"),
    (("run", "--suite", "demmo"), 2, "did you mean demo?"),
    (("run", "-t", "softmax_l2", "-O", "./nope.py"), 2, "does not exist"),
    (("run", "-t", "sst2", "-O", "mezo"), 2, "needs a model"),
    (("run", "-t", "sst2", "-O", "mezo", "-m", "random:opt-nan"), 2, "did you mean random:opt-nano?"),
    (("run", "-t", "sst2", "-O", "mezo", "-m", "./nothing"), 2, "no such directory"),
    (("run", "-t", "sst2", "-O", "mezo", "-m", "random:opt-nano", "--data", "nowhere"), 6, "looked for"),
    (("run", "-t", "sst2", "-O", "mezo", "-m", "random:opt-nano", "--dtype", "fp64", "--data", "x"), 2, "regressions"),
    (("run", "-t", "softmax_l2", "-O", "mezo[lr=none]"), 2, "must be a number"),
    (("run", "-t", "softmax_l2", "-O", "mezo[eps=[]]"), 2, "is empty"),
    ((*RUN, "--seeds", "99999999999"), 2, "at most"),
    (("report", "nowhere"), 5, "zobench run"),
    (("replay", "abc"), 2, "abc"),
    (("info", "nothing"), 2, "zobench list"),
]


@pytest.mark.parametrize("args, code, says", MISTAKES, ids=[" ".join(a) for a, _, _ in MISTAKES])
def test_a_mistake_is_one_line_that_says_what_to_do(args, code, says):
    result = zobench(*args, env={"ZOBENCH_DATA": "", "HF_HUB_OFFLINE": "1"})
    assert result.exit_code == code
    assert says in result.stderr and result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1 and result.stderr.startswith("zobench: ")


def test_an_unknown_command_is_told_the_near_ones():
    result = zobench("rnu")
    assert result.exit_code == 2 and "did you mean run?" in result.stderr


def test_no_rows_and_no_hub_is_one_line_and_code_6():
    command = [sys.executable, "-m", "zobench", "run", "-t", "sst2", "-O", "mezo", "-m", "random:opt-nano"]
    environment = os.environ | {
        "PYTHONPATH": str(CHECKOUT),
        "ZOBENCH_DATA": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": os.getcwd(),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 6 and done.stdout == ""
    assert "--data DIR" in done.stderr and "ZOBENCH_DATA" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_hub_model_that_cannot_be_had_is_one_line_and_code_6(data_dir):
    command = [
        sys.executable,
        "-m",
        "zobench",
        "run",
        "-t",
        "sst2",
        "-O",
        "mezo",
        "-m",
        "some/model",
        "--data",
        data_dir,
    ]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "HF_HUB_OFFLINE": "1", "HF_HOME": os.getcwd()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 6 and "some/model" in done.stderr and len(done.stderr.splitlines()) == 1


def test_unreadable_rows_name_file_and_line(data_dir, tmp_path):
    folder = tmp_path / "rows" / "glue" / "sst2"
    folder.mkdir(parents=True)
    (folder / "validation.jsonl").write_text('{"sentence": "fine", "label": 1}\n')
    (folder / "train.jsonl").write_text('{"sentence": "fine", "label": 1}\n{"sentence": \n')
    result = zobench("run", "-t", "sst2", "-O", "mezo", "-m", "random:opt-nano", "--data", tmp_path / "rows")
    assert result.exit_code == 6 and "train.jsonl" in result.stderr and "2" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_full_disk_is_one_line_code_6_and_the_result_is_rescued(monkeypatch):
    import errno

    from zobench import record

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(record, "_publish", full)
    result = zobench(*RUN, "--budget", "steps=3", "-q")
    assert result.exit_code == 6 and "No space left" in result.stderr
    rescued = [word.rstrip(";,.") for word in result.stderr.split() if word.rstrip(";,.").endswith(".parquet")]
    assert any(Path(word).is_file() for word in rescued)


def test_no_permission_is_told_before_anything_runs(monkeypatch):
    from zobench import record

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(record, "_write_temporary", refuse)
    result = zobench(*RUN, "--budget", "steps=3", "-q")
    assert result.exit_code == 6 and "Permission denied" in result.stderr and "-o DIR" in result.stderr


def test_some_failed_runs_are_code_4(tmp_path):
    result = zobench("run", "-t", "softmax_l2", "-O", "mezo[eps=1e308],sgd", "--budget", "steps=5", "-q")
    assert result.exit_code == 4 and "1 of 2 runs failed" in result.stderr
    assert "diverged" in result.stdout and "sgd" in result.stdout


def test_stdout_is_json_and_nothing_else():
    result = zobench(*RUN, "--budget", "steps=5", "--json", "--seeds", "2")
    rows = json.loads(result.stdout)
    assert [r["seed"] for r in rows] == [0, 1] and all(r["status"] == "ok" and r["steps"] == 5 for r in rows)
    assert json.loads(zobench("list", "runs", "--json").stdout)[0]["task"] == "softmax_l2"
    sections = json.loads(zobench("report", "--json").stdout)["sections"]
    assert sections[0]["rows"][0]["n"] == 2
    for what in ("tasks", "optimizers", "suites", "models"):
        assert json.loads(zobench("list", what, "--json").stdout)
    assert json.loads(zobench("info", "sst2", "--json").stdout)["metric"] == "accuracy"
    assert all(c["state"] in ("ok", "warn") for c in json.loads(zobench("doctor", "--json").stdout))


def test_a_dry_run_starts_nothing():
    result = zobench("run", "-t", "softmax_l2", "-O", "mezo[lr=[1,2]],sgd", "--seeds", "2", "-n", "--json")
    assert len(json.loads(result.stdout)) == 6 and not Path("zobench-runs").exists()


def test_a_bare_call_means_run():
    assert zobench(*RUN[1:], "--budget", "steps=3", "-q").exit_code == 0


def test_the_same_command_again_says_done():
    zobench(*RUN, "--budget", "steps=3", "-q")
    assert "done already" in zobench(*RUN, "--budget", "steps=3", "-q").stdout
    assert "attempt" not in zobench(*RUN, "--budget", "steps=3", "-q", "--overwrite", "always").stdout


def test_info_names_the_rate_that_will_be_used():
    shown = zobench("info", "mezo").stdout
    assert "softmax_l2" in shown and "two-point" in shown and "2305.17333" in shown and "1e-06" in shown


def test_every_command_and_option_has_help():
    for name, command in main.commands.items():
        assert command.help, name
        assert all(getattr(p, "help", "x") or p.param_type_name == "argument" for p in command.params), name
        assert zobench(name, "--help").exit_code == 0


def test_the_main_job_on_real_rows_through_the_installed_command(tmp_path, data_dir, nano_dir):
    """SST-2 and SQuAD, a local model directory, mezo and adam: measured, stored, ranked, replayed, saved."""
    command = Path(sys.executable).with_name("zobench")
    launch = [str(command)] if command.exists() else [sys.executable, "-m", "zobench"]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}

    def call(*args):
        done = subprocess.run([*launch, *map(str, args)], env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    shared = ("-O", "mezo[lr=1e-4],adam[lr=1e-3]", "-m", nano_dir, "--data", data_dir, "-b", 4, "--seeds", 2)
    call("run", "-t", "sst2[num_train=24,num_dev=8,num_eval=8]", *shared, "--budget", "steps=6")
    call("run", "-t", "squad[num_train=12,num_dev=4,num_eval=4,max_new_tokens=4]", *shared, "--budget", "steps=3")
    call("report", "-o", "leaderboard.md")
    board = (tmp_path / "leaderboard.md").read_text()
    assert all(word in board for word in ("sst2", "squad", "mezo", "adam", "PARTIAL DATA"))
    runs = json.loads(call("list", "runs", "--json").stdout)
    assert len(runs) == 8 and {r["status"] for r in runs} == {"ok"}
    mezo = next(r["name"] for r in runs if r["optimizer"] == "mezo" and r["task"] == "sst2")
    shown = call("replay", mezo, "--evaluate", "-o", "rebuilt").stdout
    assert "no forward pass" in shown and "measured again" in shown
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoModelForCausalLM.from_pretrained(tmp_path / "rebuilt") and AutoTokenizer.from_pretrained(
        tmp_path / "rebuilt"
    )


def test_save_writes_what_from_pretrained_opens(data_dir, nano_dir):
    args = (
        "run",
        "-t",
        "sst2[num_train=12,num_dev=4,num_eval=4]",
        "-O",
        "mezo",
        "-m",
        nano_dir,
        "--data",
        data_dir,
        "-b",
        4,
    )
    for directory in ("first", "again"):  # the second is found done: its weights come from the trace
        result = zobench(*args, "--budget", "steps=2", "--save", directory, "-q")
        assert result.exit_code == 0, result.stderr
    from safetensors.torch import load_file

    first, again = (load_file(Path(d) / "model.safetensors") for d in ("first", "again"))
    assert first.keys() == again.keys() and all((first[k] == again[k]).all() for k in first)


def test_run_alone_does_one_small_run_and_says_what_else(tmp_path):
    result = zobench("run")
    assert result.exit_code == 0 and "softmax_l2 mezo seed 0: relative_gap" in result.stdout
    assert "zobench run -t toy-sentiment" in result.stderr and "zobench list" in result.stderr
    assert len(list(tmp_path.glob("zobench-runs/*.parquet"))) == 1
    assert "found done" not in result.stdout and "[done already" in zobench("run").stdout


def test_a_reference_line_is_shown_and_not_ranked(tmp_path):
    zobench("run", "-t", "softmax_l2", "-O", "newton,gd,mezo", "--seeds", "2", "--budget", "forwards=400")
    board = json.loads(zobench("report", "--json").stdout)
    rows = {row["optimizer"]: row for section in board["sections"] for row in section["rows"]}
    assert rows["mezo"]["rank"] == [1, 1] and not rows["mezo"]["reference"]
    assert rows["newton"]["rank"] is None and rows["newton"]["reference"] and rows["newton"]["score"]["center"] < 1e-20
    assert "| ref | `newton` |" in zobench("report", "-o", "b.md").stdout + Path("b.md").read_text()
    assert 0 < rows["gd"]["hitting"]["1e-1"] < rows["gd"]["hitting"]["1e-6"]


def test_answers_come_as_runs_end_and_a_reader_who_leaves_stops_nothing(tmp_path):
    command = [sys.executable, "-m", "zobench", *RUN, "--seeds", "3", "--budget", "steps=20", "-o", str(tmp_path / "s")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "seed 0" in process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        assert process.wait(timeout=60) == 0 and len(list((tmp_path / "s").glob("*.parquet"))) == 3
        assert process.stderr.read() == ""


def test_a_report_says_why_one_file_cannot_be_read(tmp_path):
    zobench(*RUN, "--budget", "steps=3", "-q")
    (whole,) = Path("zobench-runs").glob("*.parquet")
    assert zobench("report", whole).exit_code == 0
    Path("half.parquet").write_bytes(whole.read_bytes()[:500])
    result = zobench("report", "half.parquet")
    assert result.exit_code == 5 and "half.parquet: not a readable Parquet file" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_file_that_contradicts_another_was_not_skipped(capsys):
    from zobench.cli.common import warn
    from zobench.record import Problem

    kinds = ("content", "access", "duplicate")
    warn(Problem(Path(f"{kind}.parquet"), "why", kind) for kind in kinds)
    assert capsys.readouterr().err.splitlines() == [
        "zobench: skipped content.parquet: why",
        "zobench: skipped access.parquet: why",
        "zobench: contradictory duplicate.parquet: why",
    ]


def test_an_output_named_twice_is_written_once(tmp_path):
    zobench(*RUN, "--budget", "steps=3", "-q")
    result = zobench("report", "-o", "b.md", "-o", "./b.md", "-o", tmp_path / "b.md", "-o", "b.csv")
    assert result.exit_code == 0 and result.stderr.splitlines() == ["wrote b.md", "wrote b.csv"]
    result = zobench("report", "--claimed", "-o", "b.html")
    assert result.exit_code == 2 and "end it in .md or .json" in result.stderr and not Path("b.html").exists()


PLAIN = (("report",), ("compare", "mezo", "sgd"), ("info", "mezo"), (*RUN, "--budget", "steps=3"), ("-h",))


def test_a_terminal_that_has_ascii_alone_gets_every_answer(tmp_path):
    zobench("run", "-t", "softmax_l2", "-O", "mezo,sgd", "--seeds", "2", "--budget", "steps=3", "-q")
    environment = os.environ | {
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONIOENCODING": "ascii",
        "LANG": "C",
        "LC_ALL": "C",
        "COLUMNS": "200",
    }
    for words in PLAIN:
        command = [sys.executable, "-m", "zobench", *words]
        done = subprocess.run(command, env=environment, capture_output=True)
        assert done.returncode == 0 and done.stdout and b"internal error" not in done.stderr, (words, done.stderr)
        if words[0] in ("report", "compare"):  # rich writes to stdout itself
            text = done.stdout.decode("ascii")
            assert ("memory x" if words == ("report",) else "forwards x") in text and "?" not in text


READERS = (("report",), ("report", "--format", "csv"), ("list", "optimizers"), ("compare", "mezo", "sgd"), ("-h",))


def test_a_reader_who_has_left_ends_a_report_without_a_word(tmp_path):
    zobench("run", "-t", "softmax_l2", "-O", "mezo,sgd", "--seeds", "2", "--budget", "steps=3", "-q")
    for words in READERS:
        reading, writing = os.pipe()
        os.close(reading)  # the first byte written finds nobody
        command = [sys.executable, "-m", "zobench", *words]
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(command, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True)
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, ""), (words, done)


def test_a_larger_scale_has_a_larger_budget(tmp_path):
    plan = json.loads(
        zobench(
            "run", "-t", "softmax_l2[scale=[tiny,standard]],rosenbrock[scale=standard]", "-O", "mezo", "-n", "--json"
        ).stdout
    )
    assert [job["budget"] for job in plan] == ["forwards=4000", "forwards=100000", "forwards=20000"]
