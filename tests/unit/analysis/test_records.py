import json
import subprocess
import sys

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic

from analysis import load
from analysis.errors import NothingToReport
from analysis.load import as_object, load_run, trial_table
from analysis.records import LATER, SCHEMA, write_record
from analysis.report_tables import cost_by_stage

ROW = {"stage": "evaluation", "key": "k", "status": "completed"}


def test_a_record_reads_back_as_written(tmp_path):
    history = [{"epoch": 1, "name": "train/loss", "value": 0.5}]
    write_record(tmp_path / "r" / "a.parquet", ROW | {"top1": 0.9, "history": history, "correct_bits": b"\x80"})
    table = pq.read_table(tmp_path / "r" / "a.parquet")
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist()[0] | {"top1": 0.9, "history": history, "schema": 1} == table.to_pylist()[0]
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["a.parquet"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"accuracy": 1.0}, "no column 'accuracy'"),
        ({"status": "done"}, "must be one of"),
        ({"key": None}, "'key'"),
    ],
)
def test_a_wrong_row_is_refused_and_leaves_nothing(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        write_record(tmp_path / "a.parquet", ROW | change)
    assert not list(tmp_path.iterdir())


def test_a_value_of_the_wrong_type_leaves_no_file(tmp_path):
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        write_record(tmp_path / "a.parquet", ROW | {"top1": "high"})
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_counted_and_named_and_the_rest_is_read(tmp_path):
    folder = synthetic.ablation(tmp_path, seeds=(0, 1), orders=["none", "1"])
    records = folder / "records"
    good = len(list(records.iterdir()))
    whole = next(records.iterdir()).read_bytes()
    (records / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (records / "empty.parquet").write_bytes(b"")
    (records / "half.parquet.part").write_bytes(b"x")
    pq.write_table(pa.table({"a": [1]}), records / "foreign.parquet")
    row = {field.name: None for field in SCHEMA} | ROW | {"schema": 1, "key": "typed"}
    typed = pa.Table.from_pylist([row], schema=SCHEMA)
    place = SCHEMA.get_field_index("top1")
    pq.write_table(typed.set_column(place, "top1", pa.array([1], pa.int64())), records / "typed.parquet")
    newer = pa.Table.from_pylist([row | {"schema": 2, "key": "newer"}], schema=SCHEMA)
    pq.write_table(newer, records / "newer.parquet")
    extra = pa.Table.from_pylist([row | {"key": "extra"}], schema=SCHEMA).append_column("mood", pa.array(["good"]))
    pq.write_table(extra, records / "extra.parquet")
    data = load_run(folder)
    assert set(data.unreadable) == {f"{n}.parquet" for n in ("cut", "empty", "foreign", "typed", "newer")}
    assert data.odd == {"extra.parquet": "extra columns left out: mood"}
    assert (data.files_listed, data.files_read, data.records.height) == (good + 6, good + 1, good + 1)
    assert "int64" in data.unreadable["typed.parquet"] and "schema 2" in data.unreadable["newer.parquet"]


def test_sound_records_are_read_at_once_and_equal_those_read_one_by_one(tmp_path, monkeypatch):
    folder = synthetic.ablation(tmp_path, seeds=(0, 1), orders=["none", "1"], failed=[("1", 1)])
    one_by_one = load._read_record
    monkeypatch.setattr(load, "_read_record", None)  # Calling it would fail.
    at_once = load_run(folder)
    monkeypatch.setattr(load, "_read_record", one_by_one)
    monkeypatch.setattr(load, "_read_all", lambda paths: None)
    assert at_once.records.height > 4
    assert at_once.records.equals(load_run(folder).records)


@pytest.mark.parametrize("change", [{"schema": 2}, {"key": "again"}, {"rows": 2}, {"rows": 0}])
def test_one_odd_record_makes_all_be_read_one_by_one(tmp_path, change):
    row = {field.name: None for field in SCHEMA} | ROW | {"schema": 1, "key": "again"}
    odd = row | {"key": "odd"} | {name: value for name, value in change.items() if name != "rows"}
    sound = pa.Table.from_pylist([row], schema=SCHEMA)
    pq.write_table(sound, tmp_path / "a.parquet")
    rows = [odd | {"key": f"odd {number}"} for number in range(change["rows"])] if "rows" in change else [odd]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "b.parquet")
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    if change == {"rows": 2}:  # As many rows as files, but not one in each.
        pq.write_table(sound.slice(0, 0), tmp_path / "a.parquet")
    assert load._read_all(paths) is None


def test_a_trial_is_failed_when_its_student_failed_and_missing_when_not_there_yet(tmp_path):
    folder = synthetic.ablation(tmp_path, seeds=(0, 1), orders=["none", "1"], missing=[("1", 0)], failed=[("1", 1)])
    rows = {(row["cell"], row["seed"]): row for row in trial_table(load_run(folder)).iter_rows(named=True)}
    assert rows["1", 0]["status"] == "missing"
    assert (rows["1", 1]["status"], rows["1", 1]["failed_stage"]) == ("failed", "student")
    assert rows["none", 0]["status"] == "completed" and rows["none", 0]["teacher_validation_score"] == 0.93


def test_kept_outputs_that_failed_explain_the_trial_and_their_time_is_counted(tmp_path):
    folder = synthetic.ablation(tmp_path, seeds=(0,), orders=["none", "1"], missing=[("1", 0)])
    run = json.loads((folder / "run.json").read_text())
    (trial,) = (trial for trial in run["trials"] if trial["cell"] == "1")
    trial["stages"] |= {"outputs-student-0": "base", "outputs-student-1": "shard"}
    synthetic.save(folder, run)
    synthetic.write(folder, "outputs", "base", cells=["1"], cpu_seconds=3.0)
    synthetic.write(folder, "outputs", "shard", cells=["1"], cpu_seconds=5.0, status="failed", error="disk full")
    data = load_run(folder)
    (row,) = trial_table(data).filter(pl.col("cell") == "1").iter_rows(named=True)
    assert (row["status"], row["failed_stage"], row["error"]) == ("failed", "outputs", "disk full")
    costs = cost_by_stage(data.records.lazy()).collect()
    assert costs["stage"].to_list() == ["teacher", "outputs", "student", "evaluation"]
    assert costs.filter(pl.col("stage") == "outputs")["cpu_seconds"].item() == 8.0


def test_a_score_that_is_no_number_is_a_failure(tmp_path):
    folder = synthetic.ablation(tmp_path, seeds=(0,), orders=["none"], score=lambda orders, noise: float("nan"))
    row = trial_table(load_run(folder)).row(0, named=True)
    assert (row["status"], row["score"], row["error_type"]) == ("failed", None, "NonFinite")


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_a_folder_without_a_readable_run_says_so(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(NothingToReport, match=r"run\.json"):
        load_run(tmp_path)


def test_reading_records_imports_no_heavy_library():
    heavy = "('scipy', 'matplotlib', 'seaborn', 'torch', 'ray', 'optuna', 'pandas')"
    code = f"import analysis.records, analysis.load, sys; assert not [m for m in {heavy} if m in sys.modules]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_records_of_the_first_release_are_read_without_a_remark(tmp_path):
    folder = synthetic.ablation(tmp_path, seeds=(0, 1), orders=["none", "1"])
    for path in (folder / "records").iterdir():
        pq.write_table(pq.read_table(path).drop_columns(list(LATER)), path)
    data = load_run(folder)
    assert not data.odd and not data.unreadable
    rows = trial_table(data)
    assert rows["score"].null_count() == 0 and rows["validation_score"].null_count() == 0
    assert set(rows["metric"]) == {"top1"}


def test_a_trial_tells_of_the_network_that_was_evaluated(tmp_path):
    folder = synthetic.methods(tmp_path, seeds=(0,), sides=(16,), arms=["teacher", "ce", "horkd", "pixels"])
    rows = {row["arm"]: row for row in trial_table(load_run(folder)).iter_rows(named=True)}
    assert {arm: row["resolution"] for arm, row in rows.items()} == {"teacher": 32, "ce": 16, "horkd": 16, "pixels": 32}
    assert rows["teacher"]["train_seconds"] == 40.0 and rows["horkd"]["train_seconds"] == 12.0
    assert rows["horkd"]["epochs"] == 6 and rows["horkd"]["macs"] == 250_000 and rows["pixels"]["epochs"] == 0
    assert rows["ce"]["teacher"] is None and rows["horkd"]["teacher_validation_score"] == 0.82


def test_a_pruned_trial_has_the_validation_score_it_reported_last_whatever_the_metric(tmp_path):
    history = [{"epoch": e, "name": "validation/recall_at_1", "value": 0.1 * e} for e in (1, 2)]
    synthetic.write(tmp_path, "student", "s", status="pruned", history=history, cells=["c"], seed=0)
    trials = [{"cell": "c", "seed": 0, "stages": {"student": "s", "evaluation": "e"}}]
    synthetic.save(tmp_path, {"metric": "top1", "cells": [{"id": "c", "parameters": {}}], "trials": trials})
    row = trial_table(load_run(tmp_path)).row(0, named=True)
    assert (row["status"], row["validation_score"]) == ("pruned", 0.2)


@pytest.mark.parametrize("text", ["", "[1]", "{", None])
def test_damaged_json_in_a_column_is_an_empty_object(text):
    assert as_object(text) == {}
