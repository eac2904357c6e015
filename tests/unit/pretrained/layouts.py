"""Files of weights in exactly the layouts that people have, with random weights, and dull networks that read them.

The names and shapes are written down here from the layout of each family; nothing of `trainables.models` is used.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def fields_of(found: Any) -> dict[str, Any]:
    """The fields of a spec that say what a file turned out to be."""
    return {name: getattr(found, name) for name in ("family", "architecture", "width", "embedding", "stem")}


class Maker:
    """Draws tensors by name."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.state: State = {}

    def draw(self, name: str, *shape: int, scale: float = 0.0) -> None:
        """Normal numbers, by default scaled so that a layer keeps the size of what it reads."""
        fan = 1
        for side in shape[1:]:
            fan *= side
        self.state[name] = torch.randn(shape, generator=self.generator) * (scale or (1.5 / fan) ** 0.5)

    def norm(self, name: str, channels: int) -> None:
        """A batch normalisation that has seen data."""
        uniform = torch.rand(4, channels, generator=self.generator)
        self.state[f"{name}.weight"] = 0.5 + uniform[0]
        self.state[f"{name}.bias"] = uniform[1] - 0.5
        self.state[f"{name}.running_mean"] = uniform[2] - 0.5
        self.state[f"{name}.running_var"] = 0.5 + uniform[3]
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def normed(state: State, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    """Batch normalisation written out."""
    shape = (1, -1, *(1,) * (x.ndim - 2))
    mean, var = state[f"{name}.running_mean"].view(shape), state[f"{name}.running_var"].view(shape)
    return (x - mean) / (var + eps).sqrt() * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)


def iresnet(depths: tuple[int, ...] = (2, 2, 2, 2), seed: int = 0, pixels: int = 7) -> State:
    """A backbone of insightface's arcface_torch; the last map has `pixels` a side."""
    make = Maker(seed)
    make.draw("conv1.weight", 64, 3, 3, 3)
    make.norm("bn1", 64)
    make.draw("prelu.weight", 64, scale=0.3)
    inputs = 64
    for stage, (depth, channels) in enumerate(zip(depths, (64, 128, 256, 512), strict=True), start=1):
        for index in range(depth):
            name = f"layer{stage}.{index}"
            make.norm(f"{name}.bn1", inputs)
            make.draw(f"{name}.conv1.weight", channels, inputs, 3, 3)
            make.norm(f"{name}.bn2", channels)
            make.draw(f"{name}.prelu.weight", channels, scale=0.3)
            make.draw(f"{name}.conv2.weight", channels, channels, 3, 3)
            make.norm(f"{name}.bn3", channels)
            if index == 0:
                make.draw(f"{name}.downsample.0.weight", channels, inputs, 1, 1)
                make.norm(f"{name}.downsample.1", channels)
            inputs = channels
    make.norm("bn2", 512)
    make.draw("fc.weight", 512, 512 * pixels * pixels)
    make.draw("fc.bias", 512, scale=0.1)
    make.norm("features", 512)
    return make.state


def iresnet_forward(state: State, x: Tensor, depths: tuple[int, ...] = (2, 2, 2, 2)) -> Tensor:
    """Embedding of images [B, 3, 112, 112], from the names alone."""
    x = F.prelu(normed(state, "bn1", F.conv2d(x, state["conv1.weight"], padding=1)), state["prelu.weight"])
    for stage, depth in enumerate(depths, start=1):
        for index in range(depth):
            name, stride, shortcut = f"layer{stage}.{index}", 2 if index == 0 else 1, x
            y = F.conv2d(normed(state, f"{name}.bn1", x), state[f"{name}.conv1.weight"], padding=1)
            y = F.prelu(normed(state, f"{name}.bn2", y), state[f"{name}.prelu.weight"])
            y = normed(state, f"{name}.bn3", F.conv2d(y, state[f"{name}.conv2.weight"], stride=stride, padding=1))
            if index == 0:
                shortcut = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2)
                shortcut = normed(state, f"{name}.downsample.1", shortcut)
            x = y + shortcut
    x = normed(state, "bn2", x).reshape(len(x), -1)
    return normed(state, "features", x @ state["fc.weight"].T + state["fc.bias"])


