"""The other contract between runs and their reports: `run.json`, its checksum, and the shape that readers rely on.

Its entries are written by `sweeps`. A checksum tells a flipped bit in any of them; files of earlier versions and those
written by hand have none. The shape is looked at in either case, so that no reader meets a list where it needs a word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis import regular_files
from analysis.errors import NothingToReport
from analysis.records import RUN_FILE

CHECKSUM = "checksum"

Check = Callable[[Any], str]  # What is wrong with a value, or ''.


def read(folder: Path) -> dict[str, Any]:
    """What run.json of a run says.

    Raises:
        NothingToReport: If there is none, it cannot be read, or it was damaged.
    """
    try:
        run = json.loads(regular_files.read_bytes(folder / RUN_FILE))
    except FileNotFoundError:
        raise NothingToReport(
            f"'{folder.name}' has no {RUN_FILE}, so it is not a run's folder. Name a folder that a run made."
        ) from None
    except OSError as error:
        raise NothingToReport(f"{RUN_FILE} of '{folder.name}' cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise NothingToReport(f"{RUN_FILE} of '{folder.name}' cannot be read: {error}.{MEND}") from error
    if found := problem(run):
        raise NothingToReport(f"{RUN_FILE} of '{folder.name}' is damaged: {found}.{MEND}")
    assert isinstance(run, dict)
    return run


MEND = " Give the run's command again: it writes the file anew, and takes what is trained from the store."


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a run.json with the checksum of all its other entries."""
    return {**content, CHECKSUM: _checksum(json.loads(json.dumps(dict(content))))}


def problem(run: Any) -> str:
    """What is wrong with the content of a run.json, in words, or ''."""
    if not isinstance(run, dict):
        return f"it must hold an object, but holds {_kind(run)}"
    if CHECKSUM in run and run[CHECKSUM] != _checksum(run):
        return "it is not what was written: its checksum differs"
    for name, check in _ENTRIES.items():
        if run.get(name) is not None and (wrong := check(run[name])):
            return f"'{name}' {wrong}"
    return ""


def _checksum(run: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in run.items() if name != CHECKSUM}
    return hashlib.blake2b(json.dumps(rest, sort_keys=True).encode(), digest_size=16).hexdigest()


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _is(*kinds: type) -> Check:
    def check(value: Any) -> str:
        if isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
            return ""
        return f"must be {' or '.join(dict.fromkeys(_kind(kind()) for kind in kinds))}, but is {_kind(value)}"

    return check


def _whole(value: Any) -> str:
    """Whole, and no more than a column of a table holds."""
    wrong = _is(int)(value)
    return wrong or ("" if -(2**63) <= value < 2**63 else f"must fit in 64 bits, but is {value}")


def _list_of(check: Check) -> Check:
    def of_all(value: Any) -> str:
        if not isinstance(value, list):
            return f"must be a list, but is {_kind(value)}"
        return next((f"({index}) {wrong}" for index, item in enumerate(value) if (wrong := check(item))), "")

    return of_all


def _object(needed: Mapping[str, Check] | None = None, optional: Mapping[str, Check] | None = None) -> Check:
    """An object with entries that it must have and others that it may have."""

    def check(value: Any) -> str:
        if not isinstance(value, dict):
            return f"must be an object, but is {_kind(value)}"
        for name, entry in (needed or {}).items():
            if name not in value:
                return f"has no '{name}'"
            if wrong := entry(value[name]):
                return f"has a '{name}' that {wrong}"
        for name, entry in (optional or {}).items():
            if value.get(name) is not None and (wrong := entry(value[name])):
                return f"has a '{name}' that {wrong}"
        return ""

    return check


def _values_are(check: Check) -> Check:
    def of_all(value: Any) -> str:
        if not isinstance(value, dict):
            return f"must be an object, but is {_kind(value)}"
        return next((f"'{name}' {wrong}" for name, item in value.items() if (wrong := check(item))), "")

    return of_all


_TEXT, _TRUTH, _LIST, _OBJECT = _is(str), _is(bool), _is(list), _is(dict)
_DATA = _object(
    optional=dict.fromkeys(("classes", "channels", "height", "width", "train_images", "test_images"), _whole)
    | dict.fromkeys(("name", "fingerprint"), _TEXT)
)
_CELL = _object({"id": _TEXT}, {"parameters": _OBJECT, "label": _TEXT})
_TRIAL = _object({"cell": _TEXT, "seed": _whole, "stages": _values_are(_TEXT)})
_ARM = _object(
    optional=dict.fromkeys(("title", "kind", "compute_of"), _TEXT)
    | dict.fromkeys(("parameters", "compute_parameters"), _OBJECT)
)
_WORDS = ("run", "study", "title", "preset", "metric", "task", "report", "reference", "tuned", "started", "baseline")
_ENTRIES: dict[str, Check] = {
    **dict.fromkeys(_WORDS, _TEXT),
    **dict.fromkeys(("parameters", "versions", "request"), _OBJECT),
    **dict.fromkeys(("data", "test_data"), _DATA),
    "cells": _list_of(_CELL),
    "trials": _list_of(_TRIAL),
    "seeds": _list_of(_whole),
    "factors": _list_of(_TEXT),
    "objectives": _list_of(_TEXT),
    "axes": _values_are(_LIST),
    "arms": _values_are(_ARM),
    "published": _LIST,
    "claims": _LIST,
    "commands": _LIST,
    "sampled": _TRUTH,
}
