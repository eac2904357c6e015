"""Image files to pixels of one size: upright, centre square, antialiased bicubic; in parallel and resumable.

Which files make up a data set is found by `folder`, `people` and `fine_grained`.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL
from PIL import Image

from trainables.data.archives import each_content, in_reading_order
from trainables.data.blocks import Blocks
from trainables.data.packed import TRAIN, Items
from trainables.data.pixels import DAMAGE, Content, Scale, decoded
from trainables.data.splits import draw_test_split
from trainables.data.stored import Stored, shown
from trainables.errors import DataError

_SUFFIXES = ".jpg .jpeg .jpe .jfif .png .pgm .ppm .pbm .pnm .bmp .gif .webp .tif .tiff"
SUFFIXES = tuple(_SUFFIXES.split())
TEST_FRACTION = 0.2
LEAST_IMAGES = 3  # One each for training, validation and test.
Progress = Callable[[int, int], None]  # Called with images done and images in all.

_SPLIT_SEED = 0
_BLOCK_IMAGES, _BLOCK_BYTES = 256, 32 << 20  # Images decoded before they are written, which bounds the memory.
_MOST_THREADS = 8
_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile(Stored):
    """One image of a data set; `split` is 0 for training, 1 for test, None where no list says."""

    relative: str  # Its short name.
    label: int
    split: int | None

    @classmethod
    def at(cls, stored: Stored, *, relative: str, label: int, split: int | None) -> ImageFile:
        """The image that is stored there."""
        place = (stored.path, stored.size, stored.changed, stored.offset, stored.compression)
        return cls(*place, relative=relative, label=label, split=split)


@dataclass(frozen=True, kw_only=True, eq=False)
class Listing:
    """What a data set holds, found without opening an image."""

    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    passed: Mapping[str, str] = field(default_factory=dict, repr=False)  # Files that are not taken, and why.
    notes: tuple[str, ...] = ()  # What people should know about how classes and splits were found.
    channels: int | None = None  # None: one if all images are grey, else three.
    pairs: np.ndarray | None = None  # As in `Packed`.

    @property
    def labels(self) -> np.ndarray:
        """[N] int32."""
        return np.asarray([file.label for file in self.files], dtype=np.int32)

    @property
    def drawn(self) -> bool:
        """Whether the test images are drawn, because no list names them and every class has enough."""
        counts = Counter(file.label for file in self.files)
        return self.files[0].split is None and min(counts.values()) >= LEAST_IMAGES

    def split(self) -> np.ndarray:
        """[N] uint8. Without a list: 20 % of each class for test, or none where a class has fewer than 3 images."""
        if self.drawn:
            return draw_test_split(self.labels, fraction=TEST_FRACTION, seed=_SPLIT_SEED)
        return np.asarray([TRAIN if file.split is None else file.split for file in self.files], dtype=np.uint8)


def read_images(
    listing: Listing,
    *,
    where: str,
    channels: int,
    side: int,
    work: Path,
    scale: Scale | None = None,
    progress: Progress | None = None,
) -> Items:
    """Decode all images of a listing to [channels, side, side] uint8.

    Upright by EXIF, alpha dropped, centre square, antialiased bicubic. Pixels go through files in `work`, so memory
    stays small and a killed packing goes on where it stopped; the caller removes that folder.

    Args:
        listing: The images.
        where: Their place, for messages.
        channels: 1 or 3.
        side: Side in pixels.
        work: A folder for decoded blocks that belongs to this very source.
        scale: How values beyond 8 bits become 8; None where there are none.
        progress: Called with the images done and their number.

    Raises:
        DataError: If images cannot be decoded (the first few are named).
        OSError: If `work` cannot be written.
    """
    files, width = listing.files, channels * side * side
    places = {id(file): place for place, file in enumerate(files)}
    order = in_reading_order(files)
    length = max(1, min(_BLOCK_IMAGES, _BLOCK_BYTES // width))
    read = [order[start : start + length] for start in range(0, len(files), length)]
    rows = [np.asarray([places[id(file)] for file in block]) for block in read]
    named = hashlib.sha256("\n".join(file.relative for file in files).encode("utf-8", "replace")).hexdigest()
    recipe = {"pillow": PIL.__version__, "channels": channels, "side": side, "files": named}
    if scale is not None:
        recipe["scale"] = [scale.whole, scale.fractions]
    blocks = Blocks(work, recipe, rows, width)
    broken = _decode_missing(blocks, read, side, channels, scale or Scale(), progress)
    if broken:
        raise DataError(
            f"{len(broken)} of {len(files)} images in {where} cannot be decoded: "
            f"{'; '.join(broken[:5])}{more(broken)}. Replace or remove them."
        )
    return Items(
        images=blocks.array((len(files), channels, side, side)),
        labels=listing.labels,
        split=listing.split(),
        names=[file.relative for file in files],
        classes=listing.classes,
        pairs=listing.pairs,
    )


def _decode_missing(
    blocks: Blocks,
    files: Sequence[Sequence[ImageFile]],
    side: int,
    channels: int,
    scale: Scale,
    progress: Progress | None,
) -> list[str]:
    """Decode the blocks that are not there yet; which images could not be, and why. Nothing is written after such."""
    broken: list[str] = []
    count = sum(map(len, files))
    with pool() as threads, blocks.opened() as whole:
        done = sum(len(files[block]) for block in whole)
        if progress is not None and done:
            progress(done, count)
        missing = [block for block in range(len(files)) if block not in whole]
        wanted = [file for block in missing for file in files[block]]
        lengths = [len(files[block]) for block in missing]
        arrays = each(threads, lambda file, content: _decode(file, content, side, channels, scale), wanted, lengths)
        for block in missing:
            made: list[bytes] = []
            for _ in files[block]:
                file, pixels = next(arrays)
                if isinstance(pixels, str):
                    broken.append(f"{shown(file.relative)} ({pixels})")
                elif not broken:
                    made.append(pixels)
                done += 1
                if progress is not None:
                    progress(done, count)
            if not broken:
                blocks.write(block, made)
    return broken


def more(found: Sequence[object]) -> str:
    """`, ...` after the first five of a longer list."""
    return ", ..." if len(found) > 5 else ""


def pool() -> ThreadPoolExecutor:
    """Threads that open and decode images."""
    # Too large images are refused by name; Pillow's own warning would only add a line of Python to it.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    return ThreadPoolExecutor(min(_MOST_THREADS, len(os.sched_getaffinity(0))))  # Pillow decodes outside the GIL.


def each(
    threads: ThreadPoolExecutor,
    function: Callable[[ImageFile, Content], _Result],
    files: Sequence[ImageFile],
    lengths: Sequence[int] = (),
) -> Iterator[tuple[ImageFile, _Result]]:
    """Each file with what `function` makes of it, in order; no more than two parts of the given lengths are at work.

    Loose files are read by the threads, archives here: from front to back.
    """
    archived = each_content(file for file in files if file.offset is not None)
    waiting: Iterator[tuple[ImageFile, _Result]] = iter(())
    start = 0
    for length in lengths or [_BLOCK_IMAGES] * -(-len(files) // _BLOCK_IMAGES):
        part = files[start : start + length]
        start += length
        contents = [None if file.offset is None else next(archived)[1] for file in part]
        # The next part is handed in before this one is waited for, so no thread idles in between.
        ahead = zip(part, threads.map(function, part, contents), strict=True)
        yield from waiting
        waiting = ahead
    yield from waiting


def _decode(file: ImageFile, content: Content, size: int, channels: int, scale: Scale) -> bytes | str:
    """Pixels [C, size, size] as bytes, or a sentence on what is wrong."""
    try:
        return decoded(file, content, size, channels, scale)
    except DAMAGE as error:
        message = (getattr(error, "strerror", None) or str(error)).replace(file.path, "").strip()
        return f"{type(error).__name__}: {message}"
