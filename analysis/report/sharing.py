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
    hosts = sorted(
        {host for host in data.records["host"].drop_nulls().unique() if len(host) > 2}, key=len, reverse=True
    )
    masked = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, hosts))})(?![\w-])") if hosts else None
    folders = [name + "/" for name in (str(data.folder.resolve()), str(data.folder)) if len(name) > 1]

    def clean(text: str) -> str:
        if "/" in text or "\\" in text:
            for name in folders:
                text = text.replace(name, "")
            text = _PATH.sub(lambda match: "…/" + (match[1] or match[2] or "").rsplit("/", 1)[-1], text)
        return masked.sub("(host)", text) if masked else text

    def walk(value: Any) -> Any:
        """The same value where nothing in it changes: most of a large run.json is keys of stages."""
        if isinstance(value, str):
            return clean(value)
        if isinstance(value, dict):
            changed = {key: walk(item) for key, item in value.items()}
            return changed if any(changed[key] is not value[key] for key in value) else value
        if isinstance(value, list):
            items = [walk(item) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        return value

    def cleaned(name: str) -> pl.Series:
        column = data.records[name]
        words = {word: clean(word) for word in column.drop_nulls().unique()}
        changed = {word: new for word, new in words.items() if new != word}
        return column.replace(changed) if changed else column

    run = dict(walk(data.run))
    for name in ("versions", "parameters"):
        if isinstance(run.get(name), dict):
            run[name] = {key: value for key, value in run[name].items() if not _PRIVATE.search(str(key))}
    words = ["error", "error_type", "log", "numerics", "device", "data_name"]
    return dataclasses.replace(
        data,
        run=run,
        records=data.records.with_columns(map(cleaned, words)),
        unreadable={name: clean(reason) for name, reason in data.unreadable.items()},
        odd={name: clean(reason) for name, reason in data.odd.items()},
    )


def capped(text: str | None, limit: int = 300) -> str:
    """The last `limit` characters of a message, on one line: a traceback says what happened at its end."""
    line = " ".join((text or "").split())
    return line if len(line) <= limit else "…" + line[-limit:]
