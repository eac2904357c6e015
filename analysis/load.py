"""Reads a run's folder: `run.json`, the records, and one row per trial made from both.

A run may still be going on, so every file that cannot be read is counted and named, and none stops the
reading.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import NothingToReport
from analysis.records import RECORDS_FOLDER, RUN_FILE, SCHEMA, SCHEMA_VERSION, STAGES

TRIAL_SCHEMA: dict[str, Any] = {
    "cell": pl.String,
    "label": pl.String,
    "orders": pl.String,
    "seed": pl.Int64,
    "status": pl.String,
    "failed_stage": pl.String,
    "top1": pl.Float64,
    "validation_top1": pl.Float64,
    "correct": pl.Int64,
    "items": pl.Int64,
    "teacher": pl.String,
    "teacher_validation_top1": pl.Float64,
    "data": pl.String,
    "numerics": pl.String,
    "key": pl.String,
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
        raise NothingToReport(
            f"{RUN_FILE} of '{folder.name}' must hold an object, but holds {type(run).__name__}."
        )
    paths = sorted((folder / RECORDS_FOLDER).glob("*.parquet"))
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
    if absent := [item.name for item in SCHEMA if item.name not in names]:
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
    `top1` is null unless completed; `validation_top1` of a pruned trial is the last one it reported. Rows
    follow the cells' order, then the seed.
    """
    records = {row["key"]: row for row in data.records.drop("correct_bits").iter_rows(named=True)}
    cells = {row["cell"]: row for row in cell_table(data.run).iter_rows(named=True)}
    rows = [_trial_row(trial, records, cells) for trial in _trials(data)]
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


def _trial_row(
    trial: Mapping[str, Any], records: Mapping[str, Mapping[str, Any]], cells: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    stages: Mapping[str, str] = trial.get("stages") or {}
    cell = str(trial["cell"])
    known = cells.get(cell, {})
    evaluation = records.get(stages.get("evaluation", ""), {})
    row: dict[str, Any] = dict.fromkeys(TRIAL_SCHEMA)
    row.update(cell=cell, label=known.get("label", cell), seed=int(trial["seed"]), status="missing")
    # What does not vary names no cell: orders that are the same everywhere are not shown as its name.
    row["orders"] = known.get("orders") if cell in cells else evaluation.get("orders")
    row["teacher"] = evaluation.get("teacher") or stages.get("teacher")
    row["teacher_validation_top1"] = _finite(records.get(row["teacher"] or "", {}).get("validation_top1"))
    row["key"] = stages.get("evaluation")
    chain = [records[stages[stage]] for stage in STAGES if stages.get(stage) in records]
    bad = [item for item in chain if item["status"] != "completed"]
    if bad:
        # The last pruned or first failed stage explains the trial; what follows it never started.
        first = bad[0]
        row.update(status="pruned" if first["status"] == "pruned" else "failed", failed_stage=first["stage"])
        row.update({name: first[name] for name in ("error", "error_type", "log")})
        if row["status"] == "pruned":
            row["validation_top1"] = _last_validation(first)
    elif evaluation:
        names = ("validation_top1", "correct", "items", "data", "numerics", "log")
        row.update({name: evaluation[name] for name in names})
        row["validation_top1"] = _finite(row["validation_top1"])
        if row["validation_top1"] is None:
            student = records.get(stages.get("student", ""), {})
            row["validation_top1"] = _finite(student.get("validation_top1"))
        row["top1"] = _finite(evaluation["top1"])
        row["status"] = "completed"
        if row["top1"] is None:
            row.update(status="failed", failed_stage="evaluation", error_type="NonFinite")
            row["error"] = f"The test accuracy is {evaluation['top1']}, not a number."
    return row


def _last_validation(record: Mapping[str, Any]) -> float | None:
    if (value := _finite(record["validation_top1"])) is not None:
        return value
    seen = [
        (item["epoch"], item["value"])
        for item in record["history"] or []
        if item["name"] == "validation/top1"
    ]
    return _finite(max(seen)[1]) if seen else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
