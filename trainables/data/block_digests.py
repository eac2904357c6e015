"""Digests of a packed file's parts, small enough to be compared by every process that reads them.

The fingerprint of a data set tells whether a file holds what its name says, but only after all of it was read. So the
file also carries a CRC-32 for every few MiB of pixels, and one each for labels, names and description. Whoever reads
an image has the block around it compared first, once per process for one state of the file. A CRC finds what disks,
memory and mistakes do; against somebody who computes it anew there is the fingerprint (`store verify`).
"""

from __future__ import annotations

import functools
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

METADATA_KEY = b"packed_digests"
BLOCK_BYTES = 4 << 20

FileState = tuple[str, int, int, int, int]  # Path, inode, size, times of the last change of content and of inode.


@dataclass(frozen=True)
class BlockDigests:
    """CRC-32 of blocks of images in their order, and of everything else."""

    rows: int  # Images of one block.
    blocks: tuple[int, ...]
    columns: int  # Labels, splits and pairs.
    names: int
    about: int  # The description in the schema.

    def to_json(self) -> bytes:
        """Fixed in length for a given number of images, whatever the digests are."""
        text = {name: f"{getattr(self, name):08x}" for name in ("columns", "names", "about")}
        blocks = "".join(f"{crc:08x}" for crc in self.blocks)
        return json.dumps({"rows": self.rows, **text, "blocks": blocks}).encode()

    @classmethod
    def from_json(cls, content: bytes, images: int) -> BlockDigests:
        """Read what `to_json` wrote for so many images.

        Raises:
            ValueError, KeyError, TypeError: If it is something else.
        """
        found = json.loads(content)
        rows, blocks = int(found["rows"]), str(found["blocks"])
        if rows < 1 or len(blocks) != 8 * -(-images // rows):
            raise ValueError("the digests are of another number of images")
        crcs = tuple(int(blocks[start : start + 8], 16) for start in range(0, len(blocks), 8))
        return cls(rows, crcs, *(int(found[name], 16) for name in ("columns", "names", "about")))


def digests_of(
    images: np.ndarray,
    labels: np.ndarray,
    split: np.ndarray,
    pairs: np.ndarray | None,
    names: Sequence[str],
    described: Mapping[str, Any],
) -> BlockDigests:
    """The digests of a data set; `described` is what its schema will say."""
    rows = max(1, BLOCK_BYTES // max(1, int(np.prod(images.shape[1:]))))
    blocks = tuple(block_crc(images, rows, number) for number in range(-(-len(images) // rows)))
    return BlockDigests(rows, blocks, columns_crc(labels, split, pairs), names_crc(names), about_crc(described))


def block_crc(images: np.ndarray, rows: int, number: int) -> int:
    """CRC-32 of one block of images."""
    return zlib.crc32(np.ascontiguousarray(images[number * rows : (number + 1) * rows]).reshape(-1).data)


def columns_crc(labels: np.ndarray, split: np.ndarray, pairs: np.ndarray | None) -> int:
    """CRC-32 of labels, splits and pairs."""
    crc = zlib.crc32(np.ascontiguousarray(labels, dtype="<i4").data)
    crc = zlib.crc32(np.ascontiguousarray(split, dtype=np.uint8).data, crc)
    return crc if pairs is None else zlib.crc32(np.ascontiguousarray(pairs, dtype="<i4").reshape(-1).data, crc)


def names_crc(names: Sequence[str]) -> int:
    """CRC-32 of the source names."""
    crc = 0
    for start in range(0, len(names), 4096):
        crc = zlib.crc32("\0".join(names[start : start + 4096]).encode(), crc)
    return crc


def about_crc(described: Mapping[str, Any]) -> int:
    """CRC-32 of the description."""
    return zlib.crc32(json.dumps(dict(described), sort_keys=True).encode())


def state_of(path: Path) -> FileState:
    """What changes when a file is written to or replaced."""
    about = os.stat(path)
    return str(path), about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


@functools.lru_cache(maxsize=64)
def compared_blocks(state: FileState, count: int) -> np.ndarray:
    """Which of `count` blocks this process has compared in this state of the file; the caller marks more of them."""
    return np.zeros(count, dtype=bool)
