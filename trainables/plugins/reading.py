"""What is being read at the moment, and how what it offers gets into the registry."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from system.regular_files import read_bytes
from trainables.errors import UsageError
from trainables.spec import registry
from trainables.spec.registry import Entry, Origin

_HERE = os.path.dirname(__file__) + os.sep
_current: Reading | None = None


@dataclass
class Reading:
    """A file, or an installed module, that is being read."""

    where: str
    file: Origin | None = None  # What is offered by a file named by a person: it comes from that file alone.
    path: str = ""  # Of the file or module.
    entry: str = ""
    modules: set[str] = field(default_factory=set)  # Those that offered something.
    taken: dict[tuple[str, str], Origin] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """How a sentence about it begins."""
        return f"The plug-in {self.where}" if self.file is not None else f"{self.where[:1].upper()}{self.where[1:]}"


def reading_now() -> Reading:
    """What is being read.

    Raises:
        UsageError: If nothing is.
    """
    if _current is None:
        raise UsageError(
            "A plug-in is read by the commands, not imported: give its file to --plugins or SWEEPS_PLUGINS, or to "
            "`trainables.plugins.load`."
        )
    return _current


@contextmanager
def begun(reading: Reading) -> Iterator[None]:
    """Whatever is offered inside is of `reading`."""
    global _current
    outer, _current = _current, reading
    try:
        yield
    finally:
        _current = outer


def _asking() -> str:
    """The path of the code that calls a function here; what Python made up itself has none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (
        frame.f_code.co_filename.startswith(_HERE) or frame.f_code.co_filename.startswith("<")
    ):
        frame = frame.f_back
    reading = reading_now()
    if frame is None:
        return reading.path
    reading.modules.add(str(frame.f_globals.get("__name__")))
    return frame.f_code.co_filename


def _origin(path: str) -> Origin:
    """The file that is offering something: its digest enters keys, so it must be the very file that says so.

    Raises:
        UsageError: If a file is being read and another one that it imports offers something.
    """
    reading = reading_now()
    origin = reading.file
    if origin is None:
        content = read(Path(path), reading.title)
        digest = hashlib.sha256(content).hexdigest()
        file = Path(path).name
        origin = Origin(file=file, sha256=digest, where=reading.where, entry=reading.entry, content=content)
    elif path != reading.path:
        raise UsageError(
            f"{reading.title} must itself say all that it offers, because its digest stands in keys, but {path}, which it "
            "imports, offers something. Name that file, too, and import nothing of it."
        )
    return reading.taken.setdefault(origin.mark, origin)


def enter(kind: str, name: str, implementation: Any, options: Any = None, **facts: Any) -> None:
    """Make a part of what is being read known, under the digest of the file that offers it."""
    origin = _origin(
        reading_now().path if kind == "study" else _asking()
    )  # A study is found in a file after it was run.
    registry.add(
        Entry(
            group=kind,
            name=name,
            version=origin.version,
            implementation=implementation,
            options=options or {},
            facts=facts,
            origin=origin,
        )
    )


def read(path: Path, what: str) -> bytes:
    """The bytes of a file; raises UsageError, which begins with `what`."""
    try:
        return read_bytes(path)
    except OSError as error:
        raise UsageError(f"{what} cannot be read: {reason_of(error)}.") from None


def reason_of(error: Exception) -> str:
    """What the system says, without number and path."""
    said = getattr(error, "strerror", None) or str(error)
    return said[:1].lower() + said[1:].rstrip(".")