def vggface2(*, squeeze: bool = False, seed: int = 0, classes: int = 8631) -> State:
    """ResNet-50 or SENet-50 of VGGFace2-pytorch, whose pickles hold no `num_batches_tracked`."""
    make = Maker(seed)
    make.draw("conv1.weight", 64, 3, 7, 7)
    make.norm("bn1", 64)
    inputs = 64
    for stage, (depth, channels) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), start=1):
        for index in range(depth):
            name = f"layer{stage}.{index}"
            shapes = {
                "conv1": (channels, inputs, 1),
                "conv2": (channels, channels, 3),
                "conv3": (4 * channels, channels, 1),
            }
            for number, (part, (out, into, kernel)) in enumerate(shapes.items(), start=1):
                make.draw(f"{name}.{part}.weight", out, into, kernel, kernel)
                make.norm(f"{name}.bn{number}", out)
            if squeeze:
                make.draw(f"{name}.conv4.weight", channels // 4, 4 * channels, 1, 1)
                make.draw(f"{name}.conv4.bias", channels // 4, scale=0.1)
                make.draw(f"{name}.conv5.weight", 4 * channels, channels // 4, 1, 1)
                make.draw(f"{name}.conv5.bias", 4 * channels, scale=0.1)
            if index == 0:
                make.draw(f"{name}.downsample.0.weight", 4 * channels, inputs, 1, 1)
                make.norm(f"{name}.downsample.1", 4 * channels)
            inputs = 4 * channels
    make.draw("fc.weight", classes, 2048, scale=0.02)
    make.draw("fc.bias", classes, scale=0.1)
    return {name: value for name, value in make.state.items() if not name.endswith("num_batches_tracked")}


def vggface2_forward(state: State, x: Tensor) -> Tensor:
    """Pooled features [B, 2048] of SENet-50 or ResNet-50 in Caffe's layout, from the names alone."""
    x = F.relu(normed(state, "bn1", F.conv2d(x, state["conv1.weight"], stride=2, padding=3)))
    x = F.max_pool2d(x, 3, 2, 0, ceil_mode=True)
    for stage, depth in enumerate((3, 4, 6, 3), start=1):
        for index in range(depth):
            name, stride, shortcut = f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1, x
            y = F.relu(normed(state, f"{name}.bn1", F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride)))
            y = F.relu(normed(state, f"{name}.bn2", F.conv2d(y, state[f"{name}.conv2.weight"], padding=1)))
            y = normed(state, f"{name}.bn3", F.conv2d(y, state[f"{name}.conv3.weight"]))
            if f"{name}.conv4.weight" in state:
                gate = F.avg_pool2d(y, y.shape[-1])
                gate = F.relu(F.conv2d(gate, state[f"{name}.conv4.weight"], state[f"{name}.conv4.bias"]))
                y = torch.sigmoid(F.conv2d(gate, state[f"{name}.conv5.weight"], state[f"{name}.conv5.bias"])) * y
            if index == 0:
                shortcut = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
                shortcut = normed(state, f"{name}.downsample.1", shortcut)
            x = F.relu(y + shortcut)
    return F.avg_pool2d(x, 7).flatten(1)


# Name -> (outputs, inputs, kernel height, kernel width, stride, padding) of facenet's convolutions, all without bias.
_ONE = (1, 1, 1, (0, 0))


def _facenet_units() -> dict[str, tuple[int, int, int, int, int, tuple[int, int]]]:
    units: dict[str, tuple[int, int, int, int, int, tuple[int, int]]] = {
        "conv2d_1a": (32, 3, 3, 3, 2, (0, 0)),
        "conv2d_2a": (32, 32, 3, 3, 1, (0, 0)),
        "conv2d_2b": (64, 32, 3, 3, 1, (1, 1)),
        "conv2d_3b": (80, 64, *_ONE),
        "conv2d_4a": (192, 80, 3, 3, 1, (0, 0)),
        "conv2d_4b": (256, 192, 3, 3, 2, (0, 0)),
        "mixed_6a.branch0": (384, 256, 3, 3, 2, (0, 0)),
        "mixed_6a.branch1.0": (192, 256, *_ONE),
        "mixed_6a.branch1.1": (192, 192, 3, 3, 1, (1, 1)),
        "mixed_6a.branch1.2": (256, 192, 3, 3, 2, (0, 0)),
        "mixed_7a.branch0.0": (256, 896, *_ONE),
        "mixed_7a.branch0.1": (384, 256, 3, 3, 2, (0, 0)),
        "mixed_7a.branch1.0": (256, 896, *_ONE),
        "mixed_7a.branch1.1": (256, 256, 3, 3, 2, (0, 0)),
        "mixed_7a.branch2.0": (256, 896, *_ONE),
        "mixed_7a.branch2.1": (256, 256, 3, 3, 1, (1, 1)),
        "mixed_7a.branch2.2": (256, 256, 3, 3, 2, (0, 0)),
    }
    for index in range(5):
        units[f"repeat_1.{index}.branch0"] = (32, 256, *_ONE)
        for branch, length in ((1, 2), (2, 3)):
            units[f"repeat_1.{index}.branch{branch}.0"] = (32, 256, *_ONE)
            for step in range(1, length):
                units[f"repeat_1.{index}.branch{branch}.{step}"] = (32, 32, 3, 3, 1, (1, 1))
    wide = [(f"repeat_2.{index}", 896, 128, 7) for index in range(10)]
    wide += [(f"repeat_3.{index}", 1792, 192, 3) for index in range(5)] + [("block8", 1792, 192, 3)]
    for name, channels, width, long in wide:
        units[f"{name}.branch0"] = (width, channels, *_ONE)
        units[f"{name}.branch1.0"] = (width, channels, *_ONE)
        units[f"{name}.branch1.1"] = (width, width, 1, long, 1, (0, long // 2))
        units[f"{name}.branch1.2"] = (width, width, long, 1, 1, (long // 2, 0))
    return units


def facenet(seed: int = 0, classes: int = 8631) -> State:
    """InceptionResnetV1 of facenet-pytorch with its classifier `logits`."""
    make = Maker(seed)
    for name, (out, into, high, wide, _, _) in _facenet_units().items():
        make.draw(f"{name}.conv.weight", out, into, high, wide)
        make.norm(f"{name}.bn", out)
    joins = [(f"repeat_1.{i}", 256, 96) for i in range(5)] + [(f"repeat_2.{i}", 896, 256) for i in range(10)]
    joins += [(f"repeat_3.{i}", 1792, 384) for i in range(5)] + [("block8", 1792, 384)]
    for name, channels, width in joins:
        make.draw(f"{name}.conv2d.weight", channels, width, 1, 1)
        make.draw(f"{name}.conv2d.bias", channels, scale=0.1)
    make.draw("last_linear.weight", 512, 1792)
    make.norm("last_bn", 512)
    make.draw("logits.weight", classes, 512, scale=0.05)
    make.draw("logits.bias", classes, scale=0.1)
    return make.state


def facenet_forward(state: State, x: Tensor) -> Tensor:
    """Embedding of images [B, 3, 160, 160] before it is scaled to length 1, from the names alone."""
    units = _facenet_units()

    def unit(name: str, x: Tensor) -> Tensor:
        _, _, _, _, stride, padding = units[name]
        return F.relu(
            normed(state, f"{name}.bn", F.conv2d(x, state[f"{name}.conv.weight"], None, stride, padding), 1e-3)
        )

    def chain(name: str, length: int, x: Tensor) -> Tensor:
        for step in range(length):
            x = unit(f"{name}.{step}", x)
        return x

    def join(name: str, parts: list[Tensor], x: Tensor, scale: float) -> Tensor:
        mixed = F.conv2d(torch.cat(parts, 1), state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"])
        return mixed * scale + x

    x = unit("conv2d_2b", unit("conv2d_2a", unit("conv2d_1a", x)))
    x = unit("conv2d_4b", unit("conv2d_4a", unit("conv2d_3b", F.max_pool2d(x, 3, 2))))
    for i in range(5):
        name = f"repeat_1.{i}"
        parts = [unit(f"{name}.branch0", x), chain(f"{name}.branch1", 2, x), chain(f"{name}.branch2", 3, x)]
        x = F.relu(join(name, parts, x, 0.17))
    x = torch.cat([unit("mixed_6a.branch0", x), chain("mixed_6a.branch1", 3, x), F.max_pool2d(x, 3, 2)], 1)
    for i in range(10):
        name = f"repeat_2.{i}"
        x = F.relu(join(name, [unit(f"{name}.branch0", x), chain(f"{name}.branch1", 3, x)], x, 0.10))
    branches = [chain(f"mixed_7a.branch{b}", 2 + (b == 2), x) for b in range(3)]
    x = torch.cat([*branches, F.max_pool2d(x, 3, 2)], 1)
    for i in range(5):
        name = f"repeat_3.{i}"
        x = F.relu(join(name, [unit(f"{name}.branch0", x), chain(f"{name}.branch1", 3, x)], x, 0.20))
    x = join("block8", [unit("block8.branch0", x), chain("block8.branch1", 3, x)], x, 1.0)
    return normed(state, "last_bn", F.linear(x.mean((2, 3)), state["last_linear.weight"]), 1e-3)
