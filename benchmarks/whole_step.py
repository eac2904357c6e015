"""A whole training step: reference style with its teacher beside it, against ours on kept outputs (goal G4).

    python -m benchmarks.whole_step [--teacher resnet50] [--side 16] [--batch 64] [--width 1] [--quick] [--json FILE]

A student (ResNet-18) at `--side` pixels learns from a teacher at 32 pixels by labels, KL, pairs, angles and centres.
Reference: each image augmented with Pillow, the teacher run in evaluation mode under `no_grad`, torch's own
convolutions, losses as the formulas read, the loss and the accuracy read back after every step. Ours: the product's own
epoch (`Trainer.train_epoch`), once with the teacher live, once with its outputs from a filled, memory-mapped cache, and
in bfloat16 where the processor has the instructions. Weights are as drawn: no step's time depends on them.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from benchmarks import augmentation, direct, direct_images, measure
from benchmarks.measure import Row
from trainables.data.augment import view_count
from trainables.data.batches import epoch_batches, generator
from trainables.losses.horkd_loss import HorkdLoss
from trainables.models import Network, Outputs, build
from trainables.models.network import fold
from trainables.spec import HorkdSpec, StudentSpec, TeacherSpec
from trainables.store.artifacts import Artifact
from trainables.store.files import sha256_of
from trainables.training.assembly import trainer_of
from trainables.training.cached_outputs import BASE_FILE, PARTS, CachedOutputs, Shard
from trainables.training.frozen import CachedTeacher, FrozenNetwork, FrozenTeacher
from trainables.training.inputs import InputTransform, Splits
from trainables.training.loop import Trainer
from trainables.training.objective import DistillationObjective

CLASSES = 100
WANTED = {"float32": 6.0, "bfloat16": 10.0}  # Of a ResNet-50 teacher, a student at 16 pixels and widths of 1.
PAD = augmentation.PAD


def student_spec(side: int, batch: int, width: float, precision: str = "float32") -> StudentSpec:
    """What both sides train."""
    return StudentSpec(
        architecture="resnet18",
        width=width,
        resolution=side,
        batch_size=batch,
        augment="crop_flip",
        pad=PAD,
        precision=precision,
        epochs=100_000,  # So long that the learning rate hardly moves.
        method="kd+horkd",
        horkd=HorkdSpec(orders="2+3+C", center_warmup=0.0),
    )


def splits(images: np.ndarray, labels: Tensor) -> Splits:
    """Images [N, 3, 32, 32] as a training sees them, nothing to validate on."""
    side = images.shape[-1]
    packed: Any = SimpleNamespace(info=SimpleNamespace(channels=3, height=side, width=side))
    cut: Any = SimpleNamespace(classes=tuple(range(CLASSES)))
    none = torch.zeros(0, 3, side, side, dtype=torch.uint8)
    tensors = torch.from_numpy(images), labels, none, labels[:0]
    return Splits(packed, cut, *tensors, augmentation.MEAN, augmentation.STD)


def frozen(network: Network, data: Splits, cached: CachedOutputs | None = None) -> FrozenTeacher:
    """A frozen teacher with a network at hand instead of an artifact."""
    spec = TeacherSpec(resolution=data.train_images[:1].shape[-1])
    transform = InputTransform(spec, data.packed.info, data.mean, data.std)
    teacher = FrozenNetwork.of(network.to(memory_format=torch.channels_last), spec, transform, data.cut.classes)
    fold(teacher.network)  # As `train` does.
    return teacher if cached is None else CachedTeacher(teacher, cached)


def filled(folder: Path, images: int, classes: int, width: int, per_shard: int = 9) -> CachedOutputs:
    """A filled cache of every view of some images, written and read by the product; what is in it costs nothing."""
    draws = torch.Generator().manual_seed(2)
    views = view_count("crop_flip", PAD)
    base = {"embedding": torch.randn(width, generator=draws), "logits": torch.randn(classes, generator=draws)}
    sums = {
        "class_sums": torch.randn(classes, width, generator=draws),
        "class_counts": torch.ones(classes, dtype=torch.int64),
    }
    save_file(base | sums, folder / BASE_FILE)
    shards = []
    for start in range(0, views, per_shard):
        stop = min(start + per_shard, views)
        own = folder / f"{start:03d}"
        shard = Shard(own, "0", images, stop - start, base)
        for column in range(stop - start):
            said = [torch.randn(images, size, generator=draws) for size in (width, classes)]
            shard.put(torch.arange(images), column, Outputs(said[0], said[1]))
        shard.move(own)
        files = {f"{part}.npy": {"sha256": sha256_of(own / f"{part}.npy")} for part in PARTS}
        shards.append(_artifact(own, files, {"part": "views", "start": start, "stop": stop}))
    files = {BASE_FILE: {"sha256": sha256_of(folder / BASE_FILE)}}
    return CachedOutputs(_artifact(folder, files, {"part": "base"}), shards, torch.device("cpu"))


def _artifact(folder: Path, files: dict[str, Any], spec: dict[str, Any]) -> Artifact:
    return Artifact(folder.name, folder, {"kind": "outputs", "files": files, "spec": spec})


class Problem:
    """Data, networks and specs of one setting."""

    def __init__(self, teacher: str, side: int, batch: int, width: float, batches: int = 1) -> None:
        self.side, self.batch, self.width = side, batch, width
        self.images = augmentation.photographs(batch * batches)
        self.labels = torch.randint(CLASSES, (len(self.images),), generator=torch.Generator().manual_seed(1))
        torch.manual_seed(0)
        network = build(teacher, channels=3, classes=CLASSES, width=width)
        assert isinstance(network, Network)
        self.teacher = network

    def trainer(self, precision: str = "float32", cached: CachedOutputs | None = None) -> Trainer:
        """The product's trainer, ready for its first epoch; its teacher is live, or read where its outputs are cached."""
        data = splits(self.images, self.labels)
        spec = student_spec(self.side, self.batch, self.width, precision)
        teacher = frozen(copy.deepcopy(self.teacher), data, cached)
        made = trainer_of(spec, data, torch.device("cpu"), teacher)
        with measure.as_stages_run():
            made.begin()
        _settle(made)
        return made

    def reference(self, trainer: Trainer) -> Reference:
        """The reference-style loop, from the same weights, centres and loss weights as `trainer`."""
        return Reference(self, trainer)


