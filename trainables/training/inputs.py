"""What a training iterates over: packed images with their input transform, or cached outputs of a frozen network.

A view is what an augmentation makes of an image; an input transform is what a network then reads: the view degraded to
its resolution and normalised. Labels lie on the device; images in memory, on the device or in the map.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from trainables.data.augment import take_views
from trainables.data.batches import load, normalise, remembered_statistics, to_float
from trainables.data.degrade import degrade, enlarge
from trainables.data.packed import Packed, PackedInfo, open_packed
from trainables.data.preprocess import Preprocessing
from trainables.data.protocols import Cut, cut_for
from trainables.errors import UsageError
from trainables.models.macs import count_macs, macs_of
from trainables.models.network import Outputs
from trainables.spec import ReadsTraining, TrainingSpec, task_of
from trainables.stages.base import Context
from trainables.training.cached_outputs import CachedOutputs, blocks

RESIDENT_BYTES = 1 << 30  # Splits up to this size are copied out of the map, or, eight times as large, onto a GPU.
VALIDATION_BATCH = 256


class InputTransform:
    """What a network reads: augmented uint8 images, degraded to its resolution and normalised."""

    def __init__(
        self, spec: Any, info: PackedInfo, mean: Tensor, std: Tensor, network: nn.Module | None = None
    ) -> None:
        """Args: resolutions, the data, its statistics; a network from a file brings what it wants its images to be."""
        self.preprocessing: Preprocessing | None = getattr(network, "preprocessing", None)
        self.resolution = spec.resolution or info.height
        self.filter, self.blur = spec.filter, spec.blur
        self.seen = getattr(spec, "test_resolution", None)
        self.upsample_to = spec.upsample_to
        self.mean, self.std = mean, std

    @property
    def side(self) -> int:
        """Side in pixels of what the network reads."""
        side = self.upsample_to or self.resolution
        return self.preprocessing.read_side(side) if self.preprocessing is not None else side

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W] -> float32 [B, C, r, r]."""
        low = to_float(images)
        if self.seen is None or self.seen >= self.resolution:
            low = degrade(low, self.resolution, filter=self.filter, blur=self.blur)
        else:
            # Images of a smaller size than the network was trained on are brought up to it.
            low = enlarge(degrade(low, self.seen, filter=self.filter, blur=self.blur), self.resolution)
        if self.upsample_to is not None:
            low = enlarge(low, self.upsample_to)
        if self.preprocessing is not None:
            return self.preprocessing(low, self.mean, self.std)
        return normalise(low, self.mean, self.std).contiguous(memory_format=torch.channels_last)


class MappedImages:
    """Images of a split that stays in the memory map: what is indexed is copied out of it, as from a tensor."""

    device = torch.device("cpu")

    def __init__(self, packed: Packed, indices: np.ndarray) -> None:
        self.packed, self.indices = packed, indices

    def __getitem__(self, where: Tensor | slice) -> Tensor:
        """uint8 [b, C, H, W]."""
        return load(self.packed, self.indices[where if isinstance(where, slice) else where.numpy()])[0]


