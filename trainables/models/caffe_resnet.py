"""ResNet-50 and SENet-50 of VGGFace2 (Cao et al., FG 2018), as they were trained with Caffe.

The names are torchvision's, the network is not: the stride sits in the first 1x1 of a bottleneck, not in its 3x3, and
max pooling has no padding but rounds up. torchvision's ResNet-50 accepts these weights and silently gives other
features. Channels come as blue, green, red from 0 to 255 less their means.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.foreign import Foreign, run_stages

DEPTHS = (3, 4, 6, 3)
CHANNELS = (64, 128, 256, 512)
REDUCTION = 16  # Of squeeze and excitation.


class CaffeBottleneck(nn.Module):
    """1x1 of the stride, 3x3, 1x1 to four times the channels, optionally squeeze and excitation, and a shortcut."""

    def __init__(self, inputs: int, channels: int, stride: int, *, squeeze: bool) -> None:
        super().__init__()
        outputs = 4 * channels
        self.conv1 = nn.Conv2d(inputs, channels, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.squeeze = squeeze
        if squeeze:
            self.conv4 = nn.Conv2d(outputs, outputs // REDUCTION, 1)
            self.conv5 = nn.Conv2d(outputs // REDUCTION, outputs, 1)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        body = F.relu(self.bn1(self.conv1(x)))
        body = F.relu(self.bn2(self.conv2(body)))
        body = self.bn3(self.conv3(body))
        if self.squeeze:
            gate = self.conv5(F.relu(self.conv4(body.mean((2, 3), keepdim=True))))
            body = body * gate.sigmoid()
        return F.relu(body + (x if self.downsample is None else self.downsample(x)))


class CaffeResNet(Foreign):
    """Faces [B, 3, 224, 224] to pooled features [B, 2048]; `classes` 8631 where the classifier `fc` is kept."""

    def __init__(self, *, squeeze: bool, classes: int = 0) -> None:
        super().__init__(4 * CHANNELS[-1], classes=classes, map_widths=[4 * channels for channels in CHANNELS])
        self.conv1 = nn.Conv2d(3, CHANNELS[0], 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS[0])
        inputs = CHANNELS[0]
        for number, (depth, channels) in enumerate(zip(DEPTHS, CHANNELS, strict=True), start=1):
            blocks = []
            for index in range(depth):
                blocks.append(CaffeBottleneck(inputs, channels, 2 if number > 1 and index == 0 else 1, squeeze=squeeze))
                inputs = 4 * channels
            setattr(self, f"layer{number}", nn.Sequential(*blocks))

    def embed(self, images: Tensor, kept: list[Tensor]) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
        return run_stages([getattr(self, f"layer{number}") for number in range(1, 5)], x, kept).mean((2, 3))
