"""The rows that a terminal shows and `--json` tells: cells, or methods setting by setting with floors and chance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from analysis.frames import measures
from analysis.frames.measures import Measure
from analysis.frames.methods import Setting
from analysis.report.tables_methods import named

CHANCE = "chance"  # Kind of the row that no arm has.

Leader = dict[str, Any]

Beside = tuple[Measure, dict[str, float]]  # A number beside the score, and its mean by arm.


def of_cell(row: Mapping[str, Any], score: str, low: str, high: str, *, compared: bool = False) -> Leader:
    """A cell's row of a frame: its score and the interval in these columns; `compared` cells have a gain and a p."""
    return {
        "cell": row["label"],
        "mean": row[score],
        "gain": row["gain"] if compared else None,
        "low": row[low],
        "high": row[high],
        "p": row["p_dunnett"] if compared else None,
        "n": row["n"],
    }


def beside_score(run: Mapping[str, Any], setting: Setting, numbers: pl.DataFrame) -> Beside | None:
    """The task's number that stands beside the score, from a frame of `measure_frame`; None where there is none."""
    other = measures.words_of(run).beside
    if other is None:
        return None
    own = numbers.filter(setting=setting.title, name=other.name).drop_nulls("mean")
    return other, dict(own.select("arm", "mean").iter_rows())


def of_setting(setting: Setting, several: bool, beside: Beside | None, chance: float | None) -> list[Leader]:
    """One dictionary per arm of a setting, the highest mean first, and one for chance where it is known."""
    rows: list[Leader] = []
    for row in setting.rows.iter_rows(named=True):
        rows.append(
            {
                "cell": f"{row['label']}, {setting.title}" if several else row["label"],
                "setting": setting.title,
                "method": named(row, setting.side),
                "kind": row["kind"],
                "reference": row["reference"],
                "mean": row["mean"],
                "mean_low": row["low"],
                "mean_high": row["high"],
                "gain": row["gain"],
                "low": row["gain_low"],
                "high": row["gain_high"],
                "p": row["p_dunnett"],
                "n": row["n"],
            }
        )
        if beside is not None:
            rows[-1]["beside"] = {"heading": beside[0].heading, "mean": beside[1].get(row["arm"])}
    if chance is not None:
        nothing = dict.fromkeys(("mean_low", "mean_high", "gain", "low", "high", "p"))
        about = {"cell": "chance", "setting": setting.title, "method": "chance", "kind": CHANCE, "reference": False}
        rows.append({**about, "mean": chance, **nothing, "n": 0})

    def place(row: Leader) -> float:
        return -row["mean"] if isinstance(row["mean"], float) else math.inf

    return sorted(rows, key=place)