@dataclass
class Splits:
    """The images a training sees: in memory, on the device or in the map; labels are on the device."""

    packed: Packed
    cut: Cut
    train_images: Tensor | MappedImages
    train_labels: Tensor
    validation_images: Tensor | MappedImages
    validation_labels: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def open(cls, spec: ReadsTraining, context: Context, device: torch.device) -> Splits:
        """Training and validation split of the packed data set."""
        packed = open_packed(context.packed_folder / f"{spec.data}.arrow")
        cut = cut_for(packed, spec)
        mean, std = remembered_statistics(packed, cut.train)
        train_images, train_labels = _resident(packed, cut.train, device)
        validation_images, validation_labels = _resident(packed, cut.validation, device)
        logit_of = torch.from_numpy(cut.label_of).to(device)
        train_labels = logit_of[train_labels]
        if task_of(spec.task).known_classes:
            validation_labels = logit_of[validation_labels]  # Else they are classes of their own, without logits.
        return cls(
            packed,
            cut,
            train_images,
            train_labels,
            validation_images,
            validation_labels,
            mean.float().to(device),
            std.float().to(device),
        )

    def train_blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(images [b] as they are, labels [b]) of the whole training split, in order, on the device."""
        for block in blocks(len(self.train_labels)):
            yield self.train_images[block].to(self.train_labels.device), self.train_labels[block]


def _resident(packed: Packed, indices: np.ndarray, device: torch.device) -> tuple[Tensor | MappedImages, Tensor]:
    """Images and labels of a split; images that are too many stay in the map, and batches are gathered on the CPU."""
    size = len(indices) * packed.info.channels * packed.info.height * packed.info.width
    if size <= RESIDENT_BYTES * (8 if device.type == "cuda" else 1):
        images, labels = load(packed, indices)
        return images.to(device), labels.to(device)
    return MappedImages(packed, indices), torch.from_numpy(packed.labels[indices].astype(np.int64)).to(device)


class Source(Protocol):
    """What a training iterates over; `items` below are what a frozen teacher is shown as well, before `transform`."""

    classes: tuple[str, ...]
    labels: Tensor  # [N] int64 of the training split, on the device.
    validation_labels: Tensor  # [V], likewise; empty where nothing is validated.

    @property
    def place(self) -> torch.device:
        """Where rows and views are looked up: a copy inside an epoch would wait for the device."""

    def read(self, rows: Tensor, views: Tensor, epoch: int) -> Tensor:
        """Items [B, ...] on the device: rows int64 [B] of the training split in views int64 [B], both at `place`."""

    def transform(self, items: Tensor) -> Tensor:
        """What the network reads of them."""

    def train_blocks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(rows [b] at `place`, items [b] as no augmentation made them, labels [b]) of all training items, in order."""

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(what the network reads [b, ...], labels [b]) of the validation split, in order."""

    def macs(self, network: nn.Module) -> int:
        """Multiply-adds of the network for one item."""


class ImageSource:
    """Packed images in views of the spec's augmentation, read through an input transform."""

    def __init__(self, spec: TrainingSpec, splits: Splits) -> None:
        self.splits, self.augment, self.pad = splits, spec.augment, spec.pad
        self.classes: tuple[str, ...] = splits.cut.classes
        self.labels, self.validation_labels = splits.train_labels, splits.validation_labels
        self.transform = InputTransform(spec, splits.packed.info, splits.mean, splits.std)

    @property
    def place(self) -> torch.device:
        """Beside the images."""
        return self.splits.train_images.device

    def read(self, rows: Tensor, views: Tensor, epoch: int) -> Tensor:
        """The views themselves, uint8 [B, C, H, W]."""
        images = take_views(self.splits.train_images[rows], self.augment, self.pad, views)
        return images.to(self.labels.device, non_blocking=True)

    def train_blocks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        start = 0
        for images, labels in self.splits.train_blocks():
            yield torch.arange(start, start + len(labels), device=self.place), images, labels
            start += len(labels)

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        labels = self.validation_labels
        for start in range(0, len(labels), VALIDATION_BATCH):
            stretch = slice(start, start + VALIDATION_BATCH)
            yield self.transform(self.splits.validation_images[stretch].to(labels.device)), labels[stretch]

    def macs(self, network: nn.Module) -> int:
        return count_macs(network, channels=self.splits.packed.info.channels, side=self.transform.side)


class CachedSource:
    """Cached embeddings of a frozen network in place of images: a small network on them trains in seconds.

    Args:
        cached: Of the training split; its views are those of the spec's augmentation.
        labels: [N] int64 of the training split, on the device.
        classes: Names of what the labels count.
        validation: Embeddings [V, D] of the validation split; None where nothing is validated.
        validation_labels: [V] int64.
    """

    def __init__(
        self,
        cached: CachedOutputs,
        labels: Tensor,
        classes: tuple[str, ...],
        validation: Tensor | None = None,
        validation_labels: Tensor | None = None,
    ) -> None:
        self.cached, self.labels, self.classes = cached, labels, classes
        self.held = validation if validation is not None else labels.new_empty(0, cached.width).float()
        self.validation_labels = validation_labels if validation_labels is not None else labels[:0]
        if len(self.held) != len(self.validation_labels):
            raise UsageError(
                f"`validation` and `validation_labels` must go together, but got {len(self.held)} and "
                f"{len(self.validation_labels)} rows."
            )

    @property
    def place(self) -> torch.device:
        """Where the outputs lie."""
        return self.cached.place

    def read(self, rows: Tensor, views: Tensor, epoch: int) -> Tensor:
        """Embeddings float32 [B, D]."""
        return self.cached.seen(rows, views, epoch).embedding

    def transform(self, items: Tensor) -> Tensor:
        """The embeddings as they are."""
        return items

    def train_blocks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for block in blocks(len(self.labels)):
            rows = torch.arange(block.start, block.stop, device=self.place)
            yield rows, self.cached.seen(rows, None, 0).embedding, self.labels[block]

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.held), VALIDATION_BATCH):
            stretch = slice(start, start + VALIDATION_BATCH)
            yield self.held[stretch], self.validation_labels[stretch]

    def macs(self, network: nn.Module) -> int:
        return macs_of(network, self.held.new_zeros(1, self.cached.width))


def predict(network: nn.Module, source: Source) -> Generator[tuple[Outputs, Tensor], None, None]:
    """(outputs, labels [b]) of the validation split in evaluation mode, in order."""
    network.eval()
    with torch.no_grad():
        for inputs, labels in source.validation():
            yield network(inputs), labels
