import io
import json
import os
import struct
import subprocess
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic

from analysis import record_files, record_parquet, seal
from analysis.errors import NothingToReport
from analysis.frames.roles import roles_of
from analysis.load import as_object, load_run, trial_table
from analysis.records import LATER, SCHEMA, write_record
from analysis.report.tables import cost_by_stage

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


def unsealed(folder):
    """The records as earlier versions wrote them: without the row in short and without a checksum."""
    for path in (folder / "records").iterdir():
        pq.write_table(pq.read_table(path), path)
    return folder


def test_records_of_earlier_versions_are_read_at_once_and_as_those_of_today(tmp_path, monkeypatch):
    folder = synthetic.ablation(tmp_path, seeds=(0, 1), orders=["none", "1"], failed=[("1", 1)])
    today = load_run(folder)
    assert today.records.height > 4
    unsealed(folder)
    one_by_one = record_parquet.read_one
    monkeypatch.setattr(record_parquet, "read_one", None)  # Calling it would fail.
    assert load_run(folder).records.equals(today.records)
    monkeypatch.setattr(record_parquet, "read_one", one_by_one)
    monkeypatch.setattr(record_parquet, "scan", lambda paths, columns: None)
    again = load_run(folder)
    assert again.records.equals(today.records) and again.files == today.files


@pytest.mark.parametrize("change", [{"schema": 2}, {"key": "again"}, {"rows": 2}, {"rows": 0}])
def test_one_odd_record_is_told_from_the_others(tmp_path, change):
    row = {field.name: None for field in SCHEMA} | ROW | {"schema": 1, "key": "again"}
    odd = row | {"key": "odd"} | {name: value for name, value in change.items() if name != "rows"}
    pq.write_table(pa.Table.from_pylist([row], schema=SCHEMA), tmp_path / "a.parquet")
    rows = [odd | {"key": f"odd {number}"} for number in range(change["rows"])] if "rows" in change else [odd]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "b.parquet")
    found = record_files.read_all(tmp_path, ["a.parquet", "b.parquet"])
    assert found.frame["key"].to_list() == ["again"] and found.files == {"again": "a.parquet"}
    assert set(found.odd if change == {"key": "again"} else found.unreadable) == {"b.parquet"}


def test_of_two_records_of_a_stage_the_completed_one_counts(tmp_path):
    write_record(tmp_path / "a.parquet", ROW | {"status": "failed", "error": "lost"})
    write_record(tmp_path / "b.parquet", ROW | {"top1": 0.5})
    write_record(tmp_path / "c.parquet", ROW | {"top1": 0.75})
    found = record_files.read_all(tmp_path, ["a.parquet", "b.parquet", "c.parquet"])
    assert found.frame["top1"].to_list() == [0.5] and found.files == {"k": "b.parquet"}
    assert set(found.odd) == {"b.parquet", "c.parquet"}


