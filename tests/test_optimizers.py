"""One contract, run over every registered optimizer: a new file is covered the moment it exists."""

import pytest

from zobench import contract, registry

ENTRIES = list(registry.entries("optimizer").values())


@pytest.mark.parametrize("check", contract.CHECKS)
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_contract(entry, check):
    contract.CHECKS[check](contract.Subject(entry))
