"""How does the score fall with the resolution? Curves over what the networks read, and the cross-evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from analysis import statistics
from analysis.arm_kinds import EQUAL_COMPUTE, FLOOR, KINDS, METHOD, OURS, PLAIN, TEACHER
from analysis.frames.arms import Arm, our_arm
from analysis.frames.measures import Measure
from analysis.frames.methods import TEST_RESOLUTION, Setting, is_side, readings, setting_title
from analysis.load import as_object

CURVE_SCHEMA: dict[str, Any] = {
    "arm": pl.String,
    "label": pl.String,
    "kind": pl.String,
    "reference": pl.Boolean,
    "resolution": pl.Int64,
    "n": pl.Int64,
    **dict.fromkeys(("mean", "low", "high"), pl.Float64),
    "pairs": pl.Int64,
    **dict.fromkeys(("gain", "gain_low", "gain_high", "p_dunnett"), pl.Float64),
    "retained": pl.Float64,  # Share of the arm's score at its largest resolution.
}
MATRIX_SCHEMA: dict[str, Any] = {
    "arm": pl.String,
    "label": pl.String,
    "trained": pl.Int64,
    "tested": pl.Int64,
    "n": pl.Int64,
    **dict.fromkeys(("mean", "low", "high"), pl.Float64),
}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Settings that differ in the resolution only."""

    title: str  # The values of the other axes, or ''.
    rows: pl.DataFrame  # CURVE_SCHEMA: by kind and arm, by rising resolution.
    settings: Sequence[Setting]
    measure: Measure

    @property
    def sides(self) -> list[int]:
        """The resolutions at which some arm that varies was read."""
        moving = self.rows.group_by("arm").agg(pl.col("resolution")).filter(pl.col("resolution").list.n_unique() > 1)
        return sorted(set(moving.explode("resolution")["resolution"])) if moving.height else []


def curves(settings: Sequence[Setting], arms: Mapping[str, Arm]) -> list[Curve]:
    """One curve per combination of the axes beside the resolution; those with one resolution are left out."""
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        rest = {name: value for name, value in setting.values.items() if not is_side(name)}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(setting)
    found = []
    for key, members in groups.items():
        # An arm that belongs to every setting is told where the others read what it reads.
        rows = sorted((row for setting in members for row in _points(setting)), key=lambda row: row["elsewhere"])
        named = [{name: row[name] for name in CURVE_SCHEMA} for row in rows]
        frame = pl.DataFrame(named, schema=CURVE_SCHEMA, orient="row")
        frame = frame.unique(["arm", "resolution"], keep="first", maintain_order=True)
        place = {name: (KINDS.index(arm.kind), index) for index, (name, arm) in enumerate(arms.items())}
        order = sorted(frame["arm"].unique(), key=lambda name: place[name])
        frame = frame.sort(pl.col("arm").replace_strict(order, range(len(order)), return_dtype=pl.Int64), "resolution")
        largest = pl.col("mean").sort_by("resolution").last().over("arm")
        frame = frame.with_columns(pl.when(largest > 0).then(pl.col("mean") / largest).alias("retained"))
        curve = Curve(title=setting_title(json.loads(key)), rows=frame, settings=members, measure=members[0].measure)
        if len(curve.sides) > 1:
            found.append(curve)
    return found


def _points(setting: Setting) -> list[dict[str, Any]]:
    names = [name for name in CURVE_SCHEMA if name != "retained"]
    rows = setting.rows.filter(pl.col("n") > 0, pl.col("resolution").is_not_null(), pl.col("kind") != FLOOR)
    return [
        {**row, "retained": None, "elsewhere": row["resolution"] != setting.side}
        for row in rows.select(names).iter_rows(named=True)
    ]


def cross_evaluation(
    settings: Sequence[Setting], arms: Mapping[str, Arm], cells: pl.DataFrame, trials: pl.DataFrame
) -> pl.DataFrame:
    """One row per arm, side trained at and side tested at, columns of MATRIX_SCHEMA; empty below two tested sides.

    The cells are those chosen in `settings` and their twins that differ in the test resolution only. Of axes beside
    the resolution the first value counts.
    """
    points = {cell: as_object(parameters) for cell, parameters in cells.select("cell", "parameters").iter_rows()}
    twins: dict[str, list[str]] = {}
    for cell, point in points.items():
        twins.setdefault(_without_test(point), []).append(cell)
    by_cell = {group["cell"][0]: group for group in trials.partition_by("cell", maintain_order=True)}
    seen: dict[tuple[str, int, int], dict[str, Any]] = {}
    for setting in settings:
        for name, chosen in setting.cells.items():
            for cell in twins[_without_test(points[chosen])]:
                frame = by_cell.get(cell)
                if frame is None or arms[name].kind == FLOOR:
                    continue
                trained = next(iter(frame["resolution"].drop_nulls()), None)
                if trained is None:
                    continue
                tested = next(iter(frame["test_resolution"].drop_nulls()), trained)
                s = statistics.summarise(readings(frame), bounds=statistics.RATE)
                key = (name, trained, tested)
                if s.n and key not in seen:
                    seen[key] = {
                        "arm": name,
                        "label": arms[name].title,
                        "trained": key[1],
                        "tested": key[2],
                        "n": s.n,
                        "mean": s.mean,
                        "low": s.low,
                        "high": s.high,
                    }
    # Ours first: a page draws the first few.
    rank = {OURS: 0, PLAIN: 1, METHOD: 2, EQUAL_COMPUTE: 3, TEACHER: 4, FLOOR: 5}
    main = our_arm(arms, list(arms))
    order = sorted(arms, key=lambda name: (rank[arms[name].kind], name != main))
    rows = [seen[key] for key in sorted(seen, key=lambda key: (order.index(key[0]), -key[1], -key[2]))]
    frame = pl.DataFrame(rows, schema=MATRIX_SCHEMA, orient="row")
    varied = frame.filter(pl.col("tested") != pl.col("trained")).height
    return frame if varied and frame["tested"].n_unique() > 1 else frame.clear()


def _without_test(point: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in point.items() if name.split(".")[-1] != TEST_RESOLUTION}
    return json.dumps(rest, sort_keys=True)
