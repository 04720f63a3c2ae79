"""FLOPs as worked out by hand, whoever evaluates the probes; joules and bytes as a GPU's library tells them."""

import json
import math
import sys
from contextlib import nullcontext
from fractions import Fraction
from types import ModuleType, SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from records import record
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zobench import meters, plan, registry
from zobench import record as store_format
from zobench.build import Names, make_problem
from zobench.core.zeroth_order import Diverged
from zobench.meters import FlopRates, FlopTracker, Gpu, Memory
from zobench.run import Place, Run, execute
from zobench.spec import Budget, UsageError

ROWS, COLUMNS = 32, 16  # of A in softmax_l2[scale=tiny]
PRODUCT = 2 * ROWS * COLUMNS  # A x
TOY = "toy_sentiment[num_dev=2,num_eval=2]"


def run(store, optimizer="mezo", budget="steps=6", task="softmax_l2", **request):
    place = {k: request.pop(k) for k in ("overwrite", "lockstep") if k in request}
    if task == TOY:
        request |= dict(evaluations=1, score="validation")
    asked = plan.Request([task], [optimizer], budget=budget, **request)
    return [row for row, _ in execute(plan.jobs(asked, Names()), Place(store=store, device="cpu", **place))]


def one(*args, **kwargs):
    (row,) = run(*args, **kwargs)
    return row


# --- the counter ------------------------------------------------------------------------------------------------------


def counted(call):
    with FlopTracker() as tracker:
        call()
    return tracker.total


def test_a_multiply_and_an_add_are_two_in_every_kind_of_product():
    a, b, x, y = torch.ones(3, 4), torch.ones(4, 5), torch.ones(4), torch.ones(3)
    batch = torch.ones(7, 3, 4)
    products = {
        lambda: a @ b: 2 * 3 * 4 * 5,
        lambda: a @ x: 2 * 3 * 4,
        lambda: y @ a: 2 * 3 * 4,
        lambda: x @ x: 2 * 4,
        lambda: torch.vdot(x, x): 2 * 4,
        lambda: torch.addmv(y, a, x): 2 * 3 * 4,
        lambda: torch.addmm(torch.ones(3, 5), a, b): 2 * 3 * 4 * 5,
        lambda: torch.mm(a, b, out=torch.empty(3, 5)): 2 * 3 * 4 * 5,
        lambda: batch @ b: 7 * 2 * 3 * 4 * 5,
        lambda: torch.addbmm(torch.ones(3, 5), batch, b.expand(7, 4, 5)): 7 * 2 * 3 * 4 * 5,
        lambda: torch.einsum("bij,jk->bik", batch, b): 7 * 2 * 3 * 4 * 5,
        lambda: torch.func.vmap(lambda v: a @ v)(torch.ones(9, 4)): 9 * 2 * 3 * 4,
        lambda: (a * a).exp().sum().add(1) + torch.linalg.qr(a)[0].sum(): 0,
    }
    for call, expected in products.items():
        assert counted(call) == expected


def test_a_linear_layer_forward_and_backward_by_hand():
    layer, x = nn.Linear(4, 5), torch.ones(3, 4)
    product = 2 * 3 * 4 * 5
    assert counted(lambda: layer(x)) == product
    assert counted(lambda: layer(x).sum().backward()) == 2 * product  # the data needs no gradient
    assert counted(lambda: layer(x.clone().requires_grad_()).sum().backward()) == 3 * product
    layer.weight.requires_grad_(False)
    assert counted(lambda: layer(x.clone().requires_grad_()).sum().backward()) == 2 * product


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
@pytest.mark.parametrize("heads_of_keys", [4, 2])
def test_attention_counts_alike_whichever_kernel_computes_it(backend, heads_of_keys):
    """Queries (2, 4, 6, 8) on 10 positions: two products forward, two for each of them backward, none computed again."""
    query = torch.randn(2, 4, 6, 8, requires_grad=True)
    key, value = (torch.randn(2, heads_of_keys, 10, 8, requires_grad=True) for _ in range(2))
    product = 2 * 2 * 4 * 6 * 10 * 8

    def attend():
        with sdpa_kernel(backend):
            return nn.functional.scaled_dot_product_attention(query, key, value, enable_gqa=heads_of_keys < 4)

    if backend == SDPBackend.FLASH_ATTENTION and heads_of_keys < 4:
        pytest.skip("the CPU's kernel wants as many heads of keys")
    assert counted(attend) == 2 * product
    assert counted(lambda: attend().sum().backward()) == 6 * product


