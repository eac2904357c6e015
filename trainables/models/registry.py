"""From an architecture's name to a network."""

from __future__ import annotations

from collections.abc import Callable

from trainables.errors import UsageError, did_you_mean
from trainables.models.network import Network, Pixels
from trainables.models.outside import is_outside, outside
from trainables.models.resnet import resnet18, resnet34, resnet34_thin, resnet50, resnet_thin
from trainables.models.vgg import vgg11
from trainables.spec import LARGE_STEMS

BUILDERS: dict[str, Callable[..., Network]] = {
    builder.__name__: builder for builder in (resnet18, resnet34, resnet50, resnet34_thin, resnet_thin, vgg11)
}


def build(
    name: str, *, channels: int, classes: int, width: float = 1.0, embedding: int = 0, stem: str = "small"
) -> Network | Pixels:
    """The network called `name`, freshly drawn from torch's global generator.

    Args:
        name: One of `trainables.spec.ARCHITECTURES`, torchvision:NAME or timm:NAME, or pixels: no network, the
            embedding is the image.
        channels: Of the images.
        classes: Number of logits.
        width: Multiplies every channel count (rounded, at least 1).
        embedding: Width of a linear embedding layer; 0 takes the pooled features.
        stem: "small" (3x3, stride 1) or "large" (7x7 of stride 2 and max pooling, for 96 pixels and more; residual
            networks only).

    Raises:
        UsageError: If the name is unknown or a number is out of range.
    """
    if name == "pixels":
        return Pixels(classes)
    if is_outside(name):
        if width != 1.0 or stem != "small":
            raise UsageError(
                f"`width` and `stem` are of our own networks; for {name} leave them at 1 and small, but got {width:g} "
                f"and {stem}. Narrower networks have names of their own there."
            )
        return outside(name, channels=channels, classes=classes, embedding=embedding)
    if name not in BUILDERS:
        raise UsageError(
            f"No architecture named '{name}'.{did_you_mean(name, BUILDERS)}\nKnown are {', '.join(BUILDERS)}, "
            "and with torchvision:NAME or timm:NAME those of these libraries."
        )
    for what, value, least in (
        ("channels", channels, 1),
        ("classes", classes, 1),
        ("embedding", embedding, 0),
    ):
        if value < least:
            raise UsageError(f"`{what}` must be at least {least}, but got {value}.")
    if not width > 0:
        raise UsageError(f"`width` must be above 0, but got {width}.\nIt multiplies channel counts; 1 leaves them.")
    if stem == "small":
        return BUILDERS[name](channels=channels, classes=classes, width=width, embedding=embedding)
    if stem != "large" or name not in LARGE_STEMS:
        raise UsageError(f"`stem` must be small, or large for {', '.join(LARGE_STEMS)}, but got {stem!r} for {name}.")
    return BUILDERS[name](channels=channels, classes=classes, width=width, embedding=embedding, stem=stem)
