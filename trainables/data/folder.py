"""People's own images: one folder per class, or train/ and test/ with such folders."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from trainables.data.archives import clean
from trainables.data.images import LEAST_IMAGES, SUFFIXES, TEST_FRACTION, ImageFile, Listing, more
from trainables.data.packed import TEST, TRAIN
from trainables.errors import DataError

DEFAULT_SIZE = 64

_LAYOUT = "Expected are folders of images, one per class, either directly in it or in its train/ and test/."


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
                    f"Every class of {root} must also be in {parts[0][0]}, but {clean(folder.name)!r} is "
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
    return Listing(classes=tuple(clean(name) for name in class_names), files=tuple(files), ignored=ignored)


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
            relative = clean(os.path.relpath(entry.path, root))
            files.append(ImageFile(entry.path, size, changed, relative=relative, label=label, split=split))
        else:
            ignored += 1
    if folders and not files:
        few = ", ".join(clean(name) for name in folders[:3])
        raise DataError(
            f"{folder} holds folders ({few}) instead of images, one level too deep. {_LAYOUT} "
            f"Name the folder that holds the class folders, or rename its parts to train and test."
        )
    return files, ignored


def _check_counts(path: Path, classes: list[str], files: list[ImageFile], *, drawn: bool) -> None:
    counts = Counter(file.label for file in files)
    small = [label for label in range(len(classes)) if counts[label] < LEAST_IMAGES]
    if small:
        few = ", ".join(f"{clean(classes[label])!r} has {counts[label]}" for label in small[:5])
        raise DataError(
            f"Every class must have at least {LEAST_IMAGES} images (training, validation, test), but "
            f"{len(small)} of {len(classes)} classes of {path} have fewer: {few}{more(small)}. "
            "Add images, or move these folders out."
        )
    if not drawn:
        trained = Counter(file.label for file in files if file.split == TRAIN)
        thin = [clean(name) for label, name in enumerate(classes) if trained[label] < 2]
        if thin:
            raise DataError(
                f"Every class must have at least 2 images in {path / 'train'} (training, validation), but "
                f"{len(thin)} have fewer: {', '.join(thin[:5])}{more(thin)}. Move some there, or these "
                "folders out."
            )
        if len(files) == trained.total():
            raise DataError(
                f"No images in {path / 'test'}. Put some there, or name {path / 'train'} itself: then "
                f"{TEST_FRACTION:.0%} of each class are drawn for test."
            )
