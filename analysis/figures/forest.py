"""The forest of a grid or of methods: paired gains with the matrix of a factor's levels (HORKD, Fig. 4), and the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from analysis import statistics
from analysis.figures import theme
from analysis.figures.drawing import (
    DOES_NOT,
    PASSES,
    UNTESTED_MARK,
    Drawn,
    new_figure,
    render,
    short,
    spaced,
    style,
    verdict,
    verdict_mark,
)
from analysis.figures.plotting import Axes
from analysis.frames.order_ablation import Panel, scores_by_cell
from analysis.printed import gain_interval, interval, p_value, percent, points

ROW = 0.29  # Inches.
WIDTH = 10.2
JITTER = (0.18, -0.2, 0.1, -0.1, 0.24)  # Of a row, by seed, so that equal gains do not hide one another.


def forest(panel: Panel, *, name: str, title: str, factors: Sequence[str] | None, caption: str, alt: str) -> Drawn:
    """Draw one row per cell: which levels are on, the gain over the reference, and the numbers.

    Without a reference the rows show the score itself. A cell without a result keeps its row.
    """
    rows = panel.rows.to_dicts()
    seeds = seed_points(panel)
    top, bottom = 0.92, 0.62
    height = top + ROW * len(rows) + bottom
    with style():
        figure = new_figure(WIDTH, height)
        left = 0.15
        wide = 1.4 if factors else 2.6
        if factors and len(factors) != 4:
            wide = max(0.35 * len(factors), 0.5)
        box = (bottom / height, ROW * len(rows) / height)
        marks = figure.add_axes((left / WIDTH, box[0], wide / WIDTH, box[1]))
        gain_left = left + wide + 0.08
        gain_wide = 6.55 - gain_left
        gains = figure.add_axes((gain_left / WIDTH, box[0], gain_wide / WIDTH, box[1]))
        text = figure.add_axes((6.63 / WIDTH, box[0], (WIDTH - 6.63 - 0.12) / WIDTH, box[1]))
        figure.text(left / WIDTH, 1 - 0.24 / height, spaced(title), size=12.5, weight="bold", va="center")
        figure.text(
            left / WIDTH, 1 - 0.5 / height, spaced("   ".join(key(panel))), size=9, color=theme.MUTED, va="center"
        )
        for axes in (marks, gains, text):
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            bands(axes, rows, grouped=bool(factors) or "group" in panel.rows.columns)
        for axes in (marks, text):
            axes.set_xlim(0, 1)
            axes.set_xticks([])
        level_marks(marks, rows, panel)
        dots(gains, rows, seeds, panel)
        _texts(text, rows, panel)
        files = render(figure)
    frames = {name: panel.printed, f"{name}_seeds": seeds}
    return Drawn(name=name, alt=alt, caption=caption, files=files, frames=frames)


def key(panel: Panel) -> list[str]:
    """What the marks mean, in parts."""
    if panel.baseline is None:
        return ["nothing is tested here", "◆ highest mean", "● mean", "· one seed", "bar: 95% t-interval over seeds"]
    if not panel.tests:
        return [
            f"{UNTESTED_MARK}: fewer than {statistics.LEAST_PAIRS} pairs, or all equal",
            "◆ highest mean",
            "· one seed",
        ]
    tests = f"at 5%, adjusted for {panel.tests} test{'' if panel.tests == 1 else 's'}"
    return [f"{PASSES} ({tests})", DOES_NOT, UNTESTED_MARK, "◆ highest mean", "· one seed"]


def passes(row: dict[str, Any]) -> bool | None:
    """Whether a row's gain passes; None where it is not tested."""
    return None if row.get("apart") else verdict(row["p_dunnett"])


