"""Lists of the sets of things that look alike: CUB-200-2011, Stanford Cars, Stanford Online Products. All are RGB."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from trainables.data.archives import Tree
from trainables.data.images import SUFFIXES, ImageFile, Listing, more
from trainables.data.packed import TEST, TRAIN
from trainables.data.passed import others
from trainables.data.stored import Stored
from trainables.errors import DataError, MachineError

_AGAIN = "Fetch the set again from its authors."


class _Row(NamedTuple):
    """What a list says of one image."""

    relative: str
    stored: Stored | None
    class_number: int
    split: int


def list_cub(tree: Tree) -> Listing:
    """CUB-200-2011, or any of its classes, by its four lists; classes in the order of their numbers.

    Raises:
        DataError: If a list is missing or damaged, or names images that are not there.
    """
    base = _base(tree, "images.txt")
    paths = _numbered(tree, f"{base}images.txt")
    classes = _whole_numbers(tree, f"{base}image_class_labels.txt")
    trained = _whole_numbers(tree, f"{base}train_test_split.txt")
    for name, known in (("image_class_labels.txt", classes), ("train_test_split.txt", trained)):
        if known.keys() != paths.keys():
            odd = sorted(known.keys() ^ paths.keys(), key=lambda number: (len(number), number))
            raise DataError(
                f"{base}{name} in {tree.where} must list the same images as images.txt, but {len(odd)} are in one of "
                f"the two only: {', '.join(odd[:5])}{more(odd)}. {_AGAIN}"
            )
    rows = [
        _Row(path, tree.files.get(f"{base}images/{path}"), classes[number], TRAIN if trained[number] else TEST)
        for number, path in paths.items()
    ]
    named = {int(number): name for number, name in _numbered(tree, f"{base}classes.txt").items() if number.isdecimal()}
    return _listing(tree, rows, named)


def list_sop(tree: Tree) -> Listing:
    """Stanford Online Products by its two lists; no product of one is in the other, so the split is one of classes.

    Raises:
        DataError: If a list is missing or damaged, or names images that are not there.
    """
    base = _base(tree, "Ebay_train.txt")
    rows = []
    for name, split in (("Ebay_train.txt", TRAIN), ("Ebay_test.txt", TEST)):
        for number, line in enumerate(tree.text(base + name).splitlines()[1:], start=2):
            words = line.split()
            if not words:
                continue
            if len(words) != 4 or not words[1].isdecimal():
                raise DataError(
                    f"Line {number} of {base}{name} in {tree.where} must read `image class superclass path`, but reads "
                    f"{line[:60]!r}. {_AGAIN}"
                )
            rows.append(_Row(words[3], tree.files.get(base + words[3]), int(words[1]), split))
    return _listing(tree, rows, {})


def list_cars(tree: Tree) -> Listing:
    """Stanford Cars, in either of its two releases, by the lists in MATLAB's format; whole photographs, not boxes.

    Raises:
        DataError: If a list is missing or damaged, or names images that are not there.
        MachineError: If scipy, which reads MATLAB's files, is missing.
    """
    images: dict[str, Stored] = {}
    whole: dict[str, str] = {}
    twice = []
    for name, stored in tree.files.items():
        short = "/".join(name.split("/")[-2:])
        if short in images and short.lower().endswith(SUFFIXES):
            twice += [whole[short], name]
        images[short], whole[short] = stored, name
    if twice:
        raise DataError(
            f"{tree.where} holds photographs twice: {', '.join(twice[:4])}{more(twice)}. Leave one copy of the set there."
        )
    rows = []
    if tree.folder_of("cars_train_annos.mat") is not None and "cars_train" in _folders(images):
        for folder, name, split in (
            ("cars_train", "cars_train_annos.mat", TRAIN),
            ("cars_test", "cars_test_annos_withlabels.mat", TEST),
        ):
            for row in _records(tree, name, ("class", "fname")):
                path = f"{folder}/{str(row['fname']).rpartition('/')[2]}"
                rows.append(_Row(path, images.get(path), int(row["class"]), split))
        names = _class_names(tree, "cars_meta.mat")
    else:
        for row in _records(tree, "cars_annos.mat", ("class", "relative_im_path", "test")):
            path = "/".join(str(row["relative_im_path"]).split("/")[-2:])
            rows.append(_Row(path, images.get(path), int(row["class"]), TEST if int(row["test"]) else TRAIN))
        names = _class_names(tree, "cars_annos.mat")
    return _listing(tree, rows, names)


def _folders(images: Mapping[str, Stored]) -> set[str]:
    return {name.partition("/")[0] for name in images}


def _listing(tree: Tree, rows: Sequence[_Row], names: Mapping[int, str]) -> Listing:
    if not rows:
        raise DataError(f"The lists in {tree.where} must name images, but name none. {_AGAIN}")
    missing = [row.relative for row in rows if row.stored is None]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(rows)} images that the lists in {tree.where} name are not there: "
            f"{', '.join(missing[:5])}{more(missing)}. Complete the images, or take their lines out of the lists."
        )
    numbers = sorted({row.class_number for row in rows})
    if len(numbers) < 2:
        raise DataError(f"Images of at least 2 classes must be in {tree.where}, but the lists name {len(numbers)}.")
    labels = {number: label for label, number in enumerate(numbers)}
    files = tuple(
        ImageFile.at(row.stored, relative=row.relative, label=labels[row.class_number], split=row.split)
        for row in rows
        if row.stored is not None
    )
    classes = tuple(names.get(number, str(number)) for number in numbers)
    if len(set(classes)) < len(classes):  # Names must tell classes apart.
        classes = tuple(f"{number} {name}" for number, name in zip(numbers, classes, strict=True))
    places = {(file.path, file.offset) for file in files}
    taken = {name: None for name, stored in tree.files.items() if (stored.path, stored.offset) in places}
    return Listing(classes=classes, files=files, passed={**tree.passed, **others(tree.files, taken)}, channels=3)


def _base(tree: Tree, name: str) -> str:
    base = tree.folder_of(name)
    if base is None:
        raise DataError(f"{name} must be in {tree.where}, but is not. {_AGAIN}")
    return base


def _numbered(tree: Tree, name: str) -> dict[str, str]:
    """Lines `number text` of a list."""
    found = {}
    for number, line in enumerate(tree.text(name).splitlines(), start=1):
        words = line.split(maxsplit=1)
        if not words:
            continue
        if len(words) != 2 or words[0] in found:
            raise DataError(
                f"Line {number} of {name} in {tree.where} must read `number text` with a new number, but reads "
                f"{line[:60]!r}. {_AGAIN}"
            )
        found[words[0]] = words[1].strip()
    return found


def _whole_numbers(tree: Tree, name: str) -> dict[str, int]:
    found = _numbered(tree, name)
    wrong = [text for text in found.values() if not text.isdecimal()]
    if wrong:
        raise DataError(f"{name} in {tree.where} must hold whole numbers, but holds {wrong[0][:20]!r}. {_AGAIN}")
    return {number: int(text) for number, text in found.items()}


def _matlab(tree: Tree, name: str) -> dict[str, Any]:
    """The variables of a MATLAB file, as plain Python containers."""
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise MachineError(
            f"`cars196` comes with MATLAB's files, which scipy reads, but: {error}. Install it with `pip install scipy`."
        ) from error
    base = _base(tree, name)
    content = tree.bytes(base + name)
    try:
        return dict(loadmat(io.BytesIO(content), simplify_cells=True))
    except (
        MatReadError,
        ValueError,
        TypeError,
        LookupError,
        EOFError,
        OSError,
        ArithmeticError,
        MemoryError,
        AttributeError,
        NotImplementedError,
        struct.error,
        zlib.error,
    ) as error:
        raise DataError(
            f"{base}{name} in {tree.where} is damaged ({type(error).__name__}: {error}). {_AGAIN}"
        ) from error


def _records(tree: Tree, name: str, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of `annotations`, each with at least these fields."""
    found = _matlab(tree, name).get("annotations")
    rows = [found] if isinstance(found, dict) else list(np.atleast_1d(np.asarray(found, dtype=object)))
    if not rows or not all(isinstance(row, dict) and all(field in row for field in fields) for row in rows):
        raise DataError(
            f"{name} in {tree.where} must hold `annotations` with {', '.join(fields)}, but does not. Take the list "
            "with the labels of the test images (cars_test_annos_withlabels.mat), or fetch the set again."
        )
    return rows


def _class_names(tree: Tree, name: str) -> dict[int, str]:
    if tree.folder_of(name) is None:
        return {}
    found = _matlab(tree, name).get("class_names", ())
    names = [found] if isinstance(found, str) else list(found)
    return {number: str(text) for number, text in enumerate(names, start=1)}
