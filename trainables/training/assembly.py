"""From a spec to a trainer: splits, frozen teacher, network, objective; what a stage on labels and a guide runs."""

from __future__ import annotations

from collections.abc import Generator

import torch

from trainables.errors import UsageError
from trainables.models.network import Pixels
from trainables.pretrained.start import begin
from trainables.spec import TrainingSpec, distils
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact
from trainables.training.cached_outputs import CachedOutputs
from trainables.training.frozen import CachedTeacher, FrozenNetwork, FrozenTeacher, teacher_of
from trainables.training.inputs import ImageSource, Splits
from trainables.training.loop import Trainer, fit
from trainables.training.networks import begin_with_teacher, make_network
from trainables.training.numerics import prepare
from trainables.training.objective import objective_of


def trainer_of(
    spec: TrainingSpec,
    splits: Splits,
    device: torch.device,
    teacher: FrozenTeacher | None = None,
    *,
    start_from_teacher: bool = False,
    context: Context | None = None,
) -> Trainer:
    """The trainer of a spec on packed images, before its first epoch.

    Args:
        spec: What to train.
        splits: Its images.
        device: Where.
        teacher: The frozen teacher, if there is one.
        start_from_teacher: Whether to begin with the teacher's weights.
        context: Where weights that training begins with are kept, if the spec names some.

    Raises:
        UsageError: If the spec, the teacher and the data do not fit each other.
    """
    classes = splits.cut.classes
    network = make_network(spec, splits.packed.info, len(classes))
    assert not isinstance(network, Pixels)
    network = network.to(device)
    if start_from_teacher:
        source = teacher.teacher if isinstance(teacher, CachedTeacher) else teacher
        assert isinstance(source, FrozenNetwork)
        theirs = source.network.state_dict()
        begin_with_teacher(network, spec, len(classes), theirs, source.spec, len(source.classes))
    if spec.start_weights and context is not None:
        begin(network, context.store.root, spec.start_weights)  # All but the classifier.
    objective = objective_of(spec, network, teacher, classes, splits.train_labels)
    return Trainer(spec, ImageSource(spec, splits), network, objective, teacher)


def train(
    spec: TrainingSpec,
    context: Context,
    guide: Artifact | None = None,
    *,
    start_from_guide: bool = False,
    cached: CachedOutputs | None = None,
) -> Generator[Progress, None, Result]:
    """Train the network of `spec`, guided by the network of an artifact where the spec distils.

    Args:
        spec: What to train.
        context: Store, device, checkpoints.
        guide: The frozen network to distil from.
        start_from_guide: Whether to begin with the guide's weights.
        cached: The guide's outputs, where they were computed before.

    Yields:
        One `Progress` per epoch, after its checkpoint.

    Raises:
        NonFiniteError: If a loss or weight stops being finite.
        DataError: If the packed data is missing or damaged.
        DrainedError, LeaseLostError: If the stage must leave.
    """
    if distils(spec) and guide is None:
        raise UsageError(
            f"method={spec.method} distils from a guide, but there is none. Use another route, or method=none."
        )
    device = prepare(spec, context)
    splits = Splits.open(spec, context, device)
    teacher = teacher_of(guide, splits, device, spec.task, cached) if guide is not None else None
    trainer = trainer_of(
        spec, splits, device, teacher, start_from_teacher=start_from_guide and teacher is not None, context=context
    )
    if teacher is not None:
        teacher.ready(maps=trainer.objective.reads.maps)  # Not before: its weights may be what the student begins with.
    result = yield from fit(trainer, context)
    if cached is not None and teacher is not None:
        result.metrics["outputs_read"] = trainer.images_read
    return result
