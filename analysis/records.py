"""What runs write and what analysis reads: one Parquet file with one row per finished stage.

Arrow is imported by who asks for `SCHEMA` or writes: its import and buffers would take a third of the memory of a
report of many trials, which reads the rows in short. How a file carries them, and its checksum, is in `analysis.seal`.
"""

from __future__ import annotations

import functools
import io
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis import seal

if TYPE_CHECKING:
    import pyarrow as pa

    SCHEMA: pa.Schema

SCHEMA_VERSION = 1  # Raise when a column changes its meaning or type; adding a nullable column does not.

# The two words of `stage` that are no recipe's: what reads the test split, and what is kept of a frozen teacher's outputs.
EVALUATION, OUTPUTS = "evaluation", "outputs"
STATUSES = ("completed", "failed", "pruned", "unrunnable")
LATER = ("task", "metric", "score", "validation_score", "metrics", "macs")  # Records of the first release lack them.
RECORDS_FOLDER = "records"
RUN_FILE = "run.json"


class Column(NamedTuple):
    """A column: its name, what it holds, and whether every record has a value there."""

    name: str
    kind: str  # int32, int64, float64, text, texts (a list of them), bytes, or history.
    required: bool = False


COLUMNS = (
    Column("schema", "int32", required=True),
    Column("run", "text"),
    Column("study", "text"),
    Column("stage", "text", required=True),
    Column("key", "text", required=True),
    Column("parents", "texts"),
    Column("cells", "texts"),  # Ids of the cells that use this stage.
    Column("seed", "int64"),  # Null for a stage shared by several seeds.
    Column("status", "text", required=True),
    Column("parameters", "text"),  # JSON object of the stage's spec, dotted names.
    Column("orders", "text"),
    Column("task", "text"),
    Column("metric", "text"),  # What `score` is: top1, verification_accuracy, recall_at_1.
    Column("score", "float64"),  # Evaluation stages: the primary metric on the test split, a fraction.
    Column("validation_score", "float64"),
    Column("metrics", "text"),  # JSON object of every number of the evaluation.
    Column("top1", "float64"),  # Evaluation stages: test accuracy, a fraction.
    Column("validation_top1", "float64"),
    Column("train_top1", "float64"),
    Column("correct", "int64"),
    Column("items", "int64"),
    Column("correct_bits", "bytes"),  # One bit per test item, in the order of np.packbits.
    Column("epochs", "int32"),
    Column("seconds", "float64"),
    Column("cpu_seconds", "float64"),
    Column("device", "text"),
    Column("host", "text"),
    Column("numerics", "text"),
    Column("data", "text"),  # Fingerprint of the packed data.
    Column("data_name", "text"),
    Column("parameters_count", "int64"),
    Column("macs", "int64"),  # Multiply-adds of one forward pass of one image.
    Column("embedding_spread", "float64"),
    Column("teacher", "text"),  # Key of the teacher the chain hangs from.
    Column("error", "text"),
    Column("error_type", "text"),
    Column("log", "text"),
    Column("history", "history"),
)
LONG = ("history", "correct_bits")  # What reports of many trials read only where they need it.


@functools.cache
def schema() -> pa.Schema:
    """The columns as Arrow types."""
    import pyarrow as pa

    number = pa.struct([pa.field("epoch", pa.int32()), pa.field("name", pa.string()), pa.field("value", pa.float64())])
    types = {
        "int32": pa.int32(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "bytes": pa.binary(),
        "history": pa.list_(number),
    }
    return pa.schema([pa.field(item.name, types[item.kind], nullable=not item.required) for item in COLUMNS])


def __getattr__(name: str) -> Any:
    """`SCHEMA`, made when it is first asked for."""
    if name == "SCHEMA":
        return schema()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def write_record(path: Path, row: Mapping[str, Any]) -> None:
    """Write one stage's row, aside first and then renamed, so that a reader sees the whole file or none.

    Args:
        path: Where the file appears; its folder is made when missing.
        row: Values by column; columns left out are null, `schema` is filled in.

    Raises:
        ValueError: If a column is unknown, a required one is missing, or stage or status is not a known word.
        pyarrow.ArrowInvalid, pyarrow.ArrowTypeError: If a value does not fit its column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [item.name for item in COLUMNS]
    if unknown := sorted(set(row) - set(names)):
        raise ValueError(
            f"A record has no column {', '.join(map(repr, unknown))}. Its columns are in {__name__}.COLUMNS."
        )
    filled = {"schema": SCHEMA_VERSION, **row}
    if missing := [item.name for item in COLUMNS if item.required and filled.get(item.name) is None]:
        raise ValueError(f"A record needs a value for {', '.join(map(repr, missing))}, but got none.")
    if filled["status"] not in STATUSES:
        raise ValueError(f"`status` must be one of {', '.join(STATUSES)}, but got {filled['status']!r}.")
    table = pa.Table.from_pylist([{name: filled.get(name) for name in names}], schema=schema())
    target = io.BytesIO()
    pq.write_table(table, target)
    content = seal.sealed(target.getvalue(), table.drop_columns(list(LONG)).to_pylist()[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not ending in .parquet, so that a reader listing the folder meanwhile passes it over.
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
