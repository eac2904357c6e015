"""Which levels of a factor help? Estimates for a factorial and any plain grid.

A panel is the set of cells that differ in the factor's levels only; other axes (resolution, network) make more panels.
Scores are fractions; drawing and wording are elsewhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis import statistics
from analysis.frames.factor import Factor, factor_of
from analysis.frames.measures import Measure, of_run
from analysis.statistics import FactorialEffects, Gain, many_to_one

SUMMARY_SCHEMA: dict[str, Any] = {
    "cell": pl.String,
    "label": pl.String,
    "levels": pl.String,
    "terms": pl.Int64,  # How many levels are on.
    "n": pl.Int64,
    "n_expected": pl.Int64,
    "n_failed": pl.Int64,
    "mean": pl.Float64,
    "sd": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "minimum": pl.Float64,
    "maximum": pl.Float64,
    "validation_mean": pl.Float64,
}
GAIN_SCHEMA: dict[str, Any] = {
    "cell": pl.String,
    "pairs": pl.Int64,
    "gain": pl.Float64,
    "gain_sd": pl.Float64,
    "gain_low": pl.Float64,
    "gain_high": pl.Float64,
    "p": pl.Float64,
    "p_holm": pl.Float64,
    "p_dunnett": pl.Float64,  # What judges: against one reference, for all cells together.
    "effect_size": pl.Float64,
    "note": pl.String,
}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One forest: cells that differ in the factor's levels only (or all cells of a study without a factor)."""

    title: str  # The values of the other axes, or ''.
    # SUMMARY_SCHEMA and GAIN_SCHEMA, in drawing order, and `best`, `reference` (booleans).
    rows: pl.DataFrame
    trials: pl.DataFrame
    baseline: str | None
    tests: int  # How many cells are tested against the reference.
    effects: FactorialEffects | None = None
    measure: Measure
    factor: Factor | None = None  # None where cells are no levels: those of arms.

    def cell_name(self, row: Mapping[str, Any]) -> str:
        """What sentences call a row: its levels, else its label."""
        levels = None if self.factor is None else row["levels"]
        if self.factor is not None and levels == self.factor.none:
            return self.factor.none_title
        return str(levels or row["label"])

    @property
    def printed(self) -> pl.DataFrame:
        """The rows as files have them: the column of levels is called after the parameter."""
        return self.rows if self.factor is None else self.rows.rename({"levels": self.factor.column})


def summary_by_cell(trials: pl.LazyFrame, factor: Factor, *, score: str = "score") -> pl.LazyFrame:
    """One row per cell, columns of SUMMARY_SCHEMA: mean and t-interval of `score` over completed trials.

    `n` of `n_expected` trials have a finite score; `n_failed` counts failed ones. Cells keep their first
    order.
    """
    rows = []
    for group in trials.collect().partition_by("cell", maintain_order=True):
        # Plain lists: a filter of a frame costs as much as a hundred numbers, and there may be thousands of cells.
        status = group["status"].to_list()
        done = [
            (value, validation)
            for value, validation, state in zip(
                group[score].to_list(), group["validation_score"].to_list(), status, strict=True
            )
            if state == "completed" and value is not None and math.isfinite(value)
        ]
        s = statistics.summarise([value for value, _ in done], n_expected=group.height, bounds=statistics.RATE)
        failed = status.count("failed")
        first = group.row(0, named=True)
        levels = first["levels"]
        rows.append(
            {
                "cell": first["cell"],
                "label": first["label"],
                "levels": levels,
                "terms": None if levels is None else len(factor.split(levels)),
                "n": s.n,
                "n_expected": s.n_expected,
                "n_failed": failed,
                "mean": s.mean,
                "sd": s.sd,
                "low": s.low,
                "high": s.high,
                "minimum": s.minimum,
                "maximum": s.maximum,
                "validation_mean": statistics.summarise([validation for _, validation in done]).mean,
            }
        )
    return pl.DataFrame(rows, schema=SUMMARY_SCHEMA, orient="row").lazy()


def paired_gains(trials: pl.LazyFrame, baseline: str, *, score: str = "score") -> pl.LazyFrame:
    """One row per cell but the baseline, columns of GAIN_SCHEMA: gain over `baseline` under the same seeds.

    `p_dunnett` and `p_holm` are adjusted over the rows with a defined p. Cells that hang from another teacher than the
    baseline get no gain, and `note` says so.
    """
    frame = trials.collect()
    values, teachers = scores_by_cell(frame, score), _teachers(frame)
    cells = [cell for cell in frame["cell"].unique(maintain_order=True) if cell != baseline]
    gains: list[Gain] = []
    for cell in cells:
        try:
            gain = statistics.paired_gain(
                values.get(cell, {}),
                values.get(baseline, {}),
                teachers=(teachers.get(cell, {}), teachers.get(baseline, {})),
            )
        except ValueError:
            gain = Gain(pairs=0, note="hangs from another teacher than the reference: not compared")
        gains.append(gain)
    holm = statistics.holm([gain.p for gain in gains])
    dunnett = many_to_one.adjusted([gain.differences for gain in gains])
    rows = [
        (cell, g.pairs, g.mean, g.sd, g.low, g.high, g.p, p, q, g.effect_size, g.note)
        for cell, g, p, q in zip(cells, gains, holm, dunnett, strict=True)
    ]
    return pl.DataFrame(rows, schema=GAIN_SCHEMA, orient="row").lazy()


