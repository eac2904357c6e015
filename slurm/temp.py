"""Temporary folders of our own for Ray: short, private, removed at the end; those of killed processes are swept."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LONGEST = 22  # A socket's path has at most 107 characters: 61 are Ray's, 24 ours.


@contextlib.contextmanager
def private_temp(root: str | None = None) -> Iterator[Path]:
    """A short folder of our own (mode 0700) for Ray's sockets, removed at the end.

    Args:
        root: Where to make it; without one `SWEEPS_TMPDIR` or the machine's. A place too long for sockets is not used.
    """
    place = _temp_root(root)
    sweep_stale_temp(place)
    path = Path(tempfile.mkdtemp(prefix=f"swp{os.getpid()}-", dir=place))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _temp_root(root: str | None) -> str:
    wanted = root or os.environ.get("SWEEPS_TMPDIR") or tempfile.gettempdir()
    usable = len(wanted) <= LONGEST and os.path.isdir(wanted) and os.access(wanted, os.W_OK | os.X_OK)
    return wanted if usable else "/tmp"


def sweep_stale_temp(root: str | None = None) -> None:
    """Remove what killed processes of this user left behind."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(_temp_root(root)):
            if not entry.name.startswith("swp") or not entry.is_dir(follow_symlinks=False):
                continue
            pid = entry.name[3:].split("-")[0]
            age = time.time() - entry.stat(follow_symlinks=False).st_mtime
            if pid.isdigit() and entry.stat().st_uid == os.getuid() and age > 60 and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(entry.path, ignore_errors=True)
