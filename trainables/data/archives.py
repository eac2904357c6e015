"""Files of a data set, loose in a folder or inside a tar or zip, listed and read in place; nothing is ever unpacked.

Names out of an archive are only looked up and shown. They never become paths, so hostile ones do no harm. Only regular
files are opened, and no more is read of one than a file of a data set may have.
"""

from __future__ import annotations

import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from system.regular_files import opened, read_bytes
from trainables.data import tars, zips
from trainables.data.stored import FILE_BYTES, HIDDEN, LOOP, NOT_REGULAR, Gathered, Stored, clean, is_hidden
from trainables.errors import DataError

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")

_DEEPEST = 64  # Folders below the top.
# What reading a damaged archive raises.
DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    OSError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


_Stored = TypeVar("_Stored", bound=Stored)


@dataclass(frozen=True)
class Tree:
    """The files below some places by their names, as `lfw/Zico/Zico_0001.jpg`; hidden ones are left out."""

    places: tuple[Path, ...]
    files: Mapping[str, Stored] = field(repr=False)
    passed: Mapping[str, str] = field(repr=False, default_factory=dict)  # What else is there, and why it is no file.
    folders: frozenset[str] = field(repr=False, default_factory=frozenset)

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
    """Whether a path is a file that is called like a tar or a zip."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES) and path.is_file()


def text_of(content: bytes) -> str:
    """Text as these old lists are written: UTF-8, or at worst Latin-1."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def tree_of(places: Iterable[Path]) -> Tree:
    """All files of folders and archives, sorted by name; the name of an archive or place is no part of theirs.

    Raises:
        DataError: If a place is missing, unreadable, cut or damaged.
    """
    places = tuple(places)
    found = Gathered()
    for place in places:
        if place.is_dir():
            _walk(place, "", found, ())
        else:
            _members(place, found)
    return Tree(places, *found.frozen())


def _walk(folder: Path | str, above: str, found: Gathered, way: tuple[tuple[int, int], ...]) -> None:
    """Collect what is below a folder; `way` are the folders that lead to it, by device and number."""
    try:
        about = os.stat(folder)
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}.") from error
    if len(way) > _DEEPEST:
        raise DataError(f"{folder} lies more than {_DEEPEST} folders deep. Name a folder nearer to the images.")
    way = (*way, (about.st_dev, about.st_ino))
    names: set[str] = set()
    for entry in listed:
        name = above + clean(entry.name)
        if is_hidden(entry.name):
            found.passed[name] = HIDDEN
            continue
        try:
            about = entry.stat()
        except OSError:
            found.add(name, entry.name, Stored(entry.path, -1, -1))  # A dangling link: reading it will tell.
            continue
        if stat.S_ISDIR(about.st_mode):
            if (about.st_dev, about.st_ino) in way:
                found.passed[name] = LOOP
            else:
                if name in names:
                    raise DataError(
                        f"Two folders in {folder} differ in nothing but bytes that are no UTF-8: {entry.name!a} and "
                        "another. Rename one of them."
                    )
                names.add(name)
                found.folders.add(name)
                _walk(entry.path, f"{name}/", found, way)
        elif stat.S_ISREG(about.st_mode):
            found.add(name, above + entry.name, Stored(entry.path, about.st_size, about.st_mtime_ns))
        else:
            found.passed[name] = NOT_REGULAR


def _members(path: Path, found: Gathered) -> None:
    again = "Fetch the archive again."
    try:
        gather = zips.gather if zips.is_zip(path) else tars.gather
        gather(path, found, again)
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as an archive ({type(error).__name__}: {error}). {again}") from error


def in_reading_order(files: Iterable[_Stored]) -> list[_Stored]:
    """Sorted so that each archive is read from front to back, once; loose files stay as they are."""
    return sorted(files, key=lambda file: ("", 0) if file.offset is None else (file.path, file.offset))


def each_content(files: Iterable[_Stored]) -> Iterator[tuple[_Stored, bytes | str]]:
    """Each file with its bytes, or with a sentence on what is wrong.

    A compressed archive can only be read forwards: give its files `in_reading_order`.
    """
    with ExitStack() as stack:
        reader: tuple[str, tars.TarReader | zips.ZipReader] | None = None
        for file in files:
            try:
                if file.size > FILE_BYTES:
                    raise ValueError(f"it has {file.size:,} bytes, and {FILE_BYTES:,} are the most that are read")
                if file.offset is None:
                    yield file, read_bytes(file.path, most=FILE_BYTES)
                    continue
                if reader is None or reader[0] != file.path:
                    stack.close()  # One archive at a time.
                    kind = zips.ZipReader if file.compression == "zip" else tars.TarReader
                    reader = file.path, kind(stack, Path(file.path))
                content = reader[1].read(file)
                yield file, content if len(content) == file.size else "the archive ends within it"
            except DAMAGE as error:
                yield file, f"{type(error).__name__}: {str(error).replace(file.path, '').strip()}"


def beginnings(files: Iterable[Stored], length: int = 32) -> Iterator[bytes]:
    """The first bytes of files; nothing of those that cannot be read, or lie in a compressed tar far from its start."""
    for file in files:
        try:
            with ExitStack() as stack:
                if file.offset is None:
                    yield stack.enter_context(opened(file.path)).read(length)
                elif file.compression == "zip":
                    yield zips.ZipReader(stack, Path(file.path)).read_some(file, length)
                elif not file.compression:
                    stream = stack.enter_context(opened(file.path))
                    stream.seek(file.offset)
                    yield stream.read(min(length, file.size))
        except DAMAGE:
            continue
