"""Where the bytes of a file of a data set are, and what was found while its files were listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from trainables.errors import DataError

FILE_BYTES = 256 << 20  # Of one image or list; a photograph of 89 million pixels takes less.

HIDDEN = "hidden"
LINK = "a link inside an archive"
NOT_REGULAR = "no regular file"
LOOP = "a link to a folder it lies in"
EARLIER = "replaced by a later file of the same name in the archive"


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the bytes of a file are: a file of their own, or a stretch of an archive."""

    path: str
    size: int
    changed: int  # Nanoseconds since the epoch, of the file on the disk.
    offset: int | None = None  # Where they begin in the (uncompressed) archive.
    compression: str = ""  # gz, bz2, xz, zip, or none.


@dataclass
class Gathered:
    """What a walk through folders and archives collects; names are those fit for JSON and Arrow."""

    files: dict[str, Stored] = field(default_factory=dict)
    passed: dict[str, str] = field(default_factory=dict)  # What is there and is no file of the set, and why.
    folders: set[str] = field(default_factory=set)
    _written: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, name: str, written: str, stored: Stored) -> None:
        """Take a file; `written` is its name as the disk or archive has it.

        Raises:
            DataError: If another file of the same place got the same name, because neither name is UTF-8.
        """
        key = (name, stored.path if stored.offset is not None else "")
        before = self._written.setdefault(key, written)
        if before != written:
            raise DataError(
                f"Two files are called {shown(name)}, because their names are no UTF-8 and differ in nothing else: "
                f"{before!a} and {written!a}. Rename one of them."
            )
        if stored.offset is not None and name in self.files and self.files[name].path == stored.path:
            self.passed[f"{name} (earlier)"] = EARLIER
        self.files[name] = stored

    def frozen(self) -> tuple[Mapping[str, Stored], Mapping[str, str], frozenset[str]]:
        """Files sorted by name, what was passed over, and folders."""
        files = dict(sorted(self.files.items()))
        return MappingProxyType(files), MappingProxyType(dict(sorted(self.passed.items()))), frozenset(self.folders)


def clean(name: str) -> str:
    """A name fit for JSON and Arrow: names that are not UTF-8 reach Python with surrogates, which neither can store."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def shown(name: str) -> str:
    """A name fit for a terminal: what is no letter, sign or space is replaced, and a very long one is cut."""
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in name)
    return text if len(text) <= 120 else f"{text[:58]}...{text[-58:]}"


def listed(names: Iterable[str]) -> str:
    """The first five names and the last, for messages."""
    found = [shown(name) for name in names]
    return ", ".join(found[:5]) + (f", ... {found[-1]}" if len(found) > 5 else "")


def is_hidden(part: str) -> bool:
    """Whether one part of a name is hidden, or what a Mac adds."""
    return part.startswith((".", "__MACOSX"))


def inside(written: str) -> tuple[str | None, str]:
    """The name of a file in an archive, or None with the reason why it is no file of the set."""
    parts = [clean(part) for part in written.split("/") if part not in ("", ".")]
    if written.startswith("/") or ".." in parts or "\0" in written or not parts:
        return None, "a name that leads out of the archive"
    if any(is_hidden(part) for part in parts):
        return None, HIDDEN
    return "/".join(parts), ""
