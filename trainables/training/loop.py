"""The epoch loop that every training stage shares: labels, an optional frozen guide, validation, checkpoints.

Everything random is drawn at an epoch's start from (seed, epoch), so a training continued from a checkpoint gives the
bits of one that was never stopped. Inside an epoch nothing is read from the device. The test split is never opened.
"""

from __future__ import annotations

import functools
import io
import math
import os
import platform
import resource
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainables import metrics
from trainables import spec as specs
from trainables.data.augment import draw_views, take_views
from trainables.data.batches import batches_of, generator, load, normalise, remembered_statistics, to_float
from trainables.data.degrade import degrade, enlarge
from trainables.data.packed import Packed, PackedInfo, open_packed
from trainables.data.preprocess import Preprocessing
from trainables.data.protocols import Cut, cut_for, require_unseen
from trainables.errors import ArtifactError, MachineError, NonFiniteError, UsageError
from trainables.losses.distiller import Distiller
from trainables.losses.ranking import triplet_loss
from trainables.models import build
from trainables.models.macs import count_macs
from trainables.models.network import Network, Outputs, Pixels, fold
from trainables.pretrained.start import begin
from trainables.spec import ReadsTraining, TrainingSpec, distils, has_network, registry
from trainables.stages.base import Context, Progress, Result
from trainables.store.artifacts import Artifact
from trainables.training.cached_outputs import KeptOutputs, blocks

RESIDENT_BYTES = 1 << 30  # Splits up to this size are copied out of the map, or, eight times as large, onto a GPU.
STRUCTURE = ("architecture", "width", "embedding", "stem")  # Of a spec: what the shapes of its weights rest on.
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@functools.cache
def numerics(device: str) -> str:
    """Torch version, processor and vector level: bits are promised for equal ones, on the CPU."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    level = torch.backends.cpu.get_cpu_capability()
    if device == "cuda":
        return f"torch {torch.__version__}, {torch.cuda.get_device_name()}"
    return f"torch {torch.__version__}, {name}, {level}"


def prepare(spec: specs.StageSpec, context: Context) -> torch.device:
    """Threads, determinism and device for a stage.

    Raises:
        MachineError: If the device or precision is not to be had.
    """
    torch.set_num_threads(spec.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads memory it did not write; filling it first takes a tenth of a small network's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if context.device == "cuda":
        if not torch.cuda.is_available():
            raise MachineError("A GPU was asked for, but torch finds none. Run without --gpus, or see `doctor`.")
        torch.backends.cudnn.benchmark = False
        # By default convolutions round float32 to ten bits there (TF32), and a loss would differ in its third digit.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Without it cuBLAS is not deterministic.
        if 0 < context.gpu_share < 1:
            torch.cuda.set_per_process_memory_fraction(context.gpu_share)
    elif spec.precision == "float16":
        raise MachineError("precision=float16 needs a GPU; on the CPU use float32 or bfloat16.")
    context.numerics = numerics(context.device)
    return torch.device(context.device)


def make_network(spec: TrainingSpec, info: PackedInfo, classes: int) -> Network | Pixels:
    """The network of a spec with weights drawn from (seed, network): the same for every cell of one seed."""
    with _drawn_from(spec, f"weights {spec.architecture}"):
        network = build(
            spec.architecture,
            channels=info.channels,
            classes=classes,
            width=spec.width,
            embedding=spec.embedding,
            stem=spec.stem,
        )
    return network.to(memory_format=torch.channels_last)


@contextmanager
def _drawn_from(spec: TrainingSpec, purpose: str) -> Iterator[None]:
    """Torch's global generator, seeded by (seed, purpose) for a while."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(spec.seed, 0, purpose).initial_seed())
        yield


