"""The picture of resolutions: the score of each arm over what it reads, and the paired gain over the reference."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from analysis.arm_kinds import EQUAL_COMPUTE, METHOD, OURS, PLAIN, TEACHER
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
from analysis.figures.plotting import Axes, FixedFormatter, FixedLocator, NullLocator
from analysis.frames.arms import Arm, our_arm
from analysis.frames.resolutions import Curve

MOST_ARMS = 5  # With a colour of their own; the reference and the teacher are grey.
MARKERS = ("o", "^", "D", "v", "P", "s")
LABEL_GAP = 0.062  # Of the height, between names at the ends of lines.

Look = tuple[str, str, Any]  # Colour, marker, dash.


def arm_looks(arms: Mapping[str, Arm], reference: str | None) -> dict[str, Look]:
    """Colour, marker and dash of each arm that is drawn, equal in all figures of a report.

    Ours first, then the other methods, then equal compute; the reference and teachers are grey. Arms beyond
    MOST_ARMS are in the tables only.
    """
    order = {OURS: 0, METHOD: 1, EQUAL_COMPUTE: 2, PLAIN: 3}
    coloured = [arm for arm in arms.values() if arm.kind in order and arm.name != reference]
    main = our_arm(arms, list(arms))
    coloured.sort(key=lambda arm: (order[arm.kind], arm.name != main))
    looks: dict[str, Look] = {
        arm.name: (theme.SERIES[index], MARKERS[index], theme.DASHES[index])
        for index, arm in enumerate(coloured[:MOST_ARMS])
    }
    if reference is not None:
        looks[reference] = (theme.GREY, "s", "--")
    return looks | {arm.name: (theme.GREY, "h", ":") for arm in arms.values() if arm.kind == TEACHER}


def resolution(
    curve: Curve,
    looks: Mapping[str, Look],
    *,
    name: str,
    title: str,
    reference: str,
    caption: str,
    alt: str,
    published: Sequence[tuple[int, float]] = (),
) -> Drawn:
    """Draw the means with their t-bands over log2 of the side, and on the right the gains over `reference`.

    An arm read at one side only (a teacher) is a level line. Without any gain there is only the left panel.
    `published` are (side, fraction) that a paper prints: crosses, joined to nothing.
    """
    rows = curve.rows.filter(pl.col("arm").is_in(list(looks)))
    gains = rows.filter(pl.col("gain").is_not_null(), pl.col("kind") != TEACHER)
    width, height = 10.2, 4.35
    with style():
        figure = new_figure(width, height)
        figure.text(0.15 / width, 1 - 0.24 / height, spaced(title), size=12.5, weight="bold", va="center")
        words = "Band and bar: 95% t-interval over seeds. Level line: read at its own side only."
        words += "   + published, other protocol" if published else ""
        if gains.height:
            words += f"\nRight: {PASSES} (at 5%, adjusted for all methods of a side)   {DOES_NOT}   {UNTESTED_MARK}"
        figure.text(0.15 / width, 1 - 0.42 / height, spaced(words), size=9, color=theme.MUTED, va="top")
        bottom, tall = 0.6 / height, (height - 1.7) / height
        left_wide = 4.05 if gains.height else 7.2
        left = figure.add_axes((0.72 / width, bottom, left_wide / width, tall))
        for side, value in published:
            left.plot([math.log2(side)], [100 * value], "+", ms=11, mec=theme.VERMILLION, mew=2.2, ls="none", zorder=5)
        _lines(left, curve, rows, looks)
        left.set_title(f"{curve.measure.words}, %", fontsize=10)
        if gains.height:
            right = figure.add_axes((6.85 / width, bottom, 3.2 / width, tall))
            _gains(right, curve, gains, looks)
            right.set_title(f"paired gain over {short(reference, 24)}, points", fontsize=10)
        files = render(figure)
    return Drawn(name=name, alt=alt, caption=caption, files=files, frames={name: curve.rows})


def _sides(axes: Axes, sides: Sequence[int]) -> None:
    axes.xaxis.set_major_locator(FixedLocator([math.log2(side) for side in sides]))
    axes.xaxis.set_major_formatter(FixedFormatter([str(side) for side in sides]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("side the network reads, pixels (log scale)")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def _lines(axes: Axes, curve: Curve, rows: pl.DataFrame, looks: Mapping[str, Look]) -> None:
    sides = curve.sides
    ends: list[tuple[float, str, str]] = []  # Height, words, colour.
    last = math.log2(sides[-1])
    for arm in rows["arm"].unique(maintain_order=True):
        own = rows.filter(pl.col("arm") == arm)
        colour, marker, dash = looks[arm]
        label = own["label"][0]
        y = [100 * value for value in own["mean"]]
        if own.height == 1 and own["kind"][0] == TEACHER:
            side = own["resolution"][0]
            axes.axhline(y[0], color=colour, lw=1.4, ls=dash, zorder=1.5)
            ends.append((y[0], f"{label} ({side}×{side})", colour))
            continue
        x = [math.log2(side) for side in own["resolution"]]
        seen = own.filter(pl.col("low").is_not_null())
        band = [math.log2(side) for side in seen["resolution"]]
        axes.fill_between(band, 100 * seen["low"], 100 * seen["high"], color=colour, alpha=0.16, lw=0)
        axes.plot(x, y, color=colour, marker=marker, ls=dash, lw=2, ms=6, zorder=3)
        ends.append((y[-1], label, colour))
    _sides(axes, sides)
    spread = last - math.log2(sides[0])
    axes.set_xlim(math.log2(sides[0]) - 0.06 * spread, last + 0.04 * spread)
    low, high = axes.get_ylim()
    if high - low < 1:  # Equal scores: do not blow up rounding into a picture.
        axes.set_ylim((low + high) / 2 - 0.5, (low + high) / 2 + 0.5)
    low, high = axes.get_ylim()
    places = _apart([(y - low) / (high - low) for y, *_ in ends])
    for (_, label, colour), place in zip(ends, places, strict=True):
        axes.text(1.02, place, short(label, 26), color=colour, transform=axes.transAxes, va="center", size=8.8)


def _apart(places: Sequence[float]) -> list[float]:
    """The places moved as little up or down as leaves a gap between names, inside the axes."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + LABEL_GAP)
    limit = 1.0
    for index in reversed(order):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - LABEL_GAP
    return moved


def _gains(axes: Axes, curve: Curve, rows: pl.DataFrame, looks: Mapping[str, Look]) -> None:
    arms = rows["arm"].unique(maintain_order=True).to_list()
    sides = curve.sides
    steps = [math.log2(b) - math.log2(a) for a, b in itertools.pairwise(sides)]
    step = 0.5 * min(steps) / max(len(arms), 1)
    for index, arm in enumerate(arms):
        colour, marker, _ = looks[arm]
        for row in rows.filter(pl.col("arm") == arm).iter_rows(named=True):
            x = math.log2(row["resolution"]) + (index - (len(arms) - 1) / 2) * step
            if row["gain_low"] is not None:
                axes.plot([x, x], [100 * row["gain_low"], 100 * row["gain_high"]], color=colour, lw=2, zorder=3)
            state = verdict(row["p_dunnett"])
            verdict_mark(axes, x, 100 * row["gain"], marker, passes=state, colour=colour, size=6.5)
    axes.axhline(0, color=theme.INK, linewidth=1.1, zorder=1.5)
    axes.margins(x=0.1)
    _sides(axes, sides)
