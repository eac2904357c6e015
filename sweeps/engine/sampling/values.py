"""What a cell is worth: the mean of what its finished stages measured; and which cells were pruned."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from system import regular_files
from trainables.store.artifacts import Store


def pruned_in_records(records: Path) -> frozenset[str]:
    """Cells of which the records say that they were pruned; a record that cannot be read says nothing."""
    cells: set[str] = set()
    for path in sorted(records.glob("*.parquet")):
        with contextlib.suppress(OSError, pa.ArrowException, ValueError):
            regular_files.check(path)
            table = pq.read_table(path, columns=["cells", "status"]).to_pylist()
            cells.update(cell for row in table if row["status"] == "pruned" for cell in row["cells"] or ())
    return frozenset(cells)


def cell_value(store: Store, keys: Iterable[str], metric: str = "score") -> float | None:
    """Mean over finished training stages of a metric, or None when one has none; the score is that of validation."""
    values = []
    for key in keys:
        found = store.get(key).metrics
        # Artifacts of earlier versions know accuracy only.
        value = found.get("validation_score", found.get("validation_top1")) if metric == "score" else found.get(metric)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        values.append(float(value))
    return statistics.fmean(values) if values else None
