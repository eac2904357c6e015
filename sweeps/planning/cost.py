"""What a plan will cost, roughly: seconds of training and bytes of store, before anything starts. No torch."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Iterable
from typing import Any

from trainables.data.packed import Packed
from trainables.data.protocols import cut_for
from trainables.errors import ArtifactError
from trainables.spec import ReadsTraining, StageSpec, to_plain
from trainables.store.artifacts import Store


class Counts:
    """How many images and classes stages train on: exact where the data are packed, else an estimate.

    Args:
        data: What is known of the data set.
        packed: The data set.
    """

    def __init__(self, data: dict[str, Any], packed: Packed | None = None) -> None:
        self.data, self.packed = data, packed
        self._cuts: dict[tuple[Any, ...], tuple[int, int]] = {}

    def __call__(self, spec: ReadsTraining) -> tuple[int, int]:
        """Images and classes that a stage trains on.

        Raises:
            UsageError: If the data cannot be split as the stage asks.
        """
        names = ("task", "validation_fraction", "split_seed", "train_images", "held_out", "folds", "min_images")
        mark = (*(getattr(spec, name) for name in names), spec.subjects)
        if mark not in self._cuts:
            if self.packed is None:
                images = spec.train_images or self.data["train_images"] * (1 - spec.validation_fraction)
                count = int(min(images, self.data["train_images"])), int(self.data.get("classes", 100))
            else:
                made = cut_for(self.packed, spec)
                count = len(made.train), len(made.classes)
            self._cuts[mark] = count
        return self._cuts[mark]


def seconds_of(spec: StageSpec, counts: Counts, guide: StageSpec | None, *, gpu: bool = False) -> float:
    """Estimated seconds of a stage on one core (or GPU); right within a factor of about three."""
    return spec.work(counts, guide).time(gpu=gpu)


def packed_bytes(data: dict[str, Any]) -> float:
    """Bytes of a packed data set, from what is known or guessed of it; colours where nobody knows better."""
    pixels = float(data["height"]) * float(data["width"]) * float(data.get("channels", 3))
    return pixels * (float(data["train_images"]) + float(data["test_images"]))


def working_bytes(checkpoints: Iterable[float]) -> float:
    """Bytes of checkpoints while the largest two stages train, of those of all."""
    return 3 * sum(sorted(checkpoints)[-2:])


def _shape(spec: dict[str, Any], kind: str) -> tuple[Any, ...]:
    names = ("architecture", "width", "resolution", "train_images", "batch_size", "data", "method")
    return (kind, *(spec.get(name) for name in names))


def measured_rates(store: Store, keys: Iterable[str], most: int = 100) -> dict[tuple[Any, ...], float]:
    """Seconds per epoch of finished stages by shape, from at most `most` manifests."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for key in list(keys)[:most]:
        with contextlib.suppress(ArtifactError, KeyError, TypeError, ValueError):
            manifest = store.get(key).manifest
            epochs = max(1, int(manifest.get("epochs") or 1))
            seconds = float(manifest["seconds"]) / epochs
            if 0 <= seconds < math.inf:
                found.setdefault(_shape(manifest["spec"], manifest["kind"]), []).append(seconds)
    return {shape: statistics.median(values) for shape, values in found.items()}


def known_seconds(spec: StageSpec, rates: dict[tuple[Any, ...], float]) -> float | None:
    """Seconds of a stage from the rates of finished ones of its shape, or None."""
    rate = rates.get(_shape(to_plain(spec), spec.kind))
    return None if rate is None else rate * getattr(spec, "epochs", 1)
