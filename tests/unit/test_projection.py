"""Records of stages, from their artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import search_spaces
from sweeps.graph import StageGraph
from sweeps.plan import build_graph, resolve
from sweeps.projection import Projector
from sweeps.runs import RunFolder
from trainables.artifacts import Store
from trainables.spec import to_plain


@pytest.fixture
def project(store: Store, nasty_path: Path) -> Callable[..., pl.DataFrame]:
    """The records of a study whose stages are all published with these metrics by role."""

    def make(study: str, metrics: dict[str, dict[str, Any]], *settings: str) -> pl.DataFrame:
        resolved = resolve(search_spaces.load(study), preset="tiny", settings=settings, seeds=1)
        resolved.side = 8
        planned, *_ = build_graph(resolved, "d", store)
        for node in planned.nodes.values():
            manifest = {"kind": node.spec.kind, "spec": to_plain(node.spec), "parents": dict(node.parents)}
            store.publish(node.key, manifest | {"metrics": metrics.get(node.role, {})}, lambda folder: None)
        graph: StageGraph
        graph, *_ = build_graph(resolved, "d", store)
        run = RunFolder(nasty_path / "run")
        run.prepare()
        Projector(run, study, "digits", store, graph).write_missing()
        # One by one: the folder's name has brackets, which a pattern would read as its own.
        return pl.concat([pl.read_parquet(path, glob=False) for path in sorted(run.records.iterdir())])

    return make


def test_stages_that_only_sleep_have_records_too(project: Callable[..., pl.DataFrame]) -> None:
    rows = project("_engine_check", {"evaluation": {"top1": 0.5}, "student": {"validation_top1": 0.25}})
    assert set(rows["stage"]) == {"teacher", "student", "evaluation"}
    evaluations = rows.filter(pl.col("stage") == "evaluation")
    assert set(evaluations["score"]) == {0.5} and set(evaluations["validation_score"]) == {0.25}
    assert evaluations["task"].null_count() == evaluations.height


def test_kept_outputs_have_records_so_that_a_report_counts_their_time(project: Callable[..., pl.DataFrame]) -> None:
    rows = project("horkd_order_ablation", {}, "teacher_outputs=cached", "augment=flip", "orders=none,1")
    kept = rows.filter(pl.col("stage") == "outputs")
    teacher = rows.filter(pl.col("stage") == "teacher")["key"].item()
    assert kept.height == 2 and set(kept["teacher"]) == {teacher}
    assert set(kept["log"]) == {f"logs/outputs-{key}.log" for key in kept["key"]}


def test_an_evaluations_row_tells_of_the_network_it_read(project: Callable[..., pl.DataFrame]) -> None:
    network = {"validation_score": 0.75, "macs": 1234, "parameters_count": 56}
    numbers = {"metric": "verification_accuracy", "score": 0.625, "chance": 0.5}
    rows = project(
        "horkd_face_verification",
        {"student": network, "untrained": {"macs": 0}, "evaluation": numbers},
        "arm=ce,horkd,pixels",
    )
    assert set(rows["task"]) == {"verification"}
    evaluations = rows.filter(pl.col("stage") == "evaluation").sort("macs")
    assert evaluations["macs"].to_list() == [0, 1234, 1234]
    assert evaluations["validation_score"].to_list() == [None, 0.75, 0.75]
    assert all(json.loads(text) == numbers for text in evaluations["metrics"])
    # Orders belong to HORKD alone; labels alone have none.
    students = rows.filter(pl.col("stage") == "student")
    assert sorted(students["orders"].to_list(), key=str) == ["1+2+3+C", None]
