"""Multiply-adds of networks and trainings, from tables, before anything runs. No torch.

The counts rest on the convolutions of each network at 32 x 32 and width 1, so they are right within some percent for
other widths and sides. What a finished stage really took is counted on the network itself and stands in its metrics.
"""

from __future__ import annotations

from trainables import plugged
from trainables.spec import DistillationSpec, TrainingSpec

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


def convolutions(architecture: str) -> tuple[float, int]:
    """Multiply-adds and number of the convolutions at 32 x 32 and width 1; a plug-in's network counts its own."""
    offer = plugged.find("network", architecture)
    if offer is None:
        return CONVOLUTIONS[architecture]
    size = offer.facts["size"]()
    return size.macs, size.layers


def forward_macs(spec: TrainingSpec, side: int) -> float:
    """Multiply-adds of one forward pass of one image; `side` is that of the data, for specs without a resolution."""
    macs, _ = convolutions(spec.architecture)
    read = spec.upsample_to or spec.resolution or side
    return macs * spec.width**2 * (read / 32) ** 2 * (LARGE_STEM if spec.stem == "large" else 1.0)


def embedding_width(spec: TrainingSpec) -> int:
    """Width of the embedding of a spec's network."""
    offer = plugged.find("network", spec.architecture)
    channels, factor = POOLED[spec.architecture] if offer is None else (offer.facts["size"]().embedding, 1)
    return spec.embedding or max(1, round(channels * spec.width)) * factor


def training_macs(spec: TrainingSpec, guide: TrainingSpec | None, side: int) -> float:
    """Multiply-adds per image and epoch: forward and backward of the network, and the guide's forward pass if read.

    The training of guides is not counted: a teacher serves all that are compared, an assistant every student under it.
    """
    total = (1 + BACKWARD) * forward_macs(spec, side)
    if isinstance(spec, DistillationSpec) and spec.distils and guide is not None:
        total += forward_macs(guide, side)
    return total


def equal_compute_epochs(plain: TrainingSpec, other: TrainingSpec, guide: TrainingSpec | None, side: int) -> int:
    """Epochs in which `plain` takes the multiply-adds that `other`, reading `guide`, takes in its own."""
    per_epoch = training_macs(plain, None, side)
    if per_epoch <= 0:
        return other.epochs
    return max(1, round(other.epochs * training_macs(other, guide, side) / per_epoch))
