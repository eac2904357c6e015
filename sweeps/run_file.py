"""run.json on the disk: written with a checksum, read by one reader that answers whatever lies there.

Commands take the content as it is read here, so nothing in them meets a missing key or a value of another type.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainables import regular_files
from trainables.errors import MachineError

NAME = "run.json"
DIGEST = "digest"
MOST_SEED = 2**63 - 1

_TAIL = re.compile(rb',\n "digest": "([0-9a-f]{64})"\n\}\s*\Z')
_CELL = re.compile(r"[\w.+-]{1,200}\Z")
_KEY = re.compile(r"[\w.-]{1,200}\Z")
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
    return isinstance(value, str) and bool(_CELL.match(value))


def _is_key(value: Any) -> bool:
    return isinstance(value, str) and bool(_KEY.match(value)) and not value.startswith(".")


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
    return isinstance(value, dict) and isinstance(value.get("fingerprint", ""), str)


# Key -> what its value must be where there is one, and the words for it.
_SHAPE: dict[str, tuple[_Check, str]] = {
    "schema": (_is(int), "a whole number"),
    **{
        name: (_or_nothing(_is(str)), "text")
        for name in (
            *("run", "study", "title", "paper", "figure", "question", "preset", "preset_note", "task", "metric"),
            *("report", "reference", "tuned", "revision", "started", "baseline"),
        )
    },
    "data": (_is_data, "an object with its fingerprint"),
    "test_data": (_or_nothing(_is_data), "an object with its fingerprint"),
    "seeds": (_list_of(_is_seed), f"whole numbers from 0 to {MOST_SEED}"),
    "trials_asked": (_or_nothing(_is(int)), "a whole number"),
    "parameters": (_is(dict), "an object"),
    "axes": (_dict_of(_is(list)), "lists by name"),
    "pinned": (_is(dict), "an object"),
    "ranges": (_or_nothing(_is(dict)), "an object"),
    "factors": (_or_nothing(_list_of(_is(str))), "a list of names"),
    "objectives": (_or_nothing(_list_of(_is(str))), "a list of names"),
    "sampled": (_is(bool), "true or false"),
    "arms": (_or_nothing(_dict_of(_is(dict))), "objects by name"),
    "published": (_or_nothing(_list_of(_is(dict))), "a list of objects"),
    "claims": (_or_nothing(_list_of(_is(dict))), "a list of objects"),
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
    body = json.dumps({key: value for key, value in content.items() if key != DIGEST}, indent=1)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return body.removesuffix("\n}") + f',\n "{DIGEST}": "{digest}"\n}}' if content else body


def read(folder: Path) -> dict[str, Any]:
    """The content of a run's run.json, of which every key that is there has a value of its type.

    Raises:
        MachineError: If it is missing, cannot be read, was altered or is something else.
    """
    try:
        raw = regular_files.read_bytes(folder / NAME)
    except FileNotFoundError:
        raise _no_run(folder, "it has none") from None
    except OSError as error:
        raise _no_run(folder, error.strerror or str(error)) from error
    content, harm = _parsed(raw)
    if harm:
        raise _no_run(folder, harm)
    return content


def salvaged(folder: Path) -> tuple[dict[str, Any], str]:
    """What can still be used of a run.json, and what is wrong with it ("" for nothing): damaged parts are left out.

    Raises:
        MachineError: If what lies there is no file that can be read.
    """
    try:
        raw = regular_files.read_bytes(folder / NAME)
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        raise _no_run(folder, error.strerror or str(error)) from error
    content, harm = _parsed(raw)
    if not harm:
        return content, ""
    kept = {key: value for key, value in content.items() if key in _SHAPE and _SHAPE[key][0](value)}
    for key, check in (("cells", _is_cell), ("trials", _is_trial)):
        if isinstance(content.get(key), list):
            kept[key] = [each for each in content[key] if check(each)]
    kept["seeds"] = [seed for seed in kept.get("seeds", ()) if any(t["seed"] == seed for t in kept.get("trials", ()))]
    return kept, harm


def keep_copy(folder: Path) -> Path:
    """Copy a damaged run.json beside itself, under a name that is free; the copy's path."""
    content = regular_files.read_bytes(folder / NAME)
    number = 1
    while True:
        copy = folder / f"{NAME}.damaged-{number}"
        try:
            with open(copy, "xb") as file:
                file.write(content)
            return copy
        except FileExistsError:
            number += 1


def _parsed(raw: bytes) -> tuple[dict[str, Any], str]:
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
    said = content.pop(DIGEST, None)
    if said is not None or found:
        body = raw[: found.start()] + b"\n}" if found else b""
        if not found or hashlib.sha256(body).hexdigest() != said:
            return content, f"it is not what was written: its checksum does not fit (who edits it removes `{DIGEST}`)"
    for key, value in content.items():
        if key in _SHAPE and not _SHAPE[key][0](value):
            return content, f"`{key}` must be {_SHAPE[key][1]}"
    return content, ""


def _no_run(folder: Path, harm: str) -> MachineError:
    advice = (
        "" if os.path.isfile(folder / NAME) or not os.path.lexists(folder / NAME) else "Move away what lies there. "
    )
    return MachineError(
        f"{folder} has no readable run.json, so it cannot be read as a run: {harm}. {advice}Give its run command again, "
        "which writes it anew; the store keeps what was trained."
    )
