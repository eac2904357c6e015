"""Words that name a home folder: whether there is one is told before anything is looked for in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from trainables.errors import UsageError

VARIABLES = ("SWEEPS_OUT", "SWEEPS_STORE", "SWEEPS_DATA_ROOT", "SWEEPS_PLUGINS", "SWEEPS_PROFILES")


def check(words: Iterable[str]) -> None:
    """Refuse `~name` where nobody of that name has a home folder, on the command line and in our variables.

    Raises:
        UsageError: With the word and where it stands.
    """
    places = [(word, "the command line") for word in words]
    places += [(part, name) for name in VARIABLES for part in os.environ.get(name, "").split(os.pathsep)]
    for word, where in places:
        # Also behind --flag=, name= and folder:.
        path = re.sub(r"^(?:[\w.-]+=|folder:)*", "", word)
        home = path.partition("/")[0]
        if home.startswith("~") and os.path.expanduser(home) == home:
            raise UsageError(
                f"{home} must be the home folder of somebody, but this machine knows none; it stands in {where} as "
                f"'{word}'. Give the whole path."
            )
