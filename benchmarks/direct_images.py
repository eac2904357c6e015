"""The other side of the comparisons: images augmented one by one with Pillow, as public code does it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor


def crop_and_flip(image: np.ndarray, row: int, column: int, flipped: bool, pad: int) -> Image.Image:
    """One view of one image uint8 [H, W, 3] with Pillow: padded by zeros, cut out, mirrored."""
    height, width = image.shape[:2]
    picture = ImageOps.expand(Image.fromarray(image), border=pad, fill=0)
    picture = picture.crop((column, row, column + width, row + height))
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else picture


def to_tensor(picture: Image.Image, mean: Tensor, std: Tensor) -> Tensor:
    """Float [3, H, W] in [0, 1], less the mean and over the deviation."""
    values = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div(255.0)
    return (values - mean[:, None, None]) / std[:, None, None]


def augmented(
    images: np.ndarray, views: np.ndarray, pad: int, mean: Tensor, std: Tensor, sides: tuple[int, ...]
) -> list[Tensor]:
    """A batch at each of `sides` [B, 3, side, side] from images uint8 [B, H, W, 3], one image at a time.

    Args:
        images: As decoded.
        views: Which view of each image [B]: (row * (2 pad + 1) + column) * 2 + flipped.
        pad: Pixels of padding.
        mean: Of each channel.
        std: Of each channel.
        sides: Of the results; what differs from the images' own is reduced with Pillow's bicubic filter.
    """
    batches: list[list[Tensor]] = [[] for _ in sides]
    for image, view in zip(images, views.tolist(), strict=True):
        row, column = divmod(view // 2, 2 * pad + 1)
        picture = crop_and_flip(image, row, column, view % 2 == 1, pad)
        for batch, side in zip(batches, sides, strict=True):
            sized = picture if side == picture.width else picture.resize((side, side), Image.Resampling.BICUBIC)
            batch.append(to_tensor(sized, mean, std))
    return [torch.stack(batch) for batch in batches]
