"""A pipe that nobody reads any more, as behind `| head`: no error, and quiet."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator

EXIT_CODE = 141  # 128 and SIGPIPE: what a shell says of every program that ends so.
OURS = (1, 2)  # Results and narration.


class NobodyReads(Exception):
    """Whoever read the results, or the narration, has gone."""


@contextlib.contextmanager
def told_apart() -> Iterator[None]:
    """Lets a closed pipe of ours be known from other broken connections, before click makes exit code 1 of both.

    Raises:
        NobodyReads: If it was ours.
    """
    try:
        yield
    except BrokenPipeError as error:
        if _closed():
            raise NobodyReads from error
        raise


def forget() -> None:
    """Write what is still to come to nowhere: Python flushes at its end, and would complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in _closed():
        os.dup2(nowhere, number)


def _closed() -> list[int]:
    """Those of our outputs that are pipes without a reader."""
    waiting = select.poll()
    for number in OURS:
        waiting.register(number, 0)  # Errors alone: they are told always.
    return [number for number, events in waiting.poll(0) if events & (select.POLLERR | select.POLLHUP)]
