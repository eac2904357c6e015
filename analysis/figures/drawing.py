"""What all figures share: the look, and saving one as SVG, PNG and PDF with the same bytes every time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import polars as pl
from fontTools.subset import Options

from analysis.figures import look, theme
from analysis.figures.plotting import Axes, Axis, Figure, FigureCanvasAgg, LogLocator, NullLocator, as_shipped
from analysis.statistics import ALPHA

PNG_DPI = 130


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A finished figure: its files, the frames it was drawn from, and the words that go with it."""

    name: str
    alt: str
    caption: str
    files: dict[str, bytes]  # Suffix -> content.
    slim: bytes | None = None  # An SVG for a phone, where the picture would have to be scrolled to its numbers.
    frames: dict[str, pl.DataFrame] = field(default_factory=dict)  # File stem -> exactly what was drawn.

    @property
    def light(self) -> bytes:
        return self.files["svg"]

    @property
    def width(self) -> int:
        """How wide the picture is at its natural size, in CSS pixels."""
        found = re.search(rb'width="([0-9.]+)pt"', self.light)
        return round(float(found[1]) * 96 / 72) if found else 0

    @property
    def dark(self) -> bytes:
        """The same picture in the colours for a dark page."""
        return darkened(self.light)


def darkened(svg: bytes) -> bytes:
    """A picture in the colours for a dark page."""
    # Colours only: the text of a figure could hold a '#' and six digits too, but never inside a style
    # attribute.
    pattern = re.compile("|".join(theme.DARK))
    return pattern.sub(lambda match: theme.DARK[match[0]], svg.decode()).encode()


# The one rule of all figures that show tests; each says in its key what it adjusts for.
PASSES, DOES_NOT, UNTESTED_MARK = "● differs from 0", "○ not shown to", "× not tested"


def verdict_mark(axes: Axes, x: float, y: float, marker: str, *, passes: bool | None, colour: str, size: float) -> None:
    """One estimate: filled where it passes at 5 % after adjustment, hollow where not, a cross where nothing was tested."""
    if passes is None:
        axes.plot([x], [y], "x", ms=0.85 * size, mec=colour, mew=1.8, ls="none", zorder=4)
        return
    face = colour if passes else theme.GROUND
    axes.plot([x], [y], marker, ms=size, mfc=face, mec=colour, mew=1.5, ls="none", zorder=4)


def verdict(p: float | None) -> bool | None:
    """Whether an adjusted p passes; None without one."""
    return None if p is None else p < ALPHA


@contextmanager
def style() -> Iterator[None]:
    """The one theme on matplotlib's own defaults, for the time of a drawing; nothing stays changed for the caller."""
    settings: Any = {  # Its keys are checked when it is used.
        **look.TICKS,
        **look.NOTEBOOK,
        **theme.RC,
        "text.parse_math": False,
    }
    with as_shipped(settings):
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of that many inches, outside pyplot's list of open ones."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def render(figure: Figure) -> dict[str, bytes]:
    """The figure as SVG, PNG and PDF, without dates, versions or anything else that changes between calls."""
    files = {"svg": _svg(figure), "png": _saved(figure, "png", {"Software": None}, dpi=PNG_DPI)}
    with _without_layout_tables():
        files["pdf"] = _saved(figure, "pdf", {"CreationDate": None, "Producer": None, "Creator": None})
    return files


def render_slim(figure: Figure) -> bytes:
    """The figure as SVG alone."""
    return _svg(figure)


@contextmanager
def _without_layout_tables() -> Iterator[None]:
    """Embed fonts in a PDF without the tables that lay out text, which a PDF's text already is.

    Cutting them down takes fontTools half of a report's time. Should the attribute go, PDFs are only slower
    again.
    """
    name = "_drop_tables_default"
    before = list(getattr(Options, name, []))
    setattr(Options, name, [*before, "GSUB", "GPOS", "GDEF", "kern", "MATH"])
    try:
        yield
    finally:
        setattr(Options, name, before)


def _saved(figure: Figure, suffix: str, metadata: dict[str, None], **options: Any) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format=suffix, metadata=metadata, **options)
    return target.getvalue()


def _svg(figure: Figure) -> bytes:
    text = _saved(figure, "svg", dict.fromkeys(("Date", "Creator", "Format", "Type"))).decode()
    # The document type names a web address that no reader needs.
    text = re.sub(r"<!DOCTYPE.*?>\s*", "", text, flags=re.DOTALL)
    return text.encode()


def short(text: str, limit: int = 30) -> str:
    """One line of at most `limit` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def log_axis(axes: Axes, which: str) -> None:
    """Make axis `which` ('x' or 'y') logarithmic with plain numbers (0.001); call it after plotting."""
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_data_interval()
    axes.set(**{f"{which}scale": "log"})
    wide = low > 0 and high / low > 100
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def spaced(text: str) -> str:
    """Text whose runs of spaces survive in an SVG, where a browser would fold them into one."""
    return text.replace("  ", "\u00a0\u00a0")
