"""Writing the packed form of a data set: aside, synced, and renamed into place."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainables.data.block_digests import METADATA_KEY, BlockDigests, about_crc, digests_of
from trainables.data.packed import (
    DESCRIPTION_KEY,
    FORMAT_VERSION,
    TEST,
    TRAIN,
    Items,
    PackedInfo,
    fingerprint,
    open_packed,
    pairs_fit,
    read_info,
)
from trainables.errors import DataError
from trainables.store.files import share_with_group


def write_packed(folder: Path, name: str, items: Items) -> PackedInfo:
    """Write `<folder>/<fingerprint>.arrow` aside, sync it and rename it into place.

    An intact file of that fingerprint is kept as it is. No half file stays behind.

    Raises:
        DataError: If the pairs do not fit the items.
        OSError: If the disk refuses.
    """
    if items.pairs is not None and not pairs_fit(items.pairs, len(items.labels)):
        raise DataError(
            f"`pairs` of {name} must be rows of int32 (fold from 1, two different items from 0 to "
            f"{len(items.labels) - 1}, 0 or 1), but they are not. Mend the reader of that set."
        )
    marks = fingerprint(items.images, items.labels, items.split, items.classes, items.pairs)
    path = folder / f"{marks}.arrow"
    if path.exists():
        try:
            there = open_packed(path, verify=True)
            there.require_whole()  # As whoever found it altered did: names count as well as pixels.
            return there.info
        except DataError:
            pass  # Damaged, and what replaces it is at hand.
        if path.is_dir():
            raise DataError(f"{path} must be a file, but a folder is in the way. Remove it and run again.")
    count, channels, height, width = items.images.shape
    described = {
        "format": FORMAT_VERSION,
        "name": name,
        "classes": list(items.classes),
        "shape": [count, channels, height, width],
        "fingerprint": marks,
        "counts": {"train": int((items.split == TRAIN).sum()), "test": int((items.split == TEST).sum())},
    }
    if items.pairs is not None:
        described["pairs"] = len(items.pairs)
    # The file states its own size, so that a cut one is known at once; the field has a fixed width, so that a
    # dry run can measure it.
    measured = pa.MockOutputStream()
    digests = digests_of(items.images, items.labels, items.split, items.pairs, items.names, described)
    _write_table(measured, items, {**described, "bytes": f"{0:020d}"}, digests)
    described["bytes"] = f"{measured.size():020d}"
    digests = replace(digests, about=about_crc(described))
    aside = folder / f".{marks}.{os.getpid()}.tmp"
    try:
        with open(aside, "xb") as file:
            _write_table(file, items, described, digests)
            file.flush()
            os.fsync(file.fileno())
        share_with_group(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(folder)
    return read_info(path)


def _write_table(sink: Any, items: Items, described: dict[str, Any], digests: BlockDigests) -> None:
    count = len(items.labels)
    width = int(np.prod(items.images.shape[1:]))
    pixels = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), count, [None, pa.py_buffer(np.ascontiguousarray(items.images).reshape(-1))]
    )
    columns = {
        "image": pixels,
        "label": pa.array(np.asarray(items.labels, dtype=np.int32)),
        "split": pa.array(np.asarray(items.split, dtype=np.uint8)),
        "name": pa.array(list(items.names), type=pa.string()),
    }
    if items.pairs is not None:
        columns["pairs"] = _pairs_column(items.pairs, count)
    schema = pa.schema(
        [(name, column.type) for name, column in columns.items()],
        metadata={DESCRIPTION_KEY: json.dumps(described).encode(), METADATA_KEY: digests.to_json()},
    )
    batch = pa.record_batch(list(columns.values()), schema=schema)
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(batch)


def _pairs_column(pairs: np.ndarray, count: int) -> pa.Array:
    # A table has one length: all pairs are the list of the first item, and the lists of the others are empty.
    offsets = np.full(count + 1, pairs.size, dtype=np.int32)
    offsets[0] = 0
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(pairs).reshape(-1)))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
