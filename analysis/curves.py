"""Learning curves from the histories of the stages: means over seeds, by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import polars as pl

from analysis.load import validation_name
from analysis.records import LOSS_TERMS

TERMS = ("cross_entropy", *LOSS_TERMS)
TRAINED = ("student", "assistant")  # The later in the chain first; teachers are shared by all cells.


def history_points(records: pl.LazyFrame) -> pl.LazyFrame:
    """One row per number logged by an assistant or student: `cell`, `key`, `stage`, `epoch`, `name`, `value`.

    A stage that several cells use appears once for each of them. Non-finite values are left out.
    """
    return (
        records.filter(pl.col("stage").is_in(TRAINED), pl.col("history").list.len() > 0)
        .select("key", "stage", pl.col("cells").alias("cell"), "history")
        .explode("cell")
        .explode("history")
        .unnest("history")
        .filter(pl.col("value").is_finite())
    )


def loss_terms(points: pl.LazyFrame, cell: str) -> pl.LazyFrame:
    """Mean loss terms of a cell by epoch: `term`, `kind` ('raw', 'weighted'), `epoch`, `value`, `n` (seeds).

    They are its student's; a cell without a trained student shows its assistant's.
    """
    own = points.filter(pl.col("cell") == cell, pl.col("name").str.starts_with("train/")).collect()
    for stage in TRAINED:
        part = own.filter(pl.col("stage") == stage)
        if part.filter(pl.col("name").str.strip_prefix("train/").is_in(TERMS)).height:
            break
    name = pl.col("name").str.strip_prefix("train/")
    labelled = part.lazy().with_columns(
        name.str.strip_suffix("_weighted").alias("term"),
        pl.when(name.str.ends_with("_weighted")).then(pl.lit("weighted")).otherwise(pl.lit("raw")).alias("kind"),
    )
    return (
        labelled.filter(pl.col("term").is_in(TERMS))
        .group_by("term", "kind", "epoch")
        .agg(pl.col("value"), pl.col("key").n_unique().alias("n"))
        .with_columns(_exact_mean())
        .sort("term", "kind", "epoch")
    )


def validation_by_group(points: pl.LazyFrame, groups: Mapping[str, str], metric: str = "top1") -> pl.LazyFrame:
    """Mean validation score by epoch: `group` of cells, `epoch`, `value` (fraction), `n` (trainings).

    Args:
        groups: Group of each cell; the students of a cell that is not named are left out.
        metric: Of the run; a task that validates by another one (identification) is found out.
    """
    table = pl.LazyFrame({"cell": list(groups), "group": list(groups.values())}, schema_overrides={"cell": pl.String})
    logged = points.collect()
    name = validation_name(set(logged["name"].unique()), metric)
    wanted = logged.lazy().filter(pl.col("name") == pl.lit(name, dtype=pl.String)).join(table, on="cell").collect()
    place = pl.col("stage").replace_strict({stage: index for index, stage in enumerate(TRAINED)}, return_dtype=pl.Int64)
    rows = (
        wanted.lazy()
        .filter(place == place.min().over("group"))
        .unique(["group", "key", "epoch"], keep="first", maintain_order=True)
    )
    return (
        rows.group_by("group", "epoch")
        .agg(pl.col("value"), pl.col("key").n_unique().alias("n"))
        .with_columns(_exact_mean())
        .sort("group", "epoch")
    )


def _exact_mean() -> pl.Expr:
    """The mean of each list in `value`, exact: a float sum's last digit depends on threads and order."""
    return pl.col("value").map_elements(lambda v: math.fsum(v) / len(v), return_dtype=pl.Float64)
