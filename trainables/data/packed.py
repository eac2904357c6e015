"""The packed form of a data set: one memory-mapped Arrow file of uint8 images, and its splits.

Writing one is in `packing`, drawing its splits in `splits`, decoding in `readers` and `folder`; which file belongs to which
source is known by `catalog`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

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
    names_crc,
    state_of,
)
from trainables.errors import DataError
from trainables.store.files import share_with_group

FORMAT_VERSION = 1
TRAIN, TEST = 0, 1

_MAGIC = b"ARROW1\0\0"
DESCRIPTION_KEY = b"packed_images"
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


def pairs_fit(pairs: np.ndarray, items: int) -> bool:
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
    except pa.ArrowException as error:
        if _tail(path) != _MAGIC[:6]:
            raise _cut(path, size, None) from error
        raise _foreign(path, f"its beginning is damaged ({error})") from error
    except OSError as error:
        raise DataError(f"Packed data set {path} cannot be read: {error}") from error
    if DESCRIPTION_KEY not in metadata:
        raise _foreign(path, "its schema does not describe packed images")
    try:
        described = json.loads(metadata[DESCRIPTION_KEY])
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


def _digests(metadata: Mapping[bytes, bytes] | None, images: int, path: Path) -> BlockDigests | None:
    """The digests in a schema, or None where a file was packed before there were any."""
    if metadata is None:  # The schema stands at the beginning and at the end of a file; `read_info` saw the first.
        raise _foreign(path, "its end does not describe packed images")
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
        and (pairs is None or pairs_fit(pairs, count))
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
        if column.type != pa.string():
            raise _foreign(path, f"its names are {column.type}")
        column.validate(full=True)
        names = column.to_pylist()
    except (pa.ArrowException, KeyError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"Packed data set {info.path} is damaged ({error}). {_AGAIN}") from error
    digests = _digests(reader.schema.metadata, info.train_images + info.test_images, info.path)
    if digests is not None and digests.names != names_crc(names):
        raise _altered(info.path)
    return names
