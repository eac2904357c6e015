"""The store: artifacts that appear whole or not at all, leases on the work in progress, checkpoints. No torch.

    store/<key>/            manifest.json  history.arrow  weights.safetensors  outputs.arrow ...
    store/.work/<key>/      lease.<n>      checkpoint-<n>-<epoch>-<crc>.pt     failure-<n>.json

Publishing is the rename of a directory, which fails when the key exists: the first stays, the second is thrown away.
A lease saves work; that results are right rests on the rename and on equal keys giving equal numbers.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system import regular_files
from system.liveness import process_is_gone, this_process
from system.writable_files import opened_to_change, set_aside
from trainables.errors import ArtifactError, DiskFullError, LeaseLostError, MachineError, is_disk_full, is_refused
from trainables.store import manifest_checksum

MANIFEST_SCHEMA = 1
KEY = re.compile(r"^[0-9a-f]{16}\Z")
LEASE_REWRITE_SECONDS = 10.0
LEASE_SILENCE_SECONDS = 60.0
CHECKPOINT_BYTES = 16 << 30  # Larger ones are not ours: weights, momentum and averages of a billion numbers.
LEASE_LONG_SILENCE_SECONDS = 600.0

_CHECKPOINT = re.compile(r"^checkpoint-(\d+)-(\d+)-([0-9a-f]{8})\.pt\Z")


def write_atomically(path: Path, data: bytes | str, *, sync: bool = True) -> None:
    """Write aside and rename: readers see the old file or the new one, never a half.

    Raises:
        DiskFullError: If there is no room; the old file stays.
    """
    payload = data.encode() if isinstance(data, str) else data
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(aside, "wb") as handle:
            handle.write(payload)
            if sync:
                handle.flush()
                os.fsync(handle.fileno())
        share_with_group(aside)
        if path.is_dir() and not path.is_symlink():
            set_aside(path)  # A rename cannot take the place of a folder.
        os.replace(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise explained(error, path) from error


def explained(error: OSError, path: Path) -> Exception:
    """What to raise for a failed write: ours where people can do something about it."""
    if is_disk_full(error):
        return DiskFullError(
            f"No room to write {path} ({error.strerror}). "
            "Free space or raise the quota, then resume the run: it carries on where it stopped."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(f"{path.parent} must be writable, but {error.strerror}. Choose another folder with --out.")
    if is_refused(error):
        return MachineError(f"{path} cannot be written: {error.strerror}. Its disk or network is at fault.")
    return error


def sha256_of(path: Path) -> str:
    """SHA-256 of a regular file's bytes, in hex."""
    digest = hashlib.sha256()
    with regular_files.opened(path) as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


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


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None when it is missing, half-written or something else."""
    try:
        value = json.loads(regular_files.read_bytes(path))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


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


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; inside a set-group-id folder members of the group may write.

    Raises:
        MachineError: If it cannot be made.
    """
    missing = []
    at = folder
    while not at.exists():
        missing.append(at)
        at = at.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise MachineError(f"{folder} must be a folder, but a file of that name is in the way.") from None
    except OSError as error:
        if is_disk_full(error):
            raise explained(error, folder) from error
        raise MachineError(
            f"The folder {folder} must be writable, but it cannot be made: {error.strerror}. Choose another with --out."
        ) from error
    for made in reversed(missing):
        share_with_group(made)


def share_with_group(path: Path) -> None:
    """In a store of several users (its folder has the set-group-id bit) what we add is writable by the group."""
    with contextlib.suppress(OSError):
        parent = path.parent.stat()
        if not parent.st_mode & stat.S_ISGID:
            return
        mode = path.stat().st_mode
        wanted = mode | stat.S_IRGRP | stat.S_IWGRP
        if path.is_dir():
            wanted |= stat.S_IXGRP | stat.S_ISGID
        if wanted != mode:
            path.chmod(stat.S_IMODE(wanted))


