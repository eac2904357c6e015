"""The files of a report: gathered first, then published together."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from analysis.figures.drawing import Drawn
from analysis.report.render.table import Table, to_html, write_table


@dataclass
class Folder:
    """Files to be, by path inside the report."""

    files: dict[str, bytes] = field(default_factory=dict)

    def text(self, path: Path, content: str) -> None:
        self.files[path.as_posix()] = content.encode()

    def add(self, path: str, content: bytes) -> None:
        self.files[path] = content

    def figure(self, drawn: Drawn) -> None:
        for suffix, content in drawn.files.items():
            self.add(f"figures/{drawn.name}.{suffix}", content)
        for stem, frame in drawn.frames.items():
            self.add(f"figures/{stem}.csv", frame.write_csv().encode())

    def table(self, table: Table) -> str:
        write_table(table, Path("tables"), self.text)
        return to_html(table)

    def publish(self, folder: Path) -> None:
        """Each file appears whole, the page last; files that only an earlier report wrote are removed."""
        before = _files_of(folder)
        for path in sorted(self.files, key=lambda name: (name == "index.html", name)):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{target.name}.{os.getpid()}.part")
            try:
                aside.write_bytes(self.files[path])
                os.replace(aside, target)
            finally:
                aside.unlink(missing_ok=True)
        for path in before - set(self.files):
            (folder / path).unlink(missing_ok=True)


def _files_of(folder: Path) -> set[str]:
    """What an earlier report in this folder says it wrote, and nothing outside of it."""
    try:
        listed = json.loads((folder / "report.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    kinds = ("figures/", "tables/", "data/")
    return {name for name in listed if isinstance(name, str) and name.startswith(kinds) and ".." not in name}
