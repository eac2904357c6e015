"""Inception-ResNet v1 (Szegedy et al., AAAI 2017) for faces, as facenet-pytorch lays it out and names its parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.foreign import Foreign
from trainables.models.network import Outputs

EPSILON = 1e-3  # Of every normalisation; the weights were converted from TensorFlow.


class Unit(nn.Module):
    """Convolution without bias, normalisation, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, *, same: bool = False
    ) -> None:
        super().__init__()
        sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        padding = (sides[0] // 2, sides[1] // 2) if same else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, sides, stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """Branches beside each other, brought back to the channels of the input by a 1x1, scaled and added to it."""

    def __init__(
        self, channels: int, branches: list[nn.Module], width: int, scale: float, *, last: bool = False
    ) -> None:
        super().__init__()
        self.count, self.scale, self.last = len(branches), scale, last
        for number, branch in enumerate(branches):
            setattr(self, f"branch{number}", branch)
        self.conv2d = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        side_by_side = torch.cat([getattr(self, f"branch{number}")(x) for number in range(self.count)], 1)
        total = x + self.scale * self.conv2d(side_by_side)
        return total if self.last else F.relu(total)


class Reduction(nn.Module):
    """Branches of stride 2 and a max pooling beside each other."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.count = len(branches)
        for number, branch in enumerate(branches):
            setattr(self, f"branch{number}", branch)

    def forward(self, x: Tensor) -> Tensor:
        found = [getattr(self, f"branch{number}")(x) for number in range(self.count)]
        return torch.cat([*found, F.max_pool2d(x, 3, stride=2)], 1)


def _block35() -> Residual:
    """Three branches of 32 channels on 256; scale 0.17."""
    three = nn.Sequential(Unit(256, 32, 1), Unit(32, 32, 3, same=True), Unit(32, 32, 3, same=True))
    return Residual(
        256, [Unit(256, 32, 1), nn.Sequential(Unit(256, 32, 1), Unit(32, 32, 3, same=True)), three], 96, 0.17
    )


def _block17() -> Residual:
    """Two branches of 128 channels on 896, one through 1x7 and 7x1; scale 0.10."""
    crossed = nn.Sequential(Unit(896, 128, 1), Unit(128, 128, (1, 7), same=True), Unit(128, 128, (7, 1), same=True))
    return Residual(896, [Unit(896, 128, 1), crossed], 256, 0.10)


def _block8(scale: float, *, last: bool = False) -> Residual:
    """Two branches of 192 channels on 1792, one through 1x3 and 3x1."""
    crossed = nn.Sequential(Unit(1792, 192, 1), Unit(192, 192, (1, 3), same=True), Unit(192, 192, (3, 1), same=True))
    return Residual(1792, [Unit(1792, 192, 1), crossed], 384, scale, last=last)


class InceptionResnetV1(Foreign):
    """Faces [B, 3, 160, 160] to embeddings [B, 512] of length 1; a kept classifier reads them before they are scaled."""

    def __init__(self, *, classes: int = 0) -> None:
        super().__init__(512, classes=classes, map_widths=(256, 896, 1792))
        self.conv2d_1a = Unit(3, 32, 3, 2)
        self.conv2d_2a = Unit(32, 32, 3)
        self.conv2d_2b = Unit(32, 64, 3, same=True)
        self.conv2d_3b = Unit(64, 80, 1)
        self.conv2d_4a = Unit(80, 192, 3)
        self.conv2d_4b = Unit(192, 256, 3, 2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = Reduction(
            Unit(256, 384, 3, 2),
            nn.Sequential(Unit(256, 192, 1), Unit(192, 192, 3, same=True), Unit(192, 256, 3, 2)),
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = Reduction(
            nn.Sequential(Unit(896, 256, 1), Unit(256, 384, 3, 2)),
            nn.Sequential(Unit(896, 256, 1), Unit(256, 256, 3, 2)),
            nn.Sequential(Unit(896, 256, 1), Unit(256, 256, 3, same=True), Unit(256, 256, 3, 2)),
        )
        self.repeat_3 = nn.Sequential(*(_block8(0.20) for _ in range(5)))
        self.block8 = _block8(1.0, last=True)
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=EPSILON)

    def raw(self, images: Tensor, kept: list[Tensor]) -> Tensor:
        """Embeddings [B, 512] before they are scaled to length 1."""
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(images)))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(F.max_pool2d(x, 3, stride=2))))
        x = self.repeat_1(x)
        kept.append(x)
        x = self.repeat_2(self.mixed_6a(x))
        kept.append(x)
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        kept.append(x)
        return self.last_bn(self.last_linear(x.mean((2, 3))))

    def forward(self, images: Tensor, maps: bool = False) -> Outputs:
        kept: list[Tensor] = []
        raw = self.raw(images, kept)
        return Outputs(F.normalize(raw), self.classifier(raw), tuple(kept) if maps else ())
