"""Reads a run's folder: `run.json`, the records, and one row per trial made from both.

A run may still be going on, so every file that cannot be read is counted and named, and none stops the
reading.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import NothingToReport
from analysis.records import LATER, RECORDS_FOLDER, RUN_FILE, SCHEMA, SCHEMA_VERSION, STAGES

TRIAL_SCHEMA: dict[str, Any] = {
    "cell": pl.String,
    "label": pl.String,
    "orders": pl.String,
    "seed": pl.Int64,
    "status": pl.String,
    "failed_stage": pl.String,
    "arm": pl.String,  # Null in studies without arms.
    "resolution": pl.Int64,  # Side in pixels of what the measured network reads.
    "test_resolution": pl.Int64,  # Side the test images were reduced to before that; null: only the former.
    "metric": pl.String,
    "score": pl.Float64,  # The metric on the test split, a fraction.
    "validation_score": pl.Float64,
    "metrics": pl.String,  # JSON object of every number of the evaluation.
    "correct": pl.Int64,
    "items": pl.Int64,
    "teacher": pl.String,
    "teacher_validation_score": pl.Float64,
    "macs": pl.Int64,
    "parameters_count": pl.Int64,
    "train_seconds": pl.Float64,  # Of the measured network, without its guides.
    "epochs": pl.Int64,
    "data": pl.String,
    "numerics": pl.String,
    "key": pl.String,  # Of the evaluation.
    "network": pl.String,  # Of the stage that made the measured network.
    "error": pl.String,
    "error_type": pl.String,
    "log": pl.String,
}


@dataclass(frozen=True, kw_only=True)
class RunData:
    """A run as read from disk."""

    folder: Path
    run: dict[str, Any]
    records: pl.DataFrame  # The columns of `records.SCHEMA`, one row per stage, sorted by stage and key.
    files_listed: int = 0
    files_read: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)  # File name -> why it was left out.
    odd: dict[str, str] = field(default_factory=dict)  # File name -> what was strange though it was read.


def load_run(run_folder: Path) -> RunData:
    """Read `run.json` and every record of a run.

    Raises:
        NothingToReport: If the folder has no readable `run.json`. Damaged records are named in the result
        instead.
    """
    folder = Path(run_folder)
    try:
        run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NothingToReport(
            f"'{folder.name}' has no {RUN_FILE}, so it is not a run's folder. Name a folder that a run made."
        ) from None
    except (ValueError, OSError) as error:
        raise NothingToReport(f"{RUN_FILE} of '{folder.name}' cannot be read: {error}.") from error
    if not isinstance(run, dict):
        raise NothingToReport(f"{RUN_FILE} of '{folder.name}' must hold an object, but holds {type(run).__name__}.")
    paths = sorted((folder / RECORDS_FOLDER).glob("*.parquet"))
    whole = _read_all(paths)
    if whole is not None:
        return RunData(folder=folder, run=run, records=whole, files_listed=len(paths), files_read=len(paths))
    tables: list[pa.Table] = []
    unreadable: dict[str, str] = {}
    odd: dict[str, str] = {}
    seen: dict[str, int] = {}
    for path in paths:
        try:
            table, remark = _read_record(path)
        except (OSError, ValueError, pa.ArrowException) as error:
            unreadable[path.name] = _first_line(error)
            continue
        if remark:
            odd[path.name] = remark
        key, status = table["key"][0].as_py(), table["status"][0].as_py()
        if key in seen:
            odd[path.name] = f"a second record of stage {key}; the completed one counts, else the first"
            if status == "completed" and tables[seen[key]]["status"][0].as_py() != "completed":
                tables[seen[key]] = table
            continue
        seen[key] = len(tables)
        tables.append(table)
    merged = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    frame = pl.from_arrow(merged)
    assert isinstance(frame, pl.DataFrame)
    return RunData(
        folder=folder,
        run=run,
        records=frame.sort("stage", "key"),
        files_listed=len(paths),
        files_read=len(paths) - len(unreadable),
        unreadable=unreadable,
        odd=odd,
    )


def _read_all(paths: Sequence[Path]) -> pl.DataFrame | None:
    """All records at once, several times faster than one by one; None where a single one is not as it should be.

    Then they are read one by one, which tells what is wrong with which.
    """
    empty = pl.from_arrow(SCHEMA.empty_table())
    assert isinstance(empty, pl.DataFrame)
    if not paths:
        return None
    own = "path of the record"  # No column of a record is called so.
    try:
        scan = pl.scan_parquet(
            list(paths),
            schema=empty.schema,
            glob=False,
            missing_columns="raise",
            extra_columns="raise",
            include_file_paths=own,
        )
        frame = scan.collect()
    except (OSError, pl.exceptions.PolarsError):
        return None
    one_each = frame.height == len(paths) == frame["key"].n_unique() == frame[own].n_unique()
    known = frame["schema"].eq(SCHEMA_VERSION).all() and not frame["key"].has_nulls() and not frame["stage"].has_nulls()
    frame = frame.drop(own)
    return frame.sort("stage", "key") if one_each and known else None


def _read_record(path: Path) -> tuple[pa.Table, str]:
    """The rows of one file with exactly the columns of SCHEMA, and a remark or ''."""
    if path.stat().st_size == 0:
        raise ValueError("the file is empty")
    with pq.ParquetFile(path) as file:
        table = file.read(use_threads=False)
    names = set(table.column_names)
    required = {item.name for item in SCHEMA if not item.nullable}
    if lacking := sorted(required - names):
        raise ValueError(f"not a record: it has no column {', '.join(lacking)}")
    if table.num_rows != 1:
        raise ValueError(f"a record has one row, but this file has {table.num_rows}")
    version = table["schema"][0].as_py()
    if version != SCHEMA_VERSION:
        raise ValueError(f"it is of schema {version}, and this version reads schema {SCHEMA_VERSION}")
    columns = []
    for item in SCHEMA:
        if item.name not in names:
            columns.append(pa.nulls(1, item.type))
            continue
        column = table[item.name]
        # The names inside a list ("item", "element") depend on the writer and carry no meaning.
        if not _same_type(column.type, item.type):
            raise ValueError(f"column {item.name} has type {column.type}, but {item.type} is due")
        columns.append(column.cast(item.type))
    remarks = []
    if extra := sorted(names - set(SCHEMA.names)):
        remarks.append(f"extra columns left out: {', '.join(extra)}")
    if absent := [item.name for item in SCHEMA if item.name not in names and item.name not in LATER]:
        remarks.append(f"columns missing, taken as null: {', '.join(absent)}")
    result = pa.Table.from_arrays(columns, schema=SCHEMA)
    if result["key"][0].as_py() is None or result["stage"][0].as_py() is None:
        raise ValueError("not a record: key or stage is null")
    return result, "; ".join(remarks)


def _same_type(got: pa.DataType, due: pa.DataType) -> bool:
    if pa.types.is_null(got):
        return True
    if pa.types.is_list(due):
        return pa.types.is_list(got) and _same_type(got.value_type, due.value_type)
    return bool(got.equals(due))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def orders_name(names: Mapping[str, Any]) -> str | None:
    """The name that holds the order set: `orders`, or the one ending in `.orders`; None if there is none."""
    if "orders" in names:
        return "orders"
    return next((name for name in sorted(names) if name.endswith(".orders")), None)


def cell_table(run: Mapping[str, Any]) -> pl.DataFrame:
    """One row per cell, in the run's order: `cell`, `label`, `orders` (or null), `parameters` (JSON)."""
    rows = []
    for cell in run.get("cells") or []:
        parameters = cell.get("parameters") or {}
        name = orders_name(parameters)
        orders = None if name is None or parameters[name] is None else str(parameters[name])
        label = str(cell.get("label") or orders or cell["id"])
        rows.append((str(cell["id"]), label, orders, json.dumps(parameters, sort_keys=True)))
    schema = {"cell": pl.String, "label": pl.String, "orders": pl.String, "parameters": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def trial_table(data: RunData) -> pl.DataFrame:
    """One row per trial (cell and seed) the run asks for, with the columns of TRIAL_SCHEMA.

    `status` is `completed`, `failed` (also when an earlier stage of its chain failed, or the score is not
    finite), `pruned` (with all seeds of its cell that had not finished), or `missing` (not finished yet).
    `score` is null unless completed; `validation_score` of a pruned trial is the last one it reported. Rows
    follow the cells' order, then the seed.
    """
    records = {row["key"]: row for row in data.records.drop("correct_bits").iter_rows(named=True)}
    cells = {row["cell"]: row for row in cell_table(data.run).iter_rows(named=True)}
    rows = [_trial_row(trial, records, cells, data.run) for trial in _trials(data)]
    # The other seeds of a pruned cell never start; they are not still to come.
    pruned = {row["cell"] for row in rows if row["status"] == "pruned"}
    for row in rows:
        if row["status"] == "missing" and row["cell"] in pruned:
            row["status"] = "pruned"
    position = {cell: index for index, cell in enumerate(cells)}
    rows.sort(key=lambda row: (position.get(row["cell"], len(position)), row["cell"], row["seed"]))
    return pl.DataFrame(rows, schema=TRIAL_SCHEMA, orient="row")


def _trials(data: RunData) -> list[dict[str, Any]]:
    """What `run.json` lists; a run that lists none is read back from its evaluation records."""
    listed = data.run.get("trials")
    if listed:
        return list(listed)
    found = []
    for row in data.records.filter(pl.col("stage") == "evaluation").iter_rows(named=True):
        for cell in row["cells"] or []:
            found.append({"cell": cell, "seed": row["seed"] or 0, "stages": {"evaluation": row["key"]}})
    return found


Row = Mapping[str, Any]
_PLACE = {stage: place for place, stage in enumerate(STAGES)}


def _trial_row(trial: Row, records: Mapping[str, Row], cells: Mapping[str, Row], run: Row) -> dict[str, Any]:
    stages: Mapping[str, str] = trial.get("stages") or {}
    cell = str(trial["cell"])
    known = cells.get(cell, {})
    point = as_object(known.get("parameters"))
    evaluation = records.get(stages.get("evaluation", ""), {})
    measured = _measured(stages, evaluation, records)
    row: dict[str, Any] = dict.fromkeys(TRIAL_SCHEMA)
    row.update(cell=cell, label=known.get("label", cell), seed=int(trial["seed"]), status="missing")
    # What does not vary names no cell: orders that are the same everywhere are not shown as its name.
    row["orders"] = known.get("orders") if cell in cells else evaluation.get("orders")
    row["arm"] = None if point.get("arm") is None else str(point["arm"])
    row["resolution"], row["test_resolution"] = _sides(evaluation, point, run)
    row["metric"] = evaluation.get("metric") or run.get("metric")
    row["teacher"] = evaluation.get("teacher") or stages.get("teacher")
    row["teacher_validation_score"] = _validation(records.get(row["teacher"] or "", {}))
    row["key"], row["network"] = stages.get("evaluation"), measured.get("key")
    for name in ("macs", "parameters_count"):
        row[name] = evaluation.get(name) if evaluation.get(name) is not None else measured.get(name)
    row["train_seconds"], row["epochs"] = _finite(measured.get("seconds")), measured.get("epochs")
    # By the record's own word: several parts of kept outputs are one kind of stage.
    known_stages = (records[key] for key in stages.values() if key in records)
    chain = sorted(known_stages, key=lambda row: _PLACE.get(row["stage"], len(_PLACE)))
    bad = [item for item in chain if item["status"] != "completed"]
    if bad:
        # The last pruned or first failed stage explains the trial; what follows it never started.
        first = bad[0]
        row.update(status="pruned" if first["status"] == "pruned" else "failed", failed_stage=first["stage"])
        row.update({name: first[name] for name in ("error", "error_type", "log")})
        if row["status"] == "pruned":
            row["validation_score"] = _last_validation(first, str(row["metric"]))
    elif evaluation:
        names = ("correct", "items", "data", "numerics", "log", "metrics")
        row.update({name: evaluation[name] for name in names})
        row["validation_score"] = _first(_validation(evaluation), _validation(measured))
        given = evaluation["top1"] if evaluation["score"] is None else evaluation["score"]
        row["score"] = _finite(given)
        row["status"] = "completed"
        if row["score"] is None:
            row.update(status="failed", failed_stage="evaluation", error_type="NonFinite")
            row["error"] = f"The test score ({row['metric'] or 'top1'}) is {given}, not a number."
    return row


def _measured(stages: Mapping[str, str], evaluation: Row, records: Mapping[str, Row]) -> Row:
    """The record of the network that was evaluated, or of the last one trained; empty if there is none."""
    trained = [stages[name] for name in reversed(STAGES) if name in stages and name != "evaluation"]
    keys = [*(evaluation.get("parents") or ()), *trained]
    return next((records[key] for key in keys if key in records), {})


def native_side(run: Row) -> int | None:
    """The shorter side of the data set's images, in pixels."""
    data = run.get("data") or {}
    sides = [data[name] for name in ("height", "width") if isinstance(data.get(name), int)]
    return min(sides) if sides else None


def _sides(evaluation: Row, point: Row, run: Row) -> tuple[int | None, int | None]:
    """Side the network reads and side the test images were reduced to before; the record knows, else the cell."""
    spec = as_object(evaluation.get("parameters"))
    own = spec.get("resolution")
    if "resolution" not in spec:
        # The network's own comes after those of its guides, which a grid may vary too.
        last = sorted(
            (name for name in point if name.split(".")[-1] == "resolution"),
            key=lambda name: (name.startswith("assistant."), name.startswith("teacher."), name),
        )
        own = point[last[0]] if last else None
    tested = spec.get("test_resolution")
    if tested is None:
        tested = next((point[name] for name in sorted(point) if name.split(".")[-1] == "test_resolution"), None)
    own = native_side(run) if own is None else own
    return _whole(own), _whole(tested)


def as_object(text: str | None) -> dict[str, Any]:
    """The JSON object in a column; empty when there is none or it is damaged."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _validation(record: Row) -> float | None:
    return _first(_finite(record.get("validation_score")), _finite(record.get("validation_top1")))


def _last_validation(record: Row, metric: str) -> float | None:
    if (value := _validation(record)) is not None:
        return value
    history = record["history"] or []
    name = validation_name({item["name"] for item in history}, metric)
    seen = [(item["epoch"], item["value"]) for item in history if item["name"] == name]
    return _finite(max(seen)[1]) if seen else None


def validation_name(names: Collection[str], metric: str) -> str | None:
    """Which column of a history is the validation score: the metric's own, else the one the task has there."""
    wanted = ("score", metric, "recall_at_1", "verification_accuracy", "top1")
    return next((name for word in wanted if (name := f"validation/{word}") in names), None)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
