"""The temporary folder that Ray's sockets and logs go to: which it is, and whether it has room."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from slurm import temp
from slurm.head import OBJECT_STORE_BYTES
from trainables.errors import MachineError

LEAST_BYTES = 20e6  # A run of a minute writes about 5 MB there.
COMFORTABLE_BYTES = 200e6
SHARED_MEMORY = Path("/dev/shm")
VARIABLE = "SWEEPS_TMPDIR"


def root() -> Path:
    """The folder in which a run makes its own."""
    try:
        return Path(temp._temp_root(None))
    except OSError:  # Not even tempfile found a folder that it can write.
        return Path("/tmp")


def unused() -> str:
    """Why SWEEPS_TMPDIR is not the folder that is used, "" when it is or is not set."""
    wanted = os.environ.get(VARIABLE)
    if not wanted or Path(wanted) == root():
        return ""
    if not os.path.isdir(wanted):
        return f"{VARIABLE}={wanted} is no folder"
    if len(wanted) > temp.LONGEST:
        return f"{VARIABLE}={wanted} is longer than the {temp.LONGEST} characters that sockets leave it"
    return f"{VARIABLE}={wanted} cannot be written"


def check() -> None:
    """See that a run can begin there.

    Raises:
        MachineError: If the folder cannot be written, or is full.
    """
    place = root()
    advice = f"Free some, or set {VARIABLE} to a folder with room (at most {temp.LONGEST} characters)."
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0" * 65_536)
            file.flush()
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise MachineError(
            f"The temporary folder {place} must be writable for Ray's sockets and logs, but: {error.strerror}. {advice}"
        ) from error
    if free < LEAST_BYTES:
        raise MachineError(
            f"The temporary folder {place} must have {LEAST_BYTES / 1e6:.0f} MB free for Ray's sockets and logs, but has "
            f"{free / 1e6:.1f} MB. {advice}"
        )


def rows() -> list[tuple[str, str]]:
    """What `doctor` says of it: state and message."""
    found: list[tuple[str, str]] = []
    why = unused()
    if why:
        found.append(("warn", f"{why}; {root()} is used"))
    try:
        check()
        free = shutil.disk_usage(root()).free
        state = "ok" if free >= COMFORTABLE_BYTES else "warn"
        found.append((state, f"temporary folder {root()}, {free / 1e9:.1f} GB free"))
    except (MachineError, OSError) as error:
        found.append(("FAIL", str(error)))
    try:
        shared = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        shared = 0
    if shared < OBJECT_STORE_BYTES * 1.1:
        # Ray looks for that much itself and takes its temporary folder otherwise.
        found.append(
            (
                "warn",
                f"{SHARED_MEMORY} has {shared / 1e6:.0f} MB free, so Ray keeps its objects in {root()}, which is slower",
            )
        )
    return found