def load_network(artifact: Artifact, packed: Packed) -> tuple[Network | Pixels, TrainingSpec, Cut]:
    """A trained network, its spec and what it was trained on, from its artifact.

    Raises:
        ArtifactError: If the weights do not fit the spec.
    """
    spec = specs.spec_from(artifact.kind, artifact.manifest["spec"])
    if not has_network(spec):
        raise ArtifactError(f"Artifact {artifact.key} is a {artifact.kind}, which has no network.")
    cut = cut_for(packed, spec)
    frozen = registry.get("stage", artifact.kind).facts["frozen"]
    if frozen is not None:
        return frozen(artifact, spec), spec, cut
    network = make_network(spec, packed.info, len(cut.classes))
    try:
        network.load_state_dict(load_file(artifact.file("weights.safetensors", verify=True)))
    except (SafetensorError, RuntimeError, ValueError, OSError) as error:
        raise ArtifactError(f"The weights of artifact {artifact.key} cannot be used: {str(error)[:300]}") from error
    return network, spec, cut


class View:
    """What a network reads: augmented uint8 images, degraded to its resolution and normalised."""

    def __init__(
        self, spec: Any, info: PackedInfo, mean: Tensor, std: Tensor, network: nn.Module | None = None
    ) -> None:
        """Args: resolutions, the data, its statistics; a network from a file brings what it wants its images to be."""
        self.preprocessing: Preprocessing | None = getattr(network, "preprocessing", None)
        self.resolution = spec.resolution or info.height
        self.filter, self.blur = spec.filter, spec.blur
        self.seen = getattr(spec, "test_resolution", None)
        self.upsample_to = spec.upsample_to
        self.mean, self.std = mean, std

    @property
    def side(self) -> int:
        """Side in pixels of what the network reads."""
        side = self.upsample_to or self.resolution
        return self.preprocessing.read_side(side) if self.preprocessing is not None else side

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W] -> float32 [B, C, r, r]."""
        low = to_float(images)
        if self.seen is None or self.seen >= self.resolution:
            low = degrade(low, self.resolution, filter=self.filter, blur=self.blur)
        else:
            # Images of a smaller size than the network was trained on are brought up to it.
            low = enlarge(degrade(low, self.seen, filter=self.filter, blur=self.blur), self.resolution)
        if self.upsample_to is not None:
            low = enlarge(low, self.upsample_to)
        if self.preprocessing is not None:
            return self.preprocessing(low, self.mean, self.std)
        return normalise(low, self.mean, self.std).contiguous(memory_format=torch.channels_last)


class Guide:
    """A frozen network whose knowledge is distilled. Always in evaluation mode; its buffers never move."""

    def __init__(
        self, artifact: Artifact, splits: Splits, device: torch.device, task: str, kept: KeptOutputs | None = None
    ) -> None:
        network, self.spec, cut = load_network(artifact, splits.packed)
        if isinstance(network, Pixels):
            raise UsageError("Raw pixels cannot guide a network; the teacher must have an architecture.")
        # A guide that has seen the tested people or images would hand them on.
        require_unseen(splits.packed, cut, splits.cut, task)
        # A network from a file may have no classifier; that of a plug-in is called as its author likes, and is there.
        logits = getattr(getattr(network, "classifier", None), "out_features", len(cut.classes))
        self.classes = cut.classes if logits else ()
        # It reads images as in its own training, whatever part of the data its student sees.
        mean, std = (value.float().to(device) for value in remembered_statistics(splits.packed, cut.train))
        # With kept outputs it is never asked, and stays where it is.
        self.network = (network if kept is not None else network.to(device)).eval().requires_grad_(False)
        self.view = View(self.spec, splits.packed.info, mean, std, network)
        self.width = network.embedding_width
        self.kept = kept

    def __call__(self, images: Tensor, maps: bool = False) -> Outputs:
        """Outputs for uint8 images [B, C, H, W] at the guide's own resolution."""
        with torch.inference_mode():
            outputs = self.network(self.view(images), maps=maps)
        # Inference tensors cannot be kept for a backward pass.
        return Outputs(outputs.embedding.clone(), outputs.logits.clone(), tuple(map_.clone() for map_ in outputs.maps))

    def on(self, images: Tensor, rows: Tensor, views: Tensor, epoch: int, *, maps: bool = False) -> Outputs:
        """Outputs for a batch of training: computed from `images`, or read where they are kept.

        Args:
            images: uint8 [B, C, H, W], the views themselves.
            rows: Their places in the training split, int64 [B], best at `lookup_place`.
            views: Indices of the views, int64 [B], likewise.
            epoch: Counted from 1.
            maps: Whether feature maps are wanted, which are never kept.
        """
        if self.kept is None:
            return self(images, maps=maps)
        return self.kept(rows, views if self.kept.part == "views" else torch.full_like(rows, epoch))

    def lookup_place(self, otherwise: torch.device) -> torch.device:
        """Where kept outputs are looked up; `otherwise` where nothing is kept."""
        return otherwise if self.kept is None else self.kept.place


