"""A run without absolute paths, host names and user names, for a report that is passed on."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import polars as pl

from analysis.load import RunData

# Two separators at least: 'train/point' and '80 / 80' are no paths.
_PATH = re.compile(
    r"(?<![\w.])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\\"'<>|:,;]+[/\\]+)+([^\s/\\\"'<>|:,;]*)|~/([^\s\"'<>|:,;]+)"
)
_PRIVATE = re.compile(r"host|user|node|login|token|secret|password|path|folder|home|cwd|environ", re.IGNORECASE)


def shareable(data: RunData) -> RunData:
    """The same run with paths cut to their last part, hosts masked, private entries of run.json dropped."""
    hosts = sorted({host for host in data.records["host"].drop_nulls() if len(host) > 2}, key=len, reverse=True)
    home = str(data.folder.resolve())

    def clean(text: str) -> str:
        for name in (home, str(data.folder)):
            if len(name) > 1:
                text = text.replace(name + "/", "")
        text = _PATH.sub(lambda match: "…/" + (match[1] or match[2] or "").rsplit("/", 1)[-1], text)
        for host in hosts:
            text = re.sub(rf"(?<![\w-]){re.escape(host)}(?![\w-])", "(host)", text)
        return text

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return clean(value)
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        return value

    run = walk(data.run)
    for name in ("versions", "parameters"):
        if isinstance(run.get(name), dict):
            run[name] = {key: value for key, value in run[name].items() if not _PRIVATE.search(str(key))}
    words = ["error", "error_type", "log", "numerics", "device", "data_name"]
    cleaned = [pl.col(name).map_elements(clean, return_dtype=pl.String) for name in words]
    return dataclasses.replace(
        data,
        run=run,
        records=data.records.with_columns(cleaned),
        unreadable={name: clean(reason) for name, reason in data.unreadable.items()},
        odd={name: clean(reason) for name, reason in data.odd.items()},
    )


def capped(text: str | None, limit: int = 300) -> str:
    """The last `limit` characters of a message, on one line: a traceback says what happened at its end."""
    line = " ".join((text or "").split())
    return line if len(line) <= limit else "…" + line[-limit:]
