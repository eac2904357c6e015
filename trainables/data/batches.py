"""Batches made with tensor operations from generators seeded by (seed, epoch), never one image at a time."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.data.packed import Packed, open_packed
from trainables.errors import UsageError
from trainables.spec import ReadsTraining

_BLOCK = 256  # Images summed at once, which bounds the memory.
_REMEMBERED = 32  # Splits whose statistics a process keeps; one bit for each item of the data, and a few numbers.


def generator(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for each (seed, epoch, purpose), the same in every process."""
    digest = hashlib.blake2b(f"{int(seed)}/{int(epoch)}/{purpose}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def epoch_batches(count: int, batch_size: int, *, seed: int, epoch: int, drop_last: bool) -> list[Tensor]:
    """Positions [b] int64 of each batch of an epoch: a permutation of `count` from (seed, epoch) only.

    Raises:
        UsageError: If a size is not positive, or no batch would remain.
    """
    if count < 1 or batch_size < 1:
        raise UsageError(f"`count` and `batch_size` must be at least 1, but got {count} and {batch_size}.")
    if drop_last and count < batch_size:
        raise UsageError(
            f"`batch_size` must be at most {count}, the number of images, when partial batches are dropped, "
            f"but got {batch_size}. Lower it."
        )
    order = torch.randperm(count, generator=generator(seed, epoch, "order"))
    batches = list(order.split(batch_size))
    return batches[:-1] if drop_last and len(batches[-1]) < batch_size else batches


def balanced_batches(
    labels: Tensor, batch_size: int, images_per_class: int, *, seed: int, epoch: int, drop_last: bool
) -> list[Tensor]:
    """Positions [b] int64 of batches that hold groups of one class: a permutation of all images from (seed, epoch) only.

    In an epoch the images of each class are shuffled and dealt into groups of `images_per_class`; what does not fill a
    group joins the others, so groups of a class have from that many images to one less than twice as many, and a class
    with fewer images is one group. The groups of a class are spread evenly over the epoch, and a batch takes whole groups
    as long as they fit: it has `batch_size` images or a few less, and every image has one of its class beside it unless
    its class has no other. Classes take part in proportion to their images. Without `drop_last` every image comes once;
    with it a last batch below half of `batch_size` is left out, and its images come in other epochs.

    The sampler of pytorch-metric-learning (`MPerClassSampler`) has the same purpose and another promise: its classes
    take equal turns, images are drawn again where a class has too few and may be left out for a whole epoch, and its
    numbers come from NumPy's global generator, so a training that goes on at epoch 7 would not get the batches it would
    have had. Here kept outputs have one row for each image and epoch, which needs that no image comes twice.

    Args:
        labels: Class [N] int64 of each image, from 0.
        batch_size: Most images of a batch.
        images_per_class: Least images of a group; at most half of `batch_size`.
        seed: Of the training.
        epoch: Counted from 1.
        drop_last: Whether a small last batch is left out; the only batch never is.

    Raises:
        UsageError: If there is no image, or a group would not fit twice into a batch.
    """
    count = len(labels)
    if count < 1 or images_per_class < 1 or batch_size < min(count, 2 * images_per_class):
        raise UsageError(
            f"`images_per_class` must be from 1 to half of `batch_size`, and there must be images, but got "
            f"{images_per_class}, {batch_size} and {count} images."
        )
    draws = generator(seed, epoch, "groups")
    order = torch.randperm(count, generator=draws)
    by_class = order[torch.argsort(labels[order], stable=True)]
    sizes = torch.bincount(labels)
    sizes = sizes[sizes > 0]
    groups = (sizes // images_per_class).clamp(min=1)
    owner = torch.repeat_interleave(torch.arange(len(sizes)), groups)
    place = torch.arange(len(owner)) - (groups.cumsum(0) - groups)[owner]  # Of a group within its class.
    widths = sizes[owner] // groups[owner] + (place < sizes[owner] % groups[owner]).long()
    # One group of a class in each of as many equal parts of the epoch, so a batch seldom has two of one class.
    moments = (place + torch.rand(len(owner), generator=draws, dtype=torch.float64)) / groups[owner]
    turns = torch.argsort(moments, stable=True)
    starts, widths = (widths.cumsum(0) - widths)[turns], widths[turns]
    ends = widths.cumsum(0)
    within = torch.arange(count) - torch.repeat_interleave(ends - widths, widths)
    rows = by_class[torch.repeat_interleave(starts, widths) + within]
    bounds = [0]
    while bounds[-1] < count:
        fitting = int(torch.searchsorted(ends, bounds[-1] + batch_size, right=True))
        bounds.append(int(ends[fitting - 1]))
    batches = [rows[start:stop] for start, stop in itertools.pairwise(bounds)]
    return batches[:-1] if drop_last and len(batches) > 1 and 2 * len(batches[-1]) < batch_size else batches


def batches_of(spec: ReadsTraining, labels: Tensor, epoch: int) -> list[Tensor]:
    """The batches of an epoch as a spec asks for them; `labels` [N] on the CPU.

    A training set smaller than `batch_size` is one batch; else what is left of the last one is not trained on.
    """
    count, drop_last = len(labels), len(labels) >= spec.batch_size
    size = min(spec.batch_size, count)
    if spec.images_per_class:
        return balanced_batches(labels, size, spec.images_per_class, seed=spec.seed, epoch=epoch, drop_last=drop_last)
    return epoch_batches(count, size, seed=spec.seed, epoch=epoch, drop_last=drop_last)


def load(packed: Packed, indices: np.ndarray) -> tuple[Tensor, Tensor]:
    """Copy items out of the map: images uint8 [n, C, H, W] and labels int64 [n]."""
    return torch.from_numpy(packed.pixels(indices)), torch.from_numpy(packed.labels[indices].astype(np.int64))


def to_float(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1]."""
    return images.to(torch.float32).div_(255.0)


def statistics(packed: Packed, indices: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] float64 of the pixels in [0, 1] of some items (the training split).

    Sums are of integers, so the result does not depend on the order. The deviation is at least 1/255:
    nothing can be divided by a contrast of 0.
    """
    if len(indices) == 0:
        raise UsageError("Statistics need at least one image, but got none.")
    channels = packed.info.channels
    total, squares = np.zeros(channels, dtype=np.int64), np.zeros(channels, dtype=np.int64)
    for start in range(0, len(indices), _BLOCK):
        block = packed.pixels(indices[start : start + _BLOCK]).astype(np.int32)
        total += block.sum(axis=(0, 2, 3), dtype=np.int64)
        squares += np.square(block, out=block).sum(axis=(0, 2, 3), dtype=np.int64)
    pixels = len(indices) * packed.info.height * packed.info.width
    # Python's integers have no size, so nothing is lost before the last division.
    sums = list(zip(total.tolist(), squares.tolist(), strict=True))
    mean = torch.tensor([t / (255 * pixels) for t, _ in sums], dtype=torch.float64)
    spread = [(pixels * q - t * t) / (255 * pixels) ** 2 for t, q in sums]
    return mean, torch.tensor(spread, dtype=torch.float64).sqrt().clamp(min=1 / 255)


def remembered_statistics(packed: Packed, indices: np.ndarray) -> tuple[Tensor, Tensor]:
    """What `statistics` gives, read from the images once in a process: all stages of a study normalise by few splits.

    The file counts, not the arrays at hand: `packed` must be as `open_packed` gives it.
    """
    chosen = np.zeros(len(packed.labels), dtype=bool)
    chosen[indices] = True
    mean, std = _statistics_of(packed.info.path, packed.info.fingerprint, np.packbits(chosen).tobytes())
    return mean.clone(), std.clone()


@functools.lru_cache(maxsize=_REMEMBERED)
def _statistics_of(path: Path, fingerprint: str, chosen: bytes) -> tuple[Tensor, Tensor]:
    packed = open_packed(path)
    return statistics(packed, np.flatnonzero(np.unpackbits(np.frombuffer(chosen, np.uint8), count=len(packed.labels))))


def normalise(images: Tensor, mean: Tensor | Sequence[float], std: Tensor | Sequence[float]) -> Tensor:
    """Float images [B, C, H, W] minus `mean` [C], divided by `std` [C]; done after resizing."""
    shift = torch.as_tensor(mean, dtype=images.dtype, device=images.device).view(-1, 1, 1)
    scale = torch.as_tensor(std, dtype=images.dtype, device=images.device).view(-1, 1, 1)
    return (images - shift) / scale
