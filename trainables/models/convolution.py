"""Convolutions that stay fast where low resolutions leave a few pixels under many channels.

At 16 pixels the last stages of a ResNet-18 work on maps of 4x4 and 2x2. There the usual kernels of a CPU reach a fourth
of what they reach on larger maps, and one matrix product over the patches of the map takes a third of the time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Where products over patches won, for batches of 16 to 256 (`benchmarks/whole_step.py` shows the whole).
MANY_CHANNELS = 256
FEW_PIXELS = 16
# oneDNN's backward pass of a strided 1x1 convolution writes past its workspace where fewer channels come in than its
# block has and channels are innermost (uxlfoundation/oneDNN issue 6035): processes die at 48 pixels and more, with
# narrower vectors at 32. Smaller maps were never hurt, and keep the kernels and so the bits that they had.
BLOCK_CHANNELS = 16
SPARED_PIXELS = 16  # Side of a map.


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` with the same weights and, but for rounding, the same values.

    On a CPU it is a matrix product where both sides have `MANY_CHANNELS` or more and the map that leaves has
    `FEW_PIXELS` or fewer, whatever the batch. Autocast keeps the usual kernels, as do groups and dilations.
    A strided 1x1 convolution of few channels reads the pixels that count, copied beside each other.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self._suits(x):
            if self._is_overrun(x):
                step, across = self.stride
                kept = x[:, :, ::step, ::across].contiguous(memory_format=torch.channels_last)
                return F.conv2d(kept, self.weight, self.bias)
            return super().forward(x)
        assert not isinstance(self.padding, str)
        stride, padding = self.stride[0], self.padding[0]
        if self.kernel_size == (1, 1) and padding == 0:
            pixels = x.permute(0, 2, 3, 1)[:, ::stride, ::stride]
            return F.linear(pixels, self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)
        convolved: Tensor = _OverPatches.apply(x, self.weight, self.bias, stride, padding)
        return convolved

    def _is_overrun(self, x: Tensor) -> bool:
        """Whether the library's own kernel would write where it must not."""
        if x.device.type != "cpu" or x.ndim != 4 or self.kernel_size != (1, 1) or max(self.stride) == 1:
            return False
        if self.groups != 1 or self.padding != (0, 0):
            return False
        return self.in_channels < BLOCK_CHANNELS and max(x.shape[2:]) > SPARED_PIXELS

    def _suits(self, x: Tensor) -> bool:
        if min(self.in_channels, self.out_channels) < MANY_CHANNELS or x.device.type != "cpu" or x.ndim != 4:
            return False
        if self.groups != 1 or self.dilation != (1, 1) or self.padding_mode != "zeros" or isinstance(self.padding, str):
            return False
        if any(one != other for one, other in (self.kernel_size, self.stride, self.padding)):
            return False
        if torch.is_autocast_enabled("cpu") or x.dtype != self.weight.dtype:
            return False
        sides = [_side(side, self.kernel_size[0], self.stride[0], self.padding[0]) for side in x.shape[2:]]
        return min(sides) > 0 and sides[0] * sides[1] <= FEW_PIXELS


class _OverPatches(torch.autograd.Function):
    """A convolution as one product of patches [B h w, k k C] and weights [k k C, O]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        kernel = weight.shape[-1]
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        height, width = (_side(side, kernel, stride, padding) for side in x.shape[2:])
        made = F.linear(_patches(x, kernel, stride, padding), _flat(weight), bias)
        return made.view(len(x), height, width, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        batch, channels, *sides = x.shape
        outputs, _, kernel, _ = weight.shape
        height, width = upstream.shape[2:]
        rows = upstream.permute(0, 2, 3, 1).reshape(batch * height * width, outputs)
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            pulls = (rows @ _flat(weight)).view(batch, height, width, kernel, kernel, channels)
            padded = x.new_zeros(batch, sides[0] + 2 * padding, sides[1] + 2 * padding, channels)
            for i in range(kernel):
                for j in range(kernel):
                    padded[:, i : i + stride * height : stride, j : j + stride * width : stride] += pulls[:, :, :, i, j]
            of_x = padded[:, padding : padding + sides[0], padding : padding + sides[1]].permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            # The patches are made again rather than kept: they are k^2 times as large as the map.
            flat = rows.T @ _patches(x, kernel, stride, padding)
            of_weight = flat.view(outputs, kernel, kernel, channels).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[2]:
            of_bias = rows.sum(0)
        return of_x, of_weight, of_bias, None, None


def _side(side: int, kernel: int, stride: int, padding: int) -> int:
    """Side of the map that leaves a convolution."""
    return (side + 2 * padding - kernel) // stride + 1


def _patches(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """[B, C, H, W] -> [B h w, k k C], channels innermost as channels_last has them."""
    inside = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    windows = inside.unfold(1, kernel, stride).unfold(2, kernel, stride)  # [B, h, w, C, k, k]
    batch, height, width, channels = windows.shape[:4]
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(batch * height * width, kernel * kernel * channels)


def _flat(weight: Tensor) -> Tensor:
    """[O, C, k, k] -> [O, k k C]; no copy where weights are channels_last."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