class Mapped:
    """Images of a split that stays in the memory map: what is indexed is copied out of it, as from a tensor."""

    device = torch.device("cpu")

    def __init__(self, packed: Packed, indices: np.ndarray) -> None:
        self.packed, self.indices = packed, indices

    def __getitem__(self, where: Tensor | slice) -> Tensor:
        """uint8 [b, C, H, W]."""
        return load(self.packed, self.indices[where if isinstance(where, slice) else where.numpy()])[0]


class Batch(NamedTuple):
    """Positions of one batch in the training split and its drawn views, each int64 [B] wherever it is read."""

    at_images: Tensor  # Beside the images.
    views: Tensor  # Beside the images.
    at_labels: Tensor  # On the device.
    at_outputs: Tensor  # Where kept outputs are looked up.
    outputs_views: Tensor  # Likewise.


@dataclass
class Splits:
    """The images a training sees: in memory, on the device or in the map; labels are on the device."""

    packed: Packed
    cut: Cut
    train_images: Tensor | Mapped
    train_labels: Tensor
    validation_images: Tensor | Mapped
    validation_labels: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def open(cls, spec: ReadsTraining, context: Context, device: torch.device) -> Splits:
        """Training and validation split of the packed data set."""
        packed = open_packed(context.packed_folder / f"{spec.data}.arrow")
        cut = cut_for(packed, spec)
        mean, std = remembered_statistics(packed, cut.train)
        train_images, train_labels = _resident(packed, cut.train, device)
        validation_images, validation_labels = _resident(packed, cut.validation, device)
        logit_of = torch.from_numpy(cut.label_of).to(device)
        train_labels = logit_of[train_labels]
        if specs.task_of(spec.task).known_classes:
            validation_labels = logit_of[validation_labels]  # Else they are classes of their own, without logits.
        return cls(
            packed,
            cut,
            train_images,
            train_labels,
            validation_images,
            validation_labels,
            mean.float().to(device),
            std.float().to(device),
        )


def _resident(packed: Packed, indices: np.ndarray, device: torch.device) -> tuple[Tensor | Mapped, Tensor]:
    """Images and labels of a split; images that are too many stay in the map, and batches are gathered on the CPU."""
    size = len(indices) * packed.info.channels * packed.info.height * packed.info.width
    if size <= RESIDENT_BYTES * (8 if device.type == "cuda" else 1):
        images, labels = load(packed, indices)
        return images.to(device), labels.to(device)
    return Mapped(packed, indices), torch.from_numpy(packed.labels[indices].astype(np.int64)).to(device)


def learning_rate(spec: TrainingSpec, progress: float, epoch: float) -> float:
    """The rate at a share `progress` of training, `epoch` epochs in: warm-up, then cosine, steps or constant."""
    rate = spec.learning_rate
    if spec.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * progress))
    elif spec.schedule == "steps":
        rate *= spec.decay ** sum(progress >= share for share in spec.milestones)
    if spec.warmup_epochs > 0:
        rate *= min(1.0, epoch / spec.warmup_epochs)
    return rate


