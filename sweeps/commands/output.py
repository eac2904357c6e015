"""How all commands answer: tables, JSON or text, lines for people."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

JSON_SCHEMA = 1
MOST_COLUMNS = 110  # Of help and of what is wrapped: longer lines are hard to read.


def narrate(line: str) -> None:
    """A line for people, on stderr."""
    click.echo(line, err=True)


def answer(content: dict[str, Any], as_json: bool, text: Callable[[], None]) -> None:
    """One JSON object or text, on stdout."""
    if as_json:
        click.echo(json.dumps({"schema": JSON_SCHEMA} | content, default=str))
    else:
        text()


def say_lines(lines: Sequence[str]) -> None:
    """Lines for people, on stdout."""
    for line in lines:
        click.echo(line)


def table(rows: Sequence[Sequence[Any]], heads: Sequence[str]) -> None:
    """A plain table: columns as wide as their content, numbers to the right."""
    shown = [[str(cell) for cell in row] for row in rows]
    widths = [max([len(head), *(len(row[i]) for row in shown)]) for i, head in enumerate(heads)]
    right = [sum(_number(row[i]) for row in shown) > len(shown) / 2 for i in range(len(heads))]
    for row in [list(heads), *shown]:
        cells = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        click.echo("  ".join(cells).rstrip())


def _number(text: str) -> bool:
    return (
        text.strip() in ("", "-") or text.strip("+-%<").replace(".", "", 1).replace(",", "").replace(":", "").isdigit()
    )


def width() -> int:
    """Columns to fill: those of the terminal, within reason."""
    return max(40, min(MOST_COLUMNS, shutil.get_terminal_size().columns))


def near(path: Path) -> str:
    """A path as seen from the working folder, where it lies in it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
