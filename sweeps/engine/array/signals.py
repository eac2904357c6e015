"""The signals that a task answers for itself and its stages."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

WARNED, STOPPED, ENDED = 75, 130, 143  # A task's exit codes.


class EndedBySlurm(BaseException):
    """SLURM ends this job now."""


class Heard:
    """The signals that came."""

    def __init__(self) -> None:
        self.warned = self.stop = self.ended = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[Heard]:
        """Answer the task's signals."""
        answers: dict[int, Any] = {
            signal.SIGUSR1: signal.SIG_IGN,
            signal.SIGUSR2: self._warn,
            signal.SIGINT: self._press,
            signal.SIGTERM: self._end,
        }
        old = {number: signal.signal(number, answer) for number, answer in answers.items()}
        try:
            yield self
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _warn(self, number: int, frame: FrameType | None) -> None:
        self.warned = True

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.stop:
            self._end(number, frame)
        self.stop = True

    def _end(self, number: int, frame: FrameType | None) -> None:
        if not self.ended:  # Once: what cleans up meanwhile must not be interrupted.
            self.ended = True
            raise EndedBySlurm
