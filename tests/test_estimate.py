"""Estimates against what is known: parameter counts of releases, torch's own count of operations, runs on this machine."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from zobench import estimate, plan, record, registry
from zobench.build import Names, OfflineNames
from zobench.run import Place, execute
from zobench.spec import Setting

MACHINE = estimate.Machine("cpu", 1e12, math.inf, 10 * 2**30, "given")


def job(task="sst2", optimizer="mezo", model="facebook/opt-125m", **asked):
    return plan.jobs(plan.request(task, optimizer, model=model, **asked), OfflineNames())[0]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, parameters",
    [
        ("facebook/opt-125m", 125_239_296),
        ("facebook/opt-1.3b", 1_315_758_080),
        ("facebook/opt-13b", 12_853_473_280),
        ("meta-llama/Llama-2-7b-hf", 6_738_415_616),
        ("mistralai/Mistral-7B-v0.1", 7_241_732_096),
        ("meta-llama/Meta-Llama-3-8B", 8_030_261_248),
        ("openai-community/gpt2-xl", 1_557_611_200),
        ("Qwen/Qwen3-0.6B-Base", 596_049_920),
    ],
)
def test_known_models_have_the_parameters_of_their_releases(model, parameters):
    assert estimate.shape(model, None, "causal", "none", "float16").weights == 2 * parameters


def test_a_model_nobody_knows_is_unknown_and_says_why():
    found = estimate.estimate(job(model="nobody/opt-125m"), MACHINE)
    assert (found.steps, found.forwards) == (20_000, 40_000)
    assert found.seconds is None and found.peak_bytes is None and found.fits(MACHINE) is None
    assert "nobody/opt-125m" in found.how


@pytest.mark.parametrize("adapter", ["lora", "lora[r=4]", "prefix", "prompt[tokens=3]"])
@pytest.mark.parametrize("name", ["opt-nano", "qwen-nano", "gpt2-nano"])
def test_adapters_have_the_trained_numbers_of_real_ones(name, adapter):
    from zobench.models.adapters import add_adapter
    from zobench.models.load import load_model

    text = plan.adapter(adapter)
    real = add_adapter(load_model(f"random:{name}")[0], text, seed=0)
    counted = estimate.shape(f"random:{name}", None, "causal", text, "float32").trained
    assert sum(math.prod(s.dims) for s in counted) == sum(p.numel() for p in real.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["opt-nano", "llama-nano", "gpt2-nano"])
def test_all_layers_are_counted(name):
    from zobench.models.load import load_model

    real = {n: tuple(p.shape) for n, p in load_model(f"random:{name}")[0].named_parameters()}
    counted = {s.name: s.dims for s in estimate.shape(f"random:{name}", None, "causal", "none", "float32").trained}
    assert counted == real


# --- operations and counts --------------------------------------------------------------------------------------------


def test_operations_are_those_that_torch_counts(data_dir):
    entry = registry.find("task", "sst2")
    setting = Setting(model="random:opt-nano", batch_size=8, score="validation", data_dir=data_dir)
    problem = registry.load(entry).build(setting, **registry.resolve(entry, {"num_dev": 2}))
    batch = problem.batch(0)
    rows, length = batch.options.inputs.input_ids.shape
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        problem.loss(batch)
    cells = rows * length
    described = estimate.Rows(cells / 8, cells / 8, length, len(batch.options.row) / 8, cells / 8)
    model = estimate.shape("random:opt-nano", None, "causal", "none", "float32")
    # fused attention kernels of the CPU are not counted by torch of every version
    attention = 4 * model.layers * model.width * length * cells
    counted = counter.get_total_flops()
    assert estimate.operations(model, described, 8) == pytest.approx(counted, rel=0.02) or estimate.operations(
        model, described, 8
    ) - attention == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize(
    "optimizer, budget, expected",
    [
        ("mezo", "steps=20000", (20_000, 40_000, 0)),
        ("mezo", "forwards=40000", (20_000, 40_000, 0)),
        ("mezo-gv[candidates=4]", "forwards=40000", (6_667, 40_002, 0)),
        ("adam", "steps=625", (625, 625, 625)),
        ("adam", "forwards=1875", (625, 625, 625)),
        ("forward-grad", "steps=10", (10, 10, 10)),  # a tangent is counted with the backwards
        ("mezo-onepoint", "steps=10", (10, 11, 0)),  # the first step has no earlier value to take
        ("mezo-svrg[q=2,anchor_batches=8]", "steps=4", (4, 2 * (16 + 4), 0)),
        ("zero-shot", None, (0, 0, 0)),
    ],
)
def test_steps_and_forwards_by_hand(optimizer, budget, expected):
    assert estimate.counts(job(optimizer=optimizer, budget=budget)) == expected


def test_time_is_operations_over_speed():
    model = estimate.shape("facebook/opt-125m", None, "causal", "none", "float32")
    plain = job(budget="steps=100", evaluations=1)
    rows = estimate.rows_of(plain, estimate.SHARE)
    forward = estimate.operations(model, rows, 16)
    found = estimate.estimate(plain, MACHINE)
    validation = (500 + 872) * rows.evaluated / (rows.cells * 16)
    assert found.seconds == pytest.approx((200 + validation) * forward / 1e12)
    twice = estimate.estimate(job(budget="steps=200", evaluations=1), MACHINE)
    assert twice.seconds - found.seconds == pytest.approx(200 * forward / 1e12)


def test_what_does_not_fit_says_so():
    small = estimate.Machine("cpu", 1e12, math.inf, 2**30, "given")
    assert estimate.estimate(job(optimizer="mezo"), small).fits(small)
    assert estimate.estimate(job(optimizer="adam"), small).fits(small) is False  # four copies of 0.5 GB


def test_two_copies_of_state_are_in_adams_memory():
    sgd, adam = (estimate.estimate(job(optimizer=name), MACHINE).peak_bytes for name in ("sgd", "adam"))
    assert adam - sgd == pytest.approx(2 * 4 * 125_239_296, rel=1e-3)


# --- against runs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["mezo", "adam"])
def test_memory_is_within_a_third_of_a_run(tmp_path, data_dir, optimizer):
    options = "[num_train=64,num_dev=4,num_eval=4]"
    request = plan.request(
        f"sst2{options}", optimizer, model="random:opt-nano", budget="steps=3", evaluations=1, data_dir=str(data_dir)
    )
    (asked,) = plan.jobs(request, Names())
    ((row, _),) = execute([asked], Place(store=tmp_path, device="cpu"))
    found = estimate.estimate(asked, estimate.machine("cpu", flops=1e12))
    assert 0.7 < found.peak_bytes / row.peak_bytes < 1.4
    assert (found.steps, found.forwards, found.backwards) == (row.steps, row.forwards, row.backwards)


def test_a_stored_run_stands_in_for_the_formulas(tmp_path):
    asked = plan.jobs(plan.request("toy_sentiment", "mezo", budget="steps=6", evaluations=1), Names())[0]
    ((row, _),) = execute([asked], Place(store=tmp_path, device="cpu"))
    seen = estimate.stored(tmp_path, "cpu")
    more = plan.jobs(plan.request("toy_sentiment", "mezo", budget="steps=600", evaluations=1), Names())[0]
    found = estimate.estimate(more, MACHINE, seen)
    unit = row.step_seconds / row.timed_steps / 2
    assert found.peak_bytes == row.peak_bytes and row.cell[:16] in found.how
    assert 1200 * unit < found.seconds < 1200 * unit + 100 * 16 * unit  # validation beside it
    other = plan.jobs(plan.request("toy_sentiment", "stp", budget="steps=600", evaluations=1), Names())[0]
    assert "time as in run" in estimate.estimate(other, MACHINE, seen).how
    first = plan.jobs(plan.request("toy_sentiment", "adam", budget="steps=600", evaluations=1), Names())[0]
    assert estimate.estimate(first, MACHINE, seen).how == "formulas"


def test_this_machine_can_be_measured():
    here = estimate.machine("cpu")
    assert 1e8 < here.flops < 1e15 and 1e6 < here.draws < 1e12 and here.memory > 2**28
    assert estimate.machine("cpu") == here  # measured once


def test_the_table_of_rows_names_tasks_that_exist():
    for name in estimate.ROWS:
        entry = registry.find("task", registry.parse(name)[0])
        assert registry.resolve(entry, registry.parse(name)[1])
    needed = {e.name for e in registry.entries("task").values() if e.info.get("hub")}
    assert needed <= {registry.parse(name)[0] for name in estimate.ROWS}


def test_the_rows_of_the_table_are_those_of_the_slices(data_dir):
    """Only where the real rows are: measured again, a task's rows are as long as the table says."""
    if len((Path(data_dir) / "glue/sst2/train.jsonl").read_text(encoding="utf-8").splitlines()) < 500:
        pytest.skip("the rows here are a few of our own writing")
    entry = registry.find("task", "sst2")
    found = estimate.measure_rows(entry, registry.resolve(entry, {}), data_dir=str(data_dir))
    assert found.cells == pytest.approx(estimate.ROWS["sst2"].cells, rel=0.1)


def test_answers_are_data():
    assert json.dumps(estimate.estimate(job(), MACHINE).__dict__)
    assert record.plain(estimate.ROWS["sst2"]._asdict())["logits"] == 1.0
