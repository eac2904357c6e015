"""Optuna's journal of a run as lines of text: what is whole, what is damaged, what each trial's lines say. No optuna.

Every line we write ends in a stamp: its number, how many trials the file had before it, and a checksum. So one flipped
bit is noticed although the line is still JSON, as are lines that were lost, doubled or moved. Optuna's own tools pass
the stamp over; lines they append have none and are judged by their form, as are journals of earlier versions.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from system import regular_files
from trainables.errors import MachineError

# Operations of optuna.storages.journal; the architecture keeps optuna itself behind its door.
CREATE_STUDY, CREATE_TRIAL, SET_PARAM, SET_STATE, SET_STEP, SET_ATTR, SET_SYSTEM_ATTR = 0, 4, 5, 6, 7, 8, 9
RUNNING, COMPLETE, PRUNED, FAILED = 0, 1, 2, 3
_STAMP = re.compile(rb',"stamp":\[(\d{1,9}),(\d{1,9}),"([0-9a-f]{8})"\]\}\n\Z')
_DATES = {"datetime_start", "datetime_complete"}
_DATE_OF = {RUNNING: "datetime_start"}  # State -> what a line that sets it must say; finished ones say their end.
# Operation -> the keys its line must have, and those it may have.
_KEYS: dict[int, tuple[set[str], set[str]]] = {
    0: ({"study_name", "directions"}, set()),
    1: ({"study_id"}, set()),
    2: ({"study_id", "user_attr"}, set()),
    3: ({"study_id", "system_attr"}, set()),
    4: (
        {"study_id", "datetime_start"},
        {"state", "value", "values", "params", "distributions", "user_attrs", "system_attrs", "intermediate_values"}
        | _DATES,
    ),
    5: ({"trial_id", "param_name", "param_value_internal", "distribution"}, set()),
    6: ({"trial_id", "state", "values"}, _DATES),
    7: ({"trial_id", "step", "intermediate_value"}, set()),
    8: ({"trial_id", "user_attr"}, set()),
    9: ({"trial_id", "system_attr"}, set()),
    10: (set(), {"study_id", "trial_ids"}),
}
_TYPES: dict[str, tuple[type, ...]] = {
    "study_id": (int,),
    "trial_id": (int,),
    "study_name": (str,),
    "directions": (list,),
    "param_name": (str,),
    "param_value_internal": (int, float),
    "distribution": (str,),
    "step": (int,),
    "intermediate_value": (int, float),
    "user_attr": (dict,),
    "system_attr": (dict,),
    "user_attrs": (dict,),
    "system_attrs": (dict,),
    "params": (dict,),
    "distributions": (dict,),
    "intermediate_values": (dict,),
    "state": (int,),
    "values": (list, type(None)),
    "value": (int, float, type(None)),
    "datetime_start": (str, type(None)),
    "datetime_complete": (str, type(None)),
}


@dataclass(frozen=True)
class Line:
    """One whole line."""

    entry: dict[str, Any]
    number: int | None = None  # What its stamp says; None without one.
    created: int | None = None  # Trials that the file had before this line.


@dataclass
class JournalText:
    """What a journal's file holds."""

    path: Path
    lines: list[Line] = field(default_factory=list)  # The whole ones, in order, none twice.
    count: int = 0  # Lines of the file.
    damaged: list[int] = field(default_factory=list)  # Numbers, from 1, of lines that cannot be read.
    lost: int = 0  # Lines that the stamps say were there.
    moved: bool = False  # Whether lines were doubled or changed places.
    torn: int = 0  # Bytes of a last line that was never finished.
    size: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether every line is as it was written; a torn last one is what a kill leaves."""
        return not (self.damaged or self.lost or self.moved)

    @property
    def is_stamped(self) -> bool:
        """Whether checksums vouch for every line."""
        return all(line.number is not None for line in self.lines)

    def words(self) -> str:
        """What is wrong, for people."""
        parts = []
        if self.damaged:
            shown = ", ".join(map(str, self.damaged[:5])) + (" and more" if len(self.damaged) > 5 else "")
            parts.append(f"line{'s' if len(self.damaged) > 1 else ''} {shown} of {self.count} cannot be read")
        if self.lost:
            parts.append(f"{self.lost} lines are gone")
        if self.moved:
            parts.append("lines are doubled or out of order")
        return ", ".join(parts)


def stamped(body: bytes, number: int, created: int) -> bytes:
    """The line of a JSON object, its stamp added and a line end."""
    check = zlib.crc32(body + b"%d,%d" % (number, created))
    return body[:-1] + b',"stamp":[%d,%d,"%08x"]}\n' % (number, created, check)


def read_journal(path: Path) -> JournalText:
    """What the journal of a run holds; one without lines where there is no file.

    Raises:
        MachineError: If something that is no file of text lies there, or it cannot be read.
    """
    try:
        content = regular_files.read_bytes(path)
    except FileNotFoundError:
        return JournalText(path)
    except OSError as error:
        raise MachineError(
            f"The journal {path} must be a readable file, but: {error.strerror or error}. "
            "Move away what lies there; the next run writes a journal anew from run.json and the store."
        ) from error
    return _parsed(path, content)


def _parsed(path: Path, content: bytes) -> JournalText:
    text = JournalText(path, size=len(content))
    parts = content.split(b"\n")  # Not splitlines: a flipped bit can make a carriage return.
    raw = [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
    if raw and not raw[-1].endswith(b"\n"):
        text.torn = len(raw.pop())
    text.count = len(raw)
    previous = b""
    seen: set[int] = set()
    for index, line in enumerate(raw):
        found = _whole(line)
        if found is None:
            text.damaged.append(index + 1)
        elif found.number is None and line == previous and found.entry["op_code"] == CREATE_TRIAL:
            text.moved = True  # No two trials begin in the same microsecond.
        elif found.number is not None and found.number in seen:
            text.moved = True
        else:
            if found.number is not None:
                seen.add(found.number)
            text.lines.append(found)
        previous = line
    numbers = [line.number for line in text.lines if line.number is not None]
    if numbers != sorted(numbers):
        text.moved = True
        text.lines = _in_order(text.lines)
    if numbers:
        text.lost = max(0, max(numbers) + 1 - len(text.lines) - len(text.damaged))
    if text.is_whole:
        text.lost, text.moved = _out_of_order(text.lines)
    return text


def _out_of_order(lines: Iterable[Line]) -> tuple[int, bool]:
    """How many studies and trials lines speak of before any created them, and whether one changes a finished trial.

    Where lines have no stamps this tells that some were lost or moved.
    """
    studies, trials, missing = 0, 0, 0
    ended: set[int] = set()
    moved = False
    for line in lines:
        entry = line.entry
        studies += entry["op_code"] == CREATE_STUDY
        if "study_id" in entry and entry["study_id"] >= studies:
            missing, studies = missing + entry["study_id"] + 1 - studies, entry["study_id"] + 1
        if "trial_id" in entry and entry["trial_id"] >= trials:
            missing, trials = missing + entry["trial_id"] + 1 - trials, entry["trial_id"] + 1
        moved = moved or entry.get("trial_id") in ended
        if entry["op_code"] == SET_STATE and entry["state"] in (COMPLETE, PRUNED, FAILED):
            ended.add(entry["trial_id"])
        trials += entry["op_code"] == CREATE_TRIAL
    return missing, moved


def _in_order(lines: list[Line]) -> list[Line]:
    """Lines by the numbers of their stamps; those without one stay behind the one before them."""
    keyed, last = [], -1
    for place, line in enumerate(lines):
        last = line.number if line.number is not None else last
        keyed.append((last, place, line))
    return [line for _, _, line in sorted(keyed, key=lambda each: each[:2])]


def _whole(raw: bytes) -> Line | None:
    """The line, or None when it is damaged."""
    stamp = _STAMP.search(raw)
    body = raw[: stamp.start()] + b"}" if stamp else raw
    if stamp:
        number, created = int(stamp[1]), int(stamp[2])
        if zlib.crc32(body + b"%d,%d" % (number, created)) != int(stamp[3], 16):
            return None
    try:
        entry = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not _fits(entry):
        return None
    return Line(entry, number, created) if stamp else Line(entry)


def _fits(entry: Any) -> bool:
    """Whether an entry has the form Optuna gives it: it would end in a traceback over any other."""
    if not isinstance(entry, dict) or type(entry.get("op_code")) is not int or entry["op_code"] not in _KEYS:
        return False
    must, may = _KEYS[entry["op_code"]]
    keys = set(entry) - {"op_code", "worker_id"}
    if not must <= keys or not keys <= must | may or not isinstance(entry.get("worker_id"), str):
        return False
    for name in keys & set(_TYPES):
        if not isinstance(entry[name], _TYPES[name]) or isinstance(entry[name], bool):
            return False
    if any(name in entry and entry[name] < 0 for name in ("study_id", "trial_id")):
        return False
    state = entry.get("state", RUNNING)
    if state not in range(5) or (
        entry["op_code"] == SET_STATE and not entry.get(_DATE_OF.get(state, "datetime_complete"))
    ):
        return False
    values = entry.get("values") or []
    if not all(type(value) in (int, float) for value in values) or (values and entry.get("value") is not None):
        return False
    distributions = (
        [entry["distribution"]] if "distribution" in entry else list(entry.get("distributions", {}).values())
    )
    return all(_is_distribution(each) for each in distributions) and all(_is_date(entry.get(name)) for name in _DATES)


def _is_date(text: str | None) -> bool:
    with contextlib.suppress(ValueError):
        return text is None or bool(datetime.datetime.fromisoformat(text))
    return False


def _is_distribution(text: Any) -> bool:
    with contextlib.suppress(ValueError, TypeError):
        found = json.loads(text)
        return isinstance(found, dict) and isinstance(found.get("attributes"), dict)
    return False


def cut_torn_line(text: JournalText) -> None:
    """Cut off a last line that was never finished: a further line behind it would be unreadable for ever."""
    if text.torn:
        with open(text.path, "r+b") as file:
            file.truncate(text.size - text.torn)
            os.fsync(file.fileno())
