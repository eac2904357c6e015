"""What a training learns from and never changes: one network, another on its embedding, several joined, their cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.data.batches import remembered_statistics
from trainables.data.protocols import require_unseen
from trainables.errors import UsageError
from trainables.models.network import Outputs, Pixels, fold
from trainables.spec import TrainingSpec, registry
from trainables.store.artifacts import Artifact
from trainables.training.cached_outputs import CachedOutputs
from trainables.training.inputs import InputTransform, Source, Splits
from trainables.training.networks import load_network

ClassSums = tuple[Tensor, Tensor]  # Sum [C, D] and number [C] of the embeddings of each class.


class FrozenTeacher(Protocol):
    """Gives outputs that no training moves: always in evaluation mode, without gradients."""

    width: int  # D of its embeddings.
    map_widths: tuple[int, ...]  # Channels of each of its maps, shallow to deep; () where it gives none.
    classes: tuple[str, ...]  # What its logits are of; () where it has none.

    @property
    def place(self) -> torch.device | None:
        """Where rows and views are looked up; None where it looks at the items alone."""

    def ready(self, *, maps: bool) -> None:
        """Called once, after its weights may have been copied and before it is asked; `maps` says if maps will be."""

    def outputs(self, items: Tensor, rows: Tensor, views: Tensor | None, epoch: int, *, maps: bool = False) -> Outputs:
        """Outputs for a batch of a training's source.

        Args:
            items: What the source read for the batch, before any network's transform.
            rows: Their places in the training split, int64 [B], best at `place`.
            views: Indices of their views, int64 [B], likewise; None where the items are as no augmentation made them.
            epoch: Counted from 1.
            maps: Whether feature maps are wanted.
        """

    def class_sums(self, source: Source) -> ClassSums:
        """Exact sums and numbers over the training items as they are."""


class FrozenNetwork:
    """The network of one artifact, which reads images as its own training did.

    Args:
        artifact: Of a stage that has a network.
        splits: The data of the training that learns from it.
        device: Where it runs.
        task: Of the training; a teacher that has seen the tested people or images would hand them on.
        idle: Whether it is never asked, because its outputs are cached: then it stays where it is.

    Raises:
        UsageError: If it has no architecture, or has seen what the training's task tests.
    """

    def __init__(
        self, artifact: Artifact, splits: Splits, device: torch.device, task: str, *, idle: bool = False
    ) -> None:
        network, self.spec, cut = load_network(artifact, splits.packed)
        if isinstance(network, Pixels):
            raise UsageError("Raw pixels cannot guide a network; the teacher must have an architecture.")
        require_unseen(splits.packed, cut, splits.cut, task)
        # A network from a file may have no classifier; that of a plug-in is called as its author likes, and is there.
        logits = getattr(getattr(network, "classifier", None), "out_features", len(cut.classes))
        # It reads images as in its own training, whatever part of the data its student sees.
        mean, std = (value.float().to(device) for value in remembered_statistics(splits.packed, cut.train))
        transform = InputTransform(self.spec, splits.packed.info, mean, std, network)
        self._hold(network if idle else network.to(device), transform, cut.classes if logits else ())

    @classmethod
    def of(
        cls, network: nn.Module, spec: TrainingSpec, transform: InputTransform, classes: Sequence[str]
    ) -> FrozenNetwork:
        """Of a network at hand instead of an artifact."""
        made = cls.__new__(cls)
        made.spec = spec
        made._hold(network, transform, tuple(classes))
        return made

    def _hold(self, network: Any, transform: InputTransform, classes: tuple[str, ...]) -> None:
        self.network = network.eval().requires_grad_(False)
        self.transform, self.classes = transform, classes
        self.width: int = self.network.embedding_width
        self.map_widths: tuple[int, ...] = self.network.map_widths

    @property
    def place(self) -> None:
        """It looks at the images alone."""
        return None

    def ready(self, *, maps: bool) -> None:
        """Folds its normalisations away, unless maps are wanted or the network is a plug-in's."""
        if not maps and registry.plugin("network", self.spec.architecture) is None:
            fold(self.network)

    def __call__(self, images: Tensor, maps: bool = False) -> Outputs:
        """Outputs for uint8 images [B, C, H, W] at the teacher's own resolution."""
        with torch.inference_mode():
            outputs = self.network(self.transform(images), maps=maps)
        # Inference tensors cannot be kept for a backward pass.
        return Outputs(outputs.embedding.clone(), outputs.logits.clone(), tuple(map_.clone() for map_ in outputs.maps))

    def outputs(self, items: Tensor, rows: Tensor, views: Tensor | None, epoch: int, *, maps: bool = False) -> Outputs:
        return self(items, maps=maps)

    def class_sums(self, source: Source) -> ClassSums:
        found = ((self(items).embedding, labels) for _, items, labels in source.train_blocks())
        return class_sums(found, len(source.classes), self.width, source.labels.device)


