"""Where the nodes of one run find each other: a folder with its token, the head's address, and who is there.

slurm/token        secret of the run, mode 0600; whoever cannot read it can neither join nor command
slurm/head.json    where the Ray head is now, and which attempt of the driver's job that is
slurm/over.json    the run has ended: workers leave
slurm/leave/<job>  this worker is to leave for good
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import json
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm.errors import ClusterError
from system.regular_files import read_bytes


@dataclass(frozen=True)
class Head:
    """Where a run's Ray head is."""

    address: str
    attempt: str
    host: str = ""


def _is_submission(entry: Any) -> bool:
    """Whether an entry of submissions.json is one: whatever else a damaged disk says there is passed over."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("role"), str)
        and isinstance(entry.get("ids"), list)
        and all(isinstance(each, str) and re.fullmatch(r"[0-9]+(_[0-9]+)?", each) for each in entry["ids"])
        and isinstance(entry.get("profile", {}), dict)
        and isinstance(entry.get("profile", {}).get("name", ""), str)
    )


class Rendezvous:
    """The folder through which the nodes of one run find each other."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self.run = Path(folder), run
        self.token = self.folder / "token"

    def prepare(self) -> None:
        """Make the folder and, once, the token.

        Raises:
            ClusterError: If either belongs to somebody else or can be read by others.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        mine(self.folder)
        self.folder.chmod(0o700)  # Jobs run what lies here, and a run's folder may be its group's.
        (self.folder / "leave").mkdir(exist_ok=True)
        (self.folder / "workers").mkdir(exist_ok=True)
        aside = self.folder / f".token.{os.getpid()}.{secrets.token_hex(4)}"
        handle = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
        # A link appears whole or not at all, and never replaces a token that nodes already hold.
        try:
            with contextlib.suppress(FileExistsError):
                os.link(aside, self.token)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK):
                raise
            if not self.token.exists():
                os.rename(aside, self.token)
        finally:
            aside.unlink(missing_ok=True)
        self.check()

    def check(self) -> None:
        """See that folder and token are ours alone.

        Raises:
            ClusterError: If they are not, or are missing.
        """
        try:
            mine(self.folder)
            found = self.token.lstat()
        except FileNotFoundError:
            raise ClusterError(
                f"{self.token} must be there: without it no node can join {self.run}. Submit the run again."
            ) from None
        if found.st_uid != os.getuid() or not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
            raise ClusterError(
                f"{self.token} must be a file that only you can read (mode 0600), but its owner is user {found.st_uid} "
                f"and its mode {stat.S_IMODE(found.st_mode):04o}. Remove it and submit the run again."
            )

    def proof(self, attempt: str) -> str:
        """What only a head that holds this run's token can show."""
        secret = read_bytes(self.token).strip()
        return hmac.new(secret, f"{self.run}|{attempt}".encode(), hashlib.sha256).hexdigest()

    def publish(self, address: str, attempt: str) -> None:
        """Say where the head is now."""
        self._write("head.json", {"address": address, "attempt": attempt, "host": socket.gethostname()})

    def head(self) -> Head | None:
        """Where the head is, or None while that is not published."""
        content = self._read("head.json")
        try:
            return Head(str(content["address"]), str(content["attempt"]), str(content.get("host", "")))
        except (KeyError, TypeError):
            return None

    def end(self, code: int, why: str = "") -> None:
        """Say that the run is over, so that workers leave."""
        self._write("over.json", {"code": code, "why": why, "time": time.time()})

    def over(self) -> dict[str, Any] | None:
        """How the run ended, or None while it goes on."""
        return self._read("over.json") or None

    def begin(self) -> None:
        """Forget how an earlier submission ended."""
        for name in ("over.json", "head.json"):
            (self.folder / name).unlink(missing_ok=True)
        for name in os.listdir(self.folder / "leave"):
            (self.folder / "leave" / name).unlink(missing_ok=True)

    def submissions(self) -> list[dict[str, Any]]:
        """What was submitted for this run, oldest first: role, profile, ids, nodes, time."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            value = json.loads(read_bytes(self.folder / "submissions.json"))
            return [entry for entry in value if _is_submission(entry)] if isinstance(value, list) else []
        return []

    def jobs(self, *roles: str) -> list[str]:
        """Ids of the run's jobs, of these roles if any are named."""
        return [str(i) for s in self.submissions() if not roles or s.get("role") in roles for i in s.get("ids", ())]

    def ask_to_leave(self, job: str) -> None:
        """Ask the worker of a job to leave for good."""
        (self.folder / "leave" / job).touch()

    def is_asked_to_leave(self, job: str) -> bool:
        """Whether the worker of a job was asked to leave for good."""
        return job in listing(self.folder / "leave")

    def say(self, job: str, **content: Any) -> None:
        """What the worker of a job is doing, for people."""
        with contextlib.suppress(OSError):  # It is for people; a full disk must not end a worker.
            self._write(
                f"workers/{job}.json", {"job": job, "host": socket.gethostname(), "time": time.time(), **content}
            )

    def workers(self) -> dict[str, dict[str, Any]]:
        """What each worker last said, by job."""
        names = [name for name in listing(self.folder / "workers") if name.endswith(".json")]
        found = {name[:-5]: self._read(f"workers/{name}") for name in names if not name.startswith(".")}
        return {job: content for job, content in found.items() if content}

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        path = self.folder / name
        aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        aside.write_text(json.dumps(dict(content)))
        os.replace(aside, path)

    def _read(self, name: str) -> dict[str, Any]:
        # A network file system may hide a new name for seconds; listing its folder makes it look again.
        listing((self.folder / name).parent)
        with contextlib.suppress(OSError, ValueError):
            value = json.loads(read_bytes(self.folder / name))
            if isinstance(value, dict):
                return value
        return {}


def listing(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def mine(folder: Path) -> None:
    """Refuse a folder that belongs to somebody else.

    Raises:
        ClusterError: With its owner.
    """
    owner = folder.stat().st_uid
    if owner != os.getuid():
        raise ClusterError(
            f"{folder} must belong to you (user {os.getuid()}), but belongs to user {owner}: its jobs and its token are "
            "theirs. Use a folder of your own with --out; --store may still be shared."
        )