def test_names_are_those_of_torch():
    """A name that torch does not know would count nothing."""
    known = {name.partition(".")[0] for name in torch._C._dispatch_get_all_op_names()}
    assert {name for name in meters.FORMULAS if name.startswith("aten::")} <= known


def test_it_agrees_with_the_counter_of_torch_where_that_one_counts():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    x = torch.randn(3, 5, 16)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as theirs:
        layer(x).square().sum().backward()
    with sdpa_kernel(SDPBackend.MATH):
        assert counted(lambda: layer(x).square().sum().backward()) == theirs.get_total_flops() > 0


# --- from the first step to a run -------------------------------------------------------------------------------------


def test_rates_times_calls_by_hand():
    rates = FlopRates(forward=90, backward=50, step=7, forwards=3, backwards=1, tokens=30)
    # 4 steps of 7; 12 forwards of 30 and 4 backwards of 50, each as much longer as 15 tokens are than 30 / 3
    assert rates.total(4, 12, 4, Fraction(15)) == 4 * 7 + (12 * 30 + 4 * 50) * 15 // 10
    assert rates.total(4, 12, 4, Fraction(10)) == 4 * 7 + 12 * 30 + 4 * 50
    assert rates.total(1, 1, 0, Fraction(101, 10)) == 37  # 7 + 30.3, rounded down
    assert FlopRates(9, 0, 0, 2, 0, 0).total(1, 3, 0, Fraction(0)) == 13  # 13.5
    assert FlopRates(0, 0, 5, 2, 0, 0).total(1, 2, 0) is None  # a task without a matrix product is not free
    assert FlopRates(0, 0, 0, 0, 0, 0).total(1, 2, 0) is None
    big = FlopRates(10**15 + 1, 0, 0, 1, 0, 0)
    assert big.total(0, 10**3, 0) == 10**18 + 10**3  # no float on the way


def test_a_regression_by_hand(tmp_path):
    """|softmax(A x) - b|^2: one product forward, one backward, for A wants no gradient."""
    mezo, adam, gradient = (one(tmp_path, o) for o in ("mezo", "adam", "forward_grad"))
    assert mezo.flops == 2 * 6 * PRODUCT and mezo.forwards == 12
    assert adam.flops == 6 * (PRODUCT + PRODUCT) and adam.backwards == 6
    parts = json.loads(mezo.flop_rates)
    assert parts == dict(forward=2 * PRODUCT, backward=0, step=0, forwards=2, backwards=0, tokens=0)
    assert gradient.jvps == 6 and gradient.flops >= 6 * 2 * PRODUCT  # the tangents' products are in its forwards
    assert gradient.flops % (6 * PRODUCT) == 0


def test_a_transformer_by_hand(tmp_path):
    """16 rows of 24 tokens through 4 layers of width 128 (MLP 640, 4 heads of 32), 1,280 words at one position a row."""
    tokens, layers, width = 16 * 24, 4, 128
    weights = layers * (4 * width**2 + 2 * width * 640)
    attention = layers * 2 * (2 * 16 * 4 * 24 * 24 * 32)
    forward = 2 * weights * tokens + attention + 2 * 16 * width * 1280
    mezo, adam = (one(tmp_path, o, "steps=1", TOY) for o in ("mezo", "adam"))
    assert mezo.tokens == 2 * tokens
    assert mezo.flops == 2 * forward
    assert adam.flops == 3 * forward  # all weights are trained, the first layer's inputs too


def test_flops_follow_the_tokens_of_longer_and_shorter_batches(tmp_path):
    row = one(tmp_path, "mezo", "steps=9", TOY)
    first = json.loads(row.flop_rates)
    assert row.tokens * first["forwards"] != first["tokens"] * row.forwards  # or this proves nothing
    assert row.flops == first["forward"] * row.tokens // first["tokens"]


def test_what_an_optimizer_multiplies_itself_is_counted_once_a_step(tmp_path):
    """rows_l2 trains X (4, 4) by A X B; GaLore projects its gradient (4, r) and projects the step back."""
    galore, adam = (one(tmp_path, o, task="rows_l2") for o in ("galore[rank=2]", "adam"))
    (shape,) = [p.shape for p in model_of("rows_l2").parameters()]
    m, n = shape
    assert galore.flops - adam.flops == 6 * 2 * (2 * m * n * 2)
    assert json.loads(galore.flop_rates)["step"] == 2 * (2 * m * n * 2)


