"""Published numbers: the file is whole, its names mean something here, and no run is set beside a number of another kind."""

from __future__ import annotations

import csv
import json
from collections import Counter
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner
from records import record

from zobench import plan, published, registry
from zobench.cli import main
from zobench.published import COLUMNS, METHODS, NO_METHOD, NO_TASK, TASKS, UNSIZED, Published
from zobench.record import json_text, write
from zobench.report import claimed_text
from zobench.report.claimed import Claims, claims
from zobench.spec import NothingMeasured, UsageError

BASELINES = {"zero-shot", "icl", "linear-probe"}
TASK_OPTIONS = dict(num_train=1000, num_dev=500, num_eval=1000, objective="loss", bos_mode="mezo", loss_dtype="float32")
SST2 = dict(
    model="facebook/opt-13b",
    task_options=TASK_OPTIONS,
    task_label="sst2",
    num_train=1000,
    num_dev=500,
    num_test=872,
    facts=json_text({"template": "prompt"}),
)


def rows(**wanted: str) -> list[Published]:
    return [r for r in published.load() if all(getattr(r, k) == v for k, v in wanted.items())]


def one(**wanted: str) -> Published:
    (row,) = rows(**wanted)
    return row


def zobench(*arguments: str):
    return CliRunner().invoke(main, list(arguments))


# --- the file ---


def test_the_file_is_whole():
    """Counts as the index of sources has them."""
    found = published.load()
    assert len(found) == 1878
    counts = Counter((r.source, r.table) for r in found)
    expected = {
        ("MeZO", "Table 1"): 77,
        ("MeZO", "Table 2"): 36,
        ("MeZO", "Table 18 (k=16)"): 54,
        ("MeZO", "Table 18 (k=512)"): 48,
        ("MeZO", "Table 20"): 47,
        ("MeZO-GV", "Table V"): 231,
        ("SubZero+", "Table 1"): 180,
        ("SubZero+", "Table 2"): 90,
        ("BSZO", "Table 3"): 117,
        ("AIM-ZO", "Table 1"): 112,
        ("ZO-LLM", "Table 2"): 1,
    }
    assert {key: counts[key] for key in expected} == expected
    blank = [r for r in found if r.value is None]
    assert len(blank) == 2 and all("only the GPU count is printed" in r.note for r in blank)
    assert all(r.note and r.source_quality for r in found)
    assert all(0 <= r.value <= 100 for r in found if r.metric in published.SCORES and r.value is not None)


def test_values_are_as_printed():
    """Two tables of one paper, and two papers on one method, may disagree: each keeps its own."""
    squad = dict(task="SQuAD", method="FT", paper="MeZO")
    assert [one(table=table, **squad).value for table in ("Table 1", "Table 3")] == [84.9, 84.2]
    mezo = dict(task="SST2", method="MeZO", peft="full", model="facebook/opt-13b")
    assert one(paper="MeZO", table="Table 1", **mezo).value == 91.4
    assert one(paper="SubZero", **mezo).value == 92.1


def test_every_name_has_its_place():
    found = published.load()
    assert {r.method for r in found} == set(METHODS) | set(NO_METHOD) and not set(METHODS) & set(NO_METHOD)
    assert {r.task for r in found} <= {*TASKS, *NO_TASK, *UNSIZED} and not set(TASKS) & set(NO_TASK)
    assert {r.task for r in found if r.metric in published.SCORES and not r.is_score} <= set(NO_TASK)


def test_what_it_is_called_here_exists():
    optimizers = registry.entries("optimizer") | registry.entries("baseline")
    for published_name, method in METHODS.items():
        assert method.name in {*optimizers, *BASELINES}, published_name
        if method.name in optimizers:
            registry.resolve(optimizers[method.name], method.options)
    for paper_id in published.OPT.split():
        assert registry.find("task", paper_id).name == TASKS[paper_id][0]
    assert {name for name, _ in TASKS.values()} | set(UNSIZED.values()) <= set(registry.entries("task"))
    for name, options in TASKS.values():
        registry.resolve(registry.find("task", name), options)
    for name, texts in published.ADAPTERS.items():
        assert all(plan.adapter(text.partition("[")[0]) == text for text in texts), name


