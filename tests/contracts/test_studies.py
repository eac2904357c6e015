"""What every study must do: its smallest preset, from the plan to the report, on the embedded data.

The stages run one after the other in this process; that Ray runs them to the same numbers is tested elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from helpers import train_stages

import search_spaces
from sweeps.commands.contracts import OF_STUDIES
from sweeps.planning.request import Request
from sweeps.runs.execute import execute
from sweeps.runs.folder import Place
from sweeps.runs.outcome import Outcome
from sweeps.runs.prepare import prepare
from trainables.data.packed import open_packed
from trainables.data.protocols import cut_for
from trainables.spec import TrainingSpec, spec_from
from trainables.store.artifacts import Store

GRIDS = [name for name in search_spaces.names() if not search_spaces.load(name).sampled]


def silent(line: str) -> None:
    """Says nothing."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all studies: what they share is trained once."""
    return tmp_path_factory.mktemp("store")


def finish(request: Request, place: Place) -> Outcome:
    """Train every stage of a grid here, then bring the run up to the store."""
    train_stages(prepare(request, place, silent))
    return execute(request, place, silent, quiet=True, train=False)


@pytest.fixture(scope="module", params=GRIDS)
def outcome(request: Any, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    place = Place(runs=tmp_path_factory.mktemp("runs"), store=shared)
    return finish(Request(study=request.param, preset="tiny"), place)


@pytest.mark.parametrize("contract", OF_STUDIES)
@pytest.mark.parametrize("name", search_spaces.names())
def test_the_contract_of_every_study_holds(name: str, contract: str) -> None:
    OF_STUDIES[contract](search_spaces.load(name))


def test_it_ends_with_a_sentence_and_a_page(outcome: Outcome) -> None:
    assert outcome.code == 0 and not outcome.failures
    assert outcome.summary.sentence
    page = outcome.run.path / "report" / "index.html"
    assert page.stat().st_size > 20_000
    assert json.loads((page.parent / "report.json").read_text())["study"] == outcome.run.path.name.rpartition("-")[0]


def test_every_trial_has_a_score_of_the_task(outcome: Outcome) -> None:
    run = json.loads((outcome.run.path / "run.json").read_text())
    trials = pl.read_parquet(outcome.run.path / "report" / "data" / "trials.parquet")
    assert trials.height == len(run["trials"]) == len(run["cells"]) * 2
    assert set(trials["status"]) == {"completed"}
    assert set(trials["metric"]) == {run["metric"]}
    assert trials["score"].is_between(0, 1).all()


def test_every_evaluation_knows_chance_and_a_bit_for_each_test_item(outcome: Outcome) -> None:
    rows = pl.read_parquet(outcome.run.path / "records" / "*.parquet").filter(pl.col("stage") == "evaluation")
    for row in rows.iter_rows(named=True):
        numbers = json.loads(row["metrics"])
        assert 0 < numbers["chance"] < 1
        assert numbers["score"] == row["score"]
        bits = sum(byte.bit_count() for byte in row["correct_bits"])
        assert bits == row["correct"] <= row["items"] <= 8 * len(row["correct_bits"])


def test_what_a_class_disjoint_study_tests_no_stage_of_its_chain_was_trained_on(outcome: Outcome, shared: Path) -> None:
    run = json.loads((outcome.run.path / "run.json").read_text())
    if run["task"] == "classification":
        pytest.skip("classification tests other images of the classes it learned")
    store = Store(shared)
    for trial in run["trials"]:
        cuts = []
        for key in trial["stages"].values():
            artifact = store.get(key)
            spec = spec_from(artifact.kind, artifact.manifest["spec"])
            if isinstance(spec, TrainingSpec):
                packed = open_packed(store.root / "data" / f"{spec.data}.arrow")
                cuts.append(cut_for(packed, spec))
        tested = set(cuts[-1].tested)
        assert tested
        for one in cuts:
            assert not tested & set(one.classes)
            assert not set(cuts[-1].test.tolist()) & (set(one.train.tolist()) | set(one.validation.tolist()))