def model_of(task):
    return make_problem(plan.jobs(plan.Request([task], ["mezo"]), Names())[0], torch.device("cpu")).model


@pytest.mark.parametrize(
    "optimizer, task",
    [*((o, "rows_l2") for o in ("mezo", "lozo", "subzero", "zo_muon", "mezo_svrg")), ("lozo", TOY), ("zo_muon", TOY)],
)
def test_they_do_not_depend_on_how_a_probe_is_evaluated(tmp_path, optimizer, task, monkeypatch):
    from zobench.core.probes import Evaluator

    rows = {}
    for mode in ("stream", "copy", "inplace"):
        monkeypatch.setattr(Evaluator, "_first_choice", lambda self, mode=mode: mode)
        rows[mode] = one(tmp_path / mode, optimizer, "steps=2", task)
        assert rows[mode].probe_mode == mode
    assert rows["stream"].flops == rows["copy"].flops == rows["inplace"].flops > 0


def test_nor_on_threads(tmp_path):
    before, found = torch.get_num_threads(), set()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.add(one(tmp_path / str(threads), "adam", "steps=3", TOY).flops)
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


def test_lockstep_counts_what_each_run_alone_does(tmp_path):
    together = run(tmp_path / "a", seeds="9")
    alone = run(tmp_path / "b", seeds="9", lockstep=False)
    assert all(row.lockstep == 9 for row in together) and not any(row.lockstep for row in alone)
    assert [r.flops for r in together] == [r.flops for r in alone] == [12 * PRODUCT] * 9
    assert {r.flop_rates for r in together} == {r.flop_rates for r in alone}


@pytest.mark.parametrize(
    "optimizer, task, first", [("mezo", TOY, 4), ("adam", TOY, 1), ("addax", TOY, 3), ("forward_grad", "rows_l2", 1)]
)
def test_a_continued_run_has_those_of_an_undisturbed_one(tmp_path, optimizer, task, first):
    one(tmp_path / "a", optimizer, f"steps={first}", task)
    longer = one(tmp_path / "a", optimizer, "steps=7", task)
    fresh = one(tmp_path / "b", optimizer, "steps=7", task)
    assert longer.continued_from and not fresh.continued_from
    assert longer.flops == fresh.flops > 0 and longer.flop_rates == fresh.flop_rates


def test_counting_changes_nothing_else(tmp_path, monkeypatch):
    for optimizer, steps in (("mezo", 1), ("adam", 1), ("adam", 3), ("addax", 2)):
        counting = one(tmp_path / f"on{steps}", optimizer, f"steps={steps}", TOY)
        with monkeypatch.context() as patch:
            patch.setattr(Run, "_counting_flops", lambda self: nullcontext())
            plain = one(tmp_path / f"off{steps}", optimizer, f"steps={steps}", TOY)
        assert plain.flops is None and counting.flops
        for name in ("peak_bytes", "inference_bytes", "state_bytes", "final_digest", "trace_values", "forwards"):
            assert getattr(counting, name) == getattr(plain, name), (optimizer, steps, name)


def test_the_counter_sees_no_gradient_die_later():
    """The peak of a step with the counter inside the memory meter is that without it."""
    peaks = []
    for inner in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(5)))
        memory = Memory(torch.device("cpu"), model)
        tracker = FlopTracker() if inner else nullcontext()
        with memory.of_step(), tracker:
            model(torch.ones(8, 64)).square().sum().backward()
        peaks.append(memory.peak)
    assert peaks[0] == peaks[1]


def test_null_where_nothing_is_trained_or_nothing_multiplied(tmp_path):
    for optimizer, task in (("gauss_newton", "softmax_l2"), ("zero_shot", TOY), ("mezo", "rosenbrock")):
        assert one(tmp_path, optimizer, "steps=3", task).flops is None


def test_a_run_that_fails_in_its_first_step_has_paid_for_its_probes(tmp_path, monkeypatch):
    from zobench.optimizers.mezo import MeZO

    def apply(self, *args):
        raise Diverged("planted")

    monkeypatch.setattr(MeZO, "apply", apply)
    row = one(tmp_path)
    assert row.status == "diverged" and row.steps == 0 and row.flops == 2 * PRODUCT


