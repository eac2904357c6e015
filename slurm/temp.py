"""Temporary folders of our own for Ray: short, private, removed at the end; those of killed processes are swept."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from slurm.reaper import end_all
from system.liveness import process_is_gone, this_process

LONGEST = 22  # A socket's path has at most 107 characters: 61 are Ray's, 24 ours.
OWNER = "owner.json"  # Who uses the folder; locked while they live, touched every few seconds.
TOUCH_SECONDS = 10.0
SILENCE_SECONDS = 3600.0  # A folder whose owner cannot be judged from here is left for so long after the last touch.
LARGEST_OWNER = 65_536


@contextlib.contextmanager
def private_temp(root: str | None = None) -> Iterator[Path]:
    """A short folder of our own (mode 0700) for Ray's sockets, removed at the end.

    Args:
        root: Where to make it; without one `SWEEPS_TMPDIR` or the machine's. A place too long for sockets is not used.
    """
    place = _temp_root(root)
    sweep_stale_temp(place)
    path = Path(tempfile.mkdtemp(prefix=f"swp{os.getpid()}-", dir=place))
    ended = threading.Event()
    handle = _claim(path)

    def touch() -> None:
        while not ended.wait(TOUCH_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(path / OWNER)

    threading.Thread(target=touch, name="temp", daemon=True).start()
    try:
        yield path
    finally:
        ended.set()
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


def _claim(path: Path) -> int:
    """Say whose folder it is, and hold the lock that the kernel frees when we die, whatever the pid namespace."""
    # Without close-on-exec a child would hold it on.
    handle = os.open(path / OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(OSError):  # A file system without locks: pid and silence must tell.
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(handle, json.dumps(this_process()).encode())
    return handle


def is_stale(path: Path) -> bool:
    """Whether nobody lives who uses this temporary folder.

    A lock that is held means life. Else the owner must be a process of this boot and pid namespace that is gone; one that
    cannot be judged from here counts as living until its folder was not touched for an hour.
    """
    try:
        handle = os.open(path / OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # Made this moment, or by an earlier version, which had the pid in the name alone.
        pid = path.name[3:].partition("-")[0]
        return not Path("/proc", pid).exists() and time.time() - path.lstat().st_mtime > SILENCE_SECONDS
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
        gone = None
        with contextlib.suppress(ValueError, OSError, RecursionError):
            owner = json.loads(os.read(handle, LARGEST_OWNER))
            gone = process_is_gone(owner) if isinstance(owner, dict) else None
        return gone if gone is not None else time.time() - os.fstat(handle).st_mtime > SILENCE_SECONDS
    finally:
        os.close(handle)


def _temp_root(root: str | None) -> str:
    wanted = root or os.environ.get("SWEEPS_TMPDIR") or tempfile.gettempdir()
    usable = len(wanted) <= LONGEST and os.path.isdir(wanted) and os.access(wanted, os.W_OK | os.X_OK)
    return wanted if usable else "/tmp"


def sweep_stale_temp(root: str | None = None) -> None:
    """Remove what killed processes of this user left behind: folders, and what still runs for them."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(_temp_root(root)):
            name, _, rest = entry.name[3:].partition("-")
            if not (entry.name.startswith("swp") and name.isascii() and name.isdecimal() and rest):
                continue
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                ours = entry.is_dir(follow_symlinks=False) and found.st_uid == os.getuid()
                if ours and is_stale(Path(entry.path)):
                    end_all(Path(entry.path))
                    shutil.rmtree(entry.path, ignore_errors=True)
