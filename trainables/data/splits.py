"""Which images of a packed data set train, validate and test: drawn by class, from a seed."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np

from trainables.data.packed import TEST, TRAIN, Packed
from trainables.errors import UsageError

Split = Literal["train", "validation", "test"]


def split_indices(
    packed: Packed,
    split: Split,
    *,
    validation_fraction: float,
    split_seed: int,
    train_images: int,
) -> np.ndarray:
    """Sorted indices [n] int64 of one split, stratified by class; the three splits are disjoint.

    Validation is drawn first, so it is the same for every `train_images`; smaller training sets are parts of
    larger ones. `train_images=0` means all that validation leaves. Every class keeps at least one training
    image, so a class with a single one has none in validation.

    Raises:
        UsageError: If the fraction is outside [0, 1), the split unknown, or `train_images` cannot be met.
    """
    if split not in ("train", "validation", "test"):
        raise UsageError(f"`split` must be train, validation or test, but got {split!r}.")
    if not 0.0 <= validation_fraction < 1.0:
        raise UsageError(f"`0 <= validation_fraction < 1` must hold, but got {validation_fraction}.")
    if split == "test":
        return np.flatnonzero(packed.split == TEST).astype(np.int64)
    training = np.flatnonzero(packed.split == TRAIN).astype(np.int64)
    labels = packed.labels[training]
    ranks, ties = class_ranks(labels, split_seed)
    held_out = _validation(labels, ranks, ties, validation_fraction)
    if split == "validation":
        return training[held_out]
    remaining, labels = training[~held_out], labels[~held_out]
    if train_images == 0:
        return remaining
    present = len(np.unique(labels))
    if not present <= train_images <= len(remaining):
        raise UsageError(
            f"`train_images` must be 0 (all) or from {present} (one per class) to {len(remaining)}, but got "
            f"{train_images}: {packed.info.name} has {len(training)} training images, of which "
            f"{int(held_out.sum())} are for validation (`validation_fraction` {validation_fraction}). "
            "Change one of the two."
        )
    # Taking items in the order of their relative place within the class keeps every prefix stratified.
    kept_ranks = _ranks_in_order(labels, ranks[~held_out])
    places = np.where(kept_ranks == 0, 0.0, (kept_ranks + 0.5) / np.bincount(labels)[labels])
    return np.sort(remaining[np.lexsort((ties[~held_out], places))[:train_images]])


def _validation(labels: np.ndarray, ranks: np.ndarray, ties: np.ndarray, fraction: float) -> np.ndarray:
    chosen = np.zeros(len(labels), dtype=bool)
    if fraction == 0.0 or len(labels) == 0:
        return chosen
    counts = np.bincount(labels)[labels]
    spare = np.flatnonzero(ranks < counts - 1)  # The last of each class always stays in training.
    places = (ranks[spare] + 0.5) / counts[spare]
    wanted = max(1, int(len(labels) * fraction + 0.5))
    chosen[spare[np.lexsort((ties[spare], places))[:wanted]]] = True
    return chosen


def class_ranks(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Each item's rank [N] int64 in a random order of its class, and numbers [N] that break ties."""
    # RandomState's stream is frozen (NEP 19); the newer generators may change between versions of NumPy.
    digest = hashlib.blake2b(f"split/{seed}".encode(), digest_size=4).digest()
    random = np.random.RandomState(int.from_bytes(digest, "little"))
    noise, ties = random.random_sample(len(labels)), random.random_sample(len(labels))
    return _ranks_in_order(labels, noise), ties


def _ranks_in_order(labels: np.ndarray, by: np.ndarray) -> np.ndarray:
    order = np.lexsort((by, labels))
    counts = np.bincount(labels) if len(labels) else np.zeros(1, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.arange(len(labels)) - starts[labels[order]]
    return ranks


def draw_test_split(labels: np.ndarray, *, fraction: float, seed: int) -> np.ndarray:
    """Splits [N] uint8 for data without: `fraction` of each class for test, at least one in both.

    The only image of a class is for training.
    """
    ranks, _ = class_ranks(labels, seed)
    counts = np.bincount(labels)[labels]
    wanted = np.minimum(np.maximum(1, (counts * fraction + 0.5).astype(np.int64)), counts - 1)
    return np.where(ranks < wanted, TEST, TRAIN).astype(np.uint8)
