"""Augmentations with finitely many views, each with an index, so that outputs on them can be stored."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainables import spec
from trainables.errors import UsageError, did_you_mean

KINDS = spec.AUGMENTATIONS


def view_count(kind: str, pad: int) -> int:
    """Number of distinct views of one image: (2 pad + 1)^2 crops, times 2 with flips (pad 4: 162).

    Raises:
        UsageError: If the kind is unknown or `pad` negative.
    """
    if kind not in KINDS:
        raise UsageError(
            f"The augmentation must be one of {', '.join(KINDS)}, but got {kind!r}.{did_you_mean(kind, KINDS)}"
        )
    if pad < 0:
        raise UsageError(f"`pad` must be at least 0 pixels, but got {pad}.")
    return spec.view_count(kind, pad)


def augment(images: Tensor, kind: str, *, pad: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw one view of each image, all equally likely.

    Args:
        images: uint8 [B, C, H, W].
        kind: none, flip (left to right), crop (from zero padding) or crop_flip.
        pad: Pixels of zero padding on each side; without crops it has no meaning.
        generator: The only source of randomness.

    Returns:
        The views uint8 [B, C, H, W] and their indices int64 [B], from which `view` makes them again; the indices lie
        where the generator does.
    """
    index = draw_views(len(images), kind, pad=pad, generator=generator)
    return take_views(images, kind, pad, index.to(images.device)), index


def draw_views(count: int, kind: str, *, pad: int, generator: torch.Generator) -> Tensor:
    """Indices int64 [count] of drawn views, where the generator lies: what `augment` draws, without the images."""
    return torch.randint(view_count(kind, pad), (count,), generator=generator, device=generator.device)


def view(images: Tensor, kind: str, pad: int, view_index: Tensor | int) -> Tensor:
    """The views [B, C, H, W] with these indices, int64 [B] or one for all.

    With crops and flips, index = (row * (2 pad + 1) + column) * 2 + flipped; what is not drawn is left out.

    Raises:
        UsageError: If an index is not below `view_count`.
    """
    views = view_count(kind, pad)
    index = torch.as_tensor(view_index, dtype=torch.int64, device=images.device).expand(len(images))
    if len(index) and not (int(index.min()) >= 0 and int(index.max()) < views):
        raise UsageError(f"A view index must be from 0 to {views - 1} for {kind} with pad {pad}.")
    return take_views(images, kind, pad, index)


def take_views(images: Tensor, kind: str, pad: int, index: Tensor) -> Tensor:
    """As `view` with indices that `draw_views` made, int64 [B] beside the images: looks at none, so waits for no GPU."""
    crop, flip = "crop" in kind, "flip" in kind
    result = images
    if crop and pad > 0:
        place = index // 2 if flip else index
        row, column = place // (2 * pad + 1), place % (2 * pad + 1)
        height, width = images.shape[2:]
        windows = functional.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
        # All windows are strided views of the padded images; only the chosen ones are copied.
        result = windows[torch.arange(len(images), device=images.device), :, row, column]
    if flip:
        result = torch.where((index % 2 == 1).view(-1, 1, 1, 1), result.flip(3), result)
    return result
