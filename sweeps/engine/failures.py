"""What went wrong with the stages of a run: on the disk for later runs, and in memory where the disk refuses.

A store that became read-only, lost its permission or answers with input/output errors cannot hold the count that ends
retries. So the engine keeps what could not be written, and after `REFUSALS_ALLOWED` refusals without a finished stage
in between the run ends and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainables.store.artifacts import Store

REFUSALS_ALLOWED = 3


class FailureLedger:
    """Failures of stages as the store has them, and those that it would not take."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._kept: dict[str, list[dict[str, Any]]] = {}
        self._refusals = 0

    def write(self, key: str, failure: Mapping[str, Any]) -> None:
        """Keep a failure in the store, or here when that cannot be."""
        try:
            self.store.write_failure(key, failure)
        except Exception as error:
            self.keep(key, {**failure, "refused": str(error)})

    def keep(self, key: str, failure: Mapping[str, Any]) -> None:
        """Remember a failure that the store refused; `refused` says why."""
        self._kept.setdefault(key, []).append(dict(failure))
        self._refusals += 1

    def of(self, key: str) -> list[dict[str, Any]]:
        """All that went wrong with a stage: what the store has, oldest first, then what it refused."""
        return self.store.failures(key) + self._kept.get(key, [])

    def finished(self) -> None:
        """A stage was published, so the store can be written."""
        self._refusals = 0

    @property
    def refusal(self) -> str:
        """Why the run must end: the store refuses to be written; "" while it does not."""
        if self._refusals < REFUSALS_ALLOWED:
            return ""
        last = max((failures[-1] for failures in self._kept.values()), key=lambda failure: failure.get("time", 0.0))
        return (
            f"The store {self.store.root} must be writable, but what went wrong with a stage could not be kept there: "
            f"{str(last.get('refused', '')).rstrip('.')}. Make it writable; what is finished is kept."
        )
