"""The person's terminal while Ray prints: what it says goes to a log, and a terminal that was closed is left."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from system.writable_files import opened_to_append
from trainables.errors import MachineError


def leave_closed_terminal() -> None:
    """Write to nowhere what would go to a terminal that was closed; files and pipes still get it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for end in (1, 2):
        # A terminal that was hung up is still a character device, but is no terminal any more.
        if stat.S_ISCHR(os.fstat(end).st_mode) and not os.isatty(end):
            os.dup2(nowhere, end)
    os.close(nowhere)


@contextlib.contextmanager
def quietened(log: Path) -> Iterator[Any]:
    """Send what Ray prints, from Python and from C++, to the log; yields the real terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    keep_out, keep_err = os.dup(1), os.dup(2)
    terminal = os.fdopen(os.dup(2), "w", buffering=1)
    old = sys.stdout, sys.stderr
    try:
        with opened_to_append(log) as target:
            os.dup2(target.fileno(), 1)
            os.dup2(target.fileno(), 2)
    except OSError as error:
        raise MachineError(
            f"The log {log} must be a file that can be written, but {error.strerror}. Remove it."
        ) from error
    try:
        yield terminal
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(keep_out, 1)
        os.dup2(keep_err, 2)
        os.close(keep_out)
        os.close(keep_err)
        sys.stdout, sys.stderr = old
        with contextlib.suppress(OSError):  # It may have been closed under us.
            terminal.close()
