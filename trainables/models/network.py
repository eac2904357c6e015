"""What every network has: a trunk, global average pooling, an embedding and a single linear classifier."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trainables.models.convolution import Conv2d

PLAIN = (nn.Conv2d, Conv2d)


class Outputs(NamedTuple):
    """What a network says about a batch."""

    embedding: Tensor  # [B, D]
    logits: Tensor  # [B, C]
    maps: tuple[Tensor, ...] = ()  # One [B, F, h, w] per stage of the trunk, shallow to deep, when asked for.


class Network(nn.Module):
    """Images [B, channels, H, W] to `Outputs`; D is `embedding_width`, the F of each map are `map_widths`."""

    def __init__(
        self,
        trunk: nn.Sequential,
        pooled_width: int,
        *,
        classes: int,
        embedding: int,
        stages: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Args: a trunk giving maps [B, pooled_width, h, w]; `embedding` 0 takes the pooled features as embedding;
        `stages` are (number of the trunk's last layer in the stage, channels that leave it).

        Weights are drawn from torch's global generator, which the caller seeds.
        """
        super().__init__()
        self.embedding_width = embedding or pooled_width
        self.map_widths = tuple(channels for _, channels in stages)
        self._ends = frozenset(layer for layer, _ in stages)
        self.trunk = trunk
        self.embedding = nn.Linear(pooled_width, embedding) if embedding else nn.Identity()
        self.classifier = nn.Linear(self.embedding_width, classes)
        for module in trunk.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor, maps: bool = False) -> Outputs:
        kept = []
        x = images
        for number, layer in enumerate(self.trunk):
            x = layer(x)
            if maps and number in self._ends:
                kept.append(x)
        embedding = self.embedding(x.mean((2, 3)))
        return Outputs(embedding, self.classifier(embedding), tuple(kept))


class Pixels(nn.Module):
    """The images themselves as embeddings [B, channels x H x W]: the floor of every comparison by similarity."""

    embedding_width = 0
    map_widths: tuple[int, ...] = ()

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor, maps: bool = False) -> Outputs:
        return Outputs(images.flatten(1), images.new_zeros(len(images), self.classes))


def widened(channels: int, width: float) -> int:
    """`channels` times `width`, rounded, at least 1."""
    return max(1, round(channels * width))


def fold(network: nn.Module) -> None:
    """Put every batch normalisation that follows a convolution in a sequence into that convolution, in place.

    For networks in evaluation mode that are never trained again; outputs agree within rounding. Normalisations
    without running statistics stay, and so do layers on which something is hooked.
    """
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            for place, (layer, after) in enumerate(itertools.pairwise(list(module))):
                # Other libraries have normalisations of their own that do more, such as activate.
                if not (isinstance(layer, nn.Conv2d) and type(layer) in PLAIN and type(after) is nn.BatchNorm2d):
                    continue
                if after.running_mean is not None and not any(map(_hooked, (layer, after))):
                    module[place], module[place + 1] = fuse_conv_bn_eval(layer, after), nn.Identity()
    network.to(memory_format=torch.channels_last)


def _hooked(layer: nn.Module) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)
