"""Which networks are worth their cost? Scores against multiply-adds and parameters, and who is beaten by nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis import statistics
from analysis.arm_kinds import FLOOR
from analysis.frames.measures import Measure, of_run
from analysis.frames.methods import Setting, readings
from analysis.load import as_object

COSTS = {"macs": "multiply-adds per image", "parameters_count": "parameters", "train_seconds": "training seconds"}
ALIASES = {"params": "parameters_count", "parameters": "parameters_count", "seconds": "train_seconds"}
LEAST_COSTS = 3  # Fewer different costs make no front.

POINT_SCHEMA: dict[str, Any] = {
    "cell": pl.String,
    "label": pl.String,
    "arm": pl.String,
    "setting": pl.String,
    "kind": pl.String,
    "n": pl.Int64,
    **dict.fromkeys(("mean", "low", "high"), pl.Float64),
    "macs": pl.Int64,
    "parameters_count": pl.Int64,
}


def on_front(points: Sequence[tuple[float | None, float | None]]) -> list[bool]:
    """Which (score, cost) points no other one beats: none has at least the score at no more cost and is not equal.

    A point without score or cost is on no front; equal points are on it together.
    """
    whole = [(score, cost) for score, cost in points if score is not None and cost is not None]

    def free(score: float | None, cost: float | None) -> bool:
        if score is None or cost is None:
            return False
        return not any(s >= score and c <= cost and (s, c) != (score, cost) for s, c in whole)

    return [free(score, cost) for score, cost in points]


def points_of(settings: Sequence[Setting]) -> pl.DataFrame:
    """One row per arm and setting with a result and a cost, columns of POINT_SCHEMA; floors are left out."""
    rows: dict[str, dict[str, Any]] = {}
    for setting in settings:
        for row in setting.rows.filter(pl.col("n") > 0, pl.col("kind") != FLOOR).iter_rows(named=True):
            if row["macs"] is not None or row["parameters_count"] is not None:
                # A teacher that belongs to several settings is one point.
                where = setting.title if row["cell"] not in rows else ""
                rows[row["cell"]] = {name: row[name] for name in POINT_SCHEMA if name not in ("setting",)}
                rows[row["cell"]]["setting"] = where
    return pl.DataFrame(list(rows.values()), schema=POINT_SCHEMA, orient="row")


def with_front(points: pl.DataFrame, cost: str, score: str = "mean") -> pl.DataFrame:
    """The points with a column `front`: whether no other has a higher score at no more of `cost`."""
    return points.with_columns(pl.Series("front", on_front(points.select(score, cost).rows()), dtype=pl.Boolean))


@dataclass(frozen=True, kw_only=True)
class ParetoSearch:
    """A sampled study with two objectives: its cells, and the test score of those that none beats."""

    cost: str  # Column of `cells`: macs, parameters_count.
    varied: tuple[str, ...]  # Names of the sampled parameters.
    # `cell`, `label`, `status`, `n`, `value` (validation), `low`, `high`, costs, `front`, and of the front alone
    # `test`, `test_low`, `test_high`; the front first, by rising cost.
    cells: pl.DataFrame
    measure: Measure


def objective_column(objectives: Sequence[str]) -> str:
    """The column of the objective that is to be small."""
    named = next((name for name in objectives if ALIASES.get(name, name) in COSTS), "macs")
    return ALIASES.get(named, named)


def varied_parameters(cells: pl.DataFrame) -> tuple[str, ...]:
    """Names of the parameters in which cells differ, of whatever type."""
    values: dict[str, set[str]] = {}
    for parameters in cells["parameters"]:
        for name, value in as_object(parameters).items():
            values.setdefault(name, set()).add(str(value))
    return tuple(sorted(name for name, seen in values.items() if len(seen) > 1))


def search(run: Mapping[str, Any], cells: pl.DataFrame, trials: pl.DataFrame) -> ParetoSearch:
    """The cells by validation score and cost; only completed ones with the most seeds can be on the front."""
    cost = objective_column([str(name) for name in run.get("objectives") or ()])
    by_cell = {group["cell"][0]: group for group in trials.partition_by("cell", maintain_order=True)}
    rows = []
    for cell, label, parameters in cells.select("cell", "label", "parameters").iter_rows():
        frame = by_cell.get(cell)
        if frame is None:
            continue
        statuses = set(frame["status"])
        done = frame.filter(pl.col("status") == "completed")
        s = statistics.summarise(readings(frame, "validation_score"), bounds=statistics.RATE)
        test = statistics.summarise(readings(frame), bounds=statistics.RATE)
        row: dict[str, Any] = {"cell": cell, "label": label, "n": s.n, "value": s.mean, "low": s.low, "high": s.high}
        row["status"] = next((w for w in ("pruned", "completed", "failed") if w in statuses), "missing")
        for name in COSTS:
            row[name] = statistics.summarise(done[name].cast(pl.Float64)).mean
        point = as_object(parameters)
        row |= {"test": test.mean, "test_low": test.low, "test_high": test.high}
        rows.append(row | {f"parameter {name}": _shown(point.get(name)) for name in varied_parameters(cells)})
    varied = varied_parameters(cells)
    schema: dict[str, Any] = {"cell": pl.String, "label": pl.String, "status": pl.String, "n": pl.Int64}
    schema |= dict.fromkeys(("value", "low", "high", *COSTS, "test", "test_low", "test_high"), pl.Float64)
    schema |= dict.fromkeys((f"parameter {name}" for name in varied), pl.String)
    frame = pl.DataFrame([{name: row[name] for name in schema} for row in rows], schema=schema, orient="row")
    most = frame.filter(pl.col("status") == "completed")["n"].max()
    able = (pl.col("status") == "completed") & (pl.col("n") == pl.lit(most, dtype=pl.Int64))
    seen = frame.select(pl.when(able).then(pl.col("value")).alias("value"), pl.col(cost)).rows()
    frame = frame.with_columns(pl.Series("front", on_front(seen), dtype=pl.Boolean))
    # The test score is told of the front alone: nothing may be chosen by it.
    hidden = [pl.when(pl.col("front")).then(pl.col(n)).alias(n) for n in ("test", "test_low", "test_high")]
    place = (pl.col("front").not_(), pl.when(pl.col("front")).then(pl.col(cost)), -pl.col("value"), pl.col("cell"))
    return ParetoSearch(
        cost=cost, varied=varied, cells=frame.with_columns(hidden).sort(place, nulls_last=True), measure=of_run(run)
    )


def _shown(value: Any) -> str | None:
    return None if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
