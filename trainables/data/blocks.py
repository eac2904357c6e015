"""Decoded pixels on their way into a packed file: a killed packing goes on where it stopped.

A work folder holds `pixels` (raw rows, each at its place) and `done` (one line per block of rows that is whole, with
a digest of them). A line that does not match its rows counts for nothing, so neither a kill nor a crash of the
machine can leave anything that a later packing would believe.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from system.regular_files import read_text
from system.writable_files import opened_to_append, opened_to_change
from trainables.store.files import make_folder, share_with_group

SUFFIX = ".work"
_STALE_SECONDS = 7 * 86_400.0


class Blocks:
    """Rows of equal size under one work folder, written in blocks.

    Args:
        folder: The work folder; it is made.
        recipe: What the pixels depend on. Blocks that were made under another one are thrown away.
        rows: For each block the places of its rows, all of them different.
        width: Bytes of one row.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any], rows: Sequence[np.ndarray], width: int) -> None:
        self.folder, self.rows, self.width = folder, rows, width
        self._heading = json.dumps({**recipe, "blocks": len(rows), "width": width}, sort_keys=True)
        self._pixels = folder / "pixels"
        self._journal = folder / "done"
        make_folder(folder)

    @contextmanager
    def opened(self) -> Iterator[set[int]]:
        """The numbers of the blocks that are whole already; `write` works within."""
        lines = self._lines()
        if lines is None:
            self._pixels.unlink(missing_ok=True)
            self._journal.write_text(self._heading + "\n")
            lines = {}
        with opened_to_append(self._pixels):
            share_with_group(self._pixels)
        with opened_to_change(self._pixels) as pixels, opened_to_append(self._journal) as journal:
            share_with_group(self._journal)
            self._file, self._handle = journal, pixels.fileno()
            journal.write(b"\n")  # A torn last line must not swallow the next one.
            yield {block for block, digest in lines.items() if digest == self._digest(block)}

    def write(self, block: int, rows: Sequence[bytes]) -> None:
        """Keep the rows of one block."""
        digest = hashlib.blake2b(digest_size=16)
        for place, row in zip(self.rows[block], rows, strict=True):
            _write_at(self._handle, row, int(place) * self.width)
            digest.update(row)
        self._file.write(f"{block} {digest.hexdigest()}\n".encode())
        self._file.flush()

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """All rows [N, ...] uint8, mapped read-only; they stay readable when the work folder is removed."""
        return np.memmap(self._pixels, dtype=np.uint8, mode="r", shape=shape)

    def _lines(self) -> dict[int, str] | None:
        try:
            first, *others = read_text(self._journal).split("\n")
        except (OSError, ValueError):
            return None
        if first != self._heading:
            return None
        found = {}
        for line in others:
            number, _, digest = line.partition(" ")
            if number.isdecimal() and int(number) < len(self.rows):
                found[int(number)] = digest
        return found

    def _digest(self, block: int) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for place in self.rows[block]:
            digest.update(os.pread(self._handle, self.width, int(place) * self.width))
        return digest.hexdigest()


def _write_at(handle: int, row: bytes, offset: int) -> None:
    view = memoryview(row)
    while len(view):
        done = os.pwrite(handle, view, offset)
        view, offset = view[done:], offset + done


def discard(folder: Path) -> None:
    """Remove a work folder, whatever is in it."""
    shutil.rmtree(folder, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Bytes of the decoded rows in a work folder."""
    with suppress(OSError):
        return (folder / "pixels").stat().st_size
    return 0


def discard_stale(folder: Path, keep: Path) -> None:
    """Remove the work folders beside packed files that nobody came back to for a week, but not `keep`."""
    for work in folder.glob(f".*{SUFFIX}"):
        with suppress(OSError):
            if work != keep and time.time() - (work / "done").stat().st_mtime > _STALE_SECONDS:
                discard(work)
