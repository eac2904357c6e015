"""One small table and four ways to write it (CSV, Markdown, LaTeX, HTML), each with its own escaping."""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMATS = ("csv", "md", "tex")
NOTHING = "–"


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

    def texts(self) -> list[list[str]]:
        return [[c.text(v) for c, v in zip(self.columns, row, strict=True)] for row in self.rows]


def percent(value: float) -> str:
    """A fraction as percent with two decimals."""
    return f"{100 * value:.2f}"


def points(value: float) -> str:
    """A difference of fractions in points, always signed; a rounded zero has no minus."""
    text = f"{100 * value:+.2f}"
    return "+0.00" if text == "-0.00" else text


def interval(low: float | None, high: float | None, n: int) -> str:
    """'[84.20, 85.60]' of fractions; without an interval 'n=1' or 'n=3, all equal'."""
    if low is None or high is None:
        return f"n={n}" if n < 2 else f"n={n}, all equal"
    return f"[{percent(low)}, {percent(high)}]"


def gain_interval(low: float | None, high: float | None, pairs: int | None) -> str | None:
    """'[-0.20, +1.60]' of fractions; None without a pair; without an interval 'n=1' or 'n=3, all equal'."""
    if low is None or high is None:
        return None if not pairs else "n=1" if pairs == 1 else f"n={pairs}, all equal"
    return f"[{points(low)}, {points(high)}]"


def p_value(value: float) -> str:
    """A p-value with three decimals, never shown as zero."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def write_table(table: Table, folder: Path, write: Callable[[Path, str], None]) -> list[str]:
    """Write a table in every format through `write`; returns the file names."""
    makers = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
    for suffix in FORMATS:
        write(folder / f"{table.name}.{suffix}", makers[suffix](table))
    return [f"{table.name}.{suffix}" for suffix in FORMATS]


def to_csv(table: Table) -> str:
    """Raw values, unrounded. Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([_inert(column.heading) for column in table.columns])
    for row in table.rows:
        writer.writerow([_inert(value) if isinstance(value, str) else "" if value is None else value for value in row])
    return target.getvalue()


def _inert(text: str) -> str:
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def to_markdown(table: Table) -> str:
    lines = ["| " + " | ".join(_markdown(column.heading) for column in table.columns) + " |"]
    lines.append("|" + "|".join("---:" if column.number else ":---" for column in table.columns) + "|")
    for index, row in enumerate(table.texts()):
        cells = [_markdown(text) for text in row]
        if index in table.best:
            cells = [f"**{cell}**" if cell.strip() else cell for cell in cells]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n" + _markdown(table.caption) + "\n"


def _markdown(text: str) -> str:
    text = " ".join(text.split()).replace("\\", "\\\\")
    for character in "|*_`[]":
        text = text.replace(character, "\\" + character)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # A row that starts with a bracket would be read as the option of the line break before it.
    "]": "{]}",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
}


def to_latex(table: Table) -> str:
    """A `table` environment for `booktabs`; best rows in bold."""
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(table.caption)}}}"]
    lines.append(rf"\begin{{tabular}}{{{''.join('r' if c.number else 'l' for c in table.columns)}}}")
    lines += [
        r"\toprule",
        " & ".join(_latex(column.heading) for column in table.columns) + r" \\",
        r"\midrule",
    ]
    for index, row in enumerate(table.texts()):
        cells = [_latex(text) for text in row]
        if index in table.best:
            cells = [rf"\textbf{{{cell}}}" for cell in cells]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def to_html(table: Table) -> str:
    """A `table` element inside a box that scrolls by itself."""
    head = "".join(f"<th{_side(c)}>{html.escape(c.heading)}</th>" for c in table.columns)
    body = []
    for index, row in enumerate(table.texts()):
        cells = "".join(f"<td{_side(c)}>{html.escape(t)}</td>" for c, t in zip(table.columns, row, strict=True))
        body.append(f"<tr{' class=best' if index in table.best else ''}>{cells}</tr>")
    return (
        '<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{html.escape(table.caption)}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _side(column: Column) -> str:
    return " class=n" if column.number else ""
