"""What runs write and what analysis reads: one Parquet file with one row per finished stage.

How the file carries its row once more, and its checksum, is in `analysis.seal`.
"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analysis import seal

SCHEMA_VERSION = 1  # Raise when a column changes its meaning or type; adding a nullable column does not.

# "untrained" is a network as it was drawn, or raw pixels: a floor for the trained ones; "outputs" are those kept of a guide.
STAGES = ("teacher", "untrained", "assistant", "outputs", "student", "evaluation")
STATUSES = ("completed", "failed", "pruned", "unrunnable")
ORDER_TERMS = ("point", "pair", "angle", "center")  # HORKD's orders 1, 2, 3 and C, as `history` spells them.
LOSS_TERMS = (
    *ORDER_TERMS,
    *("kd", "fitnet", "at", "rkd_distance", "rkd_angle", "pkt", "sp", "darkrank"),
    *("mkd_absolute", "mkd_relative", "crd", "triplet"),
)
LATER = ("task", "metric", "score", "validation_score", "metrics", "macs")  # Records of the first release lack them.
RECORDS_FOLDER = "records"
RUN_FILE = "run.json"

HISTORY = pa.list_(
    pa.struct([pa.field("epoch", pa.int32()), pa.field("name", pa.string()), pa.field("value", pa.float64())])
)

SCHEMA = pa.schema(
    [
        pa.field("schema", pa.int32(), nullable=False),
        pa.field("run", pa.string()),
        pa.field("study", pa.string()),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("parents", pa.list_(pa.string())),
        pa.field("cells", pa.list_(pa.string())),  # Ids of the cells that use this stage.
        pa.field("seed", pa.int64()),  # Null for a stage shared by several seeds.
        pa.field("status", pa.string(), nullable=False),
        pa.field("parameters", pa.string()),  # JSON object of the stage's spec, dotted names.
        pa.field("orders", pa.string()),
        pa.field("task", pa.string()),
        pa.field("metric", pa.string()),  # What `score` is: top1, verification_accuracy, recall_at_1.
        pa.field("score", pa.float64()),  # Evaluation stages: the primary metric on the test split, a fraction.
        pa.field("validation_score", pa.float64()),
        pa.field("metrics", pa.string()),  # JSON object of every number of the evaluation.
        pa.field("top1", pa.float64()),  # Evaluation stages: test accuracy, a fraction.
        pa.field("validation_top1", pa.float64()),
        pa.field("train_top1", pa.float64()),
        pa.field("correct", pa.int64()),
        pa.field("items", pa.int64()),
        pa.field("correct_bits", pa.binary()),  # One bit per test item, in the order of np.packbits.
        pa.field("epochs", pa.int32()),
        pa.field("seconds", pa.float64()),
        pa.field("cpu_seconds", pa.float64()),
        pa.field("device", pa.string()),
        pa.field("host", pa.string()),
        pa.field("numerics", pa.string()),
        pa.field("data", pa.string()),  # Fingerprint of the packed data.
        pa.field("data_name", pa.string()),
        pa.field("parameters_count", pa.int64()),
        pa.field("macs", pa.int64()),  # Multiply-adds of one forward pass of one image.
        pa.field("embedding_spread", pa.float64()),
        pa.field("teacher", pa.string()),  # Key of the teacher the chain hangs from.
        pa.field("error", pa.string()),
        pa.field("error_type", pa.string()),
        pa.field("log", pa.string()),
        pa.field("history", HISTORY),
    ]
)


def write_record(path: Path, row: Mapping[str, Any]) -> None:
    """Write one stage's row, aside first and then renamed, so that a reader sees the whole file or none.

    Args:
        path: Where the file appears; its folder is made when missing.
        row: Values by column; columns left out are null, `schema` is filled in.

    Raises:
        ValueError: If a column is unknown, a required one is missing, or stage or status is not a known word.
        pyarrow.ArrowInvalid, pyarrow.ArrowTypeError: If a value does not fit its column.
    """
    if unknown := sorted(set(row) - set(SCHEMA.names)):
        raise ValueError(
            f"A record has no column {', '.join(map(repr, unknown))}. Its columns are in {__name__}.SCHEMA."
        )
    filled = {"schema": SCHEMA_VERSION, **row}
    if missing := [field.name for field in SCHEMA if not field.nullable and filled.get(field.name) is None]:
        raise ValueError(f"A record needs a value for {', '.join(map(repr, missing))}, but got none.")
    for column, allowed in (("stage", STAGES), ("status", STATUSES)):
        if filled[column] not in allowed:
            raise ValueError(f"`{column}` must be one of {', '.join(allowed)}, but got {filled[column]!r}.")
    table = pa.Table.from_pylist([{name: filled.get(name) for name in SCHEMA.names}], schema=SCHEMA)
    target = io.BytesIO()
    pq.write_table(table, target)
    content = seal.sealed(target.getvalue(), table.drop_columns(list(seal.LONG)).to_pylist()[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not ending in .parquet, so that a reader listing the folder meanwhile passes it over.
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