# --- the budget -------------------------------------------------------------------------------------------------------


def test_a_budget_in_flops(tmp_path):
    assert str(Budget.parse("flops=1e15")) == "flops=1000000000000000"
    assert Budget.parse(str(Budget.parse("flops=1e15"))) == Budget.parse("flops=1e15")
    for text in ("flops=0", "flops=1.5", "flops=inf", "flops=1e15s"):
        with pytest.raises(UsageError):
            Budget.parse(text)
    row = one(tmp_path, budget=f"flops={20 * PRODUCT + 1}")
    assert row.steps == 11 and row.flops == 22 * PRODUCT  # the step that passes it is the last
    assert one(tmp_path, budget=f"flops={20 * PRODUCT}", overwrite="always").steps == 10
    assert one(tmp_path, "adam", f"flops={20 * PRODUCT}").steps == 10


@pytest.mark.parametrize("task, continued", [("softmax_l2", True), (TOY, False)])
def test_a_larger_budget_in_flops_ends_like_an_undisturbed_run(tmp_path, task, continued):
    unit = one(tmp_path / "unit", budget="steps=1", task=task).flops
    one(tmp_path / "a", budget=f"flops={3 * unit}", task=task)
    longer = one(tmp_path / "a", budget=f"flops={8 * unit}", task=task)
    fresh = one(tmp_path / "b", budget=f"flops={8 * unit}", task=task)
    assert bool(longer.continued_from) == continued
    assert (longer.flops, longer.steps, longer.final_digest) == (fresh.flops, fresh.steps, fresh.final_digest)
    assert [p["step"] for p in longer.curve] == [p["step"] for p in fresh.curve]


def test_a_budget_in_flops_that_would_never_end_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no matrix product"):
        run(tmp_path, budget="flops=1e6", task="rosenbrock")
    with pytest.raises(UsageError, match="reference line"):
        run(tmp_path, "gd", budget="flops=1e6")
    with pytest.raises(UsageError, match="steps or forwards"):
        run(tmp_path, "zo_adamu", budget="flops=1e6")


# --- the GPU ----------------------------------------------------------------------------------------------------------


class Nvml(ModuleType):
    """A driver with two devices, as nvidia-ml-py shows it."""

    class NVMLError(Exception):
        pass

    def __init__(self):
        super().__init__("pynvml")
        self.millijoules, self.processes, self.asked, self.open, self.broken = 5_000_000, [], [], 0, set()

    def _call(self, name, value=None):
        if name in self.broken:
            raise self.NVMLError(name)
        assert self.open > 0 or name == "nvmlInit", f"{name} after the shutdown"
        return value

    def nvmlInit(self):
        self._call("nvmlInit")
        self.open += 1

    def nvmlShutdown(self):
        self._call("nvmlShutdown")
        self.open -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid):
        self.asked.append(uuid)
        return self._call("nvmlDeviceGetHandleByUUID", uuid)

    def nvmlDeviceGetHandleByPciBusId(self, bus):
        self.asked.append(bus)
        return self._call("nvmlDeviceGetHandleByPciBusId", bus)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        assert handle == self.asked[-1]
        return self._call("energy", self.millijoules)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self._call("processes", self.processes)


class Clock:
    now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def nvml(monkeypatch):
    fake = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    properties = {0: SimpleNamespace(uuid="aaaa-0"), 1: SimpleNamespace(uuid="bbbb-1")}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties[torch.device(device).index or 0])
    monkeypatch.setattr(meters.os, "getpid", lambda: 77)
    return fake


@pytest.fixture
def clock(monkeypatch):
    fake = Clock()
    monkeypatch.setattr(meters, "time", fake)
    return fake


def stretch(gpu, nvml, clock, seconds, joules):
    gpu.begin()
    gpu.begin()  # the second step of the stretch begins no other
    clock.now += seconds
    nvml.millijoules += 1000 * joules
    gpu.pause()
    gpu.pause()


def test_joules_are_those_between_begin_and_pause(nvml, clock):
    gpu = Gpu(torch.device("cuda", 1))
    assert nvml.asked == ["GPU-bbbb-1"]
    stretch(gpu, nvml, clock, 2.0, 700)
    nvml.millijoules += 10**6  # an evaluation
    clock.now += 60
    stretch(gpu, nvml, clock, 0.25, 50)
    assert gpu.joules == 750.0
    gpu.close()
    gpu.close()
    assert nvml.open == 0 and gpu.joules == 750.0