class CachedTeacher:
    """The cached outputs of a frozen teacher, which itself is never asked. Maps are never cached."""

    def __init__(self, teacher: FrozenTeacher, cached: CachedOutputs) -> None:
        self.teacher, self.cached = teacher, cached
        self.width, self.classes = teacher.width, teacher.classes
        self.map_widths = teacher.map_widths

    @property
    def place(self) -> torch.device:
        """Where the outputs lie."""
        return self.cached.place

    def ready(self, *, maps: bool) -> None:
        """Nothing: no network will run."""

    def outputs(self, items: Tensor, rows: Tensor, views: Tensor | None, epoch: int, *, maps: bool = False) -> Outputs:
        return self.cached.seen(rows, views, epoch)

    def class_sums(self, source: Source) -> ClassSums:
        """As they were summed when the cache was begun."""
        total, count = self.cached.class_sums
        return total.to(source.labels.device), count.to(source.labels.device)


class ComposedTeacher:
    """A frozen teacher, then a small frozen network on its embedding: a linear probe, an adaptation.

    Args:
        teacher: Gives the embeddings [B, D] and the maps.
        network: [B, D] to `Outputs` with an embedding and logits of its own.
        width: Of the network's embedding.
        classes: What the network's logits are of; () where it has none.
    """

    def __init__(self, teacher: FrozenTeacher, network: nn.Module, width: int, classes: Sequence[str] = ()) -> None:
        self.teacher, self.network = teacher, network.eval().requires_grad_(False)
        self.width, self.classes, self.map_widths = width, tuple(classes), teacher.map_widths

    @property
    def place(self) -> torch.device | None:
        """Where the teacher's outputs are looked up."""
        return self.teacher.place

    def ready(self, *, maps: bool) -> None:
        self.teacher.ready(maps=maps)

    def outputs(self, items: Tensor, rows: Tensor, views: Tensor | None, epoch: int, *, maps: bool = False) -> Outputs:
        before = self.teacher.outputs(items, rows, views, epoch, maps=maps)
        with torch.no_grad():
            after = self.network(before.embedding)
        return Outputs(after.embedding, after.logits, before.maps)

    def class_sums(self, source: Source) -> ClassSums:
        return class_sums_of(self, source)


class EnsembleTeacher:
    """Several frozen teachers as one: their embeddings, each of length 1, side by side; no logits, no maps."""

    map_widths: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()

    def __init__(self, members: Sequence[FrozenTeacher]) -> None:
        self.members = tuple(members)
        self.width = sum(member.width for member in self.members)
        places = {member.place for member in self.members} - {None}
        if not self.members or len(places) > 1:
            raise UsageError(
                f"An ensemble needs a teacher at least, and cached outputs in one place, but got {len(self.members)} "
                f"teachers and {len(places)} places."
            )
        self._place = next(iter(places), None)

    @property
    def place(self) -> torch.device | None:
        """Where those members that are cached look up."""
        return self._place

    def ready(self, *, maps: bool) -> None:
        for member in self.members:
            member.ready(maps=False)

    def outputs(self, items: Tensor, rows: Tensor, views: Tensor | None, epoch: int, *, maps: bool = False) -> Outputs:
        found = [member.outputs(items, rows, views, epoch).embedding.float() for member in self.members]
        # The small epsilon leaves a zero embedding zero and finite.
        joined = torch.cat([F.normalize(one, dim=1, eps=1e-6) for one in found], 1)
        return Outputs(joined, joined.new_empty(len(joined), 0))

    def class_sums(self, source: Source) -> ClassSums:
        return class_sums_of(self, source)


def class_sums_of(teacher: FrozenTeacher, source: Source) -> ClassSums:
    """Exact class sums of any frozen teacher that can be asked about items as they are."""

    def embeddings() -> Iterable[tuple[Tensor, Tensor]]:
        for rows, items, labels in source.train_blocks():
            there = rows if teacher.place is None else rows.to(teacher.place)
            yield teacher.outputs(items, there, None, 0).embedding, labels

    return class_sums(embeddings(), len(source.classes), teacher.width, source.labels.device)


def class_sums(
    embeddings: Iterable[tuple[Tensor, Tensor]], classes: int, width: int, device: torch.device
) -> ClassSums:
    """Sum [C, D] and number [C] of (embeddings [b, D], labels [b]) by class."""
    total = torch.zeros(classes, width, dtype=torch.float64, device=device)
    count = torch.zeros(classes, dtype=torch.int64, device=device)
    for found, labels in embeddings:
        features = found.double()
        # As a matrix product, which is deterministic everywhere; scattered additions are not on a GPU.
        onehot = F.one_hot(labels, classes).double()
        total += onehot.T @ features
        count += onehot.sum(0).long()
    return total.float(), count


def teacher_of(
    artifact: Artifact, splits: Splits, device: torch.device, task: str, cached: CachedOutputs | None = None
) -> FrozenTeacher:
    """The frozen teacher of an artifact; where its outputs are cached, those are read and the network never runs."""
    teacher = FrozenNetwork(artifact, splits, device, task, idle=cached is not None)
    return teacher if cached is None else CachedTeacher(teacher, cached)
