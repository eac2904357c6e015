"""Which loss weights are best? Estimates for a sampled study: cells were drawn, some were pruned.

Cells are compared by their mean VALIDATION score, which the search also followed; the test score is
reported for the chosen cell only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis import statistics
from analysis.frames.measures import Measure, of_run
from analysis.frames.order_ablation import paired_gains
from analysis.statistics import Summary


@dataclass(frozen=True, kw_only=True)
class Search:
    """A sampled study: its cells with their sampled values, best first, and the chosen one's test score."""

    weights: tuple[str, ...]  # Names of the sampled numeric parameters.
    cells: pl.DataFrame  # `cell_values`.
    best: str | None
    test: Summary
    baseline: str | None
    gain: Mapping[str, Any] | None  # GAIN_SCHEMA: the chosen cell over the baseline, on the test set.
    measure: Measure


def sampled_weights(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the numeric parameters in which the run's cells differ."""
    values: dict[str, set[float]] = {}
    for cell in run.get("cells") or []:
        for name, value in (cell.get("parameters") or {}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                values.setdefault(name, set()).add(float(value))
    return tuple(sorted(name for name, seen in values.items() if len(seen) > 1))


def cell_values(trials: pl.LazyFrame, cells: pl.DataFrame, weights: tuple[str, ...]) -> pl.LazyFrame:
    """One row per cell: `cell`, `label`, `status`, `n`, `value` (validation), `low`, `high`, weights.

    `status` is `completed`, `pruned` (its `value` is what it had reached, not comparable), `failed` or
    `missing`. Completed cells come first, by falling value.
    """
    frame = trials.collect()
    rows = []
    for cell, label, parameters in cells.select("cell", "label", "parameters").iter_rows():
        own = frame.filter(pl.col("cell") == cell)
        statuses = set(own["status"])
        done = own.filter(pl.col("status") == "completed")
        # The scout of a pruned cell is pruned, and its other seeds never started.
        status = next((s for s in ("pruned", "completed", "failed") if s in statuses), "missing")
        s = statistics.summarise((own if status == "pruned" else done)["validation_score"], bounds=statistics.RATE)
        given = json.loads(parameters)
        row = {
            "cell": cell,
            "label": label,
            "status": status,
            "n": s.n,
            "value": s.mean,
            "low": s.low,
            "high": s.high,
        }
        rows.append(row | {name: given.get(name) for name in weights})
    schema: dict[str, Any] = {"cell": pl.String, "label": pl.String, "status": pl.String, "n": pl.Int64}
    schema |= dict.fromkeys(("value", "low", "high", *weights), pl.Float64)
    ordered = pl.DataFrame(rows, schema=schema, orient="row").lazy()
    return ordered.sort(
        pl.col("status") != "completed", "value", "cell", descending=[False, True, False], nulls_last=True
    )


def search(run: Mapping[str, Any], cells: pl.DataFrame, trials: pl.DataFrame) -> Search:
    """The chosen cell: the highest mean validation score among completed cells with the most seeds."""
    weights = sampled_weights(run)
    table = cell_values(trials.lazy(), cells, weights).collect()
    done = table.filter(pl.col("status") == "completed", pl.col("value").is_not_null())
    best = done.filter(pl.col("n") == pl.col("n").max())["cell"][0] if done.height else None
    own = trials.filter(pl.col("cell") == pl.lit(best, dtype=pl.String), pl.col("status") == "completed")
    baseline = run.get("baseline")
    gain = None
    if baseline is not None and best is not None and baseline != best:
        both = trials.filter(pl.col("cell").is_in([best, baseline]))
        gain = paired_gains(both.lazy(), baseline).collect().row(0, named=True)
        gain = gain if gain["pairs"] else None
    return Search(
        weights=weights,
        cells=table,
        best=best,
        test=statistics.summarise(own["score"], bounds=statistics.RATE),
        baseline=baseline,
        gain=gain,
        measure=of_run(run),
    )
