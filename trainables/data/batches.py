"""Batches made with tensor operations from generators seeded by (seed, epoch), never one image at a time."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.data.packed import Packed, open_packed
from trainables.errors import UsageError

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
