"""A run that waits says why: on the terminal, and in its driver's lock for `status`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from trainables import cores

AGAIN_SECONDS = 300.0  # How often a run that waits says so again,
SOON_SECONDS = 60.0  # and how soon when it waits once more.
WRITE_SECONDS = 10.0  # How old the numbers are that `status` shows.


def waits_for_cores(stages: int, run: str) -> str:
    """Which other runs hold the cores that stages of this one wait for; "" when none does."""
    held = cores.holders()
    others = {name: count for name, count in held.items() if name != run}
    if not others:
        return ""
    named = ", ".join(f"{name} holds {count}" for name, count in sorted(others.items()))
    return f"cores: {stages} stage{'s' * (stages != 1)} ready, {named} of {cores.available()}"


class Waiting:
    """Tells why a run waits: at once when it begins and ends, and again while it lasts."""

    def __init__(
        self, say: Callable[[str], None], write: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._write, self._clock = say, write, clock
        self._said = self._written = -math.inf
        self._for = ""

    def tell(self, text: str) -> None:
        """`text` says what is waited for and why, or nothing."""
        now = self._clock()
        what = text.partition(":")[0]
        began = bool(text) and what != self._for
        if (began and now - self._said >= SOON_SECONDS) or (text and now - self._said >= AGAIN_SECONDS):
            self._said = now
            self._say(f"Waiting for {text}.")
        if what != self._for or (text and now - self._written >= WRITE_SECONDS):
            self._written = now
            self._write(text)
        self._for = what
