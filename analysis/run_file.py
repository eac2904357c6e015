"""The other contract between runs and their reports: run.json, its checksum, and the shape that readers rely on.

Its entries are written by `sweeps`. A checksum tells a flipped bit in any of them; files of earlier versions and those
written by hand have none. The shape is looked at in either case, so that no reader meets a list where it needs a word.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analysis.errors import NothingToReport
from system import regular_files

NAME = "run.json"
CHECKSUM = "checksum"
MOST_SEED = 2**63 - 1

_TAIL = re.compile(rb',\n "checksum": "([0-9a-f]{64})"\n\}\s*\Z')
_NAME = re.compile(r"(?!\.)[^/\x00-\x1f]{1,200}\Z")  # Of a file, or of what stands for one.
_Check = Callable[[Any], bool]


def _is(*kinds: type) -> _Check:
    return lambda value: isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


def _or_nothing(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _list_of(check: _Check) -> _Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _dict_of(check: _Check) -> _Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _is_seed(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_SEED


def _is_cell_id(value: Any) -> bool:
    return isinstance(value, str) and bool(_NAME.match(value))


def _is_key(value: Any) -> bool:
    return isinstance(value, str) and bool(_NAME.match(value))


def _is_cell(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_cell_id(value.get("id"))
        and isinstance(value.get("parameters", {}), dict)
        and isinstance(value.get("label", ""), str)
        and isinstance(value.get("baseline"), str | None)
    )


def _is_trial(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_cell_id(value.get("cell"))
        and _is_seed(value.get("seed"))
        and bool(value.get("stages"))
        and _dict_of(_is_key)(value["stages"])
    )


def _is_data(value: Any) -> bool:
    counts = ("classes", "channels", "height", "width", "train_images", "test_images")
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(name, ""), str) for name in ("fingerprint", "name"))
        and all(value.get(name) is None or _is_whole(value[name]) for name in counts)
    )


def _is_whole(value: Any) -> bool:
    """Whole, and no more than a column of a table holds."""
    return type(value) is int and -(2**63) <= value < 2**63


def _is_arm(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(name), str | None) for name in ("title", "kind", "compute_of"))
        and all(isinstance(value.get(name), dict | None) for name in ("parameters", "compute_parameters"))
    )


def _is_number(value: Any) -> bool:
    """What a task calls a number: the fields of `analysis.frames.measures.Measure`."""
    return (
        isinstance(value, dict)
        and {"name", "words", "heading"} <= set(value) <= _OF_NUMBERS
        and all(value[name] and isinstance(value[name], str) for name in ("name", "words", "heading"))
        and all(isinstance(value.get(name, ""), str) for name in ("short", "error_of"))
        and isinstance(value.get("percent", True), bool)
        and isinstance(value.get("false_rate"), float | None)
    )


_OF_NUMBERS = {"name", "words", "heading", "percent", "false_rate", "short", "error_of"}

# Key -> what its value must be where there is one, and the words for it.
_SHAPE: dict[str, tuple[_Check, str]] = {
    "schema": (_is(int), "a whole number"),
    **{
        name: (_or_nothing(_is(str)), "text")
        for name in (
            *("run", "study", "title", "paper", "figure", "question", "preset", "preset_note", "task", "metric"),
            *("report", "reference", "tuned", "revision", "started", "baseline", "store"),
        )
    },
    "data": (_is_data, "an object with `name`, `fingerprint` and whole counts"),
    "test_data": (_or_nothing(_is_data), "an object with `name`, `fingerprint` and whole counts"),
    "seeds": (_list_of(_is_seed), f"whole numbers from 0 to {MOST_SEED}"),
    "trials_asked": (_or_nothing(_is_whole), "a whole number"),
    "parameters": (_is(dict), "an object"),
    "axes": (_dict_of(_is(list)), "lists by name"),
    "pinned": (_is(dict), "an object"),
    "ranges": (_or_nothing(_is(dict)), "an object"),
    "factors": (_or_nothing(_list_of(_is(str))), "a list of names"),
    "objectives": (_or_nothing(_list_of(_is(str))), "a list of names"),
    "sampled": (_is(bool), "true or false"),
    "arms": (_or_nothing(_dict_of(_is_arm)), "objects by name, with `title` and `parameters`"),
    "published": (_or_nothing(_is(list)), "a list"),
    "claims": (_or_nothing(_is(list)), "a list"),
    "factor": (
        lambda value: (
            _is(dict)(value)
            and bool(value.get("parameter"))
            and all(
                _dict_of(_is(str))(words) if n == "titles" else isinstance(words, str) for n, words in value.items()
            )
        ),
        "an object of words with its `parameter`",
    ),
    "ours": (_list_of(_is(str)), "a list of names"),
    "paper_data": (_list_of(_is(str)), "a list of names"),
    "roles": (
        lambda value: (
            _is(dict)(value)
            and all(_list_of(_is(str))(value.get(name)) for name in ("order", "learners", "result"))
            and isinstance(value.get("teacher"), str)
        ),
        "lists of roles `order`, `learners` and `result`, and a `teacher`",
    ),
    "task_words": (
        lambda value: (
            _is(dict)(value)
            and isinstance(value.get("unit"), str)
            and isinstance(value.get("known_classes"), bool)
            and isinstance(value.get("beside"), str | None)
            and _list_of(_is(str))(value.get("validation"))
            and _list_of(_is_number)(value.get("numbers"))
        ),
        "an object with `unit`, `validation`, `known_classes`, `beside`, and `numbers` with `name`, `words` and `heading`",
    ),
    "terms": (_dict_of(_is(str)), "titles by name"),
    "left_out": (_or_nothing(_dict_of(_is(str))), "sentences by name"),
    "cells": (_list_of(_is_cell), "a list of objects with `id`, `parameters` and `label`"),
    "trials": (_list_of(_is_trial), "a list of objects with `cell`, `seed` and `stages`"),
    "commands": (
        _list_of(lambda each: isinstance(each, dict) and isinstance(each.get("command"), str)),
        "a list of objects with `command`",
    ),
    "request": (_is(dict), "an object"),
    "plugins": (
        _or_nothing(
            _list_of(
                lambda each: (
                    isinstance(each, dict)
                    and all(isinstance(each.get(name), str) for name in ("file", "sha256", "where"))
                    and "/" not in each["file"]
                    and isinstance(each.get("entry"), str | None)
                    and isinstance(each.get("copy"), str | None)
                    and bool(each.get("entry") or each.get("copy"))
                    and ".." not in Path(each.get("copy") or "").parts
                    and not os.path.isabs(each.get("copy") or "")
                )
            )
        ),
        "a list of objects with `file`, `sha256` and `where`",
    ),
    "versions": (_is(dict), "an object"),
}


def text_of(content: Mapping[str, Any]) -> str:
    """What the file says: the content and, last, a checksum of all before it."""
    body = json.dumps({key: value for key, value in content.items() if key != CHECKSUM}, indent=1)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return body.removesuffix("\n}") + f',\n "{CHECKSUM}": "{digest}"\n}}' if content else body


def read(folder: Path) -> dict[str, Any]:
    """What run.json of a run says, of which every key that is there has a value of its type.

    Raises:
        NothingToReport: If there is none, it cannot be read, or it was damaged.
    """
    try:
        raw = regular_files.read_bytes(folder / NAME)
    except FileNotFoundError:
        raise NothingToReport(
            f"'{folder.name}' has no {NAME}, so it is not a run's folder. Name a folder that a run made."
        ) from None
    except OSError as error:
        raise NothingToReport(f"{NAME} of '{folder.name}' cannot be read: {error.strerror or error}.") from error
    content, harm = parsed(raw)
    if harm:
        raise NothingToReport(
            f"{NAME} of '{folder.name}' is damaged: {harm}. Give the run's command again: it writes the file anew, and "
            "takes what is trained from the store."
        )
    return content


def whole_parts(content: Mapping[str, Any]) -> dict[str, Any]:
    """What can still be used of a damaged content: entries of their type, and of cells and trials those that are whole."""
    kept = {key: value for key, value in content.items() if key in _SHAPE and _SHAPE[key][0](value)}
    for key, check in (("cells", _is_cell), ("trials", _is_trial)):
        if isinstance(content.get(key), list):
            kept[key] = [each for each in content[key] if check(each)]
    kept["seeds"] = [seed for seed in kept.get("seeds", ()) if any(t["seed"] == seed for t in kept.get("trials", ()))]
    return kept


def parsed(raw: bytes) -> tuple[dict[str, Any], str]:
    """The object in a file, as far as it is one, and what is wrong ("" for nothing)."""
    try:
        content = json.loads(raw)
    except UnicodeDecodeError:
        return {}, "it is no text in UTF-8"
    except RecursionError:
        return {}, "it nests too deep"
    except ValueError as error:
        return {}, f"it is no JSON: {str(error)[:120]}"
    if not isinstance(content, dict):
        return {}, f"it must hold an object, but holds {type(content).__name__}"
    found = _TAIL.search(raw)
    said = content.pop(CHECKSUM, None)
    if said is not None or found:
        body = raw[: found.start()] + b"\n}" if found else b""
        if not found or hashlib.sha256(body).hexdigest() != said:
            return content, f"it is not what was written: its checksum does not fit (who edits it removes `{CHECKSUM}`)"
    for key, value in content.items():
        if key in _SHAPE and not _SHAPE[key][0](value):
            return content, f"`{key}` must be {_SHAPE[key][1]}"
    return content, ""
