"""Files of a store: written whole or not at all, shared with a group, read without trusting them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from system import regular_files
from system.writable_files import set_aside
from trainables.errors import DiskFullError, MachineError, is_disk_full, is_refused


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


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None when it is missing, half-written or something else."""
    try:
        value = json.loads(regular_files.read_bytes(path))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


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


def fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync a directory; losing power there is theirs to survive.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
