"""The epoch loop that every training shares: batches, an objective, steps, validation, checkpoints, history.

Everything random is drawn at an epoch's start from (seed, epoch), so a training continued from a checkpoint gives the
bits of one that was never stopped. Inside an epoch nothing is read from the device. No loss is known here by name.
"""

from __future__ import annotations

import functools
import io
import math
import resource
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from trainables import metrics
from trainables.data.augment import draw_views
from trainables.data.batches import batches_of, generator
from trainables.errors import NonFiniteError
from trainables.models.network import Outputs
from trainables.spec import TrainingSpec
from trainables.stages.base import Context, Progress, Result
from trainables.training.frozen import FrozenTeacher, class_sums
from trainables.training.inputs import Source, predict
from trainables.training.networks import TrainedPart
from trainables.training.numerics import autocast, numerics_of
from trainables.training.objective import Batch, Objectives
from trainables.training.optimizer import Average, Stepper, copied
from trainables.training.validation import Validation, validation_of, validation_value


class Positions(NamedTuple):
    """Rows of one batch in the training split and its drawn views, each int64 [B] wherever it is read."""

    source_rows: Tensor  # Where the source looks up.
    source_views: Tensor  # Likewise.
    rows: Tensor  # On the device.
    teacher_rows: Tensor  # Where the frozen teacher looks up.
    teacher_views: Tensor  # Likewise.