def test_a_value_that_no_count_of_right_answers_gives_is_marked():
    """Against a search over every count of right answers, in decimal arithmetic, by either rule of rounding."""
    checked, doubtful = 0, set()
    for row in published.load():
        n = published.ROWS_TESTED.get(row.our_task or "")
        if n is None or row.metric != "accuracy" or row.protocol.seeds != 1:
            continue
        step = Decimal(1).scaleb(Decimal(row.printed).as_tuple().exponent)
        possible = {
            (Decimal(100 * k) / n).quantize(step, rounding=rule)
            for k in range(n + 1)
            for rule in (ROUND_HALF_UP, ROUND_HALF_EVEN)
        }
        checked += 1
        assert bool(row.off_grid) == (Decimal(row.printed) not in possible), row
        if row.off_grid:
            doubtful.add((row.source, row.table, row.task, row.method, row.printed))
    assert checked > 100
    assert ("MeZO", "Table 1", "SST2", "LP", "93.4") in doubtful  # 814 of 872 is 93.3, 815 is 93.5
    assert ("MeZO", "Table 2", "RTE", "Zero-shot", "67.2") in doubtful  # 186 of 277 is 67.1, 187 is 67.5
    assert len(doubtful) < checked / 20


def test_a_mean_over_runs_has_a_finer_grid():
    assert published.on_grid("33.33", 300) and not published.on_grid("33.33", 100)
    assert one(table="Table 29", method="MeZO", task="RTE").protocol.seeds == 3


def lines(**changes: str) -> list[dict[str, str]]:
    good = dict(
        zip(
            COLUMNS,
            (
                "P",
                "",
                "Table 1",
                "facebook/opt-13b",
                "SST2",
                "MeZO",
                "full",
                "accuracy",
                "91.4",
                "",
                "",
                "a note",
                "text",
            ),
            strict=True,
        )
    )
    return [good, good | changes]


