"""What went wrong with a stage, kept beside its lease: `failure-<n>.json`."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.store.files import make_folder, read_json, write_atomically

PREFIX = "failure-"


def failures(folder: Path) -> list[dict[str, Any]]:
    """What went wrong in a work folder so far, oldest first."""
    found = [content for name in sorted(_names(folder)) if (content := read_json(folder / name)) is not None]
    return sorted(found, key=_time_of)


def write_failure(folder: Path, failure: Mapping[str, Any]) -> None:
    """Keep what went wrong."""
    make_folder(folder)
    write_atomically(folder / f"{PREFIX}{time.time_ns()}.json", json.dumps(dict(failure)), sync=False)


def forget_failures(folder: Path) -> None:
    """Remove what was kept."""
    for name in _names(folder):
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return [name for name in os.listdir(folder) if name.startswith(PREFIX)]
    return []


def _time_of(failure: Mapping[str, Any]) -> float:
    value = failure.get("time", 0.0)
    return float(value) if isinstance(value, int | float) and abs(value) < 1e18 else 0.0
