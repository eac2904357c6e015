"""The picture of a sampled study: score against each sampled value, one small panel per weight."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from analysis.figures import theme
from analysis.figures.drawing import Drawn, log_axis, new_figure, render, short, spaced, style
from analysis.figures.plotting import Axes
from analysis.frames.weight_search import Search

MOST_WEIGHTS = 8  # Panels; a study with more sampled values names the rest in its caption.
COLUMNS = 4


def slices(search: Search, *, name: str, title: str, caption: str, alt: str) -> Drawn:
    """Draw validation score against each weight: dots completed, crosses pruned, a diamond the chosen."""
    weights = search.weights[:MOST_WEIGHTS]
    columns = min(COLUMNS, max(len(weights), 1))
    lines = math.ceil(len(weights) / columns)
    width, top, panel = 10.2, 0.75, 2.85
    height = top + lines * panel
    with style():
        figure = new_figure(width, height)
        figure.text(0.15 / width, 1 - 0.24 / height, spaced(title), size=12.5, weight="bold", va="center")
        key = "◆ chosen (highest mean)   ● completed   × pruned, value when stopped"
        key += "   □ reference" if search.baseline in set(search.cells["cell"]) else ""
        figure.text(0.15 / width, 1 - 0.5 / height, spaced(key), size=9, color=theme.MUTED, va="center")
        shared: Axes | None = None
        for index, weight in enumerate(weights):
            line, column = divmod(index, columns)
            span = (width - 0.75) / columns
            x, y = 0.68 + column * span, height - top - (line + 1) * panel + 0.6
            axes = figure.add_axes(
                (x / width, y / height, (span - 0.22) / width, (panel - 0.75) / height), sharey=shared
            )
            shared = shared or axes
            _slice(axes, search, weight)
            if column == 0:
                axes.set_ylabel(f"validation {search.measure.words}, %")
            else:
                axes.tick_params(labelleft=False)
        files = render(figure)
    return Drawn(name=name, alt=alt, caption=caption, files=files, frames={name: search.cells})


def _slice(axes: Axes, search: Search, weight: str) -> None:
    rows = search.cells.filter(pl.col("value").is_not_null(), pl.col(weight).is_not_null())
    looks: dict[str, dict[str, Any]] = {
        "pruned": {"marker": "x", "ms": 6, "mec": theme.GREY, "mfc": "none", "mew": 1.3, "zorder": 2},
        "completed": {
            "marker": "o",
            "ms": 6,
            "mec": theme.BLUE,
            "mfc": theme.BLUE,
            "alpha": 0.75,
            "zorder": 3,
        },
    }
    for status, look in looks.items():
        own = rows.filter(pl.col("status") == status, pl.col("cell") != pl.lit(search.best or ""))
        axes.plot(own[weight], 100 * own["value"], ls="none", **look)
    reference = rows.filter(pl.col("cell") == pl.lit(search.baseline, dtype=pl.String))
    if reference.height:
        axes.plot(
            reference[weight],
            100 * reference["value"],
            "s",
            ms=11,
            mfc="none",
            mec=theme.INK,
            mew=1.3,
            zorder=5,
        )
    best = rows.filter(pl.col("cell") == pl.lit(search.best, dtype=pl.String))
    axes.plot(best[weight], 100 * best["value"], "D", ms=9, mfc=theme.VERMILLION, mec=theme.VERMILLION, zorder=6)
    low, high = (float(value) for value in (rows[weight].min() or 0.0, rows[weight].max() or 0.0))  # type: ignore[arg-type]
    if low > 0 and high / low > 20:
        log_axis(axes, "x")
    elif low < high:
        axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel(short(weight, 26))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
