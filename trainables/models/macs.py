"""Multiply-adds of a forward pass, counted on the network itself."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def count_macs(network: nn.Module, *, channels: int, side: int) -> int:
    """Multiply-adds of the convolutions and linear layers for one image [1, channels, side, side].

    Normalisation, activations and pooling are left out, as tables of papers do. The network is left as it was.
    """
    return macs_of(network, torch.zeros(1, channels, side, side))


def macs_of(network: nn.Module, inputs: Tensor) -> int:
    """As `count_macs`, for an input [1, ...] of whatever shape."""
    total = 0

    def add(module: nn.Module, given: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            per_output = module.in_channels // module.groups * math.prod(module.kernel_size)
        else:
            per_output = given[0].shape[-1]
        total += output.numel() * per_output

    counted = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [module.register_forward_hook(add) for module in counted]
    training = network.training
    at = next(network.parameters(), torch.zeros(()))
    try:
        network.eval()
        with torch.no_grad():
            network(inputs.to(at.device, at.dtype))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return total