class Trainer:
    """One network in training; everything a checkpoint holds.

    Args:
        spec: Seed, epochs, batches, augmentation, optimiser, schedule, precision, selection.
        source: What is iterated over.
        network: On the device of the source's labels; gives `Outputs`.
        objective: What is minimised.
        teacher: What the objective learns from, if it reads one.
        trained: Submodules of the network that are trained, the rest being frozen; none means all.
        validation: Judges an epoch; by default the score of the spec's task.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        source: Source,
        network: Any,
        objective: Objectives,
        teacher: FrozenTeacher | None = None,
        *,
        trained: Sequence[str] = (),
        validation: Validation | None = None,
    ) -> None:
        self.spec, self.source, self.network, self.objective = spec, source, network, objective
        self.teacher = teacher if objective.reads.teacher else None
        self.device = source.labels.device
        self.part = TrainedPart(network, trained)
        self.macs = source.macs(network)
        self.stepper = Stepper(spec, self.part.parameters + objective.parameters())
        self.average = Average(network, spec.ema)
        self.validation = validation or validation_of(spec)
        self.best: tuple[float, int, dict[str, Tensor]] | None = None
        self.history: list[dict[str, float]] = []
        self.epoch = 0
        self.batch_size = min(spec.batch_size, len(source.labels))
        self.labels = source.labels.cpu()  # What batches are made of, on every machine alike.

    @property
    def images_read(self) -> int:
        """Training images of all epochs: whole batches only."""
        if not self.spec.images_per_class:
            return self.batch_size * (len(self.labels) // self.batch_size) * self.spec.epochs
        epochs = range(1, self.spec.epochs + 1)
        return sum(len(rows) for epoch in epochs for rows in batches_of(self.spec, self.labels, epoch))

    def state(self) -> bytes:
        """A checkpoint."""
        buffer = io.BytesIO()
        torch.save(
            {
                "epoch": self.epoch,
                "network": self.network.state_dict(),
                "average": self.average.kept,
                "loss": self.objective.state_dict(),
                "optimizer": self.stepper.optimizer.state_dict(),
                "scaler": self.stepper.scaler.state_dict(),
                "best": self.best,
                "history": self.history,
                "numerics": numerics_of(self.device.type),
            },
            buffer,
        )
        return buffer.getvalue()

    def restore(self, payload: bytes) -> bool:
        """Continue from a checkpoint; false when it was made under other numerics or by an earlier version."""
        kept = torch.load(io.BytesIO(payload), map_location=self.device, weights_only=True)
        if kept["numerics"] != numerics_of(self.device.type):
            return False
        if set(kept["loss"] or ()) != set(self.objective.state_dict()):
            return False  # Saved by an earlier version, which knew its parts by other names.
        self.epoch = kept["epoch"]
        self.network.load_state_dict(kept["network"])
        self.average.kept = kept["average"]
        self.objective.load_state_dict(kept["loss"] or {})
        self.stepper.optimizer.load_state_dict(kept["optimizer"])
        self.stepper.scaler.load_state_dict(kept["scaler"])
        self.best = kept["best"]
        self.history = kept["history"]
        return True

    def begin(self) -> None:
        """What is computed once before the first epoch: the frozen teacher's exact class centres."""
        if self.objective.reads.teacher_centers and self.teacher is not None:
            self.objective.set_teacher_centers(*self.teacher.class_sums(self.source))

    def train_epoch(self) -> None:
        """One pass over the training split; adds a row to the history.

        Raises:
            NonFiniteError: If a loss became NaN or infinite.
        """
        epoch, reads = self.epoch + 1, self.objective.reads
        self._begin_epoch(epoch)
        batches = self._batches(epoch)
        sums: dict[str, Tensor] = {}
        for number, at in enumerate(batches):
            progress = (epoch - 1 + number / len(batches)) / self.spec.epochs
            self.stepper.set_rate(progress, epoch - 1 + (number + 1) / len(batches))
            items = self.source.read(at.source_rows, at.source_views, epoch)
            labels = self.source.labels[at.rows]
            taught: Outputs | None = None
            with autocast(self.spec, self.device):
                outputs = self.network(self.source.transform(items), maps=reads.maps)
                if self.teacher is not None:
                    taught = self.teacher.outputs(items, at.teacher_rows, at.teacher_views, epoch, maps=reads.maps)
                total, terms = self.objective(Batch(outputs, taught, labels, at.rows), progress)
            self.stepper.step(total)
            self.average.update()
            self._add(sums, outputs, labels, total, terms, progress)
        self._end_epoch(epoch, {name: float(value) / len(batches) for name, value in sums.items()})

    def _begin_epoch(self, epoch: int) -> None:
        """What is drawn, measured and set before an epoch."""
        self.objective.begin_epoch(functools.partial(generator, self.spec.seed, epoch))
        if self.objective.reads.epoch_centers:
            self.network.eval()
            with torch.no_grad():
                blocks = self.source.train_blocks()
                own = ((self.network(self.source.transform(items)).embedding, labels) for _, items, labels in blocks)
                found = class_sums(own, len(self.source.classes), self.network.embedding_width, self.device)
            self.objective.set_epoch_centers(*found)
        self.objective.train()
        self.part.train()

    def _end_epoch(self, epoch: int, row: dict[str, float]) -> None:
        """Check, validate, select, remember."""
        if not all(math.isfinite(value) for value in row.values()):
            bad = next(name for name, value in row.items() if not math.isfinite(value))
            raise NonFiniteError(
                f"{bad} became {row[bad]} in epoch {epoch}. Lower learning_rate (it is {self.spec.learning_rate:g}) or "
                "the loss weights, or add warmup_epochs or clip_norm."
            )
        row["learning_rate"] = self.stepper.rate
        self.epoch = epoch
        row |= self.validate()
        value = validation_value(row)
        if self.spec.select == "best" and value is not None and (self.best is None or value > self.best[0]):
            weights = {name: tensor.detach().clone() for name, tensor in self.average.weights().items()}
            self.best = (value, epoch, weights)
        self.history.append({"epoch": epoch} | row)

    def _batches(self, epoch: int) -> list[Positions]:
        """The epoch's batches, where they are read: one copy of all rows now, because each copy inside the epoch would
        wait for the device."""
        spec = self.spec
        rows = batches_of(spec, self.labels, epoch)
        draws = generator(spec.seed, epoch, "augment")
        views = [draw_views(len(batch), spec.augment, pad=spec.pad, generator=draws) for batch in rows]
        sizes = [len(batch) for batch in rows]

        def at(place: torch.device, parts: list[Tensor]) -> Sequence[Tensor]:
            return parts if place.type == "cpu" else torch.cat(parts).to(place).split(sizes)

        here = self.source.place
        there = (self.teacher.place if self.teacher is not None else None) or self.device
        places = at(here, rows), at(here, views), at(self.device, rows), at(there, rows), at(there, views)
        return [Positions(*parts) for parts in zip(*places, strict=True)]

    def _add(
        self,
        sums: dict[str, Tensor],
        outputs: Outputs,
        labels: Tensor,
        total: Tensor,
        terms: Mapping[str, Tensor],
        progress: float,
    ) -> None:
        """Add a batch to the epoch's sums, on the device."""
        with torch.no_grad():
            reads, plain, weights = self.objective.reads, self.objective.plain, self.objective.weights(progress)
            seen = {"train/loss": total} | {f"train/{name}": terms[name] for name in plain}
            if reads.labels and reads.logits:
                seen["train/top1"] = metrics.correct(outputs.logits, labels).double().mean()
            seen["train/spread"] = metrics.spread(outputs.embedding)
            for name, value in terms.items():
                if name not in plain:
                    seen[f"train/{name}"] = value
                    seen[f"train/{name}_weighted"] = value * weights[name]
            for name, value in seen.items():
                value = value.detach().double()
                sums[name] = sums[name] + value if name in sums else value

    def validate(self) -> dict[str, float]:
        """The score on the validation split, of the weights that count."""
        if len(self.source.validation_labels) == 0:
            return {}
        own = None
        if self.average.kept is not None:
            own = copied(self.network)
            self.network.load_state_dict(self.average.kept)
        found = self.validation(predict(self.network, self.source))
        if own is not None:
            self.network.load_state_dict(own)
        return found

    def finish(self) -> dict[str, Tensor]:
        """The selected weights, on the CPU.

        Raises:
            NonFiniteError: If one of them is not finite.
        """
        chosen = self.best[2] if self.best is not None else self.average.weights()
        weights = {name: value.detach().cpu().contiguous() for name, value in chosen.items()}
        for name, value in weights.items():
            if value.is_floating_point() and not metrics.finite(value):
                raise NonFiniteError(f"The weight {name} is not finite after training. Lower learning_rate.")
        return weights


