"""Zip archives, listed and read in place."""

from __future__ import annotations

import stat
import zipfile
from contextlib import ExitStack
from pathlib import Path

from system.regular_files import check, opened
from trainables.data.stored import LINK, NOT_REGULAR, Gathered, Stored, clean, inside
from trainables.errors import DataError

_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_DOS = 0  # Written on Windows, where a backslash may stand between folders.


def is_zip(path: Path) -> bool:
    """Whether a regular file begins as a zip does."""
    with opened(path) as file:
        return file.read(4) in _MAGIC


def gather(path: Path, found: Gathered, again: str) -> None:
    """List the files of a zip; `again` says what to do about a damaged one.

    Raises:
        DataError: If its files are encrypted.
        OSError, zipfile.BadZipFile and others of `archives.DAMAGE`: If it cannot be read as a zip.
    """
    about = check(path)
    with opened(path) as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            written = member.filename.replace("\\", "/") if member.create_system == _DOS else member.filename
            name, why = inside(written)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if written.endswith("/"):
                if name is not None:
                    found.folders.add(name)
            elif name is None:
                found.passed[clean(written)] = why
            elif kind not in (0, stat.S_IFREG):
                found.passed[name] = LINK if kind == stat.S_IFLNK else NOT_REGULAR
            elif member.flag_bits & 1:
                raise DataError(f"{path} is encrypted, which cannot be read in place. Unpack it, and name the folder.")
            else:
                stored = Stored(str(path), member.file_size, about.st_mtime_ns, member.header_offset, "zip")
                found.add(name, "/".join(part for part in written.split("/") if part not in ("", ".")), stored)


class ZipReader:
    """Reads members of one zip by their places."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self._archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(opened(path))))
        self._members = {member.header_offset: member for member in self._archive.infolist()}

    def read(self, file: Stored) -> bytes:
        """The bytes of a member, their check sum compared; no more than were listed are unpacked."""
        content = self.read_some(file, file.size + 1)
        return content if len(content) == file.size else b""

    def read_some(self, file: Stored, length: int) -> bytes:
        """Its first bytes."""
        member = self._members.get(file.offset if file.offset is not None else -1)
        if member is None:
            raise ValueError("the archive changed since it was listed")
        with self._archive.open(member) as stream:
            return stream.read(length)