def flipped(content, at):
    return content[: at // 8] + bytes([content[at // 8] ^ 1 << at % 8]) + content[at // 8 + 1 :]


def test_any_flipped_bit_of_a_record_is_told_or_changes_nothing(tmp_path):
    row = ROW | {"score": 0.9, "metric": "top1", "metrics": '{"score": 0.9}', "correct": 9, "items": 10}
    path = tmp_path / "k.parquet"
    write_record(path, row)
    content, before = path.read_bytes(), record_files.read_one(path)
    score = content.index(struct.pack("<d", 0.9))
    places = np.random.default_rng(0).integers(0, 8 * len(content), 300).tolist()
    told = 0
    for at in [*range(8 * score, 8 * score + 64), *places]:
        path.write_bytes(flipped(content, at))
        found = record_files.read_all(tmp_path, ["k.parquet"])
        told += bool(found.unreadable)
        if not found.unreadable:  # The bit was one of those that say that there is a checksum.
            assert record_files.read_one(path) == before
    assert told > 340


def test_a_record_whose_score_was_edited_and_written_again_is_left_out_with_both_numbers(tmp_path):
    numbers = {"score": 0.9, "metric": "top1", "correct": 9, "items": 10, "metrics": '{"score": 0.9}'}
    write_record(tmp_path / "sound.parquet", ROW | {"key": "sound"} | numbers)
    write_record(tmp_path / "share.parquet", ROW | {"key": "share"} | numbers | {"score": 0.999, "metrics": None})
    folds = numbers | {"metric": "verification_accuracy", "score": 0.89, "metrics": None}  # A mean over folds.
    write_record(tmp_path / "folds.parquet", ROW | {"key": "folds"} | folds)
    names = sorted(path.name for path in tmp_path.iterdir())
    sealed = record_files.read_all(tmp_path, names)
    for path in tmp_path.iterdir():
        pq.write_table(pq.read_table(path), path)
    for found in (sealed, record_files.read_all(tmp_path, names)):
        assert set(found.frame["key"]) == {"sound", "folds"}
        assert set(found.unreadable) == {"share.parquet"}
        assert "0.999" in found.unreadable["share.parquet"] and "9 of 10" in found.unreadable["share.parquet"]


def test_tools_read_a_record_and_one_that_writes_it_anew_leaves_no_stale_copy(tmp_path):
    path = tmp_path / "k.parquet"
    write_record(path, ROW | {"score": 0.5, "history": [{"epoch": 1, "name": "train/loss", "value": 0.5}]})
    assert pl.read_parquet(path, glob=False)["score"].item() == 0.5
    table = pq.read_table(path)
    edited = table.set_column(SCHEMA.get_field_index("score"), SCHEMA.field("score"), pa.array([0.75]))
    pq.write_table(edited, path)
    assert seal.summary(path.read_bytes()) is None
    assert record_files.read_all(tmp_path, ["k.parquet"]).frame["score"].to_list() == [0.75]


def test_foreign_files_named_like_records_are_named_and_passed_over(tmp_path):
    folder = synthetic.ablation(tmp_path, seeds=(0, 1), orders=["none", "1"])
    records = folder / "records"
    good = len(list(records.iterdir()))
    os.mkfifo(records / "fifo.parquet")
    (records / "folder.parquet").mkdir()
    (records / "device.parquet").symlink_to("/dev/zero")
    (records / "dangling.parquet").symlink_to("nowhere")
    (records / "text.parquet").write_text("PAR1 and then PAR1")
    os.close(os.open(os.fsencode(records) + b"/\xff.parquet", os.O_CREAT))
    with open(records / "huge.parquet", "wb") as file:
        file.truncate(record_parquet.RECORD_BYTES + 1)
    data = load_run(folder)
    names = {f"{name}.parquet" for name in ("fifo", "folder", "device", "dangling", "text", "huge", "\\udcff")}
    assert set(data.unreadable) == names and data.records.height == good
    assert "FIFO" in data.unreadable["fifo.parquet"] and "device" in data.unreadable["device.parquet"]


@pytest.mark.parametrize("name, value", [("correct", "9"), ("score", [1]), ("key", 5), ("seed", 2**70)])
def test_a_sealed_row_of_other_types_is_named_and_the_others_are_read(tmp_path, name, value):
    write_record(tmp_path / "a.parquet", ROW | {"key": "a", "correct": 9, "items": 10, "score": 0.9, "seed": 1})
    write_record(tmp_path / "b.parquet", ROW | {"key": "b"})
    row = seal.summary((tmp_path / "a.parquet").read_bytes()) | {name: value}
    table = pq.read_table(tmp_path / "a.parquet")
    target = io.BytesIO()
    pq.write_table(table, target)
    (tmp_path / "a.parquet").write_bytes(seal.sealed(target.getvalue(), row))
    found = record_files.read_all(tmp_path, ["a.parquet", "b.parquet"])
    assert found.frame["key"].to_list() == ["b"] and set(found.unreadable) == {"a.parquet"}


def test_histories_are_read_for_the_keys_asked_and_no_others(tmp_path, monkeypatch):
    folder = synthetic.ablation(tmp_path, seeds=(0, 1), orders=["none", "1"])
    monkeypatch.setattr(record_files, "_FILES_AT_ONCE", 2)
    data = load_run(folder)
    assert "history" not in data.records.columns and "correct_bits" not in data.records.columns
    students = data.records.filter(pl.col("stage") == "student")["key"].to_list()
    (folder / "records" / data.files[students[0]]).unlink()  # Gone since.
    parts = list(data.histories([*students, "unknown"]))
    assert len(parts) == 2
    assert sorted(key for part in parts for key in part["key"]) == sorted(students[1:])
    assert {len(history) for part in parts for history in part["history"]} == {12, 24}


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
    costs = cost_by_stage(data.records.lazy(), roles_of(data.run)).collect()
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
    assert rows["teacher"]["train_seconds"] == 11.0 and rows["horkd"]["train_seconds"] == 11.0
    assert {row["train_clock"] for row in rows.values()} == {"CPU"}
    assert rows["horkd"]["epochs"] == 6 and rows["horkd"]["macs"] == 250_000 and rows["pixels"]["epochs"] == 0
    assert rows["ce"]["teacher"] is None and rows["horkd"]["teacher_validation_score"] == 0.82


@pytest.mark.parametrize("changes", [{"cpu_seconds": None}, {"device": "cuda:0"}])
def test_trainings_are_told_by_wall_time_on_gpus_and_where_one_tells_no_cpu_time(tmp_path, changes):
    folder = synthetic.methods(tmp_path, seeds=(0,), sides=(16,), arms=["teacher", "ce", "horkd", "pixels"])
    synthetic.write(folder, "student", "n-horkd-16-0", seconds=60.0, cells=["horkd-16"], seed=0, **changes)
    rows = {row["arm"]: row for row in trial_table(load_run(folder)).iter_rows(named=True)}
    assert {row["train_clock"] for row in rows.values()} == {"wall"}
    assert (rows["teacher"]["train_seconds"], rows["horkd"]["train_seconds"]) == (40.0, 60.0)


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
