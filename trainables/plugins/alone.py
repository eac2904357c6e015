"""A file stands alone: it imports nothing that only lies beside it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from system.rooms import ROOMS
from trainables.errors import UsageError


def refuse_neighbours(path: Path, before: set[str]) -> None:
    """A file stands alone: workers read its copy, elsewhere, where what lies beside the original is not to be found.

    Python finds modules of the current folder by itself. What another entry of its path leads to is installed.

    Raises:
        UsageError: If the file imported one that only lies beside it or in the current folder.
    """
    places = {path.resolve().parent, Path.cwd().resolve()} - {Path(entry).resolve() for entry in sys.path[1:] if entry}
    for name in sorted({module.partition(".")[0] for module in set(sys.modules) - before} - set(ROOMS)):
        found = _lies_in(sys.modules.get(name))
        if found is not None and found in places and not name.startswith("sweeps_plugin_"):
            for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                del sys.modules[module]  # The next file that imports it must be told, too.
            raise not_alone(name, found)


def _lies_in(module: ModuleType | None) -> Path | None:
    """The folder that holds a module or package."""
    file = getattr(module, "__file__", None)
    if file is None:
        return next((Path(place).resolve().parent for place in getattr(module, "__path__", ())), None)
    path = Path(file).resolve()
    return path.parent.parent if path.name == "__init__.py" else path.parent


def not_alone(name: str, folder: Path) -> UsageError:
    """What is raised where a file imports one of `folder`."""
    return UsageError(
        f"A plug-in must stand alone, because workers read a copy of it elsewhere, but it imports `{name}`, which lies in "
        f"{folder}. Put what it needs into the file itself, or install `{name}` as a package."
    )