def make_optimizer(spec: TrainingSpec, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD or AdamW as the spec says; fused on the GPU, over lists of tensors on the CPU, where fusing changes bits."""
    fused = bool(parameters) and parameters[0].is_cuda
    foreach = None if fused else True
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=spec.learning_rate,
            betas=(spec.momentum, 0.999),
            weight_decay=spec.weight_decay,
            fused=fused,
            foreach=foreach,
        )
    return torch.optim.SGD(
        parameters,
        lr=spec.learning_rate,
        momentum=spec.momentum,
        nesterov=spec.nesterov and spec.momentum > 0,
        weight_decay=spec.weight_decay,
        fused=fused,
        foreach=foreach,
    )


class Trainer:
    """One network in training; everything a checkpoint holds."""

    def __init__(
        self,
        spec: TrainingSpec,
        splits: Splits,
        device: torch.device,
        guide: Guide | None,
        start: Network | None = None,
    ) -> None:
        info = splits.packed.info
        self.spec, self.splits, self.device, self.guide = spec, splits, device, guide
        self.classes = len(splits.cut.classes)
        network = make_network(spec, info, self.classes)
        assert not isinstance(network, Pixels)
        self.network = network.to(device)
        if start is not None:
            self._begin_with(start)
        self.view = View(spec, info, splits.mean, splits.std)
        self.macs = count_macs(self.network, channels=info.channels, side=self.view.side)
        self.loss: Distiller | None = None
        if distils(spec) and guide is not None:
            self.loss = Distiller(
                spec,
                student_width=self.network.embedding_width,
                teacher_width=guide.width,
                student_maps=self.network.map_widths,
                teacher_maps=guide.network.map_widths,
                classes=self.classes,
                item_labels=splits.train_labels,
                seed_module=functools.partial(_drawn_from, spec),
            ).to(device)
            if self.loss.needs_logits and guide.classes != splits.cut.classes:
                raise UsageError(
                    f"method={spec.method} needs a guide with the student's classes, but it has {len(guide.classes)} "
                    f"and the student {self.classes}. Give both the same task, folds, held_out and min_images."
                )
        parameters = list(self.network.parameters()) + (list(self.loss.parameters()) if self.loss else [])
        self.parameters = parameters
        self.optimizer = make_optimizer(spec, parameters)
        self.scaler = torch.amp.GradScaler("cuda", enabled=spec.precision == "float16")
        self.average: dict[str, Tensor] | None = None
        if spec.ema > 0:
            self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        self.history: list[dict[str, float]] = []
        self.epoch = 0
        self.batch_size = min(spec.batch_size, len(splits.train_labels))
        self.labels = splits.train_labels.cpu()  # What batches are made of, on every machine alike.

    @property
    def images_read(self) -> int:
        """Training images of all epochs: whole batches only."""
        if not self.spec.images_per_class:
            return self.batch_size * (len(self.labels) // self.batch_size) * self.spec.epochs
        epochs = range(1, self.spec.epochs + 1)
        return sum(len(rows) for epoch in epochs for rows in batches_of(self.spec, self.labels, epoch))

    def _begin_with(self, start: Network) -> None:
        """Take the guide's weights.

        Raises:
            UsageError: If it has another structure.
        """
        try:
            self.network.load_state_dict(start.state_dict())
        except RuntimeError as error:
            assert self.guide is not None  # It is the guide's network that is begun with.
            pairs = {name: (getattr(self.guide.spec, name), getattr(self.spec, name)) for name in STRUCTURE}
            pairs["classes"] = (len(self.guide.classes), self.classes)
            differ = [f"{name} {there} instead of {here}" for name, (there, here) in pairs.items() if there != here]
            raise UsageError(
                "A network that begins with its guide's weights must have the guide's structure, but the guide has "
                f"{', '.join(differ) or str(error)[:300]}. Make them equal, or set init_from_assistant=false."
            ) from error

    def begin_with_file(self, root: Path) -> None:
        """Take the weights of a file, which the store keeps, but for the classifier."""
        begin(self.network, root, self.spec.start_weights)
        if self.average is not None:
            self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def state(self) -> bytes:
        """A checkpoint."""
        buffer = io.BytesIO()
        torch.save(
            {
                "epoch": self.epoch,
                "network": self.network.state_dict(),
                "average": self.average,
                "loss": self.loss.state_dict() if self.loss else None,
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "best": self.best,
                "history": self.history,
                "numerics": numerics(self.device.type),
            },
            buffer,
        )
        return buffer.getvalue()

    def restore(self, payload: bytes) -> bool:
        """Continue from a checkpoint; false when it was made under other numerics or by an earlier version."""
        kept = torch.load(io.BytesIO(payload), map_location=self.device, weights_only=True)
        if kept["numerics"] != numerics(self.device.type):
            return False
        if set(kept["loss"] or ()) != set(self.loss.state_dict() if self.loss else ()):
            return False  # Saved by an earlier version, which knew its parts by other names.
        self.epoch = kept["epoch"]
        self.network.load_state_dict(kept["network"])
        self.average = kept["average"]
        if self.loss is not None:
            self.loss.load_state_dict(kept["loss"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.scaler.load_state_dict(kept["scaler"])
        self.best = kept["best"]
        self.history = kept["history"]
        return True

    def begin(self) -> None:
        """What is computed once before the first epoch: the guide's exact class centres."""
        if self.loss is not None and self.loss.uses_teacher_centers and self.guide is not None:
            guide = self.guide
            if guide.kept is not None:
                total, count = guide.kept.class_sums
                self.loss.set_teacher_centers(total.to(self.device), count.to(self.device))
            else:
                self.loss.set_teacher_centers(*self._class_sums(lambda images: guide(images).embedding, guide.width))

    def _class_sums(self, embed: Callable[[Tensor], Tensor], width: int) -> tuple[Tensor, Tensor]:
        return class_sums(self.splits, self.classes, embed, width, self.device)

    def _own_embedding(self, images: Tensor) -> Tensor:
        return self.network(self.view(images)).embedding

    def train_epoch(self) -> None:
        """One pass over the training split; adds a row to the history.

        Raises:
            NonFiniteError: If a loss became NaN or infinite.
        """
        spec, splits = self.spec, self.splits
        epoch = self.epoch + 1
        if self.loss is not None:
            self.loss.begin_epoch(generator(spec.seed, epoch, "negatives"))
            if self.loss.uses_epoch_centers:
                self.network.eval()
                with torch.no_grad():
                    sums_and_counts = self._class_sums(self._own_embedding, self.network.embedding_width)
                self.loss.set_student_centers(*sums_and_counts)
            self.loss.train()
        self.network.train()
        maps = self.loss is not None and self.loss.needs_maps
        batches = self._batches(epoch)
        sums: dict[str, Tensor] = {}
        rate = 0.0
        for number, batch in enumerate(batches):
            progress = (epoch - 1 + number / len(batches)) / spec.epochs
            rate = learning_rate(spec, progress, epoch - 1 + (number + 1) / len(batches))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            images = take_views(splits.train_images[batch.at_images], spec.augment, spec.pad, batch.views)
            images = images.to(self.device, non_blocking=True)
            labels = splits.train_labels[batch.at_labels]
            with autocast(spec, self.device):
                outputs = self.network(self.view(images), maps=maps)
                label_loss = F.cross_entropy(outputs.logits.float(), labels, label_smoothing=spec.label_smoothing)
                total = spec.label_weight * label_loss
                terms: dict[str, Tensor] = {}
                if self.loss is not None and self.guide is not None:
                    theirs = self.guide.on(images, batch.at_outputs, batch.outputs_views, epoch, maps=maps)
                    distilled, terms = self.loss(outputs, theirs, labels, batch.at_labels, progress=progress)
                    total = total + distilled
                if spec.triplet.weight > 0:
                    triplet = triplet_loss(
                        outputs.embedding, labels, margin=spec.triplet.margin, mining=spec.triplet.mining
                    )
                    total = total + spec.triplet.weight * triplet
                    terms = terms | {"triplet": triplet}
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(total).backward()
            if spec.clip_norm > 0:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.parameters, spec.clip_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self._average()
            self._add(sums, outputs, labels, total, label_loss, terms, progress)
        row = {name: float(value) / len(batches) for name, value in sums.items()}
        if not all(math.isfinite(value) for value in row.values()):
            bad = next(name for name, value in row.items() if not math.isfinite(value))
            raise NonFiniteError(
                f"{bad} became {row[bad]} in epoch {epoch}. Lower learning_rate (it is {spec.learning_rate:g}) or the "
                "loss weights, or add warmup_epochs or clip_norm."
            )
        row["learning_rate"] = rate
        self.epoch = epoch
        row |= self.validate()
        value = validation_value(row)
        if spec.select == "best" and value is not None and (self.best is None or value > self.best[0]):
            weights = {name: tensor.detach().clone() for name, tensor in self.weights().items()}
            self.best = (value, epoch, weights)
        self.history.append({"epoch": epoch} | row)

    def _batches(self, epoch: int) -> list[Batch]:
        """The epoch's batches, where they are read: one copy of all positions now, because each copy inside the epoch
        would wait for the device."""
        spec, splits = self.spec, self.splits
        rows = batches_of(spec, self.labels, epoch)
        draws = generator(spec.seed, epoch, "augment")
        views = [draw_views(len(batch), spec.augment, pad=spec.pad, generator=draws) for batch in rows]
        sizes = [len(batch) for batch in rows]

        def at(place: torch.device, parts: list[Tensor]) -> Sequence[Tensor]:
            return parts if place.type == "cpu" else torch.cat(parts).to(place).split(sizes)

        images, outputs = splits.train_images.device, self.device
        if self.guide is not None:
            outputs = self.guide.lookup_place(self.device)
        places = at(images, rows), at(images, views), at(self.device, rows), at(outputs, rows), at(outputs, views)
        return [Batch(*parts) for parts in zip(*places, strict=True)]

    def _average(self) -> None:
        if self.average is None:
            return
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                kept = self.average[name]
                if kept.is_floating_point():
                    kept.lerp_(value, 1 - self.spec.ema)
                else:
                    kept.copy_(value)

    def _add(
        self,
        sums: dict[str, Tensor],
        outputs: Outputs,
        labels: Tensor,
        total: Tensor,
        label_loss: Tensor,
        terms: Mapping[str, Tensor],
        progress: float,
    ) -> None:
        with torch.no_grad():
            seen = {
                "train/loss": total,
                "train/cross_entropy": label_loss,
                "train/top1": metrics.correct(outputs.logits, labels).double().mean(),
                "train/spread": metrics.spread(outputs.embedding),
            }
            weights = {"triplet": self.spec.triplet.weight}
            if self.loss is not None:
                weights |= self.loss.weights(progress)
            for name, value in terms.items():
                seen[f"train/{name}"] = value
                seen[f"train/{name}_weighted"] = value * weights[name]
            for name, value in seen.items():
                value = value.detach().double()
                sums[name] = sums[name] + value if name in sums else value

    def weights(self) -> dict[str, Tensor]:
        """The weights that count: averaged ones where there is an average."""
        return self.average if self.average is not None else self.network.state_dict()

    def validate(self) -> dict[str, float]:
        """The task's score on the validation split; for classification cross-entropy as well."""
        if len(self.splits.validation_labels) == 0:
            return {}
        own = None
        if self.average is not None:
            own = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
            self.network.load_state_dict(self.average)
        found = self._classify() if specs.task_of(self.spec.task).known_classes else self._compare()
        if own is not None:
            self.network.load_state_dict(own)
        return found

    def _classify(self) -> dict[str, float]:
        count = 0
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        for outputs, labels in predict(
            self.network, self.view, self.splits.validation_images, self.splits.validation_labels, 256
        ):
            totals[0] += metrics.correct(outputs.logits, labels).sum()
            totals[1] += F.cross_entropy(outputs.logits.float(), labels, reduction="sum")
            count += len(labels)
        right, loss = (totals / count).tolist()
        return {"validation/top1": right, "validation/loss": loss}

    def _compare(self) -> dict[str, float]:
        """Tasks that compare images of classes never trained on."""
        labels = self.splits.validation_labels
        found = predict(self.network, self.view, self.splits.validation_images, labels, 256)
        embeddings = torch.cat([outputs.embedding.float().cpu() for outputs, _ in found])
        task = specs.task_of(self.spec.task)
        value = task.validation_score(embeddings, labels.cpu(), self.spec.split_seed)
        return {f"validation/{task.validation_metric}": value}

    def finish(self) -> dict[str, Tensor]:
        """The selected weights, on the CPU.

        Raises:
            NonFiniteError: If one of them is not finite.
        """
        chosen = self.best[2] if self.best is not None else self.weights()
        weights = {name: value.detach().cpu().contiguous() for name, value in chosen.items()}
        for name, value in weights.items():
            if value.is_floating_point() and not metrics.finite(value):
                raise NonFiniteError(f"The weight {name} is not finite after training. Lower learning_rate.")
        return weights


def autocast(spec: specs.StageSpec, device: torch.device) -> Any:
    """Mixed precision where the spec asks for it."""
    return nullcontext() if spec.precision == "float32" else torch.autocast(device.type, PRECISIONS[spec.precision])


def class_sums(
    splits: Splits, classes: int, embed: Callable[[Tensor], Tensor], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Sum [C, D] and number [C] of the embeddings of each class over the training split, not augmented."""
    total = torch.zeros(classes, width, dtype=torch.float64, device=device)
    count = torch.zeros(classes, dtype=torch.int64, device=device)
    for block in blocks(len(splits.train_labels)):
        features = embed(splits.train_images[block].to(device)).double()
        # As a matrix product, which is deterministic everywhere; scattered additions are not on a GPU.
        onehot = F.one_hot(splits.train_labels[block], classes).double()
        total += onehot.T @ features
        count += onehot.sum(0).long()
    return total.float(), count


def predict(
    network: nn.Module, view: View, images: Tensor | Mapped, labels: Tensor, batch_size: int
) -> Generator[tuple[Outputs, Tensor], None, None]:
    """(outputs, labels [b]) of a split in evaluation mode, in order."""
    network.eval()
    with torch.no_grad():
        for start in range(0, len(labels), batch_size):
            batch = images[start : start + batch_size].to(labels.device)
            yield network(view(batch)), labels[start : start + batch_size]


def validation_value(row: Mapping[str, float]) -> float | None:
    """The task's score in a row of the history."""
    scores = dict.fromkeys(entry.load().validation_metric for entry in registry.entries("task"))
    return next((row[f"validation/{name}"] for name in scores if f"validation/{name}" in row), None)


def train(
    spec: TrainingSpec,
    context: Context,
    guide: Artifact | None = None,
    *,
    start_from_guide: bool = False,
    kept: KeptOutputs | None = None,
) -> Generator[Progress, None, Result]:
    """Train the network of `spec`, guided by the network of an artifact where the spec distils.

    Args:
        spec: What to train.
        context: Store, device, checkpoints.
        guide: The frozen network to distil from.
        start_from_guide: Whether to begin with the guide's weights.
        kept: The guide's outputs, where they were computed before.

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
    mentor = Guide(guide, splits, device, spec.task, kept) if guide is not None else None
    start = mentor.network if mentor is not None and start_from_guide else None
    trainer = Trainer(spec, splits, device, mentor, start)
    maps = trainer.loss is not None and trainer.loss.needs_maps
    if (
        mentor is not None
        and kept is None
        and not maps
        and registry.plugin("network", mentor.spec.architecture) is None
    ):
        fold(mentor.network)  # Not before: its weights may be what the student begins with.
    if spec.start_weights:
        trainer.begin_with_file(context.store.root)
    saved = context.saved()
    if saved is not None and trainer.restore(saved[1]):
        context.log(f"continues after epoch {trainer.epoch}")
    else:
        trainer.begin()
    while trainer.epoch < spec.epochs:
        trainer.train_epoch()
        row = trainer.history[-1]
        context.log(
            f"epoch {trainer.epoch}/{spec.epochs}"
            + "".join(f" {name}={row[name]:.4f}" for name in row if name == "train/loss" or "validation/" in name)
        )
        context.save(trainer.epoch, trainer.state())
        yield Progress(trainer.epoch, spec.epochs, validation_value(row))
    weights = trainer.finish()
    row = trainer.history[trainer.best[1] - 1] if trainer.best is not None else trainer.history[-1]
    measured = {
        "train_top1": row["train/top1"],
        "embedding_spread": row["train/spread"],
        "epoch": int(row["epoch"]),
        "parameters_count": sum(p.numel() for p in trainer.network.parameters()),
        "macs": trainer.macs,
    }
    if mentor is not None and mentor.kept is not None:
        measured["outputs_read"] = trainer.images_read
    value = validation_value(row)
    if value is not None:
        measured["validation_score"] = value
        measured["validation_images"] = len(splits.validation_labels)
        measured["best_validation_score"] = max(
            v for other in trainer.history if (v := validation_value(other)) is not None
        )
    if "validation/top1" in row:
        measured["validation_top1"] = row["validation/top1"]
    return Result(
        metrics=measured,
        history=trainer.history,
        write=lambda folder: save_file(weights, folder / "weights.safetensors"),
        more={
            "train_images": len(splits.train_labels),
            "memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        },
    )