def test_too_short_for_the_counter_is_no_number(nvml, clock):
    gpu = Gpu(torch.device("cuda"))
    assert gpu.joules is None
    stretch(gpu, nvml, clock, 0.4, 100)
    assert gpu.joules is None
    stretch(gpu, nvml, clock, 0.5, 100)
    assert gpu.joules is None
    stretch(gpu, nvml, clock, 0.61, 100)
    assert gpu.joules == 300.0


def test_a_run_that_goes_on_adds_to_what_was_spent(nvml, clock):
    for before, steps, expected in ((40.0, 3, 140.0), (None, 0, 100.0), (None, 3, None)):
        gpu = Gpu(torch.device("cuda"))
        gpu.go_on(before, 5, steps)
        assert gpu.joules == before and gpu.bytes == 5
        stretch(gpu, nvml, clock, 1.0, 100)
        assert gpu.joules == expected


def test_bytes_are_the_peak_of_this_process_seen_now_and_then(nvml, clock):
    process = lambda pid, used: SimpleNamespace(pid=pid, usedGpuMemory=used)  # noqa: E731
    gpu = Gpu(torch.device("cuda"))
    gpu.look()
    assert gpu.bytes is None  # a container may hide its processes
    for wait, processes, expected in (
        (1.0, [process(76, 900), process(77, 300)], 300),
        (0.05, [process(77, 400)], 300),  # too soon to look again
        (0.06, [process(77, 350)], 350),
        (1.0, [process(77, 10)], 350),
        (1.0, [process(77, None)], 350),  # the driver does not tell
        (1.0, [process(76, 900)], 350),
    ):
        clock.now += wait
        nvml.processes = processes
        gpu.look()
        assert gpu.bytes == expected


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "energy", "processes", "nvmlShutdown"])
def test_what_the_driver_refuses_is_null(nvml, clock, broken):
    nvml.broken.add(broken)
    nvml.processes = [SimpleNamespace(pid=77, usedGpuMemory=8)]
    gpu = Gpu(torch.device("cuda"))
    stretch(gpu, nvml, clock, 1.0, 100)
    gpu.look()
    gpu.close()
    none = {"nvmlInit", "nvmlDeviceGetHandleByUUID"}
    assert gpu.joules == (None if broken in none | {"energy"} else 100.0)
    assert gpu.bytes == (None if broken in none | {"processes"} else 8)
    assert nvml.open == (1 if broken == "nvmlShutdown" else 0)


def test_a_counter_that_fails_on_the_way_or_restarts_is_null(nvml, clock):
    gpu = Gpu(torch.device("cuda"))
    stretch(gpu, nvml, clock, 1.0, 100)
    nvml.broken.add("energy")
    stretch(gpu, nvml, clock, 1.0, 100)
    nvml.broken.clear()
    stretch(gpu, nvml, clock, 1.0, 100)
    assert gpu.joules is None
    gpu = Gpu(torch.device("cuda"))
    stretch(gpu, nvml, clock, 1.0, -3000)
    assert gpu.joules is None


def test_no_library_or_no_gpu_is_null(monkeypatch, nvml):
    Gpu(torch.device("cpu")).begin()
    assert not nvml.asked and not nvml.open
    monkeypatch.setitem(sys.modules, "pynvml", None)  # its import fails
    gpu = Gpu(torch.device("cuda"))
    gpu.begin()
    gpu.look()
    gpu.pause()
    gpu.close()
    assert gpu.joules is None and gpu.bytes is None


@pytest.mark.parametrize(
    "properties, handle",
    [
        (dict(uuid="GPU-cccc"), "GPU-cccc"),
        (dict(uuid="MIG-dddd"), "MIG-dddd"),
        (dict(pci_domain_id=0, pci_bus_id=0x3B, pci_device_id=0), "00000000:3b:00.0"),
        (dict(), None),
    ],
)
def test_the_device_is_found_by_uuid_or_place(nvml, monkeypatch, properties, handle):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(**properties))
    Gpu(torch.device("cuda"))
    assert nvml.asked == ([] if handle is None else [handle])
    assert nvml.open == (0 if handle is None else 1)


