"""Tars, plain and compressed, listed and read in place."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from system.regular_files import check, opened
from trainables.data.stored import LINK, NOT_REGULAR, Gathered, Stored, clean, inside, shown
from trainables.errors import DataError

_BLOCK = 512  # Everything in a tar begins at a multiple of this.
_CHUNK = 1 << 20
_MOST_PADDING = 64 << 20  # Zeros after the end; tar writes 10 KiB of them.
_MOST_SKIPPED = 8 << 30  # Bytes of one file of a compressed archive, which are all unpacked to reach the next one.
_MOST_HEADER = 1 << 20  # Bytes of a long name or of its other facts.
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class _BoundedMember(tarfile.TarInfo):
    """A member whose headers are read only if they are of a size that headers have."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # tarfile would read such a header into memory, however large the archive says it is.
        if self.type in _HEADERS and self.size > _MOST_HEADER:
            raise ValueError(f"a header says that it has {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def gather(path: Path, found: Gathered, again: str) -> None:
    """List the files of a tar; `again` says what to do about a damaged one.

    Raises:
        DataError: If it is cut, damaged, or goes on after its end.
        OSError, tarfile.TarError and others of `archives.DAMAGE`: If it cannot be read as a tar.
    """
    about = check(path)
    with ExitStack() as stack:
        stream, compression = open_stream(stack, path)
        with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape", tarinfo=_BoundedMember) as archive:
            end = 0
            for member in archive:
                end = member.offset_data + (-(-member.size // _BLOCK) * _BLOCK if member.isreg() else 0)
                written = "/".join(part for part in member.name.split("/") if part not in ("", "."))
                name, why = inside(member.name)
                if compression and member.size > _MOST_SKIPPED:
                    raise ValueError(f"{shown(member.name)} says that it has {member.size:,} bytes")
                if member.isdir():
                    if name is not None:
                        found.folders.add(name)
                elif name is None:
                    found.passed[clean(member.name)] = why
                elif member.isreg() and not member.issparse():
                    stored = Stored(str(path), member.size, about.st_mtime_ns, member.offset_data, compression)
                    found.add(name, written, stored)
                else:
                    # The bytes of sparse files, links and devices are not simply there. A hard link is another name
                    # of a file that came before.
                    target = found.files.get(inside(member.linkname)[0] or "") if member.islnk() else None
                    if target is not None and target.path == str(path):
                        found.add(name, written, target)
                    else:
                        found.passed[name] = LINK if member.islnk() or member.issym() else NOT_REGULAR
        _check_end(stream, end, path, again)


def _check_end(stream: Any, end: int, path: Path, again: str) -> None:
    # tarfile takes a damaged header for the end of the archive; the real end is a block of zeros.
    stream.seek(end)
    if stream.read(_BLOCK) != bytes(_BLOCK):
        raise DataError(f"{path} is cut or damaged {end} bytes from its beginning. {again}")
    padding = 0
    while chunk := stream.read(_CHUNK):
        padding += len(chunk)
        if chunk.count(0) != len(chunk) or padding > _MOST_PADDING:
            raise DataError(
                f"{path} goes on after its end, {end} bytes from its beginning, as several archives written one after "
                "the other do; what follows would be lost. Unpack it, and name the folder or pack it anew."
            )


def open_stream(stack: ExitStack, path: Path) -> tuple[Any, str]:
    """The bytes of a tar, uncompressed, closed with `stack`; and its compression."""
    file = stack.enter_context(opened(path))
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb")), "gz"
    if head.startswith(b"BZh"):
        return stack.enter_context(bz2.BZ2File(file)), "bz2"
    if head == b"\xfd7zXZ\x00":
        return stack.enter_context(lzma.LZMAFile(file)), "xz"
    return file, ""


class TarReader:
    """Reads members of one tar by their places; a compressed one only forwards."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self._stream, _ = open_stream(stack, path)

    def read(self, file: Stored) -> bytes:
        """The bytes of a member, fewer where the archive ends within it."""
        self._stream.seek(file.offset)
        return bytes(self._stream.read(file.size))