@dataclass(frozen=True)
class Artifact:
    """A finished stage in the store."""

    key: str
    path: Path
    manifest: dict[str, Any]

    @property
    def kind(self) -> str:
        """Stage kind: teacher, assistant, ..."""
        return str(self.manifest["kind"])

    @property
    def metrics(self) -> dict[str, Any]:
        """What the stage measured."""
        return dict(self.manifest["metrics"])

    @property
    def digest(self) -> str:
        """SHA-256 over the content files: equal for equal numbers."""
        return str(self.manifest["digest"])

    @property
    def is_covered(self) -> bool:
        """Whether what the manifest says is under a checksum; those of earlier versions have none."""
        return manifest_checksum.is_covered(self.manifest)

    def file(self, name: str, *, verify: bool = False) -> Path:
        """Path of one of its files.

        Args:
            name: As the manifest lists it.
            verify: Whether to compare its bytes with the digest of the manifest.

        Raises:
            ArtifactError: If the manifest lists no such file, it is gone or altered.
        """
        if name not in self.manifest["files"]:
            raise ArtifactError(f"Artifact {self.key} (stage '{self.kind}') has no file '{name}'.{_discard(self.path)}")
        path = self.path / name
        if not path.is_file():
            raise ArtifactError(f"Artifact {self.key} lost its file '{name}'.{_discard(self.path)}")
        if verify and (problem := _differs(path, self.manifest["files"][name])):
            raise ArtifactError(f"The file '{name}' of artifact {self.key} {problem}.{_discard(self.path)}")
        return path


def _differs(path: Path, entry: Any) -> str | None:
    """Why a file is not what the manifest's `entry` says, or None; a file of another size is not read."""
    if not isinstance(entry, dict):
        return "is not what was published"
    try:
        if regular_files.check(path).st_size != entry.get("bytes", path.stat().st_size):
            return "is not what was published: it has another size"
        return None if sha256_of(path) == entry.get("sha256") else "is not what was published"
    except (FileNotFoundError, ValueError):  # A name with a NUL or half a character is no file's.
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _discard(path: Path) -> str:
    words = shlex.join(["store", "discard", path.name, "--store", str(path.parent)])
    return f" Remove it with `python -m sweeps {words}`; the next run makes it again."


