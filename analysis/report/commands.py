"""Commands as a report shows them: a report is passed on, so where things lay on one machine is left out."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath

PLACES = ("--out", "--store")  # Where a run was kept changes nothing in its numbers.


def portable(command: str) -> str:
    """A command without the folders of one machine: of an absolute path its last name is left.

    One that cannot be split is given with its absolute paths cut in the same way.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return re.sub(r"(?<![\w.])[~/][^\s'\"]*/([^\s'\"/]*)", r"\1", command)
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or word in PLACES:
            skip = not skip and word in PLACES
            continue
        if not word.startswith(tuple(f"{place}=" for place in PLACES)):
            kept.append(_last_names(word))
    return shlex.join(kept)


def _last_names(word: str) -> str:
    """`folder:/a/b` -> `folder:b`, `teacher.weights=/a/b.pth,/a/c.pth` -> `teacher.weights=b.pth,c.pth`."""
    found = re.fullmatch(r"((?:[\w.\-]*[:=])?)([~/].*)", word, re.DOTALL)
    return found[1] + ",".join(map(_last_name, found[2].split(","))) if found else word


def _last_name(path: str) -> str:
    return PurePosixPath(path).name or path if path.startswith(("/", "~")) else path
