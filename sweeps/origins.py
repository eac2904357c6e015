"""Where code comes from: our packages from the folder this one lies in, nothing from the working folder.

`analysis` and `slurm` are common words, and `python -m` looks for every module in the working folder first. This file is
imported before all others, so it imports nothing that a file of that name could take the place of.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NOWHERE = os.path.join(
    ROOT, "sweeps", "no modules"
)  # Stands first on the path, where Python has what it was started in.
NAMES = ("search_spaces", "trainables", "analysis", "slurm", "system")  # `sweeps` itself was found when this is read.


class OwnPackages:
    """Finds our packages beside `sweeps`, whatever else on the path bears their names."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The package of that name if it is ours; the modules in it are found through it."""
        if name not in NAMES:
            return None
        folder = os.path.join(ROOT, name)
        file = os.path.join(folder, "__init__.py")
        if not os.path.isfile(file):
            return None
        return spec_from_file_location(name, file, submodule_search_locations=[folder])


def find_own_first() -> None:
    """Ask for our packages before the path is searched."""
    if not any(getattr(finder, "__name__", "") == OwnPackages.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, OwnPackages)


def forget_working_folder() -> None:
    """Take the working folder off the path, unless PYTHONPATH names it.

    It is there first with `python -m`, and once for every empty part of PYTHONPATH, as `PYTHONPATH=$PYTHONPATH:/x` makes
    one where there was none.
    """
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:
        here = ""  # It was removed.
    parts = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = [os.path.realpath(part) for part in parts if part]
    if not sys.flags.safe_path and sys.path and _is(sys.path[0], here):
        sys.path[0] = NOWHERE
    if "PYTHONPATH" in os.environ and "" in parts and here not in named:
        count = len(parts) + 1  # The first may be the folder of the script.
        sys.path[:count] = [entry for entry in sys.path[:count] if not _is(entry, here)]


def _is(entry: str, here: str) -> bool:
    return not entry or (bool(here) and os.path.realpath(entry) == here)


find_own_first()
