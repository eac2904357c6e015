"""From an architecture's name to a network."""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from torch import nn

from trainables.errors import UsageError, did_you_mean
from trainables.models.macs import count_macs
from trainables.models.network import Network, Pixels
from trainables.models.outside import is_outside, outside
from trainables.spec import registry
from trainables.spec.networks import with_stem


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
    entry = registry.find("network", name)
    if entry is None:
        known = registry.names("network")
        raise UsageError(
            f"No architecture named '{name}'.{did_you_mean(name, known)}\nKnown are {', '.join(known)}, "
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
    if entry.origin is not None:
        if stem != "small":
            raise UsageError(f"`stem` must be small for {name}, which {entry.source.file} brings, but got {stem!r}.")
        return _of_plugin(entry, channels=channels, classes=classes, width=width, embedding=embedding)
    if stem not in entry.facts["stems"]:
        able = ", ".join(with_stem("large"))
        raise UsageError(f"`stem` must be small, or large for {able}, but got {stem!r} for {name}.")
    chosen = {} if stem == "small" else {"stem": stem}
    made: Network = entry.load()(channels=channels, classes=classes, width=width, embedding=embedding, **chosen)
    return made


_NEUTRAL = {"width": 1.0, "embedding": 0}  # What a plug-in's builder need not understand.


def _of_plugin(offer: registry.Entry, **asked: Any) -> Network:
    """The network that a plug-in's function builds.

    Raises:
        UsageError: If it fails, does not take what is asked, or gives something that is no network.
    """
    where = f"The network '{offer.name}' of {offer.where}"
    taken = inspect.signature(offer.load()).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        for name, neutral in _NEUTRAL.items():
            if name not in taken and asked[name] != neutral:
                raise UsageError(f"{where} takes no `{name}`, so that must be {neutral}, but got {asked[name]}.")
        asked = {name: value for name, value in asked.items() if name in taken}
    try:
        made = offer.load()(**asked)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{where} cannot be built: {type(error).__name__}: {error}") from error
    lacks = [name for name in ("embedding_width", "map_widths") if not hasattr(made, name)]
    if not isinstance(made, nn.Module) or lacks:
        raise UsageError(
            f"{where} must be a `trainables.models.Network`, or an `nn.Module` with embedding_width and map_widths, but is "
            f"{type(made).__name__}{f' without {lacks[0]}' if lacks and isinstance(made, nn.Module) else ''}."
        )
    if asked.get("embedding") and made.embedding_width != asked["embedding"]:
        raise UsageError(
            f"{where} must have an embedding of {asked['embedding']}, as asked, but has {made.embedding_width}. "
            "Pass `embedding` on, or do not take it."
        )
    return cast(Network, made)


def measure(name: str, *, side: int) -> tuple[float, int, int, int]:
    """Multiply-adds of one image of `side` pixels brought to 32, convolutions and linear layers, weights, embedding width."""
    with torch.random.fork_rng(devices=[]):
        network = build(name, channels=3, classes=10)
    layers = sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in network.modules())
    macs = count_macs(network, channels=3, side=side) * (32 / side) ** 2
    return macs, layers, sum(weight.numel() for weight in network.parameters()), network.embedding_width


def widths(name: str, **asked: Any) -> tuple[int, bool]:
    """Width of the embedding of the network that `build` gives, and whether it has feature maps."""
    with torch.random.fork_rng(devices=[]):
        network = build(name, **asked)
    return network.embedding_width, bool(network.map_widths)
