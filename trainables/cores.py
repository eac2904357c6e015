"""Cores of this machine, shared by all runs of a user: one lock file a core, held while a stage computes.

Two runs on one machine each have slots for all its cores; the locks make them share instead of running twice as many
threads as there are cores, which costs far more than waiting. The kernel frees the locks of a killed process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from pathlib import Path

from system.liveness import process_is_gone, this_process
from trainables.errors import MachineError

LARGEST_SIGN = 4096


def numbers() -> list[int]:
    """The cores this process may use, as the kernel numbers them."""
    return sorted(os.sched_getaffinity(0))


def available() -> int:
    """How many cores this process may use."""
    return len(numbers())


def folder() -> Path:
    """The lock files of this user on this machine; `SWEEPS_CORES_DIR` moves them."""
    chosen = os.environ.get("SWEEPS_CORES_DIR")
    if chosen:
        return Path(chosen)
    try:
        place = tempfile.gettempdir()
    except OSError:  # It tries to write, and found no folder with room.
        place = "/tmp"
    return Path(place) / f"sweeps-cores-{os.getuid()}"


def _unusable(place: Path, error: OSError) -> MachineError:
    return MachineError(
        f"The lock files of the cores must be writable in {place}, but: {error.strerror}. "
        "Free space there, or set SWEEPS_CORES_DIR to another folder of yours."
    )


def holders() -> dict[str, int]:
    """Run -> how many cores of this machine its living stages hold; what cannot be read is left out."""
    found: dict[str, int] = {}
    for core in numbers():
        with contextlib.suppress(OSError, ValueError, RecursionError):
            # A killed process leaves its words; only its pid tells. Looking by taking the lock would be in the way.
            handle = os.open(folder() / f"core-{core}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                owner = json.loads(os.read(handle, LARGEST_SIGN))
            finally:
                os.close(handle)
            if isinstance(owner, dict) and owner.get("run") and process_is_gone(owner) is not True:
                name = str(owner["run"])
                found[name] = found.get(name, 0) + 1
    return found


class CoreLocks:
    """Holds as many cores as a stage has threads."""

    def __init__(self, threads: int) -> None:
        self.wanted = min(threads, available())
        self._held: list[int] = []

    def try_take(self, run: str = "") -> bool:
        """Take all the cores wanted, or none.

        Args:
            run: Written into the locks, for who waits for them.

        Raises:
            MachineError: If the folder of the locks belongs to somebody else, or cannot be written.
        """
        if self._held:
            return True
        place = folder()
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = place.stat()
        except OSError as error:
            raise _unusable(place, error) from error
        if owner.st_uid != os.getuid() or stat.S_ISLNK(place.lstat().st_mode):
            raise MachineError(f"{place} must belong to you, but does not. Set SWEEPS_CORES_DIR to another folder.")
        # By the numbers of the kernel: two jobs of ours on one machine that were given different cores do not meet.
        for core in numbers():
            try:
                handle = os.open(place / f"core-{core}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
            except OSError as error:
                self.release()
                raise _unusable(place, error) from error
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._held.append(handle)
            except OSError:
                os.close(handle)
            if len(self._held) == self.wanted:
                self._sign(run)
                return True
        self.release()
        return False

    def _sign(self, run: str) -> None:
        """Write who we are; a full disk is no reason not to work."""
        words = json.dumps(this_process() | {"run": run}).encode()
        for handle in self._held:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
                os.pwrite(handle, words, 0)

    def release(self) -> None:
        """Give the cores back."""
        for handle in self._held:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
            with contextlib.suppress(OSError):
                os.close(handle)
        self._held = []
