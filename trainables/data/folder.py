"""Reader of people's own images: one folder per class, or train/ and test/ with such folders."""

from __future__ import annotations

import os
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps

from trainables.data.packed import TEST, TRAIN, Items, draw_test_split
from trainables.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".pgm", ".ppm", ".bmp", ".webp", ".tif", ".tiff")
DEFAULT_SIZE = 64
TEST_FRACTION = 0.2
_Result = TypeVar("_Result")
Progress = Callable[[int, int], None]  # Called with images done and images in all.

_SPLIT_SEED = 0
_LEAST_IMAGES = 3  # One each for training, validation and test.
_BLOCK = 256  # Images decoded before they are written, which bounds the memory.
_LAYOUT = "Expected are folders of images, one per class, either directly in it or in its train/ and test/."
# What Pillow's plugins raise on damaged files.
_DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class ImageFile:
    """One image of the folder; `split` is 0 for train/, 1 for test/, None when we draw it."""

    path: str
    relative: str
    label: int
    split: int | None
    size: int
    changed: int  # Nanoseconds since the epoch.


@dataclass(frozen=True)
class Listing:
    """What a folder holds, found without opening an image."""

    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    ignored: int  # Files that are no images by their suffix.


def list_folder(path: Path) -> Listing:
    """List the classes and images of a folder (links are followed, hidden entries skipped).

    Raises:
        DataError: If it is missing, no folder, unreadable, empty, or too few classes or images are in it.
    """
    if not path.exists():
        raise DataError(f"No folder at {path}. {_LAYOUT}")
    if not path.is_dir():
        raise DataError(f"{path} is a file, but must be a folder. {_LAYOUT}")
    parts: list[tuple[Path, int | None]] = [(path, None)]
    if all(_subfolders(path / part) for part in ("train", "test")):
        parts = [(path / "train", TRAIN), (path / "test", TEST)]
    class_names = [folder.name for folder in _subfolders(parts[0][0])]
    if len(class_names) < 2:
        raise DataError(f"At least 2 class folders must be in {parts[0][0]}, but {len(class_names)} found. {_LAYOUT}")
    files: list[ImageFile] = []
    ignored = 0
    for root, split in parts:
        for folder in _subfolders(root):
            if folder.name not in class_names:
                raise DataError(
                    f"Every class of {root} must also be in {parts[0][0]}, but {_clean(folder.name)!r} is "
                    "not. Add its training images, or remove it."
                )
            found, others = _list_class(path, folder, class_names.index(folder.name), split)
            files.extend(found)
            ignored += others
    if not files:
        raise DataError(
            f"No images in the {len(class_names)} class folders of {path}. Known are {', '.join(SUFFIXES)}."
        )
    _check_counts(path, class_names, files, drawn=len(parts) == 1)
    return Listing(tuple(_clean(name) for name in class_names), tuple(files), ignored)


def _entries(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}. {_LAYOUT}") from error


def _subfolders(path: Path) -> list[Path]:
    return [path / entry.name for entry in _entries(path) if entry.is_dir()] if path.is_dir() else []


def _list_class(root: Path, folder: Path, label: int, split: int | None) -> tuple[list[ImageFile], int]:
    files, folders, ignored = [], [], 0
    for entry in _entries(folder):
        if entry.is_dir():
            folders.append(entry.name)
        elif entry.name.lower().endswith(SUFFIXES):
            try:
                stat = entry.stat()
                size, changed = stat.st_size, stat.st_mtime_ns
            except OSError:
                size, changed = -1, -1  # A dangling link: decoding it will tell.
            relative = _clean(os.path.relpath(entry.path, root))
            files.append(ImageFile(entry.path, relative, label, split, size, changed))
        else:
            ignored += 1
    if folders and not files:
        few = ", ".join(_clean(name) for name in folders[:3])
        raise DataError(
            f"{folder} holds folders ({few}) instead of images, one level too deep. {_LAYOUT} "
            f"Name the folder that holds the class folders, or rename its parts to train and test."
        )
    return files, ignored


