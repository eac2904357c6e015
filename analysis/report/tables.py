"""The tables of a report, made from the frames of its figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from analysis import statistics
from analysis.claims.verdict import Claim
from analysis.figures.forest import interval_text
from analysis.frames.factor import Factor
from analysis.frames.order_ablation import Panel
from analysis.frames.roles import Roles
from analysis.frames.weight_search import Search
from analysis.printed import gain_interval, p_value, percent, points
from analysis.report.blocks import Column, Table

MOST_SAMPLED = 20


def cost_by_stage(records: pl.LazyFrame, roles: Roles) -> pl.LazyFrame:
    """One row per `stage`, in the recipe's order: `count`, `seconds`, `cpu_seconds`, `mean_seconds`."""
    place = roles.place
    names = ("seconds", "cpu_seconds")
    totals = [pl.col(n).map_elements(_total, return_dtype=pl.Float64) for n in names]
    return (
        records.group_by("stage")
        .agg(pl.len().alias("count"), *names)
        .with_columns(totals)
        .with_columns((pl.col("seconds") / pl.col("count")).alias("mean_seconds"))
        .sort(pl.col("stage").replace_strict(place, default=len(place), return_dtype=pl.Int64), "stage")
    )


def _total(values: Iterable[float | None]) -> float:
    # Exact, because the last digit of a float sum depends on its order.
    return math.fsum(value for value in values if value is not None)


def score_table(panel: Panel, name: str, what: str) -> Table:
    """All cells of a panel by falling mean; cells without a result last."""
    rows = panel.rows.sort("mean", descending=True, nulls_last=True, maintain_order=True).to_dicts()
    paired = panel.baseline is not None
    columns = [Column(heading="#"), Column(heading=what, number=False)]
    columns += [Column(heading=panel.measure.heading, show=percent)]
    columns += [Column(heading="95% CI"), Column(heading="validation %", show=percent)]
    if paired:
        columns += [
            Column(heading="gain", show=points),
            Column(heading="95% CI of the gain"),
            Column(heading="p Dunnett", show=p_value),
        ]
    columns += [Column(heading="seeds"), Column(heading="failed")]
    body = []
    for rank, row in enumerate(rows, start=1):
        own: list[Any] = [
            rank if row["n"] else None,
            row["label"] + (" (reference)" if row["reference"] else ""),
            row["mean"],
        ]
        own.append("no result" if not row["n"] else interval_text(row, paired=False))
        own.append(row["validation_mean"])
        if paired:
            interval = gain_interval(row["gain_low"], row["gain_high"], row["pairs"])
            own += [row["gain"], interval, row["p_dunnett"]]
        own += [
            row["n"] if row["n"] == row["n_expected"] else f"{row['n']} of {row['n_expected']}",
            row["n_failed"],
        ]
        body.append(own)
    best = frozenset(index for index, row in enumerate(rows) if row["best"])
    where = f", {panel.title}" if panel.title else ""
    caption = f"Test {panel.measure.words}{where}: mean and 95% t-interval over seeds"
    caption += f"; paired gain over the reference, p adjusted for {panel.tests} tests." if paired else "."
    return Table(name=name, caption=caption, columns=columns, rows=body, best=best)


def effects_table(frame: pl.DataFrame, name: str) -> Table:
    columns = [Column(heading="effect", number=False), Column(heading="seeds")]
    columns += [Column(heading=h, show=points) for h in ("points", "low", "high")] + [
        Column(heading=h, show=p_value) for h in ("p", "p Holm")
    ]
    return Table(
        name=name,
        caption="Factorial effects, 95% t-intervals over seeds; Holm over the main effects and over the interactions.",
        columns=columns,
        rows=frame.rows(),
    )


def search_table(search: Search) -> Table:
    rows = search.cells.head(MOST_SAMPLED).to_dicts()
    columns = [Column(heading="#"), Column(heading="status", number=False)]
    columns += [Column(heading=name, show=lambda value: f"{value:.4g}") for name in search.weights]
    columns += [
        Column(heading="validation %", show=percent),
        Column(heading="95% CI"),
        Column(heading="seeds"),
    ]
    columns += [Column(heading="test %", show=percent)]
    body: list[list[Any]] = []
    for rank, row in enumerate(rows, start=1):
        own: list[Any] = [rank, row["status"], *(row[name] for name in search.weights), row["value"]]
        own += [interval_text(row, paired=False) if row["n"] else None, row["n"]]
        body.append([*own, search.test.mean if row["cell"] == search.best else None])
    best = frozenset(index for index, row in enumerate(rows) if row["cell"] == search.best)
    words = search.measure.words
    caption = f"Mean validation {words} over seeds, 95% t-interval. Test {words} of the chosen cell only."
    return Table(name="cells", caption=caption, columns=columns, rows=body, best=best)


def claims_table(rows: Sequence[tuple[str, Claim]]) -> Table:
    """One row per claim and setting; the column of settings is left out where there is only one."""
    columns = [Column(heading="claim", number=False), Column(heading="test", number=False)]
    columns += [Column(heading="estimate", number=False), Column(heading="verdict", number=False)]
    columns += [Column(heading="seeds"), Column(heading="source", number=False)]
    body: list[tuple[Any, ...]] = [(c.claim, c.test, c.estimate, c.sentence, c.n, c.source) for _, c in rows]
    if any(title for title, _ in rows):
        columns.insert(0, Column(heading="setting", number=False))
        body = [(title, *row) for (title, _), row in zip(rows, body, strict=True)]
    caption = "Claims of the paper, checked on these data: a verdict needs three seeds and p below 5%, two-sided, after Holm over "
    caption += "the claims tested together."
    return Table(name="claims", caption=caption, columns=columns, rows=body)


def effects_words(result: statistics.FactorialEffects, factor: Factor) -> str:
    """How the effects were got, and which cells are missing, in words."""
    words = (
        "Exact contrasts of the complete factorial."
        if result.method == "contrasts"
        else "Least squares over the cells present."
    )
    if gone := missing_cells(result, factor):
        words += f" Missing: {', '.join(gone[:8])}{' and more' if len(gone) > 8 else ''}."
    return words + (f" {result.note[0].upper()}{result.note[1:]}." if result.note else "")


def missing_cells(result: statistics.FactorialEffects, factor: Factor) -> list[str]:
    """Missing cells as '1+2 (seeds 0, 3)'."""
    seeds: dict[str, list[int]] = {}
    for cell, seed in result.missing:
        name = factor.joined(sorted(cell))
        seeds.setdefault(name, []).append(seed)
    return [f"{name} (seed{'' if len(own) == 1 else 's'} {', '.join(map(str, own))})" for name, own in seeds.items()]
