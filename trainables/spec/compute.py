"""Multiply-adds of networks and trainings, from tables, before anything runs. No torch.

The counts rest on the convolutions of each network at 32 x 32 and width 1, so they are right within some percent for
other widths and sides. What a finished stage really took is counted on the network itself and stands in its metrics.
"""

from __future__ import annotations

from typing import Protocol

from trainables.spec import registry


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


# Multiply-adds of the convolutions for one image of 32 x 32 and width 1, and their number; a test counts them again.
CONVOLUTIONS: dict[str, tuple[float, int]] = {
    "resnet18": (0.5555e9, 20),
    "resnet34": (1.1596e9, 36),
    "resnet50": (1.2976e9, 53),
    "resnet34_thin": (0.9497e9, 29),
    "resnet_thin": (12.5e6, 9),
    "vgg11": (0.2094e9, 8),
    "pixels": (0.0, 0),
}
PARAMETERS: dict[str, float] = {
    "resnet18": 11.2e6,
    "resnet34": 21.3e6,
    "resnet50": 23.7e6,
    "resnet34_thin": 8.2e6,
    "resnet_thin": 0.08e6,
    "vgg11": 9.3e6,
    "pixels": 0.0,
}
# Networks from files read one size whatever the data's: multiply-adds there, number of convolutions, parameters.
OF_FILES: dict[str, tuple[float, int, float]] = {
    "iresnet18": (2.61e9, 21, 24.0e6),
    "iresnet34": (4.46e9, 37, 34.1e6),
    "iresnet50": (6.31e9, 53, 43.6e6),
    "iresnet100": (12.09e9, 103, 65.2e6),
    "iresnet200": (23.42e9, 201, 118.8e6),
    "vggface2_resnet50": (3.86e9, 53, 23.5e6),
    "vggface2_senet50": (3.86e9, 85, 26.0e6),
    "inception_resnet_v1": (1.42e9, 132, 23.5e6),
}
# Networks of other libraries are taken for one with the multiply-adds and size of a ResNet-50, unless we have the same.
SAME = {f"torchvision:{name}": name for name in ("resnet18", "resnet34", "resnet50")}
# Widths of the pooled features at width 1: channels of the last stage before widening, and what a block multiplies.
POOLED: dict[str, tuple[int, int]] = {
    "resnet18": (512, 1),
    "resnet34": (512, 1),
    "resnet50": (512, 4),
    "resnet34_thin": (256, 1),
    "resnet_thin": (64, 1),
    "vgg11": (512, 1),
}
LARGE_STEM = 1 / 16  # Its stride and pooling leave a sixteenth of the pixels to every stage.
BACKWARD = 2.0  # A backward pass takes about twice the forward pass.


def parameters_of(architecture: str) -> float:
    """Weights of a network at width 1; a plug-in's network counts its own, one of another library is guessed."""
    offer = registry.plugin("network", architecture)
    if offer is not None:
        return float(offer.facts["size"]().parameters)
    if architecture in OF_FILES:
        return OF_FILES[architecture][2]
    return PARAMETERS.get(architecture, PARAMETERS["resnet50"])


def layers_of(architecture: str) -> int:
    """Convolutions of a network."""
    return OF_FILES[architecture][1] if architecture in OF_FILES else convolutions(architecture)[1]


def convolutions(architecture: str) -> tuple[float, int]:
    """Multiply-adds and number of the convolutions at 32 x 32 and width 1; a plug-in's network counts its own."""
    offer = registry.plugin("network", architecture)
    if offer is None:
        return CONVOLUTIONS[_known(architecture)]
    size = offer.facts["size"]()
    return size.macs, size.layers


def _known(architecture: str) -> str:
    """The network of ours whose counts stand for it."""
    return SAME.get(architecture, architecture if architecture in CONVOLUTIONS else "resnet50")


def forward_macs(spec: OfNetwork, side: int) -> float:
    """Multiply-adds of one forward pass of one image; `side` is that of the data, for specs without a resolution.

    Of another library's networks it is a guess, but for torchvision's ResNet-18, 34 and 50.
    """
    if spec.architecture in OF_FILES:
        return OF_FILES[spec.architecture][0]
    macs, _ = convolutions(spec.architecture)
    outside = ":" in spec.architecture
    return (
        macs
        * spec.width**2
        * (spec.read_side(side) / 32) ** 2
        * (LARGE_STEM if spec.stem == "large" or outside else 1.0)
    )


def embedding_width(spec: OfNetwork) -> int:
    """Width of the embedding of a spec's network; of another library's a guess, as in `forward_macs`."""
    if spec.architecture in OF_FILES:
        return 2048 if spec.architecture.startswith("vggface2") else 512
    offer = registry.plugin("network", spec.architecture)
    channels, factor = POOLED[_known(spec.architecture)] if offer is None else (offer.facts["size"]().embedding, 1)
    return spec.embedding or max(1, round(channels * spec.width)) * factor


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