def seed_points(panel: Panel) -> pl.DataFrame:
    """The faint dots: `cell`, `seed`, `value` (gain, or score without a reference; a fraction)."""
    scores = scores_by_cell(panel.trials)
    base = scores.get(panel.baseline, {}) if panel.baseline else None
    compared = set(panel.rows.filter(pl.col("pairs").fill_null(0) > 0)["cell"])
    rows = []
    for cell, by_seed in scores.items():
        if base is not None and cell not in compared:
            continue
        for seed, value in sorted(by_seed.items()):
            if base is None:
                rows.append((cell, seed, value))
            elif seed in base:
                rows.append((cell, seed, value - base[seed]))
    schema = {"cell": pl.String, "seed": pl.Int64, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def bands(axes: Axes, rows: Sequence[dict[str, Any]], *, grouped: bool) -> None:
    for index in range(0, len(rows), 2):
        axes.axhspan(index - 0.5, index + 0.5, color=theme.BAND, linewidth=0, zorder=0)
    for index in range(1, len(rows)):
        before, after = rows[index - 1], rows[index]
        if (before["reference"] and "group" not in before) or (grouped and group_of(before) != group_of(after)):
            axes.axhline(index - 0.5, color=theme.RULE, linewidth=1, zorder=1)


def group_of(row: dict[str, Any]) -> int | None:
    """What rows between two rules have in common: the number of levels, or the kind of arm."""
    found: int | None = row["group"] if "group" in row else row["terms"]
    return found


def level_marks(axes: Axes, rows: Sequence[dict[str, Any]], panel: Panel) -> None:
    factor = panel.factor
    if factor is None or not factor.levels:
        for index, row in enumerate(rows):
            weight = "bold" if row["best"] else "normal"
            axes.text(0.02, index, short(row["label"]), va="center", size=9.5, weight=weight)
        return
    step = 1 / len(factor.levels)
    for place, level in enumerate(factor.levels):
        x = (place + 0.5) * step
        axes.text(x, -0.85, level, ha="center", va="center", size=11, weight="bold")
        on = [i for i, row in enumerate(rows) if row["levels"] and level in factor.split(row["levels"])]
        off = [i for i in range(len(rows)) if i not in on]
        axes.plot([x] * len(off), off, "s", ms=7.5, mfc=theme.GROUND, mec=theme.FAINT, mew=1, ls="none")
        axes.plot([x] * len(on), on, "s", ms=8, mfc=theme.INK, mec=theme.INK, ls="none")


def dots(axes: Axes, rows: Sequence[dict[str, Any]], seeds: pl.DataFrame, panel: Panel, *, shift: float = 0.0) -> None:
    """The estimates with their intervals and the single seeds, `shift` rows below the middle of each row."""
    paired = panel.baseline is not None
    mean, low, high = ("gain", "gain_low", "gain_high") if paired else ("mean", "low", "high")
    place = {row["cell"]: index + shift for index, row in enumerate(rows)}
    order = {seed: index for index, seed in enumerate(seeds["seed"].unique().sort())}
    best = {row["cell"] for row in rows if row["best"]}
    for colour, chosen in ((theme.BLUE, False), (theme.VERMILLION, True)):
        own = [r for r in seeds.iter_rows(named=True) if (r["cell"] in best) is chosen and r["cell"] in place]
        own = [r for r in own if not (paired and r["cell"] == panel.baseline)]
        y = [place[r["cell"]] + JITTER[order[r["seed"]] % len(JITTER)] for r in own]
        axes.plot([100 * r["value"] for r in own], y, "o", ms=3.4, mfc=colour, mec="none", alpha=0.4, zorder=2)
    for index, row in ((place + shift, row) for place, row in enumerate(rows)):
        colour = theme.VERMILLION if row["best"] else theme.GREY if row.get("apart") else theme.BLUE
        if paired and row["reference"]:
            if row["best"]:
                axes.plot([0], [index], "D", ms=8, mfc=colour, mec=colour, zorder=5)
            continue
        if row[mean] is None:
            continue
        if row[low] is not None:
            axes.plot([100 * row[low], 100 * row[high]], [index, index], color=colour, lw=2.4, zorder=3)
        # Without a reference nothing is tested, and marks are just marks.
        state = passes(row) if paired else True
        marker, size = ("D", 8.5) if row["best"] else ("o", 8)
        verdict_mark(axes, 100 * row[mean], index, marker, passes=state, colour=colour, size=size)
        if row["best"] and state is None:
            axes.plot([100 * row[mean]], [index], "D", ms=11, mfc="none", mec=colour, mew=1.2, zorder=4)
    if paired:
        axes.axvline(0, color=theme.INK, linewidth=1.1, zorder=1.5)
        axes.set_xlabel(f"paired gain over {reference_name(panel)}, points of {panel.measure.words}")
    else:
        axes.set_xlabel(f"{panel.measure.words}, %")
    axes.margins(x=0.06)
    lowest, highest = axes.get_xlim()
    if highest - lowest < 0.4:  # One seed, or equal ones: do not blow up rounding into a picture.
        middle = (lowest + highest) / 2
        axes.set_xlim(middle - 0.5, middle + 0.5)
    axes.grid(axis="x", zorder=0.5)
    axes.set_axisbelow(True)
    axes.spines["bottom"].set_visible(True)
    axes.tick_params(axis="x", length=0)


def reference_name(panel: Panel) -> str:
    row = panel.rows.filter(pl.col("reference")).row(0, named=True)
    factor = panel.factor
    return factor.none_title if factor is not None and row["levels"] == factor.none else short(row["label"])


def _texts(axes: Axes, rows: Sequence[dict[str, Any]], panel: Panel) -> None:
    """Right-aligned columns; equal decimals in a column, so that the points fall under each other."""
    paired = panel.baseline is not None
    head: dict[str, Any] = {"va": "center", "size": 9.5, "weight": "bold"}
    score, gain, p = 0.17, 0.80, 0.985
    axes.text(score, -0.85, short(panel.measure.heading, 14), ha="right", **head)
    axes.text(gain, -0.85, "gain [95% CI]" if paired else "95% CI", ha="right", **head)
    if paired:
        axes.text(p, -0.85, "p adj.", ha="right", **head)
    for index, row in enumerate(rows):
        weight = "bold" if row["best"] else "normal"
        mono: dict[str, Any] = {"va": "center", "size": 8.8, "family": "monospace", "weight": weight}
        if row["n"] == 0:
            axes.text(gain, index, no_result(row), ha="right", **{**mono, "color": theme.VERMILLION})
            continue
        axes.text(score, index, percent(row["mean"]), ha="right", **mono)
        if row["n"] < row["n_expected"]:
            count = f"n={row['n']} of {row['n_expected']}"
            axes.text(0.2, index, count, va="center", size=7.6, color=theme.VERMILLION)
        if paired and row["reference"]:
            axes.text(gain, index, "reference", ha="right", **mono)
            continue
        axes.text(gain, index, interval_text(row, paired=paired), ha="right", **mono)
        if paired:
            axes.text(p, index, p_text(row), ha="right", **mono)


def no_result(row: dict[str, Any]) -> str:
    return f"no result ({row['n_failed']} failed)" if row["n_failed"] else "no result"


def interval_text(row: dict[str, Any], *, paired: bool) -> str:
    """'+0.78 [-0.02, +1.59]' for gains, '[84.2, 85.6]' for accuracies; says when there is no interval."""
    if not paired:
        return interval(row["low"], row["high"], row["n"])
    if row["gain"] is None:
        return "not compared" if row["note"] and "teacher" in row["note"] else "no pair"
    span = gain_interval(row["gain_low"], row["gain_high"], row["pairs"]) or ""
    return f"{points(row['gain'])} {span if span.startswith('[') else f'({span})'}"


def p_text(row: dict[str, Any]) -> str:
    """The adjusted p; without one why: too few pairs, equal differences, or a dash for what is not tested at all."""
    if row.get("apart") or not row["pairs"]:
        return "–"
    if row["p_dunnett"] is not None:
        return p_value(row["p_dunnett"])
    return f"n={row['pairs']}" if row["pairs"] < statistics.LEAST_PAIRS else "equal"
