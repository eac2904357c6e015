"""What a training can be told, with or without a frozen teacher; the kinds of stages that train are made of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from trainables.errors import UsageError
from trainables.spec import registry
from trainables.spec.components import Versions, version_of
from trainables.spec.fields import Fields
from trainables.spec.losses import HorkdSpec, TripletSpec
from trainables.spec.methods import LossOptions, canonical_method, methods_of, parts_of, reads, weights_of
from trainables.spec.networks import ARCHITECTURES, OUTSIDE, STEMS
from trainables.spec.registry import Entry
from trainables.spec.stages import StageSpec
from trainables.spec.values import bounded, choice, later

FILTERS = ("bicubic", "area", "bilinear")
AUGMENTATIONS = ("none", "flip", "crop", "crop_flip")


TASKS = ("classification", "verification", "identification", "retrieval")


TEACHER_OUTPUTS = ("live", "cached", "cached_epochs")
MOST_VIEWS = 1000  # An augmentation with more views counts as unbounded: nobody could keep its outputs.


def check_groups(spec: Any) -> None:
    """Refuse groups of images of one class that are no groups, or of which no two fit into a batch."""
    wanted = spec.images_per_class
    if wanted and not 2 <= wanted <= spec.batch_size // 2:
        raise UsageError(
            f"images_per_class must be 0 (off) or from 2 to half of batch_size, which is {spec.batch_size}, got {wanted}."
        )


@dataclass(frozen=True, kw_only=True)
class TrainingSpec(StageSpec):
    """A stage that trains a network: data, network, optimiser and schedule."""

    seed: int = bounded(0, 0, 2**31 - 2)  # Initialisation, order of the data, augmentation.
    # Data. The split is the same for every seed; `train_images` are drawn from what validation leaves.
    validation_fraction: float = bounded(0.1, 0.0, 0.9)
    split_seed: int = bounded(0, 0, 2**31 - 2)
    train_images: int = bounded(0, 0)  # 0 means all.
    augment: str = choice("none", AUGMENTATIONS)
    pad: int = bounded(4, 0, 64)  # Pixels the crop may shift.
    resolution: int | None = bounded(None, 4, 1024)  # Side in pixels of what the network reads; None: the data's own.
    filter: str = choice("bicubic", FILTERS)  # How resolution is lost.
    blur: float = bounded(0.0, 0.0, 16.0)  # Sigma in pixels of the high-resolution image, before decimation.
    # Network.
    architecture: str = choice("resnet18", ARCHITECTURES, prefixes=OUTSIDE, registered="network")
    width: float = bounded(1.0, 0.01, 16.0)  # Multiplies every channel count.
    embedding: int = bounded(0, 0, 8192)  # Width of the embedding layer; 0 means the pooled features.
    # Optimisation.
    epochs: int = bounded(100, 1, 100_000)
    batch_size: int = bounded(64, 1, 65_536)
    optimizer: str = choice("sgd", ("sgd", "adamw"))
    learning_rate: float = bounded(0.05, 0.0)
    momentum: float = bounded(0.9, 0.0, 1.0)  # First beta for AdamW.
    nesterov: bool = False
    weight_decay: float = bounded(5e-4, 0.0)
    schedule: str = choice("cosine", ("cosine", "steps", "constant"))
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)  # Shares of training: 150, 180, 210 of 240 epochs.
    decay: float = bounded(0.1, 0.0, 1.0)  # What a step multiplies the rate with.
    warmup_epochs: float = bounded(0.0, 0.0)
    label_smoothing: float = bounded(0.0, 0.0, 0.999)
    ema: float = bounded(0.0, 0.0, 0.99999)  # Decay per step of the averaged weights; 0 means none.
    clip_norm: float = bounded(0.0, 0.0)  # Largest norm of the gradient; 0 means unlimited.
    select: str = choice("last", ("last", "best"))  # Which epoch is kept: the last, or the best on validation.
    # What the network is for. Tasks other than classification train on other classes than they test.
    task: str = later("classification", options=TASKS)
    held_out: float = later(0.5, low=0.0, high=0.95)  # Share of the classes that is tested, where the data names none.
    folds: tuple[int, ...] = later(())  # Verification: tested folds, whose people are not trained on; () means all.
    min_images: int = later(0, low=0)  # Classes with fewer images are not trained on.
    subjects: int = later(0, low=0)  # Identification: number of people tested; 0 means all that are held out.
    stem: str = later(
        "small", options=STEMS
    )  # 3x3 of stride 1, or 7x7 of stride 2 and pooling, for 96 pixels and more.
    upsample_to: int | None = later(None, low=4, high=1024)  # Enlarge to this side after the loss of resolution.
    triplet: TripletSpec = later(TripletSpec())
    start_weights: str = later("")  # Weights from a file that training begins with; the command line takes the path.
    # Batches of groups of at least so many images of one class, as metric learning wants them; 0: drawn from all alike.
    images_per_class: int = later(0, low=0)

    def validate(self) -> None:
        """Refuses groups of which no two fit into a batch."""
        super().validate()
        check_groups(self)

    def unused(self) -> tuple[str, ...]:
        """Splits of other tasks, and a triplet loss without weight."""
        names = [] if self.triplet.weight > 0 else ["triplet"]
        if self.task == "classification":
            names += ["held_out", "folds", "min_images", "subjects"]
        if self.task != "verification":
            names += ["folds"]
        if self.task != "identification":
            names += ["subjects"]
        return tuple(names)

    def components(self) -> Versions:
        """The loop, the data path, the label losses, the network, and the protocol that splits the classes."""
        names = ["loop", "batches", "degrade", "augment", "loss.cross_entropy", f"network.{self.architecture}"]
        if self.task != "classification":
            names.append(f"protocol.{self.task}")
        if self.triplet.weight > 0:
            names.append("loss.triplet")
        if self.start_weights:
            names.append("pretrained")
        if self.images_per_class:
            names.append("batches.balanced")
        return {name: version_of(name) for name in sorted(names)}


OF_TRAINING = (
    *("epochs", "batch_size", "optimizer", "learning_rate", "momentum", "nesterov", "weight_decay", "schedule"),
    *("milestones", "decay", "warmup_epochs", "label_smoothing", "ema", "clip_norm", "select", "augment", "pad"),
    *("triplet", "precision", "start_weights", "images_per_class"),
)


Spec = TypeVar("Spec", bound=type)


def _with_losses(cls: Spec) -> Spec:
    """Give a class a field for the options of every built-in loss that it does not name, before `plugin`."""
    names = [entry.name for entry in registry.entries("loss") if entry.origin is None]
    plugin = cls.__annotations__.pop("plugin")
    for name in names:
        if name not in cls.__annotations__:
            options = registry.get("loss", name).options
            cls.__annotations__[name] = options
            setattr(cls, name, later(options()))
    cls.__annotations__["plugin"] = plugin
    cls.loss_fields = tuple(names)  # type: ignore[attr-defined]
    return cls


@dataclass(frozen=True, kw_only=True)
@_with_losses
class DistillationSpec(TrainingSpec):
    """A network trained on labels and on the knowledge of a frozen guide; `method` says which losses join.

    With the default method it is HORKD's Eq. 8 plus cross-entropy. Every loss of the registry has a field of its name.
    """

    loss_fields: ClassVar[tuple[str, ...]]  # The built-in ones.
    cross_entropy: float = bounded(1.0, 0.0)  # Weight of the label term; the paper adds it as it is.
    horkd: HorkdSpec = HorkdSpec()  # Named here, because it stands in every key also where it has its defaults.
    # Whether the guide runs beside the student (live), or its outputs are computed once and kept: for every view of the
    # augmentation (cached), or for those that a seed draws in each epoch (cached_epochs).
    teacher_outputs: str = choice("live", TEACHER_OUTPUTS)
    outputs_per_shard: int = later(9, low=1)  # Views, or epochs, that one stage computes; changes no number.
    method: str = later("horkd")  # Names of losses joined by +; none = labels only.
    distillation: float = later(1.0, low=0.0)  # Multiplies every distillation term: one knob for all methods.
    plugin: LossOptions = later(LossOptions())  # Of losses that plug-ins bring; set as `<loss>.<option>`.

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", canonical_method(self.method))
        super().__post_init__()

    def validate(self) -> None:
        """Forgets options of plug-ins whose losses are off: who reads the spec later need not have these plug-ins."""
        super().validate()
        if self.plugin.values:
            object.__setattr__(self, "plugin", self.plugin.only(methods_of(self.method)))

    def options_of(self, loss: str) -> Any:
        """What is set of a loss, built in or of a plug-in: its group of fields."""
        return self.__dict__[loss] if loss in self.loss_fields else self.plugin.of(loss)

    def losses_on(self) -> tuple[tuple[Entry, Fields], ...]:
        """The losses of `method` with what is set of them."""
        return tuple((registry.get("loss", name), self.options_of(name)) for name in methods_of(self.method))

    def losses_that_read(self, what: str) -> tuple[Entry, ...]:
        """The losses with a weight that read what is one of `losses.READS`."""
        return tuple(entry for entry, options in self.losses_on() if entry.facts[what] and weights_of(entry, options))

    @property
    def distils(self) -> bool:
        """Whether any loss reads the guide."""
        return any(parts_of(entry, options) for entry, options in self.losses_on())

    @property
    def keeps_outputs(self) -> bool:
        """Whether it reads kept outputs of its guide, which have no feature maps."""
        on = methods_of(self.method)
        return self.teacher_outputs != "live" and self.distils and not any(reads(method, "maps") for method in on)

    def unused(self) -> tuple[str, ...]:
        """Groups of the losses that are off, and how outputs are cut into stages."""
        on = methods_of(self.method)
        names = [loss for loss in self.loss_fields if loss not in on]
        names += ["outputs_per_shard"]
        if not on:
            names += ["teacher_outputs"]
        if not self.distils:
            names += ["distillation"]
        return (*super().unused(), *names)

    def components(self) -> Versions:
        """Those of training, the guide if it is read, and those of each loss switched on."""
        names = [part for entry, options in self.losses_on() for part in parts_of(entry, options)]
        names += ["guide"] if names else []
        return dict(sorted((super().components() | {name: version_of(name) for name in names}).items()))
