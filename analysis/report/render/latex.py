"""Tables as LaTeX."""

from __future__ import annotations

from analysis.report.blocks import Document, Table

_SPELLED = {
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


def files(document: Document) -> dict[str, bytes]:
    return {f"tables/{table.name}.tex": of_table(table).encode() for table in document.tables}


def of_table(table: Table) -> str:
    """A `table` environment for `booktabs`; best rows in bold."""
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escaped(table.caption)}}}"]
    lines.append(rf"\begin{{tabular}}{{{''.join('r' if c.number else 'l' for c in table.columns)}}}")
    lines += [
        r"\toprule",
        " & ".join(_escaped(column.heading) for column in table.columns) + r" \\",
        r"\midrule",
    ]
    for index, row in enumerate(table.texts()):
        cells = [_escaped(text) for text in row]
        if index in table.best:
            cells = [rf"\textbf{{{cell}}}" for cell in cells]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return "".join(_SPELLED.get(character, character) for character in " ".join(text.split()))
