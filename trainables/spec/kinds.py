"""The specs of the stage kinds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from trainables.errors import UsageError, did_you_mean
from trainables.spec.components import Versions, version_of
from trainables.spec.fields import bounded, choice, from_plain, later, variant
from trainables.spec.networks import ARCHITECTURES, FAMILIES, OF_FAMILIES, OUTSIDE
from trainables.spec.stages import StageSpec
from trainables.spec.training import (
    AUGMENTATIONS,
    FILTERS,
    MOST_VIEWS,
    OF_TRAINING,
    TASKS,
    DistillationSpec,
    TrainingSpec,
    check_groups,
)


@dataclass(frozen=True, kw_only=True)
class TeacherSpec(TrainingSpec):
    """A network trained on labels alone, at its own resolution; the source of what is distilled."""

    kind: ClassVar[str] = "teacher"


@dataclass(frozen=True, kw_only=True)
class UntrainedSpec(TrainingSpec):
    """A network as it is drawn, or raw pixels: the floor that a trained one has to leave behind."""

    kind: ClassVar[str] = "untrained"
    architecture: str = choice("pixels", (*ARCHITECTURES, "pixels"), prefixes=OUTSIDE, registered="network")

    def unused(self) -> tuple[str, ...]:
        """All of training; pixels have no seed either."""
        names = [*OF_TRAINING]
        if self.architecture == "pixels":
            names += ["seed", "width", "embedding", "stem"]
        return (*super().unused(), *names)

    def components(self) -> Versions:
        """The network, and the protocol that says how many classes it has."""
        names = [f"network.{self.architecture}"]
        if self.task != "classification":
            names.append(f"protocol.{self.task}")
        return {name: version_of(name) for name in names}


@dataclass(frozen=True, kw_only=True)
class PretrainedSpec(TrainingSpec):
    """A teacher whose weights come from a file: it is checked on the data, not trained, and has no seed."""

    kind: ClassVar[str] = "pretrained"
    weights: str = ""  # First 16 hex digits of the file's SHA-256; the command line takes the path.
    family: str = choice("auto", ("auto", *FAMILIES))  # Layout of the file; auto: as recognised.
    architecture: str = choice(
        "auto", ("auto", *ARCHITECTURES, *(name for names in OF_FAMILIES.values() for name in names)), prefixes=OUTSIDE
    )
    head: str = choice("none", ("none", "keep"))  # keep: its logits, where they are of the data's own classes.
    # What images it wants; each family has its own, which plain files may be given.
    order: str = choice("auto", ("auto", "rgb", "bgr"))
    mean: tuple[float, ...] = ()  # Of pixels from 0 to 1; () means the architecture's own.
    std: tuple[float, ...] = ()
    side: int = bounded(0, 0, 1024)  # Side in pixels that the network reads; 0 means the architecture's own.

    def unused(self) -> tuple[str, ...]:
        """All of training, the seed included."""
        return (*super().unused(), *OF_TRAINING, "seed")

    def components(self) -> Versions:
        """How files are read, the data path, the network, and the protocol that splits the classes."""
        of = {name: family for family, names in OF_FAMILIES.items() for name in names}
        names = ["degrade", "pretrained", f"network.{of.get(self.architecture, self.architecture)}"]
        if self.task != "classification":
            names.append(f"protocol.{self.task}")
        return {name: version_of(name) for name in sorted(names) if name != "network.auto"}


@dataclass(frozen=True, kw_only=True)
class AssistantSpec(DistillationSpec):
    """The high-resolution network between teacher and student (HORKD, cross-structure distillation)."""

    kind: ClassVar[str] = "assistant"


@dataclass(frozen=True, kw_only=True)
class StudentSpec(DistillationSpec):
    """The low-resolution network guided by the assistant (HORKD, cross-resolution distillation)."""

    kind: ClassVar[str] = "student"
    init_from_assistant: bool = False  # Not stated in the paper.


@dataclass(frozen=True, kw_only=True)
class OutputsSpec(StageSpec):
    """What a frozen network says about training images, kept for all that distil from it; one shard, or what they share.

    `base` holds what belongs to all shards: the mean that residuals are taken from, and the exact class centres.
    """

    kind: ClassVar[str] = "outputs"
    part: str = choice("base", ("base", "views", "epochs"))
    start: int = bounded(0, 0)  # First view, or first epoch counted from 1.
    stop: int = bounded(0, 0)  # One more than the last.
    # Which images, as the network that reads the outputs is trained on them.
    validation_fraction: float = bounded(0.1, 0.0, 0.9)
    split_seed: int = bounded(0, 0, 2**31 - 2)
    train_images: int = bounded(0, 0)
    task: str = choice("classification", TASKS)
    held_out: float = bounded(0.5, 0.0, 0.95)
    folds: tuple[int, ...] = ()
    min_images: int = bounded(0, 0)
    subjects: int = bounded(0, 0)
    # Which views of them.
    augment: str = choice("none", AUGMENTATIONS)
    pad: int = bounded(4, 0, 64)
    seed: int = bounded(0, 0, 2**31 - 2)  # Of order and augmentation.
    batch_size: int = bounded(64, 1, 65_536)
    images_per_class: int = later(0, low=0)

    def validate(self) -> None:
        """Refuses groups of which no two fit into a batch."""
        super().validate()
        check_groups(self)

    def unused(self) -> tuple[str, ...]:
        """Views do not rest on a seed, and the base on no view."""
        names = [] if self.part == "epochs" else ["seed", "batch_size", "images_per_class"]
        if self.part == "base":
            names += ["start", "stop", "augment", "pad"]
        elif "crop" not in self.augment:
            names += ["pad"]
        if self.task == "classification":
            names += ["held_out", "folds", "min_images", "subjects"]
        if self.task != "verification":
            names += ["folds"]
        if self.task != "identification":
            names += ["subjects"]
        return tuple(names)

    def components(self) -> Versions:
        """How a guide looks at images, what is kept of it, and the protocol that says which images."""
        names = ["guide", "outputs", "degrade"]
        names += [] if self.part == "base" else ["augment"]
        names += ["batches"] if self.part == "epochs" else []
        names += ["batches.balanced"] if self.part == "epochs" and self.images_per_class else []
        names += [] if self.task == "classification" else [f"protocol.{self.task}"]
        return {name: version_of(name) for name in sorted(names)}


def view_count(augment: str, pad: int) -> int:
    """Number of distinct views of one image: (2 pad + 1)^2 crops, times 2 with flips (pad 4: 162)."""
    return ((2 * pad + 1) ** 2 if "crop" in augment else 1) * (2 if "flip" in augment else 1)


def outputs_specs(spec: DistillationSpec) -> tuple[OutputsSpec, ...]:
    """The stages that keep what `spec` reads of its guide, the base first; none where the guide runs live.

    Augmentations with more than MOST_VIEWS views are kept as each seed's epochs draw them.
    """
    if not spec.keeps_outputs:
        return ()
    names = {f.name for f in dataclasses.fields(OutputsSpec)} & {f.name for f in dataclasses.fields(spec)}
    base = OutputsSpec(**{name: getattr(spec, name) for name in names})
    views = view_count(spec.augment, spec.pad)
    by_epochs = spec.teacher_outputs == "cached_epochs" or views > MOST_VIEWS
    first, last, part = (1, spec.epochs + 1, "epochs") if by_epochs else (0, views, "views")
    cuts = range(first, last, spec.outputs_per_shard)
    shards = [
        variant(base, {"part": part, "start": cut, "stop": min(cut + spec.outputs_per_shard, last)}) for cut in cuts
    ]
    return (base, *shards)


@dataclass(frozen=True, kw_only=True)
class EvaluationSpec(StageSpec):
    """The one reading of the test split, by a finished network."""

    kind: ClassVar[str] = "evaluation"
    resolution: int | None = bounded(None, 4, 1024)
    filter: str = choice("bicubic", FILTERS)
    blur: float = bounded(0.0, 0.0, 16.0)
    batch_size: int = bounded(256, 1, 65_536)
    protocol: str = choice("classification", TASKS)
    upsample_to: int | None = later(None, low=4, high=1024)  # As in training.
    test_resolution: int | None = later(None, low=1, high=1024)  # Side the test images are reduced to before the
    # network's own resolution; None: only the latter. Fills the cross-evaluation matrix.
    flip: bool = later(False)  # Verification: add the embedding of the mirrored image.
    reader: str = later("logits", options=("logits", "nearest"))  # Classification: by logits, or by nearest neighbour.
    similarity: str = later("cosine", options=("cosine", "euclidean"))
    gallery: int = later(0, low=0)  # Identification: known images per person; 0 means 80 % of them.
    head: str = later("softmax", options=("softmax", "nearest"))  # Identification: new softmax layer, or nearest.

    def unused(self) -> tuple[str, ...]:
        """What belongs to other protocols."""
        names = [] if self.protocol == "verification" else ["flip"]
        # Images that are not smaller than what the network reads are reduced to that at once.
        if None not in (self.test_resolution, self.resolution) and self.test_resolution >= self.resolution:  # type: ignore[operator]
            names += ["test_resolution"]
        if self.protocol != "classification":
            names += ["reader"]
        if self.protocol != "identification":
            names += ["gallery", "head"]
        by_layer = {"classification": self.reader == "logits", "identification": self.head == "softmax"}
        if by_layer.get(self.protocol, False):
            names += ["similarity"]
        return tuple(names)

    def components(self) -> Versions:
        """The protocol and the data path."""
        names = ["degrade", f"protocol.{self.protocol}"]
        return {name: version_of(name) for name in names}


@dataclass(frozen=True, kw_only=True)
class SleepSpec(StageSpec):
    """A stage that only sleeps: for tests of the engine and for its benchmark."""

    kind: ClassVar[str] = "sleep"
    seed: int = bounded(0, 0)
    label: str = ""
    epochs: int = bounded(3, 1)
    seconds: float = bounded(0.1, 0.0)  # Of one epoch.
    fail_at: int = bounded(0, 0)  # Epoch that raises; 0 means none.
    value: float = 0.5  # What it claims as validation accuracy.


SPECS: dict[str, type[StageSpec]] = {
    spec.kind: spec
    for spec in (
        *(TeacherSpec, AssistantSpec, StudentSpec, UntrainedSpec, PretrainedSpec),
        *(OutputsSpec, EvaluationSpec, SleepSpec),
    )
}


def spec_from(kind: str, plain: Mapping[str, Any]) -> StageSpec:
    """The spec of a stage kind from the plain fields in a manifest or a Ray configuration."""
    if kind not in SPECS:
        raise UsageError(f"No stage kind named '{kind}'.{did_you_mean(kind, SPECS)} There are {', '.join(SPECS)}.")
    return from_plain(SPECS[kind], plain)
