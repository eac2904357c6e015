"""Evaluation: the one reading of the test images, by a finished network, after the protocol of its task."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from trainables.errors import UsageError
from trainables.spec.components import Versions, version_of
from trainables.spec.stages import StageSpec, stage_entry
from trainables.spec.training import FILTERS, TrainingSpec, task_of
from trainables.spec.values import bounded, choice, later
from trainables.spec.work import Sizes, Work
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact

if TYPE_CHECKING:
    from trainables.data.packed import Packed
    from trainables.data.protocols import Cut

RANK = 6
# Own field: field of the network it reads, from which it is taken over.
READ_OF_NETWORK = {
    **{name: name for name in ("resolution", "filter", "blur", "upsample_to", "threads", "precision")},
    "protocol": "task",
}


@dataclass(frozen=True, kw_only=True)
class EvaluationSpec(StageSpec):
    """The one reading of the test split, by a finished network."""

    kind: ClassVar[str] = "evaluation"
    reads_test: ClassVar[bool] = True
    resolution: int | None = bounded(None, 4, 1024)
    filter: str = choice("bicubic", FILTERS)
    blur: float = bounded(0.0, 0.0, 16.0)
    batch_size: int = bounded(256, 1, 65_536)
    protocol: str = choice("classification", (), registered="task")
    upsample_to: int | None = later(None, low=4, high=1024)  # As in training.
    test_resolution: int | None = later(None, low=1, high=1024)  # Side the test images are reduced to before the
    # network's own resolution; None: only the latter. Fills the cross-evaluation matrix.
    flip: bool = later(False)  # Verification: add the embedding of the mirrored image.
    reader: str = later("logits", options=("logits", "nearest"))  # Classification: by logits, or by nearest neighbour.
    similarity: str = later("cosine", options=("cosine", "euclidean"))
    gallery: int = later(0, low=0)  # Identification: known images per person; 0 means 80 % of them.
    head: str = later("softmax", options=("softmax", "nearest"))  # Identification: new softmax layer, or nearest.

    def unused(self) -> tuple[str, ...]:
        """What belongs to other tasks."""
        task = task_of(self.protocol)
        names = [name for name in ("flip", "reader", "gallery", "head") if name not in task.score_fields]
        # Images that are not smaller than what the network reads are reduced to that at once.
        if None not in (self.test_resolution, self.resolution) and self.test_resolution >= self.resolution:  # type: ignore[operator]
            names += ["test_resolution"]
        if not task.reads_similarity(self):
            names += ["similarity"]
        return tuple(names)

    def components(self) -> Versions:
        """The protocol and the data path."""
        names = ["degrade", f"protocol.{self.protocol}"]
        return {name: version_of(name) for name in names}

    @property
    def reads_logits(self) -> bool:
        """As its task does."""
        return bool(task_of(self.protocol).reads_logits(self))

    def work(self, sizes: Sizes, guide: StageSpec | None) -> Work:
        """One pass over the test images."""
        return Work(seconds=0.2 + sizes.data["test_images"] * 2e-4, bytes=super().work(sizes, guide).bytes)


def run(spec: EvaluationSpec, parents: Mapping[str, Artifact], context: Context) -> Generator[Progress, None, Result]:
    """Scores on what the network's own training kept for the test, and `outputs.arrow` with a row for each unit.

    Every protocol gives `metric`, the name of its main number, `score`, its value, `chance`, what guessing would get,
    `items`, the images or pairs tested, and `correct`, how many of them were right. No number here selects anything.

    Raises:
        UsageError: If the network was trained for another task, whose split does not keep the test apart.
        NonFiniteError: If the embeddings are not finite.
    """
    import numpy as np
    import pyarrow as pa

    from trainables.data.batches import remembered_statistics
    from trainables.data.packed import open_packed
    from trainables.training.inputs import InputTransform
    from trainables.training.networks import load_network
    from trainables.training.numerics import prepare
    from trainables.training.reading import Reader

    device = prepare(spec, context)
    learned = parents["network"].manifest["spec"].get("data", spec.data)
    own = open_packed(context.packed_folder / f"{learned}.arrow")
    network, trained, cut = load_network(parents["network"], own)
    if spec.protocol != trained.task:
        raise UsageError(
            f"`protocol` must be the task that the network was trained for, {trained.task}, but got {spec.protocol}: "
            "another task's test may hold what it was trained on. Train it with that task."
        )
    # Pixels are normalised as in training.
    mean, std = remembered_statistics(own, cut.train)
    packed, more = own, {}
    if spec.data != trained.data:
        packed = open_packed(context.packed_folder / f"{spec.data}.arrow")
        validated = {own.info.classes[index] for index in np.unique(own.labels[cut.validation])}
        known, cut = set(cut.classes) | validated, elsewhere(packed, own, trained)
        # Two data sets may show one person under one name; how often is told, not hidden.
        more = {"classes_also_trained_on": len(known & set(cut.tested))}
    if len(cut.test) == 0:
        raise UsageError(
            "Nothing is kept for the test: the network was trained with held_out=0. Evaluate it on other data."
        )
    view = InputTransform(spec, own.info, mean.float().to(device), std.float().to(device), network)
    reader = Reader(network.to(device), view, packed, device, spec.batch_size)
    reading = task_of(spec.protocol).score(spec, trained, cut, reader)
    reading.measured.update(more)

    def write(folder: Path) -> None:
        table = pa.table(reading.columns)
        with pa.OSFile(str(folder / "outputs.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        if reading.split:
            text = json.dumps(reading.split, indent=1, ensure_ascii=False, sort_keys=True)
            (folder / "split.json").write_text(text + "\n", encoding="utf-8")

    yield Progress(1, 1)
    return Result(metrics=reading.measured, write=write)


def elsewhere(packed: Packed, own: Packed, trained: TrainingSpec) -> Cut:
    """What a network trained on `own` is tested on in another data set.

    Raises:
        UsageError: If the images have another number of channels, or the task cannot be tested there.
    """
    from trainables.data.protocols import whole

    if packed.info.channels != own.info.channels:
        raise UsageError(
            f"Test images must have the {own.info.channels} channels of the training images, but {packed.info.name} has "
            f"{packed.info.channels}. Choose data of the same kind: grey or colour."
        )
    return whole(
        packed, task=trained.task, split_seed=trained.split_seed, folds=trained.folds, subjects=trained.subjects
    )


ENTRY = stage_entry(EvaluationSpec, run)
