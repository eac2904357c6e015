"""Opens regular files only, and reads no more of them than is expected.

A FIFO, a socket, a device or a folder that bears the name of a record or a manifest would make a reader wait for ever,
read without end or disturb a device. Whatever lies at a path is looked at before it is opened and again afterwards;
what is no regular file raises `NotRegularError`, what is larger than allowed `TooLargeError`. Both are OSErrors, so a
reader that answers unreadable files answers these too. Links to regular files are followed.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

TEXT_BYTES = 256 << 20  # Manifests, run.json, journals, logs: 20,000 trials take about 20 MB.

_KINDS = (
    (stat.S_ISDIR, "a folder", errno.EISDIR),
    (stat.S_ISFIFO, "a FIFO", errno.EINVAL),
    (stat.S_ISSOCK, "a socket", errno.EINVAL),
    (stat.S_ISCHR, "a device", errno.EINVAL),
    (stat.S_ISBLK, "a device", errno.EINVAL),
)


class NotRegularError(OSError):
    """What lies at a path is no regular file."""


class TooLargeError(OSError):
    """A file is larger than anything that is written there."""


def opened(path: str | os.PathLike[str], *, most: int | None = None) -> BinaryIO:
    """A regular file, open for reading bytes; the caller closes it.

    Args:
        path: Its place; links are followed.
        most: Bytes it may have; None where the caller reads in parts.

    Raises:
        NotRegularError: If it is a folder, a FIFO, a socket or a device.
        TooLargeError: If it has more than `most` bytes.
        OSError: If it is missing or cannot be read.
    """
    # Opening some devices does something, and a FIFO waits for its writer, so we look first; what is put there between
    # the two looks is met without waiting.
    require(os.stat(path), path, most)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        require(os.fstat(handle), path, most)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check(path: str | os.PathLike[str], *, most: int | None = None) -> os.stat_result:
    """What the file system says of a regular file, for libraries that open files by name; raises as `opened` does."""
    about = os.stat(path)
    require(about, path, most)
    return about


def read_bytes(path: str | os.PathLike[str], *, most: int = TEXT_BYTES) -> bytes:
    """All bytes of a regular file of at most `most` bytes; raises as `opened` does."""
    with opened(path, most=most) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise _too_large(path, len(content), most)
    return content


def read_text(path: str | os.PathLike[str], *, most: int = TEXT_BYTES, errors: str = "strict") -> str:
    """The same as UTF-8 text.

    Raises:
        UnicodeDecodeError: If it is none and `errors` is "strict".
        OSError: As `opened` does.
    """
    return read_bytes(path, most=most).decode("utf-8", errors)


def require(about: os.stat_result, path: str | os.PathLike[str], most: int | None = None) -> None:
    """Refuse what `about`, the answer of the file system, says of `path`; raises as `opened` does."""
    for is_kind, words, number in _KINDS:
        if is_kind(about.st_mode):
            raise NotRegularError(number, f"it must be a regular file, but is {words}", str(Path(path)))
    if not stat.S_ISREG(about.st_mode):
        raise NotRegularError(errno.EINVAL, "it must be a regular file, but is something else", str(Path(path)))
    if most is not None and about.st_size > most:
        raise _too_large(path, about.st_size, most)


def _too_large(path: str | os.PathLike[str], size: int, most: int) -> TooLargeError:
    return TooLargeError(
        errno.EINVAL, f"it has {size:,} bytes, and {most:,} are the most allowed there", str(Path(path))
    )
