"""Every language task on real rows: trained 20 steps with mezo and with adam, evaluated, stored and ranked."""

import json
import math

import pytest

from zobench import plan, record, registry
from zobench.build import Names
from zobench.report.tables import board
from zobench.run import Place, execute

SMALL = dict(num_train=24, num_dev=6, num_eval=6, k=4, max_new_tokens=4, max_length=128, doc_stride=32)
TASKS = [e for e in registry.entries("task").values() if e.info.get("kind") != "regression" and "hub" in e.info]
FORMS = [(e, {}) for e in TASKS] + [(e, {"form": "head"}) for e in TASKS if "form" in e.options]
FORMS += [(e, {"version": 2}) for e in TASKS if "version" in e.options]
KSHOT_DECODER = [(e, {"model": "random:opt-nano"}) for e in TASKS if e.info["kind"] == "kshot"][:1]


def request(entry, given, data_dir):
    given = dict(given)
    model = given.pop("model", entry.info.get("try", "random:opt-nano"))
    options = {k: v for k, v in SMALL.items() if k in entry.options} | given
    if entry.info["kind"] == "glue":
        del options["max_length"]  # the protocol's, which real rows fit
    text = ",".join(f"{k}={v}" for k, v in options.items())
    asked = plan.Request([f"{entry.name}[{text}]"], ["mezo[lr=1e-4]", "adam[lr=1e-4]"], model=model)
    return plan.replace(asked, budget="steps=20", batch_size=2, evaluations=1, data_dir=str(data_dir))


@pytest.mark.parametrize(
    ("entry", "given"),
    FORMS + KSHOT_DECODER,
    ids=lambda v: v.name if hasattr(v, "name") else ",".join(map(str, v.values())),
)
def test_it_trains_evaluates_is_stored_and_ranked(entry, given, data_dir, tmp_path):
    rows = [row for row, _ in execute(plan.jobs(request(entry, given, data_dir), Names()), Place(tmp_path, "cpu"))]
    assert [(row.optimizer, row.status, row.reason) for row in rows] == [("mezo", "ok", None), ("adam", "ok", None)]
    for row in rows:
        again = record.read(record.find(tmp_path, row.cell))
        facts, metrics = json.loads(again.facts), json.loads(again.metrics)
        assert again.steps == 20 and again.forwards >= 20 and again.test_looks == 1
        assert math.isfinite(metrics["loss"]) and math.isfinite(again.validation)
        assert {"template", "num_train", "num_dev", "num_test", "precision"} <= set(facts)
        assert again.data.startswith("sha256:")
    assert (rows[0].backwards, rows[1].backwards) == (0, 20)
    shown = json.dumps(board([tmp_path]).to_json())
    assert '"mezo' in shown and '"adam' in shown
