"""Leases on the work in progress: who holds a folder, who is dead, who takes over."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from system.liveness import process_is_gone, this_process
from system.writable_files import opened_to_change
from trainables.errors import LeaseLostError
from trainables.store.files import explained, make_folder, read_json, share_with_group

LEASE_REWRITE_SECONDS = 10.0
LEASE_SILENCE_SECONDS = 60.0
LEASE_LONG_SILENCE_SECONDS = 600.0


class LeaseObserver:
    """Judges leases by what it saw itself: a counter unchanged for 60 s on its own monotonic clock is dead."""

    def __init__(self, silence: float = LEASE_SILENCE_SECONDS) -> None:
        self.silence = silence
        self._seen: dict[str, tuple[Any, float]] = {}

    def is_dead(self, path: Path) -> bool:
        """Whether the lease or lock file at `path` was released, or its owner is gone or silent."""
        content = read_json(path)
        if content is not None:
            if content.get("released"):
                return True
            gone = process_is_gone(content)
            if gone is not None:
                return gone
        counter = None if content is None else content.get("counter")
        now = time.monotonic()
        known = self._seen.get(str(path))
        if known is None or known[0] != counter:
            self._seen[str(path)] = (counter, now)
            return False
        return now - known[1] >= self.silence


class OneLook(LeaseObserver):
    """Judges for who cannot wait: an owner that cannot be asked from here and wrote nothing for ten minutes is dead.

    By the clock of the file system, so for looking and tidying only; who takes a lease over watches it with its own.
    """

    def is_dead(self, path: Path) -> bool:
        """Whether the lease is dead by what can be seen at once."""
        if super().is_dead(path):
            return True
        if process_is_gone(read_json(path) or {}) is not None:
            return False
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime > LEASE_LONG_SILENCE_SECONDS
        return False


class Lease:
    """Ownership of a folder's work: the highest `lease.<n>`; taking over is creating n + 1.

    Unlinking or renaming a dead lease before creating a new one gives two owners when two processes do it at once;
    counting up does not, because only one of them can create the next number.
    """

    def __init__(self, folder: Path, number: int, content: dict[str, Any], prefix: str = "lease") -> None:
        self.folder, self.number, self.prefix = folder, number, prefix
        self.path = folder / f"{prefix}.{number}"
        self._content = content
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def numbers(cls, folder: Path, prefix: str = "lease") -> list[int]:
        """The lease numbers present, ascending."""
        try:
            return cls._numbered(os.listdir(folder), prefix)
        except OSError:
            return []

    @staticmethod
    def _numbered(names: Iterable[str], prefix: str) -> list[int]:
        """As we write them: no other digits, no leading zeros, no number too long for a name of a file."""
        parts = (name.rpartition(".") for name in names)
        return sorted(
            int(tail) for head, _, tail in parts if head == prefix and re.fullmatch(r"[1-9][0-9]{0,17}", tail)
        )

    @classmethod
    def take(
        cls,
        folder: Path,
        *,
        run: str = "",
        observer: LeaseObserver | None = None,
        prefix: str = "lease",
        more: Mapping[str, Any] | None = None,
        known_dead: int = 0,
        pause: Callable[[], None] | None = None,
    ) -> Lease | None:
        """The lease on `folder`, or None when a living process holds it.

        Args:
            folder: Made when missing.
            run: Written into the lease, for people.
            observer: Its memory of foreign counters; a new one cannot tell a silent foreign owner yet.
            prefix: Name of the lease files.
            more: Further content.
            known_dead: Number up to which leases are dead: who watched them long enough says so.
            pause: Called between looking and creating; tests widen the race with it.
        """
        observer = observer or LeaseObserver()
        make_folder(folder)
        numbers = cls.numbers(folder, prefix)
        highest = numbers[-1] if numbers else 0
        if highest > known_dead and not observer.is_dead(folder / f"{prefix}.{highest}"):
            return None
        if pause:
            pause()
        number = highest + 1
        content = this_process() | {"run": run, "counter": 0, "released": False} | dict(more or {})
        path = folder / f"{prefix}.{number}"
        # A link makes name and content appear in one step, so nobody ever reads an empty lease.
        aside = folder / f".{prefix}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            aside.write_text(json.dumps(content))
            share_with_group(aside)
            os.link(aside, path)
        except (FileExistsError, FileNotFoundError):
            return None  # Another was faster, or finished and removed the folder.
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK):
                raise explained(error, path) from error
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except (FileExistsError, FileNotFoundError):
                return None
            with os.fdopen(handle, "w") as file:
                file.write(json.dumps(content))
            share_with_group(path)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()
        lease = cls(folder, number, content, prefix)
        if not lease.is_mine():
            return None
        return lease

    def is_mine(self) -> bool:
        """Whether no higher number was created since; while the folder cannot be listed nobody is known to have."""
        try:
            numbers = self._numbered(os.listdir(self.folder), self.prefix)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return bool(numbers) and numbers[-1] == self.number

    def require(self) -> None:
        """Raise LeaseLostError when the folder belongs to somebody else now."""
        if not self.is_mine():
            raise LeaseLostError(f"{self.folder.name} was taken over by another process; this one leaves.")

    def update(self, **content: Any) -> bool:
        """Write progress into the lease, and whether that could be done: a full disk is not this thread's business."""
        with self._guard:
            self._content.update(content)
            self._content["counter"] = int(self._content["counter"]) + 1
            with contextlib.suppress(OSError):
                # In place: the name must never vanish, and a reader that meets half a line looks again.
                with opened_to_change(self.path) as handle:
                    handle.write(json.dumps(self._content).encode().ljust(512))
                    handle.truncate()
                return True
        return False

    def keep_alive(self, period: float = LEASE_REWRITE_SECONDS) -> Lease:
        """Rewrite the counter every 10 s from a thread until released."""

        def beat() -> None:
            while not self._stop.wait(period):
                self.update()

        self._thread = threading.Thread(target=beat, name="lease", daemon=True)
        self._thread.start()
        return self

    def release(self) -> bool:
        """Say that the work is free, and whether that could be said. The file stays: numbers only grow."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=5)
        return self.update(released=True)
