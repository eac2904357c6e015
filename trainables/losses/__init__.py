"""Losses between a teacher and a student, one file per paper or family.

Every term is a pure function of tensors, works in float32 or wider whatever autocast says, and treats the
teacher as constant. `geometry` holds what the terms share. What training asks is a thin layer above: each loss's `Term`,
and `Distiller`, which weighs those of every method at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.losses.classic import kd_loss, pkt_loss, rkd_angle_loss, rkd_distance_loss
    from trainables.losses.contrastive import CrdLoss
    from trainables.losses.distiller import Distiller
    from trainables.losses.feature_maps import at_loss, fitnet_loss, sp_loss
    from trainables.losses.horkd import angle_loss, center_loss, class_centers, pair_loss, point_loss
    from trainables.losses.horkd_loss import HorkdLoss
    from trainables.losses.ranking import darkrank_loss, mkd_absolute_loss, mkd_relative_loss, triplet_loss

__all__ = [
    "CrdLoss",
    "Distiller",
    "HorkdLoss",
    "angle_loss",
    "at_loss",
    "center_loss",
    "class_centers",
    "darkrank_loss",
    "fitnet_loss",
    "kd_loss",
    "mkd_absolute_loss",
    "mkd_relative_loss",
    "pair_loss",
    "pkt_loss",
    "point_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "sp_loss",
    "triplet_loss",
]

_FILES = {
    "classic": "kd_loss pkt_loss rkd_angle_loss rkd_distance_loss",
    "contrastive": "CrdLoss",
    "distiller": "Distiller",
    "feature_maps": "at_loss fitnet_loss sp_loss",
    "horkd": "angle_loss center_loss class_centers pair_loss point_loss",
    "horkd_loss": "HorkdLoss",
    "ranking": "darkrank_loss mkd_absolute_loss mkd_relative_loss triplet_loss",
}
_HOME = {name: file for file, names in _FILES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    # The names load with their first use, so that importing the package does not import torch.
    if name in _HOME:
        return getattr(import_module(f"trainables.losses.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
