import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic

from analysis.errors import NothingToReport
from analysis.load import load_run, trial_table
from analysis.records import SCHEMA, write_record

ROW = {"stage": "evaluation", "key": "k", "status": "completed"}


def test_a_record_reads_back_as_written(tmp_path):
    history = [{"epoch": 1, "name": "train/loss", "value": 0.5}]
    write_record(
        tmp_path / "r" / "a.parquet", ROW | {"top1": 0.9, "history": history, "correct_bits": b"\x80"}
    )
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
    extra = pa.Table.from_pylist([row | {"key": "extra"}], schema=SCHEMA).append_column(
        "mood", pa.array(["good"])
    )
    pq.write_table(extra, records / "extra.parquet")
    data = load_run(folder)
    assert set(data.unreadable) == {f"{n}.parquet" for n in ("cut", "empty", "foreign", "typed", "newer")}
    assert data.odd == {"extra.parquet": "extra columns left out: mood"}
    assert (data.files_listed, data.files_read, data.records.height) == (good + 6, good + 1, good + 1)
    assert "int64" in data.unreadable["typed.parquet"] and "schema 2" in data.unreadable["newer.parquet"]


def test_a_trial_is_failed_when_its_student_failed_and_missing_when_not_there_yet(tmp_path):
    folder = synthetic.ablation(
        tmp_path, seeds=(0, 1), orders=["none", "1"], missing=[("1", 0)], failed=[("1", 1)]
    )
    rows = {(row["cell"], row["seed"]): row for row in trial_table(load_run(folder)).iter_rows(named=True)}
    assert rows["1", 0]["status"] == "missing"
    assert (rows["1", 1]["status"], rows["1", 1]["failed_stage"]) == ("failed", "student")
    assert rows["none", 0]["status"] == "completed" and rows["none", 0]["teacher_validation_top1"] == 0.93


def test_a_score_that_is_no_number_is_a_failure(tmp_path):
    folder = synthetic.ablation(
        tmp_path, seeds=(0,), orders=["none"], score=lambda orders, noise: float("nan")
    )
    row = trial_table(load_run(folder)).row(0, named=True)
    assert (row["status"], row["top1"], row["error_type"]) == ("failed", None, "NonFinite")


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
