"""Where data sets lie on this machine, found without decoding an image, and what is in them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.data import from_plugins
from trainables.data.archives import ARCHIVE_SUFFIXES, is_archive, tree_of
from trainables.data.datasets import DATASETS, FOLDER_PREFIX, DatasetInfo
from trainables.data.fine_grained import list_cars, list_cub, list_sop
from trainables.data.folder import DEFAULT_SIZE, list_folder
from trainables.data.images import SUFFIXES, Listing
from trainables.data.packed import FORMAT_VERSION
from trainables.data.people import list_lfw, list_orl, list_people
from trainables.data.readers import CIFAR
from trainables.data.tiny_imagenet import list_tiny_imagenet
from trainables.errors import DataError, MachineError, UsageError, did_you_mean
from trainables.spec import registry

_LARGEST_SIZE = 1024
_RULES = 2  # How images are found, labelled and scaled; raised when files would be packed otherwise than before.
_PAIRS = "pairs.txt"
_FEW = 3  # Folders that are looked into to tell what a folder is.


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set found on this machine, not yet decoded; `identity` changes when its files do."""

    name: str
    identity: str
    images: int | None  # Estimated where counting would mean decoding.
    bytes: int | None  # Estimated size once packed.
    kind: str  # The name of a set, or folder.
    path: Path | None = None
    size: int | None = None  # Side asked for; None where a set has its own.
    pairs: Path | None = None  # A list of pairs that lies beside the images.


def locate(data: str, *, data_root: Path | None, size: int | None = None) -> Source:
    """Find a data set, undecoded, by the name people use: one of `DATASETS`, or `folder:PATH`.

    `size` is the side in pixels at which image files are packed; a named set is never enlarged. Digits and CIFAR
    come at their own.

    Raises:
        DataError: If it is not where it should be, naming what was expected where.
        UsageError: If the name is unknown or the size cannot be had.
    """
    if data.startswith(FOLDER_PREFIX):
        return _locate_folder(data, DEFAULT_SIZE if size is None else size)
    if data not in DATASETS:
        raise unknown(data)
    info = DATASETS[data]
    if registry.plugin("dataset", data) is not None:
        root, facts = from_plugins.facts_of(data, data_root, size)
        images = info.images if info.images is not None else info.train
        return Source(
            name=data, identity=_identity(data, *facts), images=images, bytes=None, kind=data, path=root, size=None
        )
    if info.fixed:
        if size not in (None, info.side):
            raise UsageError(
                f"`{data}` comes at {info.side}x{info.side} pixels, but size {size} was asked. Only sets of image "
                "files take a size."
            )
        return _locate_digits(data) if data == "digits" else _locate_cifar(data, data_root)
    size = info.side if size is None else size
    assert size is not None  # Only sets of plug-ins, which are located above, may come without.
    return _locate_images(info, data_root, size)


def listing_of(source: Source) -> Listing | None:
    """All images of a set of image files; None for sets that come otherwise.

    Raises:
        DataError: If files are missing, or lists and images do not fit.
    """
    if source.path is None or source.kind in CIFAR or registry.plugin("dataset", source.kind) is not None:
        return None
    if source.kind == "folder":
        return list_folder(source.path)
    places = [source.path]
    if source.kind == "cars196" and source.path.is_dir():
        # Its parts are released as archives of their own, which may lie there as they came or beside what was in them.
        inside = sorted(place for place in source.path.iterdir() if is_archive(place))
        places += [place for place in inside if not (source.path / place.name.partition(".")[0]).is_dir()]
    tree = tree_of(places)
    if source.pairs is not None:
        return list_lfw(tree, source.pairs)
    by_kind = {
        "orl": list_orl,
        "cub200": list_cub,
        "cars196": list_cars,
        "sop": list_sop,
        "tiny_imagenet": list_tiny_imagenet,
    }
    if source.kind in by_kind:
        return by_kind[source.kind](tree)
    stems = DATASETS[source.kind].stems if source.kind in DATASETS else ()
    return list_people(tree, own_words={word for stem in (*stems, *_words(source.kind)) for word in _words(stem)})


