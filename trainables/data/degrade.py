"""The one place where images lose resolution, and the way back to a larger side, which restores nothing."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional

from trainables.errors import UsageError, did_you_mean

FILTERS = ("bicubic", "area", "bilinear")


def degrade(images: Tensor, resolution: int, *, filter: str = "bicubic", blur: float = 0.0) -> Tensor:
    """Reduce square images to `resolution`, after an optional Gaussian blur.

    Bicubic and bilinear are antialiased, as Pillow's are; torch's default is not and shifts accuracies. Area
    is the average over the pixels covered. Results under different filters are not comparable.

    Args:
        images: Float [B, C, H, H] in [0, 1].
        resolution: Side in pixels of the result, at most H.
        filter: bicubic, area or bilinear.
        blur: Standard deviation in pixels of the input; 0 for none.

    Returns:
        Float [B, C, resolution, resolution] in [0, 1]; the input itself when nothing is to be done.

    Raises:
        UsageError: If the images do not fit, or the resolution, filter or blur cannot be had.
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3] or not images.is_floating_point():
        raise UsageError(f"`images` must be float [B, C, H, H], but got {images.dtype} {tuple(images.shape)}.")
    if filter not in FILTERS:
        hint = did_you_mean(filter, FILTERS)
        raise UsageError(f"`filter` must be one of {', '.join(FILTERS)}, but got {filter!r}.{hint}")
    side = images.shape[-1]
    if not 1 <= resolution <= side:
        raise UsageError(f"`resolution` must be from 1 to {side}, the side of the images, but got {resolution}.")
    if not (math.isfinite(blur) and blur >= 0.0):
        raise UsageError(f"`blur` must be a finite number of pixels, at least 0, but got {blur}.")
    if blur > 0.0:
        images = _blurred(images, blur)
    if resolution == side:
        return images
    size = (resolution, resolution)
    if filter == "area":
        return functional.adaptive_avg_pool2d(images, size).clamp(0.0, 1.0)
    # The negative lobes of the bicubic kernel overshoot at edges; Pillow clamps as well.
    reduced = functional.interpolate(images, size=size, mode=filter, align_corners=False, antialias=True)
    return reduced.clamp(0.0, 1.0)


def enlarge(images: Tensor, side: int) -> Tensor:
    """Bicubic enlargement of float images [B, C, r, r] in [0, 1] to [B, C, side, side]; itself if they have that side.

    Raises:
        UsageError: If `side` is smaller than the images.
    """
    if side < images.shape[-1]:
        raise UsageError(f"`upsample_to` must be at least {images.shape[-1]}, the resolution, but got {side}.")
    if side == images.shape[-1]:
        return images
    return functional.interpolate(images, size=(side, side), mode="bicubic", align_corners=False).clamp(0.0, 1.0)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    # Two matrix products are about ten times faster on the CPU than grouped convolutions.
    kernel = _blur_kernel(images.shape[-1], sigma, images.device, images.dtype)
    return (kernel @ images @ kernel.T).clamp(0.0, 1.0)


@functools.lru_cache(maxsize=8)
def _blur_kernel(side: int, sigma: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A row's blur as a matrix [side, side]; kept, because copying it to a GPU for each batch would wait for it."""
    radius = max(1, math.ceil(3.0 * sigma))
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    # The edge is repeated: reflecting would need a radius smaller than the image.
    sources = (torch.arange(side)[:, None] + offsets).clamp(0, side - 1)
    kernel = torch.zeros(side, side, dtype=torch.float64)
    kernel.scatter_add_(1, sources, (weights / weights.sum()).expand(side, -1))
    return kernel.to(device, dtype)
