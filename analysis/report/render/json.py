"""Every number of a report as JSON, with the names of the files that the others wrote: it comes last."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from analysis.report.blocks import Document

NAME = "report.json"


def content(document: Document, others: Iterable[str]) -> bytes:
    """The file, which lists itself and the `others` beside it."""
    numbers = {**document.numbers, "files": sorted([*others, NAME])}
    text = json.dumps(_plain(numbers), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _plain(value: Any) -> Any:
    """JSON knows no NaN; a number that is none becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