def unknown(data: str) -> UsageError:
    """No data set of that name, with the nearest one."""
    hint = did_you_mean(data, DATASETS)
    if not hint and os.path.exists(os.path.expanduser(data)):
        hint = f" Did you mean '{FOLDER_PREFIX}{data}'?"
    return UsageError(f"No data set named '{data}'.{hint}\nKnown are {', '.join(DATASETS)} and folder:PATH.")


def _words(name: str) -> list[str]:
    """`umdface` of the stems also stands for `umdfaces`."""
    return [word + end for word in name.split("_") for end in ("", "s")]


def _identity(kind: str, *facts: Any) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT_VERSION, kind, *facts]).encode())
    return f"{kind.rstrip(':')}-{digest.hexdigest()[:32]}"


def _check_size(size: int) -> None:
    if not 1 <= size <= _LARGEST_SIZE:
        raise UsageError(f"`size` must be from 1 to {_LARGEST_SIZE} pixels, but got {size}.")


def _locate_folder(data: str, size: int) -> Source:
    given = data.removeprefix(FOLDER_PREFIX)
    if not given:
        raise UsageError("`folder:` must be followed by a path, as in folder:photos/birds.")
    _check_size(size)
    try:
        path = Path(given).expanduser().resolve()
        listing = list_folder(path)
    except (OSError, RuntimeError) as error:  # A loop of links, a name too long, an unknown ~user.
        raise DataError(f"{given} cannot be read: {error}") from error
    files = [(file.relative, file.size, file.changed, file.label, file.split) for file in listing.files]
    shown = os.fsencode(path.name).decode("utf-8", "replace")
    return Source(
        name=f"{FOLDER_PREFIX}{shown}",
        identity=_identity(FOLDER_PREFIX, _RULES, os.fsencode(path).hex(), size, files),
        images=len(files),
        bytes=len(files) * 3 * size * size,
        kind="folder",
        path=path,
        size=size,
    )


def _locate_digits(name: str) -> Source:
    try:
        version = importlib.metadata.version("scikit-learn")
    except importlib.metadata.PackageNotFoundError:
        raise MachineError("`digits` needs scikit-learn. Install it with `pip install scikit-learn`.") from None
    return Source(name=name, identity=_identity(name, version), images=1797, bytes=1797 * 64, kind=name)