def _check_counts(path: Path, classes: list[str], files: list[ImageFile], *, drawn: bool) -> None:
    counts = Counter(file.label for file in files)
    small = [label for label in range(len(classes)) if counts[label] < _LEAST_IMAGES]
    if small:
        few = ", ".join(f"{_clean(classes[label])!r} has {counts[label]}" for label in small[:5])
        raise DataError(
            f"Every class must have at least {_LEAST_IMAGES} images (training, validation, test), but "
            f"{len(small)} of {len(classes)} classes of {path} have fewer: {few}{_more(small)}. "
            "Add images, or move these folders out."
        )
    if not drawn:
        trained = Counter(file.label for file in files if file.split == TRAIN)
        thin = [_clean(name) for label, name in enumerate(classes) if trained[label] < 2]
        if thin:
            raise DataError(
                f"Every class must have at least 2 images in {path / 'train'} (training, validation), but "
                f"{len(thin)} have fewer: {', '.join(thin[:5])}{_more(thin)}. Move some there, or these "
                "folders out."
            )
        if len(files) == trained.total():
            raise DataError(
                f"No images in {path / 'test'}. Put some there, or name {path / 'train'} itself: then "
                f"{TEST_FRACTION:.0%} of each class are drawn for test."
            )


def _more(found: list[Any]) -> str:
    return ", ..." if len(found) > 5 else ""


def _clean(name: str) -> str:
    # Names that are not UTF-8 reach Python with surrogates, which neither JSON nor Arrow can store.
    return os.fsencode(name).decode("utf-8", "replace")


def read_folder(path: Path, size: int, scratch: Path, progress: Progress | None = None) -> Items:
    """Decode a folder: upright by EXIF, alpha dropped, centre square, antialiased bicubic to `size`.

    Grey if all images are, else RGB. Without train/ and test/, 20 % of each class are for test. Pixels go
    through a file without a name in `scratch`, so memory stays small and nothing remains even after a kill.

    Raises:
        DataError: If the folder does not fit or images cannot be decoded (the first few are named).
        OSError: If `scratch` cannot be written.
    """
    listing = list_folder(path)
    files = listing.files
    labels = np.asarray([file.label for file in files], dtype=np.int32)
    if files[0].split is None:
        split = draw_test_split(labels, fraction=TEST_FRACTION, seed=_SPLIT_SEED)
    else:
        split = np.asarray([file.split for file in files], dtype=np.uint8)
    with ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0)))) as pool:  # Pillow decodes outside the GIL.
        channels = 1 if all(_each(pool, _is_grey, files)) else 3
        broken: list[str] = []
        with tempfile.TemporaryFile(dir=scratch) as file:
            decoded = _each(pool, lambda image: _decode(image.path, size, channels), files)
            for done, (image, pixels) in enumerate(zip(files, decoded, strict=True), start=1):
                if isinstance(pixels, str):
                    broken.append(f"{image.relative} ({pixels})")
                elif not broken:
                    file.write(pixels)
                if progress is not None:
                    progress(done, len(files))
            if broken:
                raise DataError(
                    f"{len(broken)} of {len(files)} images in {path} cannot be decoded: "
                    f"{'; '.join(broken[:5])}{_more(broken)}. Replace or remove them."
                )
            file.flush()
            images = np.memmap(file, dtype=np.uint8, mode="r", shape=(len(files), channels, size, size))
    names = [file.relative for file in files]
    return Items(images=images, labels=labels, split=split, names=names, classes=listing.classes)


def _each(
    pool: ThreadPoolExecutor, function: Callable[[ImageFile], _Result], files: tuple[ImageFile, ...]
) -> Iterator[_Result]:
    for start in range(0, len(files), _BLOCK):
        yield from pool.map(function, files[start : start + _BLOCK])


def _is_grey(file: ImageFile) -> bool:
    try:
        with Image.open(file.path) as image:
            if image.mode == "P":
                colours = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
                return bool((colours == colours[:, :1]).all())
            return image.mode in ("1", "L", "LA", "La", "I") or image.mode.startswith("I;16")
    except _DAMAGE:  # `_decode` meets the same file again and says what is wrong.
        return True


def _decode(path: str, size: int, channels: int) -> bytes | str:
    """Pixels [C, size, size] as bytes, or a sentence on what is wrong."""
    try:
        with Image.open(path) as opened:
            image = _eight_bits(ImageOps.exif_transpose(opened))
        image = image.convert("L" if channels == 1 else "RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        if side != size:
            image = image.resize((size, size), Image.Resampling.BICUBIC)
        pixels = np.asarray(image).reshape(size, size, channels)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes()
    except _DAMAGE as error:
        message = str(error).replace(path, "").strip()
        return f"{type(error).__name__}: {message}"


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow would clip 16 bits at 255 instead of scaling them.
        wide = np.clip(np.asarray(image), 0, 65535).astype(np.float64)
        return Image.fromarray(np.rint(wide / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("images of floating point numbers have no known range")
    if image.mode in ("P", "PA") and ("transparency" in image.info or image.mode == "PA"):
        return image.convert("RGBA")
    return image
