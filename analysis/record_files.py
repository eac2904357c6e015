"""Reads the files of a run's records: many of them cheaply, each checked, the bad ones named.

A record that carries its row in short (`analysis.seal`) is read from there; one of an earlier version as Parquet, only
the columns that are asked for. Histories are read by those who draw them, a part of the files at a time.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from analysis import record_parquet, seal
from analysis.record_parquet import RECORD_BYTES, SHORT
from analysis.records import EVALUATION, SCHEMA_VERSION
from system import regular_files

HISTORY = ("key", "history")
_AT_ONCE = 1000  # Rows that wait to become columns.
_FILES_AT_ONCE = 250  # Files that Polars holds open; its memory grows with them.
_SHARES = ("top1", "recall_at_1")  # Metrics that are `correct / items`; others are means over folds.
# Arrow's errors are ValueErrors, TypeErrors and OSErrors too.
_UNREADABLE = (OSError, ValueError, TypeError, OverflowError, pl.exceptions.PolarsError)


@dataclass
class Found:
    """What was read of a folder of records."""

    frame: pl.DataFrame  # The columns of SHORT, one row per stage, sorted by stage and key.
    files: dict[str, str] = field(default_factory=dict)  # Key of each row -> name of its file.
    unreadable: dict[str, str] = field(default_factory=dict)  # File name -> why it was left out.
    odd: dict[str, str] = field(default_factory=dict)  # File name -> what was strange though it was read.


def names_of(folder: Path) -> list[str]:
    """The names of the records in a folder, sorted; none where there is no folder.

    Raises:
        OSError: If it is there and cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(".parquet")]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if not name.startswith("."))


def read_all(folder: Path, names: Sequence[str]) -> Found:
    """All records of these names, in the folder's order; none that cannot be read stops the reading."""
    reading = _Reading(folder)
    collecting = gc.isenabled()
    gc.disable()  # Rows hold no cycles; looking for some in all that is in memory takes as long as the reading.
    try:
        for name in names:
            reading.take(name)
    finally:
        if collecting:
            gc.enable()
    return reading.finish()


def read_one(path: Path) -> dict[str, Any]:
    """The row of one record in short, null columns left out.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no record, was altered, or contradicts itself.
    """
    try:
        row = seal.summary(regular_files.read_bytes(path, most=RECORD_BYTES))
        if row is None:
            frame, _ = record_parquet.read_one(path)
            row = {name: value for name, value in frame.row(0, named=True).items() if value is not None}
        problem = contradiction(_required(row))
    except (TypeError, OverflowError) as error:
        raise ValueError(_first_line(error)) from error
    if problem:
        raise ValueError(problem)
    return row


def histories(folder: Path, names: Sequence[str]) -> Iterator[pl.DataFrame]:
    """`key` and `history` of these records, a part of the files at a time; those unreadable by now are left out."""
    for start in range(0, len(names), _FILES_AT_ONCE):
        part = names[start : start + _FILES_AT_ONCE]
        frame = record_parquet.scan([folder / name for name in part], HISTORY)
        if frame is None:
            empty = record_parquet.empty(HISTORY)
            frame = pl.concat(
                [empty, *(f for name in part if (f := record_parquet.scan([folder / name], HISTORY)) is not None)]
            )
        yield frame


def contradiction(row: Mapping[str, Any]) -> str:
    """What in a finished evaluation's numbers cannot be true together, or ''."""
    score, correct, items = row.get("score"), row.get("correct"), row.get("items")
    if row.get("stage") != EVALUATION or row.get("status") != "completed":
        return ""
    if correct is not None and items is not None:
        if not 0 <= correct <= items:
            return f"its numbers contradict each other: {correct} of {items} items are correct"
        share = score if score is not None else row.get("top1")
        if (
            items
            and share is not None
            and row.get("metric") in (None, *_SHARES)
            and abs(share - correct / items) > 1e-6
        ):
            return (
                f"its numbers contradict each other: the score is {share}, but {correct} of {items} items are correct"
            )
    return ""


