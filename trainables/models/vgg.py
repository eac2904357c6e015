"""VGG for small images (Simonyan and Zisserman, ICLR 2015), with batch normalisation and one linear layer."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from trainables.models.convolution import Conv2d
from trainables.models.network import Network, widened


class PoolIfLarge(nn.Module):
    """Halves maps of at least `least` pixels a side and passes smaller ones on."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least = least

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2) if min(x.shape[2:]) >= self.least else x


def vgg11(*, channels: int, classes: int, width: float = 1.0, embedding: int = 0) -> Network:
    """VGG-11 with one fully connected layer, 9,277,284 parameters at 3 channels and 100 classes.

    The last map is pooled globally; the fourth pooling is skipped below 64 pixels, as distillation code for
    CIFAR does.
    """
    # Groups of convolutions with the smallest map that is halved after each; the last group is pooled
    # globally.
    groups = (((64,), 2), ((128,), 2), ((256, 256), 2), ((512, 512), 8), ((512, 512), None))
    layers: list[nn.Module] = []
    inputs = channels
    ends = []
    for bases, least in groups:
        for base in bases:
            outputs = widened(base, width)
            # The bias is idle before a normalisation; it is kept so that parameter counts match the published
            # ones.
            layers += [
                Conv2d(inputs, outputs, 3, padding=1),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            inputs = outputs
        ends.append((len(layers) - 1, inputs))
        if least is not None:
            layers.append(PoolIfLarge(least))
    return Network(nn.Sequential(*layers), inputs, classes=classes, embedding=embedding, stages=ends)
