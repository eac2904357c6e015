"""Draws a protocol makes where the data does not say: pairs for verification, galleries for identification. No torch."""

from __future__ import annotations

import hashlib

import numpy as np

from trainables.data.splits import class_ranks
from trainables.errors import UsageError

FOLDS = 10
PAIRS_PER_FOLD = 300  # Of each kind, as in the second view of LFW.
GALLERY_SHARE = 0.8  # Of a subject's images, where the number of known ones is not given.


def seeded_random(purpose: str) -> np.random.RandomState:
    """Numbers of their own for each purpose, the same everywhere."""
    # RandomState's stream is frozen (NEP 19); the newer generators may change between versions of NumPy.
    digest = hashlib.blake2b(purpose.encode(), digest_size=4).digest()
    return np.random.RandomState(int.from_bytes(digest, "little"))


def draw_pairs(labels: np.ndarray, *, seed: int, folds: int = FOLDS, per_fold: int = PAIRS_PER_FOLD) -> np.ndarray:
    """Pairs of equal and of different labels, as many of each, for data that brings none.

    Classes take turns, so that a large one does not fill the equal pairs; images are used about equally often. No pair
    comes twice, in either order. Folds share no pair, but they share people: a threshold chosen on the other folds may
    have met the same faces, unlike on LFW.

    Args:
        labels: Label [N] of each item.
        seed: Of the draw.
        folds: Number of equal parts.
        per_fold: Pairs of each kind in a fold; fewer where the items do not offer so many.

    Returns:
        Rows [P, 4] int64 of fold from 1, first and second position in `labels`, 1 if equal; fold after fold, equal ones
        first.

    Raises:
        UsageError: If there is no pair of each kind for every fold.
    """
    labels = np.asarray(labels)
    sizes = np.unique(labels, return_counts=True)[1].astype(np.int64)
    equal = int((sizes * (sizes - 1) // 2).sum())
    different = len(labels) * (len(labels) - 1) // 2 - equal
    each = min(per_fold, min(equal, different) // folds)
    if each < 1:
        raise UsageError(
            f"Verification needs at least {folds} pairs of images of one class and {folds} of two, but {len(labels)} "
            f"images of {len(sizes)} classes offer {equal} and {different}. Hold out more classes."
        )
    random = seeded_random(f"pairs/{seed}")
    order = random.permutation(len(labels))
    kinds = (_equal_pairs(labels, order, random, each * folds), _different_pairs(labels, order, each * folds))
    rows = np.empty((folds, 2, each, 4), dtype=np.int64)
    rows[..., 0] = np.arange(1, folds + 1)[:, None, None]
    for kind, pairs in enumerate(kinds):
        rows[:, kind, :, 1:3] = pairs[random.permutation(len(pairs))].reshape(folds, each, 2)
        rows[:, kind, :, 3] = 1 - kind
    return rows.reshape(-1, 4)


def split_gallery(labels: np.ndarray, *, gallery: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted positions of the known images and of the probes, at least one of each for every label.

    Args:
        labels: Label [N] of each item.
        gallery: Known images of each subject; 0 takes 80 % of them.
        seed: Of the draw.

    Raises:
        UsageError: If a subject has a single image.
    """
    counts = np.bincount(labels)[labels]
    if (counts < 2).any():
        raise UsageError("Identification needs 2 images of every subject, one known and one probe, but some have 1.")
    wanted = np.full(len(labels), gallery) if gallery else (counts * GALLERY_SHARE + 0.5).astype(np.int64)
    known = class_ranks(labels, seed)[0] < np.clip(wanted, 1, counts - 1)
    return np.flatnonzero(known), np.flatnonzero(~known)


def _equal_pairs(labels: np.ndarray, order: np.ndarray, random: np.random.RandomState, wanted: int) -> np.ndarray:
    by_class = order[np.argsort(labels[order], kind="stable")]
    bounds = np.flatnonzero(np.diff(labels[by_class])) + 1
    groups = np.split(by_class, bounds)
    groups = [groups[index] for index in random.permutation(len(groups))]
    pairs: list[tuple[int, int]] = []
    for turn in range(wanted):  # Each turn finds one pair or more.
        groups = [group for group in groups if len(group) * (len(group) - 1) // 2 > turn]
        for group in groups:
            # Neighbours in a ring, then those two apart, and so on: each pair once, each image as often as the others.
            apart, start = divmod(turn, len(group))
            pairs.append((group[start], group[(start + apart + 1) % len(group)]))
        if len(pairs) >= wanted:
            break
    return np.array(pairs[:wanted])


def _different_pairs(labels: np.ndarray, order: np.ndarray, wanted: int) -> np.ndarray:
    count, found = len(order), [np.empty((0, 2), dtype=np.int64)]
    for apart in range(1, count // 2 + 1):
        # In a ring of an even number, opposite items would meet twice.
        starts = np.arange(count // 2 if 2 * apart == count else count)
        pairs = np.stack([order[starts], order[(starts + apart) % count]], axis=1)
        found.append(pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]])
        if sum(map(len, found)) >= wanted:
            break
    return np.concatenate(found)[:wanted]