def scores_by_cell(trials: pl.DataFrame, score: str = "score") -> dict[str, dict[int, float]]:
    """Finite scores of completed trials by cell and seed; cells without any are absent."""
    done = trials.filter(pl.col("status") == "completed", pl.col(score).is_finite())
    values: dict[str, dict[int, float]] = {}
    for cell, seed, value in done.select("cell", "seed", score).iter_rows():
        values.setdefault(cell, {})[seed] = value
    return values


def _teachers(trials: pl.DataFrame) -> dict[str, dict[int, str | None]]:
    teachers: dict[str, dict[int, str | None]] = {}
    for cell, seed, teacher in trials.select("cell", "seed", "teacher").iter_rows():
        teachers.setdefault(cell, {})[seed] = teacher
    return teachers


def level_effects(trials: pl.LazyFrame, factor: Factor, *, score: str = "score") -> FactorialEffects:
    """Main effect of each level and their pairwise interactions, over the cells whose levels are known."""
    frame = trials.filter(pl.col("levels").is_not_null()).collect()
    names = dict(frame.select("cell", "levels").unique().iter_rows())
    cells = {frozenset(factor.split(names[cell])): by_seed for cell, by_seed in scores_by_cell(frame, score).items()}
    return statistics.factorial_effects(cells, factor.levels)


def forest_rows(accuracy: pl.LazyFrame, gains: pl.LazyFrame, baseline: str | None) -> pl.LazyFrame:
    """The rows in drawing order: the reference first, then by number of terms, inside a group by mean.

    `best` marks the highest mean among the cells with the most seeds; of equal ones the first.
    Cells without a result come last in their group.
    """
    joined = accuracy.join(gains, on="cell", how="left").with_columns(
        (pl.col("cell") == pl.lit(baseline, dtype=pl.String)).fill_null(False).alias("reference")
    )
    rows = joined.sort(
        pl.col("reference").not_(),
        "terms",
        pl.col("mean"),
        "label",
        "cell",
        nulls_last=True,
        maintain_order=True,
    )
    most = pl.col("n").max()
    leading = pl.when((pl.col("n") == most) & (pl.col("n") > 0)).then(pl.col("mean"))
    return rows.with_columns(
        ((leading == leading.max()) & ((leading == leading.max()).cum_sum() == 1)).fill_null(False).alias("best")
    )


def panels(run: Mapping[str, Any], cells: pl.DataFrame, trials: pl.DataFrame, *, score: str = "score") -> list[Panel]:
    """One panel per combination of the axes beside the factor, in the cells' order.

    The reference of a panel is the run's baseline when it is in it, else its cell without any level, else
    none.
    """
    axes = run.get("axes") or {}
    factor = factor_of(run)
    varying = factor.held_in(axes) if factor.levels else None
    others = [name for name in axes if name != varying] if varying else []
    groups: dict[tuple[str, ...], list[str]] = {}
    for cell, parameters in cells.select("cell", "parameters").iter_rows():
        values = json.loads(parameters)
        groups.setdefault(tuple(str(values.get(name, "default")) for name in others), []).append(cell)
    found = []
    for key, members in groups.items():
        title = ", ".join(f"{name} {value}" for name, value in zip(others, key, strict=True))
        own = trials.filter(pl.col("cell").is_in(members))
        if not own.is_empty():
            found.append(_panel(run, factor, title, own, score))
    return found


def _panel(run: Mapping[str, Any], factor: Factor, title: str, trials: pl.DataFrame, score: str) -> Panel:
    baseline = run.get("baseline")
    if baseline not in set(trials["cell"]):
        plain = trials.filter(pl.col("levels") == factor.none)["cell"]
        baseline = plain[0] if len(plain) else None
    # A reference without a single result would leave every gain empty; absolute scores still say something.
    if baseline is not None and baseline not in scores_by_cell(trials, score):
        baseline = None
    lazy = trials.lazy()
    gains = paired_gains(lazy, baseline, score=score) if baseline else pl.LazyFrame(schema=GAIN_SCHEMA)
    rows = forest_rows(summary_by_cell(lazy, factor, score=score), gains, baseline).collect()
    return Panel(
        title=title,
        rows=rows,
        trials=trials,
        baseline=baseline,
        tests=int(rows["p"].is_not_null().sum()),
        effects=level_effects(lazy, factor, score=score) if factor.levels else None,
        measure=of_run(run),
        factor=factor,
    )
