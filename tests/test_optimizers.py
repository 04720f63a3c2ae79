"""One contract, run over every registered optimizer: a new file is covered the moment it exists."""

import pytest

from zobench import contract, registry

ENTRIES = list(registry.entries("optimizer").values())
# Forms that the defaults do not reach: guides on several laws, moments drawn again, masks, levels, and the like.
VARIANTS = (
    "mezo[guide=gv,candidates=4]", "mezo[law=sphere,guide=greedy]", "subzero[guide=gv]", "lozo[guide=greedy]",
    "lozo-m[guide=gv]", "mezo-svrg[guide=greedy]", "zo-block[guide=gv]", "mezo-adam[guide=gv]", "forward-grad[guide=greedy]",
    "mezo-momentum[moments=recomputed]", "mezo-adam[moments=recomputed]", "conmezo[moments=recomputed]",
    "r-adazo[moments=recomputed]", "zo-adamu[moments=recomputed]", "tezo[variant=m]", "tezo[variant=adam]",
    "sparse-mezo[sparsity=0.5]", "zo-sparse[mask=magnitude]", "zo-hybrid[fo=adam]", "s2p[option=2]", "s2p[option=4]",
    "s2p[sign_trick=false]", "zo-block[level=linear,immediate=false]", "zo-sgd-sign[n=3,sides=one]", "brs[sides=two,law=sphere]",
    "zo-muon[opt=sgd]", "addax[mix=0.1]", "mezo[law=rademacher]", "zo-sgd-mmt[queries=3,sides=one]",
)  # fmt: skip
KEPT = (
    "cost dtypes groups lr_zero no_gradients replay resume seeds state".split()
)  # of these forms; the rest is the default's


@pytest.mark.parametrize("check", contract.CHECKS)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_contract(entry, check):
    contract.CHECKS[check](contract.Subject(entry))


@pytest.mark.parametrize("check", KEPT)
@pytest.mark.parametrize("form", VARIANTS)
def test_contract_of_other_forms(form, check):
    name, given = registry.parse(form)
    entry = registry.find("optimizer", name)
    options = registry.resolve(entry, given)
    contract.CHECKS[check](contract.Subject(entry, given={key: options[key] for key in given}))


def test_zeroth_order_files_are_small():
    sizes = {e.name: len(e.path.read_text().splitlines()) for e in ENTRIES if e.info["order"] != "first"}
    assert max(sizes.values()) <= 120, {name: n for name, n in sizes.items() if n > 120}
    assert sorted(sizes.values())[len(sizes) // 2] <= 60, sorted(sizes.items(), key=lambda item: item[1])
