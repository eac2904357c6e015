"""Learning curves: loss terms of one cell, raw and weighted, and the validation score by group of cells."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from analysis.figures import theme
from analysis.figures.drawing import Drawn, log_axis, new_figure, render, short, style
from analysis.figures.plotting import Axes, MaxNLocator

Look = tuple[str, Any]  # Colour and dash.

# The first terms of a run look the same in each of its figures; the others take what is left, in their order.
COLOURS = (theme.INK, theme.BLUE, theme.GREEN, theme.VERMILLION, theme.PINK)
LOOKS: tuple[Look, ...] = tuple(zip(COLOURS, theme.DASHES, strict=False))


def learning_curves(
    terms: pl.DataFrame,
    validation: pl.DataFrame,
    *,
    name: str,
    cell: str,
    groups: Sequence[str],
    words: str,
    looks: Mapping[str, Look] | None = None,
    titles: Mapping[str, str],
    caption: str,
    alt: str,
) -> Drawn:
    """Draw the panels that have data: raw terms, weighted terms, validation score by group (at most five).

    Args:
        terms: Rows of `curves.loss_terms` for the cell labelled `cell`.
        validation: Rows of `curves.validation_by_group`; `groups` gives their order, `words` what they hold, `looks`
            colour and dash of those that have their own.
        titles: Of all terms that the run's losses can have, in the order of the legend.
    """
    kinds = [kind for kind in ("raw", "weighted") if terms.filter(pl.col("kind") == kind).height]
    count = len(kinds) + bool(validation.height)
    width, height = 10.2, 3.6
    known = term_looks(terms["term"].unique().to_list(), list(titles))
    with style():
        figure = new_figure(width, height)
        for index in range(count):
            span = (width - 0.1) / count
            axes = figure.add_axes(((0.62 + index * span) / width, 0.3, (span - 0.82) / width, 0.58))
            if index < len(kinds):
                _terms(
                    axes,
                    terms.filter(pl.col("kind") == kinds[index]),
                    f"{kinds[index]} loss terms, {short(cell, 16)}",
                    known,
                    titles,
                )
            else:
                _groups(axes, validation, groups, words, looks or {})
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.grid(axis="y", which="major")
            axes.set_axisbelow(True)
            place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 3}
            axes.legend(**place, fontsize=7.8, handlelength=1.9, columnspacing=1.0)
        files = render(figure)
    frames = {f"{name}_terms": terms, f"{name}_validation": validation}
    return Drawn(name=name, alt=alt, caption=caption, files=files, frames=frames)


def _terms(axes: Axes, rows: pl.DataFrame, title: str, looks: Mapping[str, Look], titles: Mapping[str, str]) -> None:
    for term, (colour, dash) in looks.items():
        own = rows.filter(pl.col("term") == term, pl.col("value") > 0)
        if own.height:
            look: dict[str, Any] = {"color": colour, "ls": dash, "marker": _dot(own)}
            axes.plot(own["epoch"], own["value"], lw=1.8, ms=4, label=titles[term], **look)
    positive = rows.filter(pl.col("value") > 0)["value"]
    if len(positive) and positive.max() > 8 * positive.min():  # type: ignore[operator]
        log_axis(axes, "y")
    axes.set_title(title, fontsize=10)


def term_looks(terms: Collection[str], known: Sequence[str]) -> dict[str, Look]:
    """Colour and dash of each term present, in the order of all that are `known`; the first one's is never another's."""
    own = dict(zip(known, LOOKS, strict=False))
    present = [term for term in known if term in terms]
    taken = {own[term] for term in (*known[:1], *present) if term in own}
    free = itertools.cycle([look for look in LOOKS if look not in taken] or LOOKS)
    return {term: own[term] if term in own else next(free) for term in present}


def _groups(axes: Axes, rows: pl.DataFrame, groups: Sequence[str], words: str, looks: Mapping[str, Look]) -> None:
    for index, group in enumerate(groups[: len(theme.SERIES)]):
        colour, dash = looks.get(group, (theme.SERIES[index], theme.DASHES[index]))
        own = rows.filter(pl.col("group") == group)
        if own.height:
            look: dict[str, Any] = {
                "color": colour,
                "ls": dash,
                "marker": _dot(own),
            }
            axes.plot(own["epoch"], 100 * own["value"], lw=1.8, ms=4, label=short(group, 18), **look)
    axes.set_title(f"validation {words}, %", fontsize=10)


def _dot(rows: pl.DataFrame) -> str:
    # A line through one epoch is invisible.
    return "o" if rows.height < 3 else ""
