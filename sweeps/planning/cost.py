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
from trainables.spec import (
    DistillationSpec,
    EvaluationSpec,
    OutputsSpec,
    PretrainedSpec,
    SleepSpec,
    StageSpec,
    TrainingSpec,
    UntrainedSpec,
    registry,
    to_plain,
)
from trainables.spec.compute import OF_FILES, embedding_width, forward_macs, layers_of
from trainables.store.artifacts import Store

PARAMETERS: dict[str, float] = {
    "resnet18": 11.2e6,
    "resnet34": 21.3e6,
    "resnet50": 23.7e6,
    "resnet34_thin": 8.2e6,
    "resnet_thin": 0.08e6,
    "vgg11": 9.3e6,
    "pixels": 0.0,
}
CPU_RATE = 2.5e10  # Multiply-adds a second of one core, small images.
GPU_RATE = 2e13  # Of one data-centre GPU at the batch sizes of the papers.
FILL_BATCH = 256  # Images that a frozen network sees at once while its outputs are kept.
CALL_SECONDS = 4e-4  # One layer of one call on the CPU, whatever its size.


def _passes(spec: TrainingSpec, side: int) -> tuple[float, float]:
    return forward_macs(spec, side), layers_of(spec.architecture) * CALL_SECONDS


def parameters_of(architecture: str) -> float:
    """Weights of a network at width 1; a plug-in's network counts its own, one of another library is guessed."""
    offer = registry.plugin("network", architecture)
    if offer is not None:
        return float(offer.facts["size"]().parameters)
    if architecture in OF_FILES:
        return OF_FILES[architecture][2]
    return PARAMETERS.get(architecture, PARAMETERS["resnet50"])


class Counts:
    """How many images and classes stages train on: exact where the data are packed, else an estimate.

    Args:
        data: What is known of the data set.
        packed: The data set.
    """

    def __init__(self, data: dict[str, Any], packed: Packed | None = None) -> None:
        self.data, self.packed = data, packed
        self._cuts: dict[tuple[Any, ...], tuple[int, int]] = {}

    def __call__(self, spec: TrainingSpec | OutputsSpec) -> tuple[int, int]:
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


def seconds_of(spec: StageSpec, counts: Counts, guide: TrainingSpec | None, *, gpu: bool = False) -> float:
    """Estimated seconds of a stage on one core (or GPU); right within a factor of about three."""
    data = counts.data
    if isinstance(spec, SleepSpec):
        return spec.epochs * spec.seconds
    if isinstance(spec, EvaluationSpec):
        return 0.2 + data["test_images"] * 2e-4
    if isinstance(spec, OutputsSpec) and guide is not None:
        rate, call_share = (GPU_RATE, 0.1) if gpu else (CPU_RATE, 1.0)
        macs, call = _passes(guide, data["height"])
        return rows_of(spec, counts(spec)[0]) * (macs / rate + call * call_share / FILL_BATCH)
    if not isinstance(spec, TrainingSpec) or isinstance(spec, UntrainedSpec):
        return 0.1
    if isinstance(spec, PretrainedSpec):
        macs, _ = _passes(spec, data["height"])
        return 1.0 + (1024 if spec.head == "keep" else 256) * macs / (GPU_RATE if gpu else CPU_RATE)
    images = counts(spec)[0]
    held = data["train_images"] * spec.validation_fraction
    batch = max(1, min(spec.batch_size, int(images)))
    rate, call_share = (GPU_RATE, 0.1) if gpu else (CPU_RATE, 1.0)
    macs, call = _passes(spec, data["height"])
    step = 3 * (batch * macs / rate + call * call_share)
    if isinstance(spec, DistillationSpec) and guide is not None and spec.distils and not spec.keeps_outputs:
        guide_macs, guide_call = _passes(guide, data["height"])
        step += batch * guide_macs / rate + guide_call * call_share
    return spec.epochs * (images / batch * step + held * macs / rate + 0.02)


def rows_of(spec: OutputsSpec, images: float) -> float:
    """Outputs that a stage of kept outputs computes for so many training images."""
    if spec.part == "base":
        return images
    if spec.part == "epochs" and images >= spec.batch_size:
        images = images // spec.batch_size * spec.batch_size  # The last, partial batch of an epoch is left out.
    return images * (spec.stop - spec.start)


def bytes_of(spec: StageSpec, counts: Counts, guide: TrainingSpec | None = None) -> float:
    """Estimated bytes a stage leaves in the store."""
    if isinstance(spec, PretrainedSpec):
        return 20_000.0  # Its weights are in the store already.
    if isinstance(spec, OutputsSpec) and guide is not None:
        return outputs_bytes(spec, guide, *counts(spec))
    if isinstance(spec, TrainingSpec):
        return parameters_of(spec.architecture) * spec.width**2 * 4 + 20_000 + spec.epochs * 200
    return 20_000 + counts.data.get("test_images", 0) * 9


def outputs_bytes(spec: OutputsSpec, guide: TrainingSpec, images: float, classes: int) -> float:
    """Bytes of the arrays of a stage of kept outputs."""
    width = embedding_width(guide)
    logits = 0 if isinstance(guide, PretrainedSpec) and guide.head == "none" else classes
    if spec.part == "base":
        return 4 * (width + logits) + (4 * width + 8) * classes
    return 2 * images * (spec.stop - spec.start) * (width + logits)


def packed_bytes(data: dict[str, Any]) -> float:
    """Bytes of a packed data set, from what is known or guessed of it; colours where nobody knows better."""
    pixels = float(data["height"]) * float(data["width"]) * float(data.get("channels", 3))
    return pixels * (float(data["train_images"]) + float(data["test_images"]))


def working_bytes(specs: Iterable[StageSpec]) -> float:
    """Bytes of checkpoints while the largest two stages train."""
    sizes = sorted(
        parameters_of(s.architecture) * s.width**2 * 8
        for s in specs
        if isinstance(s, TrainingSpec) and not isinstance(s, PretrainedSpec)
    )
    return 3 * sum(sizes[-2:])


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
