"""What goes wrong with a stage, and when it is not tried again. No torch."""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Mapping
from typing import Any

from trainables.errors import ArtifactError, DataError, MachineError, NonFiniteError, UsageError

# Trying again cannot help against these. In the files of failures the word for it is `hopeless`, which stays.
PERMANENT = (NonFiniteError, DataError, UsageError, ArtifactError)
# What lies on the disk or the machine is to blame, so the next run tries again by itself: it may be mended by then.
MENDABLE = (DataError, ArtifactError, MachineError, OSError)
LOST = "ProcessLost"
LOSSES_ALLOWED = 3
PERMANENT_ENTRY = "hopeless"  # Its name in a failure's file: stores of earlier versions are read, and read ours.


def signature(failure: Mapping[str, Any]) -> str:
    """What makes two failures the same one."""
    return f"{failure.get('type')}: {failure.get('message')}"


def verdict(failures: list[dict[str, Any]]) -> str | None:
    """Why a stage with these failures is not tried again, or None while it is.

    The same exception twice ends it, NaN or bad data at once; lost processes cost nothing as long as a new checkpoint
    was written since the last one, and three without one end it.
    """
    raised = [f for f in failures if f.get("type") != LOST]
    for failure in raised:
        if failure.get(PERMANENT_ENTRY):
            return signature(failure)
    known = [signature(f) for f in raised]
    for text in known:
        if known.count(text) >= 2:
            return text
    in_a_row, last_epoch = 0, None
    for failure in failures:
        if failure.get("type") != LOST:
            continue
        in_a_row = in_a_row + 1 if failure.get("epoch") == last_epoch else 1
        last_epoch = failure.get("epoch")
        if in_a_row >= LOSSES_ALLOWED:
            return f"killed {LOSSES_ALLOWED} times without progress, probably for memory"
    return None


def is_mendable(failure: Mapping[str, Any]) -> bool:
    """Whether what went wrong may be mended by the next run: something on the disk or of the machine."""
    return bool(failure.get("mendable", failure.get("type") in {kind.__name__ for kind in MENDABLE}))


def describe_failure(error: BaseException, epoch: int) -> dict[str, Any]:
    """What is kept of an exception."""
    return {
        "type": type(error).__name__,
        "message": str(error)[:2000],
        "traceback": "".join(traceback.format_exception(error))[-20_000:],
        "epoch": epoch,
        "time": time.time(),
        PERMANENT_ENTRY: isinstance(error, PERMANENT),
        "mendable": isinstance(error, MENDABLE),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
