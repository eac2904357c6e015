"""Which folder names the class of an image, and which part of the set it is in; for folders and archives alike.

The rules are those of docs/data.md. Where they do not decide, nothing is guessed: the set is refused with what was seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from trainables.data.folder_names import Says, alike, most_say, part_of, says
from trainables.data.packed import TEST, TRAIN
from trainables.data.stored import Stored, shown
from trainables.errors import DataError

LOOSE = "an image without a class folder"

_Path = tuple[str, ...]  # The parts of a name, the file last.
_CURE = (
    "Put the images of each class into one folder of its name. Folders above those that only group them may be called "
    "batch_1, batch_2, ..., folders within them session_1, camera_1, ..."
)


@dataclass(frozen=True)
class Placed:
    """An image with what its path says of it; `path` begins below the folders that hold everything."""

    name: str  # In the tree.
    path: _Path
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

    whole: _Path
    path: _Path
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
    names, said = _class_folders([image.path[:-1] for image in rows], where, own_words)
    _refuse_alike({names[image.path[:-1]] for image in rows}, where)
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


def _refuse_unequal_depths(above: Mapping[str, _Path], where: str, own_words: Collection[str]) -> None:
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
            f"{where} holds images straight in {_listed(tops)}, without class folders, so nothing tells their classes. "
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
            f"{where} holds {_listed(sorted(named))} and beside them {_listed(others)} with {count:,} images; known "
            "parts are train, test and val (valid, validation, dev). Move the others out of there, or their images "
            "into one of the parts."
        )
    twice = [top for found in held.values() if len(found) > 1 for top in found]
    if twice:
        raise DataError(f"{_listed(twice)} in {where} name the same part of a set. Leave one of them there.")
    unlabelled = sorted(top for top in named if top in flat)
    if unlabelled:
        count = sum(len(tops[top]) for top in unlabelled)
        raise DataError(
            f"{_listed(unlabelled)} in {where} holds {count:,} images without class folders, so nothing tells their "
            "classes, unlike in the other parts. Move it out of there, or put its images into a folder for each class."
        )
    if "train" not in held:
        raise DataError(f"{where} holds {_listed(sorted(named))}, but no train/. Put the images for training there.")
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


def _class_folders(
    folders: Iterable[_Path], where: str, own_words: Collection[str]
) -> tuple[dict[_Path, str], list[str]]:
    """The class of each folder that holds images; and what should be said about how it was found.

    Raises:
        DataError: If it cannot be told.
    """
    paths = sorted(set(folders))
    deepest = max(map(len, paths), default=1)
    level = 0
    while level + 1 < deepest and _only_groups(paths, level, own_words):
        level += 1
    seen = _seen(paths, deepest)
    short = [path for path in paths if len(path) <= level]
    if short:
        raise DataError(
            f"Images in {where} lie straight in {_listed('/'.join(path) for path in short)} and in folders of it, so it "
            f"cannot be told which folders are the classes: {seen}. {_CURE}"
        )
    if level + 1 < deepest:
        _check_below(paths, level, where, own_words, seen)
    parents: dict[str, set[_Path]] = defaultdict(set)
    for path in paths:
        parents[path[level]].add(path[:level])
    repeated = [name for name, above in parents.items() if len(above) > 1]
    if any(says(name, own_words) != Says.NAME for name in repeated):
        raise DataError(
            f"{_listed(repeated)} in {where} repeat in several folders, and are numbers or circumstances: it cannot be "
            f"told whether they or the folders above them are the classes: {seen}. {_CURE}"
        )
    notes = []
    if level:
        merged = f"; {len(repeated):,} of them are in several of these and counted as one" if repeated else ""
        notes.append(f"{_listed(_names(paths, 0))} are taken for groups, the folders in them for classes{merged}")
    if level + 1 < deepest:
        inner = sorted({path[level + 1] for path in paths if len(path) > level + 1})
        notes.append(f"folders within class folders ({_listed(inner)}) count for the class: {seen}")
    return {path: path[level] for path in paths}, notes


def _names(paths: Iterable[_Path], level: int) -> list[str]:
    return sorted({path[level] for path in paths if len(path) > level})


def _only_groups(paths: Sequence[_Path], level: int, own_words: Collection[str]) -> bool:
    """Whether the folders of a level only group those of the next: by their names, or as initials."""
    names, deeper = _names(paths, level), [path for path in paths if len(path) > level + 1]
    if all(len(name) == 1 and says(name) == Says.NAME for name in names):
        return all(_initial_of(path[level].casefold(), path[level + 1].casefold()) for path in deeper)
    return all(says(name, own_words) == Says.GROUP for name in names) and any(
        says(path[level + 1], own_words) != Says.GROUP for path in deeper
    )


def _initial_of(letter: str, name: str) -> bool:
    """Whether a letter is the initial of a name (a/ann), not a class with parts (a/a_01)."""
    return name.startswith(letter) and len(name) > 1 and says(name, (letter,)) == Says.NAME


def _derived(name: str, inner: str) -> bool:
    """Whether a folder is called after the one it lies in, as ann/ann_1 is."""
    rest = inner[len(name) :]
    if not rest or len(name) < 2 or not inner.casefold().startswith(name.casefold()):
        return False
    return not rest[0].isalnum() or (name[-1].isalpha() and rest[0].isdecimal())


def _check_below(paths: Sequence[_Path], level: int, where: str, own_words: Collection[str], seen: str) -> None:
    """Refuse class folders whose own folders could be the classes as well."""
    classes = _names(paths, level)
    strength = most_say(classes, own_words)
    # Where images lie straight in a folder, that folder is their class, and so it is for what it holds besides.
    sure = {path for path in paths if len(path) == level + 1}
    harmless = {path[level + 1] for path in paths if len(path) > level + 1 and path[: level + 1] in sure}
    unsure = [path for path in paths if path[: level + 1] not in sure]
    odd = {
        inner
        for path in paths
        for inner in path[level + 1 :]
        if says(inner, own_words) == Says.NAME
        and (inner in classes or says(path[level], own_words) == Says.GROUP)
        and inner != path[level]
    }
    for path in unsure:
        name = path[level]
        for inner in path[level + 1 :]:
            if says(inner, own_words) >= strength and inner not in harmless and not _derived(name, inner):
                odd.add(inner)
        if strength != Says.GROUP and says(name, own_words) == Says.GROUP:
            odd.add(name)
    inner_names = {inner for path in unsure for inner in path[level + 1 :]}
    common = len(inner_names) == 1 and len(unsure) == len({path[level] for path in unsure}) > 1
    if not odd or (common and odd <= inner_names):
        return  # One name in all of them is no class.
    parents: dict[str, set[_Path]] = defaultdict(set)
    for path in unsure:
        for depth in range(level + 1, len(path)):
            parents[path[depth]].add(path[:depth])
    numbers = strength == Says.NUMBER and all(says(name, own_words) == Says.NUMBER for name in odd)
    if numbers and all(len(parents[name]) > 1 for name in odd) and len(classes) > len(inner_names):
        return  # More folders than numbers that repeat in them: people above, their sessions below.
    raise DataError(
        f"It cannot be told which folders in {where} are the classes: {seen}. {_listed(sorted(odd))} may name classes "
        f"or what is within one. {_CURE}"
    )


def _seen(paths: Sequence[_Path], deepest: int) -> str:
    levels = [_names(paths, level) for level in range(deepest)]
    return ", in them ".join(
        f"{len(names):,} {'folders' if len(names) > 1 else 'folder'} ({_listed(names)})" for names in levels
    )


def _refuse_alike(classes: Iterable[str], where: str) -> None:
    found = alike(classes)
    if found:
        first, second = found[0]
        raise DataError(
            f"Two class folders of {where} differ only in case or in how Unicode writes them: {shown(first)} "
            f"({first!a}) and {shown(second)} ({second!a}){', and others' if len(found) > 1 else ''}. Rename or merge "
            "them, so that it is clear whether they are one class."
        )


def _empty_beside(rows: Sequence[_Image], names: Mapping[_Path, str], folders: Collection[str]) -> list[str]:
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


def _listed(names: Iterable[str]) -> str:
    found = [shown(name) for name in names]
    return ", ".join(found[:5]) + (f", ... {found[-1]}" if len(found) > 5 else "")
