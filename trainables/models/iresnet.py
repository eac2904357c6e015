"""IResNet, the face network of ArcFace (Deng et al., CVPR 2019), as insightface's arcface_torch lays it out.

Blocks are BatchNorm, 3x3, BatchNorm, PReLU, 3x3 of the stride, BatchNorm, and a shortcut; a linear layer reads the
flattened last map, so the side of the input is fixed. Names of the parts are those of the files.
"""

from __future__ import annotations

from torch import Tensor, nn

from trainables.models.foreign import Foreign, run_stages

# Blocks of the four stages; 24,025,600, 34,139,328, 43,590,848 and 65,156,160 parameters for the first four.
DEPTHS: dict[str, tuple[int, int, int, int]] = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
    "iresnet200": (6, 26, 60, 6),
}
CHANNELS = (64, 128, 256, 512)
SIDE = 112  # Four halvings leave 7 x 7, which the linear layer's 25,088 inputs say.


class IBlock(nn.Module):
    """A residual block that normalises first and has nothing after its sum."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        body = self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))
        return self.bn3(body) + (x if self.downsample is None else self.downsample(x))


class IResNet(Foreign):
    """Aligned faces [B, 3, 112, 112] to embeddings [B, 512], raw as the authors give them; maps of four stages."""

    def __init__(self, depths: tuple[int, int, int, int], *, width: int = 512, classes: int = 0) -> None:
        super().__init__(width, classes=classes, map_widths=CHANNELS)
        self.conv1 = nn.Conv2d(3, CHANNELS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS[0])
        self.prelu = nn.PReLU(CHANNELS[0])
        inputs = CHANNELS[0]
        for number, (depth, channels) in enumerate(zip(depths, CHANNELS, strict=True), start=1):
            blocks = [
                IBlock(inputs if index == 0 else channels, channels, 2 if index == 0 else 1) for index in range(depth)
            ]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            inputs = channels
        self.bn2 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs * (SIDE // 16) ** 2, width)
        self.features = nn.BatchNorm1d(width)

    def embed(self, images: Tensor, kept: list[Tensor]) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(images)))
        x = run_stages([getattr(self, f"layer{number}") for number in range(1, 5)], x, kept)
        return self.features(self.fc(self.bn2(x).flatten(1)))
