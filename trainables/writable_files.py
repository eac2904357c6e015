"""Opens regular files for writing: a FIFO, a device or a folder that bears the name of a log or a lock is refused.

What is written whole goes aside and is renamed (`artifacts.write_atomically`); this is for what is written in place.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from trainables.regular_files import check, require

__all__ = ["opened_to_append", "opened_to_change"]


def opened_to_append(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, made when missing, whose end is written to.

    Raises:
        NotRegularError: If something else is there; nothing is waited for.
        OSError: If it cannot be written.
    """
    return _opened(path, os.O_APPEND | os.O_CREAT, "ab")


def opened_to_change(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file that exists, read and written in place; raises as `opened_to_append` does."""
    return _opened(path, 0, "r+b")


def _opened(path: str | os.PathLike[str], flags: int, mode: str) -> BinaryIO:
    if os.path.lexists(path):
        check(path)
    # Opened for both ways even a FIFO answers at once, should one have been put there meanwhile.
    handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | flags, 0o666)
    try:
        require(os.fstat(handle), path)
        return os.fdopen(handle, mode)  # type: ignore[return-value]
    except BaseException:
        os.close(handle)
        raise
