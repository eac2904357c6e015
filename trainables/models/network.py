"""What every network has: a trunk, global average pooling, an embedding and a single linear classifier."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Outputs(NamedTuple):
    """What a network says about a batch."""

    embedding: Tensor  # [B, D]
    logits: Tensor  # [B, C]


class Network(nn.Module):
    """Images [B, channels, H, W] to `Outputs`; D is `embedding_width`."""

    def __init__(self, trunk: nn.Module, pooled_width: int, *, classes: int, embedding: int) -> None:
        """Args: a trunk giving maps [B, pooled_width, h, w]; `embedding` 0 takes the pooled features as
        embedding.

        Weights are drawn from torch's global generator, which the caller seeds.
        """
        super().__init__()
        self.embedding_width = embedding or pooled_width
        self.trunk = trunk
        self.embedding = nn.Linear(pooled_width, embedding) if embedding else nn.Identity()
        self.classifier = nn.Linear(self.embedding_width, classes)
        for module in trunk.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Outputs:
        embedding = self.embedding(self.trunk(images).mean((2, 3)))
        return Outputs(embedding, self.classifier(embedding))


def widened(channels: int, width: float) -> int:
    """`channels` times `width`, rounded, at least 1."""
    return max(1, round(channels * width))