def content_digest(files: Mapping[str, str]) -> str:
    """One digest over the names and digests of the content files."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


class Store:
    """A folder of artifacts, shared by runs, processes and, on a shared file system, by machines and users."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self.work = self.root / ".work"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            MachineError: If that is not possible.
        """
        make_folder(self.root)
        make_folder(self.work)
        for folder in (self.work, self.root / ".runs", self.root / "data"):
            share_with_group(folder)  # Those of before the store was shared, too.
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise MachineError(
                f"{self.root} must be writable, but is not. Choose another folder with --store or --out."
            )

    def keys(self) -> set[str]:
        """Keys of all artifacts, from one listing."""
        try:
            with os.scandir(self.root) as entries:
                return {entry.name for entry in entries if KEY.match(entry.name)}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> MachineError:
        return MachineError(
            f"The store {self.root} must be a folder that can be read, but: {error.strerror or error}. Mend that, or name "
            "another with --store."
        )

    def path(self, key: str) -> Path:
        """Where the artifact of `key` is or will be."""
        if not KEY.match(key):
            raise ArtifactError(f"A key is 16 hex digits, got {key!r}.")
        return self.root / key

    def has(self, key: str) -> bool:
        """Whether the artifact is there now."""
        try:
            return (self.root / key / "manifest.json").exists()
        except OSError as error:
            raise self._unreadable(error) from error

    def get(self, key: str, *, patience: float = 0.0) -> Artifact:
        """The artifact of `key`; its manifest is data and is checked as such.

        Args:
            key: Its key.
            patience: Seconds it may take to appear: a network file system can show another node's work late.

        Raises:
            ArtifactError: If it is missing or its manifest is unreadable.
        """
        path = self.path(key)
        until = time.monotonic() + patience
        while (manifest := read_json(path / "manifest.json")) is None and time.monotonic() < until:
            self.keys()  # Listing the folder makes the file system look again.
            time.sleep(0.5)
        if manifest is None:
            if not path.exists():
                raise ArtifactError(f"The store {self.root} has no artifact {key}.")
            raise ArtifactError(
                f"Artifact {key} has no readable manifest: its writer was probably killed.{_discard(path)}"
            )
        wanted = {"key": str, "kind": str, "spec": dict, "parents": dict, "files": dict, "metrics": dict, "digest": str}
        for name, kind in wanted.items():
            if not isinstance(manifest.get(name), kind):
                raise ArtifactError(
                    f"The manifest of artifact {key} must hold '{name}' ({kind.__name__}).{_discard(path)}"
                )
        if manifest["key"] != key:
            raise ArtifactError(f"Artifact {key} says it is {manifest['key']!r}.{_discard(path)}")
        for name in manifest["files"]:
            # Longer names than a file system takes would make every look at them an error.
            if "/" in name or name.startswith(".") or len(name.encode(errors="replace")) > 255:
                raise ArtifactError(f"The manifest of artifact {key} lists a file {name!r} outside it.{_discard(path)}")
        if not manifest_checksum.holds(manifest):
            raise ArtifactError(
                f"The manifest of artifact {key} is not what was published: its checksum differs.{_discard(path)}"
            )
        return Artifact(key, path, manifest)

    def publish(self, key: str, manifest: dict[str, Any], write: Callable[[Path], None]) -> Artifact:
        """Write an artifact aside, fsync it and rename it into place; the first one published stays.

        Args:
            key: Its key.
            manifest: Without `files` and `digest`, which are added here.
            write: Fills a folder with the content files.

        Raises:
            DiskFullError: If there is no room; nothing is left behind.
        """
        make_folder(self.work)
        aside = self.work / f".publish-{key}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            aside.mkdir()
            write(aside)
            names = sorted(os.listdir(aside))
            files = {
                name: {"sha256": sha256_of(aside / name), "bytes": (aside / name).stat().st_size} for name in names
            }
            digest = content_digest({name: str(entry["sha256"]) for name, entry in files.items()})
            whole = {"schema": MANIFEST_SCHEMA, "key": key} | manifest | {"files": files, "digest": digest}
            whole = manifest_checksum.with_checksum(whole)
            (aside / "manifest.json").write_text(json.dumps(whole, indent=1, sort_keys=True))
            # Some libraries write files that their owner alone may read; the umask says who may.
            allowed = stat.S_IMODE(aside.stat().st_mode) & 0o666
            for name in [*names, "manifest.json"]:
                (aside / name).chmod(allowed)
                share_with_group_from(self.root, aside / name)
                _fsync(aside / name)
            share_with_group_from(self.root, aside)
            _fsync(aside)
            try:
                os.rename(aside, self.root / key)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            _fsync(self.root)
        except OSError as error:
            raise explained(error, self.root / key) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return self.get(key)

    def verify(self, key: str) -> str | None:
        """What is wrong with an artifact, or None: every file is read and its digest compared."""
        try:
            artifact = self.get(key)
        except ArtifactError as error:
            return str(error)
        for name, entry in artifact.manifest["files"].items():
            if problem := _differs(artifact.path / name, entry):
                return f"file '{name}' {problem}"
        return None

    def discard(self, key: str) -> None:
        """Remove an artifact and its work folder: renamed first, so nobody sees half of it."""
        path = self.path(key)
        grave = self.work / f".discard-{key}-{secrets.token_hex(4)}"
        make_folder(self.work)
        try:
            os.rename(path, grave)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise explained(error, path) from error
        for what in (grave, self.work / key):
            if what.is_dir() and not what.is_symlink():
                shutil.rmtree(what, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):  # No artifact of ours, but it bore the name of one.
                    what.unlink()

    def work_folder(self, key: str) -> Path:
        """Where the leases, checkpoints and failures of a stage lie."""
        return self.work / key

    def lease_holder(self, key: str) -> dict[str, Any] | None:
        """Content of the highest lease of a stage, or None."""
        numbers = Lease.numbers(self.work / key)
        return read_json(self.work / key / f"lease.{numbers[-1]}") if numbers else None

    def held_elsewhere(self, key: str, observer: LeaseObserver) -> bool:
        """Whether a living process holds the stage's lease."""
        return self.dead_lease(key, observer) is None

    def dead_lease(self, key: str, observer: LeaseObserver) -> int | None:
        """Number of a stage's highest lease when its owner is dead, 0 when there is none, None while it is held."""
        number = max(Lease.numbers(self.work / key), default=0)
        if number and not observer.is_dead(self.work / key / f"lease.{number}"):
            return None
        return number

    def clear_work(self, key: str) -> None:
        """Remove leases and checkpoints of a published stage."""
        shutil.rmtree(self.work / key, ignore_errors=True)

    def failures(self, key: str) -> list[dict[str, Any]]:
        """What went wrong with a stage so far, oldest first."""
        found = []
        folder = self.work / key
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(folder)):
                if name.startswith("failure-"):
                    content = read_json(folder / name)
                    if content is not None:
                        found.append(content)
        return sorted(found, key=_time_of)

    def write_failure(self, key: str, failure: Mapping[str, Any]) -> None:
        """Keep what went wrong beside the lease."""
        folder = self.work / key
        make_folder(folder)
        write_atomically(folder / f"failure-{time.time_ns()}.json", json.dumps(dict(failure)), sync=False)

    def forget_failures(self, key: str) -> None:
        """Give a failed stage a clean start."""
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = os.listdir(self.work / key)
        for name in names:
            if name.startswith("failure-"):
                with contextlib.suppress(OSError):
                    (self.work / key / name).unlink(missing_ok=True)

    def checkpoints(self, key: str) -> Iterator[tuple[int, int, Path]]:
        """(lease number, epoch, path) of the checkpoints, newest first; their content is not yet verified.

        The owner outranks the epoch: who could not use what it found has started over, and its own are younger.
        """
        found = []
        with contextlib.suppress(OSError):
            for name in os.listdir(self.work / key):
                match = _CHECKPOINT.match(name)
                if match:
                    found.append((int(match[1]), int(match[2]), self.work / key / name))
        yield from sorted(found, key=lambda item: item[:2], reverse=True)

    def write_checkpoint(self, key: str, lease: Lease, epoch: int, payload: bytes) -> None:
        """Keep a checkpoint whose name carries its checksum, and drop all but the two newest.

        Not fsynced: a killed process loses nothing by it, and after a power cut the checksum refuses a torn file.
        """
        lease.require()
        name = f"checkpoint-{lease.number}-{epoch}-{zlib.crc32(payload):08x}.pt"
        write_atomically(self.work / key / name, payload, sync=False)
        for _, _, path in list(self.checkpoints(key))[2:]:
            with contextlib.suppress(OSError):
                path.unlink()

    def read_checkpoint(self, key: str) -> tuple[int, bytes] | None:
        """(epoch, bytes) of the newest checkpoint that verifies, or None."""
        for _, epoch, path in self.checkpoints(key):
            match = _CHECKPOINT.match(path.name)
            with contextlib.suppress(OSError, MemoryError):
                # Compared in parts first: what is no checkpoint of ours may be larger than the memory.
                if match and _crc32_of(path) == int(match[3], 16):
                    return epoch, regular_files.read_bytes(path, most=CHECKPOINT_BYTES)
        return None


def _time_of(failure: Mapping[str, Any]) -> float:
    value = failure.get("time", 0.0)
    return float(value) if isinstance(value, int | float) and abs(value) < 1e18 else 0.0


def _crc32_of(path: Path) -> int:
    crc = 0
    with regular_files.opened(path, most=CHECKPOINT_BYTES) as file:
        while chunk := file.read(1 << 22):
            crc = zlib.crc32(chunk, crc)
    return crc


def share_with_group_from(folder: Path, path: Path) -> None:
    """Like `share_with_group`, for what is written aside and will live in `folder`."""
    with contextlib.suppress(OSError):
        top = folder.stat()
        if top.st_mode & stat.S_ISGID:
            os.chown(path, -1, top.st_gid)
            more = stat.S_IRGRP | stat.S_IWGRP
            if path.is_dir():
                more |= stat.S_IXGRP | stat.S_ISGID
            path.chmod(stat.S_IMODE(path.stat().st_mode) | more)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync a directory; losing power there is theirs to survive.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