class _Reading:
    """The files of one folder, as they are read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.row_names: list[str] = []
        self.old: list[str] = []
        self.frames: list[pl.DataFrame] = []
        self.names: list[str] = []  # Of the files, row by row of the frames.
        self.unreadable: dict[str, str] = {}
        self.odd: dict[str, str] = {}

    def take(self, name: str) -> None:
        """Read a file in short, or put it aside as one of an earlier version."""
        try:
            row = seal.summary(_bytes_of(os.path.join(self.folder, name)))
            if row is not None and (problem := contradiction(_required(row))):
                raise ValueError(problem)
        except _UNREADABLE as error:
            self.unreadable[name] = _first_line(error)
            return
        if row is None:
            self.old.append(name)
            if len(self.old) == _FILES_AT_ONCE:
                self._flush_old()
            return
        self.rows.append(row)
        self.row_names.append(name)
        if len(self.rows) == _AT_ONCE:
            self._flush_rows()

    def _flush_rows(self) -> None:
        rows, names, self.rows, self.row_names = self.rows, self.row_names, [], []
        try:
            self._keep(_frame(rows), names)
        except _UNREADABLE:
            for row, name in zip(rows, names, strict=True):
                try:
                    self._keep(_frame([row]), [name])
                except _UNREADABLE as error:
                    self.unreadable[name] = _first_line(error)

    def _flush_old(self) -> None:
        names, self.old = self.old, []
        frame = record_parquet.scan([self.folder / name for name in names], list(SHORT))
        if frame is not None and not any(map(contradiction, _numbers(frame))):
            self._keep(frame, names)
            return
        for name in names:
            try:
                frame, remark = record_parquet.read_one(self.folder / name)
                if problem := contradiction(frame.row(0, named=True)):
                    raise ValueError(problem)
            except _UNREADABLE as error:
                self.unreadable[name] = _first_line(error)
                continue
            if remark:
                self.odd[name] = remark
            self._keep(frame, [name])

    def _keep(self, frame: pl.DataFrame, names: Sequence[str]) -> None:
        self.frames.append(frame)
        self.names += names

    def finish(self) -> Found:
        """All rows, one per key, sorted."""
        self._flush_rows()
        self._flush_old()
        frame = pl.concat([record_parquet.empty(SHORT), *self.frames])
        self.frames.clear()
        names = pl.Series("file", self.names, dtype=pl.String)
        if frame["key"].n_unique() != frame.height:
            keep = self._without_repetitions(frame, self.names)
            frame, names = frame[keep], names[keep]
        files = dict(zip(frame["key"], names, strict=True))
        return Found(frame.sort("stage", "key"), files, self.unreadable, self.odd)

    def _without_repetitions(self, frame: pl.DataFrame, names: Sequence[str]) -> list[int]:
        """Of several records of one stage the completed one counts, else the first by name; the others are odd."""
        best: dict[str, int] = {}
        status = frame["status"].to_list()
        keys = frame["key"].to_list()
        for index in sorted(range(len(names)), key=lambda index: names[index]):
            first = best.setdefault(keys[index], index)
            if first == index:
                continue
            self.odd[names[index]] = f"a second record of stage {keys[index]}; the completed one counts, else the first"
            if status[index] == "completed" and status[first] != "completed":
                best[keys[index]] = index
        return sorted(best.values())


def _bytes_of(path: str) -> bytes:
    """All bytes of a small regular file; a quarter of the time of a buffered reader, which counts for 40,000 files."""
    size = regular_files.check(path, most=RECORD_BYTES).st_size
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        content = os.read(handle, size + 1)
    finally:
        os.close(handle)
    # Another file by now, or one that the system gives in parts.
    return content if len(content) == size else regular_files.read_bytes(path, most=RECORD_BYTES)


def _required(row: dict[str, Any]) -> dict[str, Any]:
    """The row itself, when it is of our schema and says which stage it is of."""
    if row.get("schema") != SCHEMA_VERSION:
        raise ValueError(f"it is of schema {row.get('schema')}, and this version reads schema {SCHEMA_VERSION}")
    if not all(isinstance(row.get(name), str) for name in ("key", "stage", "status")):
        raise ValueError("not a record: key, stage or status is missing")
    return row


def _frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The rows in short as columns; a value that is not of its column's type raises."""
    return pl.DataFrame({name: [row.get(name) for row in rows] for name in SHORT}, schema=SHORT, strict=True)


def _numbers(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    wanted = ("stage", "status", "metric", "score", "top1", "correct", "items")
    return frame.filter(pl.col("stage") == EVALUATION).select(wanted).iter_rows(named=True)


def _first_line(error: BaseException) -> str:
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (words.strip().splitlines() or [type(error).__name__])[0][:200]
