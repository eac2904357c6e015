"""What every stage must do: stopped after each epoch and continued, it publishes what it publishes when it runs through."""

from __future__ import annotations

from pathlib import Path

import pytest

import search_spaces
from sweeps.commands.contracts import nodes_of, stopped_and_continued_equals_uninterrupted
from trainables.spec import SPECS

# Kind -> a study whose smallest preset has it. An evaluation and an untrained network have no epoch to stop after.
STUDIES = {
    "sleep": "_engine_check",
    "teacher": "horkd_order_ablation",
    "assistant": "horkd_order_ablation",
    "student": "horkd_resolution_robustness",
    "evaluation": "horkd_order_ablation",
    "untrained": "horkd_classification",
}
# A shard of kept outputs is begun anew when it is stopped, a teacher from a file is read in one go: their own tests.
ELSEWHERE = frozenset({"outputs", "pretrained"})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store: what the stages read is trained once."""
    return tmp_path_factory.mktemp("stages")


@pytest.mark.parametrize("kind", STUDIES)
def test_stopped_and_continued_equals_uninterrupted(kind: str, shared: Path) -> None:
    nodes, store = nodes_of(kind, [search_spaces.load(STUDIES[kind])], shared)
    assert nodes[-1].spec.kind == kind
    stopped_and_continued_equals_uninterrupted(nodes, store)


def test_every_kind_of_stage_is_held_to_it() -> None:
    assert set(STUDIES) | ELSEWHERE == set(SPECS)
