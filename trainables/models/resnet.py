"""Residual networks (He et al., CVPR 2016), by default with a 3x3 stem of stride 1 and no max pooling.

Stages after the first halve the map, so a network with four stages needs no more than 4 pixels. `stem="large"` is
the original for images of about 100 pixels and more: 7x7 of stride 2 and max pooling.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.convolution import Conv2d
from trainables.models.network import Network, widened


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(inputs, channels, 3, stride),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            _convolution(channels, channels, 3),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = _shortcut(inputs, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; four times as many channels leave as the 3x3 has."""

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        outputs = channels * self.expansion
        self.body = nn.Sequential(
            _convolution(inputs, channels, 1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            _convolution(channels, channels, 3, stride),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            _convolution(channels, outputs, 1),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def resnet18(*, channels: int, classes: int, width: float = 1.0, embedding: int = 0, stem: str = "small") -> Network:
    """ResNet-18, 11,220,132 parameters at 3 channels and 100 classes; HORKD's student on CIFAR."""
    return _resnet(BasicBlock, (2, 2, 2, 2), (64, 128, 256, 512), channels, classes, width, embedding, stem)


def resnet34(*, channels: int, classes: int, width: float = 1.0, embedding: int = 0, stem: str = "small") -> Network:
    """ResNet-34, 21,328,292 parameters at 3 channels and 100 classes."""
    return _resnet(BasicBlock, (3, 4, 6, 3), (64, 128, 256, 512), channels, classes, width, embedding, stem)


def resnet50(*, channels: int, classes: int, width: float = 1.0, embedding: int = 0, stem: str = "small") -> Network:
    """ResNet-50, 23,705,252 parameters at 3 channels and 100 classes; HORKD's teacher on CIFAR."""
    return _resnet(Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), channels, classes, width, embedding, stem)


def resnet34_thin(*, channels: int, classes: int, width: float = 1.0, embedding: int = 0) -> Network:
    """ResNet-34 without its last stage.

    HORKD's face student is an "extremely simplified ResNet34" of 7.8 M parameters and no further description;
    this one has 7.78 times 2^20 before the classifier. It is our reading, not the authors' table.
    """
    return _resnet(BasicBlock, (3, 4, 6), (64, 128, 256), channels, classes, width, embedding)


def resnet_thin(*, channels: int, classes: int, width: float = 1.0, embedding: int = 0) -> Network:
    """Three stages of one block with 16, 32 and 64 channels, for quick studies; from no paper."""
    return _resnet(BasicBlock, (1, 1, 1), (16, 32, 64), channels, classes, width, embedding)


def _resnet(
    block: type[BasicBlock] | type[Bottleneck],
    depths: Sequence[int],
    widths: Sequence[int],
    channels: int,
    classes: int,
    width: float,
    embedding: int,
    stem: str = "small",
) -> Network:
    inputs = widened(widths[0], width)
    large = stem == "large"
    layers: list[nn.Module] = [
        _convolution(channels, inputs, 7 if large else 3, 2 if large else 1),
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
    ]
    if large:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    ends = []
    for stage, (depth, base) in enumerate(zip(depths, widths, strict=True)):
        for index in range(depth):
            layers.append(block(inputs, widened(base, width), 2 if stage > 0 and index == 0 else 1))
            inputs = widened(base, width) * block.expansion
        ends.append((len(layers) - 1, inputs))
    return Network(nn.Sequential(*layers), inputs, classes=classes, embedding=embedding, stages=ends)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
