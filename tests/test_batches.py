"""Every minibatch that a method may ask for: the step's own, further ones, those of long and of short rows."""

import numpy as np
import pytest
import torch
from task_files import load_task

import zobench
from zobench.spec import Setting, UsageError

SIZE = 5


def sst2(data_dir, **setting):
    setting = Setting(model="random:opt-nano", batch_size=SIZE, data_dir=data_dir, **setting)
    return load_task("sst2").build(setting, num_train=14, num_dev=6, num_eval=4)


def rows_ce(seed=0, **options):
    return load_task("rows_ce").build(Setting(seed=seed), **options)


@pytest.fixture(scope="module")
def problem(data_dir):
    return sst2(data_dir)


def chosen(problem, step, part=None):
    """Numbers of the train rows in a minibatch."""
    collate, problem.collate = problem.collate, list
    try:
        encoded = problem.batch(step, part)
    finally:
        problem.collate = collate
    number = {id(problem._tokens(i)): i for i in range(len(problem.examples("train")))}
    return [number[id(e)] for e in encoded]


# --- language ---


@pytest.mark.parametrize("step", [0, 2, 3, 7])
def test_without_a_part_the_rows_are_those_they_always_were(problem, step):
    epoch, place = divmod(step, 3)
    order = np.random.RandomState([0, epoch]).permutation(14)[place * SIZE : (place + 1) * SIZE]
    assert chosen(problem, step) == chosen(problem, step, None) == order.tolist()


def test_further_minibatches_are_functions_of_step_seed_and_number(problem, data_dir):
    found = {(step, k): chosen(problem, step, k) for step in (0, 9) for k in (1, 2, 30)}
    again, other = sst2(data_dir), sst2(data_dir, seed=1)
    assert {key: chosen(again, *key) for key in reversed(found)} == found
    assert all(len(set(rows)) == SIZE for rows in found.values())
    assert len({tuple(rows) for rows in found.values()}) == len(found)
    assert chosen(other, 0, 1) != found[0, 1]


def test_further_minibatches_do_not_depend_on_the_steps_own(problem):
    """A row of the own minibatch is in a further one as often as any other."""
    shared = [len({*chosen(problem, step)} & {*chosen(problem, step, 1)}) for step in range(0, 600, 3)]
    assert np.mean(shared) == pytest.approx(SIZE * SIZE / 14, abs=0.25)  # standard error 0.07


def test_long_and_short_rows_are_the_halves_around_the_median(problem):
    lengths = [max(len(s.ids) for s in problem._tokens(i)[0]) for i in range(14)]
    halves = problem.halves()
    assert sorted([*halves["long"], *halves["short"]]) == list(range(14))
    assert min(lengths[i] for i in halves["long"]) > np.median(lengths) >= max(lengths[i] for i in halves["short"])
    for part, rows in halves.items():
        epoch = -(-len(rows) // SIZE)
        for first in (0, epoch):
            drawn = [i for step in range(first, first + epoch) for i in chosen(problem, step, part)]
            assert sorted(drawn) == sorted(rows)
        assert chosen(problem, 0, part) == chosen(sst2(problem.setting.data_dir), 0, part)


def test_a_long_minibatch_has_the_longer_rows(problem):
    width = {part: problem.batch(0, part).options.inputs.input_ids.shape[1] for part in ("long", "short")}
    assert width["long"] > width["short"]


def test_generation_tasks_have_them_too(data_dir, monkeypatch):
    setting = Setting(model="random:opt-nano", batch_size=2, data_dir=data_dir)
    problem = load_task("squad").build(setting, num_train=8, num_dev=2, num_eval=2)
    assert problem.batch(0, 1).tokens > 0
    monkeypatch.setattr(problem, "collate", lambda encoded: [problem.length(e) for e in encoded])
    long, short = (problem.batch(0, part) for part in ("long", "short"))
    assert min(long) > max(short)


def test_rows_of_one_length_have_no_long_half(data_dir, monkeypatch):
    problem = sst2(data_dir)
    monkeypatch.setattr(problem, "length", lambda encoded: 7)
    assert len(chosen(problem, 0, "short")) == SIZE
    with pytest.raises(UsageError, match="all rows have one length"):
        problem.batch(0, "long")


@pytest.mark.parametrize("part", [0, -1, True, "longer"])
def test_a_part_that_is_none_is_a_usage_error(problem, part):
    for other in (problem, rows_ce(batch=4)):
        with pytest.raises(UsageError, match="batch=") as caught:
            other.batch(0, part)
        assert "\n" not in str(caught.value)


# --- regressions ---


def test_rows_of_a_regression_are_those_they_always_were():
    problem = rows_ce(seed=3, batch=4)
    expected = problem.exact.draw(np.random.RandomState([3, 11]), 4)
    assert problem.batch(11).rows.tolist() == problem.batch(11, None).rows.tolist() == expected.tolist()


def test_further_minibatches_of_a_regression_are_others():
    problem, again = rows_ce(batch=8), rows_ce(batch=8)
    found = {part: problem.batch(2, part).rows.tolist() for part in (None, 1, 2)}
    assert found == {part: again.batch(2, part).rows.tolist() for part in (2, 1, None)}
    assert len({str(rows) for rows in found.values()}) == 3
    assert rows_ce(seed=1, batch=8).batch(2, 1).rows.tolist() != found[1]
    assert problem.batch(3, 1).rows.tolist() != found[1]


def test_the_full_sum_stays_full_with_noise_of_its_own():
    problem = rows_ce(noise=1e-3)
    own, further = problem.batch(0), problem.batch(0, 1)
    assert own.rows is None and further.rows is None
    draws = [[float(batch.noise(call)) for call in range(70)] for batch in (own, further, problem.batch(0, 1))]
    assert draws[0] != draws[1] == draws[2]
    with torch.no_grad():
        assert float(problem.loss(own)) != float(problem.loss(further))


def test_a_regression_has_no_long_rows():
    for part in ("long", "short"):
        with pytest.raises(UsageError, match="a regression has no rows of different length"):
            rows_ce(batch=4).batch(0, part)


# --- in a run ---


def test_addax_runs_on_both_halves(tmp_path, nano_dir, data_dir):
    for split in ("all", "length"):
        (row,) = zobench.run(
            "sst2[num_train=12,num_dev=4,num_eval=4]", f"addax[split={split}]", model=str(nano_dir), budget="steps=3",
            batch_size=4, data_dir=str(data_dir), store=tmp_path, device="cpu",
        )  # fmt: skip
        assert row.status == "ok" and (row.forwards, row.backwards) == (9, 3), row.reason


def test_a_method_that_needs_lengths_says_so_on_a_regression(tmp_path):
    with pytest.raises(UsageError, match=r"addax: .*language task"):
        zobench.run("rows_ce[batch=4]", "addax[split=length]", budget="steps=2", store=tmp_path, device="cpu")
