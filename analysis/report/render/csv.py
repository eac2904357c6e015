"""Raw values as CSV: of tables, and of the very frames that figures were drawn from."""

from __future__ import annotations

import csv
import io

from analysis.report.blocks import Document, Table


def files(document: Document) -> dict[str, bytes]:
    found = {f"tables/{table.name}.csv": of_table(table).encode() for table in document.tables}
    for drawn in document.figures:
        found |= {f"figures/{stem}.csv": frame.write_csv().encode() for stem, frame in drawn.frames.items()}
    return found


def of_table(table: Table) -> str:
    """Raw values, unrounded. Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([_inert(column.heading) for column in table.columns])
    for row in table.rows:
        writer.writerow([_inert(value) if isinstance(value, str) else "" if value is None else value for value in row])
    return target.getvalue()


def _inert(text: str) -> str:
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