def distilled_by(trainer: Trainer) -> tuple[DistillationObjective, HorkdLoss]:
    """What a trainer distils, and HORKD in it."""
    distilled = trainer.objective.of(DistillationObjective)
    assert distilled is not None
    horkd = distilled.distiller.get_submodule("horkd")
    assert isinstance(horkd, HorkdLoss)
    return distilled, horkd


def _settle(trainer: Trainer) -> None:
    """Centres as in the middle of a training, when every class has been seen."""
    distilled, horkd = distilled_by(trainer)
    draws = torch.Generator().manual_seed(3)
    distilled.set_teacher_centers(
        torch.randn(horkd.teacher_centers.shape, generator=draws), torch.ones(CLASSES, dtype=torch.int64)
    )
    horkd.student_centers.copy_(torch.randn(horkd.student_centers.shape, generator=draws))
    horkd.student_seen.fill_(True)


class Reference:
    """A loop as public distillation code writes it."""

    def __init__(self, problem: Problem, trainer: Trainer) -> None:
        distilled, horkd = distilled_by(trainer)
        spec = trainer.spec
        self.decoded = np.ascontiguousarray(problem.images.transpose(0, 2, 3, 1))
        self.labels, self.batch = problem.labels, problem.batch
        self.sides = (self.decoded.shape[1], problem.side)
        self.teacher = direct.usual_convolutions(copy.deepcopy(problem.teacher)).eval()
        student = copy.deepcopy(trainer.network).to(memory_format=torch.contiguous_format)
        self.student = direct.usual_convolutions(student)
        self.losses = direct.Losses(
            distilled.distiller.weights(1.0),
            horkd.student_centers,
            horkd.teacher_centers,
        )
        self.optimizer = torch.optim.SGD(
            self.student.parameters(), lr=spec.learning_rate, momentum=spec.momentum, weight_decay=spec.weight_decay
        )
        self.draws = np.random.default_rng(0)

    def step(self, chosen: Tensor | None = None, views: np.ndarray | None = None) -> dict[str, float]:
        """One step on a random batch, or on these images [B] under these views [B]; everything it logs."""
        if chosen is None:
            chosen = torch.from_numpy(self.draws.permutation(len(self.labels))[: self.batch])
        if views is None:
            views = self.draws.integers(0, view_count("crop_flip", PAD), len(chosen))
        high, low = direct_images.augmented(
            self.decoded[chosen.numpy()], views, PAD, augmentation.MEAN, augmentation.STD, self.sides
        )
        labels = self.labels[chosen]
        with torch.no_grad():
            theirs = self.teacher(high)
        self.student.train()
        ours = self.student(low)
        cross_entropy = F.cross_entropy(ours.logits, labels)
        distilled, terms = self.losses(ours.embedding, ours.logits, theirs.embedding, theirs.logits, labels)
        loss = cross_entropy + distilled
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        right = (ours.logits.argmax(1) == labels).float().mean()
        logged = {"train/loss": loss, "train/cross_entropy": cross_entropy, "train/top1": right}
        return {name: value.item() for name, value in (logged | {f"train/{k}": v for k, v in terms.items()}).items()}


