"""Puts the files of a report into its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


def publish(files: Mapping[str, bytes], folder: Path) -> None:
    """Each file appears whole, the page last; files that only an earlier report wrote are removed.

    Args:
        files: Content by path inside the folder.
    """
    before = _files_of(folder)
    for path in sorted(files, key=lambda name: (name == "index.html", name)):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            aside.write_bytes(files[path])
            os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)
    for path in before - set(files):
        (folder / path).unlink(missing_ok=True)


def _files_of(folder: Path) -> set[str]:
    """What an earlier report in this folder says it wrote, and nothing outside of it."""
    try:
        listed = json.loads((folder / "report.json").read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    kinds = ("figures/", "tables/", "data/")
    return {name for name in listed if isinstance(name, str) and name.startswith(kinds) and ".." not in name}
