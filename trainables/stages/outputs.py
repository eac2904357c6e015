"""Outputs: what a frozen network says about views of training images, kept for every stage that distils from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from trainables.spec.components import Versions, version_of
from trainables.spec.compute import embedding_width, forward_macs, layers_of
from trainables.spec.fields import variant
from trainables.spec.stages import StageSpec, stage_entry
from trainables.spec.training import (
    AUGMENTATIONS,
    OUTPUTS,
    DistillationSpec,
    check_groups,
    has_network,
    protocol_of,
    unused_of_split,
    view_count,
)
from trainables.spec.values import bounded, choice, later
from trainables.spec.work import FILL_BATCH, Sizes, Work
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact

RANK = 5


@dataclass(frozen=True, kw_only=True)
class OutputsSpec(StageSpec):
    """What a frozen network says about training images, kept for all that distil from it; one shard, or what they share.

    `base` holds what belongs to all shards: the mean that residuals are taken from, and the exact class centres.
    """

    kind: ClassVar[str] = OUTPUTS
    plural: ClassVar[str] = "shards of kept outputs"
    part: str = choice("base", ("base", "views", "epochs"))
    start: int = bounded(0, 0)  # First view, or first epoch counted from 1.
    stop: int = bounded(0, 0)  # One more than the last.
    # Which images, as the network that reads the outputs is trained on them.
    validation_fraction: float = bounded(0.1, 0.0, 0.9)
    split_seed: int = bounded(0, 0, 2**31 - 2)
    train_images: int = bounded(0, 0)
    task: str = choice("classification", (), registered="task")
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
        return (*names, *unused_of_split(self.task))

    def components(self) -> Versions:
        """How a guide looks at images, what is kept of it, and the protocol that says which images."""
        names = ["guide", "outputs", "degrade"]
        names += [] if self.part == "base" else ["augment"]
        names += ["batches"] if self.part == "epochs" else []
        names += ["batches.balanced"] if self.part == "epochs" and self.images_per_class else []
        names += protocol_of(self.task)
        return {name: version_of(name) for name in sorted(names)}

    def rows(self, images: int) -> int:
        """Outputs that are computed for so many training images."""
        if self.part == "base":
            return images
        if self.part == "epochs" and images >= self.batch_size:
            images = images // self.batch_size * self.batch_size  # An epoch leaves out its last, partial batch.
        return images * (self.stop - self.start)

    def work(self, sizes: Sizes, guide: StageSpec | None) -> Work:
        """The frozen network's passes, in batches as training draws them where epochs are kept."""
        if not has_network(guide):
            return super().work(sizes, guide)
        images, classes = sizes(self)
        rows = self.rows(images)
        width, logits = embedding_width(guide), classes if guide.has_logits else 0
        size = 2 * images * (self.stop - self.start) * (width + logits)
        if self.part == "base":
            size = 4 * (width + logits) + (4 * width + 8) * classes
        return Work(
            macs=rows * forward_macs(guide, sizes.data["height"]),
            calls=rows * layers_of(guide.architecture) / FILL_BATCH,
            bytes=size,
            computed=((rows, self.batch_size if self.part == "epochs" else FILL_BATCH),),
        )


def outputs_specs(spec: DistillationSpec) -> tuple[OutputsSpec, ...]:
    """The stages that keep what `spec` reads of its guide, the base first; none where the guide runs live.

    Augmentations with more than MOST_VIEWS views are kept as each seed's epochs draw them.
    """
    if not spec.keeps_outputs:
        return ()
    names = {f.name for f in dataclasses.fields(OutputsSpec)} & {f.name for f in dataclasses.fields(spec)}
    base = OutputsSpec(**{name: getattr(spec, name) for name in names})
    views = view_count(spec.augment, spec.pad)
    first, last, part = (1, spec.epochs + 1, "epochs") if spec.keeps_epochs else (0, views, "views")
    cuts = range(first, last, spec.outputs_per_shard)
    shards = [
        variant(base, {"part": part, "start": cut, "stop": min(cut + spec.outputs_per_shard, last)}) for cut in cuts
    ]
    return (base, *shards)


def run(spec: OutputsSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """One shard of `parents["guide"]`'s outputs, as residuals from `parents["base"]`; or that base.

    Raises:
        DrainedError: If a stop was asked; a shard is begun anew then.
    """
    from trainables.training.filling import fill

    return (yield from fill(spec, parents, context))


ENTRY = stage_entry(OutputsSpec, run)
