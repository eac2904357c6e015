"""What a report is made of: typed blocks that say what is told, and nothing of how it is written down.

A page (`pages/`) makes a `Document` of them; the files of `render/` turn it into HTML, Markdown, LaTeX and the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from analysis.figures.drawing import Drawn

NOTHING = "–"


@dataclass(frozen=True)
class Heading:
    """A heading inside a section; without words there is none."""

    words: str


@dataclass(frozen=True)
class Paragraph:
    """Words; `quiet` ones stand back, `sub` ones stand under the title."""

    words: str
    tone: Literal["", "quiet", "sub"] = ""


def quiet(words: str) -> Paragraph:
    return Paragraph(words, "quiet")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The one sentence that answers the question, and what belongs beside it."""

    headline: str
    rest: str = ""

    @property
    def sentence(self) -> str:
        return f"{self.headline} {self.rest}".strip()


@dataclass(frozen=True)
class Tiles:
    """A few numbers, each with what it is."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Caution:
    """What a reader must know before believing the numbers; without items there is none."""

    items: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: its heading, whether it holds numbers (right-aligned), and how a value reads in print."""

    heading: str
    number: bool = True
    show: Callable[[Any], str] | None = None

    def text(self, value: Any) -> str:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return NOTHING
        return self.show(value) if self.show else str(value)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of raw values under columns; the rows in `best` are printed bold."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    best: frozenset[int] = field(default_factory=frozenset)
    # On a screen: "fit" breaks headings and first column, "wrap" long cells, "wide" is "wrap" for many columns.
    layout: Literal["", "fit", "wrap", "wide"] = ""

    def texts(self) -> list[list[str]]:
        return [[c.text(v) for c, v in zip(self.columns, row, strict=True)] for row in self.rows]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure with its number on the page."""

    drawn: Drawn
    number: int
    least: int = 760  # Pixels below which it is not readable, so that a narrow screen scrolls it.


@dataclass(frozen=True)
class Lines:
    """Text to be copied, line by line."""

    items: Sequence[str]


@dataclass(frozen=True)
class Listing:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Together:
    """Blocks that belong together, as a table and its caption."""

    blocks: Sequence[Block]


@dataclass(frozen=True)
class Folded:
    """Blocks that are not seen until asked for."""

    heading: str
    blocks: Sequence[Block]


Block = (
    Heading | Paragraph | Answer | Tiles | Caution | Table | Figure | Lines | Listing | Together | Folded
)  # One macro of `render/templates/blocks.html` each.


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page that its contents name."""

    anchor: str
    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A report: what the page shows, and what lies beside it."""

    title: str
    head: Sequence[Block]  # Under the title, above the contents.
    findings: Sequence[Block]  # Under the contents: answers, tiles, cautions.
    sections: Sequence[Section]
    tables: Sequence[Table]  # Those that become files, shown or not.
    figures: Sequence[Drawn]
    frames: Mapping[str, pl.DataFrame]  # Name -> rows.
    numbers: Mapping[str, Any]  # Every number printed, and those that stand behind them.