def _locate_cifar(name: str, data_root: Path | None) -> Source:
    layout = CIFAR[name]
    fetch = f"`python -m sweeps data download {name}` fetches it."
    if data_root is None:
        raise DataError(
            f"`{name}` needs a data root: a folder with {layout.folder}/ in it. Name it with --data-root. {fetch}"
        )
    root = _resolved(data_root)
    path = root / layout.folder
    if not path.is_dir():
        if (root / layout.meta).is_file():
            path = root
        elif (root / name / layout.folder).is_dir():
            path = root / name / layout.folder
    missing = [file for file in layout.files if not (path / file).is_file()]
    if missing:
        there = "is not there" if not path.is_dir() else f"lacks {', '.join(missing)}"
        raise DataError(
            f"`{name}` is expected as {DATASETS[name].layout}, but {path} {there}. Unpack the archive there; {fetch}"
        )
    stats = [(file, (path / file).stat()) for file in layout.files]
    content = sum(stat.st_size for file, stat in stats if file != layout.meta)
    images = content // 3100  # 3072 pixels and some bytes of labels and names.
    return Source(
        name=name,
        identity=_identity(
            name, os.fsencode(path).hex(), [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
        ),
        images=images,
        bytes=images * 3072,
        kind=name,
        path=path,
    )


def _resolved(path: Path) -> Path:
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _locate_images(info: DatasetInfo, data_root: Path | None, size: int) -> Source:
    _check_size(size)
    expected = f"`{info.name}` is expected as {info.layout}"
    if data_root is None:
        raise DataError(
            f"{expected}. Name the data root, which is that folder or the one it lies in, with --data-root. "
            f"See: python -m sweeps data show {info.name}"
        )
    root = _resolved(data_root)
    try:
        path = _find(info, root)
    except OSError as error:
        raise DataError(f"{error.filename or root} cannot be read: {error.strerror or error}.") from error
    if path is None:
        there = "is not there" if not root.exists() else "holds no such thing"
        raise DataError(
            f"{expected}, but {root} {there}. It cannot be fetched for you; see: python -m sweeps data show {info.name}"
        )
    pairs = _pairs_beside(path) if info.name == "lfw" else None
    facts: list[Any] = [_RULES, os.fsencode(path).hex(), size]
    images = info.images
    try:
        if path.is_dir():
            files = tree_of([path]).files
            images = sum(name.lower().endswith(SUFFIXES) for name in files)
            facts.append([(name, stored.size, stored.changed) for name, stored in files.items()])
        for file in (path, pairs):
            if file is not None and file.is_file():
                stat = file.stat()
                facts.append((os.fsencode(file).hex(), stat.st_size, stat.st_mtime_ns))
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from error
    # Neither colour nor number of images is known before an archive is read: the packing itself asks for room.
    return Source(
        name=info.name,
        identity=_identity(info.name, *facts),
        images=images,
        bytes=None,
        kind=info.name,
        path=path,
        size=size,
        pairs=pairs,
    )


def _find(info: DatasetInfo, root: Path) -> Path | None:
    """The folder or archive of a set: the root itself, else something of its name in it, else one level deeper."""
    looks = _LOOKS.get(info.name, _looks_like_people)

    def called(path: Path) -> bool:
        return path.name.lower().startswith(info.stems)

    if is_archive(root):
        return root
    # Folders of people look like any folders of images, so their own folder must have their name.
    if root.is_dir() and looks(root) and (info.name in _LOOKS or called(root)):
        return root
    near = [path for path in _children(root) if called(path)]
    for level in (near, [path for folder in near for path in _children(folder)]):
        folders = [path for path in level if path.is_dir() and looks(path)]
        archives = [path for path in level if called(path) and is_archive(path)]
        found = folders or archives
        if len(found) > 1:
            several = ", ".join(str(path.relative_to(root)) for path in found[:5])
            raise DataError(
                f"{root} holds `{info.name}` {len(found)} times: {several}. Name one of them with --data-root."
            )
        if found:
            return found[0]
    return None


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _few_folders(folder: Path) -> Iterator[Path]:
    found = (path for path in _children(folder) if path.is_dir())
    for _, path in zip(range(_FEW), found, strict=False):
        yield path


def _looks_like_lfw(folder: Path) -> bool:
    return any(
        path.name.startswith(f"{person.name}_") and path.suffix.lower() in SUFFIXES
        for person in _few_folders(folder)
        for path in _children(person)
    )


def _looks_like_orl(folder: Path) -> bool:
    return (folder / "s1").is_dir() and (folder / "s2").is_dir()


def _looks_like_cub(folder: Path) -> bool:
    return (folder / "images.txt").is_file() and (folder / "image_class_labels.txt").is_file()


def _looks_like_cars(folder: Path) -> bool:
    parts = (
        "cars_train",
        "car_ims",
        *(f"{part}{end}" for part in ("cars_train", "car_ims") for end in ARCHIVE_SUFFIXES),
    )
    return any((folder / part).exists() for part in parts)


def _looks_like_sop(folder: Path) -> bool:
    return (folder / "Ebay_train.txt").is_file()


def _looks_like_tiny_imagenet(folder: Path) -> bool:
    return (folder / "train").is_dir() and (folder / "val").is_dir()


def _looks_like_people(folder: Path) -> bool:
    def images(inside: Path, depth: int) -> bool:
        if any(path.suffix.lower() in SUFFIXES for path in _children(inside)):
            return True
        return depth > 0 and any(images(path, depth - 1) for path in _few_folders(inside))

    return any(images(path, 2) for path in _few_folders(folder))


_LOOKS: dict[str, Callable[[Path], bool]] = {
    "lfw": _looks_like_lfw,
    "orl": _looks_like_orl,
    "cub200": _looks_like_cub,
    "cars196": _looks_like_cars,
    "sop": _looks_like_sop,
    "tiny_imagenet": _looks_like_tiny_imagenet,
}


def _pairs_beside(path: Path) -> Path:
    """The list of pairs in a folder of images, beside it (or beside an archive), or one folder further up."""
    places = [path, path.parent, path.parent.parent] if path.is_dir() else [path.parent, path.parent.parent]
    for place in places:
        if (place / _PAIRS).is_file():
            return place / _PAIRS
    raise DataError(
        f"`lfw` needs {_PAIRS}, the list of its 6,000 pairs (View 2), beside the images, but none is in "
        f"{' or '.join(str(place) for place in places)}. It is on the home page of the set."
    )
