"""Which network a file belongs to, by its names and shapes alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from trainables.errors import UsageError
from trainables.models.iresnet import DEPTHS
from trainables.models.network import widened
from trainables.models.outside import is_outside
from trainables.pretrained.fitting import Shapes, built, channels_of, side_of
from trainables.spec import ARCHITECTURES
from trainables.spec.networks import with_stem

TORCHVISION: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}


def guess_of(shapes: Shapes, pickled: bool, width: float) -> tuple[str, str]:
    """Family and architecture by the names alone, or two empty words."""
    if {"prelu.weight", "layer1.0.prelu.weight", "features.weight"} <= set(shapes):
        # The third stage tells all published depths apart; a file of none gets the nearest, whose names then differ.
        blocks = _blocks(shapes, 3)
        return "iresnet", min(DEPTHS, key=lambda known: abs(DEPTHS[known][2] - blocks))
    if "conv2d_1a.conv.weight" in shapes and "last_linear.weight" in shapes:
        return "facenet", "inception_resnet_v1"
    if {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= set(shapes):
        if "layer1.0.conv4.weight" in shapes:
            return "vggface2", "vggface2_senet50"
        if pickled or side_of(shapes, "fc.weight", 0) == 8631:
            return "vggface2", "vggface2_resnet50"
        depths = tuple(_blocks(shapes, stage) for stage in range(1, 5))
        name = TORCHVISION.get(("layer1.0.conv3.weight" in shapes, depths))
        return ("plain", f"torchvision:{name}") if name else ("", "")
    own = _own(shapes, width) if "trunk.0.weight" in shapes else ""
    return ("plain", own) if own else ("", "")


def _blocks(shapes: Shapes, stage: int) -> int:
    """Blocks of a stage, counted in the names `layerSTAGE.NUMBER.`."""
    return len({name.split(".")[1] for name in shapes if name.startswith(f"layer{stage}.")})


def _own(shapes: Shapes, width: float) -> str:
    """Which of our own networks has these names, and shapes if any has them; or nothing."""
    alike = []
    for name in ARCHITECTURES:
        if _stem(shapes) == "large" and name not in with_stem("large"):
            continue
        _, names, fits = structure_of(shapes, name, width)
        if fits:
            return name
        if names:
            alike.append(name)
    return next(iter(alike), "")


def structure_of(shapes: Shapes, architecture: str, width: float) -> tuple[dict[str, Any], bool, bool]:
    """Width, embedding layer and stem of our own networks from the shapes, and whether all names and all shapes fit.

    Many widths round to the same first layer, so those are tried that people write. A width other than 1 is as asked.
    """
    first: dict[str, Any] = {"width": 1.0, "embedding": 0, "stem": "small"}
    if is_outside(architecture):
        return first, True, True
    first |= {"embedding": side_of(shapes, "embedding.weight", 0), "stem": _stem(shapes)}
    channels = channels_of(shapes, architecture)
    layer = side_of(shapes, "trunk.0.weight", 0)
    for number, tried in enumerate(_widths(layer, 16 if architecture == "resnet_thin" else 64, width)):
        guess = first | {"width": tried}
        try:
            network, _ = built(architecture, "plain", shapes, channels=channels, **guess)
        except UsageError:
            return first, False, False
        wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        body = {key for key in wanted if not key.startswith("classifier.")}
        if number == 0:
            first = guess
            if not body <= set(shapes) <= set(wanted):
                return first, False, False
        if all(wanted[key] == tuple(shapes[key]) for key in body):
            return guess, True, True
    return first, True, False


def _stem(shapes: Shapes) -> str:
    return "large" if side_of(shapes, "trunk.0.weight", 3) == 7 else "small"


def _widths(layer: int, base: int, width: float) -> Iterator[float]:
    """Widths that make a first layer of `base` channels one of `layer`: the plain ratio, then those of few decimals."""
    if width != 1.0 or not layer:
        yield width
        return
    yield layer / base
    for parts in (10, 100, 1000):
        low, high = math.floor((layer - 0.5) * parts / base), math.ceil((layer + 0.5) * parts / base)
        yield from (k / parts for k in range(max(1, low), high + 1) if widened(base, k / parts) == layer)
