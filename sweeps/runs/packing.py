"""The line that tells how far a packing is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TextIO


class PackingLine:
    """How far a packing is: one line, redrawn on a terminal; elsewhere a line every ten seconds."""

    REDRAW_SECONDS, LINE_SECONDS = 0.2, 10.0

    def __init__(self, name: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self.stream, self.clock = name, stream, clock
        self._redraws = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._began = self._shown = clock()
        self._first: int | None = None
        self._drawn = False

    def __call__(self, done: int, total: int) -> None:
        """Show it, unless that was done a moment ago."""
        now = self.clock()
        if self._first is None:
            # What an earlier packing left comes at once and says nothing about the pace.
            self._first = done if done > 1 else 0
            self._began = now
        if now - self._shown < (self.REDRAW_SECONDS if self._redraws else self.LINE_SECONDS):
            return
        self._shown = now
        text = f"Packing {self.name}: {done:,} of {total:,} images ({100 * done // max(1, total)} %)"
        if done > self._first and now > self._began:
            left = round((now - self._began) / (done - self._first) * (total - done))
            text += f", {left // 60}:{left % 60:02d} left"
        self.stream.write(f"\r\x1b[K{text}" if self._redraws else f"{text}\n")
        self.stream.flush()
        self._drawn = True

    def end(self) -> None:
        """Leave the terminal as it was."""
        if self._redraws and self._drawn:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
