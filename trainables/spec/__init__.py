"""Specs: everything that changes a stage's numbers, and the key made of it. No torch, no ray.

A stage's key is 16 hex digits over the canonical JSON of its kind, version and fields, the versions of the components
it uses, the fingerprint of its data and its parents' keys. Equal keys mean equal numbers, so equal stages are trained
once. What does not change the numbers (device, workers, paths, verbosity) is not here; it travels in the context.
"""

from __future__ import annotations

from typing import Any

from trainables.spec import registry
from trainables.spec.components import Versions, built_in, version_of
from trainables.spec.fields import Fields, field_paths, flatten, to_plain, variant
from trainables.spec.given import GIVEN, GivenSpec, is_given
from trainables.spec.keys import SEED_MARK, KeyTemplate, short_hash, stage_key
from trainables.spec.losses import ORDERS, CrdSpec, HorkdSpec, TripletSpec, canonical_orders, orders_of
from trainables.spec.methods import canonical_method, methods_of
from trainables.spec.networks import ARCHITECTURES, OUTSIDE
from trainables.spec.stages import StageSpec, spec_classes, spec_from, stage_entry
from trainables.spec.training import (
    AUGMENTATIONS,
    FILTERS,
    MOST_VIEWS,
    OUTPUTS,
    TEACHER_OUTPUTS,
    DistillationSpec,
    ReadsTraining,
    TrainingSpec,
    distils,
    has_network,
    learns,
    task_of,
    view_count,
)
from trainables.spec.values import bounded, check, choice, coerce, later, options_of

__all__ = [
    "ARCHITECTURES",
    "AUGMENTATIONS",
    "FILTERS",
    "GIVEN",
    "MOST_VIEWS",
    "ORDERS",
    "OUTPUTS",
    "OUTSIDE",
    "SEED_MARK",
    "TEACHER_OUTPUTS",
    "CrdSpec",
    "DistillationSpec",
    "Fields",
    "GivenSpec",
    "HorkdSpec",
    "KeyTemplate",
    "ReadsTraining",
    "StageSpec",
    "TrainingSpec",
    "TripletSpec",
    "Versions",
    "bounded",
    "built_in",
    "canonical_method",
    "canonical_orders",
    "check",
    "choice",
    "coerce",
    "distils",
    "field_paths",
    "flatten",
    "has_network",
    "is_given",
    "later",
    "learns",
    "methods_of",
    "options_of",
    "orders_of",
    "short_hash",
    "spec_classes",
    "spec_from",
    "stage_entry",
    "stage_key",
    "task_of",
    "to_plain",
    "variant",
    "version_of",
    "view_count",
]


def __getattr__(name: str) -> Any:
    # The specs of stage kinds live with their stages; they are found, and loaded, when somebody asks for one here.
    if name == "SPECS":
        return spec_classes()
    if name == "TASKS":
        return registry.names("task")
    if name.endswith("Spec"):
        for spec in spec_classes().values():
            if spec.__name__ == name:
                return spec
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
