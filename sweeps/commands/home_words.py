"""Words that name a home folder: whether there is one is told before anything is looked for in it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from trainables.errors import UsageError

VARIABLES = ("SWEEPS_OUT", "SWEEPS_STORE", "SWEEPS_DATA_ROOT", "SWEEPS_PLUGINS", "SWEEPS_PROFILES")


LONGEST_NAME = 255  # Of a file or folder, on every usual file system.
FOLDERS = ("--out", "--store", "--data-root", "--test-data-root")


def _folders(words: list[str]) -> list[tuple[str, str]]:
    """(flag or variable, path) of every folder that is named."""
    folders = [(name, os.environ.get(name, "")) for name in VARIABLES[:3]]
    for before, word in zip(["", *words], words, strict=False):
        flag, equals, path = word.partition("=")
        if before in FOLDERS:
            folders.append((before, word))
        elif flag in FOLDERS and equals:
            folders.append((flag, path))
    return folders


def check(words: Sequence[str]) -> None:
    """Refuse `~name` where nobody of that name has a home folder, and names that no folder can have.

    Looks at the command line and at our variables.

    Raises:
        UsageError: With the word and where it stands.
    """
    places = [(word, "the command line") for word in words]
    places += [(part, name) for name in VARIABLES for part in os.environ.get(name, "").split(os.pathsep)]
    for name, path in _folders(list(words)):
        if any(len(part.encode(errors="surrogateescape")) > LONGEST_NAME for part in path.split("/")):
            raise UsageError(
                f"{name} must be a folder's path, of names of at most {LONGEST_NAME} bytes, got '{path[:60]}...'."
            )
    for word, where in places:
        # Also behind --flag=, name= and folder:.
        path = re.sub(r"^(?:[\w.-]+=|folder:)*", "", word)
        home = path.partition("/")[0]
        if home.startswith("~") and os.path.expanduser(home) == home:
            raise UsageError(
                f"{home} must be the home folder of somebody, but this machine knows none; it stands in {where} as "
                f"'{word}'. Give the whole path."
            )
