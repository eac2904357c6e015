"""Looking data sets over: counts against the known ones, and leaks between training and test that can be seen."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from trainables.data.archives import each_content, in_reading_order
from trainables.data.datasets import DATASETS, protocols_of
from trainables.data.images import LEAST_IMAGES, TEST_FRACTION, ImageFile, Listing
from trainables.data.packed import TEST, TRAIN, Packed, open_packed
from trainables.data.passed import sentences
from trainables.data.sources import Source, listing_of
from trainables.data.stored import shown
from trainables.data.survey import dark, survey
from trainables.errors import DataError

# The original CIFAR archives repeat a few images, so up to one in a hundred passes.
_FEW_REPEATED = 0.01


class Check(NamedTuple):
    """One line of a check-up; a warning is well, but may not be what was meant."""

    ok: bool
    message: str
    warning: bool = False


def check(subject: Source | Packed) -> list[Check]:
    """Look a data set over: rows of whether it is well, and a sentence on what was found.

    Every image file of a source that could be a copy of another one is read, so this takes about as long as reading
    the set once.
    """
    return _check_source(subject) if isinstance(subject, Source) else _check_packed(subject)


def _check_source(source: Source) -> list[Check]:
    rows = [Check(True, f"{source.name} found{'' if source.path is None else f' at {source.path}'}")]
    listing = listing_of(source)
    if listing is None:
        return rows
    counts = Counter(file.label for file in listing.files)
    least, most = min(counts.values()), max(counts.values())
    rows.append(
        Check(True, f"{len(listing.files):,} images of {len(listing.classes):,} classes, {least} to {most} each")
    )
    rows += _compare(source, listing)
    rows.append(Check(True, _splits(listing)))
    if listing.pairs is not None:
        assert source.pairs is not None
        rows.append(Check(True, f"{_pairs(listing.pairs)} in {source.pairs}"))
        rows += _people_of_folds(listing.pairs, listing.labels)
        rows += _pairs_twice(listing.pairs)
    rows += [Check(True, note, warning=True) for note in listing.notes]
    rows += _copies(listing)
    try:
        rows += [Check(True, said.text, said.warning) for said in (*survey(listing).said, *sentences(listing.passed))]
    except DataError as error:
        rows.append(Check(False, str(error)))
    return rows


def _compare(source: Source, listing: Listing) -> Iterable[Check]:
    info = DATASETS.get(source.kind)
    if info is None or info.images is None:
        return
    if (len(listing.files), len(listing.classes)) == (info.images, info.classes):
        yield Check(True, "as many images and classes as its authors released")
    else:
        yield Check(
            True,
            f"not the whole set, which has {info.images:,} images of {info.classes:,} classes: results on it do not "
            "compare with published ones",
        )


def _splits(listing: Listing) -> str:
    if listing.drawn:
        return f"no split of its own: {TEST_FRACTION:.0%} of each class are drawn for test".replace("%", " %")
    if listing.files[0].split is None:
        small = sum(count < LEAST_IMAGES for count in Counter(file.label for file in listing.files).values())
        return (
            f"no split of its own and none drawn: {small:,} classes have fewer than {LEAST_IMAGES} images, so it "
            "serves tasks that keep whole classes apart"
        )
    split = listing.split()
    sides = [set(listing.labels[split == side].tolist()) for side in (TRAIN, TEST)]
    shared = len(sides[0] & sides[1])
    kind = "every class on both sides" if shared == len(listing.classes) else f"{shared:,} classes on both sides"
    return f"its own split: {(split == TRAIN).sum():,} for training, {(split == TEST).sum():,} for test, {kind}"


def _pairs(pairs: np.ndarray) -> str:
    same = int(pairs[:, 3].sum())
    return f"{len(pairs):,} pairs ({same:,} of one class) in {len(np.unique(pairs[:, 0]))} folds"


def _people_of_folds(pairs: np.ndarray, labels: np.ndarray) -> Iterable[Check]:
    folds: dict[int, set[int]] = defaultdict(set)
    for fold, first, second, _ in pairs.tolist():
        folds[int(labels[first])].add(fold)
        folds[int(labels[second])].add(fold)
    shared = sum(len(found) > 1 for found in folds.values())
    # With them, a threshold or network chosen on the other folds would have seen people of the tested one.
    yield Check(shared == 0, f"{len(folds):,} people are named in the pairs, {shared:,} of them in more than one fold")


def _pairs_twice(pairs: np.ndarray) -> Iterable[Check]:
    """Pairs that are listed again, in whichever order, in one fold or in two."""
    listed = np.sort(pairs[:, 1:3], axis=1)
    distinct, counts = np.unique(listed, axis=0, return_counts=True)
    if len(distinct) < len(listed):
        folds: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for pair, fold in zip(map(tuple, listed.tolist()), pairs[:, 0].tolist(), strict=True):
            folds[pair].add(fold)
        across = sum(len(found) > 1 for found in folds.values())
        yield Check(
            True,
            f"{int((counts > 1).sum()):,} pairs are listed more than once, {across:,} of them in several folds: they count "
            "each time",
            warning=True,
        )


def _copies(listing: Listing) -> Iterable[Check]:
    """Files that are equal byte by byte, across the splits and across classes."""
    by_size: dict[int, list[tuple[ImageFile, int]]] = defaultdict(list)
    for file, split in zip(listing.files, listing.split().tolist(), strict=True):
        by_size[file.size].append((file, split))
    splits = {id(file): split for group in by_size.values() for file, split in group}
    suspects = [file for group in by_size.values() if len(group) > 1 for file, _ in group]
    groups: dict[bytes, list[ImageFile]] = defaultdict(list)
    for file, content in each_content(in_reading_order(suspects)):
        if isinstance(content, bytes):
            groups[hashlib.blake2b(content, digest_size=16).digest()].append(file)
    repeated = [group for group in groups.values() if len(group) > 1]
    tested = int((listing.split() == TEST).sum())
    if tested:
        leaked = 0
        for group in repeated:
            sides = [splits[id(file)] for file in group]
            leaked += sides.count(TEST) if TRAIN in sides else 0
        few = leaked <= _FEW_REPEATED * tested
        yield Check(few, f"{leaked:,} of {tested:,} test files are also in training, byte for byte")
    mixed = [group for group in repeated if len({file.label for file in group}) > 1]
    if mixed:
        example = " and ".join(shown(file.relative) for file in mixed[0][:2])
        yield Check(
            True, f"{len(mixed):,} of the images are in more than one class, for example {example}", warning=True
        )


def _check_packed(packed: Packed) -> list[Check]:
    info = packed.info
    training = packed.split == TRAIN
    shape = f"{info.channels}x{info.height}x{info.width}"
    rows = [Check(True, f"{info.train_images} training and {info.test_images} test images, {shape}")]
    try:
        open_packed(info.path, verify=True)
        rows.append(Check(True, f"every byte matches fingerprint {info.fingerprint}"))
    except DataError as error:
        rows.append(Check(False, str(error)))
    rows += _classes(packed, training)
    if packed.pairs is not None:
        first, second = packed.labels[packed.pairs[:, 1]], packed.labels[packed.pairs[:, 2]]
        wrong = int(((first == second) != packed.pairs[:, 3].astype(bool)).sum())
        rows.append(Check(wrong == 0, f"{_pairs(packed.pairs)}, {wrong:,} of them unlike the labels"))
        rows += _pairs_twice(packed.pairs)
    rows.append(Check(True, f"offers {', '.join(protocols_of(info))}"))
    digests = [hashlib.blake2b(image, digest_size=16).digest() for image in packed.images]
    if info.test_images:
        known = {digest for digest, trained in zip(digests, training, strict=True) if trained}
        repeated = sum(digest in known for digest, trained in zip(digests, training, strict=True) if not trained)
        few = repeated <= _FEW_REPEATED * info.test_images
        rows.append(Check(few, f"{repeated} of {info.test_images} test images are also in training, pixel for pixel"))
    labels: dict[bytes, set[int]] = defaultdict(set)
    for digest, label in zip(digests, packed.labels.tolist(), strict=True):
        labels[digest].add(label)
    mixed = [sorted(found) for found in labels.values() if len(found) > 1]
    if mixed:
        names = " and ".join(shown(info.classes[label]) for label in mixed[0][:2])
        rows.append(
            Check(
                True,
                f"{len(mixed):,} images are in more than one class, pixel for pixel, for example in {names}",
                warning=True,
            )
        )
    rows += [Check(True, said.text, said.warning) for said in dark(packed.images)]
    return rows


def _classes(packed: Packed, training: np.ndarray) -> Iterable[Check]:
    number = len(packed.info.classes)
    trained = np.bincount(packed.labels[training], minlength=number)
    tested = np.bincount(packed.labels[~training], minlength=number)
    filled = int((trained > 0).sum())
    if filled < number and not ((trained > 0) & (tested > 0)).any():
        yield Check(True, f"{filled} classes are for training and {number - filled} others for test")
        return
    each = f"{trained.min()} to {trained.max()} each"
    yield Check(filled == number, f"{filled} of {number} classes have training images, {each}")
