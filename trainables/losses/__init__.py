"""Losses between a teacher and a student, one file per paper.

Every term is a pure function of tensors, works in float32 or wider whatever autocast says, and treats the
teacher as constant. `geometry` holds what the terms share. Weighting lives in one thin module per paper, such
as `HorkdLoss`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.losses.horkd import (
        HorkdLoss,
        angle_loss,
        center_loss,
        class_centers,
        pair_loss,
        point_loss,
    )

__all__ = ["HorkdLoss", "angle_loss", "center_loss", "class_centers", "pair_loss", "point_loss"]


def __getattr__(name: str) -> Any:
    # The names load with their first use, so that importing the package does not import torch.
    if name in __all__:
        return getattr(import_module("trainables.losses.horkd"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
