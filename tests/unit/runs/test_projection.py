"""Records of stages, from their artifacts."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import search_spaces
from analysis.records import write_record
from sweeps.planning.graph import StageGraph, StageNode
from sweeps.planning.plan import Plan
from sweeps.planning.planner import build_graph
from sweeps.planning.resolve import resolve
from sweeps.runs.folder import RunFolder
from sweeps.runs.record_writer import RecordWriter
from trainables.spec import SleepSpec, to_plain
from trainables.store.artifacts import Store


@pytest.fixture
def project(store: Store, nasty_path: Path) -> Callable[..., pl.DataFrame]:
    """The records of a study whose stages are all published with these metrics by role."""

    def make(study: str, metrics: dict[str, dict[str, Any]], *settings: str) -> pl.DataFrame:
        resolved = resolve(search_spaces.load(study), preset="tiny", settings=settings, seeds=1)
        planned, *_ = build_graph(Plan(resolved, {"fingerprint": "d", "height": 8}), store)
        for node in planned.nodes.values():
            manifest = {"kind": node.spec.kind, "spec": to_plain(node.spec), "parents": dict(node.parents)}
            store.publish(node.key, manifest | {"metrics": metrics.get(node.role, {})}, lambda folder: None)
        graph: StageGraph
        graph, *_ = build_graph(Plan(resolved, {"fingerprint": "d", "height": 8}), store)
        run = RunFolder(nasty_path / "run")
        run.prepare()
        RecordWriter(run, study, "digits", store, graph).write_missing()
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


def test_a_stage_of_any_role_is_recorded(store: Store, nasty_path: Path) -> None:
    probe = StageNode("a" * 16, "probe", SleepSpec(), 0, {}, ["cell"])
    store.publish(probe.key, {"kind": "sleep", "spec": {}, "parents": {}, "metrics": {}}, lambda folder: None)
    graph = StageGraph()
    graph.add(probe, present=True)
    run = RunFolder(nasty_path / "run")
    run.prepare()
    records = RecordWriter(run, "_engine_check", "digits", store, graph)
    assert records.write_missing() == 1, records.damaged
    assert pl.read_parquet(next(run.records.iterdir()), glob=False)["stage"].item() == "probe"


@pytest.fixture
def recorded(store: Store, nasty_path: Path) -> Callable[[], RecordWriter]:
    """Published stages with histories and outputs, and a new writer of their records each time."""
    resolved = resolve(search_spaces.load("_engine_check"), preset="tiny", settings=(), seeds=1)
    planned, *_ = build_graph(Plan(resolved, {"fingerprint": "d", "height": 8}), store)
    for node in planned.nodes.values():
        manifest = {"kind": node.spec.kind, "spec": to_plain(node.spec), "parents": dict(node.parents)}
        metrics = {"score": 0.75, "metric": "top1", "correct": 3, "items": 4} if node.role == "evaluation" else {}

        def write(folder: Path, role: str = node.role) -> None:
            if role == "evaluation":
                table = pa.table({"correct": [True, True, True, False]})
                with (
                    pa.OSFile(str(folder / "outputs.arrow"), "wb") as sink,
                    pa.ipc.new_file(sink, table.schema) as file,
                ):
                    file.write_table(table)

        store.publish(node.key, manifest | {"metrics": metrics, "seconds": 1.0}, write)
    graph, *_ = build_graph(Plan(resolved, {"fingerprint": "d", "height": 8}), store)
    run = RunFolder(nasty_path / "run")
    run.prepare()
    return lambda: RecordWriter(run, "_engine_check", "digits", store, graph)


def evaluation_of(record_writer: RecordWriter) -> Path:
    return next(record_writer.path(n) for n in record_writer.graph.nodes.values() if n.role == "evaluation")


def test_records_that_are_whole_are_left_alone_and_damaged_ones_made_again(
    recorded: Callable[[], RecordWriter],
) -> None:
    first = recorded()
    assert first.write_missing() == len(first.graph.nodes)
    assert recorded().write_missing() == 0
    path = evaluation_of(first)
    whole = path.read_bytes()
    at = whole.index(struct.pack("<d", 0.75))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    second = recorded()
    assert second.write_missing() == 1 and path.read_bytes() == whole
    assert set(second.made_again) == {path.stem} and "checksum" in second.made_again[path.stem]
    assert not second.damaged


def test_a_record_that_says_another_number_than_its_artifact_is_made_again(
    recorded: Callable[[], RecordWriter],
) -> None:
    first = recorded()
    first.write_missing()
    path = evaluation_of(first)
    whole = path.read_bytes()
    forged = pl.read_parquet(path, glob=False).row(0, named=True)
    write_record(path, forged | {"score": 1.0, "correct": 4})  # Agrees with itself, and is signed.
    second = recorded()
    assert second.write_missing() == 1 and path.read_bytes() == whole
    assert "correct 4" in second.made_again[path.stem] or "score 1.0" in second.made_again[path.stem]


def test_a_cut_file_of_outputs_and_an_edited_manifest_are_told_and_stop_no_other_record(
    recorded: Callable[[], RecordWriter], store: Store
) -> None:
    first = recorded()
    first.write_missing()
    path = evaluation_of(first)
    outputs = store.get(path.stem).file("outputs.arrow")
    outputs.write_bytes(outputs.read_bytes()[:-40])
    teacher = next(n.key for n in first.graph.nodes.values() if n.role == "teacher")
    manifest = store.path(teacher) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seconds": 1.0', '"seconds": 2.0'))
    for record in first.run.records.iterdir():
        record.unlink()
    second = recorded()
    assert second.write_missing() == len(second.graph.nodes) - 2
    assert set(second.damaged) == {path.stem, teacher}
    assert all(f"store discard {key}" in why for key, why in second.damaged.items())


def test_numbers_of_another_type_in_an_old_manifest_are_told(
    recorded: Callable[[], RecordWriter], store: Store
) -> None:
    path = evaluation_of(recorded())
    manifest = store.path(path.stem) / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["manifest_sha256"]  # As earlier versions wrote them.
    content["metrics"]["score"] = "high"
    manifest.write_text(json.dumps(content))
    record_writer = recorded()
    record_writer.write_missing()
    assert set(record_writer.damaged) == {path.stem} and "cannot be recorded" in record_writer.damaged[path.stem]
