"""Multiply-adds of networks and trainings, from their rows, before anything runs. No torch.

The counts rest on the convolutions of each network at 32 x 32 and width 1, so they are right within some percent for
other widths and sides.
"""

from __future__ import annotations

import functools
from typing import Protocol

from trainables.spec import registry
from trainables.spec.networks import Size, of_files


class OfNetwork(Protocol):
    """What is asked of the spec of a stage that has a network."""

    @property
    def architecture(self) -> str: ...
    @property
    def width(self) -> float: ...
    @property
    def embedding(self) -> int: ...
    @property
    def stem(self) -> str: ...
    @property
    def epochs(self) -> int: ...
    @property
    def distils(self) -> bool: ...

    def read_side(self, side: int) -> int:
        """Side in pixels of what the network reads of images of `side`."""
        ...


# Networks of other libraries are taken for one with the multiply-adds and size of a ResNet-50, unless we have the same.
SAME = {f"torchvision:{name}": name for name in ("resnet18", "resnet34", "resnet50")}
LARGE_STEM = 1 / 16  # Its stride and pooling leave a sixteenth of the pixels to every stage.
BACKWARD = 2.0  # A backward pass takes about twice the forward pass.


def size_of(architecture: str) -> Size:
    """What a network takes at width 1; a plug-in's is counted, one of another library is guessed."""
    return _size_of(architecture, registry.generation())


@functools.cache
def _size_of(architecture: str, generation: int) -> Size:
    entry = registry.find("network", architecture) or registry.find("floor", architecture)
    if entry is None:
        files = of_files()
        if architecture in files:
            return files[architecture]
        entry = registry.get("network", SAME.get(architecture, "resnet50"))
    size: Size = entry.facts["size"]()
    return size


def parameters_of(architecture: str) -> float:
    """Weights of a network at width 1."""
    return float(size_of(architecture).parameters)


def layers_of(architecture: str) -> int:
    """Convolutions of a network."""
    return size_of(architecture).layers


def forward_macs(spec: OfNetwork, side: int) -> float:
    """Multiply-adds of one forward pass of one image; `side` is that of the data, for specs without a resolution.

    Of another library's networks it is a guess, but for torchvision's ResNet-18, 34 and 50.
    """
    macs = size_of(spec.architecture).macs
    if spec.architecture in of_files():
        return macs
    outside = ":" in spec.architecture
    return (
        macs
        * spec.width**2
        * (spec.read_side(side) / 32) ** 2
        * (LARGE_STEM if spec.stem == "large" or outside else 1.0)
    )


def embedding_width(spec: OfNetwork) -> int:
    """Width of the embedding of a spec's network; of another library's a guess, as in `forward_macs`."""
    size = size_of(spec.architecture)
    if spec.architecture in of_files():
        return size.embedding
    return spec.embedding or max(1, round(size.embedding * spec.width)) * size.widened


def training_macs(spec: OfNetwork, guide: OfNetwork | None, side: int) -> float:
    """Multiply-adds per image and epoch: forward and backward of the network, and the guide's forward pass if read.

    The training of guides is not counted: a teacher serves all that are compared, an assistant every student under it.
    """
    total = (1 + BACKWARD) * forward_macs(spec, side)
    if spec.distils and guide is not None:
        total += forward_macs(guide, side)
    return total


def equal_compute_epochs(plain: OfNetwork, other: OfNetwork, guide: OfNetwork | None, side: int) -> int:
    """Epochs in which `plain` takes the multiply-adds that `other`, reading `guide`, takes in its own."""
    per_epoch = training_macs(plain, None, side)
    if per_epoch <= 0:
        return other.epochs
    return max(1, round(other.epochs * training_macs(other, guide, side) / per_epoch))
