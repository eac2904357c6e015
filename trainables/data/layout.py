"""Which folder names the class of an image, and which part of the set it is in; for folders and archives alike.

The rules are those of docs/data.md. Where they do not decide, nothing is guessed: the set is refused with what was seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from trainables.data.class_folders import Parts, class_folders, refuse_alike
from trainables.data.folder_names import Says, part_of, says
from trainables.data.packed import TEST, TRAIN
from trainables.data.stored import Stored, listed, shown
from trainables.errors import DataError

LOOSE = "an image without a class folder"


@dataclass(frozen=True)
class Placed:
    """An image with what its path says of it; `path` begins below the folders that hold everything."""

    name: str  # In the tree.
    path: Parts
    stored: Stored
    class_name: str
    split: int | None  # None where the set has no parts.


@dataclass
class Layout:
    """All images of a set with their classes, and what should be said about it."""

    images: list[Placed]
    loose: list[str] = field(default_factory=list)  # Names of images that no class folder holds.
    empty: list[str] = field(default_factory=list)  # Folders beside the class folders that hold no image.
    notes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """Sorted names."""
        return sorted({image.class_name for image in self.images})


@dataclass(frozen=True)
class _Image:
    """An image on its way: its whole path, how much of it was looked through, and its part."""

    whole: Parts
    path: Parts
    stored: Stored
    part: str | None = None
    within: bool = False  # Whether its part lies within its class folder.

    def below(self, part: str | None = None) -> _Image:
        return replace(self, path=self.path[1:], part=part or self.part)


def layout_of(
    images: Mapping[str, Stored], folders: Collection[str], where: str, own_words: Collection[str] = ()
) -> Layout:
    """Find class and part of each image.

    Args:
        images: The images by their names, `cat/1.jpg`.
        folders: The folders there are, those without images too.
        where: Their place, for messages.
        own_words: Words in folders' names that say nothing, such as the name of the set.

    Raises:
        DataError: If the classes cannot be told, saying what was seen.
    """
    rows = [_Image(path, path, stored) for name, stored in images.items() for path in [tuple(name.split("/"))]]
    rows, loose = _looked_through(rows)
    above = len(rows[0].whole) - len(rows[0].path) if rows else 0
    for depth in range(above + 1):
        _refuse_empty_test(rows, depth, folders, where)
    parts = _parts(rows, folders, where)
    notes: list[str] = []
    if parts:
        notes += _notes_on_parts(parts)
        rows = []
        above_classes: dict[str, tuple[str, ...]] = {}
        for part, members in parts.items():
            kept, more = _looked_through([image.below(part) for image in members])
            skipped = kept[0].whole[: len(kept[0].whole) - len(kept[0].path)] if kept else ()
            above_classes[part] = tuple(name for name in skipped[above:] if part_of(name) is None)
            rows += kept
            loose += more
        _refuse_unequal_depths(above_classes, where, own_words)
    names, said = class_folders([image.path[:-1] for image in rows], where, own_words)
    refuse_alike({names[image.path[:-1]] for image in rows}, where)
    splits = {None: None, "train": TRAIN, "test": TEST, "validation": TRAIN if "test" in parts else TEST}
    placed = [
        Placed(
            "/".join(image.whole),
            image.whole[above:],
            image.stored,
            names[image.path[:-1]],
            splits[image.part],
        )
        for image in rows
    ]
    return Layout(
        placed,
        loose=["/".join(image.whole) for image in loose],
        empty=_empty_beside(rows, names, folders),
        notes=notes + said,
    )


def _refuse_unequal_depths(above: Mapping[str, Parts], where: str, own_words: Collection[str]) -> None:
    """Refuse parts of which one alone has a folder that holds everything else: it may as well be its only class.

    `above` are the folders looked through in each part; those that name a group (`images`) are no class anywhere.
    """
    named = {part: [name for name in names if says(name, own_words) != Says.GROUP] for part, names in above.items()}
    if len({len(names) for names in named.values()}) > 1:
        part = max(named, key=lambda part: len(named[part]))
        raise DataError(
            f"{where} must have its class folders equally deep in every part, but all images of {part}/ lie in "
            f"'{named[part][-1]}', and those of another part in no such folder: it may be a class or stand above the classes. "
            "Give every part such a folder, or none."
        )


def _looked_through(rows: list[_Image]) -> tuple[list[_Image], list[_Image]]:
    """Take away folders that hold everything else; and images that lie in no folder then, apart."""
    deep = [image for image in rows if len(image.path) > 1]
    loose = [image for image in rows if len(image.path) == 1]
    while deep and len({image.path[0] for image in deep}) == 1:
        below = [image.below() for image in deep]
        deeper = [image for image in below if len(image.path) > 1]
        # A folder with images of its own is looked through only where the folders in it can be classes.
        if len({image.path[0] for image in deeper}) < (1 if len(deeper) == len(below) else 2):
            break
        loose += [image for image in below if len(image.path) == 1]
        deep = deeper
    return deep, loose


def _parts(rows: Sequence[_Image], folders: Collection[str], where: str) -> dict[str, list[_Image]]:
    """The images of each part (train, test, validation), or nothing where the set has none.

    Raises:
        DataError: If something lies beside the parts, or images of a part have no class folders.
    """
    tops: dict[str, list[_Image]] = defaultdict(list)
    for image in rows:
        tops[image.path[0]].append(image)
    flat = {top for top, members in tops.items() if all(len(image.path) == 2 for image in members)}
    named = {top: part for top in tops if (part := part_of(top)) is not None}
    if flat >= set(tops) == set(named) and len(tops) > 1:
        raise DataError(
            f"{where} holds images straight in {listed(tops)}, without class folders, so nothing tells their classes. "
            "Put them into a folder for each class. If these are classes, call them otherwise, as class_train."
        )
    held: dict[str, list[str]] = defaultdict(list)
    for top, part in sorted(named.items()):
        held[part].append(top)
    if len(held) < 2:
        return _parts_within_classes(rows)  # A class may be called train, as the vehicle is.
    others = sorted(set(tops) - set(named))
    if others:
        count = sum(len(tops[top]) for top in others)
        raise DataError(
            f"{where} holds {listed(sorted(named))} and beside them {listed(others)} with {count:,} images; known "
            "parts are train, test and val (valid, validation, dev). Move the others out of there, or their images "
            "into one of the parts."
        )
    twice = [top for found in held.values() if len(found) > 1 for top in found]
    if twice:
        raise DataError(f"{listed(twice)} in {where} name the same part of a set. Leave one of them there.")
    unlabelled = sorted(top for top in named if top in flat)
    if unlabelled:
        count = sum(len(tops[top]) for top in unlabelled)
        raise DataError(
            f"{listed(unlabelled)} in {where} holds {count:,} images without class folders, so nothing tells their "
            "classes, unlike in the other parts. Move it out of there, or put its images into a folder for each class."
        )
    if "train" not in held:
        raise DataError(f"{where} holds {listed(sorted(named))}, but no train/. Put the images for training there.")
    return {part: tops[found[0]] for part, found in held.items()}


def _refuse_empty_test(rows: Sequence[_Image], depth: int, folders: Collection[str], where: str) -> None:
    """Refuse a test/ without images beside train/: its images are somewhere else, and none must be drawn for them."""
    filled = {image.whole[depth] for image in rows if len(image.whole) > depth + 1}
    if "train" not in map(part_of, filled):
        return
    above = "/".join(rows[0].whole[:depth])
    beside = {folder.rpartition("/")[2] for folder in folders if folder.rpartition("/")[0] == above}
    empty = sorted(name for name in beside - filled if part_of(name) == "test")
    if empty:
        raise DataError(
            f"No images in {shown(empty[0])} of {where}. Put some there, or name the folder train itself or remove "
            f"{shown(empty[0])}: then some images of each class are drawn for test."
        )


def _parts_within_classes(rows: Sequence[_Image]) -> dict[str, list[_Image]]:
    """The same where every class folder holds the parts: cat/train/, cat/test/, dog/train/, ..."""
    parts: dict[str, list[_Image]] = defaultdict(list)
    for image in rows:
        part = part_of(image.path[1]) if len(image.path) > 2 else None
        if part is None:
            return {}
        swapped = (image.path[1], image.path[0], *image.path[2:])
        parts[part].append(replace(image, path=swapped, within=True))
    return dict(parts) if "train" in parts and len(parts) > 1 else {}


def _notes_on_parts(parts: Mapping[str, Sequence[_Image]]) -> list[str]:
    if "validation" not in parts:
        return []
    folder, count = parts["validation"][0].path[0], len(parts["validation"])
    if "test" in parts:
        return [
            f"the {count:,} images of {folder}/ join those of training: validation images are drawn from both "
            "(validation_fraction), and test/ is what is tested"
        ]
    return [f"there is no test/: the {count:,} images of {folder}/ are what is tested; validation is drawn from train/"]


def _empty_beside(rows: Sequence[_Image], names: Mapping[Parts, str], folders: Collection[str]) -> list[str]:
    """Folders that lie where class folders lie, but hold no image."""
    filled = {image.whole[:depth] for image in rows for depth in range(1, len(image.whole))}
    beside = set()
    for image in rows:
        if image.within:
            continue
        inner = image.path[:-1]
        depth = len(image.whole) - 1 - len(inner) + inner.index(names[inner])
        beside.add(image.whole[:depth])
    return sorted(
        folder for folder in folders if (path := tuple(folder.split("/"))) not in filled and path[:-1] in beside
    )
