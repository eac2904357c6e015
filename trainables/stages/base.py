"""What a stage is given and what it gives back. No torch at import.

A stage is a generator: it yields a `Progress` after each epoch and returns a `Result`; `trainables.attempts` drives it.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from system.writable_files import opened_to_append
from trainables.errors import DrainedError, NoParentError
from trainables.store.artifacts import Artifact, Store
from trainables.store.leases import Lease


@dataclass(frozen=True)
class Progress:
    """What a stage says after an epoch."""

    epoch: int
    epochs: int
    value: float | None = None  # Validation metric, higher is better.


@dataclass
class Result:
    """What a finished stage hands over for publication."""

    metrics: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)  # One row per epoch, `epoch` among its names.
    write: Callable[[Path], None] = lambda folder: None  # Writes the content files.
    more: dict[str, Any] = field(default_factory=dict)  # Further manifest entries; no part of the digest.


@dataclass
class Context:
    """What a stage needs and what changes no numbers."""

    store: Store
    key: str
    run: str = ""
    device: str = "cpu"
    stop_file: Path | None = None
    log_file: Path | None = None
    lease: Lease | None = None
    numerics: str = ""
    gpu_share: float = 0.0
    leave_file: Path | None = None  # Its presence says that this node is about to go: save, and go on elsewhere.
    core_locks: bool = True
    dead_lease: int = 0  # The engine watched this lease: its owner, on another machine, is silent.
    patience: float = 0.0  # Seconds that a parent published on another node may take to appear here.
    plugins: tuple[Mapping[str, str], ...] = ()  # Files of the user's own that the run rests on.

    @property
    def packed_folder(self) -> Path:
        """Where the packed data sets lie."""
        return self.store.root / "data"

    def stop_asked(self) -> bool:
        """Whether the run is being drained, or this node."""
        return self.leave_asked() or (self.stop_file is not None and self.stop_file.exists())

    def leave_asked(self) -> bool:
        """Whether this node is about to go."""
        return self.leave_file is not None and self.leave_file.exists()

    def log(self, line: str) -> None:
        """Append a line to the stage's log."""
        if self.log_file is None:
            return
        with contextlib.suppress(OSError):
            now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
            with opened_to_append(self.log_file) as handle:
                handle.write(f"{now} [{socket.gethostname()}:{os.getpid()}] {line}\n".encode())

    def save(self, epoch: int, payload: bytes) -> None:
        """Keep a checkpoint of `epoch`; then leave if the run is being drained.

        Raises:
            DrainedError: If a stop was asked.
            LeaseLostError: If the stage was taken over.
        """
        if self.lease is not None:
            self.store.write_checkpoint(self.key, self.lease, epoch, payload)
        if self.stop_asked():
            raise DrainedError(f"saved at epoch {epoch}")

    def saved(self) -> tuple[int, bytes] | None:
        """(epoch, bytes) of the newest checkpoint that verifies."""
        return self.store.read_checkpoint(self.key)


class Parents(dict[str, Artifact]):
    """Role -> artifact of what a stage reads."""

    def __missing__(self, role: str) -> Artifact:
        raise NoParentError(
            f"The stage must be given its parent '{role}' to read it, but was given {', '.join(self) or 'none'}. Name it "
            "among the parents of its step in the recipe."
        )


Runner = Callable[[Any, Mapping[str, Artifact], Context], Generator[Progress, None, Result]]
