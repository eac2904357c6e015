"""Every entry of the registry is held to what its group must do; the contracts are those of `sweeps check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.commands.contracts import Skipped, contracts_of
from trainables.spec import TASKS, registry
from trainables.spec.registry import Entry

GROUPS = ("loss", "network", "dataset", "recipe")
# Groups whose entries have contracts of another shape -> the file that runs these over each of them.
BY_FILE = {
    "stage": "test_stages.py",
    "task": "test_protocols.py",
    "study": "test_studies.py",
    "label_loss": "test_losses.py",
}
# (part, contract) -> why it does not suit it.
EXCEPT = {
    ("crd", "its gradient is the slope of its value"): "the first batch sets a constant that gradients leave out; "
    "test_losses.py sets it",
}
ENTRIES = [entry for group in GROUPS for entry in registry.entries(group)]
CASES = [(entry, sentence) for entry in ENTRIES for sentence in contracts_of(entry)]


@pytest.mark.parametrize(("entry", "sentence"), CASES, ids=lambda x: x.component if isinstance(x, Entry) else x)
def test_the_contract_of_every_entry_holds(entry: Entry, sentence: str) -> None:
    if (entry.name, sentence) in EXCEPT:
        pytest.skip(EXCEPT[entry.name, sentence])
    try:
        contracts_of(entry)[sentence]()
    except Skipped as error:
        pytest.skip(str(error))


def test_every_entry_of_these_groups_has_contracts() -> None:
    assert {*GROUPS, *BY_FILE} == set(registry.GROUPS)
    assert [file for file in BY_FILE.values() if not Path(__file__).with_name(file).exists()] == []
    assert {entry.group for entry, _ in CASES} == set(GROUPS)
    assert [entry for entry in ENTRIES if entry not in [held for held, _ in CASES]] == []


def test_protocols_are_tried_with_every_task_of_the_registry() -> None:
    assert registry.names("task") == TASKS
