"""The store: artifacts that appear whole or not at all, leases on the work in progress, checkpoints. No torch.

    store/<key>/            manifest.json  history.arrow  weights.safetensors  outputs.arrow ...
    store/.work/<key>/      lease.<n>      checkpoint-<n>-<epoch>-<crc>.pt     failure-<n>.json

Publishing is the rename of a directory, which fails when the key exists: the first stays, the second is thrown away.
A lease saves work; that results are right rests on the rename and on equal keys giving equal numbers.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from system import regular_files
from trainables.errors import ArtifactError, MachineError
from trainables.store import manifest_checksum
from trainables.store.checkpoints import checkpoints, read_checkpoint, write_checkpoint
from trainables.store.failures import failures, forget_failures, write_failure
from trainables.store.files import explained, make_folder, read_json, sha256_of, share_with_group
from trainables.store.leases import Lease, LeaseObserver
from trainables.store.publishing import publish

KEY = re.compile(r"^[0-9a-f]{16}\Z")


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


def check_manifest(key: str, path: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a manifest that is not what was published.

    Raises:
        ArtifactError: If something is missing in it, of another artifact, outside its folder or altered.
    """
    wanted = {"key": str, "kind": str, "spec": dict, "parents": dict, "files": dict, "metrics": dict, "digest": str}
    for name, kind in wanted.items():
        if not isinstance(manifest.get(name), kind):
            raise ArtifactError(f"The manifest of artifact {key} must hold '{name}' ({kind.__name__}).{_discard(path)}")
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
        check_manifest(key, path, manifest)
        return Artifact(key, path, manifest)

    def publish(self, key: str, manifest: dict[str, Any], write: Callable[[Path], None]) -> Artifact:
        """Write an artifact aside and rename it into place, as `publishing.publish`; the first one published stays."""
        publish(self.root, self.work, key, manifest, write)
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
        return failures(self.work / key)

    def write_failure(self, key: str, failure: Mapping[str, Any]) -> None:
        """Keep what went wrong beside the lease."""
        write_failure(self.work / key, failure)

    def forget_failures(self, key: str) -> None:
        """Give a failed stage a clean start."""
        forget_failures(self.work / key)

    def checkpoints(self, key: str) -> Iterator[tuple[int, int, Path]]:
        """(lease number, epoch, path) of a stage's checkpoints, newest first; their content is not yet verified."""
        return checkpoints(self.work / key)

    def write_checkpoint(self, key: str, lease: Lease, epoch: int, payload: bytes) -> None:
        """Keep a checkpoint, and drop all but the two newest."""
        write_checkpoint(self.work / key, lease, epoch, payload)

    def read_checkpoint(self, key: str) -> tuple[int, bytes] | None:
        """(epoch, bytes) of the newest checkpoint that verifies, or None."""
        return read_checkpoint(self.work / key)
