"""Learning curves from the histories of the stages: means over seeds, by epoch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from analysis.frames.roles import roles_of, terms_of
from analysis.load import RunData, validation_names


def history_points(records: pl.LazyFrame, learners: Sequence[str]) -> pl.LazyFrame:
    """One row per number logged by a cell's own trainings: `cell`, `key`, `stage`, `epoch`, `name`, `value`.

    A stage that several cells use appears once for each of them. Non-finite values are left out.
    """
    return (
        records.filter(pl.col("stage").is_in(learners), pl.col("history").list.len() > 0)
        .select("key", "stage", pl.col("cells").alias("cell"), "history")
        .explode("cell")
        .explode("history")
        .unnest("history")
        .filter(pl.col("value").is_finite())
    )


def loss_terms(points: pl.LazyFrame, cell: str, learners: Sequence[str], terms: Collection[str]) -> pl.LazyFrame:
    """Mean loss terms of a cell by epoch: `term`, `kind` ('raw', 'weighted'), `epoch`, `value`, `n` (seeds).

    They are those of the last of its `learners` that logged any of the `terms`.
    """
    own = points.filter(pl.col("cell") == cell, pl.col("name").str.starts_with("train/")).collect()
    part = own.clear()
    for stage in reversed(learners):
        part = own.filter(pl.col("stage") == stage)
        if part.filter(pl.col("name").str.strip_prefix("train/").is_in(terms)).height:
            break
    name = pl.col("name").str.strip_prefix("train/")
    labelled = part.lazy().with_columns(
        name.str.strip_suffix("_weighted").alias("term"),
        pl.when(name.str.ends_with("_weighted")).then(pl.lit("weighted")).otherwise(pl.lit("raw")).alias("kind"),
    )
    return (
        labelled.filter(pl.col("term").is_in(terms))
        .group_by("term", "kind", "epoch")
        .agg(pl.col("value"), pl.col("key").n_unique().alias("n"))
        .with_columns(_exact_mean())
        .sort("term", "kind", "epoch")
    )


def values_by_group(points: pl.LazyFrame, groups: Mapping[str, str], names: Sequence[str]) -> pl.LazyFrame:
    """What may be the validation score: `name`, `group` of cells, `stage`, `epoch`, `value` (a list, one per training).

    Args:
        points: Of whole histories: a training that several cells of a group share counts once.
        groups: Group of each cell; the trainings of a cell that is not named are left out.
        names: Of the columns that may be the score.
    """
    table = pl.LazyFrame({"cell": list(groups), "group": list(groups.values())}, schema_overrides={"cell": pl.String})
    return (
        points.filter(pl.col("name").is_in(names))
        .join(table, on="cell")
        .unique(["name", "group", "key", "epoch"], keep="first", maintain_order=True)
        .group_by("name", "group", "stage", "epoch")
        .agg("value")
    )


def validation_by_group(values: pl.LazyFrame, learners: Sequence[str], names: Sequence[str]) -> pl.LazyFrame:
    """Mean validation score by epoch: `group` of cells, `epoch`, `value` (fraction), `n` (trainings).

    Args:
        values: Rows of `values_by_group`, which may come from several parts of the histories.
        names: Of the columns that may be the score, the best first.
    """
    logged = values.collect()
    name = _first_of(names, logged)
    places = {stage: index for index, stage in enumerate(reversed(learners))}
    place = pl.col("stage").replace_strict(places, return_dtype=pl.Int64)
    return (
        logged.lazy()
        .filter(pl.col("name") == pl.lit(name, dtype=pl.String))
        .filter(place == place.min().over("group"))
        .explode("value")
        .group_by("group", "epoch")
        .agg(pl.col("value"), pl.len().cast(pl.UInt32).alias("n"))
        .with_columns(_exact_mean())
        .sort("group", "epoch")
    )


@dataclass(frozen=True)
class Logged:
    """What the curves of a page are drawn from; whole histories are never in memory together."""

    terms: pl.DataFrame  # Rows of `loss_terms` of one cell.
    validation: pl.DataFrame  # Rows of `validation_by_group`.
    name: str | None  # The column of the histories that is the validation score.


def read(data: RunData, cell: str, groups: Mapping[str, str]) -> Logged:
    """Loss terms of a cell and validation scores of groups of cells, from the histories of those alone."""
    learners, terms = roles_of(data.run).learners, list(terms_of(data.run))
    names = validation_names(data.run)
    trained = data.records.filter(pl.col("stage").is_in(learners)).select("key", "stage", "cells")
    used = trained.explode("cells").filter(pl.col("cells").is_in([cell, *groups]))
    about = trained.filter(pl.col("key").is_in(used["key"].unique().to_list()))
    own, values = [history_points(_no_histories(about), learners).collect()], []
    for part in data.histories(about["key"].to_list()):
        points = history_points(part.lazy().join(about.lazy(), on="key", maintain_order="left"), learners)
        own.append(points.filter(pl.col("cell") == cell, pl.col("name").str.starts_with("train/")).collect())
        values.append(values_by_group(points, groups, names).collect())
    empty = values_by_group(own[0].lazy(), groups, names).collect()
    logged = pl.concat([empty, *values])
    return Logged(
        terms=loss_terms(pl.concat(own).lazy(), cell, learners, terms).collect(),
        validation=validation_by_group(logged.lazy(), learners, names).collect(),
        name=_first_of(names, logged),
    )


def _first_of(names: Sequence[str], logged: pl.DataFrame) -> str | None:
    """Which of the columns that may be the score there is."""
    there = set(logged["name"].unique())
    return next((name for name in names if name in there), None)


def _no_histories(about: pl.DataFrame) -> pl.LazyFrame:
    """The frame that `history_points` takes, without a row."""
    history = pl.List(pl.Struct({"epoch": pl.Int32, "name": pl.String, "value": pl.Float64}))
    return about.clear().lazy().with_columns(pl.lit(None, dtype=history).alias("history"))


def _exact_mean() -> pl.Expr:
    """The mean of each list in `value`, exact: a float sum's last digit depends on threads and order."""
    return pl.col("value").map_elements(lambda v: math.fsum(v) / len(v), return_dtype=pl.Float64)
