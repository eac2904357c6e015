"""The forest of a grid or of methods for a phone: the numbers stand under each row's name, so that none is off the screen."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from analysis.figures import theme
from analysis.figures.drawing import new_figure, render_slim, short, spaced, style
from analysis.figures.forest import bands, dots, interval_text, key, level_marks, no_result, p_text, seed_points
from analysis.figures.plotting import Axes
from analysis.frames.order_ablation import Panel
from analysis.printed import percent

WIDTH = 4.1  # Inches.
TITLE, COLUMNS = 42, 52  # Characters of a line of the title, and of the key.


def slim_forest(panel: Panel, *, title: str, factors: Sequence[str] | None) -> bytes:
    """The same rows, marks and numbers as `forest.forest`, as one SVG of a phone's width."""
    rows = panel.rows.to_dicts()
    headline = textwrap.wrap(" ".join(title.split()), TITLE)
    legend = _lines(key(panel))
    row = 0.4 if factors else 0.56
    top, bottom = 0.25 + 0.19 * len(headline) + 0.16 * len(legend) + (0.3 if factors else 0.1), 0.62
    height = top + row * len(rows) + bottom
    left = 0.24 * len(factors) if factors else 0.0
    with style():
        figure = new_figure(WIDTH, height)
        for index, line in enumerate(headline):
            y = 1 - (0.16 + 0.19 * index) / height
            figure.text(0.02, y, line, size=10.5, weight="bold", va="center")
        for index, line in enumerate(legend):
            y = 1 - (0.2 + 0.19 * len(headline) + 0.16 * index) / height
            figure.text(0.02, y, spaced(line), size=7.8, color=theme.MUTED, va="center")
        low, tall = bottom / height, row * len(rows) / height
        ground = figure.add_axes((0.02, low, 0.96, tall))
        gains = figure.add_axes((0.03 + left / WIDTH, low, 0.5 - left / WIDTH, tall))
        text = figure.add_axes((0.54, low, 0.44, tall))
        grouped = bool(factors) or "group" in panel.rows.columns
        for axes in (ground, gains, text):
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            axes.patch.set_visible(False)
        bands(ground, rows, grouped=grouped)
        for axes in (ground, text):
            axes.set_xlim(0, 1)
            axes.set_xticks([])
        if factors:
            marks = figure.add_axes((0.02, low, left / WIDTH, tall))
            marks.set_ylim(len(rows) - 0.5, -0.5)
            marks.axis("off")
            marks.set_xlim(0, 1)
            level_marks(marks, rows, panel)
        dots(gains, rows, seed_points(panel), panel, shift=0.0 if factors else 0.16)
        gains.locator_params(axis="x", nbins=4)
        gains.set_xlabel(
            "gain, points" if panel.baseline is not None else f"{short(panel.measure.words, 20)}, %", fontsize=8
        )
        _texts(text, rows, panel, shift=0.0 if factors else 0.16)
        if not factors:
            _names(figure.add_axes((0.02, low, 0.96, tall)), rows)
        return render_slim(figure)


def _names(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
    """The rows' names over everything else, on the colour of their row."""
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.axis("off")
    for index, row in enumerate(rows):
        weight = "bold" if row["best"] else "normal"
        behind = {"facecolor": theme.GROUND if index % 2 else theme.BAND, "edgecolor": "none", "pad": 1.2}
        axes.text(0.01, index - 0.3, short(row["label"], 50), va="center", size=8.6, weight=weight, bbox=behind)


def _lines(parts: Sequence[str]) -> list[str]:
    """The parts of a key on as few lines as hold them."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) <= COLUMNS:
            lines[-1] += f"   {part}"
        else:
            lines.append(part)
    return lines


def _texts(axes: Axes, rows: Sequence[dict[str, Any]], panel: Panel, *, shift: float) -> None:
    paired = panel.baseline is not None
    for index, row in enumerate(rows):
        look: dict[str, Any] = {"va": "center", "ha": "right", "size": 8, "family": "monospace"}
        look["weight"] = "bold" if row["best"] else "normal"
        upper, lower = index + shift - 0.19, index + shift + 0.19
        if row["n"] == 0:
            axes.text(1.0, index + shift, no_result(row), **(look | {"color": theme.VERMILLION}))
            continue
        count = f" n={row['n']}/{row['n_expected']}" if row["n"] < row["n_expected"] else ""
        p = f"  p {p_text(row)}" if paired and not row["reference"] else ""
        axes.text(1.0, upper, f"{percent(row['mean'])}{count}{p}", **look)
        told = "reference" if paired and row["reference"] else interval_text(row, paired=paired)
        axes.text(1.0, lower, told, **look)
