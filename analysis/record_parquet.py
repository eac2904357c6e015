"""Reads records as Parquet: the columns that are asked for, of many files at once or of one with every check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from analysis.records import COLUMNS, LATER, LONG, SCHEMA_VERSION, schema
from system import regular_files

RECORD_BYTES = 64 << 20  # A hundred thousand logged numbers take about one MiB.
_NUMBER = pl.Struct({"epoch": pl.Int32, "name": pl.String, "value": pl.Float64})
_TYPES: dict[str, Any] = {
    "int32": pl.Int32,
    "int64": pl.Int64,
    "float64": pl.Float64,
    "text": pl.String,
    "texts": pl.List(pl.String),
    "bytes": pl.Binary,
    "history": pl.List(_NUMBER),
}
WHOLE: dict[str, Any] = {item.name: _TYPES[item.kind] for item in COLUMNS}
SHORT = {name: kind for name, kind in WHOLE.items() if name not in LONG}
_PATH = "path of the record"  # No column of a record is called so.


def empty(columns: Iterable[str]) -> pl.DataFrame:
    return pl.DataFrame(schema={name: WHOLE[name] for name in columns})


def scan(paths: Sequence[Path], columns: Sequence[str]) -> pl.DataFrame | None:
    """Columns of records of any version, several times faster than one by one; None where one is not as it should be.

    Then they are read one by one, which tells what is wrong with which.
    """
    if not paths:
        return empty(columns)
    required = ("schema", "key", "stage")
    try:
        for path in paths:
            regular_files.check(path)
        frame = (
            pl.scan_parquet(
                list(paths),
                schema=WHOLE,
                glob=False,
                missing_columns="raise",
                extra_columns="raise",
                include_file_paths=_PATH,
            )
            .select(list(dict.fromkeys((*columns, *required, _PATH))))
            .collect()
        )
    except (OSError, TypeError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None  # Some damage makes Polars panic, and a name that is no text is no path to it.
    one_each = frame.height == len(paths) == frame[_PATH].n_unique()
    known = frame["schema"].eq(SCHEMA_VERSION).all() and not frame["key"].has_nulls() and not frame["stage"].has_nulls()
    return frame.select(columns) if one_each and known else None


def read_one(path: Path) -> tuple[pl.DataFrame, str]:
    """The row of one file with exactly the columns of SHORT, and a remark or ''."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if regular_files.check(path, most=RECORD_BYTES).st_size == 0:
        raise ValueError("the file is empty")
    due = schema()
    with pq.ParquetFile(path) as file:
        names = set(file.schema_arrow.names)
        if lacking := sorted(item.name for item in COLUMNS if item.required and item.name not in names):
            raise ValueError(f"not a record: it has no column {', '.join(lacking)}")
        if file.metadata.num_rows != 1:
            raise ValueError(f"a record has one row, but this file has {file.metadata.num_rows}")
        table = file.read(columns=[name for name in due.names if name in names], use_threads=False)
    version = table["schema"][0].as_py()
    if version != SCHEMA_VERSION:
        raise ValueError(f"it is of schema {version}, and this version reads schema {SCHEMA_VERSION}")
    columns = []
    for item in due:
        if item.name not in names:
            columns.append(pa.nulls(1, item.type))
            continue
        column = table[item.name]
        # The names inside a list ("item", "element") depend on the writer and carry no meaning.
        if not _same_type(column.type, item.type):
            raise ValueError(f"column {item.name} has type {column.type}, but {item.type} is due")
        columns.append(column.cast(item.type))
    remarks = []
    if extra := sorted(names - set(WHOLE)):
        remarks.append(f"extra columns left out: {', '.join(extra)}")
    if absent := [name for name in WHOLE if name not in names and name not in LATER]:
        remarks.append(f"columns missing, taken as null: {', '.join(absent)}")
    frame = pl.from_arrow(pa.Table.from_arrays(columns, schema=due).select(list(SHORT)))
    assert isinstance(frame, pl.DataFrame)
    if any(frame[name].item() is None for name in ("key", "stage", "status")):
        raise ValueError("not a record: key, stage or status is null")
    return frame, "; ".join(remarks)


def _same_type(got: Any, due: Any) -> bool:
    """Whether two Arrow types are the same but for the names inside a list."""
    import pyarrow as pa

    if pa.types.is_null(got):
        return True
    if pa.types.is_list(due):
        return pa.types.is_list(got) and _same_type(got.value_type, due.value_type)
    return bool(got.equals(due))