def drawn_by(trainer: Trainer) -> tuple[Tensor, np.ndarray]:
    """Positions and views of the first batch of a trainer's next epoch."""
    spec, epoch = trainer.spec, trainer.epoch + 1
    count = len(trainer.source.labels)
    first = epoch_batches(count, trainer.batch_size, seed=spec.seed, epoch=epoch, drop_last=True)[0]
    draws = generator(spec.seed, epoch, "augment")
    return first, torch.randint(view_count("crop_flip", PAD), (len(first),), generator=draws).numpy()


def rows(options: argparse.Namespace, rounds: int, folder: Path) -> list[Row]:
    """The reference against the live, the cached and the bfloat16 step, all by turns."""
    problem = Problem(options.teacher, options.side, options.batch, options.width)
    live = problem.trainer()
    reference = problem.reference(live)
    kept = filled(folder, len(problem.images), CLASSES, problem.teacher.embedding_width)
    trainers = {"ours, teacher live": live, "ours, outputs kept": problem.trainer(cached=kept)}
    if measure.has_bf16():
        trainers["ours, outputs kept, bf16"] = problem.trainer("bfloat16", kept)
    sides: dict[str, Any] = {"reference": reference.step}

    def epoch(trainer: Trainer) -> None:
        with measure.as_stages_run():
            trainer.train_epoch()

    for name, trainer in trainers.items():
        sides[name] = lambda trainer=trainer: epoch(trainer)
    measure.one_thread()
    seconds = measure.by_turns(sides, rounds)
    full = (options.teacher, options.side, options.batch, options.width) == ("resnet50", 16, 64, 1.0)
    setting = f"ResNet-18 at {options.side} px <- {options.teacher}, B={options.batch}, width {options.width:g}"
    made = []
    for name in trainers:
        wanted = None
        if full and "kept" in name:
            wanted = WANTED["bfloat16" if "bf16" in name else "float32"]
        made.append(
            measure.row("G4", f"whole step: {name}", setting, seconds["reference"], seconds[name], wanted=wanted)
        )
    return made


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The words of the command line."""
    parser = measure.parser(__doc__)
    parser.add_argument("--teacher", default="resnet50", help="architecture of the teacher, which sees 32 pixels")
    parser.add_argument("--side", type=int, default=16, help="pixels of the student's images")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=float, help="of both networks (1; with --quick 0.25), for smaller machines")
    options = parser.parse_args(arguments)
    if options.width is None:
        options.width = 0.25 if options.quick else 1.0
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = options_of(arguments)
    found = measure.facts()
    with tempfile.TemporaryDirectory(prefix="whole-step-") as folder:
        made = rows(options, 2 if options.quick else 7, Path(folder))
    measure.finish(made, options, found)


if __name__ == "__main__":
    main()
