"""Publishing: a folder is filled aside, described by a manifest, and renamed into place, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainables.store import manifest_checksum
from trainables.store.files import explained, fsync, make_folder, sha256_of, share_with_group_from

MANIFEST_SCHEMA = 1


def content_digest(files: Mapping[str, str]) -> str:
    """One digest over the names and digests of the content files."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def publish(root: Path, work: Path, key: str, manifest: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Write an artifact into `work`, fsync it and rename it into `root`; the first one published stays.

    Args:
        root: Of the store.
        work: A folder of the same file system.
        key: Its key.
        manifest: Without `files` and `digest`, which are added here.
        write: Fills a folder with the content files.

    Raises:
        DiskFullError: If there is no room; nothing is left behind.
    """
    make_folder(work)
    aside = work / f".publish-{key}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        aside.mkdir()
        write(aside)
        names = sorted(os.listdir(aside))
        files = {name: {"sha256": sha256_of(aside / name), "bytes": (aside / name).stat().st_size} for name in names}
        digest = content_digest({name: str(entry["sha256"]) for name, entry in files.items()})
        whole = {"schema": MANIFEST_SCHEMA, "key": key} | manifest | {"files": files, "digest": digest}
        whole = manifest_checksum.with_checksum(whole)
        (aside / "manifest.json").write_text(json.dumps(whole, indent=1, sort_keys=True))
        # Some libraries write files that their owner alone may read; the umask says who may.
        allowed = stat.S_IMODE(aside.stat().st_mode) & 0o666
        for name in [*names, "manifest.json"]:
            (aside / name).chmod(allowed)
            share_with_group_from(root, aside / name)
            fsync(aside / name)
        share_with_group_from(root, aside)
        fsync(aside)
        try:
            os.rename(aside, root / key)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        fsync(root)
    except OSError as error:
        raise explained(error, root / key) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