def metered(nvml, monkeypatch):
    """Let every forward of a run cost 1 J, and every evaluation 1,000 J."""
    from zobench.problems.regression import Regression

    def spend(joules, call):
        def spending(problem, *args, **kwargs):
            nvml.millijoules += 1000 * joules
            return call(problem, *args, **kwargs)

        return spending

    monkeypatch.setattr(Regression, "loss", spend(1, Regression.loss))
    monkeypatch.setattr(Regression, "values", spend(9, Regression.values))  # of 9 runs
    for name in ("evaluate", "scores_many"):
        monkeypatch.setattr(Regression, name, spend(1000, getattr(Regression, name)))
    monkeypatch.setattr(sys.modules["zobench.run"], "Gpu", lambda device: Gpu(torch.device("cuda")))
    monkeypatch.setattr(Gpu, "SHORTEST", 0.0)
    nvml.processes = [SimpleNamespace(pid=77, usedGpuMemory=123)]


def test_the_loop_meters_timed_steps_alone(nvml, tmp_path, monkeypatch):
    metered(nvml, monkeypatch)
    row = one(tmp_path, budget="steps=10")
    assert row.timed_steps == 8 and len(row.curve) > 3
    assert row.energy_joules == 2.0 * row.timed_steps and row.process_bytes == 123
    assert nvml.open == 0
    longer = one(tmp_path, budget="steps=20")
    assert longer.continued_from and longer.timed_steps == 8 + 8
    assert longer.energy_joules == 2.0 * longer.timed_steps


def test_a_lockstep_shares_them(nvml, tmp_path, monkeypatch):
    metered(nvml, monkeypatch)
    rows = run(tmp_path, budget="steps=10", seeds="9")
    assert {r.lockstep for r in rows} == {9} and {r.timed_steps for r in rows} == {10}
    assert {r.energy_joules for r in rows} == {18.0 * 10 / 9} and {r.process_bytes for r in rows} == {123}
    assert nvml.open == 0


def test_on_a_cpu_they_are_null(tmp_path):
    row = one(tmp_path)
    assert row.energy_joules is None and row.process_bytes is None


# --- the record -------------------------------------------------------------------------------------------------------

NEW = ["flops", "flop_rates", "energy_joules", "process_bytes"]


def test_files_of_the_schema_before_are_read(tmp_path):
    path = store_format.write(record(seed=0), tmp_path)
    table = pq.read_table(path).drop_columns(NEW)
    pq.write_table(table.replace_schema_metadata({store_format.VERSION_KEY: b"1.2"}), path)
    row = store_format.read(path)
    assert [getattr(row, name) for name in NEW] == [None] * 4 and row.value == 0.9
    (found,), problems = store_format.scan(tmp_path, ("cell", *NEW))
    assert not problems and [found[name] for name in NEW] == [None] * 4


def test_they_come_back_as_they_were_written(tmp_path):
    rates = '{"backward":0,"backwards":0,"forward":4,"forwards":2,"step":0,"tokens":0}'
    values = dict(flops=2**62, flop_rates=rates, energy_joules=12.5, process_bytes=2**40)
    row = store_format.read(store_format.write(record(**values), tmp_path))
    assert {name: getattr(row, name) for name in NEW} == values
    assert type(row.flops) is int and math.isclose(row.energy_joules, 12.5)
    assert all(f"`{name}`" in store_format.schema_markdown() for name in NEW)


def test_a_run_of_the_schema_before_is_continued_and_counted(tmp_path):
    one(tmp_path, budget="steps=4")
    (path,) = tmp_path.glob("*.parquet")
    table = pq.read_table(path).drop_columns(NEW)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, store_format.VERSION_KEY: b"1.2"}), path)
    row = one(tmp_path, budget="steps=9")
    assert row.continued_from and row.flops == 18 * PRODUCT


def test_the_tasks_whose_flops_are_null_are_known():
    """Every other regression has a matrix product; one that lost it would fall out of the ranking by FLOPs."""
    without = set()
    for name, entry in registry.entries("task").items():
        if entry.info["suite"] == "synthetic":
            problem = make_problem(plan.jobs(plan.Request([name], ["mezo"]), Names())[0], torch.device("cpu"))
            if not counted(lambda problem=problem: problem.loss(problem.batch(0))):
                without.add(name)
    assert without == {"conv", "cosh_sum", "nesterov", "rosenbrock"}
