"""What a network from a file wants its images to be: order of channels, range, mean, deviation, size and crop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainables.data.batches import normalise
from trainables.data.degrade import degrade, enlarge
from trainables.errors import ArtifactError, UsageError

ORDERS = ("rgb", "bgr")
RANGES = (1, 255)


@dataclass(frozen=True)
class Preprocessing:
    """From images in [0, 1] to what a network was trained on; kept in its artifact.

    `side` 0 leaves the size as it is; `crop` 0 takes the whole image, else the middle `crop` pixels are taken after
    resizing to `side`. `mean` and `std` are in units of `range`, one for each channel in the network's own order; an
    empty mean takes the statistics of the training split, as our own trainings do.
    """

    order: str = "rgb"
    range: int = 1  # Largest value of a pixel: 1 or 255.
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    side: int = 0
    crop: int = 0
    channels: int = 3

    def __post_init__(self) -> None:
        if self.order not in ORDERS or self.range not in RANGES:
            raise UsageError(
                f"`order` is one of {', '.join(ORDERS)} and `range` 1 or 255, got {self.order}, {self.range}."
            )
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, self.channels):
            raise UsageError(
                f"`mean` and `std` must have {self.channels} numbers each, or none, got {len(self.mean)} and {len(self.std)}."
            )
        if any(not value > 0 for value in self.std):
            raise UsageError(f"`std` must be above 0, got {min(self.std)}: images are divided by it.")
        if self.crop and not (self.side >= self.crop > 0):
            raise UsageError(f"`crop` must be at most `side`, {self.side}, got {self.crop}.")

    def read_side(self, side: int) -> int:
        """Side in pixels of what the network reads, for images of `side`."""
        return self.crop or self.side or side

    def __call__(self, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Float images [B, C, H, H] in [0, 1] -> [B, channels, s, s] as the network wants them.

        Args:
            images: Grey ones are repeated where the network has three channels.
            mean: Of the training split, [C]; used where the network brought none.
            std: Its deviation.

        Raises:
            UsageError: If colour images meet a network for grey ones.
        """
        if images.shape[1] != self.channels:
            if images.shape[1] != 1:
                raise UsageError(f"The teacher reads {self.channels} channels, but the images have {images.shape[1]}.")
            images = images.expand(-1, self.channels, -1, -1)
        if self.side:
            small = images.shape[-1] < self.side
            images = enlarge(images, self.side) if small else degrade(images, self.side)
        if self.crop and self.crop < self.side:
            # The offset is that of torchvision's CenterCrop.
            start = round((self.side - self.crop) / 2)
            images = images[..., start : start + self.crop, start : start + self.crop]
        if self.order == "bgr":
            images = images.flip(1)
        if self.range != 1:
            images = images * float(self.range)
        if self.mean:
            own = torch.tensor(self.mean), torch.tensor(self.std)
        else:
            # The data's are of its own order; each stays with its colour.
            own = (mean.flip(0), std.flip(0)) if self.order == "bgr" else (mean, std)
        return normalise(images, *own).contiguous(memory_format=torch.channels_last)

    def swapped(self) -> Preprocessing:
        """The same for the other order of channels; mean and deviation stay with their colours."""
        other = "bgr" if self.order == "rgb" else "rgb"
        return dataclasses.replace(self, order=other, mean=self.mean[::-1], std=self.std[::-1])

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Preprocessing:
        """What `plain` wrote.

        Raises:
            ArtifactError: If it is something else.
        """
        try:
            fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
            return cls(**fields)
        except (TypeError, UsageError) as error:
            raise ArtifactError(f"This is no preprocessing of a teacher: {dict(plain)!r} ({error}).") from error

    def sentence(self) -> str:
        """For people: `RGB from 0 to 1, minus 0.5 0.5 0.5, over 0.5 0.5 0.5, 112 pixels`."""
        shown = (
            ("minus " + " ".join(f"{v:g}" for v in self.mean) + ", over " + " ".join(f"{v:g}" for v in self.std))
            if (self.mean)
            else "normalised by the training split"
        )
        size = f"{self.side} pixels" if self.side else "the data's own size"
        crop = f", the middle {self.crop}" if self.crop and self.crop != self.side else ""
        channels = self.order.upper() if self.channels == 3 else "grey"
        return f"{channels} from 0 to {self.range}, {shown}, {size}{crop}"
