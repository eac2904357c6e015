"""Tiny ImageNet: training images in folders of their classes, validation images by a list; those of test have no labels."""

from __future__ import annotations

from collections.abc import Mapping

from trainables.data.archives import Tree
from trainables.data.images import ImageFile, Listing, more
from trainables.data.packed import TEST, TRAIN
from trainables.data.passed import is_image, others
from trainables.data.stored import Stored, shown
from trainables.errors import DataError

_LIST = "val_annotations.txt"
_AGAIN = "Fetch the set again from its authors."
UNLABELLED = "an image of test/, whose labels were not published"


def list_tiny_imagenet(tree: Tree) -> Listing:
    """Tiny ImageNet as released, or with validation images sorted into folders of their classes; RGB.

    What is tested are the validation images, because the labels of its test images were not published.

    Raises:
        DataError: If a part is missing, or the list and the images do not fit.
    """
    base = _base(tree)
    trained: dict[str, tuple[str, Stored]] = {}
    tested: dict[str, tuple[str, Stored]] = {}
    passed: dict[str, str] = {}
    inside = {name[len(base) :]: stored for name, stored in tree.files.items() if name.startswith(base)}
    listed = _labels(tree, base, inside)
    unknown = []
    for name, stored in inside.items():
        part, _, rest = name.partition("/")
        folders = [folder for folder in rest.split("/")[:-1] if folder != "images"]
        if not is_image(name) or part not in ("train", "val", "test"):
            continue
        if part == "test":
            passed[base + name] = UNLABELLED
        elif part == "train" and len(folders) == 1:
            trained[name] = folders[0], stored
        elif part == "val" and (folders or rest.rpartition("/")[2] in listed):
            label = folders[0] if folders else listed[rest.rpartition("/")[2]]
            tested[name] = label, stored
        else:
            unknown.append(name)
    if unknown:
        raise DataError(
            f"Nothing tells the class of {len(unknown):,} images in {tree.where}: {', '.join(map(shown, unknown[:5]))}"
            f"{more(unknown)}. Expected are train/<class>/images/ and val/images/ with {_LIST}. {_AGAIN}"
        )
    classes = sorted({label for label, _ in trained.values()})
    _require_fitting(tree, listed, set(classes), tested)
    labels = {name: label for label, name in enumerate(classes)}
    files = tuple(
        ImageFile.at(stored, relative=name, label=labels[label], split=split)
        for part, split in ((trained, TRAIN), (tested, TEST))
        for name, (label, stored) in part.items()
    )
    taken = {base + file.relative: None for file in files} | dict.fromkeys(passed)
    return Listing(
        classes=tuple(classes),
        files=files,
        channels=3,
        passed={**tree.passed, **others(tree.files, taken), **passed},
        notes=("what is tested are the images of val/: those of test/ have no published labels",),
    )


def _require_fitting(
    tree: Tree, listed: Mapping[str, str], classes: set[str], tested: Mapping[str, tuple[str, Stored]]
) -> None:
    """Refuse a list with images that are not there, and validation images of classes that nobody trains on."""
    there = {name.rpartition("/")[2] for name in tested}
    missing = [name for name in listed if name not in there]
    if missing:
        raise DataError(
            f"{_LIST} in {tree.where} names {len(missing):,} images that are not there: "
            f"{', '.join(map(shown, missing[:5]))}{more(missing)}. {_AGAIN}"
        )
    foreign = sorted({label for label, _ in tested.values()} - classes)
    if len(classes) < 2 or not tested or foreign:
        what = f"classes that train/ lacks ({', '.join(map(shown, foreign[:5]))})" if foreign else "too few images"
        raise DataError(
            f"{tree.where} must hold images of at least 2 classes in train/ and of the same in val/, but holds {what}. "
            f"{_AGAIN}"
        )


def _base(tree: Tree) -> str:
    """The folder that holds train/ and val/, as `tiny-imagenet-200/`."""
    found = sorted(
        {name.partition("train/")[0] for name in tree.files if "train/" in name and is_image(name)},
        key=lambda folder: (folder.count("/"), folder),
    )
    for base in found:
        if base in ("", *(folder for folder in found if folder.endswith("/"))) and any(
            name.startswith(f"{base}val/") for name in tree.files
        ):
            return base
    raise DataError(f"train/ and val/ must be in {tree.where}, but are not both there. {_AGAIN}")


def _labels(tree: Tree, base: str, inside: dict[str, Stored]) -> dict[str, str]:
    """The class of each validation image by its file's name, where they are not in folders of their classes."""
    if f"val/{_LIST}" not in inside:
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(tree.text(f"{base}val/{_LIST}").splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) < 2 or words[0] in found:
            raise DataError(
                f"Line {number} of val/{_LIST} in {tree.where} must read `image class ...` with a new image, but reads "
                f"{shown(line[:60])!r}. {_AGAIN}"
            )
        found[words[0]] = words[1]
    return found