def csv_file(path: Path, table: list[dict[str, str]], columns: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    return path


@pytest.mark.parametrize(
    "changes, says",
    [
        (dict(value="9l.4"), "value '9l.4' is no number"),
        (dict(value="nan"), "is no number"),
        (dict(value="914"), "outside 0 .. 100"),
        (dict(std="-"), "std '-' is no number"),
        (dict(value="", note=""), "needs a note"),
        (dict(peft="LoRA"), "peft 'LoRA' is none of full"),
        (dict(method=""), "method is empty"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_a_bad_line_is_named(tmp_path, changes, says):
    with pytest.raises(UsageError, match=r"p\.csv, line 3") as error:
        published.load(csv_file(tmp_path / "p.csv", lines(**changes)))
    assert says in str(error.value)


def test_a_file_of_other_columns_or_cells_is_refused(tmp_path):
    with pytest.raises(UsageError, match="the first line must be paper,arxiv"):
        published.load(csv_file(tmp_path / "a.csv", lines(), COLUMNS[:-1]))
    short = csv_file(tmp_path / "b.csv", lines()[:1])
    short.write_text(short.read_text() + "P,,Table 1\n")
    with pytest.raises(UsageError, match=r"b\.csv, line 3: must have 13 cells"):
        published.load(short)


# --- beside our runs ---


def store_of(tmp_path: Path, *runs: dict) -> Path:
    for run in runs:
        write(record(**{**SST2, **run}), tmp_path / "store")
    return tmp_path / "store"


def beside(tmp_path: Path, **run) -> list[Published]:
    try:
        (group,) = claims([store_of(tmp_path, run)]).groups
    except NothingMeasured:
        return []
    return [claim.published for claim in group.claims]


def table_1(result: Claims):
    (group,) = result.groups
    (claim,) = [c for c in group.claims if (c.published.source, c.published.table) == ("MeZO", "Table 1")]
    return claim


def test_only_the_same_task_model_method_and_adapter(tmp_path):
    found = beside(tmp_path)
    assert found
    assert {(r.task, r.model, r.method, r.peft) for r in found} == {("SST2", "facebook/opt-13b", "MeZO", "full")}


LORA, KSHOT = dict(adapter="lora[alpha=16,r=8]"), dict(task="kshot_sst2", model="FacebookAI/roberta-large")


@pytest.mark.parametrize(
    "run, expected",
    [
        (dict(task="copa", task_label="copa"), {("COPA", "MeZO", "full")}),
        (dict(task="squad", task_options=TASK_OPTIONS | {"version": 1}, metric="f1"), {("SQuAD", "MeZO", "full")}),
        (dict(task="squad", task_options=TASK_OPTIONS | {"version": 2}, metric="f1"), set()),
        (LORA, {("SST2", "MeZO", "lora")}),
        (dict(adapter="lora[alpha=8,r=4]"), {("SST2", "MeZO", "lora")}),
        (dict(adapter="prefix[tokens=5]"), {("SST2", "MeZO", "prefix")}),
        (dict(optimizer="zero-shot", optimizer_options={}), {("SST2", "Zero-shot", "none")}),
        (dict(optimizer="linear-probe", optimizer_options={}), {("SST2", "LP", "head")}),
        (dict(optimizer="adam", optimizer_options={"lr": 1e-5}), {("SST2", "FT", "full"), ("SST2", "FO-Adam", "full")}),
        (dict(optimizer="mezo-gv"), {("SST2", "MeZO-GV", "full")}),
        (dict(optimizer="zo-sparse"), set()),
        (dict(model="random:opt-13b"), set()),
        (dict(model="someone/opt-13b"), set()),
        (dict(model="local:OPT-13B"), {("SST2", "MeZO", "full")}),
        (dict(task_options=TASK_OPTIONS | {"objective": "accuracy"}), set()),
        (dict(task="glue_sst2"), set()),
        (KSHOT | dict(task_options={"k": 512}), {("SST2-k512", m, "full") for m in ("MeZO", "MeZO (objective=CE)")}),
        (
            KSHOT | dict(task_options={"k": 512, "objective": "accuracy"}),
            {("SST2-k512", "MeZO (objective=accuracy/F1)", "full")},
        ),
        (KSHOT | dict(task_options={"k": 512}, model="roberta-large", **LORA), {("SST2-k512", "MeZO", "lora")}),
        (KSHOT | dict(task_options={"k": 64}), set()),
        (
            KSHOT | dict(task_options={"k": 16, "template": "none"}, model="roberta-large", **LORA),
            {("SST2-k16", "MeZO", "lora")},
        ),
        (
            dict(model="facebook/opt-1.3b", task="boolq", optimizer="mezo-nspsa", optimizer_options={"n": 2}),
            {("BoolQ", "MeZO n-SPSA q=2", "full")},
        ),
        (
            dict(model="facebook/opt-1.3b", optimizer="lozo", optimizer_options={"rank": 1, "interval": 50}),
            {("SST2", m, "full") for m in ("LOZO", "LOZO r=1 nu=50")},
        ),
    ],
    ids=lambda value: str(value if isinstance(value, dict) else sorted(value)),  # the same in every process
)
def test_which_published_values_stand_beside_a_run(tmp_path, run, expected):
    assert {(r.task, r.method, r.peft) for r in beside(tmp_path, **run)} == expected


def test_the_mean_its_interval_and_the_difference(tmp_path):
    values = (0.90, 0.91, 0.92)
    claim = table_1(claims([store_of(tmp_path, *(dict(seed=s, value=v) for s, v in enumerate(values)))]))
    margin = 4.302653 * 1.0 / 3**0.5  # t(0.975, 2), standard deviation 1 percent, 3 runs
    assert (claim.n, claim.ours.center) == (3, pytest.approx(91.0))
    assert claim.ours.high - claim.ours.center == pytest.approx(margin, abs=1e-6)
    assert claim.difference == pytest.approx(91.0 - 91.4)
    assert f"91.0 [{91 - margin:.1f}, {91 + margin:.1f}]" in claimed_text.markdown(
        claims([tmp_path / "store"])
    ).replace("&#91;", "[").replace("&#93;", "]")


def test_the_papers_own_protocol_leaves_nothing_but_the_search_to_say(tmp_path):
    """MeZO Table 16: float16, 20,000 steps of batch 16 at eps 1e-3, 1000/500/872 rows, one run, two rates on dev."""
    options = TASK_OPTIONS | {"loss_dtype": "model"}
    run = dict(task_options=options, dtype="float16", steps=20000, forwards=40000, kept_step=20000)
    claim = table_1(claims([store_of(tmp_path, run)]))
    assert claim.unknown == []
    assert [text.partition(" ")[0] for text in claim.differences] == ["lr", "tested"]


@pytest.mark.parametrize(
    "run, rates",  # MeZO, Tables 15 and 16
    [
        (dict(), None),
        (dict(optimizer_options={"lr": 1e-7}), None),
        (LORA, "0.0001, 5e-5"),
        (LORA | dict(optimizer_options={"lr": 5e-5}), None),
        (dict(adapter="prefix[tokens=5]"), "0.01, 0.001"),
        (KSHOT | dict(task_options={"k": 16}, task_label="kshot_sst2"), None),
        (KSHOT | dict(task_options={"k": 16}, task_label="kshot_sst2") | LORA, "1e-5, 5e-5, 0.0001"),
    ],
    ids=str,
)
def test_a_rate_outside_the_published_grid_is_said(tmp_path, run, rates):
    (group,) = claims([store_of(tmp_path, run)]).groups
    tables = ("Table 1", "Table 18 (k=16)")
    (claim,) = [c for c in group.claims if c.published.source == "MeZO" and c.published.table in tables]
    said = [text for text in claim.differences if "is none of the published" in text]
    assert said == ([f"lr 1e-6 is none of the published {rates}"] if rates else [])


@pytest.mark.parametrize(
    "run, says",
    [
        (dict(dtype="bfloat16"), "precision bfloat16, published float16"),
        (dict(), "log-likelihoods in float32, published float16"),
        (dict(steps=2000), "steps 2,000, published 20,000"),
        (dict(batch_size=8), "batch size 8, published 16"),
        (dict(optimizer_options={"lr": 1e-6, "eps": 0.01}), "eps 0.01, published 0.001"),
        (dict(optimizer_options={"lr": 1e-4}), "lr 0.0001 is none of the published 1e-6, 1e-7"),
        (dict(lr_source="default"), "lr 1e-6 (default), no search on record; published the best of 2 settings on dev"),
        (dict(partial_data=True, num_train=300), "PARTIAL DATA here"),
        (dict(num_train=300), "train rows 300, published 1,000"),
        (dict(num_test=100), "test rows 100, published 872"),
        (dict(score="validation"), "ours is measured on the validation rows"),
        (dict(task_options=TASK_OPTIONS | {"bos_mode": "hf"}), "bos_mode hf, published mezo"),
        (dict(task_options=TASK_OPTIONS | {"template": "empty"}), "template empty, published prompt"),
        (dict(task_label="sst2[calibration=sfc,num_train=300]"), "task with calibration=sfc, num_train=300"),
        (dict(model="local:opt-13b"), "a local directory of that name, for facebook/opt-13b"),
        (dict(adapter="none on 4bit"), "base weights in 4bit here"),
        (dict(schedule="linear"), "linear schedule of the learning rate here"),
        (dict(optimizer_options={"lr": 1e-6, "law": "rademacher"}), "directions rademacher, published gaussian"),
        (dict(facts=json_text({"not_comparable": "a mirror"})), "other rows here: a mirror"),
    ],
    ids=str,
)
def test_differences_are_said_in_words(tmp_path, run, says):
    claim = table_1(claims([store_of(tmp_path, run)]))
    assert any(says in text for text in claim.differences), claim.differences


def test_what_a_source_does_not_say_and_what_is_doubtful_about_it(tmp_path):
    store = store_of(tmp_path, {}, dict(optimizer="linear-probe", optimizer_options={}))
    everything = [claim for group in claims([store]).groups for claim in group.claims]
    found = {c.published.source: c for c in everything if c.published.method == "MeZO"}
    assert "the published number is second-hand" in found["SubZero"].differences
    assert {"precision", "steps", "number of runs"} <= set(found["SubZero"].unknown)
    (probe,) = [c for c in everything if c.published.method == "LP"]
    assert "the published number is doubtful: no k/872" in probe.differences
    assert any("copied from MeZO's Table 1" in text for text in found["MeZO-GV"].differences)


def test_splits_are_pooled_and_counted(tmp_path):
    runs = [
        KSHOT | dict(task_options={"k": 16, "split": split}, value=0.9, task_label=f"kshot_sst2[split={split}]")
        for split in (13, 21)
    ]
    (group,) = claims([store_of(tmp_path, *runs)]).groups
    assert group.task == "kshot_sst2" and len(group.cells) == 2
    claim = next(c for c in group.claims if c.published.table == "Table 18 (k=16)")
    assert claim.n == 2 and "number of splits 2, published 5" in claim.differences


def test_failed_runs_stay_and_runs_without_a_counterpart_are_counted(tmp_path):
    oom = dict(optimizer="adam", optimizer_options={"lr": 1e-5}, status="oom", reason="needs 80 GiB", value=None)
    store = store_of(tmp_path, {}, oom, dict(optimizer="lezo"), dict(optimizer="lezo", seed=1), dict(model="gpt2"))
    result = claims([store])
    assert {g.optimizer.partition("[")[0]: g.failures for g in result.groups} == {"adam": {"oom": 1}, "mezo": {}}
    assert (result.unmatched_runs, result.unmatched_groups) == (3, 2)
    text = claimed_text.markdown(result)
    assert (
        "3 runs in 2 groups have no published counterpart" in text and "no number" in text and "failed: 1 oom" in text
    )


def test_text_of_the_file_cannot_break_the_page(tmp_path):
    nasty = dict(note="<script>|x|\n# owned\x1b[31m", table="T|1 [a](http://b)", source_quality="`code`")
    path = csv_file(tmp_path / "p.csv", lines(**nasty)[1:])
    text = claimed_text.markdown(claims([store_of(tmp_path, {})], path=path))
    assert "<script>" not in text and "[a](" not in text and "\x1b" not in text and "\n# owned" not in text
    (line,) = [line for line in text.splitlines() if "91.4" in line]
    assert line.count("|") == len(claimed_text.HEADERS) + 1


def test_the_ablation_without_a_prompt_stands_beside_its_own(tmp_path):
    def without(template: str) -> dict[str, list[str]]:
        run = KSHOT | dict(task_options={"k": 16, "template": template})
        (group,) = claims([store_of(tmp_path / template, run)]).groups
        said = {c.published.method: [d for d in c.differences if d.startswith("template")] for c in group.claims}
        return {name: texts for name, texts in said.items() if name in ("MeZO with prompt", "MeZO without prompt")}

    assert without("prompt") == {"MeZO with prompt": []}
    assert without("none") == {"MeZO with prompt": ["template none, published prompt"], "MeZO without prompt": []}


# --- the commands ---


def test_report_claimed(tmp_path):
    store = str(store_of(tmp_path, dict(partial_data=True)))
    shown = zobench("report", store, "--claimed")
    assert shown.exit_code == 0, shown.output
    assert "PARTIAL DATA" in shown.stdout and "MeZO 2305.17333, Table 1" in shown.stdout.replace("\n", "")
    parsed = json.loads(zobench("report", store, "--claimed", "--json").stdout)
    (group,) = parsed["groups"]
    assert group["partial"] and {"differences", "unknown", "difference", "published"} <= set(group["claims"][0])
    assert zobench("report", store, "--claimed", "-o", str(tmp_path / "page.md")).exit_code == 0
    assert "| 91.4 |" in (tmp_path / "page.md").read_text()


def test_report_claimed_without_a_counterpart_is_exit_5(tmp_path):
    result = zobench("report", str(store_of(tmp_path, dict(model="gpt2"))), "--claimed")
    assert result.exit_code == 5 and len(result.stderr.splitlines()) == 1
    assert "no published value" in result.stderr and "zobench info" in result.stderr


def test_info_shows_the_range():
    shown = zobench("info", "sst2").stdout
    block = shown[shown.index("published, ") :].splitlines()
    assert len(block) <= 14
    (line,) = [line for line in block if line.startswith("  facebook/opt-66b:")]
    assert (
        line == "  facebook/opt-66b: zero-shot 57.5; ICL 89.3; MeZO 91.2; all 57.5..93.6 (n=7)"
    )  # MeZO Tables 2 and 20
    everything = json.loads(zobench("info", "sst2", "--json").stdout)["published"]
    assert {r["our_task"] for r in everything} == {"sst2"} and {"note", "source_quality"} <= set(everything[0])
    assert "published" not in zobench("info", "softmax_l2").stdout


def test_the_range_of_a_k_shot_task_keeps_to_its_k():
    wanted = published.of_task("kshot_trec", {"k": 512})
    assert {r.task_options["k"] for r in wanted if r.task_options} == {512}
    (line,) = [line for line in published.published_range(wanted) if "k=512" in line]
    assert line == "  FacebookAI/roberta-large, k=512: zero-shot 32.0; MeZO 94.3; FT 97.3; all 32.0..97.4 (n=12)"
