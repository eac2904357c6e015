"""The picture of the cross-evaluation: trained at one side, tested on images that were reduced to another."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from analysis.figures import theme
from analysis.figures.drawing import Drawn, new_figure, render, short, spaced, style
from analysis.figures.plotting import Axes, Rectangle, to_hex, to_rgb
from analysis.frames.measures import Measure

MOST_ARMS = 4
# Fixed in light and dark pages alike, as the numbers are written on them; none is a colour of the theme.
LOW, HIGH, DARK_TEXT, LIGHT_TEXT = "#eef4f9", "#0a5c94", "#11161d", "#fdfdfd"
WIDTH, CELL, GAP = 10.2, 0.52, 0.85  # Inches.


def matrix(rows: pl.DataFrame, measure: Measure, *, name: str, title: str, caption: str, alt: str) -> Drawn:
    """Draw one table of numbers per arm (`resolutions.cross_evaluation`), shaded by the score, at most four.

    What a network was trained for is framed. A cell without a result stays empty.
    """
    arms = rows["arm"].unique(maintain_order=True).to_list()[:MOST_ARMS]
    trained = sorted(set(rows["trained"]), reverse=True)
    tested = sorted(set(rows["tested"]), reverse=True)
    shown = rows.filter(pl.col("arm").is_in(arms))
    low, high = float(shown["mean"].min() or 0.0), float(shown["mean"].max() or 1.0)  # type: ignore[arg-type]
    wide, tall = max(len(tested) * CELL, 1.2), len(trained) * 0.85 * CELL
    per_line = max(1, min(len(arms), int((WIDTH - 0.15) / (wide + GAP))))
    lines = -(-len(arms) // per_line)
    width, top, block = WIDTH, 0.65, tall + 1.05
    height = top + lines * block
    with style():
        figure = new_figure(width, height)
        figure.text(0.15 / width, 1 - 0.24 / height, spaced(title), size=12.5, weight="bold", va="center")
        words = f"{measure.title}, %. Framed: tested at the side it was trained at. Empty: not run."
        figure.text(0.15 / width, 1 - 0.5 / height, words, size=9, color=theme.MUTED, va="center")
        for index, arm in enumerate(arms):
            line, column = divmod(index, per_line)
            x, y = 0.75 + column * (wide + GAP), height - top - line * block - 0.35 - tall
            axes = figure.add_axes((x / width, y / height, wide / width, tall / height))
            _cells(axes, rows.filter(pl.col("arm") == arm), trained, tested, (low, high))
        files = render(figure)
    return Drawn(name=name, alt=alt, caption=caption, files=files, frames={name: rows})


def _cells(
    axes: Axes, rows: pl.DataFrame, trained: Sequence[int], tested: Sequence[int], span: tuple[float, float]
) -> None:
    low, high = span
    axes.set_xlim(-0.5, len(tested) - 0.5)
    axes.set_ylim(len(trained) - 0.5, -0.5)
    for row in rows.iter_rows(named=True):
        x, y = tested.index(row["tested"]), trained.index(row["trained"])
        share = (row["mean"] - low) / (high - low) if high > low else 0.0
        axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=_shade(share), linewidth=0))
        if row["trained"] == row["tested"]:
            frame = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fill=False, edgecolor=theme.VERMILLION, linewidth=2)
            axes.add_patch(frame)
        colour = LIGHT_TEXT if share > 0.55 else DARK_TEXT
        axes.text(x, y, f"{100 * row['mean']:.1f}", ha="center", va="center", size=9, color=colour)
    axes.set_xticks(range(len(tested)), [str(side) for side in tested])
    axes.set_yticks(range(len(trained)), [str(side) for side in trained])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("tested at, pixels")
    axes.set_ylabel("trained at, pixels")
    axes.set_title(short(rows["label"][0], 24), fontsize=10)


def _shade(share: float) -> str:
    (a, b, c), (d, e, f) = to_rgb(LOW), to_rgb(HIGH)
    return str(to_hex((a + share * (d - a), b + share * (e - b), c + share * (f - c))))
