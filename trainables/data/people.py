"""Lists of the sets of faces: LFW with its pairs, ORL, and sets with one folder per person."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from system.regular_files import read_bytes
from trainables.data.archives import Tree, text_of
from trainables.data.images import SUFFIXES, ImageFile, Listing, more
from trainables.data.layout import LOOSE, layout_of
from trainables.data.passed import is_image, others
from trainables.data.stored import Stored, shown
from trainables.errors import DataError

_LFW_FILE = re.compile(r"(.+)_(\d{4,})\.\w+")
_ORL_FOLDER = re.compile(r"s(\d+)")
_ORL_FILE = re.compile(r"(\d+)\.\w+")


def list_lfw(tree: Tree, pairs: Path) -> Listing:
    """Labeled Faces in the Wild: people in the order of their names, and the pairs of View 2; no split of its own.

    Raises:
        DataError: If there are no such images, or the list of pairs does not fit them.
    """
    people: dict[str, list[tuple[str, Stored]]] = defaultdict(list)
    taken: set[str] = set()
    for name, stored in tree.files.items():
        folder, _, file = name.rpartition("/")
        match = _LFW_FILE.fullmatch(file)
        if match and file.lower().endswith(SUFFIXES) and match[1] == folder.rpartition("/")[2]:
            people[match[1]].append((file, stored))
            taken.add(name)
    listing = _listing(tree, people, taken, "<Person>/<Person>_0001.jpg")
    items = {Path(file.relative).stem: item for item, file in enumerate(listing.files)}
    if len(items) != len(listing.files):
        raise DataError(f"{tree.where} holds a person's photograph twice. Leave one copy of the set there.")
    return replace(listing, pairs=read_pairs(pairs, items, tree.where))


def read_pairs(path: Path, items: dict[str, int], where: str) -> np.ndarray:
    """The pairs [P, 4] of a list like LFW's pairs.txt: fold from 1, two items, 1 if of the same person.

    The first line gives the number of folds (1 where it is missing) and of pairs of a kind in each; then come, fold by
    fold, the pairs of one person (`name number number`) and those of two (`name number name number`).

    Args:
        path: The list.
        items: Item of each image by name and number, as `Zico_0001`.
        where: Place of the images, for messages.

    Raises:
        DataError: If the list is not of that form or names images that are not there.
    """
    try:
        lines = text_of(read_bytes(path)).split("\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    again = "Fetch the list again from its authors."
    head = lines[0].split()
    if len(head) not in (1, 2) or not all(word.isdecimal() and 0 < int(word) < 10**6 for word in head):
        raise DataError(
            f"{path} must begin with the numbers of folds and of pairs, but begins {lines[0][:40]!r}. {again}"
        )
    folds, each = (1, int(head[0])) if len(head) == 1 else (int(head[0]), int(head[1]))
    rows = [(number, line.split()) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    if len(rows) != 2 * folds * each:
        raise DataError(
            f"{path} must hold {folds} folds of {each} + {each} pairs, {2 * folds * each} in all, but holds "
            f"{len(rows)}. {again}"
        )
    found = np.empty((len(rows), 4), dtype=np.int32)
    missing: dict[str, None] = {}
    for place, (number, words) in enumerate(rows):
        fold, within = divmod(place, 2 * each)
        same = within < each
        if same and len(words) == 3:
            words = [words[0], words[1], words[0], words[2]]
        elif same or len(words) != 4:
            kind = "name number number" if same else "name number name number"
            raise DataError(f"Line {number} of {path} must read `{kind}`, but reads {' '.join(words)[:60]!r}. {again}")
        first, second = (_photograph(name, index, number, path) for name, index in (words[:2], words[2:]))
        missing |= {name: None for name in (first, second) if name not in items}
        if (words[0] == words[2]) != same or first == second:
            raise DataError(f"Line {number} of {path} must pair two images of {'one' if same else 'two'}. {again}")
        found[place] = fold + 1, items.get(first, -1), items.get(second, -1), same
    if missing:
        few = list(missing)
        raise DataError(
            f"{path} names {len(few)} images that are not in {where}: {', '.join(few[:5])}{more(few)}. Complete the "
            "images, or put the list that belongs to them there."
        )
    return found


def _photograph(name: str, index: str, number: int, path: Path) -> str:
    if not index.isdecimal():
        raise DataError(f"Line {number} of {path} must number an image, but says {index[:20]!r}.")
    return f"{name}_{int(index):04d}"


def list_orl(tree: Tree) -> Listing:
    """ORL / AT&T faces: s1, s2, ..., the images of each by number; no split of its own.

    Raises:
        DataError: If there are no such images, or a person's folder is there twice.
    """
    found: dict[int, list[tuple[int, str, Stored]]] = defaultdict(list)
    places: dict[int, set[str]] = defaultdict(set)
    taken: set[str] = set()
    for name, stored in tree.files.items():
        folder, _, file = name.rpartition("/")
        person, image = _ORL_FOLDER.fullmatch(folder.rpartition("/")[2]), _ORL_FILE.fullmatch(file)
        if person and image and file.lower().endswith(SUFFIXES):
            found[int(person[1])].append((int(image[1]), file, stored))
            places[int(person[1])].add(folder)
            taken.add(name)
    twice = sorted(folder for folders in places.values() if len(folders) > 1 for folder in folders)
    if twice:
        raise DataError(
            f"{tree.where} holds a person's folder twice: {', '.join(map(shown, twice[:5]))}{more(twice)}. Leave one copy "
            "of the set there."
        )
    people = {
        f"s{person}": [(file, stored) for _, file, stored in sorted(found[person], key=lambda row: row[:2])]
        for person in sorted(found)
    }
    return _listing(tree, people, taken, "s1/1.pgm", keep_order=True)


def list_people(tree: Tree, own_words: Collection[str] = ()) -> Listing:
    """One folder per person; where everything is in train/ and test/, that is the split.

    Folders that only group people (batches) and those within a person's folder (sessions, cameras) are told apart as
    docs/data.md says; `own_words` are words in their names that say nothing.

    Raises:
        DataError: If fewer than 2 people have images, or it cannot be told which folders are people.
    """
    images = {name: stored for name, stored in tree.files.items() if is_image(name)}
    if not any("/" in name for name in images):
        raise _too_few(tree, [], "<person>/*.jpg")
    folders = tree.folders | {name.rpartition("/")[0] for name in (*tree.files, *tree.passed) if "/" in name}
    layout = layout_of(images, folders, tree.where, own_words)
    people = layout.classes
    if len(people) < 2:
        raise _too_few(tree, people, "<person>/*.jpg")
    labels = {person: label for label, person in enumerate(people)}
    files = tuple(
        ImageFile.at(image.stored, relative="/".join(image.path), label=labels[image.class_name], split=image.split)
        for image in sorted(layout.images, key=lambda image: image.name)
    )
    taken = {image.name: None for image in layout.images} | dict.fromkeys(layout.loose)
    notes = list(layout.notes)
    if layout.empty:
        few = ", ".join(map(shown, layout.empty[:5]))
        notes.append(f"{len(layout.empty):,} folders beside those of people hold no image: {few}{more(layout.empty)}")
    return Listing(
        classes=tuple(people),
        files=files,
        passed={**tree.passed, **others(tree.files, taken), **dict.fromkeys(layout.loose, LOOSE)},
        notes=tuple(notes),
    )


def _listing(
    tree: Tree,
    people: dict[str, list[tuple[str, Stored]]],
    taken: Collection[str],
    layout: str,
    *,
    keep_order: bool = False,
) -> Listing:
    if len(people) < 2:
        raise _too_few(tree, list(people), layout)
    names = list(people) if keep_order else sorted(people)
    files = tuple(
        ImageFile.at(stored, relative=f"{person}/{file}", label=label, split=None)
        for label, person in enumerate(names)
        for file, stored in people[person]
    )
    passed = {**tree.passed, **others(tree.files, dict.fromkeys(taken))}
    return Listing(classes=tuple(names), files=files, passed=passed)


def _too_few(tree: Tree, people: list[str], layout: str) -> DataError:
    return DataError(f"Images of at least 2 people must be in {tree.where} as {layout}, but {len(people)} found.")
