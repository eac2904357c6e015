"""People's own images: one folder per class, or train/ and test/ with such folders; in a folder, a tar or a zip."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path

from trainables.data.archives import ARCHIVE_SUFFIXES, Tree, is_archive, tree_of
from trainables.data.images import LEAST_IMAGES, SUFFIXES, ImageFile, Listing, more
from trainables.data.layout import LOOSE, Layout, Placed, layout_of
from trainables.data.packed import TRAIN
from trainables.data.passed import is_image, others
from trainables.data.stored import shown
from trainables.errors import DataError

DEFAULT_SIZE = 64

_LAYOUT = "Expected are folders of images, one per class, either directly in it or in its train/ and test/."
_ARCHIVES = ", ".join(ARCHIVE_SUFFIXES)


def list_folder(path: Path) -> Listing:
    """List the classes and images of a folder or an archive (links in folders are followed, hidden entries skipped).

    Raises:
        DataError: If it is missing, no folder or archive, unreadable, empty, too few classes or images are in it, or
            the classes cannot be told.
    """
    if is_archive(path):
        about = path.stat()
        return _of_archive(path, about.st_size, about.st_mtime_ns, about.st_ino)
    if not path.exists():
        raise DataError(f"No folder at {path}. {_LAYOUT}")
    if not path.is_dir():
        what = "is a file" if path.is_file() else "is no regular file"
        raise DataError(f"{path} {what}, but must be a folder or an archive ({_ARCHIVES}). {_LAYOUT}")
    return list_tree(tree_of([path]), path)


@lru_cache(maxsize=1)
def _of_archive(path: Path, size: int, changed: int, number: int) -> Listing:
    """The listing of an archive, kept because it may have to be read from front to back."""
    return list_tree(tree_of([path]), path)


def list_tree(tree: Tree, path: Path) -> Listing:
    """The classes and images of the files below a path.

    Raises:
        DataError: As `list_folder` does.
    """
    images = {name: stored for name, stored in tree.files.items() if is_image(name)}
    folders = tree.folders | {name.rpartition("/")[0] for name in (*tree.files, *tree.passed) if "/" in name}
    if not any("/" in name for name in images):
        raise _nothing(path, len(images), folders, tree)
    if any(name.endswith("val_annotations.txt") for name in tree.files):
        raise DataError(
            f"{path} looks like Tiny ImageNet, whose test images have no labels and whose validation images are named "
            "in a list. Ask for it by name: --data tiny_imagenet, with this as --data-root."
        )
    layout = layout_of(images, folders, str(path))
    placed = sorted(layout.images, key=lambda image: (image.split or 0, image.class_name, image.path))
    classes = layout.classes
    if len(classes) < 2:
        raise DataError(
            f"At least 2 class folders must be in {path}, but {len(classes)} found ({', '.join(map(shown, classes))}). "
            f"{_LAYOUT}"
        )
    _check_counts(path, classes, placed, layout)
    labels = {name: label for label, name in enumerate(classes)}
    files = tuple(
        ImageFile.at(image.stored, relative=image.name, label=labels[image.class_name], split=image.split)
        for image in placed
    )
    taken = {image.name: None for image in placed} | dict.fromkeys(layout.loose)
    passed = {**tree.passed, **others(tree.files, taken), **dict.fromkeys(layout.loose, LOOSE)}
    return Listing(classes=tuple(classes), files=files, passed=passed, notes=tuple(layout.notes))


def _nothing(path: Path, loose: int, folders: set[str] | frozenset[str], tree: Tree) -> DataError:
    tops = sorted({folder.partition("/")[0] for folder in folders})
    if loose:
        return DataError(
            f"{path} holds {loose:,} images directly, but no class folders, so nothing tells their classes. {_LAYOUT}"
        )
    archives = [name for name in tree.files if name.lower().endswith(ARCHIVE_SUFFIXES)]
    if archives:
        few = ", ".join(map(shown, archives[:3]))
        return DataError(
            f"No images in {path}, but archives ({few}{more(archives)}). Name one of them: it is read in place."
        )
    if len(tops) < 2:
        return DataError(f"At least 2 class folders must be in {path}, but {len(tops)} found. {_LAYOUT}")
    return DataError(f"No images in the {len(tops)} class folders of {path}. Known are {', '.join(SUFFIXES)}.")


def _check_counts(path: Path, classes: list[str], placed: list[Placed], layout: Layout) -> None:
    parted = placed[0].split is not None
    trained = Counter(image.class_name for image in placed if image.split in (None, TRAIN))
    absent = [name for name in classes if not trained[name]]
    if absent:
        raise DataError(
            f"Every class of the test images in {path} must also be among those for training, but "
            f"{', '.join(repr(shown(name)) for name in absent[:5])}{more(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} not. Add training images, or remove what is tested of it."
        )
    counts = Counter(image.class_name for image in placed)
    small = [(shown(name), counts[name]) for name in classes if counts[name] < LEAST_IMAGES]
    small += [(shown(folder), 0) for folder in layout.empty if not parted or folder.rpartition("/")[2] not in counts]
    if small:
        few = ", ".join(f"{name!r} has {count}" for name, count in small[:5])
        raise DataError(
            f"Every class must have at least {LEAST_IMAGES} images (training, validation, test), but "
            f"{len(small)} of {len(classes) + len(layout.empty)} classes of {path} have fewer: {few}{more(small)}. "
            "Add images, or move these folders out."
        )
    thin = [shown(name) for name in classes if trained[name] < 2]
    if parted and thin:
        raise DataError(
            f"Every class must have at least 2 images in {path / 'train'} (training, validation), but "
            f"{len(thin)} have fewer: {', '.join(thin[:5])}{more(thin)}. Move some there, or these "
            "folders out."
        )
