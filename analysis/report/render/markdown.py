"""Tables as Markdown."""

from __future__ import annotations

from analysis.report.blocks import Document, Table


def files(document: Document) -> dict[str, bytes]:
    return {f"tables/{table.name}.md": of_table(table).encode() for table in document.tables}


def of_table(table: Table) -> str:
    lines = ["| " + " | ".join(_escaped(column.heading) for column in table.columns) + " |"]
    lines.append("|" + "|".join("---:" if column.number else ":---" for column in table.columns) + "|")
    for index, row in enumerate(table.texts()):
        cells = [_escaped(text) for text in row]
        if index in table.best:
            cells = [f"**{cell}**" if cell.strip() else cell for cell in cells]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n" + _escaped(table.caption) + "\n"


def _escaped(text: str) -> str:
    text = " ".join(text.split()).replace("\\", "\\\\")
    for character in "|*_`[]":
        text = text.replace(character, "\\" + character)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
