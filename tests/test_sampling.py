"""The train, dev and test rows are those of MeZO's code, and batches are a pure function of the step."""

import hashlib

import numpy as np
import pytest
from task_files import load_task

from zobench.problems.sampling import sample
from zobench.spec import Setting

# task, N_train, N_val, num_dev -> sizes, first three of each, first 12 hex digits of sha256 of the joined indices
FIXTURE = [
    ("SST2", 67349, 872, 500, (1000, 500, 872), [43787, 16159, 59015], [2307, 42285, 56182], [372, 676, 548],
     "553ff27f2ca5", "d73a8b715125"),
    ("RTE", 2490, 277, 500, (1000, 500, 277), [2325, 1450, 1047], [189, 505, 1893], [218, 225, 190],
     "73e84e24b38b", "45ffc571b1b4"),
    ("CB", 250, 56, 100, (150, 100, 56), [225, 122, 92], [85, 247, 141], [45, 33, 40],
     "82177a0d9a4c", "e3635571996f"),
    ("BoolQ", 9427, 3270, 500, (1000, 500, 1000), [4424, 3019, 5529], [5556, 1892, 9023], [1184, 92, 2193],
     "0be7f490ee3c", "a983138f0063"),
    ("WSC", 554, 104, 500, (54, 500, 104), [85, 132, 96], [506, 229, 449], [26, 61, 2],
     "6500b7222eeb", "58354302b521"),
    ("WIC", 5428, 638, 500, (1000, 500, 638), [2708, 1625, 3158], [4527, 1595, 269], [458, 530, 517],
     "e2711cfe5b4f", "b7f924e77615"),
    ("MultiRC", 27243, 4848, 500, (1000, 500, 1000), [3085, 7448, 11614], [9578, 24183, 3474], [415, 910, 2740],
     "14a5ba5c8514", "72963ff47aab"),
    ("Copa", 400, 100, 100, (300, 100, 100), [132, 309, 341], [201, 339, 98], [26, 86, 2],
     "e49d8816dd89", "0b019832a2a9"),
    ("ReCoRD", 100730, 10000, 500, (1000, 500, 1000), [46709, 71939, 14815], [76149, 66078, 52979],
     [9394, 898, 2398], "ded5ba20397a", "9bfbbfe87098"),
    ("SQuAD", 87599, 10570, 500, (1000, 500, 1000), [50436, 22762, 45227], [1003, 44969, 80288], [4004, 2588, 8936],
     "f288738f0197", "680aeac0ed85"),
    ("DROP", 77400, 9535, 500, (1000, 500, 1000), [67454, 11388, 48515], [47984, 52202, 58407], [1842, 1824, 5622],
     "a5f912529ae0", "9d3c05b1be42"),
    ("WinoGrande", 2558, 1267, 100, (1000, 100, 1000), [917, 2551, 2465], [587, 1043, 357], [792, 320, 1001],
     "d056f4beb22c", "af869234fecb"),
]  # fmt: skip


def sha12(indices: np.ndarray) -> str:
    return hashlib.sha256(",".join(map(str, indices)).encode()).hexdigest()[:12]


@pytest.mark.parametrize("row", FIXTURE, ids=lambda row: row[0])
def test_full_datasets_give_the_published_draw(row):
    _, n_train, n_val, num_dev, sizes, train, dev, test, sha_train_dev, sha_test = row
    got = sample(0, n_train, n_val, 1000, num_dev, 1000, full_train=n_train)
    assert tuple(map(len, (got.train, got.dev, got.test))) == sizes
    assert [part[:3].tolist() for part in (got.train, got.dev, got.test)] == [train, dev, test]
    assert sha12(np.concatenate([got.train, got.dev])) == sha_train_dev
    assert sha12(got.test) == sha_test
    assert not got.partial


def test_a_slice_that_is_too_small_gives_dev_at_most_a_third():
    got = sample(0, 1000, 872, 1000, 500, 1000, full_train=67349)
    assert (len(got.train), len(got.dev), got.partial) == (667, 333, True)
    assert not set(got.train) & set(got.dev)


def test_a_slice_with_enough_rows_keeps_the_sizes():
    got = sample(0, 1000, 872, 600, 400, 100, full_train=67349)
    assert (len(got.train), len(got.dev), len(got.test), got.partial) == (600, 400, 100, False)


def test_the_seed_changes_every_part():
    one, two = (sample(seed, 5000, 900, 1000, 500, 300, full_train=5000) for seed in (0, 1))
    for name in ("train", "dev", "test"):
        assert getattr(one, name).tolist() != getattr(two, name).tolist()


@pytest.fixture(scope="module")
def problem(data_dir):
    setting = Setting(model="random:opt-nano", batch_size=5, data_dir=data_dir)
    return load_task("sst2").build(setting, num_train=14, num_dev=6, num_eval=4)


def test_batches_are_pure_in_the_step(problem):
    late, early = problem.batch(7), problem.batch(0)
    assert late.options.inputs.input_ids.equal(problem.batch(7).options.inputs.input_ids)
    assert early.options.inputs.input_ids.equal(problem.batch(0).options.inputs.input_ids)
    assert early.gold.equal(problem.batch(0).gold)


def test_an_epoch_has_every_example_once_and_a_short_last_batch(problem, monkeypatch):
    monkeypatch.setattr(problem, "collate", lambda encoded: [id(e) for e in encoded])
    epochs = [[problem.batch(3 * e + i) for i in range(3)] for e in range(2)]
    for epoch in epochs:
        assert [len(batch) for batch in epoch] == [5, 5, 4]
        assert len({example for batch in epoch for example in batch}) == 14
    assert epochs[0] != epochs[1]
