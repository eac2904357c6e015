"""A core kept busy as a training keeps it, until standard input ends; run by its path."""

from __future__ import annotations

import os
import threading

import torch
from torch import nn


def main() -> None:
    """Say that it began, and train a small network on noise."""
    torch.set_num_threads(1)
    layers = [nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1)]
    network = nn.Sequential(*layers, nn.BatchNorm2d(64), nn.ReLU()).to(memory_format=torch.channels_last)
    images = torch.randn(32, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    # Who asked holds the other end: it ends with them, killed or not.
    asked = threading.Thread(target=os.read, args=(0, 1), daemon=True)
    asked.start()
    network(images).square().mean().backward()
    print("busy", flush=True)
    while asked.is_alive():
        network(images).square().mean().backward()


if __name__ == "__main__":
    main()
