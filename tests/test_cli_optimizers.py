"""What users meet of the optimizers: the list with cost and state, `info`, options in brackets, and `zobench test`."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from zobench import catalog, registry
from zobench.cli import main

ROOT = Path(__file__).resolve().parents[1]


def zobench(*args, env=None):
    result = CliRunner().invoke(main, [str(a) for a in args], env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def listed(*args) -> list[dict]:
    return json.loads(zobench("list", "optimizers", *args, "--json").stdout)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOBENCH_STORE", raising=False)


# --- list ---


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_table_fits_a_terminal_and_has_a_line_for_each(width):
    result = zobench("list", "optimizers", env={"COLUMNS": str(width)})
    head, *lines = result.stdout.splitlines()
    assert max(map(len, [head, *lines])) <= width
    assert [line.split()[0] for line in lines] == sorted(registry.entries("optimizer"))
    assert head.split()[:3] == ["name", "order", "forwards"] and {"state", "year", "paper"} <= set(head.split())
    assert "copies of the trained weights" in result.stderr


def test_a_pipe_gets_whole_lines():
    shown = zobench("list", "optimizers", "mezo", env={"COLUMNS": ""}).stdout
    assert "SGD along one random direction, its slope from two forward passes" in shown and "…" not in shown


def test_the_numbers_are_those_of_the_formulas():
    rows = {row["name"]: row for row in listed()}
    mezo, adam, nspsa, tangent = (rows[name] for name in ("mezo", "adam", "mezo-nspsa", "forward-grad"))
    assert (mezo["forwards"], mezo["backwards"], mezo["jvps"], mezo["state"]) == (2, 0, 0, 0)
    assert (adam["forwards"], adam["backwards"], adam["equivalents"]) == (1, 1, 3) and abs(adam["state"] - 2) < 1e-4
    assert nspsa["forwards"] == 8 and (tangent["jvps"], tangent["equivalents"]) == (1, 3)
    assert (
        mezo["year"] == 2023 and mezo["source"] == "https://arxiv.org/abs/2305.17333" and mezo["aliases"] == ["zo-sgd"]
    )
    assert mezo["options"]["eps"] == 1e-3 and mezo["formulas"]["forwards"] == "2 + guided"
    assert all(row["forwards"] is not None and row["state"] is not None for row in rows.values())


def test_what_a_method_does_is_said_without_its_name_and_paper():
    about = "MeZO: SGD along one direction (its slope from two) (Malladi et al., 2023, arXiv 2305.17333)."
    assert catalog.what(dict(name="mezo", title="MeZO", about=about)) == "SGD along one direction (its slope from two)"
    assert catalog.what(dict(name="x", title="X", about="MeZO with n: n-SPSA")) == "MeZO with n: n-SPSA"


def test_filters_and_sorting():
    everything = listed()
    zeroth = listed("--order", "zo", "--max-state", "0")
    assert zeroth == [r for r in everything if r["order"] == "zeroth" and r["state"] == 0]
    assert "mezo" in {r["name"] for r in zeroth} and "hizoo" not in {r["name"] for r in zeroth}
    assert listed("--order", "zeroth") == listed("--order", "zo") and {r["order"] for r in listed("--order", "fo")} == {
        "first"
    }
    assert "adam" in {r["name"] for r in listed("--max-state", "2")}, "step counters are no third copy"
    assert all(r["equivalents"] <= 2 for r in listed("--max-forwards", "2"))
    assert {r["replay"] for r in listed("--replay", "exact")} == {"exact"}
    assert {r["family"] for r in listed("--family", "adaptive")} == {"adaptive"}
    for key, field in (("state", "state"), ("forwards", "equivalents"), ("year", "year"), ("name", "name")):
        values = [r[field] for r in listed("--sort", key)]
        assert values == sorted(values) and len(values) == len(everything)
    assert {r["name"] for r in listed("zo-sgd")} >= {"mezo"}, "an alias is a name"
    assert json.loads(zobench("list", "--order", "fo", "--json").stdout)[0]["order"] == "first"
    assert zobench("list", "optimizers", "no-such").exit_code == 0


# --- mistakes ---

RUN = ("run", "-t", "softmax_l2", "-O")
MISTAKES = [
    (("list", "optimizers", "--order", "zeroht"), "did you mean zeroth"),
    (("list", "optimizers", "--family", "two_point"), "did you mean two-point?"),
    (("list", "optimizers", "--replay", "exakt"), "did you mean exact?"),
    (("list", "optimizers", "--sort", "age"), "name, state, forwards, year"),
    (("list", "optimizers", "--max-state", "-1"), "at least 0"),
    (("list", "optimizers", "--max-state", "nan"), "at least 0"),
    (("list", "optimizers", "--max-forwards", "few"), "at least 0"),
    (("list", "optimisers"), "did you mean optimizers?"),
    (("list", "tasks", "--order", "zo"), "is for `zobench list optimizers`"),
    (("info", "lozo[rnak=2]"), "did you mean rank?"),
    (("info", "lozo[rank=[1,2]]"), "one value"),
    (("info", "sst2[num_trian=2]"), "did you mean num_train"),
    ((*RUN, "lozo[rnak=2]"), "did you mean rank?"),
    ((*RUN, "lozo[rank=0]"), "rank must be >= 1"),
    ((*RUN, "lozo[rank=two]"), "rank must be a whole number, not 'two'"),
    ((*RUN, "lozo[rank=2.5]"), "rank must be a whole number"),
    ((*RUN, "lozo[rank=1e999]"), "rank must be a whole number"),
    ((*RUN, "lozo[rank=true]"), "rank must be a whole number"),
    ((*RUN, "lozo[rank]"), "write option=value"),
    ((*RUN, "mezo[guide=gvv]"), "did you mean gv?"),
    ((*RUN, "mezo[giude=gv]"), "did you mean guide?"),
    ((*RUN, "mezo[guide=1]"), "guide must be a word"),
    ((*RUN, "mezo[candidates=1]"), "candidates must be >= 2"),
    ((*RUN, "mezo[candidates=many]"), "candidates must be a whole number"),
    ((*RUN, "mezo[alpha=0]"), "alpha must be > 0"),
    ((*RUN, "mezo[law=gausian]"), "did you mean gaussian?"),
    ((*RUN, "mezo[weight_decay=-1]"), "weight_decay must be >= 0"),
    ((*RUN, "lozo[weight_decay=-1]"), "weight_decay must be >= 0"),
    ((*RUN, "mezo[lr=nan]"), "lr must be"),
    ((*RUN, "mezo[lr=1e999]"), "lr must be >= 0"),
    ((*RUN, "mezo[lr=fast]"), "lr must be a number"),
    ((*RUN, "adam[guide=gv]"), "has no option 'guide'"),
    ((*RUN, "mezo-nspsa[average=yes]"), "average must be true or false"),
    (("test", "./nope.py"), "does not exist"),
    (("test", "mzo"), "did you mean mezo"),
    (("test", "newton"), "reference line"),
    (("test", "torch:NAdam"), "another library's"),
    (("test", "mezo[epz=1]"), "did you mean eps?"),
    (("test", "broken.py"), "was never closed"),
    (("test", "empty.py"), "a class named first in __all__"),
    (("test", "absent.py"), "No module named 'not_there'"),
    (("test", "computed.py"), "must be literals"),
]


@pytest.mark.parametrize("args, says", MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_a_mistake_is_one_line_that_says_what_to_do(args, says, tmp_path):
    (tmp_path / "broken.py").write_text("INFO = (")
    (tmp_path / "empty.py").write_text('"""Nothing."""')
    (tmp_path / "absent.py").write_text("import not_there\n__all__ = ['A']\nclass A: pass\n")
    (tmp_path / "computed.py").write_text("INFO = dict(year=1 + len('a'))\n__all__ = ['A']\nclass A: pass\n")
    result = zobench(*args)
    assert result.exit_code == 2 and result.stdout == "" and says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and result.stderr.startswith("zobench: ")


# --- info ---


def test_info_tells_everything_of_an_optimizer():
    shown = zobench("info", "lozo[rank=4]").stdout
    plain = " ".join(shown.split())
    for part in (
        "optimizer lozo[rank=4]: LOZO: directions of low rank",
        "theta -= lr * g Z",
        "rank = 4 default 2; >=1",
        "paper's grid: 1e-06, 1e-07",
        "guide = none none | gv | greedy",
        "law = gaussian gaussian | rademacher | sphere",
        "2 forwards a step (forwards = 2 + guided; guided: the forwards of a guide)",
        "copies of the trained weights",
        "two_point / rank",
        "replay: local: the trace rebuilds",
        "source: https://arxiv.org/abs/2410.07698 (2024)",
        "in the release the U of the update is another",
    ):
        assert part in plain, part


def test_info_counts_with_the_options_given():
    def told(name):
        return json.loads(zobench("info", name, "--json").stdout)

    assert told("mezo")["cost"]["forwards"] == 2 and told("mezo[guide=gv,candidates=4]")["cost"]["forwards"] == 6
    assert told("lozo[rank=4]")["state_copies"] == pytest.approx(2 * told("lozo")["state_copies"], rel=0.1)
    assert told("mezo-adam[moments=recomputed]")["state_copies"] == 0
    mezo = told("mezo")
    assert mezo["allowed"]["guide"] == ["none", "gv", "greedy"] and mezo["common"]["candidates"] == 2
    assert mezo["used"]["law"] == "gaussian" and "theta -= lr" in mezo["method"]
    assert told("newton")["order"] == "reference" and told("softmax_l2[tau=2]")["options"]["tau"] == 2.0


def test_info_works_for_every_optimizer_and_for_a_file(tmp_path):
    for name in registry.entries("optimizer"):
        result = zobench("info", name)
        assert result.exit_code == 0 and "source:" in result.stdout and "cost:" in result.stdout
    (tmp_path / "mine.py").write_text("'''Mine.'''\n__all__ = ['A']\nclass A:\n    def __init__(self, lr=1.0): pass\n")
    assert "lr = 1.0" in zobench("info", "./mine.py").stdout


# --- test ---

MINE = '''"""Mine: MeZO with a mistake (Nobody, 2026)."""

from zobench.core.estimators import spsa
from zobench.core.zeroth_order import ZerothOrder

INFO = dict(
    title="Mine", year=2026, paper="nowhere", order="zeroth", family="two-point", forwards="2 + guided", state="0",
    replay="exact", mode="eval", grid=dict(lr=(1e-6,)), limits=dict(lr=">=0", eps=">0"), aliases=(), notes="",
)
__all__ = ["Mine"]


class Mine(ZerothOrder):
    """theta -= lr * g z."""

    def __init__(self, params, lr=1e-6, *, eps=1e-3, **common):
        super().__init__(params, dict(lr=lr), eps=eps, **common)

    def update(self):
        (z,), (slope,), loss = yield from spsa(self)
        self.apply(z, lambda group: -group["lr"] * slope)
        return loss
'''


def test_a_good_file_keeps_the_contract_and_is_placed_on_the_board(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    answer = json.loads(zobench("test", "./mine.py", "--json").stdout)
    assert answer["ok"] and answer["not_run"] == 0 and all(check["found"] is None for check in answer["checks"])
    sections = {s["conditions"]["task"]: s["rows"] for s in answer["board"]["sections"]}
    assert set(sections) == {"softmax_ce", "quadratic", "bigram"}
    for rows in sections.values():
        assert {row["optimizer"] for row in rows} == {"file:mine", "sgd", "adam", "mezo"}
        assert all(row["n"] == 2 and row["rank"] for row in rows)
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".pyc" and p.name != "__pycache__") == ["mine.py"]


def contract_of(tmp_path, *changes: tuple[str, str]):
    """`zobench test` on MINE with these changes: (result, check -> line of those that are broken)."""
    source = MINE
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    (tmp_path / "mine.py").write_text(source)
    sys.modules.pop("zobench_optimizer_mine", None)
    result = zobench("test", "./mine.py", "--no-board")
    assert result.exit_code == 3 and "checks broken" in result.stderr and "Traceback" not in result.output
    return result, {line.split()[1]: line for line in result.stdout.splitlines() if line.startswith("BROKEN")}


def test_what_is_broken_is_named_in_one_sentence(tmp_path):
    constant = ('-group["lr"] * slope', "-1e-3 * slope")
    result, broken = contract_of(tmp_path, constant, ('forwards="2 + guided"', 'forwards="1"'))
    assert "weights changed with lr = 0" in broken["lr_zero"] and "cost() says" in broken["cost"]
    assert re.search(r"^ok +signature", result.stdout, re.M) and "softmax_ce" in result.stdout


@pytest.mark.parametrize(
    "old, new, says",
    [
        ('forwards="2 + guided"', 'forwards="2 * q"', "uses 'q'"),
        ('forwards="2 + guided"', 'forwards="0"', "costs nothing"),
        ('order="zeroth"', 'order="second"', "must be one of zeroth, first"),
        ('family="two-point"', 'family="lion"', "family must be one of"),
        ("class Mine(ZerothOrder):", "class Mine(dict):", "torch.optim.Optimizer"),
    ],
)
def test_the_other_checks_rest_on_info(tmp_path, old, new, says):
    result, broken = contract_of(tmp_path, (old, new))
    assert list(broken) == ["info"] and says in broken["info"] and len(result.stdout.splitlines()) == 1


def test_a_method_that_climbs_is_found_on_the_task_too(tmp_path):
    from zobench import contract

    (tmp_path / "climbs.py").write_text(MINE.replace('-group["lr"]', 'group["lr"]'))
    subject = contract.Subject(registry.find("optimizer", "./climbs.py"))
    with pytest.raises(contract.Broken, match="softmax_ce"):
        contract.check_softmax_ce(subject)


def test_a_file_without_keys_gets_advice(tmp_path):
    (tmp_path / "mine.py").write_text(MINE.replace('family="two-point", ', "").replace('aliases=(), notes="",', ""))
    sys.modules.pop("zobench_optimizer_mine", None)
    result = zobench("test", "./mine.py")
    assert result.exit_code == 3 and "INFO lacks family='two-point'" in result.stdout and "notes=''" in result.stdout
    assert "rest on it" in result.stderr and len(result.stdout.splitlines()) == 1


def test_ctrl_c_ends_it_with_130_and_leaves_nothing(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "zobench", "test", "mezo"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and "info" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.strip().endswith("interrupted") and "Traceback" not in said
    assert not list(tmp_path.glob("tmp*/*.parquet"))


# --- documents ---


def test_the_page_of_the_optimizers_and_the_list_in_the_readme_are_current():
    script = runpy.run_path(str(ROOT / "scripts" / "document_optimizers.py"))
    assert (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8") == script["page"]()
    assert (ROOT / "README.md").read_text(encoding="utf-8") == script["readme"]()
    assert all(f"| `{name}` |" in script["page"]() for name in registry.entries("optimizer"))
