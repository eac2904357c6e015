"""The errors people meet, each with the exit code the command line gives it.

    SweepsError               1   the work failed
    ├── UsageError            2   something impossible was asked for (also a ValueError)
    │   └── NoParentError     2   a stage reads a parent that its recipe does not give it
    ├── MachineError          3   the machine is not fit: folder, disk, memory, a missing tool
    │   └── DiskFullError     3   a write failed for want of space
    ├── DataError             4   a data set is missing or damaged
    ├── NothingToReport       5   no finished trial yet
    ├── ArtifactError         1   something in the store is damaged
    ├── NonFiniteError        1   a loss or a weight became NaN or infinite
    ├── LeaseLostError        1   another process took the stage over
    └── DrainedError          1   the run was asked to stop; the stage saved and left

Every message says what must hold, what was got, and what to do next.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable


class SweepsError(Exception):
    """Base of all expected errors: one paragraph for people, and an exit code."""

    exit_code = 1


class UsageError(SweepsError, ValueError):
    """What was asked for cannot be: an unknown name, a bad value, a contradiction."""

    exit_code = 2


class NoParentError(UsageError):
    """A stage reads a parent that it was not given."""


class MachineError(SweepsError):
    """The environment is not fit for the work."""

    exit_code = 3


class DiskFullError(MachineError):
    """A write failed for want of space, quota or file size."""


class DataError(SweepsError):
    """A data set is missing, incomplete or damaged."""

    exit_code = 4


class NothingToReport(SweepsError):
    """No finished trial yet."""

    exit_code = 5


class ArtifactError(SweepsError):
    """An artifact of the store is damaged or not what its manifest says."""


class NonFiniteError(SweepsError):
    """A loss or a weight became NaN or infinite."""


class LeaseLostError(SweepsError):
    """Another process owns the stage now; this one must leave without publishing."""


class DrainedError(SweepsError):
    """The run was asked to stop; the stage saved its checkpoint and left."""


_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENXIO, errno.EREMOTEIO}
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_disk_full(error: BaseException) -> bool:
    """Whether `error`, or what caused it, says that a write found no room."""
    seen: BaseException | None = error
    met: set[int] = set()
    while seen is not None and id(seen) not in met:
        met.add(id(seen))  # An error raised again from itself is its own cause.
        if isinstance(seen, DiskFullError):
            return True
        if isinstance(seen, OSError) and seen.errno in _NO_SPACE:
            return True
        # torch wraps the failed write of its zip archive in a RuntimeError without an errno.
        text = str(seen)
        if "No space left" in text or "File too large" in text or "PytorchStreamWriter failed writing" in text:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def is_refused(error: BaseException) -> bool:
    """Whether `error` says that a disk or folder does not let itself be read or written: no fault of who tried."""
    return isinstance(error, MachineError) or (isinstance(error, OSError) and error.errno in _REFUSED)


def _nearest(wrong: str, names: Iterable[str], n: int, cutoff: float) -> list[str]:
    import difflib  # Only who errs waits for it.

    return difflib.get_close_matches(wrong, list(names), n=n, cutoff=cutoff)


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` with a leading space, or nothing when no name is near."""
    names = list(known)
    near = _nearest(str(wrong), names, n=1, cutoff=0.6)
    if not near:  # CIFAR10 for cifar10.
        lower = {name.lower(): name for name in reversed(names)}
        near = [lower[name] for name in _nearest(str(wrong).lower(), lower, n=1, cutoff=0.6)]
    return f" Did you mean '{near[0]}'?" if near else ""


def did_you_mean_any(wrong: str, known: Iterable[str], most: int = 3) -> str:
    """` Did you mean 'x', 'y' or 'z'?`, the nearest first, or one alone that is clearly meant.

    Names that hold a word of the wrong one count as near.
    """
    names = list(dict.fromkeys(known))
    if clear := _nearest(str(wrong), names, n=1, cutoff=0.8):
        return f" Did you mean '{clear[0]}'?"
    near = _nearest(str(wrong), names, n=most, cutoff=0.6)
    parts = [part for part in re.split(r"[._\-\s]+", str(wrong).lower()) if len(part) > 2]
    near += [name for part in parts for name in names if part in re.split(r"[._]", name)]
    shown = [f"'{name}'" for name in dict.fromkeys(near)][:most]
    if not shown:
        return ""
    return f" Did you mean {', '.join(shown[:-1])}{' or ' if shown[:-1] else ''}{shown[-1]}?"
