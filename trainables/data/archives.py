"""Files of a data set, loose in a folder or inside a tar, listed and read in place; nothing is ever unpacked.

Names out of an archive are only looked up and shown. They never become paths, so hostile ones do no harm.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from trainables.errors import DataError

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")

_BLOCK = 512  # Everything in a tar begins at a multiple of this.
_DEEPEST = 5  # Folders below the top; links may go round in circles.
# What reading a damaged archive raises.
DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the bytes of a file are: a file of their own, or a stretch of an archive."""

    path: str
    size: int
    changed: int  # Nanoseconds since the epoch, of the file on the disk.
    offset: int | None = None  # Where they begin in the (uncompressed) archive.
    compression: str = ""  # gz, bz2, xz, or none.


_Stored = TypeVar("_Stored", bound=Stored)


@dataclass(frozen=True)
class Tree:
    """The files below some places by their names, as `lfw/Zico/Zico_0001.jpg`; hidden ones are left out."""

    places: tuple[Path, ...]
    files: Mapping[str, Stored] = field(repr=False)

    def text(self, name: str) -> str:
        """A text file of the tree.

        Raises:
            DataError: If it is not there or cannot be read.
        """
        return text_of(self.bytes(name))

    def bytes(self, name: str) -> bytes:
        """All bytes of one file of the tree.

        Raises:
            DataError: If it is not there or cannot be read.
        """
        if name not in self.files:
            raise DataError(f"{name} must be in {self.where}, but is not. Unpack or fetch the set again.")
        ((_, content),) = each_content([self.files[name]])
        if isinstance(content, str):
            raise DataError(f"{name} in {self.where} cannot be read: {content}.")
        return content

    @property
    def where(self) -> str:
        """The places, for messages."""
        return " and ".join(str(place) for place in self.places)

    def folder_of(self, name: str) -> str | None:
        """The folder (`""` or `some/where/`) nearest to the top that holds a file of this name."""
        found = [known[: -len(name)] for known in self.files if known == name or known.endswith(f"/{name}")]
        return min(found, key=lambda folder: (folder.count("/"), folder), default=None)


def is_archive(path: Path) -> bool:
    """Whether a path is a file that is called like a tar."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES) and path.is_file()


def text_of(content: bytes) -> str:
    """Text as these old lists are written: UTF-8, or at worst Latin-1."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def tree_of(places: Iterable[Path]) -> Tree:
    """All files of folders and tars, sorted by name; the name of an archive or place is no part of theirs.

    Raises:
        DataError: If a place is missing, unreadable, cut or damaged.
    """
    places = tuple(places)
    found: dict[str, Stored] = {}
    for place in places:
        if place.is_dir():
            _walk(place, "", found, 0)
        else:
            _members(place, found)
    return Tree(places, dict(sorted(found.items())))


def _walk(folder: Path | str, above: str, found: dict[str, Stored], depth: int) -> None:
    try:
        with os.scandir(folder) as entries:
            listed = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}.") from error
    for entry in listed:
        name = above + clean(entry.name)
        if entry.is_dir():
            if depth < _DEEPEST:
                _walk(entry.path, f"{name}/", found, depth + 1)
            continue
        try:
            stat = entry.stat()
            found[name] = Stored(entry.path, stat.st_size, stat.st_mtime_ns)
        except OSError:
            found[name] = Stored(entry.path, -1, -1)  # A dangling link: reading it will tell.


def clean(name: str) -> str:
    """A name fit for JSON and Arrow: names that are not UTF-8 reach Python with surrogates, which neither can store."""
    return os.fsencode(name).decode("utf-8", "replace")


def _members(path: Path, found: dict[str, Stored]) -> None:
    again = "Fetch the archive again."
    try:
        stat = path.stat()
        with ExitStack() as stack:
            stream, compression = _stream(stack, path)
            # Not sparse files, links, devices: their bytes are not simply in the archive.
            with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as archive:
                end = 0
                for member in archive:
                    end = member.offset_data + (-(-member.size // _BLOCK) * _BLOCK if member.isreg() else 0)
                    name = _safe(member.name)
                    if name is not None and member.isreg() and not member.issparse():
                        found[name] = Stored(str(path), member.size, stat.st_mtime_ns, member.offset_data, compression)
            # tarfile takes a damaged header for the end of the archive; the real end is a block of zeros.
            stream.seek(end)
            if stream.read(_BLOCK) != bytes(_BLOCK):
                raise DataError(f"{path} is cut or damaged {end} bytes from its beginning. {again}")
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as an archive ({type(error).__name__}: {error}). {again}") from error


def _safe(name: str) -> str | None:
    parts = [clean(part) for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or not parts or "\0" in name or any(part.startswith((".", "__MACOSX")) for part in parts):
        return None  # Absolute, climbing (..), hidden, or what a Mac adds.
    return "/".join(parts)


def _stream(stack: ExitStack, path: Path) -> tuple[Any, str]:
    """The bytes of an archive, uncompressed, closed with `stack`; and its compression."""
    file = stack.enter_context(path.open("rb"))
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb")), "gz"
    if head.startswith(b"BZh"):
        return stack.enter_context(bz2.BZ2File(file)), "bz2"
    if head == b"\xfd7zXZ\x00":
        return stack.enter_context(lzma.LZMAFile(file)), "xz"
    return file, ""


def in_reading_order(files: Iterable[_Stored]) -> list[_Stored]:
    """Sorted so that each archive is read from front to back, once; loose files stay as they are."""
    return sorted(files, key=lambda file: ("", 0) if file.offset is None else (file.path, file.offset))


def each_content(files: Iterable[_Stored]) -> Iterator[tuple[_Stored, bytes | str]]:
    """Each file with its bytes, or with a sentence on what is wrong.

    A compressed archive can only be read forwards: give its files `in_reading_order`.
    """
    with ExitStack() as stack:
        opened: dict[str, Any] = {}
        for file in files:
            try:
                if file.offset is None:
                    yield file, Path(file.path).read_bytes()
                    continue
                if file.path not in opened:
                    stack.close()  # One archive at a time.
                    opened = {file.path: _stream(stack, Path(file.path))[0]}
                opened[file.path].seek(file.offset)
                content = opened[file.path].read(file.size)
                yield file, content if len(content) == file.size else "the archive ends within it"
            except DAMAGE as error:
                yield file, f"{type(error).__name__}: {str(error).replace(file.path, '').strip()}"
