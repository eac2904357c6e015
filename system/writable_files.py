"""Opens regular files for writing: a FIFO, a device or a folder that bears the name of a log or a lock is refused.

What is written whole goes aside and is renamed (`artifacts.write_atomically`); this is for what is written in place, and
for what stands in the way of either: it is renamed, never removed.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

from system.regular_files import TEXT_BYTES, NotRegularError, TooLargeError, check, read_bytes, require

__all__ = ["keep_damaged", "make_way", "opened_to_append", "opened_to_change", "set_aside"]


def opened_to_append(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, made when missing, whose end is written to.

    Raises:
        NotRegularError: If something else is there; nothing is waited for.
        OSError: If it cannot be written.
    """
    return _opened(path, os.O_APPEND | os.O_CREAT, "ab")


def opened_to_change(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file that exists, read and written in place; raises as `opened_to_append` does."""
    return _opened(path, os.O_NOFOLLOW, "r+b")


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


def set_aside(path: Path) -> Path:
    """Rename what bears the name of one of our files to `NAME.damaged-N`, the first that is free; nothing is read."""
    number = 1
    while os.path.lexists(kept := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    os.rename(path, kept)
    return kept


def make_way(path: Path, *, most: int = TEXT_BYTES) -> Path | None:
    """Set aside what is no regular file of at most `most` bytes; where it went, or None if nothing was in the way.

    Raises:
        OSError: If it cannot be renamed.
    """
    try:
        check(path, most=most)
    except (NotRegularError, TooLargeError):
        return set_aside(path)
    except OSError as error:  # What may not be looked at is told by who reads it.
        return set_aside(path) if error.errno == errno.ELOOP else None
    return None


def keep_damaged(path: Path) -> Path:
    """Copy a damaged file beside itself, to `NAME.damaged-N`; the copy's path."""
    content = read_bytes(path)
    number = 1
    while True:
        copy = path.with_name(f"{path.name}.damaged-{number}")
        try:
            with open(copy, "xb") as file:
                file.write(content)
                os.fsync(file.fileno())
            return copy
        except FileExistsError:
            number += 1
        except OSError:
            copy.unlink(missing_ok=True)  # Half a copy would be taken for one.
            raise
