"""The packed form of a data set: one memory-mapped Arrow file of uint8 images, and its splits.

Decoding is in `readers` and `folder`; which file belongs to which source is known by `catalog`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from system.regular_files import check, opened
from trainables.data.block_digests import (
    METADATA_KEY,
    BlockDigests,
    FileState,
    about_crc,
    block_crc,
    columns_crc,
    compared_blocks,
    digests_of,
    names_crc,
    state_of,
)
from trainables.errors import DataError, UsageError
from trainables.store.files import share_with_group

FORMAT_VERSION = 1
TRAIN, TEST = 0, 1
Split = Literal["train", "validation", "test"]

_MAGIC = b"ARROW1\0\0"
_METADATA_KEY = b"packed_images"
_NAMED = re.compile(r"^[0-9a-f]{16}\.arrow\Z")
_AGAIN = "The next run packs it again."


@dataclass(frozen=True, kw_only=True)
class PackedInfo:
    """What a packed file says about itself; `bytes` is the size of the file."""

    name: str
    fingerprint: str  # 16 hex digits over pixels, labels, splits, class names, shape, and pairs if there are any.
    path: Path
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    train_images: int
    test_images: int
    bytes: int
    pairs: int = 0  # Pairs for verification that the set brings with it.


@dataclass(frozen=True)
class Packed:
    """An open data set, mapped and read-only."""

    images: np.ndarray  # [N, C, H, W] uint8.
    labels: np.ndarray  # [N] int32.
    split: np.ndarray  # [N] uint8: 0 train, 1 test.
    info: PackedInfo
    pairs: np.ndarray | None = None  # [P, 4] int32: fold from 1, first item, second item, 1 if of the same class.
    digests: BlockDigests | None = None  # None of arrays at hand, and of files that were packed before there were any.
    state: FileState | None = None  # Of the file when it was opened; None of arrays at hand.

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        """Copies of images [n, C, H, W] uint8, the blocks of the file around them compared with their digests.

        A block is compared once in a process for one state of the file, and again when the file was written to since.
        A file without digests is read whole for its fingerprint instead.

        Raises:
            DataError: If the file holds other pixels than were packed.
        """
        if self.state is not None and len(indices):
            self._compare(np.unique(np.asarray(indices) // self._rows()))
        return self.images[indices]

    def require_whole(self) -> None:
        """Compare every block of images, the labels and the names; raises as `pixels` does."""
        if self.state is not None:
            self._compare(range(-(-len(self.images) // self._rows())))
            item_names(self.info.path)

    def _rows(self) -> int:
        """Images that are compared at once: a block, or all."""
        return len(self.images) if self.digests is None else self.digests.rows

    def _state_now(self) -> FileState:
        """The state of the file that is mapped; what replaced it under its name since is another file."""
        assert self.state is not None
        with suppress(OSError):
            now = state_of(self.info.path)
            if now[1] == self.state[1]:
                if now[2] < self.info.bytes:  # To touch what is no longer there would kill the process.
                    raise _cut(self.info.path, now[2], self.info.bytes)
                return now
        return self.state

    def _compare(self, numbers: Iterable[int]) -> None:
        rows = self._rows()
        compared = compared_blocks(self._state_now(), -(-len(self.images) // rows))
        for number in numbers:
            if compared[number]:
                continue
            if self.digests is not None:
                whole = block_crc(self.images, rows, int(number)) == self.digests.blocks[number]
            else:
                whole = _fingerprint(self) == self.info.fingerprint
            if not whole:
                raise _altered(self.info.path)
            compared[number] = True


@dataclass(frozen=True, kw_only=True)
class Items:
    """A decoded data set on its way into a file: arrays as in `Packed`, and a short source name per item."""

    images: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    names: Sequence[str]
    classes: tuple[str, ...]
    pairs: np.ndarray | None = None  # As in `Packed`; an evaluation may only use them as they are.


def fingerprint(
    images: np.ndarray,
    labels: np.ndarray,
    split: np.ndarray,
    classes: Sequence[str],
    pairs: np.ndarray | None = None,
) -> str:
    """16 hex digits of sha256 over shape, class names, pixels, labels, splits, and pairs if there are any.

    Paths and names of items do not count.
    """
    digest = hashlib.sha256(json.dumps([list(images.shape), list(classes)]).encode())
    step = max(1, (16 << 20) // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), step):
        digest.update(np.ascontiguousarray(images[start : start + step]).data)
    digest.update(np.ascontiguousarray(labels, dtype="<i4").data)
    digest.update(np.ascontiguousarray(split, dtype=np.uint8).data)
    if pairs is not None:
        digest.update(b"pairs")
        digest.update(np.ascontiguousarray(pairs, dtype="<i4").data)
    return digest.hexdigest()[:16]


def write_packed(folder: Path, name: str, items: Items) -> PackedInfo:
    """Write `<folder>/<fingerprint>.arrow` aside, sync it and rename it into place.

    An intact file of that fingerprint is kept as it is. No half file stays behind.

    Raises:
        DataError: If the pairs do not fit the items.
        OSError: If the disk refuses.
    """
    if items.pairs is not None and not _fit(items.pairs, len(items.labels)):
        raise DataError(
            f"`pairs` of {name} must be rows of int32 (fold from 1, two different items from 0 to "
            f"{len(items.labels) - 1}, 0 or 1), but they are not. Mend the reader of that set."
        )
    marks = fingerprint(items.images, items.labels, items.split, items.classes, items.pairs)
    path = folder / f"{marks}.arrow"
    if path.exists():
        try:
            return open_packed(path, verify=True).info
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
        metadata={_METADATA_KEY: json.dumps(described).encode(), METADATA_KEY: digests.to_json()},
    )
    batch = pa.record_batch(list(columns.values()), schema=schema)
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(batch)


def _fit(pairs: np.ndarray, items: int) -> bool:
    """Whether pairs are what `Packed.pairs` promises."""
    if pairs.dtype != np.int32 or pairs.ndim != 2 or pairs.shape[1] != 4 or len(pairs) == 0:
        return False
    fold, first, second, same = pairs.T
    both = pairs[:, 1:3]
    return bool(
        (fold >= 1).all()
        and (both >= 0).all()
        and (both < items).all()
        and (first != second).all()
        and ((same == 0) | (same == 1)).all()
    )


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


def read_info(path: Path) -> PackedInfo:
    """Read what a packed file says about itself, and check that all of it is there.

    Raises:
        DataError: If it is missing, cut, of another format or not a packed file.
    """
    path = Path(path)
    try:
        size = check(path).st_size
        with opened(path) as file:
            magic = file.read(len(_MAGIC))
            if size == 0 or (_MAGIC.startswith(magic) and len(magic) < len(_MAGIC)):
                raise _cut(path, size, None)
            if magic != _MAGIC:
                raise _foreign(path, "it is not an Arrow file")
            # An Arrow file is a stream behind eight bytes: the schema can be read even when the end is gone.
            metadata = pa.ipc.open_stream(file).schema.metadata or {}
    except FileNotFoundError:
        raise DataError(f"No packed data set at {path}. The next run packs it again.") from None
    except (pa.ArrowInvalid, pa.ArrowSerializationError) as error:
        if _tail(path) != _MAGIC[:6]:
            raise _cut(path, size, None) from error
        raise _foreign(path, f"its beginning is damaged ({error})") from error
    except OSError as error:
        raise DataError(f"Packed data set {path} cannot be read: {error}") from error
    if _METADATA_KEY not in metadata:
        raise _foreign(path, "its schema does not describe packed images")
    try:
        described = json.loads(metadata[_METADATA_KEY])
        if described["format"] != FORMAT_VERSION:
            raise DataError(
                f"Packed data set {path} must have format {FORMAT_VERSION}, but has {described['format']}. {_AGAIN}"
            )
        count, channels, height, width = (int(side) for side in described["shape"])
        info = PackedInfo(
            name=str(described["name"]),
            fingerprint=str(described["fingerprint"]),
            path=path,
            classes=tuple(str(name) for name in described["classes"]),
            channels=channels,
            height=height,
            width=width,
            train_images=int(described["counts"]["train"]),
            test_images=int(described["counts"]["test"]),
            bytes=int(described["bytes"]),
            pairs=int(described.get("pairs", 0)),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(path, f"its description is incomplete ({error!r})") from error
    if size < info.bytes:
        raise _cut(path, size, info.bytes)
    if size > info.bytes or info.train_images + info.test_images != count:
        raise DataError(f"Packed data set {path} was altered: {size} bytes instead of {info.bytes}. {_AGAIN}")
    if _NAMED.match(path.name) and path.stem != info.fingerprint:
        raise DataError(f"Packed data set {path} was altered: it says that it is {info.fingerprint}. {_AGAIN}")
    digests = _digests(metadata, count, path)
    if digests is not None and digests.about != about_crc(described):
        raise _altered(path)
    return info


def _digests(metadata: Mapping[bytes, bytes], images: int, path: Path) -> BlockDigests | None:
    """The digests in a schema, or None where a file was packed before there were any."""
    content = metadata.get(METADATA_KEY)
    if content is None:
        return None
    try:
        return BlockDigests.from_json(content, images)
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(path, f"its digests are damaged ({error!r})") from error


def _altered(path: Path) -> DataError:
    with suppress(OSError):
        doubt_of(path).touch()
        share_with_group(doubt_of(path))
    return DataError(f"Packed data set {path} was altered: it no longer matches its fingerprint. {_AGAIN}")


def doubt_of(path: Path) -> Path:
    """The mark that a reader leaves beside a file that it found altered; the next to pack reads all of it first."""
    return path.with_name(f".{path.name}.doubted")


def _tail(path: Path) -> bytes:
    with opened(path) as file:
        file.seek(-6, os.SEEK_END)
        return file.read()


def _cut(path: Path, size: int, expected: int | None) -> DataError:
    of = "" if expected is None else f" of {expected}"
    return DataError(f"Packed data set {path} was cut: {size}{of} bytes are there. {_AGAIN}")


def _foreign(path: Path, why: str) -> DataError:
    return DataError(f"{path} is not a packed data set of this project: {why}. {_AGAIN}")


def open_packed(path: Path, *, verify: bool = False) -> Packed:
    """Open a packed data set by memory map; `verify` reads all of it and compares the fingerprint.

    Raises:
        DataError: If it is missing, cut, not ours or (with `verify`) altered.
    """
    info = read_info(path)
    count, shape = info.train_images + info.test_images, (info.channels, info.height, info.width)
    try:
        state = state_of(path)
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.num_record_batches != 1:
            raise _foreign(info.path, f"it has {reader.num_record_batches} record batches instead of 1")
        batch = reader.get_batch(0)
        batch.validate()  # Lengths that were altered would be read beyond the map.
        digests = _digests(reader.schema.metadata, count, path)
        pixels = batch.column("image")
        if pixels.type != pa.binary(int(np.prod(shape))) or len(pixels) != count:
            raise _foreign(info.path, "its images have another size than it says")
        buffer = pixels.buffers()[1]
        start = pixels.offset * pixels.type.byte_width
        images = np.frombuffer(buffer, np.uint8, count * pixels.type.byte_width, start).reshape(count, *shape)
        labels = batch.column("label").to_numpy(zero_copy_only=True)
        split = batch.column("split").to_numpy(zero_copy_only=True)
        pairs = None
        if info.pairs:
            batch.column("pairs").validate(full=True)
            flat = batch.column("pairs").flatten().to_numpy(zero_copy_only=True)
            pairs = flat.reshape(info.pairs, 4)
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        raise DataError(f"Packed data set {info.path} is damaged ({error}). {_AGAIN}") from error
    packed = Packed(images, labels, split, info, pairs, digests, state)
    whole = (
        labels.dtype == np.int32
        and split.dtype == np.uint8
        and (count == 0 or (labels.min() >= 0 and labels.max() < len(info.classes)))
        and int((split == TRAIN).sum()) == info.train_images
        and int((split == TEST).sum()) == info.test_images
        and (pairs is None or _fit(pairs, count))
        and (digests is None or digests.columns == columns_crc(labels, split, pairs))
    )
    if not whole or (verify and _fingerprint(packed) != info.fingerprint):
        raise _altered(info.path)
    return packed


def _fingerprint(packed: Packed) -> str:
    return fingerprint(packed.images, packed.labels, packed.split, packed.info.classes, packed.pairs)


def item_names(path: Path) -> list[str]:
    """The short source name of each item, in the order of the images."""
    info = read_info(path)
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(info.path)))
        column = reader.get_batch(0).column("name")
        column.validate(full=True)
        names = column.to_pylist()
    except (pa.ArrowException, KeyError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"Packed data set {info.path} is damaged ({error}). {_AGAIN}") from error
    digests = _digests(reader.schema.metadata, info.train_images + info.test_images, info.path)
    if digests is not None and digests.names != names_crc(names):
        raise _altered(info.path)
    return names


def split_indices(
    packed: Packed,
    split: Split,
    *,
    validation_fraction: float,
    split_seed: int,
    train_images: int,
) -> np.ndarray:
    """Sorted indices [n] int64 of one split, stratified by class; the three splits are disjoint.

    Validation is drawn first, so it is the same for every `train_images`; smaller training sets are parts of
    larger ones. `train_images=0` means all that validation leaves. Every class keeps at least one training
    image, so a class with a single one has none in validation.

    Raises:
        UsageError: If the fraction is outside [0, 1), the split unknown, or `train_images` cannot be met.
    """
    if split not in ("train", "validation", "test"):
        raise UsageError(f"`split` must be train, validation or test, but got {split!r}.")
    if not 0.0 <= validation_fraction < 1.0:
        raise UsageError(f"`0 <= validation_fraction < 1` must hold, but got {validation_fraction}.")
    if split == "test":
        return np.flatnonzero(packed.split == TEST).astype(np.int64)
    training = np.flatnonzero(packed.split == TRAIN).astype(np.int64)
    labels = packed.labels[training]
    ranks, ties = class_ranks(labels, split_seed)
    held_out = _validation(labels, ranks, ties, validation_fraction)
    if split == "validation":
        return training[held_out]
    remaining, labels = training[~held_out], labels[~held_out]
    if train_images == 0:
        return remaining
    present = len(np.unique(labels))
    if not present <= train_images <= len(remaining):
        raise UsageError(
            f"`train_images` must be 0 (all) or from {present} (one per class) to {len(remaining)}, but got "
            f"{train_images}: {packed.info.name} has {len(training)} training images, of which "
            f"{int(held_out.sum())} are for validation (`validation_fraction` {validation_fraction}). "
            "Change one of the two."
        )
    # Taking items in the order of their relative place within the class keeps every prefix stratified.
    kept_ranks = _ranks_in_order(labels, ranks[~held_out])
    places = np.where(kept_ranks == 0, 0.0, (kept_ranks + 0.5) / np.bincount(labels)[labels])
    return np.sort(remaining[np.lexsort((ties[~held_out], places))[:train_images]])


def _validation(labels: np.ndarray, ranks: np.ndarray, ties: np.ndarray, fraction: float) -> np.ndarray:
    chosen = np.zeros(len(labels), dtype=bool)
    if fraction == 0.0 or len(labels) == 0:
        return chosen
    counts = np.bincount(labels)[labels]
    spare = np.flatnonzero(ranks < counts - 1)  # The last of each class always stays in training.
    places = (ranks[spare] + 0.5) / counts[spare]
    wanted = max(1, int(len(labels) * fraction + 0.5))
    chosen[spare[np.lexsort((ties[spare], places))[:wanted]]] = True
    return chosen


def class_ranks(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each item's rank [N] int64 in a random order of its class, and numbers [N] that break ties."""
    # RandomState's stream is frozen (NEP 19); the newer generators may change between versions of NumPy.
    digest = hashlib.blake2b(f"split/{seed}".encode(), digest_size=4).digest()
    random = np.random.RandomState(int.from_bytes(digest, "little"))
    noise, ties = random.random_sample(len(labels)), random.random_sample(len(labels))
    return _ranks_in_order(labels, noise), ties


def _ranks_in_order(labels: np.ndarray, by: np.ndarray) -> np.ndarray:
    order = np.lexsort((by, labels))
    counts = np.bincount(labels) if len(labels) else np.zeros(1, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.arange(len(labels)) - starts[labels[order]]
    return ranks


def draw_test_split(labels: np.ndarray, *, fraction: float, seed: int) -> np.ndarray:
    """Splits [N] uint8 for data without: `fraction` of each class for test, at least one in both.

    The only image of a class is for training.
    """
    ranks, _ = class_ranks(labels, seed)
    counts = np.bincount(labels)[labels]
    wanted = np.minimum(np.maximum(1, (counts * fraction + 0.5).astype(np.int64)), counts - 1)
    return np.where(ranks < wanted, TEST, TRAIN).astype(np.uint8)
