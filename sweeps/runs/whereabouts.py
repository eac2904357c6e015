"""Where a run's store lies, and commands about a run that work when they are pasted into the same shell.

run.json says where the store is, so that a run is looked at and continued in the store it was trained into, whatever
folder a command is given in. Reads files only.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path

from trainables.store.files import read_json

KEY = "store"  # In run.json; runs of earlier versions lack it.


def root_of(out: str | Path | None) -> Path:
    """The folder of runs/ and store/: `out`, else SWEEPS_OUT, else the current one."""
    return Path(out or os.environ.get("SWEEPS_OUT") or ".").expanduser().absolute()


def store_in(root: Path, store: str | Path | None) -> Path:
    """The store: `store`, else SWEEPS_STORE, else the one in `root`."""
    named = store or os.environ.get("SWEEPS_STORE")
    return Path(named).expanduser().absolute() if named else root / "store"


def recorded(run: Path, store: Path) -> str:
    """What run.json says of the store: relative where it lies in the folder of runs/, which may be moved as a whole."""
    return os.path.relpath(store, run) if store.is_relative_to(run.parent.parent) else str(store)


def store_of(run: Path) -> Path:
    """The store of a run that no flag names: the one it was trained into, if that is still there.

    Else what SWEEPS_STORE names, or the one beside the run.
    """
    said = (read_json(run / "run.json") or {}).get(KEY)
    beside = run.parent.parent / "store"
    known = Path(os.path.normpath(run / said)) if isinstance(said, str) and said and "\0" not in said else None
    if known is not None and known.is_dir():
        return known
    named = os.environ.get("SWEEPS_STORE")
    if named or beside.is_dir() or known is None:
        return store_in(run.parent.parent, None)
    return known


def again(command: str, run: Path, *more: str, store: Path | None = None) -> str:
    """A command line about a run: by its name where that is enough, else by its path; `store` is the one in use."""
    words = [command, run.name if _is_found(run) else str(run), *more]
    if store is not None and not _is_one(store, store_of(run)):
        words += ["--store", str(store)]
    return "python -m sweeps " + shlex.join(words)


def place_words(runs: Path, store: Path) -> list[str]:
    """`--out` and `--store` as a command needs them to come to these folders; none where it does so by itself."""
    words = [] if _is_one(runs, _runs_here()) else ["--out", str(runs.parent)]
    return words if _is_one(store, store_in(runs.parent, None)) else [*words, "--store", str(store)]


def absolute(path: str) -> str:
    """A path that means the same in every folder; one that begins with ~ does so already."""
    return path if path.startswith("~") else os.path.abspath(path)


def _runs_here() -> Path | None:
    with contextlib.suppress(OSError, RuntimeError):  # The current folder was removed; an unknown ~user.
        return root_of(None) / "runs"
    return None


def _is_found(run: Path) -> bool:
    return _is_one(run.parent, _runs_here())


def _is_one(one: Path, other: Path | None) -> bool:
    return other is not None and os.path.realpath(one) == os.path.realpath(other)
