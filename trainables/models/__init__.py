"""Networks by name: `build("resnet18", channels=3, classes=100)` gives embedding and logits."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.models.network import Network, Outputs
    from trainables.models.registry import build

__all__ = ["Network", "Outputs", "build"]


def __getattr__(name: str) -> Any:
    # The names load with their first use, so that importing the package does not import torch.
    if name in __all__:
        return getattr(import_module(f"trainables.models.{'registry' if name == 'build' else 'network'}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
