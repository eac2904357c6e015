"""Checkpoints of a stage in progress: `checkpoint-<lease>-<epoch>-<crc>.pt`, the two newest."""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from system import regular_files
from trainables.store.files import write_atomically
from trainables.store.leases import Lease

CHECKPOINT_BYTES = 16 << 30  # Larger ones are not ours: weights, momentum and averages of a billion numbers.

_NAME = re.compile(r"^checkpoint-(\d+)-(\d+)-([0-9a-f]{8})\.pt\Z")


def checkpoints(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """(lease number, epoch, path) of the checkpoints, newest first; their content is not yet verified.

    The owner outranks the epoch: who could not use what it found has started over, and its own are younger.
    """
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            match = _NAME.match(name)
            if match:
                found.append((int(match[1]), int(match[2]), folder / name))
    yield from sorted(found, key=lambda item: item[:2], reverse=True)


def write_checkpoint(folder: Path, lease: Lease, epoch: int, payload: bytes) -> None:
    """Keep a checkpoint whose name carries its checksum, and drop all but the two newest.

    Not fsynced: a killed process loses nothing by it, and after a power cut the checksum refuses a torn file.
    """
    lease.require()
    name = f"checkpoint-{lease.number}-{epoch}-{zlib.crc32(payload):08x}.pt"
    write_atomically(folder / name, payload, sync=False)
    for _, _, path in list(checkpoints(folder))[2:]:
        with contextlib.suppress(OSError):
            path.unlink()


def read_checkpoint(folder: Path) -> tuple[int, bytes] | None:
    """(epoch, bytes) of the newest checkpoint that verifies, or None."""
    for _, epoch, path in checkpoints(folder):
        match = _NAME.match(path.name)
        with contextlib.suppress(OSError, MemoryError):
            # Compared in parts first: what is no checkpoint of ours may be larger than the memory.
            if match and _crc32_of(path) == int(match[3], 16):
                return epoch, regular_files.read_bytes(path, most=CHECKPOINT_BYTES)
    return None


def _crc32_of(path: Path) -> int:
    crc = 0
    with regular_files.opened(path, most=CHECKPOINT_BYTES) as file:
        while chunk := file.read(1 << 22):
            crc = zlib.crc32(chunk, crc)
    return crc