def fit(trainer: Trainer, context: Context) -> Generator[Progress, None, Result]:
    """Train to the end, from the newest checkpoint if that can be continued; what every stage that trains ends with.

    Yields:
        One `Progress` per epoch, after its checkpoint.

    Raises:
        NonFiniteError: If a loss or weight stops being finite.
        DrainedError, LeaseLostError: If the stage must leave.
    """
    spec = trainer.spec
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
    return Result(
        metrics=measured(trainer),
        history=trainer.history,
        write=lambda folder: save_file(weights, folder / "weights.safetensors"),
        more={
            "train_images": len(trainer.source.labels),
            "memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        },
    )


def measured(trainer: Trainer) -> dict[str, Any]:
    """What a finished training says of itself; scores are those of the selected epoch."""
    row = trainer.history[trainer.best[1] - 1] if trainer.best is not None else trainer.history[-1]
    found: dict[str, Any] = {"train_top1": row["train/top1"]} if "train/top1" in row else {}
    found |= {
        "embedding_spread": row["train/spread"],
        "epoch": int(row["epoch"]),
        "parameters_count": sum(p.numel() for p in trainer.network.parameters()),
        "macs": trainer.macs,
    }
    value = validation_value(row)
    if value is not None:
        found["validation_score"] = value
        found["validation_images"] = len(trainer.source.validation_labels)
        found["best_validation_score"] = max(
            v for other in trainer.history if (v := validation_value(other)) is not None
        )
    if "validation/top1" in row:
        found["validation_top1"] = row["validation/top1"]
    return found
