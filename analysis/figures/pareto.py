"""The picture of cost: score against multiply-adds and parameters, with the front that nothing beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from analysis.figures import theme
from analysis.figures.drawing import Drawn, log_axis, new_figure, render, short, spaced, style
from analysis.figures.plotting import Axes, Line2D
from analysis.figures.resolution import Look
from analysis.frames.pareto import COSTS, ParetoSearch, with_front

OTHER: Look = (theme.GREY, ".", "-")  # Arms without a look of their own.
SEARCH_KEY = "nothing is tested here   ◆ on the front   ● not   bar: 95% t-interval over seeds"
MOST_NAMES = 8  # Names on a front; the table has them all.


def score_against_cost(
    points: pl.DataFrame,
    looks: Mapping[str, Look],
    costs: Sequence[str],
    *,
    name: str,
    words: str,
    title: str,
    caption: str,
    alt: str,
) -> Drawn:
    """Draw one panel per cost: every arm in every setting, its interval, and the front as a stair.

    Args:
        points: Rows of `pareto.points_of`; `words` is what their `mean` is.
        costs: Columns of `points`, at most two.
    """
    words_of_key = (
        "Nothing is tested here. Bar: 95% t-interval over seeds. Ring and stair: no other is better and cheaper."
    )
    with style():
        figure, panels = _panels(title, words_of_key, costs, bottom=1.0)
        for index, (axes, cost) in enumerate(zip(panels, costs, strict=True)):
            shown = with_front(points, cost).filter(pl.col(cost) > 0)
            for row in shown.iter_rows(named=True):
                colour, marker, _ = looks.get(row["arm"], OTHER)
                _point(axes, row[cost], row, (colour, marker), ringed=row["front"])
            _stair(axes, shown.filter("front"), cost)
            _names(axes, shown.filter("front"), cost, "setting")
            _finish(axes, cost, f"{words}, %" if index == 0 else "")
        _key(figure, points, looks)
        files = render(figure)
    return Drawn(name=name, alt=alt, caption=caption, files=files, frames={name: points})


def pareto_search(search: ParetoSearch, *, name: str, title: str, caption: str, alt: str) -> Drawn:
    """Draw the drawn cells: validation score against the cost, the front filled and joined."""
    rows = search.cells.filter(pl.col("value").is_not_null(), pl.col(search.cost) > 0).rename({"value": "mean"})
    with style():
        figure, (axes,) = _panels(title, SEARCH_KEY, [search.cost])
        for row in rows.iter_rows(named=True):
            look = (theme.VERMILLION, "D") if row["front"] else (theme.BLUE, "o")
            _point(axes, row[search.cost], row, look, ringed=False)
        _stair(axes, rows.filter("front"), search.cost)
        _finish(axes, search.cost, f"validation {search.measure.words}, %")
        files = render(figure)
    return Drawn(name=name, alt=alt, caption=caption, files=files, frames={name: search.cells})


def _panels(title: str, key: str, costs: Sequence[str], bottom: float = 0.62) -> tuple[Any, list[Axes]]:
    width, height = 10.2, 3.6 + bottom
    figure = new_figure(width, height)
    figure.text(0.15 / width, 1 - 0.24 / height, spaced(title), size=12.5, weight="bold", va="center")
    figure.text(0.15 / width, 1 - 0.5 / height, spaced(key), size=9, color=theme.MUTED, va="center")
    span = (width - 0.2) / len(costs)
    found: list[Axes] = []
    for index in range(len(costs)):
        box = ((0.75 + index * span) / width, bottom / height, (span - 0.95) / width, 2.8 / height)
        found.append(figure.add_axes(box, sharey=found[0] if found else None))
    return figure, found


def _point(axes: Axes, x: float, row: Mapping[str, Any], look: tuple[str, str], *, ringed: bool) -> None:
    colour, marker = look
    if row["low"] is not None:
        axes.plot([x, x], [100 * row["low"], 100 * row["high"]], color=colour, lw=1.2, alpha=0.6, zorder=2)
    axes.plot([x], [100 * row["mean"]], marker, ms=7 if ringed else 6, mfc=colour, mec=colour, mew=1.4, zorder=4)
    if ringed:
        axes.plot([x], [100 * row["mean"]], "o", ms=13, mfc="none", mec=theme.INK, mew=1.1, zorder=5)


def _stair(axes: Axes, front: pl.DataFrame, cost: str) -> None:
    own = front.sort(cost, "mean")
    if own.height > 1:
        axes.plot(own[cost], 100 * own["mean"], drawstyle="steps-post", color=theme.RULE, lw=1.3, zorder=1.5)


def _names(axes: Axes, front: pl.DataFrame, cost: str, column: str) -> None:
    own = front.sort(cost)
    for row in own.tail(MOST_NAMES).iter_rows(named=True):
        if row[column]:
            axes.annotate(
                short(row[column], 28), (row[cost], 100 * row["mean"]), (5, -11), textcoords="offset points", size=7.6
            )


def _finish(axes: Axes, cost: str, label: str) -> None:
    log_axis(axes, "x")
    axes.set_xlabel(f"{COSTS[cost]} (log scale)")
    axes.xaxis.set_major_formatter(lambda value, _: _short_number(value))
    axes.margins(x=0.14)
    if label:
        axes.set_ylabel(label)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def _short_number(value: float) -> str:
    """1200000 as 1.2M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _key(figure: Any, points: pl.DataFrame, looks: Mapping[str, Look]) -> None:
    """One line under the panels: the mark of each arm and its name."""
    seen = dict(points.select("arm", "label").unique("arm", maintain_order=True).iter_rows())
    named = [arm for arm in seen if arm in looks]
    marks = [_mark(looks[arm]) for arm in named]
    labels = [short(seen[arm], 26) for arm in named]
    if len(named) < len(seen):
        marks.append(_mark(OTHER))
        labels.append("others")
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.0), "ncols": min(6, max(len(marks), 1))}
    figure.legend(marks, labels, **place, fontsize=8.4, handlelength=1.4, columnspacing=1.3)


def _mark(look: Look) -> Any:
    colour, marker, _ = look
    return Line2D([], [], color=colour, marker=marker, ls="none", ms=6)
